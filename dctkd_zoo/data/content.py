"""Split -> sha256 of each image's content, remembered for files that have not changed since."""

from __future__ import annotations

import hashlib
import logging

from dctkd_zoo import sealed
from dctkd_zoo.data.split import Files, Images, Split, Subset
from dctkd_zoo.data.tree import incomplete
from dctkd_zoo.errors import CorruptCache
from dctkd_zoo.home import cache_home

log = logging.getLogger(__name__)


def prints(split: Split) -> list[str]:
    """sha256 of each image's payload, in order, as `split.fingerprints`; `DatasetError` where a file is gone."""
    return _hashes(split.images)


def twins(train: Split, test: Split) -> dict[int, int]:
    """Position in `test` -> position in `train` of the first image with the same content, where there is one."""
    first: dict[str, int] = {}
    for index, content in enumerate(prints(train)):
        first.setdefault(content, index)
    return {index: first[content] for index, content in enumerate(prints(test)) if content in first}


def _hashes(images: Images) -> list[str]:
    match images:
        case Subset():
            every = _hashes(images.images)
            return [every[index] for index in images.keep]
        case Files():
            return _remembered(images)
        case _:
            return _computed(images)


def _computed(images: Images) -> list[str]:
    return [hashlib.sha256(images.payload(index)).hexdigest() for index in range(len(images))]


def _remembered(files: Files) -> list[str]:
    path = cache_home() / "fingerprints" / f"{_signature(files)}.json"
    try:
        known: list[str] = sealed.read(path)
        return known
    except OSError:  # never hashed
        pass
    except CorruptCache as error:
        log.warning("%s: hashing all images again", error)
    found = _computed(files)
    try:
        sealed.write(path, found)
    except OSError as error:  # a home that is read-only or full costs time, not the run
        log.warning("hashes of %s are not kept: %s", files.root, error)
    return found


def _signature(files: Files) -> str:
    """What changes whenever a file is added, removed, renamed or written to."""
    hasher = hashlib.sha256(str(files.root.resolve()).encode())
    for name in files.names:
        try:
            stat = (files.root / name).stat()
        except OSError as error:
            raise incomplete(files.root, f"cannot be read: {error}") from error
        hasher.update(f"\n{name}\t{stat.st_size}\t{stat.st_mtime_ns}".encode())
    return hasher.hexdigest()
