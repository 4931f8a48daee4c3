"""Fingerprints of images, the sha256 of their content, cached for files that have not changed since."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from dctkd_zoo._io import json_file
from dctkd_zoo._io.paths import cache_home
from dctkd_zoo.data.split import Images, Joined, Signed, Split, Subset
from dctkd_zoo.errors import CorruptCache, DatasetError

T = TypeVar("T")

WAY_ON = "restore the file, or give it another time (touch it) if it is correct"
TOGETHER = 16  # images hashed per task: one task per image would cost more than hashing a small one

log = logging.getLogger(__name__)


def fingerprints(split: Split) -> list[str]:
    """Return the sha256 of each image's payload, in order, as `split.fingerprints`; `DatasetError` if unreadable."""
    return _hashes(split.images)


def verified(split: Split, index: int, known: str) -> bytes:
    """Return the payload of an image whose sha256 is `known`; `DatasetError` if it differs, `Unreadable` if missing."""
    data = split.images.payload(index)
    if hashlib.sha256(data).hexdigest() != known:
        what = "its bytes differ from those hashed before, but its size and time do not"
        raise DatasetError(f"{split.ids[index]}: {what}: the disk may have damaged it: {WAY_ON}")
    return data


def recorded(split: Split) -> list[str] | None:
    """Return the cached hashes of a split, if there are any."""
    return _recorded(split.images)


def duplicates(train: Split, test: Split) -> dict[int, int]:
    """Return position in `test` -> position in `train` of the first image with the same content, if there is one."""
    first: dict[str, int] = {}
    for index, content in enumerate(fingerprints(train)):
        first.setdefault(content, index)
    return {index: first[content] for index, content in enumerate(fingerprints(test)) if content in first}


def _hashes(images: Images) -> list[str]:
    match images:
        case Subset():
            hashes = _hashes(images.images)
            return [hashes[index] for index in images.keep]
        case Joined():
            return [content for part in images.parts for content in _hashes(part)]
        case Signed():
            return remembered("fingerprints", images.signature(), lambda: _computed(images), "hashes of images")
        case _:
            return _computed(images)


def _recorded(images: Images) -> list[str] | None:
    match images:
        case Subset():
            hashes = _recorded(images.images)
            return None if hashes is None else [hashes[index] for index in images.keep]
        case Joined():
            parts = [_recorded(part) for part in images.parts]
            return None if None in parts else [content for part in parts if part for content in part]
        case Signed():
            try:
                result: list[str] = json_file.read_sealed(_cache_path("fingerprints", images.signature()))
                return result
            except (OSError, CorruptCache):
                return None
        case _:
            return None


def _cache_path(kind: str, signature: str) -> Path:
    return cache_home() / kind / f"{signature}.json"


def _computed(images: Images) -> list[str]:
    def hashed(start: int) -> list[str]:
        indices = range(start, min(start + TOGETHER, len(images)))
        return [hashlib.sha256(images.payload(index)).hexdigest() for index in indices]

    with ThreadPoolExecutor(os.cpu_count()) as pool:  # reading and hashing release the GIL
        return [result for part in pool.map(hashed, range(0, len(images), TOGETHER)) for result in part]


def remembered(kind: str, signature: str, make: Callable[[], T], what: str) -> T:
    """Return the JSON data of `make`, from the cache if it has them undamaged; `what` names them in messages."""
    path = _cache_path(kind, signature)
    try:
        cached: T = json_file.read_sealed(path)
        return cached
    except OSError:  # not cached yet
        pass
    except CorruptCache as error:
        log.warning("%s: rebuilding it", error)
    result = make()
    try:
        json_file.write_sealed(path, result)
    except OSError as error:  # a read-only or full cache costs time, not the run
        log.warning("%s are not cached: %s", what, error)
    return result
