"""Splits of a dataset: ids, labels and images in a fixed order, however they are stored."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from math import ceil
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dctkd_zoo.data import decode
from dctkd_zoo.data.batch import UNLABELLED
from dctkd_zoo.data.decode import Picture
from dctkd_zoo.data.files import contents, is_missing, unreadable
from dctkd_zoo.errors import DatasetMissing


class Images(Protocol):
    """Images by position, decoded on demand; `payload` is what their identity is hashed from."""

    def __len__(self) -> int: ...

    def payload(self, index: int) -> bytes:
        """Return the bytes that identify the image, of its file or its pixels; raise `Unreadable` without them."""
        ...

    def picture(self, index: int, payload: bytes) -> Picture:
        """Decode a payload to an RGB image and notes on it; raise `Undecodable` if it is not an image."""
        ...

    def load(self, index: int) -> Image.Image:
        """Return the image as RGB; raise what `payload` and `picture` do."""
        return self.picture(index, self.payload(index)).image


@runtime_checkable
class Signed(Protocol):
    """Images that can tell, without being read, whether they have changed."""

    def signature(self) -> str:
        """Return a value that changes whenever an image is added, removed, renamed or written to."""
        ...


def stat_of(root: Path, names: Iterable[str]) -> str:
    """Return the sha256 of the names, sizes and times of files below a folder; `DatasetMissing` if one is gone."""
    hasher = hashlib.sha256(str(root.resolve()).encode())
    for name in names:
        try:
            stat = (root / name).stat()
        except OSError as error:
            failure = unreadable(root / name, error)
            failure.__cause__ = error
            raise DatasetMissing(str(failure)) if is_missing(failure) else failure from error
        hasher.update(f"\n{name}\t{stat.st_size}\t{stat.st_mtime_ns}".encode())
    return hasher.hexdigest()


@dataclass(frozen=True)
class Files(Images):
    """Images in files below a folder."""

    root: Path
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.names)

    def payload(self, index: int) -> bytes:
        """Return the file's bytes."""
        return contents(self.root / self.names[index])

    def picture(self, index: int, payload: bytes) -> Picture:
        """Decode the file as RGB."""
        return decode.decode(payload, str(self.root / self.names[index]))

    def signature(self) -> str:
        """Return a value that changes whenever a file is added, removed, renamed or written to."""
        return stat_of(self.root, self.names)


@dataclass(frozen=True)
class Arrays(Images):
    """Images in one array, uint8 (N, H, W, 3)."""

    pixels: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.pixels)

    def payload(self, index: int) -> bytes:
        """Return the image's raw pixels."""
        return self.pixels[index : index + 1].tobytes()

    def picture(self, index: int, payload: bytes) -> Picture:
        """Decode one image as RGB."""
        return Picture(Image.fromarray(self.pixels[index]), ())


@dataclass(frozen=True)
class Split:
    """Images with labels; `classes[labels[i]]` is the class of `images.load(i)`, called `ids[i]`.

    `outlines`, of datasets where these are known, makes `masks` when they are first read.
    """

    classes: tuple[str, ...]
    ids: tuple[str, ...]
    labels: NDArray[np.int64]
    images: Images
    outlines: Callable[[], NDArray[np.uint8]] | None = None

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def masks(self) -> NDArray[np.uint8] | None:
        """Numbers of the objects that decide an image's class at their visible pixels, from 1 on, else 0: (N, H, W).

        None if they are not known.
        """
        return None if self.outlines is None else self.outlines()

    def objects(self) -> str | None:
        """Return the sha256 of the masks, None without them; `digest`, which recorded results name, leaves them out."""
        if self.masks is None:
            return None
        return hashlib.sha256(f"{self.masks.shape}".encode() + self.masks.tobytes()).hexdigest()

    def take(self, keep: Sequence[int]) -> Split:
        """Return the images at the positions `keep`, in that order."""
        keep = tuple(keep)  # masks are taken later
        images: Images = Subset(self.images, keep)
        ids = tuple(self.ids[i] for i in keep)
        outlines = None if self.outlines is None else lambda: self._masks_at(keep)
        return Split(self.classes, ids, self.labels[list(keep)], images, outlines)

    def _masks_at(self, keep: Sequence[int]) -> NDArray[np.uint8]:
        assert self.masks is not None
        return self.masks[list(keep)]


