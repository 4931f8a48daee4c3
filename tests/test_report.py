"""The report: its plots, the rules that choose its images, and the page, on tables made here and in a browser."""

from __future__ import annotations

import base64
import html
import io
import itertools
import json
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

from dctkd_zoo import registry, weights
from dctkd_zoo.data.split import Arrays, Split
from eval import __main__ as command
from eval import calibration, classes, protocol, record, uncertainty
from eval.outcome import Outcome, Status
from eval.report import gather, page, panels, plots, svg
from eval.run import Result, Where, reference

HERE = Where(None, torch.device("cpu"))
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
    found = pd.DataFrame(
        {
            "id": [f"test/{place:03}" for place in range(IMAGES)],
            "label": label,
            "prediction": np.where(right, label, (label + 1) % 4),
            "confidence": confidence,
            "top1": 100.0 * right,
            "nll": -np.log(np.where(right, confidence, (1 - confidence) / 3)),
        }
    )
    if taught:
        found["teacher_prediction"] = label
        found["agreement"] = found["top1"]
        for name in ("ssim", "pearson", "iou"):
            for level in (1, 2):
                found[f"{name}.{level}"] = random.uniform(0.6, 0.9, IMAGES)
                found[f"chance.{name}.{level}"] = random.uniform(0.0, 0.2, IMAGES)
    return found


def result(name: str, rows: pd.DataFrame, names: tuple[str, ...] = HOSTILE) -> Result:
    entry = registry.get_entry(name)
    found = weights.find(entry)
    teacher = reference(entry)
    figures = protocol.figures(rows, "exact", len(names))
    return Result(
        entry, HERE, rows, figures, uncertainty.intervals(rows, count=50), 272_604, "2026-01-01T00:00:00+00:00", found,
        teacher, found if teacher else None, (), "digest", names, "<i>a note</i> & more",
    )  # fmt: skip


def fitting(name: str) -> float:
    return {"r56_synthscenes": 0.95, "r20_synthscenes": 0.5, "r20_kd_synthscenes": 0.6}.get(name, 0.8)


@pytest.fixture(scope="module")
def results():
    return {n: result(n, table(seed, fitting(n), n != "r56_synthscenes")) for seed, n in enumerate(NAMES)}


@pytest.fixture(scope="module")
def records(results):
    told = [record.record(Outcome(each.entry, Status.EVALUATED, each)) for each in results.values()]
    absent = (Outcome(registry.get_entry("r8_synthscenes"), Status.NO_WEIGHTS, None, "no <weights>"),)
    broken = (Outcome(registry.get_entry("r20_at_synthscenes"), Status.FAILED, None, "<b>ValueError</b>"),)
    return [*told, *map(record.record, (*absent, *broken))]


@pytest.fixture(scope="module")
def text(results, records):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gather, "panels", lambda ordered, baselines, where: {"": [PANEL], NAMES[2]: [PANEL]})
        patch.setattr(gather, "_training", lambda dataset, where: np.array([5, 50, 500, 500]))
        return page.render(gather.boards(records, results, HERE), records)


PICTURE = "data:image/jpeg;base64,AAAA"
SEEN = panels.Seen("r20_synthscenes", "student", HOSTILE[0], False, 0.5, 3, PICTURE)
PANEL = panels.Panel("Random images", HOSTILE[3], (panels.Example("test/<0>", HOSTILE[1], PICTURE, (SEEN,)),))


# --- plots


def every_plot(names: tuple[str, ...] = HOSTILE) -> list[plots.Plot]:
    rows = table(0, 0.7)
    points = [plots.Point(name, n, 1000 * 3**n, 20 + 20 * n, 15 + 20 * n, 30 + 20 * n) for n, name in enumerate(names)]
    one = [plots.Point("only", 0, 500, 100.0, 100, 100)]
    lines = [plots.Line(name, n, (1.0, 2.0, 3.0), (0.1 * n, np.nan, -0.2)) for n, name in enumerate(names)]
    bins = calibration.reliability(rows, calibration.equal_width(rows["confidence"].to_numpy()))
    heat = plots.confusion("c", "confusion", classes.confusion(rows, len(names)), names)
    assert heat is not None
    return [
        plots.scatter("s", "scatter", points, ("parameters", "top-1, %")),
        plots.scatter("s1", "scatter", one * 3, ("parameters", "top-1, %")),
        plots.scatter("s0", "scatter", [], ("parameters", "top-1, %")),
        plots.lines("l", "lines", lines, ("level", "skill"), chance=True),
        plots.lines("l1", "lines", [plots.Line("a", 0, (1.0,), (3.0,))], ("epoch", "loss")),
        plots.lines("l0", "lines", [], ("epoch", "loss")),
        plots.reliability("r", "reliability", bins),
        heat,
    ]


