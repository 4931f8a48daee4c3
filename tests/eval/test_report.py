"""The report: its plots, the rules that choose its images, and the page, on tables made here and in a browser."""

from __future__ import annotations

import base64
import html
import io
import itertools
import json
import math
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from types import SimpleNamespace
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from scipy import stats

from dctkd_zoo import registry, weights
from dctkd_zoo.attention_grid import GAP
from dctkd_zoo.data.split import Arrays, Split
from eval import __main__ as command
from eval.report import charts, collect, data, panels, render, svg
from eval.run import protocol, result_row
from eval.run import results_csv as results_file
from eval.run.attempt import Outcome, Status
from eval.run.config import EvalConfig
from eval.run.evaluation import Result
from eval.run.setup import reference
from eval.stats import compare, intervals, paired, per_class
from eval.stats import gap_closed as gaps

HERE = EvalConfig(None, torch.device("cpu"))
HOSTILE = ('<script>alert("x")</script>', "</script><b>", "a&b", "\"quoted' & <img src=x onerror=alert(1)>")
NAMES = ("r56_synthscenes", "r20_synthscenes", "r20_dctkd_synthscenes", "r20_kd_synthscenes")
IMAGES = 96
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


# --- tables and results made here


def table(seed: int, accuracy: float, taught: bool = True) -> pd.DataFrame:
    """Answers to images of four classes, with alignment at two levels where there is a teacher."""
    random = np.random.default_rng(seed)
    label = np.arange(IMAGES) % 4
    right = random.random(IMAGES) < accuracy
    confidence = random.uniform(0.4, 1, IMAGES)
    result = pd.DataFrame(
        {
            "id": [f"test/{path:03}" for path in range(IMAGES)],
            "label": label,
            "prediction": np.where(right, label, (label + 1) % 4),
            "confidence": confidence,
            "top1": 100.0 * right,
            "nll": -np.log(np.where(right, confidence, (1 - confidence) / 3)),
        }
    )
    if taught:
        result["teacher_prediction"] = np.where(np.arange(IMAGES) % 8, label, (label + 1) % 4)
        result["agreement"] = 100.0 * (result["prediction"] == result["teacher_prediction"])
        for name in ("ssim", "pearson", "iou"):
            for level in (1, 2):
                result[f"{name}.{level}"] = random.uniform(0.6, 0.9, IMAGES)
                result[f"chance.{name}.{level}"] = random.uniform(0.0, 0.2, IMAGES)
    return result


def result(name: str, rows: pd.DataFrame, names: tuple[str, ...] = HOSTILE) -> Result:
    entry = registry.get_entry(name)
    found = weights.find(entry)
    teacher = reference(entry)
    figures = protocol.figures(rows, "exact", len(names))
    return Result(
        entry, HERE, rows, figures, intervals.intervals(rows, count=50), 272_604, "2026-01-01T00:00:00+00:00", found,
        teacher, found if teacher else None, (), "digest", names, "<i>a note</i> & more",
    )  # fmt: skip


def fitting(name: str) -> float:
    return {"r56_synthscenes": 0.95, "r20_synthscenes": 0.5, "r20_kd_synthscenes": 0.6}.get(name, 0.8)


@pytest.fixture(scope="module")
def results():
    return {n: result(n, table(seed, fitting(n), n != "r56_synthscenes")) for seed, n in enumerate(NAMES)}


@pytest.fixture(scope="module")
def records(results):
    meta = [result_row.record(Outcome(item.entry, Status.EVALUATED, item)) for item in results.values()]
    absent = (Outcome(registry.get_entry("r8_synthscenes"), Status.NO_WEIGHTS, None, "no <weights>"),)
    broken = (Outcome(registry.get_entry("r20_at_synthscenes"), Status.FAILED, None, "<b>ValueError</b>"),)
    return [*meta, *map(result_row.record, (*absent, *broken))]


@pytest.fixture(scope="module")
def text(results, records):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(collect, "panels", lambda ordered, baselines, where: {"": [PANEL], NAMES[2]: [PANEL]})
        patch.setattr(collect, "_training", lambda dataset, where: np.array([5, 50, 500, 500]))
        return render.page(collect.from_results(records, results, HERE))


PICTURE = "data:image/jpeg;base64,AAAA"
SEEN = data.Seen("r20_synthscenes", "student", HOSTILE[0], False, 0.5, 3, PICTURE)
PANEL = data.Panel("Random images", HOSTILE[3], (data.Example("test/<0>", HOSTILE[1], PICTURE, (SEEN,)),))


# --- charts

STYLE = "".join((render.HERE / name).read_text(encoding="utf-8") for name in ("colours.css", "style.css"))


