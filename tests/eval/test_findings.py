"""eval.pages.findings and eval.pages.results_md: what a few rows answer, against scipy."""

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from dctkd_zoo import registry
from dctkd_zoo.catalog.scene15 import DATASET
from dctkd_zoo.errors import ZooError
from eval.pages import results_md
from eval.pages.findings import CHANCE, OTHERS, QUESTIONS, STUDENTS, Question, Students, answer, methods, parts
from eval.run import results_csv
from eval.stats import seeds

R20 = Students("r20", "synthscenes")
R18 = Students("r18", "scene15")
TOP1 = Question("?", ("top1",), (("", "dctkd"), ("kd", "dctkd")))


def row(method: str, seed: int, top1: float, **more: object) -> dict[str, str]:
    known = {"name": R20.entry(method), "dataset": "synthscenes", "protocol": "exact", "seed": seed, "n": 1200}
    return results_csv.as_text({**known, "top1": top1, "device": "cpu", "teacher": None, **more})


def page(rows: list[dict[str, str]]) -> str:
    """RESULTS.md of some rows, with spaces where it does not break a line."""
    return results_md.page(rows).replace("\N{NO-BREAK SPACE}", " ")


def rows_of(values: dict[str, list[float]]) -> list[dict[str, str]]:
    return [row(method, seed, top1) for method, tops in values.items() for seed, top1 in enumerate(tops)]


@given(st.lists(st.floats(-100, 100), min_size=2, max_size=9).filter(lambda values: max(values) - min(values) > 1e-6))
def test_student_s_t_is_scipy_s(values):
    result = seeds.student(values)
    expected = stats.ttest_1samp(values, 0)
    low, high = expected.confidence_interval(0.95)
    assert (result.mean, result.p) == pytest.approx((sum(values) / len(values), expected.pvalue), rel=1e-6, abs=1e-9)
    assert (result.low, result.high) == pytest.approx((low, high), rel=1e-6, abs=1e-6)
    assert result.n == len(values)


@pytest.mark.parametrize("values", [[3.0], [3.0, 3.0, 3.0]])
def test_nothing_is_tested_where_no_spread_is_known(values):
    result = seeds.student(values)
    assert result.mean == 3.0 and all(map(math.isnan, (result.low, result.high, result.p)))


def test_differences_are_paired_by_seed_and_corrected_together():
    values = {"": [60.0, 61.0, 63.0, 59.0], "dctkd": [70.0, 72.0, 73.0, 68.5, 99.0], "kd": [69.0, 73.0, 71.0, 70.0]}
    first, second = answer(TOP1, rows_of(values))
    pairs = [stats.ttest_rel(values["dctkd"][:4], values[name]) for name in ("", "kd")]
    assert first.test.p == pytest.approx(pairs[0].pvalue) and second.test.p == pytest.approx(pairs[1].pvalue)
    assert first.p == pytest.approx(2 * pairs[0].pvalue) and second.p == pytest.approx(pairs[1].pvalue)
    assert (first.mean_a, first.mean_b) == pytest.approx((60.75, 70.875)), "of the seeds that both have"
    assert first.significant and not second.significant
    assert first.test.n == 4


def test_what_is_compared_with_chance_is_compared_with_zero():
    rows = [row("dctkd", seed, 50.0, **{"skill.ssim": skill}) for seed, skill in enumerate((0.4, 0.5, 0.3))]
    (result,) = answer(Question("?", ("skill.ssim",), ((CHANCE, "dctkd"), ("", "dctkd"))), rows)
    assert result.mean_a == 0 and result.test.p == pytest.approx(stats.ttest_1samp([0.4, 0.5, 0.3], 0).pvalue)


def test_other_protocols_and_parts_of_the_test_set_do_not_count():
    rows = rows_of({"": [60.0, 61.0], "dctkd": [70.0, 72.0]})
    noise = [row("dctkd", 0, 1.0, protocol="released"), row("", 1, 1.0, limit=9), row("dctkd", 3, 5.0, teacher_cache=9)]
    assert answer(TOP1, rows + noise) == answer(TOP1, rows)


