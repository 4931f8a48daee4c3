"""Log, recipe and facts that training leaves next to a network; `CorruptFile` if one is damaged."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from dctkd_zoo._io import csv_rows, json_file
from dctkd_zoo.errors import CorruptFile
from dctkd_zoo.recipe import SELECTS
from dctkd_zoo.spec import Entry, Recipe

RECIPE, ENVIRONMENT, LOG, RESULTS = "recipe.json", "environment.json", "train_log.csv", "results.json"
BEST, ERROR = "best.safetensors", "error.txt"
GRAD_NORM = "grad_norm"
TOP1 = ("val_top1", "test_top1")  # columns of the log: accuracy on the images that epochs are judged by
NOT_LOSSES = ("epoch", *TOP1, "lr", "images_per_s", GRAD_NORM)
# Epoch of a network's weights, by the `select` of its recipe.
SELECTED = {"last": "last epoch", "val": "best epoch on val", "released": "last epoch"}
LOCAL = "local-dir:"
PATH = re.compile(rf"{LOCAL}.*[/\\]|[/~]|[A-Za-z]:[/\\]")  # start of a path on a machine
WAY_ON = "copy it again, or delete it to do without"


def portable(value: Any) -> Any:
    """Return a value that can leave this machine: paths in it become their last folder and a hash of the whole."""
    match value:
        case dict():
            return {name: portable(part) for name, part in value.items()}
        case list() | tuple():
            return [portable(part) for part in value]
        case str() if PATH.match(value):
            prefix = LOCAL if value.startswith(LOCAL) else ""
            last = value.removeprefix(prefix).replace("\\", "/").rstrip("/").rpartition("/")[2]
            return f"{prefix}{last}@{hashlib.sha256(value.encode(errors='surrogateescape')).hexdigest()[:8]}"
    return value


def recipe_differences(folder: Path, entry: Entry) -> list[str]:
    """Return how the recipe in a folder's `recipe.json` differs from an entry's, `epochs 1 instead of 20`.

    Only what is recorded counts, and not the seed, which has a run of its own.
    """
    recorded = read_facts(folder / RECIPE).get("recipe")
    if not isinstance(recorded, Mapping):
        return []
    defaults = {item.name: item.metadata["later"] for item in fields(Recipe) if "later" in item.metadata}
    there, here = ({**defaults, **recipe} for recipe in (recorded, entry.to_dict()["recipe"]))
    pairs = ((name, *map(portable, (there[name], here.get(name)))) for name in sorted(there) if name != "seed")
    return [f"{name} {actual} instead of {expected}" for name, actual, expected in pairs if actual != expected]


def read_log(folder: Path) -> list[dict[str, str]]:
    """Read the rows of `train_log.csv` as text, checked to be numbers or empty; no rows if there is no such file."""
    path = folder / LOG
    result = csv_rows.read(path, ("epoch", "images_per_s"), WAY_ON) if path.is_file() else []
    for line, row in result:
        wrong = next((name for name, value in row.items() if not _is_number(name, value)), None)
        if wrong:
            raise CorruptFile(f"{path}, line {line}: {wrong} is {row[wrong]!r:.60}, not a number: {WAY_ON}")
    return [row for _, row in result]


def judged(log: Iterable[Mapping[str, str]]) -> list[tuple[int, float]]:
    """Return the epochs of a log whose accuracy was measured, each with that in percent."""
    return [(int(row["epoch"]), float(row[name])) for row in log for name in TOP1 if row.get(name)]


def selection(folder: Path) -> str:
    """Return how the epoch of a trained network was chosen: a recipe's `select`."""
    recipe = read_facts(folder / RECIPE).get("recipe")
    chosen = recipe.get("select", "last") if isinstance(recipe, Mapping) else "last"
    return chosen if chosen in SELECTS else "last"


def _is_number(name: str, value: str) -> bool:
    try:
        return (name in TOP1 and not value) or math.isfinite(int(value) if name == "epoch" else float(value))
    except (ValueError, OverflowError):
        return False


def read_facts(path: Path) -> dict[str, Any]:
    """Read the object in a JSON file; empty if there is no such file."""
    return json_file.read_object(path, CorruptFile, WAY_ON) if path.is_file() else {}