def every_chart() -> list[charts.Chart]:
    """Each kind of chart, of names that are markup, and of as little as there can be."""
    results = {n: result(n, table(seed, fitting(n), n != "r56_synthscenes")) for seed, n in enumerate(NAMES)}
    meta = [result_row.record(Outcome(item.entry, Status.EVALUATED, item)) for item in results.values()]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(collect, "panels", lambda *given: {})
        patch.setattr(collect, "_training", lambda *given: np.array([5, 5, 5, 5]))
        (dataset,) = collect.from_results(meta, results, HERE).datasets
        (alone,) = collect.from_results(meta[:1], {NAMES[0]: results[NAMES[0]]}, HERE).datasets
    entry = dataset.entries[0]
    lines = [charts.Line(name, n, [(1.0, 0.1 * n), (2.0, np.nan), (3.0, -0.2)]) for n, name in enumerate(HOSTILE)]
    found = [
        *charts.of_dataset(dataset),
        charts.accuracy(alone),
        charts.curves("l", "lines", lines, ("level", "skill"), "", chance=True),
        charts.curves("l1", "line", [charts.Line("a", None, [(1.0, 3.0)])], ("epoch", "loss"), ""),
        charts.losses(entry),
        charts.reliability(entry),
        charts.confusion(entry),
    ]
    return [item for item in found if item]


@pytest.fixture(scope="module")
def drawn() -> list[charts.Chart]:
    return every_chart()


def places(root: ElementTree.Element) -> list[tuple[float, float]]:
    """Every place that marks, text and paths of a picture name in absolute coordinates."""
    inside = {id(item) for defs in root.iter("defs") for item in defs.iter()}  # markers, around their own origin
    result = []
    for item in root.iter():
        if id(item) not in inside:
            result += [(float(item.attrib["x"]), float(item.attrib["y"]))] if "x" in item.attrib else []
            numbers = [float(number) for number in re.findall(r"-?[\d.]+", item.get("d", ""))]
            result += zip(numbers[::2], numbers[1::2], strict=True)
    return result


def test_charts_stay_inside_their_view_box(drawn):
    for chart in drawn:
        root = ElementTree.fromstring(chart.svg)
        _, _, width, height = map(float, root.attrib["viewBox"].split())
        assert len(places(root)) > 10
        assert all(0 <= x <= width and 0 <= y <= height for x, y in places(root)), places(root)
        assert "nan" not in chart.svg


def test_charts_are_named_and_described(drawn):
    for chart in drawn:
        root = ElementTree.fromstring(chart.svg)
        title, description = root.find("title"), root.find("desc")
        assert root.attrib["role"] == "img" and title is not None and description is not None
        assert (root.attrib["aria-labelledby"], title.text) == (title.attrib["id"], chart.title)
        assert root.attrib["aria-describedby"] == description.attrib["id"]
        assert chart.rows and all(len(row) == len(chart.head) for row in chart.rows)


def test_charts_have_no_colour_or_font_of_their_own(drawn):
    for chart in drawn:
        elements = list(ElementTree.fromstring(chart.svg).iter())
        style = " ".join(item.get("style", "") for item in elements)
        assert set(re.findall(r"var\(--(\w+)\)", style)) <= set(re.findall(r"--(\w+): light-dark", STYLE))
        assert "var(--ink)" in style and "#" not in style and "font-family" not in style
        assert not {"script", "b", "img", "style", "metadata"} & {item.tag for item in elements}


def test_charts_are_the_same_each_time_and_share_no_id(drawn):
    assert [item.svg for item in every_chart()] == [item.svg for item in drawn]
    by_title = {item.title: item.svg for item in drawn if item.title != drawn[0].title}
    ids = [name for item in by_title.values() for name in re.findall(r' id="([^"]*)"', item)]
    assert len(ids) > 10 and len(ids) == len(set(ids))


def test_marks_of_a_chart_have_tooltips(drawn):
    heat = next(item for item in drawn if item.title.startswith("Confusion"))
    tips = [item.text for item in ElementTree.fromstring(heat.svg).findall(".//g/title")]
    truth, prediction, images, share = heat.rows[0]
    assert f"{truth} predicted as {prediction}: {images} images, {share} %" in tips
    assert len(tips) == len(heat.rows) + 4  # the mistakes, and the diagonal of four classes


def test_class_names_may_be_of_any_letters():
    room = "\N{CJK UNIFIED IDEOGRAPH-6559}\N{CJK UNIFIED IDEOGRAPH-5BA4}"
    entry = data.EntryData(registry.get_entry(NAMES[0]), {}, {}, (), None, 0)
    stats = data.PerImage((room, "$x^2$\n\x1b"), (), np.array([[1, 1], [0, 2]]), (), (), pd.DataFrame())
    heat = charts.confusion(replace(entry, per_image=stats))
    assert heat is not None
    root = ElementTree.fromstring(heat.svg)
    assert {room, "$x^2$\\n\\x1b"} <= {item.text for item in root.iter("text")}
    assert f"{room} predicted as $x^2$\\n\\x1b: 1 images, 50.0 %" in {item.text for item in root.findall(".//g/title")}


def test_the_table_of_a_chart_holds_its_numbers(results, drawn):
    matrix = per_class.confusion(results[drawn[0].rows[0][0]].table, 4)
    heat = next(item for item in drawn if item.title.startswith("Confusion"))
    assert sum(int(row[2]) for row in heat.rows) == matrix.sum() - matrix.diagonal().sum()
    line = charts.curves("l", "l", [charts.Line("a", 0, [(1.0, 0.5), (2.0, np.nan)])], ("epoch", "loss"), "")
    assert line is not None and line.rows == (("1", "0.500"),)
    assert charts.curves("l", "l", [charts.Line("a", 0, [(1.0, np.nan)])], ("epoch", "loss"), "") is None


