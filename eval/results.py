"""Rows, one per entry, to the CSV and JSON files that keep them, and back."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from dctkd_zoo import atomic, registry

RESULTS = Path(__file__).parent / "results.csv"

# The columns before and after the figures, which stand in natural order.
HEAD = ("name", "dataset", "protocol", "seed", "n", "failed")
TAIL = (
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

Row = Mapping[str, Any]
Key = tuple[str, ...]


def read(path: Path) -> list[dict[str, str]]:
    """The rows of a results file as text; none where there is no file yet."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def write(rows: Iterable[Row], path: Path) -> None:
    """Put rows into a results file: each takes the place of the one of the same name, protocol and seed."""
    kept = {key(known): known for known in read(path)}
    kept |= {key(new): new for new in map(as_text, rows)}
    atomic.write_text(path, as_csv([kept[each] for each in sorted(kept, key=order)]))


def key(row: Mapping[str, str]) -> Key:
    """What no two rows of a results file share."""
    return row["name"], row["protocol"], row["seed"]


def order(key: Key) -> list[list[str | int]]:
    """The place of a row: by name, r8 before r18, then by protocol and seed."""
    return [registry.natural(part) for part in key]


def as_text(row: Row) -> dict[str, str]:
    """The row as a CSV file holds it; what is unknown is empty."""
    return {name: "" if value is None else str(value) for name, value in row.items()}


def as_csv(rows: list[dict[str, str]]) -> str:
    """Rows as CSV, with a column for each figure that any of them has."""
    figures = {name for row in rows for name in row} - {*HEAD, *TAIL}
    columns = [*HEAD, *sorted(figures, key=registry.natural), *TAIL]
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def figure(row: Row, columns: Iterable[str], decimals: int) -> str:
    """The first of some columns that the row has, rounded, or a dash."""
    value = next((row[name] for name in columns if row.get(name) not in (None, "")), None)
    return "–" if value is None else f"{float(value):.{decimals}f}"


def as_json(document: Any) -> str:
    """A document as JSON; what is not a number is null, since JSON has no word for it."""
    return json.dumps(_finite(document), indent=2, allow_nan=False, ensure_ascii=False) + "\n"


def _finite(value: Any) -> Any:
    match value:
        case float():
            return value if math.isfinite(value) else None
        case dict():
            return {name: _finite(inner) for name, inner in value.items()}
        case list() | tuple():
            return [_finite(inner) for inner in value]
    return value
