"""Log and JSON files that training leaves next to a network; `CorruptFile` if one is damaged."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from dctkd_zoo._io import csv_rows, json_file
from dctkd_zoo.errors import CorruptFile

RECIPE, ENVIRONMENT, LOG, RESULTS = "recipe.json", "environment.json", "train_log.csv", "results.json"
BEST, ERROR = "best.safetensors", "error.txt"
WAY_ON = "copy it again, or delete it to do without"


def read_log(folder: Path) -> list[dict[str, str]]:
    """Read the rows of `train_log.csv` as text, checked to be numbers or empty; no rows if there is no such file."""
    path = folder / LOG
    result = csv_rows.read(path, ("epoch", "test_top1", "images_per_s"), WAY_ON) if path.is_file() else []
    for line, row in result:
        wrong = next((name for name, value in row.items() if not _is_number(name, value)), None)
        if wrong:
            raise CorruptFile(f"{path}, line {line}: {wrong} is {row[wrong]!r:.60}, not a number: {WAY_ON}")
    return [row for _, row in result]


def _is_number(name: str, value: str) -> bool:
    try:
        return (name == "test_top1" and not value) or math.isfinite(int(value) if name == "epoch" else float(value))
    except (ValueError, OverflowError):
        return False


def read_facts(path: Path) -> dict[str, Any]:
    """Read the object in a JSON file; empty if there is no such file."""
    return json_file.read_object(path, CorruptFile, WAY_ON) if path.is_file() else {}
