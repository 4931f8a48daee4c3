"""A path to the bytes of a regular file, or a folder to what is in it; what cannot be read is `Unreadable`."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO

from dctkd_zoo.errors import Unreadable, reason_of

MOST = 2**30  # bytes of a file that is read whole: an image of the largest size in 16 bits has 0.7 of them
MISSING = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.EINVAL, errno.ELOOP, errno.EISDIR})


def opened(path: Path) -> BinaryIO:
    """A regular file, open for reading; `Unreadable` for a pipe or a device, which might never end."""
    try:
        number = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        try:
            mode = os.fstat(number).st_mode
            if not stat.S_ISREG(mode):
                code = errno.EISDIR if stat.S_ISDIR(mode) else errno.ENODEV
                raise OSError(code, f"not a regular file but {_kind(mode)}")
            return os.fdopen(number, "rb")
        except BaseException:
            os.close(number)
            raise
    except (OSError, ValueError) as error:  # a ValueError: a name with a NUL in it
        raise unreadable(path, error) from error


def contents(path: Path) -> bytes:
    """All bytes of a regular file; `Unreadable` where some cannot be had, or there are more than `MOST`."""
    with opened(path) as file:
        try:
            size = os.fstat(file.fileno()).st_size
            if size > MOST:
                raise OSError(errno.EFBIG, f"{size:,} bytes, at most {MOST:,} are read")
            data = file.read(size)
        except (OSError, MemoryError) as error:
            raise unreadable(path, error) from error
    if len(data) < size:
        raise Unreadable(f"{path}: it ended after {len(data):,} of {size:,} bytes: is something writing to it?")
    return data


def entries(folder: Path) -> list[os.DirEntry[str]]:
    """What is in a folder, in the order of names; `Unreadable` where that cannot be told."""
    try:
        with os.scandir(folder) as result:
            return sorted(result, key=lambda entry: entry.name)
    except (OSError, ValueError) as error:
        raise unreadable(folder, error) from error


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a folder, or a link to one; `Unreadable` where that cannot be told."""
    try:
        return entry.is_dir()
    except OSError as error:
        if error.errno in MISSING:  # a link in a circle
            return False
        raise unreadable(Path(entry.path), error) from error


def is_missing(error: Unreadable) -> bool:
    """Whether a path could not be read because there is no such file."""
    cause = error.__cause__
    return isinstance(cause, ValueError) or (isinstance(cause, OSError) and cause.errno in MISSING)


def unreadable(what: object, error: BaseException) -> Unreadable:
    """The error for what could not be read, for the system's reason."""
    reason = getattr(error, "strerror", None) or reason_of(error)
    if isinstance(error, MemoryError):
        reason = "there is not enough memory to read it"
    return Unreadable(f"{what}: cannot be read: {reason}")


def _kind(mode: int) -> str:
    kinds = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a named pipe", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device"}
    return kinds.get(stat.S_IFMT(mode), "something else")
