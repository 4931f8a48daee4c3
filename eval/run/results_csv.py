"""Reading and writing of `eval/results.csv`, with one row per evaluated network, and JSON output."""

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

# The columns before and after the metrics, which are in natural order.
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
# Columns of text; all others hold numbers, those in WHOLE whole numbers.
WORDS = {"name", "dataset", "protocol", "weights_sha256", "weights_origin", "teacher", "teacher_sha256"} | {
    "dataset_digest", "trained_on", "device", "precision", "torch", "timm", "dctkd_zoo", "selected", "date", "note",
}  # fmt: skip
WHOLE = {"seed", "n", "failed", "teacher_cache", "best_epoch", "parameters", "limit"}
DUE = ("name", "dataset", "protocol", "n", "top1")  # required in every row
DIGITS = re.compile(r"-?[0-9]{1,18}")
NUMBER = re.compile(r"-?[0-9]{1,300}(\.[0-9]{1,300})?(e[+-]?[0-9]{1,2})?|nan")  # nan: no images, or chance is best
WAY_ON = (
    "restore the file from version control, or delete the line and measure it again with `python -m eval NAME --write`"
)

Row = Mapping[str, Any]
Key = tuple[str, ...]


def read(path: Path) -> list[dict[str, str]]:
    """Return the rows of a results file as text; no rows if the file does not exist yet.

    Raises `CorruptFile`, with the line, for an incomplete line, a cell of the wrong type or a duplicate key. Unknown
    columns are preserved, except the `sha256` of a row that earlier versions wrote.
    """
    if not path.exists():
        return []
    first: dict[Key, int] = {}
    result = []
    for line, row in csv_rows.read(path, HEAD, WAY_ON):
        row.pop("sha256", None)
        wrong = fault(row)
        if not wrong and first.setdefault(key(row), line) != line:
            wrong = (
                f"duplicate of line {first[key(row)]}: {row['name']}, protocol {row['protocol']}, seed {row['seed']!r}"
            )
        if wrong:
            raise CorruptFile(f"{path}, line {line}: {wrong}: {WAY_ON.replace('NAME', row['name'] or 'NAME')}")
        result.append(row)
    return result


def fault(row: Mapping[str, str]) -> str:
    """Return what is wrong with a row of a results file, nothing if it is valid."""
    for name in DUE:
        if not row.get(name):
            return f"{name} is missing"
    for name, value in row.items():
        pattern = DIGITS if name in WHOLE else NUMBER
        if value and name not in WORDS and not pattern.fullmatch(value):
            return f"{name} is {value[:40]!r}, not a {'whole ' if name in WHOLE else ''}number"
    return ""


def write(new: Iterable[Row], path: Path) -> None:
    """Write rows into a results file; each replaces the row of the same name, protocol, seed and number of views.

    A lock makes concurrent writers wait for each other. A file that `read` refuses is left as it is.
    """
    with lock.held(path):
        rows = {key(row): row for row in read(path)}
        rows |= {key(row): row for row in map(as_text, new)}
        atomic.write_text(path, as_csv([rows[item] for item in sorted(rows, key=order)]))


def key(row: Mapping[str, str]) -> Key:
    """Return the key of a row, which is unique in a results file: name, protocol, seed and number of cached views."""
    return row["name"], row["protocol"], row["seed"], row.get("teacher_cache", "")


def order(key: Key) -> list[list[tuple[int, str]]]:
    """Return the sort key of a row: by name (r8 before r18), protocol, seed and views."""
    return [registry.natural_key(part) for part in key]


def as_text(row: Row) -> dict[str, str]:
    """Return a row as text for CSV: unknown values are empty, numbers that are not finite are `nan`."""
    return {name: "" if value is None else _cell(value) for name, value in row.items()}


def _cell(value: Any) -> str:
    if isinstance(value, float) and not math.isfinite(value):
        return "nan"
    return str(value).encode(errors="backslashreplace").decode()  # a path may hold bytes that are not UTF-8


def as_csv(rows: Iterable[Mapping[str, str]]) -> str:
    """Return rows as CSV, with a column for each metric that any of them has."""
    plain = [{name: line for name, value in row.items() if (line := " ".join(value.split()))} for row in rows]
    metrics = {name for row in plain for name in row} - {*HEAD, *TAIL}
    columns = [*HEAD, *sorted(metrics, key=registry.natural_key), *TAIL]
    return csv_rows.as_csv(columns, plain)


def as_json(document: Any, ascii: bool = False) -> str:
    """Return a document as JSON, in pure ASCII on request; numbers that are not finite become null."""
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
