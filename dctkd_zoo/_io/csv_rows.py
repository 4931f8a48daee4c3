"""CSV files as rows of dicts; errors name the line of a damaged file."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from dctkd_zoo.errors import CorruptFile

Numbered = list[tuple[int, dict[str, str]]]
END = "\r\n"  # makes csv quote cells with either character; the lines written end in \n
FORMULA = re.compile(r"'*[=+\-@\t\r]")  # start of a cell that a spreadsheet runs as a formula, also after our quote
NUMBER = re.compile(r"[+-]?\d+(\.\d+)?(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)


def as_csv(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    """Return rows as CSV text, one line each; a cell that a row lacks is empty.

    Text that a spreadsheet would run as a formula gets a leading quote, which `read` removes.
    """
    return "".join(as_lines(columns, rows))


def as_lines(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Yield the header and then each row as it comes, as lines of `as_csv`."""
    lines: list[str] = []
    writer = csv.writer(SimpleNamespace(write=lines.append), lineterminator=END)
    for row in chain([dict(zip(columns, columns, strict=True))], rows):
        writer.writerow([_escaped(row.get(name, "")) for name in columns])
        yield f"{lines.pop().removesuffix(END)}\n"


def _escaped(cell: Any) -> Any:
    if isinstance(cell, str) and FORMULA.match(cell) and not NUMBER.fullmatch(cell):
        return f"'{cell}"
    return cell


def _unescaped(cell: str) -> str:
    return cell[1:] if cell.startswith("'") and FORMULA.match(cell) else cell


def read(path: Path, expected: Collection[str], way_on: str) -> Numbered:
    """Read the rows of a CSV file by column, each with the number of its last line; blank lines are skipped.

    `CorruptFile`, which ends with `way_on`, if the header repeats a column or lacks one of `expected`, a row has
    another number of fields, the last line is not terminated, or the file is not CSV in UTF-8.
    """
    line = 1
    try:
        text = path.read_bytes().decode()
        reader = csv.reader(io.StringIO(text, newline=""), strict=True)
        header = [*map(_unescaped, next(reader, []))]
        _check(path, header, expected, way_on)
        rows: Numbered = []
        for cells in reader:
            line = reader.line_num
            if cells and len(cells) != len(header):
                counts = f"{len(cells):,} fields, but the header has {len(header):,}"
                raise CorruptFile(f"{path}, line {line:,}: {counts}: the file was truncated or edited: {way_on}")
            rows += [(line, dict(zip(header, map(_unescaped, cells), strict=True)))] if cells else []
    except (csv.Error, UnicodeDecodeError) as error:
        raise CorruptFile(f"{path}, after line {line:,}: not CSV in UTF-8 ({error}): {way_on}") from error
    if not text.endswith("\n"):
        raise CorruptFile(f"{path}, line {line:,}: it is not terminated: the file was truncated: {way_on}")
    return rows


def _check(path: Path, header: list[str], expected: Collection[str], way_on: str) -> None:
    repeated = [name for name, count in Counter(header).items() if count > 1 or not name]
    missing = [name for name in expected if name not in header]
    if repeated or missing:
        what = f"repeated or empty column {repeated[0]!r}" if repeated else f"no column {', '.join(missing)}"
        raise CorruptFile(f"{path}, line 1: {what}: {way_on}")
