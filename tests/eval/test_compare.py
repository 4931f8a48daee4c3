"""eval.stats.compare: from tables of entries to what a reader is told of their differences."""

from collections import Counter

import numpy as np
import pandas as pd
import pytest
from rich.console import Console
from scipy.stats import binomtest

from dctkd_zoo.errors import ZooError
from eval import columns
from eval.stats import compare, paired
from eval.stats.compare import NO_DIFFERENCE, Comparison
from eval.stats.paired import Difference

IMAGES, CLASSES = 400, 4


def table(accuracy: float, seed: int, taught: bool = True, ssim: float = 0.5) -> pd.DataFrame:
    """The per-image table of a network that is right on so many images; its teacher always on nine of ten."""
    images, own = np.random.default_rng(99), np.random.default_rng(seed)
    labels, luck = images.integers(CLASSES, size=IMAGES), images.random(IMAGES)
    right = luck + own.normal(scale=0.1, size=IMAGES) < accuracy
    result = pd.DataFrame({"id": [f"{index:04}" for index in range(IMAGES)], "label": labels})
    result["prediction"] = np.where(right, labels, (labels + 1) % CLASSES)
    result["confidence"] = own.uniform(0.4, 1, IMAGES)
    if taught:
        result["teacher_prediction"] = np.where(np.arange(IMAGES) % 10, labels, (labels + 1) % CLASSES)
    result["top1"] = result["top5"] = 100.0 * right
    result["nll"] = own.exponential(size=IMAGES)
    if taught:
        result["agreement"] = 100.0 * (result["prediction"] == result["teacher_prediction"])
        result["ssim.1"], result["ssim.2"] = (own.normal(ssim, 0.1, IMAGES) for _ in range(2))
    return result


def compared(tables: dict[str, pd.DataFrame], teacher: str = "r56", seed: int = 0) -> tuple[Comparison, ...]:
    return compare.compare(tables, dict.fromkeys(tables, teacher), seed)


def by_figure(comparison: Comparison) -> dict[str, Difference]:
    return {item.figure: item for item in comparison.differences}


def shown(comparisons: tuple[Comparison, ...]) -> list[str]:
    console = Console(width=100)
    with console.capture() as capture:
        console.print(compare.render(comparisons))
    return [line.rstrip() for line in capture.get().splitlines()]


def test_a_better_network_is_shown_to_be_better():
    a, b = table(0.5, 0), table(0.7, 1, ssim=0.8)
    (result,) = compared({"r8": a, "r20": b})
    lines = by_figure(result)
    assert list(lines) == ["top1", "mca", "nll", "ece", "agreement", "agreement_wrong", "ssim"]
    assert (result.a, result.b, result.images) == ("r8", "r20", IMAGES)
    assert (result.teacher_a, result.teacher_b) == ("r56", "r56")
    top1 = lines["top1"]
    assert (top1.a, top1.b) == (a["top1"].mean(), b["top1"].mean())
    right_a, right_b = a["top1"] > 0, b["top1"] > 0
    assert top1.p == binomtest(int((right_a & ~right_b).sum()), int((right_a != right_b).sum())).pvalue
    assert top1.low < top1.difference < top1.high
    assert [name for name, item in lines.items() if not item.significant] == ["nll"]


def test_a_network_does_not_differ_from_itself():
    both = table(0.6, 0)
    (result,) = compared({"r8": both, "r20": both.sample(frac=1, random_state=0)})
    apart = 100 * 3.841459 / (IMAGES + 3.841459)  # of 400 images that two get alike, the most by which they may differ
    for item in result.differences:
        assert (item.difference, item.p, item.significant) == (0, 1, False)
        known = {"top1": apart, "agreement": apart, "mca": item.high, "agreement_wrong": item.high}
        expected = known.get(item.figure, 0)
        assert (item.low, item.high) == pytest.approx((-expected, expected), abs=1e-4)
    assert by_figure(result)["mca"].high == pytest.approx(apart, rel=0.1)
    mistakes = IMAGES / 10  # of the teacher
    assert by_figure(result)["agreement_wrong"].high == pytest.approx(100 * 3.841459 / (mistakes + 3.841459), abs=1e-4)


def test_two_that_are_always_right_may_still_differ():
    both = table(2.0, 0)
    (result,) = compared({"r8": both, "r20": both.copy()})
    assert (by_figure(result)["top1"].a, by_figure(result)["top1"].b) == (100, 100)
    assert all(by_figure(result)[name].high > 0.9 for name in ("top1", "mca", "agreement"))


def test_the_seed_decides_the_intervals():
    tables = {"r8": table(0.5, 0), "r20": table(0.52, 1)}
    first, again, other = (compared(tables, seed=seed) for seed in (0, 0, 1))
    assert first == again and first != other
    assert first[0].differences[0].difference == other[0].differences[0].difference


FAMILIES = {"mca": "accuracy", "nll": "accuracy", "ece": "accuracy", "top1": "top-1"}


