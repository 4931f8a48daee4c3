"""A JSON file to the object in it, or to an error that names the file."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dctkd_zoo._io import atomic
from dctkd_zoo.errors import CorruptCache, ZooError

LARGEST = 64 * 2**20  # bytes; a config with a name for each of a million classes has 20 MiB


def read_object(path: Path, refused: type[ZooError], way_on: str = "") -> dict[str, Any]:
    """The object in a JSON file; the error `refused`, with the `way_on`, where it holds something else.

    Also where JSON's own grammar is left: NaN, numbers beyond a float's, a key that stands twice.
    """
    end = f": {way_on}" if way_on else ""
    try:
        if path.stat().st_size > LARGEST:
            raise ValueError(f"{path.stat().st_size:,} bytes, at most {LARGEST:,} are read")
        result = json.loads(
            path.read_text(encoding="utf-8"), parse_constant=_number, parse_float=_number, object_pairs_hook=_object
        )
    except (ValueError, RecursionError) as error:
        raise refused(f"{path}: {error}{end}") from error
    if not isinstance(result, dict):
        raise refused(f"{path}: it is {result!r:.60}, not an object{end}")
    return result


def _number(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text:.60} is no finite number")
    return value


def _object(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in result if names.count(name) > 1)
        raise ValueError(f"{twice!r:.60} stands there twice")
    return result


def write_sealed(path: Path, content: Any) -> None:
    """Make `content`, which JSON can hold, the content of `path`, sealed."""
    text = json.dumps(content)
    atomic.write_text(path, json.dumps({"sha256": _seal(text), "content": content}))


def read_sealed(path: Path) -> Any:
    """The content of a sealed file; `CorruptCache` where it is not what was written, `OSError` where it is missing."""
    try:
        meta = json.loads(path.read_bytes())
        whole = meta["sha256"] == _seal(json.dumps(meta["content"]))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CorruptCache(f"{path} is damaged ({error}): delete it to have it made anew") from error
    if not whole:
        raise CorruptCache(f"{path} is damaged (its content does not match its sha256): delete it to have it made anew")
    return meta["content"]


def _seal(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
