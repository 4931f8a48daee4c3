"""Images packed in tar files, tables or streams, as `Images` by position: encoded bytes, decoded by Pillow alone."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dctkd_zoo.data import files, pixels
from dctkd_zoo.data.pixels import Picture
from dctkd_zoo.data.split import Images, stat_of
from dctkd_zoo.errors import Unreadable

HELD = 4 * 1024  # images a stream keeps for who asks for them later: twice the reach of `views.REACH`


@dataclass(frozen=True, eq=False)
class Tars(Images):
    """Members of uncompressed tar files, which are read where they lie: `where` (N, 3) is tar, offset and size."""

    root: Path
    names: tuple[str, ...]
    where: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.where)

    @property
    def parts(self) -> tuple[int, ...]:
        """Numbers of images that lie together: a tar's."""
        return tuple(np.bincount(self.where[:, 0], minlength=len(self.names)).tolist())

    def payload(self, index: int) -> bytes:
        """The member's bytes; `Unreadable` where the tar ends before."""
        tar, offset, size = self.where[index].tolist()
        path = self.root / self.names[tar]
        with files.opened(path) as file:
            try:
                file.seek(offset)
                data = file.read(size)
            except (OSError, MemoryError) as error:
                raise files.unreadable(path, error) from error
        if len(data) < size:
            raise Unreadable(f"{path}: ends within a member")
        return data

    def picture(self, index: int, payload: bytes) -> Picture:
        """One image as RGB."""
        tar, offset, _ = self.where[index].tolist()
        return pixels.decode(payload, f"{self.root / self.names[tar]} at byte {offset:,}")

    def signature(self) -> str:
        """What changes whenever a tar is written to."""
        return stat_of(self.root, self.names)


@dataclass(frozen=True, eq=False)
class Rows(Images):
    """The images of a table that timm's `hfds` reader opened."""

    reader: Any
    what: str

    def __len__(self) -> int:
        return len(self.reader)

    def payload(self, index: int) -> bytes:
        """The bytes in the table, or of the file that it names."""
        try:
            told = self.reader.dataset[index][self.reader.image_key]
        except (OSError, MemoryError) as error:
            raise files.unreadable(f"{self.what}, row {index:,}", error) from error
        match told:
            case {"bytes": bytes(data)} if data:
                return data
            case {"path": str(path)} if path:
                return files.contents(Path(path))
            case _:
                raise Unreadable(f"{self.what}, row {index:,}: there is no image: {told!r:.60}")

    def picture(self, index: int, payload: bytes) -> Picture:
        """One image as RGB."""
        return pixels.decode(payload, f"{self.what}, row {index:,}")

    def signature(self) -> str:
        """The table's own fingerprint."""
        return hashlib.sha256(str(self.reader.dataset._fingerprint).encode()).hexdigest()


@dataclass(eq=False)
class Stream(Images):
    """Images that can be read from the first on only: asked for in nearly that order, each is read once.

    `start` begins a reading. What is read on the way to an image is held until it is asked for, the last `HELD`;
    who asks for one that is gone has the stream begin again.
    """

    count: int
    start: Callable[[], Iterator[bytes]]
    what: str
    stamp: str
    _held: dict[int, bytes] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock)
    _reading: Iterator[bytes] = field(default_factory=lambda: iter(()))
    _next: int = 0

    def __len__(self) -> int:
        return self.count

    @property
    def parts(self) -> tuple[int, ...]:
        """All images lie together."""
        return (self.count,)

    def payload(self, index: int) -> bytes:
        """The bytes of one image; `OSError` where the stream ends before."""
        with self._lock:
            if index not in self._held:
                self._read_to(index)
            return self._held.pop(index)

    def picture(self, index: int, payload: bytes) -> Picture:
        """One image as RGB."""
        return pixels.decode(payload, f"{self.what}, image {index:,}")

    def signature(self) -> str:
        """What tells this stream from others."""
        return self.stamp

    def _read_to(self, index: int) -> None:
        if index < self._next or self._next == 0:
            self._reading, self._next = self.start(), 0
            self._held.clear()
        while self._next <= index:
            try:
                self._held[self._next] = next(self._reading)
            except StopIteration:
                raise OSError(f"{self.what} ends after {self._next:,} of {self.count:,} images") from None
            self._held.pop(self._next - HELD, None)
            self._next += 1