@dataclass(frozen=True)
class Subset(Images):
    """The images at the positions `keep` of other images."""

    images: Images
    keep: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.keep)

    def payload(self, index: int) -> bytes:
        """Return the bytes that identify the image."""
        return self.images.payload(self.keep[index])

    def picture(self, index: int, payload: bytes) -> Picture:
        """Decode one image as RGB."""
        return self.images.picture(self.keep[index], payload)


@dataclass(frozen=True)
class Joined(Images):
    """Images of several kinds, one after the other."""

    parts: tuple[Images, ...]

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    def locate(self, index: int) -> tuple[Images, int]:
        """Return the part that an image is in, and its position there."""
        for part in self.parts:
            if index < len(part):
                return part, index
            index -= len(part)
        raise IndexError(index)

    def payload(self, index: int) -> bytes:
        """Return the bytes that identify the image."""
        part, inside = self.locate(index)
        return part.payload(inside)

    def picture(self, index: int, payload: bytes) -> Picture:
        """Decode one image as RGB."""
        part, inside = self.locate(index)
        return part.picture(inside, payload)


def held_out(split: Split, fraction: float) -> tuple[Split, Split]:
    """Return the split without a `fraction` of each class, rounded up, and these: the same ones on every machine.

    They are taken in the order of the sha256 of their ids; each class keeps an image.
    """
    shuffled = sorted(range(len(split)), key=lambda index: hashlib.sha256(split.ids[index].encode()).digest())
    members = ([i for i in shuffled if split.labels[i] == label] for label in range(len(split.classes)))
    out = {of_class[place] for of_class in members for place in _spread(len(of_class), fraction)}
    rest, held = ([i for i in range(len(split)) if (i in out) == is_out] for is_out in (False, True))
    return split.take(rest), split.take(held)


def first_of_each(labels: Iterable[int], count: int) -> list[int]:
    """Return the positions of the first `count` of each label, in order."""
    seen = Counter[int]()
    keep = []
    for index, label in enumerate(labels):
        seen[label] += 1
        if seen[label] <= count:
            keep.append(index)
    return keep


def _spread(count: int, fraction: float) -> list[int]:
    """Return evenly spaced places, a `fraction` of `count` but never all: [0, 5] for 1/5 of 10."""
    exact = Fraction(fraction).limit_denominator(1000)  # 0.1 is one in ten
    return [place for place in range(count) if ceil((place + 1) * exact) > ceil(place * exact)][: max(count - 1, 0)]


def with_unlabelled(split: Split, others: Split) -> Split:
    """Return the split followed by the images of `others` without their labels."""
    labels = np.concatenate([split.labels, np.full(len(others), UNLABELLED, np.int64)])
    ids = (*split.ids, *(f"unlabelled/{name}" for name in others.ids))
    return Split(split.classes, ids, labels, Joined((split.images, others.images)))


def fingerprints(split: Split) -> list[str]:
    """Return the sha256 of each image's payload, in order."""
    return [hashlib.sha256(split.images.payload(i)).hexdigest() for i in range(len(split))]


def digest(split: Split, prints: Sequence[str] | None = None) -> str:
    """Return the sha256 of a split: classes, ids, labels and contents. It is the same for all copies of a dataset."""
    hasher = hashlib.sha256("\n".join(split.classes).encode())
    for name, label, content in zip(split.ids, split.labels, prints or fingerprints(split), strict=True):
        hasher.update(f"\n{name}\t{label}\t{content}".encode())
    return hasher.hexdigest()