def test_rows_of_teachers_with_other_weights_are_not_compared():
    rows = [row("", 0, 60.0, teacher="r56_synthscenes", teacher_sha256="a"), row("", 1, 61.0, teacher=None)]
    other = row("dctkd", 1, 70.0, teacher="r56_synthscenes", teacher_sha256="b")
    with pytest.raises(ZooError, match="r20_dctkd_synthscenes, seed 1: its r56_synthscenes has other weights than in"):
        answer(TOP1, [*rows, other])
    assert answer(TOP1, [*rows, {**other, "teacher_sha256": "a"}])


def cached(views: int, values: dict[str, list[float]]) -> list[dict[str, str]]:
    """Rows trained on so many fixed views; 0: on new ones."""
    return [
        row(method, seed, top1, teacher_cache=views or None)
        for method, tops in values.items()
        for seed, top1 in enumerate(tops)
    ]


def test_only_what_saw_as_many_views_is_compared():
    """Nine more or fewer points for other views must not turn an answer round."""
    eight = cached(8, {"kd": [64.0, 65.0, 66.0], "dctkd_kd": [65.0, 66.5, 67.0]})
    live = cached(0, {"dctkd_kd": [56.0, 57.0, 58.0], "": [50.0, 51.0, 52.0]})
    for rows in (eight + live, live + eight):
        (result,) = answer(Question("?", ("top1",), (("kd", "dctkd_kd"),)), rows)
        assert (result.mean_a, result.mean_b) == pytest.approx((65.0, 198.5 / 3))
    (result,) = answer(Question("?", ("top1",), (("", "kd"),)), eight + live)
    assert (result.mean_a, result.mean_b) == (51.0, 65.0), "the baseline goes with any"
    assert answer(Question("?", ("top1",), (("at", "dctkd_kd"),)), eight + cached(0, {"at": [1.0, 2.0]})) == []
    rows = cached(24, {"dctkd.long": [70.0, 71.0], "at.long": [60.0, 62.0]}) + cached(0, {".long": [55.0, 57.0]})
    pairs = (("", "dctkd.long"), (".long", "dctkd.long"), (".long", "kd"), ("at.long", "dctkd.long"), ("kd", "at.long"))
    several = answer(Question("?", ("top1",), pairs), eight + live + rows)
    assert [item.mean_a for item in several] == [50.5, 56.0, 56.0, 61.0], "however long; others only of as many"


def test_of_several_numbers_of_views_that_have_as_many_seeds_the_most_views_are_shown():
    eight, two, new = (cached(views, {"dctkd": [top1, top1 + 2]}) for views, top1 in ((8, 70.0), (2, 60.0), (0, 50.0)))
    base = cached(0, {"": [40.0, 41.0]})
    for rows in ([*eight, *two, *new], [*new, *two, *eight], [*two, *eight, *new]):
        (result,) = answer(Question("?", ("top1",), (("", "dctkd"),)), base + rows)
        assert result.mean_b == 71.0
        assert seeds.views(seeds.most_trained(rows)) == "8"
    (result,) = answer(Question("?", ("top1",), (("", "dctkd"),)), [*base, *eight[:1], *two[:1], *new])
    assert result.mean_b == 51.0, "more seeds before more views"


