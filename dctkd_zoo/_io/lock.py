"""Locks between processes that write the same file or folder, released however a process ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from dctkd_zoo.errors import Busy


def lock_path(path: Path) -> Path:
    """Return the path of the lock of a file or folder, hidden next to it."""
    return path.with_name(f".{path.name}.lock")


@contextmanager
def held(path: Path, *, wait: bool = True, waiting: Callable[[], None] | None = None) -> Iterator[None]:
    """Hold the lock of `path` inside; `Busy` if another process has it and `wait` is false.

    `waiting` is called once before a wait begins. The operating system holds the lock, and frees that of a killed
    process.
    """
    from filelock import FileLock, Timeout  # here, since importing it takes longer than all the rest of a command

    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(lock_path(path))
    try:
        lock.acquire(blocking=False)
    except Timeout:
        if not wait:
            raise Busy(f"{path} is being written by another process; wait until it has finished") from None
        if waiting is not None:
            waiting()
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
