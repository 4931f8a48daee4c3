"""Text to Markdown and, by another's parser, back."""

from __future__ import annotations

import pytest
from markdown_it import MarkdownIt

from eval.pages.markdown import code, escape, link, listed, table, verbatim

PARSER = MarkdownIt("commonmark").enable(["table", "strikethrough"])
AWKWARD = (
    'a</td><script>alert(1)</script>[x](javascript:y) *b* `c` | d ![e](f) <img src=g> &amp; "h"',
    "# x",
    "- x",
    "+ x",
    "=== x",
    "12. x",
    "3) x",
    "3.",
    "a_b_c __d__",
    "x\n\ny",
    "~~x~~ ~y~",
    "<https://example.org>",
    "\\",
    "`` ` ```",
    "`",
    "",
)


def read(markdown: str, kinds: tuple[str, ...]) -> str:
    """The text that a paragraph shows, made of inline tokens of these kinds alone."""
    tokens = PARSER.parse(f"{markdown}\n")
    assert [token.type for token in tokens] in (["paragraph_open", "inline", "paragraph_close"], [])
    inline = [token for item in tokens if item.type == "inline" for token in item.children or ()]
    assert {token.type for token in inline} <= set(kinds)
    return "".join(token.content for token in inline)


@pytest.mark.parametrize("text", AWKWARD)
def test_escaped_text_is_read_as_it_was(text):
    assert read(escape(text), ("text", "text_special")) == " ".join(text.split())


@pytest.mark.parametrize("text", AWKWARD)
def test_code_is_read_as_it_was(text):
    assert read(code(text), ("code_inline", "text")) in (" ".join(text.split()), "\N{EN DASH}")


@pytest.mark.parametrize("text", AWKWARD)
def test_a_cell_stays_one_cell(text):
    html = PARSER.render(table(("a", "b", "c"), [(text, code(text), text)], numbers=1))
    assert (html.count("<td"), html.count("<tr>"), html.count("<th")) == (3, 2, 4)  # thead is one of four
    assert "<script" not in html
    assert "<a " not in html


def test_plain_words_and_numbers_are_left_alone():
    for text in ("0.25", "1,055", "15-Scene (2006): grey", "86.19 ± 1.34", "it's 3. of them"):
        assert escape(text) == text
    assert escape(0.25) == "0.25"
    assert escape(escape("*")) == "\\*", "what is escaped is not escaped again"


def test_only_web_addresses_become_links():
    assert link("https://example.org/a_b?c=d#e") == "<https://example.org/a_b?c=d#e>"
    for address in ("javascript:alert(1)", "https://x/ <script>", "https://x>y", "file:///etc", "unknown"):
        assert PARSER.render(link(address)).count("<a ") == 0


def test_long_lists_are_counted():
    assert listed("abc", 3) == "`a`, `b`, `c`"
    assert listed("abcde", 3) == "`a`, `b`, `c` and 2 more"


def test_a_line_of_a_code_block_cannot_end_it():
    assert verbatim("a\n```\nb") == "a b"