def test_numbers_of_views_are_compared_where_they_are_named():
    rows = cached(8, {"dctkd_kd": [70.0, 71.0]}) + cached(0, {"dctkd_kd": [50.0, 53.0]})
    rows += cached(1, {"dctkd_kd": [40.0, 40.0]})
    pairs = (("dctkd_kd@", "dctkd_kd@8"), ("dctkd_kd@", "dctkd_kd@1"), ("dctkd_kd@", "dctkd_kd@2"))
    result = answer(Question("?", ("top1",), pairs), rows)
    assert [(item.mean_a, item.mean_b) for item in result] == [(51.5, 70.5), (51.5, 40.0)]
    lines = page(rows).splitlines()
    shown = [line.strip("| ").split(" | ")[1:4] for line in lines if line.startswith("| `dctkd_kd`")]
    assert shown == [["8", "2", "70.50 ± 0.71"], ["new", "2", "51.50 ± 2.12"], ["1", "2", "40.00 ± 0.00"]]
    text = page(cached(0, {"dctkd_kd": [50.0, 53.0]}) + cached(1, {"dctkd_kd": [40.0, 41.0]}))
    assert "| top-1 | `dctkd_kd` (1 cached view) − `dctkd_kd` (new views) | −11.00 (−23.71 to +1.71), n 2, " in text


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("", ("", "", None)),
        (".long", ("", ".long", None)),
        ("dctkd_kd@", ("dctkd_kd", "", "")),
        ("dctkd.abs@8", ("dctkd", ".abs", "8")),
    ],
)
def test_parts_of_a_method(method, expected):
    assert parts(method) == expected


def test_a_row_of_no_known_seed_is_in_no_comparison():
    rows = [*rows_of({"": [60.0, 61.0], "dctkd": [70.0, 72.0]}), {**row("dctkd", 9, 99.0), "seed": ""}]
    first, *_ = answer(TOP1, rows)
    assert (first.mean_b, first.test.n) == (71.0, 2)
    assert page(rows)


def test_seeds_that_agree_to_the_last_digit_show_no_certainty():
    one = rows_of({"": [60.0, 60.0833, 60.1667], "dctkd": [70.0, 70.0833, 70.1666]})
    (result,) = answer(Question("?", ("top1",), (("", "dctkd"),)), one)
    assert math.isnan(result.test.p) and not result.significant
    assert "| top-1 | `dctkd` − the baseline | +10.00, n 3 |" in page(one)


def test_significant_is_what_holm_leaves_below_a_twentieth():
    """Three comparisons, each of a p alone of 0.02 to 0.05: none is significant, and none is in bold."""
    base = [60.0, 61.0, 62.0, 60.5]
    above = [0.4, 1.8, 1.0, 0.9]
    rows = rows_of({"": base, "kd": base, "at": base, "dctkd": [b + a for b, a in zip(base, above, strict=True)]})
    result = answer(QUESTIONS[0], rows)
    assert len(result) == 3 and all(
        0.02 < item.test.p < 0.05 < item.p < 0.5 and not item.significant for item in result
    )
    assert all(item.test.low > 0 for item in result)
    assert all(item.only_uncorrected for item in result)
    text = page(rows)
    meta = text[text.index("**1. ") : text.index("**2. ")]
    assert "None of 3 differences is significant; 3 more only without correction (†)." in meta
    assert meta.count(f"† (+0.10 to +1.95), n 4, p {result[0].p:.3f} |") == 3 and "**+" not in meta
    assert answer(Question("?", ("top1",), (("", "dctkd"),)), rows)[0].significant, "alone it would be"


def test_methods_are_told_apart_by_the_names_of_their_entries():
    names = [e.name for e in registry.entries().values() if e.dataset in ("synthscenes", DATASET.name)]
    rows = [{"name": name, "teacher_cache": ""} for name in names]
    result = {students: methods(students, rows) for students in STUDENTS}
    assert {students.entry(method) for students in STUDENTS for method in result[students]} == {
        name for name in names if name.startswith(("r20_", "r8_", "mbv2_", "r18_"))
    }
    for students in STUDENTS:
        for method, own in result[students].items():
            assert {item["name"] for item in own} == {students.entry(method)}


def test_every_method_that_is_asked_about_is_an_entry_of_some_students():
    asked = {method for question in QUESTIONS for pair in question.pairs for method in pair} - {CHANCE}
    for method in asked:
        assert any(students.entry(method) in registry.entries() for students in STUDENTS), method
    columns = results_csv.read(results_csv.RESULTS)[0].keys()
    assert {figure for question in QUESTIONS for figure in question.figures} <= columns