def test_holm_is_within_each_family():
    """A worked example: the p of top-1 stays as it is, those of the others grow with their own family alone."""
    tables = {"r8": table(0.5, 0), "r20": table(0.53, 1, ssim=0.53)}
    (result,) = compared(tables)
    lines = by_figure(result)
    assert {name: item.family for name, item in lines.items()} == {**dict.fromkeys(lines, "alignment"), **FAMILIES}
    assert lines["top1"].holm == lines["top1"].p < 0.05 and lines["top1"].significant
    for family in ("accuracy", "alignment"):
        members = [item for item in lines.values() if item.family == family and not np.isnan(item.p)]
        assert [item.holm for item in members] == pytest.approx(paired.holm([item.p for item in members]))
        assert any(item.holm > item.p for item in members)
    # Over all of them together nothing would be left of top-1, as there are so many others.
    every = [lines["top1"].p, *np.linspace(0.3, 1, 14)]
    assert paired.holm(every)[0] == pytest.approx(15 * lines["top1"].p)


def test_the_correction_is_over_all_that_is_compared():
    tables = {"r8": table(0.5, 0), **{f"r{n}": table(0.55, n) for n in range(20, 25)}}
    alone = compared({name: tables[name] for name in ("r8", "r20")})
    among = compared(tables)
    assert [c.b for c in among] == list(tables)[1:]
    a, b = (by_figure(result[0])["top1"] for result in (alone, among))
    assert (a.p, a.difference) == (b.p, b.difference) and a.holm < b.holm
    assert alone[0].resamples == among[0].resamples == 2000


def test_there_are_as_many_resamples_as_the_largest_family_needs():
    """So that the smallest p that they can give is able to pass."""
    tables = {"r8": table(0.5, 0), **{f"r{n}": table(0.55, n) for n in range(20, 30)}}
    result = compared(tables)
    tests = Counter(item.family for c in result for item in c.differences)
    assert tests == {"top-1": 10, "accuracy": 30, "alignment": 30}
    assert result[0].resamples == 80 * 30 and 2 / (result[0].resamples + 1) * 30 < 0.05


def test_what_only_one_has_is_not_compared_and_that_is_told():
    (result,) = compared({"r8": table(0.5, 0), "r56": table(0.9, 1, taught=False)})
    assert list(by_figure(result)) == ["top1", "mca", "nll", "ece"]
    assert (result.teacher_a, result.teacher_b) == ("r56", None)
    assert result.note == (
        "B has no teacher, so agreement and alignment are not compared: --teacher T compares all entries with the same "
        "network."
    )
    (neither,) = compared({"r8": table(0.5, 0, taught=False), "r56": table(0.9, 1, taught=False)})
    assert neither.note.startswith("A and B have no teacher") and "Agreement and" not in " ".join(shown((neither,)))
    other = table(0.5, 2).assign(teacher_prediction=0)  # other weights of a teacher of the same name
    both = {"r8": table(0.5, 0), "r20": table(0.5, 1)}
    for differing in (compared({**both, "r20": other}), compare.compare(both, {"r8": "r56", "r20": "r152"})):
        assert "different teachers" in differing[0].note and "--teacher T" in differing[0].note
    assert not compared(both)[0].note


def test_tables_of_other_images_are_refused_by_name():
    with pytest.raises(ZooError, match="r8 and r20 were not measured on the same images"):
        compared({"r8": table(0.5, 0), "r20": table(0.5, 1)[:-1]})


def test_the_table_fits_100_columns_and_says_where_no_difference_is_shown():
    long = "r152_dctkd_kd_synthscenes.signed, seed 12"
    tables = {"r20_synthscenes": table(0.5, 0), long: table(0.5, 1, ssim=0.8), "r8_synthscenes": table(0.7, 2)}
    result = compared(tables)
    lines = shown(result)
    assert max(map(len, lines)) <= 100 and not any("…" in line for line in lines)
    assert f"A r20_synthscenes, B {long}: 400 test images" in lines
    titles = tuple(columns.get(name).titled for name in by_figure(result[0]))
    meta = [line for line in lines if line.startswith(titles)]
    differences = [item for comparison in result for item in comparison.differences]
    for line, item in zip(meta, differences, strict=True):
        assert line.startswith(columns.get(item.figure).titled)
        assert line.endswith(("higher", "lower") if item.significant else NO_DIFFERENCE)
        assert f" {item.b:.1f}"[:-1] in line and columns.minus(f"{item.low:+.1f}"[:-1]) in line
    assert sum("≤" in line for line in meta) == sum(item.p == 2 / 2001 for item in differences) > 0
    assert any(item.significant for item in differences) and not all(item.significant for item in differences)
    text = " ".join(lines)
    assert "McNemar" in text and "Holm" in text and "excludes 0 and p is below 0.05" in text
    assert (
        "within each family of tests: top-1 (2 tests); accuracy (MCA, NLL, ECE; 6 tests); alignment (agreement, "
        "shared mistakes, SSIM; 6 tests)." in text
    )
    assert "Agreement and alignment are with r56." in text and "Lower is better: NLL, ECE. " in text


def test_what_is_no_number_is_a_dash():
    a = table(0.5, 0).assign(**{"ssim.1": np.nan})
    (result,) = compared({"r8": a, "r20": table(0.6, 1)})
    item = by_figure(result)["ssim"]
    assert compare.cells(item, 2000)[1:] == ("–", f"{item.b:.3f}", "–", "–", "–", NO_DIFFERENCE)
