"""Names of classes, files and networks that are markup somewhere: on a page, in a terminal and in a card just words."""

from __future__ import annotations

import io
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from rich.console import Console

from dctkd_zoo import registry
from dctkd_zoo.data import validate
from dctkd_zoo.errors import printable
from eval.cards.rendering import gather, render
from eval.pages.markdown import code, escape, table
from eval.report import collect, data
from eval.report import render as report_page
from eval.run import result_row, terminal, verify
from eval.run.attempt import Outcome, Status
from tests.eval import test_report as report

PARTS = (
    "<script>", "</script>", "<!--", "-->", '"', "'", "&", "&lt;", "<img src=x onerror=y>", " style=", "</td>", "a",
    " ", "[red]", "[/]",
    "[/red]", "[link=x]", ":smile:", "\x1b[31m", "\r", "\n", "\0", "|", "`", "\\", "*", "](", "{{ 7 }}",
    "{% raw %}", "\u2028", "\u202e", "ä",
)  # fmt: skip
WORDS = st.lists(st.sampled_from(PARTS), min_size=1, max_size=6).map("".join)
FEW = settings(max_examples=max(5, settings().max_examples // 20))  # each is a whole page
PICTURE = "data:image/jpeg;base64,AAAA"
NAMES = ("r56_synthscenes", "r20_dctkd_synthscenes")


class Skeleton(HTMLParser):
    """The elements of a page and the names of their attributes, in order, without any text; and all the text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, ...]] = []
        self.values: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, *(name for name, _ in attrs)))
        self.values += [value for _, value in attrs if value]

    def handle_endtag(self, tag):
        self.found.append((f"/{tag}",))

    def handle_comment(self, data):
        self.found.append(("comment",))

    def handle_pi(self, data):
        self.found.append(("instruction",))


def html(words: str) -> str:
    """The page of two entries in which whatever comes from data is these words; the fourth class is another."""
    names = (words, f"{words}2", f"{words}3", "plain")
    results = {n: report.result(n, report.table(seed, 0.7, seed > 0), names) for seed, n in enumerate(NAMES)}
    results = {name: replace(item, note=f"{words}: {words}") for name, item in results.items()}
    meta = [result_row.record(Outcome(item.entry, Status.EVALUATED, item)) for item in results.values()]
    lost = Outcome(registry.get_entry("r8_synthscenes"), Status.NO_DATA, None, words)
    broken = Outcome(registry.get_entry("r20_at_synthscenes"), Status.FAILED, None, words)
    seen = data.Seen("r20_synthscenes", words, words, False, 0.5, 3, PICTURE)
    panel = data.Panel("Random images", words, (data.Example(words, words, PICTURE, (seen,)),))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(collect, "panels", lambda ordered, baselines, where: {"": [panel], NAMES[1]: [panel]})
        patch.setattr(collect, "_training", lambda dataset, where: np.array([5, 50, 500, 500]))
        meta += [result_row.record(lost), result_row.record(broken)]
        return report_page.page(collect.from_results(meta, results, report.HERE))


@pytest.fixture(scope="module")
def plain() -> Skeleton:
    return Skeleton(html("words"))


@FEW
@given(WORDS)
def test_no_element_or_attribute_of_the_page_comes_from_data(plain, words):
    result = Skeleton(html(words))
    assert result.found == plain.found
    assert not [value for value in result.values if value.startswith(("javascript:", "http"))]


def shown(renderable: object) -> str:
    """What a terminal in colour gets."""
    console = Console(
        file=io.StringIO(), force_terminal=True, color_system="truecolor", width=400, legacy_windows=False
    )
    console.print(renderable)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@given(WORDS)
def test_the_leaderboard_shows_words_as_they_are(words):
    known = result_row.record(Outcome(registry.get_entry("r8_synthscenes"), Status.FAILED, None, words))
    alone = result_row.record(Outcome(registry.get_entry("r18_mit67"), Status.NO_DATA, None, f"{words}\nfetch it"))
    text = shown(terminal.render([known, alone, alone]))
    assert "\x1b]8" not in text and "\x1b[31m[" not in text
    for line in printable(words, keep="\n").splitlines():
        assert line.strip() in text


@given(WORDS)
def test_a_check_of_a_dataset_shows_names_as_they_are(words):
    finding = validate.Finding("error", "images that do not decode", (words,), 1)
    text = shown(validate.render(validate.Report("x", {"train": 1, "test": 1}, (finding,))))
    assert printable(words).strip() in text and "\x1b]8" not in text


@given(WORDS)
def test_a_verification_shows_what_was_recorded_as_it_is(words):
    entry = registry.get_entry("r20_synthscenes")
    checks = [verify.Check(words, words, words, words, ok=ok) for ok in (False, None)]
    text = shown(verify.render(verify.Verified(entry, checks, words)))
    assert text.count(printable(words).strip()) >= 4 and "\x1b]8" not in text


def test_an_error_shows_no_control_characters(tmp_path, capsys):
    from dctkd_zoo.__main__ import main

    assert main(["predict", "r20_synthscenes", "a.png", "--weights", "in\x1b[31m\udcff"]) == 1
    assert "in\\x1b[31m\\udcff: no config.json" in capsys.readouterr().err


def card(words: str) -> Skeleton:
    """The card of an entry in which whatever comes from data is these words, as a browser gets it."""
    known = gather(registry.get_entry("r18_mit67"), [])
    row = {
        "name": "r18_mit67",
        "dataset": "mit67",
        "protocol": "exact",
        "seed": "0",
        "n": "9",
        "top1": "5",
        "weights_sha256": "0",
    }
    row |= {"device": words, "note": words, "teacher": ""}
    dataset = replace(known.dataset, title=words, notes=words, license=words, url=words)
    text = render(replace(known, rows=(row,), dataset=dataset))
    return Skeleton(MarkdownIt("commonmark").enable("table").render(text.partition("\n---\n")[2]))


@given(WORDS)
def test_no_element_of_a_card_comes_from_data(words):
    result = card(f"w{words}w")
    assert result.found == card("w").found
    assert not [value for value in result.values if value.startswith("javascript:")]


@given(WORDS)
def test_any_words_are_one_cell_of_a_table(words):
    result = Skeleton(MarkdownIt("commonmark").enable("table").render(table(("a", "b"), [(words, code(words))]))).found
    assert [item[0] for item in result].count("td") == 2 and [item[0] for item in result].count("tr") == 2
    assert {item[0].strip("/") for item in result} <= {"table", "thead", "tbody", "tr", "th", "td", "code"}
    plain = Skeleton(MarkdownIt("commonmark").render(f"w{escape(words)}w")).found
    assert plain == [("p",), ("/p",)]
