"""Atomic file writes: to a temporary file, flushed to disk, then renamed."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

TEMPORARY = re.compile(r"\.[0-9a-f]{8}\.")  # prefix of temporary files


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path to write to; it becomes `path` when the block ends, and is removed if the block raises."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # The suffix stays last: numpy and others append their own if it is missing.
    temporary = path.with_name(f".{os.urandom(4).hex()}.{path.name}")
    try:
        yield temporary
        settle(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data` to `path` atomically."""
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` atomically, as UTF-8 with its line ends unchanged."""
    write_bytes(path, text.encode())


def settle(written: Path, path: Path) -> None:
    """Flush a finished file and rename it to `path`, so that a power cut leaves either the old content or the new."""
    flush(written)
    written.replace(path)
    if os.name == "posix":  # other systems cannot open a folder
        _flush(path.parent, os.O_RDONLY)


def flush(path: Path) -> None:
    """Flush a file to disk."""
    _flush(path, os.O_RDWR)  # some systems cannot flush a file that is open for reading only


def sweep(folder: Path) -> None:
    """Remove temporary files of killed writers from a folder; only for the sole writer there."""
    for path in folder.glob(".*"):
        if TEMPORARY.match(path.name):
            path.unlink(missing_ok=True)


def _flush(path: Path, mode: int) -> None:
    handle = os.open(path, mode)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