def places(root: ElementTree.Element) -> list[tuple[float, float]]:
    """Every place that marks, lines and paths of a picture name in absolute coordinates."""
    found = []
    for each in root.iter():
        get = each.attrib
        for x, y in (("x", "y"), ("x1", "y1"), ("x2", "y2"), ("cx", "cy")):
            if x in get:
                found.append((float(get[x]), float(get[y])))
        if "width" in get:
            found.append((float(get["x"]) + float(get["width"]), float(get["y"]) + float(get["height"])))
        found += [(float(a), float(b)) for a, b in re.findall(r"[ML](-?[\d.]+) (-?[\d.]+)", get.get("d", ""))]
    return found


@pytest.mark.parametrize("plot", every_plot(), ids=lambda plot: plot.title)
def test_plots_stay_inside_their_view_box(plot):
    root = ElementTree.fromstring(plot.svg)
    _, _, width, height = map(float, root.attrib["viewBox"].split())
    assert places(root)
    assert all(0 <= x <= width and 0 <= y <= height for x, y in places(root)), places(root)
    assert "nan" not in plot.svg and "inf" not in plot.svg.replace("info", "")


@pytest.mark.parametrize("plot", every_plot(), ids=lambda plot: plot.title)
def test_plots_say_what_they_show(plot):
    root = ElementTree.fromstring(plot.svg)
    title, description = root.find("title"), root.find("desc")
    assert root.attrib["role"] == "img" and title is not None and description is not None
    assert (root.attrib["aria-labelledby"], title.text) == (title.attrib["id"], plot.title)
    assert root.attrib["aria-describedby"] == description.attrib["id"]
    assert all(len(row) == len(plot.head) for row in plot.rows)


@pytest.mark.parametrize("plot", every_plot(), ids=lambda plot: plot.title)
def test_no_text_of_a_plot_is_markup(plot):
    assert not {"script", "b", "img"} & {each.tag for each in ElementTree.fromstring(plot.svg).iter()}


def test_the_table_of_a_plot_holds_its_numbers():
    rows = table(0, 0.7)
    matrix = classes.confusion(rows, 4)
    heat = plots.confusion("c", "confusion", matrix, HOSTILE)
    assert heat is not None
    assert sum(int(row[2]) for row in heat.rows) == matrix.sum() - matrix.diagonal().sum()
    line = plots.lines("l", "l", [plots.Line("a", 0, (1.0, 2.0), (0.5, np.nan))], ("epoch", "loss"))
    assert line.rows == (("1", "0.500"),)


def test_of_many_classes_no_matrix_is_drawn():
    names = [str(number) for number in range(plots.LARGEST + 1)]
    assert plots.confusion("c", "c", np.eye(len(names), dtype=np.int64), names) is None
    assert plots.confusion("c", "c", np.eye(plots.LARGEST, dtype=np.int64), names[1:]) is not None


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0.62, 0.91), (-3, 12), (0, 100), (68.3, 69.1)])
def test_ticks_are_round_and_inside(low, high):
    found = svg.ticks(low, high)
    assert 2 <= len(found) <= 6
    assert all(low - 1e-9 <= tick <= high + 1e-9 for tick in found)


def test_numbers_as_ticks_say_them():
    assert [svg.short(v) for v in (0.25, 272_604, 1.5e6, -2)] == ["0.25", "272.6 k", "1.5 M", "\N{MINUS SIGN}2"]


# --- rules


def answers(right: list[bool], probability: list[float], told: bool = True) -> pd.DataFrame:
    """Answers of two classes that give the label, 0, some probability."""
    found = pd.DataFrame({"id": [f"i{n}" for n in range(len(right))], "label": 0})
    found["prediction"] = [0 if each else 1 for each in right]
    found["confidence"] = [p if each else 1 - p for each, p in zip(right, probability, strict=True)]
    if told:
        found["nll"] = -np.log(probability)
    return found


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
    before, after = (each.drop(columns="nll") for each in (BEFORE, AFTER))
    assert panels.gains(before, after, ("a", "b")).ids == ("i0", "i1")
    assert panels.losses(before, after, ("a", "b")).ids == ("i3", "i4")


