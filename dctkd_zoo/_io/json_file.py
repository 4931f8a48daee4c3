"""JSON files: objects read strictly, and files sealed with a hash of their content."""

from __future__ import annotations

import hashlib
import json
import logging
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from dctkd_zoo._io import atomic
from dctkd_zoo.errors import CorruptCache, ZooError

log = logging.getLogger(__name__)

LARGEST = 64 * 2**20  # bytes; a config that names a million classes has 20 MiB


def read_object(path: Path, refused: type[ZooError], way_on: str = "") -> dict[str, Any]:
    """Read the object in a JSON file; raise `refused`, which ends with `way_on`, if it holds anything else.

    NaN, numbers beyond the range of a float and duplicate keys are refused too.
    """
    end = f": {way_on}" if way_on else ""
    try:
        if path.stat().st_size > LARGEST:
            raise ValueError(f"{path.stat().st_size:,} bytes, at most {LARGEST:,} are allowed")
        result = json.loads(
            path.read_text(encoding="utf-8"), parse_constant=_number, parse_float=_number, object_pairs_hook=_object
        )
    except (ValueError, RecursionError) as error:
        raise refused(f"{path}: {error}{end}") from error
    if not isinstance(result, dict):
        raise refused(f"{path}: contains {result!r:.60}, not an object{end}")
    return result


def _number(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text:.60} is not a finite number")
    return value


def _object(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) < len(pairs):
        names = [name for name, _ in pairs]
        duplicate = next(name for name in result if names.count(name) > 1)
        raise ValueError(f"duplicate key {duplicate!r:.60}")
    return result


def write_sealed(path: Path, content: Any) -> None:
    """Write `content`, which JSON can represent, to `path`, sealed with its hash."""
    text = json.dumps(content)
    atomic.write_text(path, json.dumps({"sha256": _seal(text), "content": content}))


def read_sealed(path: Path) -> Any:
    """Read the content of a sealed file; `CorruptCache` if it has changed since, `OSError` if it is missing."""
    try:
        sealed = json.loads(path.read_bytes())
        intact = sealed["sha256"] == _seal(json.dumps(sealed["content"]))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CorruptCache(f"{path} is damaged ({error}): delete it to have it rebuilt") from error
    if not intact:
        raise CorruptCache(f"{path} is damaged (its content does not match its sha256): delete it to have it rebuilt")
    return sealed["content"]


def kept(path: Path, make: Callable[[], Any], what: str) -> Any:
    """Return the content of a sealed file; if it is missing or damaged, what `make` returns, which is then kept there.

    A file that cannot be read or written costs a warning that names `what`, nothing else.
    """
    try:
        return read_sealed(path)
    except FileNotFoundError:
        pass
    except (CorruptCache, OSError) as error:
        log.warning("%s", error)
    content = make()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_sealed(path, content)
    except OSError as error:
        log.warning("%s could not be kept and will be computed again next time: %s", what, error)
    return content


def _seal(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
