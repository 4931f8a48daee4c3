"""Reading of regular files and folders; whatever cannot be read raises `Unreadable`."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO

from dctkd_zoo.errors import Unreadable, reason_of

MOST = 2**30  # maximum bytes of a file read into memory: the largest 16-bit image has 0.7 of them
MISSING = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.EINVAL, errno.ELOOP, errno.EISDIR})


def opened(path: Path) -> BinaryIO:
    """Open a regular file for reading; `Unreadable` for a pipe or a device, which might never end."""
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
    """Return all bytes of a regular file; `Unreadable` if some cannot be read, or there are more than `MOST`."""
    with opened(path) as file:
        try:
            size = os.fstat(file.fileno()).st_size
            if size > MOST:
                raise OSError(errno.EFBIG, f"{size:,} bytes, at most {MOST:,} are allowed")
            data = file.read(size)
        except (OSError, MemoryError) as error:
            raise unreadable(path, error) from error
    if len(data) < size:
        raise Unreadable(f"{path}: ended after {len(data):,} of {size:,} bytes: is something writing to it?")
    return data


def entries(folder: Path) -> list[os.DirEntry[str]]:
    """Return what is in a folder, sorted by name; `Unreadable` if it cannot be listed."""
    try:
        with os.scandir(folder) as result:
            return sorted(result, key=lambda entry: entry.name)
    except (OSError, ValueError) as error:
        raise unreadable(folder, error) from error


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Return whether an entry is a folder or a link to one; `Unreadable` if that is unknown."""
    try:
        return entry.is_dir()
    except OSError as error:
        if error.errno in MISSING:  # a circular link
            return False
        raise unreadable(Path(entry.path), error) from error


def is_missing(error: Unreadable) -> bool:
    """Return whether a path could not be read because there is no such file."""
    cause = error.__cause__
    return isinstance(cause, ValueError) or (isinstance(cause, OSError) and cause.errno in MISSING)


def unreadable(what: object, error: BaseException) -> Unreadable:
    """Return the error for something that could not be read, with the system's reason."""
    reason = getattr(error, "strerror", None) or reason_of(error)
    if isinstance(error, MemoryError):
        reason = "there is not enough memory to read it"
    return Unreadable(f"{what}: cannot be read: {reason}")


def _kind(mode: int) -> str:
    kinds = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a named pipe", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device"}
    return kinds.get(stat.S_IFMT(mode), "something else")
