"""Cache of per-image tables, keyed by weights, data, device and code."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pandas.api.types import is_numeric_dtype

import dctkd_zoo
from dctkd_zoo import teacher_cache
from dctkd_zoo._io import atomic, hashing, json_file
from dctkd_zoo.errors import reason_of

log = logging.getLogger(__name__)

LIBRARY, SOURCES = Path(dctkd_zoo.__file__).parent, Path(__file__).parents[1]
LOSSES = ("losses/*.py",)  # in addition to the code that makes outputs, which is in `teacher_cache.made_by`
TABLE = ("run/evaluation.py", "run/per_image.py", "metrics/*.py", "stats/skill.py")
INTERVALS = ("run/cache.py", "metrics/*.py", "stats/*.py")
STATISTICS = ("numpy", "pandas", "scipy")

Intervals = dict[str, tuple[float, float]]


@dataclass(frozen=True)
class CachedTable:
    """A table with a row per image, metrics of all images together, and JSON-compatible facts of the measurement."""

    table: pd.DataFrame
    together: Mapping[str, float]
    facts: Mapping[str, Any]


def cache_path(facts: Mapping[str, Any], cache: Path) -> Path:
    """Return the file of a measurement; other weights, images, device or code give another file."""
    key = json.dumps([*code_hash(), dctkd_zoo.__version__, facts], sort_keys=True)
    return cache / "tables" / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.npz"


@cache
def code_hash() -> tuple[str, ...]:
    """Return hashes of the code that makes a table: data sources, views, networks, losses, metrics and libraries."""
    return (*teacher_cache.made_by(), hashing.of_files(LIBRARY, LOSSES), hashing.of_files(SOURCES, TABLE))


def intervals(path: Path, make: Callable[[], Intervals]) -> Intervals:
    """Return what `make` makes of the measurement in the file `path`, from a file next to it if it is there.

    Another measurement, other code of statistics or other versions of its libraries give another file.
    """
    try:
        digest = hashing.sha256(path)
    except OSError:  # it could not be written
        return make()
    facts = [digest, hashing.of_files(SOURCES, INTERVALS), *map(version, STATISTICS)]
    kept = path.parent.with_name("intervals") / f"{hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:32]}.json"
    return {name: (low, high) for name, (low, high) in json_file.kept(kept, make, "the intervals").items()}


def write(measured: CachedTable, path: Path) -> None:
    """Write a measurement atomically."""
    meta = {"together": dict(measured.together), "facts": dict(measured.facts)}
    arrays: dict[str, Any] = {"told": np.array(json.dumps(meta))}
    for name, values in measured.table.items():
        # Text as numpy strings, because an array of objects would be pickled.
        arrays[f"column {name}"] = values.to_numpy() if is_numeric_dtype(values) else values.to_numpy(str)
    with atomic.replacing(path) as temporary:
        np.savez_compressed(temporary, **arrays)


def read(path: Path) -> CachedTable | None:
    """Read a measurement; None if there is no file or if it is damaged, so that the entry is measured again."""
    if not path.exists():
        return None
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            meta = json.loads(str(file["told"]))
            together, facts = dict(meta["together"]), dict(meta["facts"])
            names = [name for name in file.files if name.startswith("column ")]
            table = pd.DataFrame({name.removeprefix("column "): file[name] for name in names})
    except Exception as error:  # damaged bytes can make the readers raise anything
        log.warning("%s is damaged (%s): measuring again", path, reason_of(error))
        return None
    return CachedTable(table, together, facts)
