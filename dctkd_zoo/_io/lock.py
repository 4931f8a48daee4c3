"""A path to the right to write there: one process has it at a time, and loses it when it ends, however it ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from dctkd_zoo.errors import Busy


def lock_path(path: Path) -> Path:
    """Where the lock of a file or folder lies: beside it, hidden."""
    return path.with_name(f".{path.name}.lock")


@contextmanager
def held(path: Path, *, wait: bool = True, waiting: Callable[[], None] | None = None) -> Iterator[None]:
    """Hold the lock of `path` inside; `Busy` where another process has it and there is no `wait`.

    `waiting` is called once before a wait begins. The lock is the operating system's: that of a process which
    was killed is free.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(lock_path(path))
    try:
        lock.acquire(blocking=False)
    except Timeout:
        if not wait:
            raise Busy(f"{path} is being written by another process; wait until it has ended") from None
        if waiting is not None:
            waiting()
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