@pytest.mark.parametrize(("count", "drawn"), [(2, True), (data.LARGEST, True), (data.LARGEST + 1, False)])
def test_a_confusion_matrix_is_as_large_as_its_classes_need(count, drawn):
    names = tuple(f"{number:02}" for number in range(count))
    eye = np.eye(count, dtype=np.int64)
    entry = data.EntryData(registry.get_entry(NAMES[0]), {}, {}, (), None, 0)
    heat = charts.confusion(
        replace(entry, per_image=data.PerImage(names, (), eye if drawn else None, (), (), pd.DataFrame()))
    )
    assert (heat is not None) is drawn
    if heat:
        width = float(ElementTree.fromstring(heat.svg).attrib["viewBox"].split()[2])
        assert width < {2: 100, data.LARGEST: 700}[count]


def test_six_entries_have_a_colour():
    names = ["r56_synthscenes", *(f"r20_{item}_synthscenes" for item in ("dctkd", "kd", "at", "pkt", "crd", "vid"))]
    names += ["r20_synthscenes", "r8_synthscenes"]
    made = [data.EntryData(registry.get_entry(n), {}, {}, (), None if n[:3] == "r56" else "r56", None) for n in names]
    series = {item.name: item.series for item in data.coloured(made)}
    assert series == {
        "r56_synthscenes": 0, "r20_synthscenes": 1, "r20_dctkd_synthscenes": 2, "r20_kd_synthscenes": 3,
        "r20_at_synthscenes": 4, "r20_pkt_synthscenes": 5, "r20_crd_synthscenes": None, "r20_vid_synthscenes": None,
        "r8_synthscenes": None,
    }  # fmt: skip
    grey = charts.curves("k", "t", [charts.Line("a", None, [(1.0, 1.0), (2.0, 2.0)])], ("x", "y"), "")
    assert grey is not None and "var(--faint)" in grey.svg and "var(--c" not in grey.svg


def test_numbers_as_ticks_have_them():
    assert [svg.short(v) for v in (0.25, 272_604, 1.5e6, -2)] == ["0.25", "272.6 k", "1.5 M", "\N{MINUS SIGN}2"]


# --- rules


def answers(right: list[bool], probability: list[float], told: bool = True) -> pd.DataFrame:
    """Answers of two classes that give the label, 0, some probability."""
    result = pd.DataFrame({"id": [f"i{n}" for n in range(len(right))], "label": 0})
    result["prediction"] = [0 if item else 1 for item in right]
    result["confidence"] = [p if item else 1 - p for item, p in zip(right, probability, strict=True)]
    if told:
        result["nll"] = -np.log(probability)
    return result


BEFORE = answers([False, False, True, True, True], [0.1, 0.3, 0.6, 0.9, 0.7])
AFTER = answers([True, True, True, False, False], [0.9, 0.6, 0.55, 0.2, 0.4])


def test_gains_and_losses_are_by_the_probability_of_the_class():
    names = "base", "student"
    assert panels.gains(BEFORE, AFTER, names).ids == ("i0", "i1")  # i2 is right, and falls
    assert panels.losses(BEFORE, AFTER, names).ids == ("i3", "i4", "i2")
    assert panels.gains(BEFORE, AFTER, names, count=1).ids == ("i0",)
    assert panels.gains(BEFORE, BEFORE, names).ids == ()


def test_the_order_of_rows_chooses_nothing():
    mixed = AFTER.sample(frac=1, random_state=1)
    assert panels.gains(BEFORE, mixed, ("a", "b")) == panels.gains(BEFORE, AFTER, ("a", "b"))
    assert panels.at_random(mixed, 2) == panels.at_random(AFTER, 2)


def test_without_probabilities_answers_that_changed_are_taken():
    before, after = (item.drop(columns="nll") for item in (BEFORE, AFTER))
    assert panels.gains(before, after, ("a", "b")).ids == ("i0", "i1")
    assert panels.losses(before, after, ("a", "b")).ids == ("i3", "i4")


def test_the_rule_says_from_how_many():
    rule = panels.losses(BEFORE, AFTER, ("base", "student")).rule
    assert rule.startswith("base is right and more confident of the true class than student, by the largest margin")
    assert "first 3 of 3 such images among 5" in rule
    assert "with seed 7" in panels.at_random(AFTER, 2, seed=7).rule


