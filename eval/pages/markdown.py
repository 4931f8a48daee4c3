"""Escaping of plain text for Markdown, so that no name opens a link, a tag or a table cell; tables and lists."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence

SPECIAL = re.compile(r"[\\`*_\[\]~#$@!]|^(?:[-+=]|\d+(?=[.)](?: |$)))")
ADDRESS = re.compile(r"https?://[\w.~:/?#@!$&'*+,;=%-]+")


class Markdown(str):
    """Text that is Markdown already; all other text is escaped."""

    __slots__ = ()


def escape(value: object) -> Markdown:
    """Return anything as inline text; Markdown is left as it is."""
    if isinstance(value, Markdown):
        return value
    return Markdown(SPECIAL.sub(_escaped, html.escape(_line(value), quote=False)))


def _line(value: object) -> str:
    return " ".join(str(value).split())


def _escaped(match: re.Match[str]) -> str:
    """Return punctuation with a backslash before it, a digit with one after it (`1.` or `1)` would begin a list)."""
    return f"{match[0]}\\" if match[0].isdigit() else f"\\{match[0]}"


def code(value: object) -> Markdown:
    """Return anything as a code span, in which nothing is markup."""
    text = _line(value)
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", text)), default=0))
    pad = " " if text.startswith("`") or text.endswith("`") else ""
    return Markdown(f"{fence}{pad}{text}{pad}{fence}" if text else "–")


def verbatim(value: object) -> Markdown:
    """Return anything as one line of a code block, or as a path."""
    return Markdown(_line(str(value).replace("`", "")))


def listed(values: Iterable[object], most: int) -> Markdown:
    """Return values as code spans separated by commas; of more than `most`, the first ones and the number of others."""
    spans = [code(value) for value in values]
    rest = f" and {len(spans) - most:,} more" if len(spans) > most else ""
    return Markdown(", ".join(spans[:most]) + rest)


def link(address: str) -> Markdown:
    """Return an address as a link, or as code if it is not a web address."""
    return Markdown(f"<{address}>") if ADDRESS.fullmatch(address) else code(address)


def table(header: Sequence[object], rows: Iterable[Sequence[object]], numbers: int = 0) -> Markdown:
    """Return a table whose last `numbers` columns are right-aligned, with no line breaks in their cells."""
    words = len(header) - numbers
    marks = [Markdown(mark) for mark in ["---"] * words + ["---:"] * numbers]
    lines = [[*row[:words], *map(unbroken, row[words:])] for row in rows]
    return Markdown("\n".join(f"| {' | '.join(map(_cell, line))} |" for line in (header, marks, *lines)))


def unbroken(value: object) -> Markdown:
    """Return anything as inline text without line breaks."""
    return Markdown(escape(value).replace(" ", "\N{NO-BREAK SPACE}"))


def _cell(value: object) -> str:
    return escape(value).replace("|", "\\|")
