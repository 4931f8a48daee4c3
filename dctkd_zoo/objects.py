"""A JSON file to the object in it, or to an error that names the file."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dctkd_zoo.errors import ZooError

LARGEST = 64 * 2**20  # bytes; a config with a name for each of a million classes has 20 MiB


def read(path: Path, refused: type[ZooError], way_on: str = "") -> dict[str, Any]:
    """The object in a JSON file; the error `refused`, with the `way_on`, where it holds something else.

    Also where JSON's own grammar is left: NaN, numbers beyond a float's, a key that stands twice.
    """
    end = f": {way_on}" if way_on else ""
    try:
        if path.stat().st_size > LARGEST:
            raise ValueError(f"{path.stat().st_size:,} bytes, at most {LARGEST:,} are read")
        found = json.loads(
            path.read_text(encoding="utf-8"), parse_constant=_number, parse_float=_number, object_pairs_hook=_object
        )
    except (ValueError, RecursionError) as error:
        raise refused(f"{path}: {error}{end}") from error
    if not isinstance(found, dict):
        raise refused(f"{path}: it is {found!r:.60}, not an object{end}")
    return found


def _number(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text:.60} is no finite number")
    return value


def _object(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in found if names.count(name) > 1)
        raise ValueError(f"{twice!r:.60} stands there twice")
    return found
