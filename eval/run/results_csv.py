"""Rows, one per entry, to the CSV and JSON files that keep them, and back."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from dctkd_zoo import registry
from dctkd_zoo._io import atomic, csv_rows, lock
from dctkd_zoo.errors import CorruptFile

RESULTS = Path(__file__).parents[1] / "results.csv"

# The columns before and after the figures, which stand in natural order.
HEAD = ("name", "dataset", "protocol", "seed", "n", "failed")
TAIL = (
    "teacher_cache",
    "trained_on",
    "best_top1",
    "best_epoch",
    "macs",
    "latency_ms",
    "latency_p95_ms",
    "images_per_s",
    "peak_mib",
    "parameters",
    "weights_sha256",
    "weights_origin",
    "teacher",
    "teacher_sha256",
    "dataset_digest",
    "device",
    "precision",
    "torch",
    "timm",
    "dctkd_zoo",
    "selected",
    "limit",
    "date",
    "note",
)
# Columns of words; all others hold numbers, these of them whole ones.
WORDS = {"name", "dataset", "protocol", "weights_sha256", "weights_origin", "teacher", "teacher_sha256"} | {
    "dataset_digest", "trained_on", "device", "precision", "torch", "timm", "dctkd_zoo", "selected", "date", "note",
}  # fmt: skip
WHOLE = {"seed", "n", "failed", "teacher_cache", "best_epoch", "parameters", "limit"}
DUE = ("name", "dataset", "protocol", "n", "top1")  # what no row lacks
DIGITS = re.compile(r"-?[0-9]{1,18}")
NUMBER = re.compile(r"-?[0-9]{1,300}(\.[0-9]{1,300})?(e[+-]?[0-9]{1,2})?|nan")  # nan: of no image, or chance is best
WAY_ON = (
    "restore the file from version control, or take the line out and measure it again with "
    "`python -m eval NAME --write`"
)

Row = Mapping[str, Any]
Key = tuple[str, ...]


def read(path: Path) -> list[dict[str, str]]:
    """Return the rows of a results file as text; none if there is no such file yet.

    `CorruptFile` names the line that is torn, whose cells are not what their columns hold, or that has the key of
    another. Columns that this version does not know are kept, but for the `sha256` of a row that earlier ones wrote.
    """
    if not path.exists():
        return []
    first: dict[Key, int] = {}
    result = []
    for line, row in csv_rows.read(path, HEAD, WAY_ON):
        row.pop("sha256", None)
        wrong = fault(row)
        if not wrong and first.setdefault(key(row), line) != line:
            wrong = f"line {first[key(row)]} is {row['name']}, protocol {row['protocol']}, seed {row['seed']!r} too"
        if wrong:
            raise CorruptFile(f"{path}, line {line}: {wrong}: {WAY_ON.replace('NAME', row['name'] or 'NAME')}")
        result.append(row)
    return result


def fault(row: Mapping[str, str]) -> str:
    """What is wrong with a row of a results file, if anything."""
    for name in DUE:
        if not row.get(name):
            return f"there is no {name}"
    for name, value in row.items():
        pattern = DIGITS if name in WHOLE else NUMBER
        if value and name not in WORDS and not pattern.fullmatch(value):
            return f"{name} is {value[:40]!r}, no {'whole ' if name in WHOLE else ''}number"
    return ""


def write(new: Iterable[Row], path: Path) -> None:
    """Put rows into a results file: each takes the place of the one of the same name, protocol, seed and views.

    Of several processes that do, one waits for the other. A file that `read` refuses stays as it is.
    """
    with lock.held(path):
        kept = {key(known): known for known in read(path)}
        kept |= {key(row): row for row in map(as_text, new)}
        atomic.write_text(path, as_csv([kept[item] for item in sorted(kept, key=order)]))


def key(row: Mapping[str, str]) -> Key:
    """What no two rows of a results file share."""
    return row["name"], row["protocol"], row["seed"], row.get("teacher_cache", "")


def order(key: Key) -> list[list[tuple[int, str]]]:
    """The place of a row: by name, r8 before r18, then by protocol, seed and views."""
    return [registry.natural_key(part) for part in key]


def as_text(row: Row) -> dict[str, str]:
    """The row as a CSV file holds it: what is unknown is empty, a figure that is not finite `nan`."""
    return {name: "" if value is None else _cell(value) for name, value in row.items()}


def _cell(value: Any) -> str:
    if isinstance(value, float) and not math.isfinite(value):
        return "nan"
    return str(value).encode(errors="backslashreplace").decode()  # a path may hold bytes that are no letters


def as_csv(told: Iterable[Mapping[str, str]]) -> str:
    """Return rows as CSV, a line each, with a column for each figure that any of them has."""
    plain = [{name: line for name, value in row.items() if (line := " ".join(value.split()))} for row in told]
    figures = {name for row in plain for name in row} - {*HEAD, *TAIL}
    columns = [*HEAD, *sorted(figures, key=registry.natural_key), *TAIL]
    return csv_rows.as_csv(columns, plain)


def as_json(document: Any, ascii: bool = False) -> str:
    """A document as JSON, in `ascii` alone if asked; what is not a number is null, since JSON has no word for it."""
    return json.dumps(_finite(document), indent=2, allow_nan=False, ensure_ascii=ascii) + "\n"


def _finite(value: Any) -> Any:
    match value:
        case float():
            return value if math.isfinite(value) else None
        case dict():
            return {name: _finite(inner) for name, inner in value.items()}
        case list() | tuple():
            return [_finite(inner) for inner in value]
    return value
