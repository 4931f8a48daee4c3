"""Images packed in tar files, tables or streams, as `Images` by position: encoded bytes, decoded by Pillow alone."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dctkd_zoo.data import pixels
from dctkd_zoo.data.split import stat_of

HELD = 4 * 1024  # images a stream keeps for who asks for them later: twice the reach of `views.REACH`


@dataclass(frozen=True, eq=False)
class Tars:
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
        """The member's bytes; `OSError` where the tar ends before."""
        tar, offset, size = self.where[index].tolist()
        path = self.root / self.names[tar]
        with path.open("rb") as file:
            file.seek(offset)
            data: bytes = file.read(size)
        if len(data) < size:
            raise OSError(f"{path}: ends within a member")
        return data

    def load(self, index: int) -> Image.Image:
        """One image as RGB; `OSError` with its place where it does not decode."""
        tar, offset, _ = self.where[index].tolist()
        return pixels.read(BytesIO(self.payload(index)), f"{self.root / self.names[tar]} at byte {offset:,}")

    def signature(self) -> str:
        """What changes whenever a tar is written to."""
        return stat_of(self.root, self.names)


@dataclass(frozen=True, eq=False)
class Rows:
    """The images of a table that timm's `hfds` reader opened."""

    reader: Any
    what: str

    def __len__(self) -> int:
        return len(self.reader)

    def payload(self, index: int) -> bytes:
        """The bytes in the table, or of the file that it names."""
        with self.reader[index][0] as file:
            data: bytes = file.read()
        return data

    def load(self, index: int) -> Image.Image:
        """One image as RGB; `OSError` with its row where it does not decode."""
        return pixels.read(BytesIO(self.payload(index)), f"{self.what}, row {index:,}")

    def signature(self) -> str:
        """The table's own fingerprint."""
        return hashlib.sha256(str(self.reader.dataset._fingerprint).encode()).hexdigest()


@dataclass(eq=False)
class Stream:
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

    def load(self, index: int) -> Image.Image:
        """One image as RGB; `OSError` with its position where it does not decode."""
        return pixels.read(BytesIO(self.payload(index)), f"{self.what}, image {index:,}")

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
