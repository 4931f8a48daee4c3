"""Bytes -> a file that is there whole or not at all: written beside, flushed to disk, then renamed."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LEFT = re.compile(r"\.[0-9a-f]{8}\.")  # how the name of a temporary file begins


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path to write to; it becomes `path` when the block ends, and is removed when the block raises."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # The suffix stays last: numpy and others append their own where they do not find it.
    temporary = path.with_name(f".{secrets.token_hex(4)}.{path.name}")
    try:
        yield temporary
        settle(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_bytes(path: Path, data: bytes) -> None:
    """Make `data` the content of `path`."""
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """Make `text`, as UTF-8 with its own line ends, the content of `path`."""
    write_bytes(path, text.encode())


def settle(written: Path, path: Path) -> None:
    """Give a finished file its name, so that a power cut leaves either the old content or the new."""
    flush(written)
    written.replace(path)
    if os.name == "posix":  # elsewhere a folder cannot be opened
        _flush(path.parent, os.O_RDONLY)


def flush(path: Path) -> None:
    """Have the disk hold what was written to a file."""
    _flush(path, os.O_RDWR)  # one opened for reading alone cannot be flushed everywhere


def sweep(folder: Path) -> None:
    """Remove what writers that were killed left in a folder; for whoever alone writes there."""
    for path in folder.glob(".*"):
        if LEFT.match(path.name):
            path.unlink(missing_ok=True)


def _flush(path: Path, mode: int) -> None:
    handle = os.open(path, mode)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