def test_the_rule_says_from_how_many():
    rule = panels.losses(BEFORE, AFTER, ("base", "student")).rule
    assert rule.startswith("base is right, and gives the true class the most probability beyond what student")
    assert "first 3 of 3 such images among 5" in rule
    assert "with seed 7" in panels.at_random(AFTER, 2, seed=7).rule


def test_the_seed_draws_the_random_images():
    rows = table(0, 0.5)
    drawn = [panels.at_random(rows, seed=seed).ids for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert len(set(drawn[0])) == panels.COUNT
    assert len(panels.at_random(BEFORE, 99).ids) == 5


def test_panels_show_teacher_baseline_and_student(monkeypatch, tmp_path):
    told = tuple(weights.read_config(weights.BUNDLED / NAMES[0])["label_names"])
    pixels = np.random.default_rng(0).integers(0, 256, (12, 64, 64, 3), dtype=np.uint8)
    split = Split(told, tuple(f"i{n}" for n in range(12)), np.arange(12), Arrays(pixels))
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
    found = panels.panels(both, {"r20_kd_synthscenes": "r20_synthscenes"}, HERE)  # type: ignore[arg-type]
    (drawn,), (gain, loss) = found[""], found["r20_kd_synthscenes"]
    assert [len(panel.examples) for panel in (drawn, gain, loss)] == [3, 3, 0]
    assert [seen.role for seen in gain.examples[0].seen] == ["teacher", "baseline", "student"]
    assert [example.id for example in gain.examples] == ["i0", "i1", "i10"]  # of equals, the first
    with Image.open(io.BytesIO(base64.b64decode(gain.examples[0].seen[0].picture.partition(",")[2]))) as strip:
        assert strip.size == (3 * (panels.CELL + panels.GAP) - panels.GAP, panels.CELL)
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
    found = Tags()
    found.feed(text)
    return found


def test_nothing_of_the_page_is_anothers_markup(text):
    found = read(text)
    assert (found.tags.count("script"), found.handlers) == (2, [])
    assert "b" not in found.tags and "i" not in found.tags
    assert "&lt;script&gt;alert(" in text
    assert "&lt;i&gt;a note&lt;/i&gt; &amp; more" in text
    assert "&lt;b&gt;ValueError&lt;/b&gt;" in text


def test_the_page_asks_for_nothing(text):
    assert read(text).outside == []
    assert "url(" not in text and "@import" not in text
    assert not re.search(r"https?://", re.sub(r'<script type="application/json".*?</script>', "", text, flags=re.S))


def test_links_lead_somewhere_and_ids_are_one_of_a_kind(text):
    found = read(text)
    assert len(found.ids) == len(set(found.ids))
    assert {link.removeprefix("#") for link in found.links} <= set(found.ids)
    assert set(NAMES) <= set(found.ids)


def test_headings_come_in_order(text):
    levels = [int(tag[1]) for tag in read(text).tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))


def test_pictures_and_tables_are_named(text):
    images = re.findall(r"<img[^>]*>", text)
    assert images and all(re.search(r'alt="[^"]+"', image) for image in images)
    assert text.count("<table") == text.count("<caption>")


def test_the_data_cannot_end_its_script(text, records):
    told = re.search(r'<script type="application/json" id="page-data">(.*?)</script>', text, re.S)
    assert told is not None and "<" not in told[1]
    rows = {each["name"]: each["row"] for each in json.loads(told[1])["entries"]}
    assert rows == {each["name"]: each["row"] for each in records}
    assert json.loads(page.script_data({"a": "</script>\u2028&"})) == {"a": "</script>\u2028&"}


def test_numbers_of_the_page_are_those_of_the_rows(text, records):
    row = next(each["row"] for each in records if each["name"] == NAMES[2])
    section = re.search(rf'<section class="entry" id="{NAMES[2]}".*?</section>', text, re.S)
    assert section is not None
    told = dict(re.findall(r'data-figure="([\w.]+)" data-value="([-\d.e]+)"', section[0]))
    assert {name: float(value) for name, value in told.items()} == {name: row[name] for name in told}
    assert {"top1", "mca", "nll", "ece", "agreement", "skill.ssim", "skill.iou"} <= told.keys()
    line = re.search(rf'<tr data-words="{NAMES[2]} .*?</tr>', text, re.S)
    assert line is not None
    assert f'data-value="{row["top1"]}">{row["top1"]:.2f}' in line[0]
    assert f"{row['top1.low']:.2f}–{row['top1.high']:.2f}" in line[0]


def test_what_was_not_evaluated_is_listed_with_the_reason(text):
    absent = text[text.index('id="page-absent"') : text.index('id="page-reading"')]
    assert "r8_synthscenes" in absent and "no weights" in absent
    assert "r20_at_synthscenes" not in absent
    assert "4 entries evaluated, 1 not" in text


