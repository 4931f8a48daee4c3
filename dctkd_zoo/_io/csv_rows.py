"""Rows to the text of a CSV file, and back; whatever is no such file to an error that names the line."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from dctkd_zoo.errors import CorruptFile

Numbered = list[tuple[int, dict[str, str]]]
END = "\r\n"  # what csv puts cells into quotes for; our lines end as those of any text
FORMULA = re.compile(r"'*[=+\-@\t\r]")  # how what a spreadsheet takes for one begins, also behind our quote
NUMBER = re.compile(r"[+-]?\d+(\.\d+)?(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)


def as_csv(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    """Rows as CSV, a line each; of a column that a row lacks the cell is empty.

    Words that a spreadsheet would run as a formula get a quote before them, which `read` takes away again.
    """
    lines: list[str] = []
    writer = csv.writer(SimpleNamespace(write=lines.append), lineterminator=END)
    writer.writerow(map(_inert, columns))
    writer.writerows([_inert(row.get(name, "")) for name in columns] for row in rows)
    return "".join(f"{line.removesuffix(END)}\n" for line in lines)


def _inert(cell: Any) -> Any:
    if isinstance(cell, str) and FORMULA.match(cell) and not NUMBER.fullmatch(cell):
        return f"'{cell}"
    return cell


def _told(cell: str) -> str:
    return cell[1:] if cell.startswith("'") and FORMULA.match(cell) else cell


def read(path: Path, expected: Collection[str], way_on: str) -> Numbered:
    """The rows of a CSV file by column, each with the number of its last line; blank lines are none.

    `CorruptFile`, which ends with the `way_on`, where the first line does not name each of its columns once and those
    of `due` among them, a row has another number of fields, the last line no end, or the file is not CSV in UTF-8.
    """
    line = 1
    try:
        text = path.read_bytes().decode()
        reader = csv.reader(io.StringIO(text, newline=""), strict=True)
        header = [*map(_told, next(reader, []))]
        _check(path, header, expected, way_on)
        rows: Numbered = []
        for cells in reader:
            line = reader.line_num
            if cells and len(cells) != len(header):
                meta = f"{len(cells):,} fields, the first line names {len(header):,}"
                raise CorruptFile(f"{path}, line {line:,}: {meta}: the file was torn or edited: {way_on}")
            rows += [(line, dict(zip(header, map(_told, cells), strict=True)))] if cells else []
    except (csv.Error, UnicodeDecodeError) as error:
        raise CorruptFile(f"{path}, after line {line:,}: no CSV in UTF-8 ({error}): {way_on}") from error
    if not text.endswith("\n"):
        raise CorruptFile(f"{path}, line {line:,}: it has no end: the file was torn: {way_on}")
    return rows


def _check(path: Path, header: list[str], expected: Collection[str], way_on: str) -> None:
    doubled = [name for name, count in Counter(header).items() if count > 1 or not name]
    lost = [name for name in expected if name not in header]
    if doubled or lost:
        what = f"names {doubled[0]!r} twice or not at all" if doubled else f"does not name {', '.join(lost)}"
        raise CorruptFile(f"{path}, line 1: it {what}: {way_on}")
