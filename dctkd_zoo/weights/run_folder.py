"""What training left beside a network, its log and facts, to rows and objects; `CorruptFile` for what is neither."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from dctkd_zoo._io import csv_rows, json_file
from dctkd_zoo.errors import CorruptFile

WAY_ON = "copy it again, or delete it to go without"


def read_log(folder: Path) -> list[dict[str, str]]:
    """The rows of `train_log.csv` as text, all of them finite numbers or empty; none where there is no such file."""
    path = folder / "train_log.csv"
    result = csv_rows.read(path, ("epoch", "test_top1", "images_per_s"), WAY_ON) if path.is_file() else []
    for line, row in result:
        wrong = next((name for name, value in row.items() if not _is_number(name, value)), None)
        if wrong:
            raise CorruptFile(f"{path}, line {line}: {wrong} is {row[wrong]!r:.60}, no number: {WAY_ON}")
    return [row for _, row in result]


def _is_number(name: str, value: str) -> bool:
    try:
        return (name == "test_top1" and not value) or math.isfinite(int(value) if name == "epoch" else float(value))
    except (ValueError, OverflowError):
        return False


def read_facts(path: Path) -> dict[str, Any]:
    """The object in a JSON file; empty where there is no such file."""
    return json_file.read_object(path, CorruptFile, WAY_ON) if path.is_file() else {}