def test_reported_figures_have_a_column_of_their_own(results, records, monkeypatch):
    told = results[NAMES[2]]
    said = registry.get_entry("r18_dctkd_ade20k").reported
    entry = replace(told.entry, reported=said)
    monkeypatch.setattr(gather, "panels", lambda *given: {})
    monkeypatch.setattr(gather, "_training", lambda *given: np.array([5, 5, 5, 5]))
    found = page.render(gather.boards(records, {**results, NAMES[2]: replace(told, entry=entry)}, HERE), records)
    value = next(each.value for each in said if each.metric == "top1")
    assert f'<td class="reported" data-value="{value}">{value:.2f}<small>released' in found
    assert "protocol released</th>" in found


def test_an_entry_alone_and_none_at_all(results, records, monkeypatch):
    monkeypatch.setattr(gather, "panels", lambda *given: {})
    monkeypatch.setattr(gather, "_training", lambda *given: np.array([5, 5, 5, 5]))
    alone = page.render(gather.boards(records[:1], {NAMES[0]: results[NAMES[0]]}, HERE), records[:1], limit=96)
    assert "Students against" not in alone and "on 96 test images only" in alone
    assert "No entry was evaluated." in page.render((), records[-2:])


def test_accuracy_is_against_arithmetic_where_that_is_known(results, records, monkeypatch):
    monkeypatch.setattr(gather, "panels", lambda *given: {})
    monkeypatch.setattr(gather, "_training", lambda *given: np.array([5, 5, 5, 5]))
    known = {name: replace(result, cost=SimpleNamespace(macs=10**6)) for name, result in results.items()}
    (board,) = gather.boards(records, known, HERE)
    assert board.accuracy.title == "Accuracy against multiply-accumulates of an image"


@pytest.mark.parametrize("dark", [False, True])
def test_words_can_be_told_from_what_is_behind_them(dark):
    style = (page.HERE / "style.css").read_text(encoding="utf-8")
    pairs = re.findall(r"--(\w+): light-dark\((#\w{6}), (#\w{6})\)", style)
    colours = {name: luminance((light, other)[dark]) for name, light, other in pairs}
    assert len(colours) >= 16
    for behind in ("paper", "raised"):
        for name in ("ink", "dim", "accent", "good", "bad"):
            assert contrast(colours[name], colours[behind]) >= 4.5, (name, behind)
    for series in range(svg.SERIES):
        assert contrast(colours[f"c{series}"], colours["paper"]) >= 3


def luminance(colour: str) -> float:
    """Of a colour as WCAG 2 defines it."""
    shares = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [s / 12.92 if s <= 0.04045 else ((s + 0.055) / 1.055) ** 2.4 for s in shares]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(a: float, b: float) -> float:
    return (max(a, b) + 0.05) / (min(a, b) + 0.05)


def test_the_command_writes_the_page(monkeypatch, tmp_path, capsys, results):
    told = results[NAMES[2]]
    monkeypatch.setattr(command, "_evaluate", lambda entries, where: [Outcome(told.entry, Status.EVALUATED, told)])
    monkeypatch.setattr(gather, "panels", lambda *given: {})
    monkeypatch.setattr(gather, "_training", lambda *given: np.array([5, 5, 5, 5]))
    assert command.main([NAMES[2], "--device", "cpu", "--report", str(tmp_path / "new" / "folder")]) == 0
    written = (tmp_path / "new" / "folder" / "index.html").read_text(encoding="utf-8")
    assert NAMES[2] in written and "report: " in capsys.readouterr().out


def test_images_that_may_not_be_passed_on_stay_out(monkeypatch, tmp_path, capsys, results):
    told = results[NAMES[2]]
    monkeypatch.setattr(command, "_evaluate", lambda entries, where: [Outcome(told.entry, Status.EVALUATED, told)])
    monkeypatch.setattr(gather, "panels", lambda *given: pytest.fail("images were read"))
    monkeypatch.setattr(gather, "_training", lambda *given: np.array([5, 5, 5, 5]))
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
        found = re.search(r'<pre id="told">(.*?)</pre>', done.stdout, re.S)
        assert found is not None, done.stderr
        told = json.loads(html.unescape(found[1]))
        assert told["wrong"] == []
        assert "CONSOLE" not in done.stderr, done.stderr
        return told["told"]

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
    assert some[1] == "2 of 4 entries shown"
    assert none == [[], "0 of 4 entries shown"]
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
