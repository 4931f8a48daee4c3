"""What was measured of an entry, on disk: found again by all that it depends on, so that nothing is measured twice."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pandas.api.types import is_numeric_dtype

import dctkd_zoo
from dctkd_zoo import teacher_cache
from dctkd_zoo._io import atomic, hashing
from dctkd_zoo.errors import reason_of

log = logging.getLogger(__name__)

LIBRARY, SOURCES = Path(dctkd_zoo.__file__).parent, Path(__file__).parents[1]
LOSSES = ("losses/*.py",)  # beside what makes an output, which `teacher_cache.made_by` tells
TABLE = ("run/evaluation.py", "run/per_image.py", "metrics/*.py", "stats/skill.py")


@dataclass(frozen=True)
class CachedTable:
    """A row per image, figures of all images together, and facts of the measurement that JSON can hold."""

    table: pd.DataFrame
    together: Mapping[str, float]
    facts: Mapping[str, Any]


def cache_path(facts: Mapping[str, Any], cache: Path) -> Path:
    """Where a measurement of these facts lies; other weights, images, device or code are another place."""
    meta = json.dumps([*code_hash(), dctkd_zoo.__version__, facts], sort_keys=True)
    return cache / "tables" / f"{hashlib.sha256(meta.encode()).hexdigest()[:32]}.npz"


@cache
def code_hash() -> tuple[str, ...]:
    """What makes a table: the code of sources, views, networks and losses, of the metrics, and the libraries'."""
    return (*teacher_cache.made_by(), hashing.of_files(LIBRARY, LOSSES), hashing.of_files(SOURCES, TABLE))


def write(measured: CachedTable, path: Path) -> None:
    """Write a measurement; a reader finds all of it or none."""
    meta = {"together": dict(measured.together), "facts": dict(measured.facts)}
    arrays: dict[str, Any] = {"told": np.array(json.dumps(meta))}
    for name, values in measured.table.items():
        # Text as numpy's own, for objects would be pickled.
        arrays[f"column {name}"] = values.to_numpy() if is_numeric_dtype(values) else values.to_numpy(str)
    with atomic.replacing(path) as temporary:
        np.savez_compressed(temporary, **arrays)


def read(path: Path) -> CachedTable | None:
    """A measurement, or None where there is none, or a file that is damaged, which is then measured anew."""
    if not path.exists():
        return None
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            meta = json.loads(str(file["told"]))
            together, facts = dict(meta["together"]), dict(meta["facts"])
            names = [name for name in file.files if name.startswith("column ")]
            table = pd.DataFrame({name.removeprefix("column "): file[name] for name in names})
    except Exception as error:  # the readers raise whatever damaged bytes lead them to
        log.warning("%s is damaged (%s): measuring anew", path, reason_of(error))
        return None
    return CachedTable(table, together, facts)