def test_the_seed_draws_the_random_images():
    rows = table(0, 0.5)
    drawn = [panels.at_random(rows, seed=seed).ids for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert len(set(drawn[0])) == panels.COUNT
    assert len(panels.at_random(BEFORE, 99).ids) == 5


def test_panels_show_teacher_baseline_and_student(monkeypatch, tmp_path):
    meta = tuple(weights.read_config(weights.BUNDLED / NAMES[0])["label_names"])
    pixels = np.random.default_rng(0).integers(0, 256, (12, 64, 64, 3), dtype=np.uint8)
    split = Split(meta, tuple(f"i{n}" for n in range(12)), np.arange(12), Arrays(pixels))
    monkeypatch.setattr(panels, "test_split", lambda *where: split)
    monkeypatch.setenv("DCTKD_ZOO_HOME", str(tmp_path))
    ids = {"id": list(split.ids), "label": range(12)}
    tables = {
        "r20_synthscenes": pd.DataFrame({**ids, "prediction": 0, "confidence": 0.5, "nll": 3.0}),
        "r20_kd_synthscenes": pd.DataFrame({**ids, "prediction": range(12), "confidence": 0.5, "nll": 0.1}),
    }
    both = {}
    for name, rows in tables.items():
        entry = registry.get_entry(name)
        both[name] = SimpleNamespace(entry=entry, table=rows, weights=weights.find(entry), teacher=NAMES[0])
    result = panels.panels(both, {"r20_kd_synthscenes": "r20_synthscenes"}, HERE)  # type: ignore[arg-type]
    (drawn,), (gain, loss) = result[""], result["r20_kd_synthscenes"]
    assert [len(panel.examples) for panel in (drawn, gain, loss)] == [3, 3, 0]
    assert [seen.role for seen in gain.examples[0].seen] == ["teacher", "baseline", "student"]
    assert [example.id for example in gain.examples] == ["i0", "i1", "i10"]  # of equals, the first
    with Image.open(io.BytesIO(base64.b64decode(gain.examples[0].seen[0].picture.partition(",")[2]))) as strip:
        assert strip.size == (3 * (panels.CELL + GAP) - GAP, panels.CELL)
    assert len(gain.examples[0].seen[0].picture) < 20_000


# --- the page


class Tags(HTMLParser):
    """The elements of a page, its ids, and what its links point to."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.outside: list[str] = []
        self.handlers: list[str] = []

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.tags.append(tag)
        self.ids += [given["id"]] if given.get("id") else []
        self.links += [given["href"]] if tag == "a" else []
        self.handlers += [name for name in given if name.startswith("on")]
        self.outside += [given[n] for n in ("src", "href") if given.get(n) and not given[n].startswith(("#", "data:"))]


def read(text: str) -> Tags:
    result = Tags()
    result.feed(text)
    return result


def test_nothing_of_the_page_is_anothers_markup(text):
    result = read(text)
    assert (result.tags.count("script"), result.handlers) == (2, [])
    assert "b" not in result.tags and "i" not in result.tags
    assert "&lt;script&gt;alert(" in text
    assert "&lt;i&gt;a note&lt;/i&gt; &amp; more" in text
    assert "&lt;b&gt;ValueError&lt;/b&gt;" in text


def test_the_page_asks_for_nothing(text):
    assert read(text).outside == []
    assert "url(" not in text and "@import" not in text
    assert not re.search(r"https?://", re.sub(r'<script type="application/json".*?</script>', "", text, flags=re.S))


def test_links_lead_somewhere_and_ids_are_one_of_a_kind(text):
    result = read(text)
    assert len(result.ids) == len(set(result.ids))
    assert {link.removeprefix("#") for link in result.links} <= set(result.ids)
    assert set(NAMES) <= set(result.ids)


def test_headings_come_in_order(text):
    levels = [int(tag[1]) for tag in read(text).tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))


def test_pictures_and_tables_are_named(text):
    images = re.findall(r"<img[^>]*>", text)
    assert images and all(re.search(r'alt="[^"]+"', image) for image in images)
    assert text.count("<table") == text.count("<caption>")


def test_the_data_cannot_end_its_script(text, records):
    meta = re.search(r'<script type="application/json" id="page-data">(.*?)</script>', text, re.S)
    assert meta is not None and "<" not in meta[1]
    rows = {item["name"]: item["row"] for item in json.loads(meta[1])["entries"]}
    assert rows == {item["name"]: item["row"] for item in records}
    assert json.loads(render.script_data({"a": "</script>\u2028&"})) == {"a": "</script>\u2028&"}


def test_numbers_of_the_page_are_those_of_the_rows(text, records):
    row = next(item["row"] for item in records if item["name"] == NAMES[2])
    section = re.search(rf'<details class="entry" id="{NAMES[2]}".*?How to reproduce this', text, re.S)
    assert section is not None
    meta = dict(re.findall(r'data-metric="([\w.]+)" data-value="([-\d.e]+)"', section[0]))
    assert {name: float(value) for name, value in meta.items()} == {name: row[name] for name in meta}
    assert {"top1", "mca", "nll", "ece", "agreement", "skill.ssim", "skill.iou"} <= meta.keys()
    line = re.search(rf'<tr data-words="{NAMES[2]} .*?</tr>', text, re.S)
    assert line is not None
    assert f'data-value="{row["top1"]}">{row["top1"]:.2f}' in line[0]
    assert f"{row['top1.low']:.2f}–{row['top1.high']:.2f}" in line[0]


def words_of(part: str) -> str:
    """The text of a part of a page, on one line."""
    return " ".join(html.unescape(re.sub(r"<[^>]*>", "", part)).split())


def test_the_first_paragraph_is_the_finding(text, results):
    finding = words_of(text[text.index('<div class="finding">') : text.index('<nav id="page-nav"')])
    base, best = "r20_synthscenes", max(NAMES[2:], key=lambda name: results[name].figures["top1"])
    tables = {base: results[base].table, **{name: results[name].table for name in NAMES[2:]}}
    narrow = {name: collect._narrow(item) for name, item in tables.items()}
    result = compare.compare(narrow, dict.fromkeys(narrow, NAMES[0]))
    test = next(item for item in result if item.b == best).differences[0]
    gap = gaps.bootstrapped_gap(tables[base], tables[best], results[NAMES[0]].table)
    higher = sum(item.differences[0].significant and item.differences[0].difference > 0 for item in result)
    assert finding.startswith(f"On synthscenes, {'all 2' if higher == 2 else '1 of 2'} students")
    assert f"The most accurate student, {best}, reaches {test.b:.2f} % top-1 against {test.a:.2f} % for its" in finding
    assert f"+{test.difference:.2f} points (95 % CI +{test.low:.2f} to +{test.high:.2f}, p < 0.001)" in finding
    ends = f"(95 % CI {100 * gap.low:.1f} to {100 * gap.high:.1f})"
    assert f"It closes {100 * gap.share:.1f} % {ends} of the gap to its teacher {NAMES[0]}" in finding


def difference(value: float, p: float, figure: str = "top1") -> paired.Difference:
    return paired.Difference(figure, 50.0, 50 + value, value, value - 1, value + 1, p, p, p < 0.05, "family")


@pytest.mark.parametrize(
    ("tests", "words"),
    [
        ([], ""),
        ([(3, 0.01)], "the student is significantly more accurate than its baseline"),
        ([(3, 0.5)], "the student is not significantly more accurate than its baseline"),
        ([(-3, 0.01)], "the student is significantly less accurate than its baseline"),
        ([(3, 0.01), (2, 0.02)], "all 2 students are significantly more accurate than their baseline"),
        ([(3, 0.5), (-2, 0.9)], "none of the 2 students is significantly more accurate than its baseline"),
        (
            [(3, 0.01), (2, 0.5), (-3, 0.01)],
            "1 of 3 students is significantly more accurate than their baseline; 1 is significantly less accurate",
        ),
    ],
)
def test_the_headline_counts_what_is_significant(tests, words):
    entry = data.EntryData(registry.get_entry(NAMES[2]), {}, {}, (), NAMES[0], 0)
    contrasts = tuple(data.Contrast(NAMES[1], entry, 9, (difference(*item),)) for item in tests)
    dataset = data.DatasetData(registry.get_dataset("synthscenes"), (entry,), contrasts)
    assert render.headline(dataset) == words


def test_a_verdict_says_better_or_worse():
    assert render.verdict(difference(3, 0.01)) == ("good", "significantly higher")
    assert render.verdict(difference(3, 0.01, "nll")) == ("bad", "significantly higher")
    assert render.verdict(difference(-3, 0.01, "ece")) == ("good", "significantly lower")
    assert render.verdict(difference(-3, 0.2)) == ("dim", "not significant")
    assert render.verdict(difference(3, math.nan)) == ("dim", "not tested")


def test_a_student_has_one_row_and_the_rest_folded(text):
    folds = re.findall(r'<details class="contrast".*?</details>', text, re.S)
    assert len(folds) == 2 and "open" not in "".join(re.findall(r"<details[^>]*>", text))
    rows = re.findall(r"<tr><th scope=\"row\">([^<]*)", folds[0])
    alike = ["agreement %", "shared mistakes %", "SSIM skill", "Pearson skill", "IoU skill"]
    assert rows == ["top-1 %", "MCA %", "NLL nats", "ECE %", *alike]


def test_the_legend_of_the_plots_stands_once(text):
    plots = text[text.index('id="synthscenes-plots"') : text.index('id="synthscenes-attention"')]
    assert plots.count('class="legend"') == 1
    names = re.findall(r'aria-hidden="true"></span>([^<]+)</li>', plots)
    assert sorted(names) == ["r20", "r20_dctkd", "r20_kd", "r56"]


# --- from results.csv alone

SEEDS = {"r20_synthscenes": (60.0, 61.0, 62.5), "r20_kd_synthscenes": (66.0, 66.5, 68.0), "r56_synthscenes": (90.0,)}


@pytest.fixture
def rows() -> list[dict[str, str]]:
    """Rows of three entries, as the file has them, and rows that do not count."""
    result = []
    for name, values in SEEDS.items():
        for seed, value in enumerate(values):
            figures = {"top1": value, "nll": 100 / value, "top1.low": value - 2, "top1.high": value + 3}
            if name != "r56_synthscenes":
                figures |= {"ssim": 0.5, "ssim.1": 0.5, "skill.ssim": value / 100, "skill.ssim.1": value / 100}
            facts = {"parameters": 1000, "weights_sha256": f"{name}{seed}", "teacher_sha256": "", "note": ""}
            if name == "r20_kd_synthscenes":
                facts |= {"teacher": "r56_synthscenes", "teacher_sha256": "r56_synthscenes0"}
            head = {"name": name, "dataset": "synthscenes", "protocol": "exact", "seed": seed, "n": 1200, "failed": 0}
            result.append(results_file.as_text(head | figures | {"teacher": ""} | facts))
    result.append(result[0] | {"seed": "7", "top1": "1", "limit": "9"})
    result.append(result[0] | {"seed": "8", "top1": "1", "protocol": "released"})
    return [*result, result[0] | {"name": "r20_gone_synthscenes"}]


def test_rows_alone_make_means_over_seeds_and_paired_tests(rows):
    (dataset,) = collect.from_rows(rows).datasets
    assert [item.name for item in dataset.entries] == ["r56_synthscenes", "r20_kd_synthscenes", "r20_synthscenes"]
    for entry in dataset.entries:
        value, measured = entry.values["top1"], SEEDS[entry.name]
        assert value.value == pytest.approx(np.mean(measured)) and len(entry.seeds) == len(measured)
        if len(measured) > 1:
            assert value.sd == pytest.approx(np.std(measured, ddof=1)) and math.isnan(value.low)
        else:
            assert (value.low, value.high) == (measured[0] - 2, measured[0] + 3) and math.isnan(value.sd)
    (contrast,) = dataset.contrasts
    student, base = SEEDS["r20_kd_synthscenes"], SEEDS["r20_synthscenes"]
    expected = stats.ttest_rel(student, base)
    assert contrast.n == 3 and contrast.top1.p == pytest.approx(expected.pvalue)
    assert contrast.top1.difference == pytest.approx(np.mean(student) - np.mean(base))
    assert (contrast.top1.low, contrast.top1.high) == pytest.approx(tuple(expected.confidence_interval()))
    assert {item.figure for item in contrast.differences} == {"top1", "nll", "skill.ssim"}
    share = (np.mean(student) - np.mean(base)) / (90 - np.mean(base))
    assert dataset.entries[1].gap is not None and dataset.entries[1].gap.share == pytest.approx(share)


def test_rows_of_an_earlier_version_have_scores_that_are_left_out(rows):
    earlier = {"cosine": "0.9", "cosine.1": "0.9", "skill.cosine": "0.5", "skill.cosine.1": "0.5"}
    old, new = (collect.from_rows(item) for item in ([row | earlier for row in rows], rows))
    for side in zip(old.datasets[0].entries, new.datasets[0].entries, strict=True):
        assert side[0].levels == side[1].levels
    assert "cosine" not in render.page(old)


def test_a_gap_that_is_not_significant_is_not_closed(rows):
    near = [row | {"top1": "61.5"} if row["name"] == "r56_synthscenes" else row for row in rows]
    (dataset,) = collect.from_rows(near).datasets
    assert [item.gap for item in dataset.entries] == [None, None, None]


def test_the_page_of_rows_leaves_out_what_needs_images(rows):
    result = render.page(collect.from_rows(rows))
    assert "A results file holds no predictions of single images" in result
    assert "3 entries, from the rows of" in result and "± 1.26" in result
    assert (
        "<img" not in result
        and "Classes and confusions" not in result
        and "page-data" not in result.split("<script>")[0]
    )
    tags = read(result)
    assert len(tags.ids) == len(set(tags.ids))
    assert {link.removeprefix("#") for link in tags.links} <= set(tags.ids)


def test_the_command_makes_the_page_of_rows(rows, monkeypatch, tmp_path, capsys):
    path = tmp_path / "results.csv"
    path.write_text(results_file.as_csv(rows), encoding="utf-8")
    monkeypatch.setattr(results_file, "RESULTS", path)
    monkeypatch.setattr(command, "_evaluate", lambda *given: pytest.fail("something was evaluated"))
    assert command.main(["--from-results", "--report", str(tmp_path / "all")]) == 0
    assert command.main(["r20_kd*", "r20_synthscenes", "--from-results", "--report", str(tmp_path / "two")]) == 0
    assert f"report: {tmp_path / 'all' / 'index.html'}" in capsys.readouterr().out
    every, two = ((tmp_path / name / "index.html").read_text(encoding="utf-8") for name in ("all", "two"))
    assert 'id="r56_synthscenes"' in every and 'id="r56_synthscenes"' not in two and 'id="r20_kd_synthscenes"' in two


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--from-results"], "--from-results makes the report: give both"),
        (["--from-results", "--report", "x", "--write", "--limit", "5"], "--write needs results over all test images"),
        (["--from-results", "--report", "x", "--json", "-"], "--from-results evaluates nothing: leave out --json"),
        (
            ["--from-results", "--report", "x", "--teacher", "t"],
            "--from-results evaluates nothing: leave out --teacher",
        ),
    ],
)
def test_what_a_page_of_rows_cannot_do_is_refused(arguments, words, capsys):
    with pytest.raises(SystemExit, match="2"):
        command.main(arguments)
    assert words in capsys.readouterr().err


# --- more of the page


def test_what_was_not_evaluated_is_listed_with_the_reason(text):
    absent = text[text.index('id="page-absent"') : text.index('id="page-reading"')]
    assert "r8_synthscenes" in absent and "no weights" in absent
    assert "r20_at_synthscenes" not in absent
    assert "4 entries evaluated, 1 not" in text


def test_reported_figures_have_a_column_of_their_own(results, records, monkeypatch):
    meta = results[NAMES[2]]
    said = registry.get_entry("r18_dctkd_ade20k").reported
    entry = replace(meta.entry, reported=said)
    monkeypatch.setattr(collect, "panels", lambda *given: {})
    monkeypatch.setattr(collect, "_training", lambda *given: np.array([5, 5, 5, 5]))
    changed = {**results, NAMES[2]: replace(meta, entry=entry)}
    result = render.page(collect.from_results(records, changed, HERE))
    value = next(item.value for item in said if item.metric == "top1")
    assert f'<td class="reported" data-value="{value}">{value:.2f}<small>released' in result
    assert "protocol released</th>" in result


def test_an_entry_alone_and_none_at_all(results, records, monkeypatch):
    monkeypatch.setattr(collect, "panels", lambda *given: {})
    monkeypatch.setattr(collect, "_training", lambda *given: np.array([5, 5, 5, 5]))
    few = replace(HERE, limit=96)
    alone = render.page(collect.from_results(records[:1], {NAMES[0]: results[NAMES[0]]}, few))
    assert "Students compared" not in alone and "on 96 test images only" in alone
    assert "No entry was evaluated." in render.page(collect.from_results(records[-2:], {}, HERE))


def test_accuracy_is_against_arithmetic_where_that_is_known(results, records, monkeypatch):
    monkeypatch.setattr(collect, "panels", lambda *given: {})
    monkeypatch.setattr(collect, "_training", lambda *given: np.array([5, 5, 5, 5]))
    known = [{**item, "row": {**item["row"], "macs": 10**6}} if item["row"] else item for item in records]
    (dataset,) = collect.from_results(known, results, HERE).datasets
    chart = charts.accuracy(dataset)
    assert chart is not None and chart.title == "Accuracy against multiply-accumulates per image"


@pytest.mark.parametrize("dark", [False, True])
def test_words_can_be_told_from_what_is_behind_them(dark):
    pairs = re.findall(r"--(\w+): light-dark\((#\w{6}), (#\w{6})\)", STYLE)
    colours = {name: luminance((light, other)[dark]) for name, light, other in pairs}
    assert len(colours) >= 15
    for behind in ("paper", "raised"):
        for name in ("ink", "dim", "accent", "good", "bad"):
            assert contrast(colours[name], colours[behind]) >= 4.5, (name, behind)
    for series in range(data.COLOURED):
        assert contrast(colours[f"c{series}"], colours["paper"]) >= 3


def luminance(colour: str) -> float:
    """Of a colour as WCAG 2 defines it."""
    shares = [int(colour[path : path + 2], 16) / 255 for path in (1, 3, 5)]
    linear = [s / 12.92 if s <= 0.04045 else ((s + 0.055) / 1.055) ** 2.4 for s in shares]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(a: float, b: float) -> float:
    return (max(a, b) + 0.05) / (min(a, b) + 0.05)


def test_the_command_writes_the_page(monkeypatch, tmp_path, capsys, results):
    meta = results[NAMES[2]]
    monkeypatch.setattr(command, "_evaluate", lambda entries, where: [Outcome(meta.entry, Status.EVALUATED, meta)])
    monkeypatch.setattr(collect, "panels", lambda *given: {})
    monkeypatch.setattr(collect, "_training", lambda *given: np.array([5, 5, 5, 5]))
    assert command.main([NAMES[2], "--device", "cpu", "--report", str(tmp_path / "new" / "folder")]) == 0
    written = (tmp_path / "new" / "folder" / "index.html").read_text(encoding="utf-8")
    assert NAMES[2] in written and "report: " in capsys.readouterr().out


def test_images_that_may_not_be_passed_on_stay_out(monkeypatch, tmp_path, capsys, results):
    meta = results[NAMES[2]]
    monkeypatch.setattr(command, "_evaluate", lambda entries, where: [Outcome(meta.entry, Status.EVALUATED, meta)])
    monkeypatch.setattr(collect, "panels", lambda *given: pytest.fail("images were read"))
    monkeypatch.setattr(collect, "_training", lambda *given: np.array([5, 5, 5, 5]))
    assert command.main([NAMES[2], "--device", "cpu", "--report", str(tmp_path), "--no-images"]) == 0
    written = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert "data:image" not in written and "made without test images" in written


# --- in a browser

WATCH = """<script>
const wrong = [];
addEventListener("error", (event) => wrong.push(String(event.message)));
addEventListener("unhandledrejection", (event) => wrong.push(String(event.reason)));
console.error = (...words) => wrong.push(words.join(" "));
addEventListener("load", () => {
  let told;
  try { told = (() => { %s })(); } catch (error) { wrong.push(String(error)); }
  const place = document.createElement("pre");
  place.id = "told";
  place.textContent = JSON.stringify({ wrong, told });
  document.body.append(place);
});
</script></head>"""

ROWS = """
const rows = () => [...document.querySelectorAll("table.board tbody tr")];
const names = () => rows().filter((row) => !row.hidden).map((row) => row.querySelector("a").textContent);
const heads = [...document.querySelectorAll("table.board th[data-sort]")];
"""


@pytest.fixture
def browse(text, tmp_path):
    """A function that loads a copy of the page in Chromium, runs a script in it and gives what that returns."""
    if BROWSER is None:
        pytest.skip("no Chromium here: the page was not loaded")

    def run(script: str, width: int = 1280, after: str = ""):
        path = tmp_path / "copy.html"
        path.write_text(text.replace("</head>", WATCH % (ROWS + script), 1), encoding="utf-8")
        options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
        options += [f"--window-size={width},800", "--virtual-time-budget=2000", "--enable-logging=stderr", "--dump-dom"]
        done = subprocess.run(
            [BROWSER, *options, path.as_uri() + after], capture_output=True, encoding="utf-8", timeout=120, check=True
        )
        result = re.search(r'<pre id="told">(.*?)</pre>', done.stdout, re.S)
        assert result is not None, done.stderr
        meta = json.loads(html.unescape(result[1]))
        assert meta["wrong"] == []
        assert "CONSOLE" not in done.stderr, done.stderr
        return meta["told"]

    return run


def test_headings_sort_the_leaderboard(browse):
    script = """
    const found = [names()];
    const press = (name) => {
      const head = heads.find((each) => each.textContent.startsWith(name));
      head.querySelector("button").click();
      found.push([head.getAttribute("aria-sort"), names()]);
    };
    ["NLL", "NLL", "entry", "SSIM skill"].forEach(press);
    found.push(heads.filter((each) => each.getAttribute("aria-sort") !== "none").length);
    return found;
    """
    first, least, most, named, skill, sorted_by = browse(script)
    assert first[0] == "r56_synthscenes" and set(first) == set(NAMES)
    assert (least[0], most[0], named[0], skill[0], sorted_by) == (
        "ascending",
        "descending",
        "ascending",
        "descending",
        1,
    )
    assert least[1] == most[1][::-1]
    assert named[1] == ["r20_dctkd_synthscenes", "r20_kd_synthscenes", "r20_synthscenes", "r56_synthscenes"]
    assert skill[1][-1] == "r56_synthscenes"  # which has none


def test_the_filter_hides_rows_and_says_so(browse):
    script = """
    const words = document.getElementById("page-words"), found = [];
    for (const each of ["r20 KD", "nothing", "<b>", ""]) {
      words.value = each;
      words.dispatchEvent(new Event("input"));
      found.push([names(), document.getElementById("page-count").textContent]);
    }
    return found;
    """
    some, none, _, every = browse(script)
    assert set(some[0]) == {"r20_dctkd_synthscenes", "r20_kd_synthscenes"}
    assert some[1] == "2 of 4 entries"
    assert none == [[], "0 of 4 entries"]
    assert len(every[0]) == 4


def test_the_theme_can_be_chosen(browse):
    script = """
    const button = document.getElementById("page-theme");
    const look = () => [button.textContent, getComputedStyle(document.body).backgroundColor];
    const found = [look()];
    for (let time = 0; time < 2; time += 1) { button.click(); found.push(look()); }
    return found;
    """
    first, second, third = browse(script)
    assert first == third and first[0] != second[0] and first[1] != second[1]


def test_no_page_wider_than_a_phone(browse):
    script = """
    document.querySelectorAll("details").forEach((each) => { each.open = true; });
    return [document.documentElement.scrollWidth, innerWidth];
    """
    wide, seen = browse(script, width=375)
    assert wide <= seen <= 500


def test_a_link_opens_what_it_leads_to(browse):
    script = """
    const target = document.getElementById("r20_kd_synthscenes");
    return [target.hidden, Math.abs(target.getBoundingClientRect().top) < innerHeight];
    """
    assert browse(script, after="#r20_kd_synthscenes") == [False, True]
    assert browse("return 1", after="#%") == 1


def test_a_picture_is_enlarged_with_its_levels(browse):
    script = """
    const dialog = document.getElementById("page-zoom"), button = document.querySelector("button.zoom");
    const found = [dialog.open, button.tabIndex];
    button.focus();
    button.click();
    found.push(dialog.open, dialog.querySelectorAll("img").length, dialog.querySelector(".levels").textContent);
    found.push(dialog.querySelector("p").textContent.includes("r20_synthscenes"));
    const [image, maps] = dialog.querySelector(".zoomed").children;
    found.push(maps.getBoundingClientRect().width > 2 * image.getBoundingClientRect().width);
    dialog.querySelector("button").click();
    return [...found, dialog.open];
    """
    assert browse(script) == [False, 0, True, 2, "level 123", True, True, False]


def test_a_phone_sees_the_names_and_no_teacher(browse):
    script = """
    const board = document.querySelector("table.board"), box = board.parentElement;
    box.scrollLeft = 150;
    const name = board.querySelector("tbody th").getBoundingClientRect();
    const teacher = getComputedStyle(board.querySelector("td.teacher")).display;
    const left = Math.round(name.left - box.getBoundingClientRect().left);
    return [box.scrollLeft, left, teacher, name.width < innerWidth / 2];
    """
    scrolled, left, teacher, narrow = browse(script, width=390)
    assert (scrolled > 50, left <= 2, teacher, narrow) == (True, True, "none", True)
    assert browse(script)[2] == "table-cell"


def test_the_way_to_the_sections_stays_in_sight(browse):
    script = """
    scrollTo(0, document.getElementById("synthscenes-entries").offsetTop);
    return [scrollY > 500, document.getElementById("page-nav").getBoundingClientRect().top];
    """
    assert browse(script) == [True, 0]