def test_what_is_said_in_short_is_what_was_found():
    """The sentences of RESULTS.md, "In short", and README.md, "What was found": where this fails, rewrite them."""
    rows = results_csv.read(results_csv.RESULTS)
    result = {(f.students, f.figure, f.a, f.b): f for question in QUESTIONS for f in answer(question, rows)}

    def signs(figure: str, a: str, b: str, dataset: str) -> list[int]:
        """Of each students of a dataset: 1 and -1 for a shown difference, 0 for none."""
        alike = [f for (s, *asked), f in result.items() if s.dataset == dataset and asked == [figure, a, b]]
        return [f.significant * (1 if f.test.mean > 0 else -1) for f in alike]

    drawn = "synthscenes"
    assert signs("top1", "", "dctkd", drawn) == [1, 1] and signs("top1", "kd", "dctkd", drawn) == [1]
    assert signs("top1", "at", "dctkd", drawn) == [0] and signs("top1", "at_kd", "dctkd_kd", drawn) == [-1]
    rivals = {item: signs("top1", item, "dctkd", drawn) for item in OTHERS}
    assert rivals == {"pkt": [1], "crd": [1], "vid": [1], "ckd": [0], "review": [-1]}
    likenesses = ("skill.ssim", "skill.pearson", "skill.spectral")
    for figure in likenesses:
        assert set(signs(figure, "", "dctkd", drawn)) == {1}
    assert sorted(sign for figure in likenesses for sign in signs(figure, "at", "dctkd", drawn)) == [0, 1, 1]
    for figure in ("skill.energy", "skill.pointing", "skill.attended"):
        assert 1 not in signs(figure, "", "dctkd", drawn) + signs(figure, "kd", "dctkd", drawn)
    for other in ("dctkd.abs", "dctkd.signed"):
        assert set(signs("top1", other, "dctkd", drawn)) == {0}
    assert -1 not in signs("top1", "dctkd", "dctkd.low4", drawn)
    assert set(signs("top1", "dctkd", ".long", drawn)) == {1}
    assert set(signs("top1", ".long", "dctkd.long", drawn)) == {0}
    later = {(s.dataset, a): f.test.mean for (s, figure, a, b), f in result.items() if (figure, b) == ("top1", "dctkd")}
    assert all(abs(later[drawn, item]) < 1.5 for item in ("cat", "sp", "fft", "wavelet"))
    assert abs(result[STUDENTS[0], "top1", "dctkd", "dctkd.energy"].test.mean) < 1
    variants = (("dctkd", "dctkd.class"), ("dctkd.energy", "dctkd.bands"))
    assert all(result[STUDENTS[0], "top1", *pair].test.mean < -10 for pair in variants)
    assert all(later[drawn, item] > 2 for item in ("dkd", "e2kd", "dist", "kd.std"))
    assert -1 < later["scene15", "dkd"] < 0 and -4 < later["scene15", "kd.std"] < -2.5
    assert all(-2.2 < later["scene15", item] < -1.5 for item in ("cat", "wavelet"))
    assert ("scene15", "sp") not in later  # no DCT loss on new views there
    assert all(0.5 < later["scene15", item] < 3.2 for item in ("fft", "dist", "e2kd"))
    (scenes,) = (item for item in STUDENTS if item.dataset == "scene15" and item.arch == "r18")
    assert 2 < result[scenes, "top1", "dctkd", "dctkd.energy"].test.mean < 3
    assert 2 < result[scenes, "top1", "dctkd.energy", "dctkd.bands"].test.mean < 3
    assert -2 < result[scenes, "top1", "dctkd", "dctkd.class"].test.mean < -1
    photographs = [f for f in result.values() if f.students.dataset in ("scene15", "miniplaces12k")]
    assert not any(f.significant or f.test.n > 1 for f in photographs)
    (cost,) = (question for question in QUESTIONS if "cached teacher" in question.title)
    assert not any(f.significant for f in answer(cost, rows))


