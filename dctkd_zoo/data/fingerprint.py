"""Split -> sha256 of each image's content, remembered for files that have not changed since."""

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
from dctkd_zoo.data.split import Images, Signed, Split, Subset
from dctkd_zoo.errors import CorruptCache, DatasetError

T = TypeVar("T")

WAY_ON = "restore them; if they are as they should be, give the file another time (touch it)"
TOGETHER = 16  # images hashed per task: a task for each would cost more than hashing a small image

log = logging.getLogger(__name__)


def fingerprints(split: Split) -> list[str]:
    """sha256 of each image's payload, in order, as `split.fingerprints`; `DatasetError` where one cannot be read."""
    return _hashes(split.images)


def verified(split: Split, index: int, known: str) -> bytes:
    """The payload of an image whose sha256 is `known`; `DatasetError` for other bytes, `Unreadable` for none."""
    data = split.images.payload(index)
    if hashlib.sha256(data).hexdigest() != known:
        what = "its bytes are not those that were hashed before, though its size and time are"
        raise DatasetError(f"{split.ids[index]}: {what}: a disk may have damaged them: {WAY_ON}")
    return data


def recorded(split: Split) -> list[str] | None:
    """The hashes that are remembered of a split, if they are."""
    return _recorded(split.images)


def duplicates(train: Split, test: Split) -> dict[int, int]:
    """Position in `test` -> position in `train` of the first image with the same content, where there is one."""
    first: dict[str, int] = {}
    for index, content in enumerate(fingerprints(train)):
        first.setdefault(content, index)
    return {index: first[content] for index, content in enumerate(fingerprints(test)) if content in first}


def _hashes(images: Images) -> list[str]:
    match images:
        case Subset():
            every = _hashes(images.images)
            return [every[index] for index in images.keep]
        case Signed():
            return remembered("fingerprints", images.signature(), lambda: _computed(images), "hashes of images")
        case _:
            return _computed(images)


def _recorded(images: Images) -> list[str] | None:
    match images:
        case Subset():
            every = _recorded(images.images)
            return None if every is None else [every[index] for index in images.keep]
        case Signed():
            try:
                result: list[str] = json_file.read_sealed(_place("fingerprints", images.signature()))
                return result
            except (OSError, CorruptCache):
                return None
        case _:
            return None


def _place(kind: str, signature: str) -> Path:
    return cache_home() / kind / f"{signature}.json"


def _computed(images: Images) -> list[str]:
    def some(start: int) -> list[str]:
        indices = range(start, min(start + TOGETHER, len(images)))
        return [hashlib.sha256(images.payload(index)).hexdigest() for index in indices]

    with ThreadPoolExecutor(os.cpu_count()) as pool:  # reading and hashing release the interpreter's lock
        return [result for part in pool.map(some, range(0, len(images), TOGETHER)) for result in part]


def remembered(kind: str, signature: str, make: Callable[[], T], what: str) -> T:
    """What `make` gives, as JSON can hold it; kept in the cache, and made anew where what is kept is damaged."""
    path = _place(kind, signature)
    try:
        known: T = json_file.read_sealed(path)
        return known
    except OSError:  # never made
        pass
    except CorruptCache as error:
        log.warning("%s: making it anew", error)
    result = make()
    try:
        json_file.write_sealed(path, result)
    except OSError as error:  # a home that is read-only or full costs time, not the run
        log.warning("%s are not kept: %s", what, error)
    return result