class TestPage:
    def test_one_seed_is_not_tested(self):
        text = page(rows_of({"": [60.0], "dctkd": [70.25]}))
        assert (
            "| top-1 | `dctkd` − the baseline | +10.25, n 1 |" in text
            and "None of 1 difference is significant.\n" in text
        )
        assert "| r20, synthscenes | top-1 | the baseline | `dctkd` | 60.00 | 70.25 | +10.25 | – | 1 | – | – |" in text

    def test_a_variant_of_the_baseline_is_called_so(self):
        text = page(rows_of({"": [60.0], ".long": [70.25]}))
        assert "| top-1 | the baseline `.long` − the baseline | +10.25, n 1 |" in text

    def test_a_loss_is_told_as_plainly_as_a_gain(self):
        up = {"": [60.0, 61.0, 62.0], "dctkd": [70.0, 71.5, 72.0]}
        down = {"": up["dctkd"], "dctkd": up[""]}
        text = page(rows_of(up))
        assert "| `dctkd` − the baseline | **+10.17** (+9.45 to +10.88), n 3, p <0.001 |" in text
        assert "1 of 1 difference is significant.\n" in text
        text = page(rows_of(down))
        assert "| `dctkd` − the baseline | **−10.17** (−10.88 to −9.45), n 3, p <0.001 |" in text
        level = rows_of({"": [60.0, 61.0, 62.0], "dctkd": [61.0, 60.0, 62.0]})
        assert "| +0.00 (−2.48 to +2.48), n 3, p 1.000 |" in page(level)

    def test_every_figure_of_a_question_is_in_its_answer(self):
        """A difference of maps stands there where the accuracies show none."""
        skills = {"dctkd": (0.9, 0.91, 0.905), "dctkd.abs": (0.5, 0.52, 0.51)}
        rows = [
            row(method, seed, 50.0 + seed, **{"skill.ssim": skill})
            for method, result in skills.items()
            for seed, skill in enumerate(result)
        ]
        text = page(rows)
        assert "1 of 2 differences is significant." in text
        assert "| SSIM skill | `dctkd` − `dctkd.abs` | **+0.395** (+0.383 to +0.407), n 3, p <0.001 |" in text

    def test_students_that_were_not_compared_have_a_dash(self):
        other = [{**item, "name": R18.entry(""), "dataset": "scene15"} for item in rows_of({"": [50.0, 51.0]})]
        more = [{**item, "name": R18.entry("kd"), "dataset": "scene15"} for item in rows_of({"": [50.0, 51.0]})]
        done = [{**item, "name": R18.entry("dctkd")} for item in rows_of({"": [53.0, 55.0]})]
        rows = [*rows_of({"": [60.0, 61.0], "dctkd": [70.0, 72.0]}), *other, *more, *done]
        text = page(rows)
        assert "| metric | difference | r20, synthscenes | r18, scene15 |\n" in text
        assert re.search(r"\| top-1 \| `dctkd` − `kd` \| – \| \+3\.50", text)

    def test_a_figure_below_zero_is_no_markup(self):
        rows = [row("dctkd", seed, 50.0, **{"skill.ssim": skill}) for seed, skill in enumerate((-0.4, -0.5, -0.3))]
        text = page(rows)
        assert "`dctkd` − chance | **−0.400** (−0.648 to −0.152)" in text and "−0.400 ± 0.100" in text
        assert "\\-" not in text

    def test_what_was_not_measured_is_said(self):
        text = page([])
        assert text.count("Not measured yet.") == 2 * len(QUESTIONS)
        assert re.findall("^## [a-z].*", text, re.MULTILINE) == []

    def test_it_is_up_to_date(self):
        assert results_md.main(["--check"]) == 0

    def test_it_is_made_and_checked_by_one_command(self, tmp_path, monkeypatch, capsys):
        monkeypatch.setattr(results_md, "PAGE", tmp_path / "RESULTS.md")
        assert results_md.main(["--check"]) == 1 and not (tmp_path / "RESULTS.md").exists()
        assert results_md.main([]) == 0 and results_md.main(["--check"]) == 0
        assert "RESULTS.md as it should be" in capsys.readouterr().out
