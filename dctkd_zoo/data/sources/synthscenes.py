"""Generator of synthscenes: scenes of simple shapes whose class is decided by three kinds of object together.

Kinds are the nine points of the affine plane of order 3, classes its twelve lines: every kind belongs to four classes,
every two kinds to one. Pixels are computed from PCG64's uniform numbers with arithmetic that IEEE 754 rounds the same
everywhere (no sine, no matrix product, no numpy distribution), so their digest is pinned.
"""

from __future__ import annotations

import hashlib
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from dctkd_zoo._io import hashing
from dctkd_zoo.data.decode import Picture
from dctkd_zoo.data.split import Arrays, Images, Split

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

SIDE = 64
PER_CLASS = {"train": 500, "test": 100}
DIGEST = {
    "train": "f3035e0cea33a41138ad6c65662bd8a601c8dc48cdedcfa06ec79066cd5b7b13",
    "test": "8a046a97d01eea82dceb8c46544759a81932ea6ee8deb70c980f4527ee363983",
}

_SEED = 20240607
_SLOTS = 6  # three decisive objects, two kinds of clutter, a second copy of one of those
_WINDOW = 28  # px around an object's centre in which it is drawn; the largest reaches 13
_MARGIN = 4.0  # px between an object and the frame, so that shifts in training cut little
_CHUNK = 60  # images painted at once: more would not fit into the CPU cache; part of the random order
_TAN_TILT = 0.25534192122103627  # tan(0.5 rad / 2)
_SQRT3 = 1.7320508075688772
_SQRT6 = 2.449489742783178
_PAINTING = threading.Lock()  # several threads hash the images


def _length(x: Floats, y: Floats) -> Floats:
    return np.sqrt(x * x + y * y)


def _cross(x: Floats, y: Floats) -> Floats:
    x, y = np.abs(x), np.abs(y)
    return np.maximum(np.maximum(x, y) - 1.0, np.minimum(x, y) - 0.27)


def _star(x: Floats, y: Floats) -> Floats:
    radius = _length(x, y)
    c = -y / np.maximum(radius, 1e-9)
    petals = c * (5 + c * c * (16 * c * c - 20))  # cos(5 a) where cos(a) = c
    return 0.8 * (radius - 0.72 - 0.36 * petals)


def _tee(x: Floats, y: Floats) -> Floats:
    stem = np.maximum(np.abs(x) - 0.26, np.abs(y) - 0.85)
    return np.minimum(stem, np.maximum(np.abs(x) - 0.85, np.abs(y - 0.59) - 0.26))


# Signed distance (M, K, K) to each shape's outline, negative inside; unit is the half-size, y points down.
_DISTANCE: dict[str, Callable[[Floats, Floats], Floats]] = {
    "bars": lambda x, y: np.maximum(np.abs(np.abs(x) - 0.56) - 0.26, np.abs(y) - 0.85),
    "crescent": lambda x, y: np.maximum(_length(x, y) - 1.0, 0.78 - _length(x - 0.5, y)),
    "cross": _cross,
    "disk": lambda x, y: _length(x, y) - 0.92,
    "ring": lambda x, y: np.abs(_length(x, y) - 0.75) - 0.22,
    "square": lambda x, y: np.maximum(np.abs(x), np.abs(y)) - 0.8,
    "star": _star,
    "tee": _tee,
    "triangle": lambda x, y: np.maximum(y, 0.5 * (_SQRT3 * np.abs(x) - y)) - 0.58,
}
KINDS = tuple(_DISTANCE)


def _lines() -> Iterator[tuple[int, ...]]:
    """Yield the lines ax + by = c modulo 3 over the points 3x + y, as ascending triples."""
    for a, b in ((0, 1), (1, 0), (1, 1), (1, 2)):
        for c in range(3):
            yield tuple(3 * x + y for x in range(3) for y in range(3) if (a * x + b * y) % 3 == c)


# KINDS is in alphabetical order, so sorted triples give sorted names.
LINES = tuple(sorted(_lines()))
CLASSES = tuple("+".join(KINDS[kind] for kind in line) for line in LINES)
_PARALLELS = np.array([[i for i, b in enumerate(LINES) if not set(a) & set(b)] for a in LINES])


@dataclass(frozen=True)
class Scenes:
    """N scenes of up to S = 6 objects each, later ones in front; kind -1 is no object."""

    kinds: Ints  # (N, S)
    places: NDArray[np.uint8]  # (N, S), index 1 to 3 of a decisive object among its class's three kinds; 0 for clutter
    sizes: Floats  # (N, S), half-size in px
    centres: Floats  # (N, S, 2), x and y in px
    turns: Floats  # (N, S, 2), cosine and sine of the tilt
    tints: Floats  # (N, S, 3), added to the background's colour

    @property
    def decisive(self) -> NDArray[np.bool_]:
        """Mask of the objects that decide the class, (N, S)."""
        return self.places > 0

    def take(self, rows: slice) -> Scenes:
        """Return some of the scenes."""
        return Scenes(*(array[rows] for array in vars(self).values()))


def compose(labels: Ints, rng: np.random.Generator) -> Scenes:
    """Compose scenes of the classes `labels` (N,); all but the kinds is independent of the class."""
    shape = (len(labels), _SLOTS)
    order = np.argsort(rng.random(shape), axis=1, kind="stable")
    kinds = np.concatenate([np.array(LINES)[labels], _clutter(labels, rng)], axis=1)
    sizes = 0.13 * SIDE * _between(0.8, 1.25, rng.random(shape))
    tan = _between(-_TAN_TILT, _TAN_TILT, rng.random(shape))
    turns = np.stack([1 - tan * tan, 2 * tan], axis=-1) / (1 + tan * tan)[..., None]
    brightness = np.where(rng.random(shape) < 0.5, -0.35, 0.35) * _between(0.7, 1.3, rng.random(shape))
    hue = _between(-0.25, 0.25, rng.random((*shape, 3)))
    grey = (hue[..., 0] + hue[..., 1] + hue[..., 2]) / 3
    tints = hue + (brightness - grey)[..., None]
    kinds = np.take_along_axis(kinds, order, axis=1)
    places = np.where(order < 3, order + 1, 0).astype(np.uint8)
    return Scenes(kinds, places, sizes, _place(kinds >= 0, sizes, rng), turns, tints)


def _clutter(labels: Ints, rng: np.random.Generator) -> Ints:
    """Draw kinds of clutter (N, 3) for labels (N,): up to two from a line parallel to the class's.

    Any other two kinds would complete a line with a decisive one. At most one kind occurs twice: if both did, they
    would be recognised as clutter, and their line leaves only two classes.
    """
    count = len(labels)
    parallel = _PARALLELS[labels, (2 * rng.random(count)).astype(np.int64)]
    kinds = np.take_along_axis(np.array(LINES)[parallel], np.argsort(rng.random((count, 3)), kind="stable"), axis=1)
    number = (3 * rng.random(count)).astype(np.int64)
    # The order of the kinds is random, so doubling the first doubles either.
    twice = rng.random(count) < 0.5
    present = np.stack([number > 0, number > 1, (number > 0) & twice], axis=1)
    return np.where(present, kinds[:, [0, 1, 0]], -1)


def _place(present: NDArray[np.bool_], sizes: Floats, rng: np.random.Generator, tries: int = 100) -> Floats:
    """Place objects of half-sizes (N, S): centres (N, S, 2), the first free of random positions, or the freest."""
    centres = np.zeros((*sizes.shape, 2))
    for slot in range(sizes.shape[1]):
        size = sizes[:, slot, None]
        low = (size + _MARGIN)[..., None]
        places = _between(low, SIDE - low, rng.random((len(sizes), tries, 2)))
        room = np.zeros(places.shape[:2])
        for other in range(slot):
            away = places - centres[:, other, None]
            gap = _length(away[..., 0], away[..., 1]) - size - sizes[:, other, None]
            room = np.where(present[:, other, None], np.minimum(room, gap), room)
        centres[:, slot] = places[np.arange(len(sizes)), np.argmax(room, axis=1)]
    return centres


def paint(scenes: Scenes, rng: np.random.Generator) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Paint pixels (N, H, W, 3) and masks (N, H, W): the index of the decisive object visible at a pixel, or 0."""
    count = len(scenes.kinds)
    background = _background(count, rng)
    canvas, masks = background.copy(), np.zeros((count, SIDE, SIDE), np.uint8)
    for slot in range(_SLOTS):
        for kind, name in enumerate(KINDS):
            images = np.flatnonzero(scenes.kinds[:, slot] == kind)
            pose = (scenes.centres[images, slot], scenes.turns[images, slot], scenes.sizes[images, slot])
            window, cover = _cover(name, *pose)
            where = (images[:, None, None], *window)
            colour = background[where] + scenes.tints[images, slot, None, None]
            canvas[where] += cover[..., None] * (colour - canvas[where])
            masks[where] = np.where(cover >= 0.5, scenes.places[images, slot, None, None], masks[where])
    # The sum of two uniform numbers has variance 1/6.
    canvas += 0.06 * _SQRT6 * (rng.random(canvas.shape) + rng.random(canvas.shape) - 1)
    canvas *= 255 * _between(0.8, 1.2, rng.random((count, 1, 1, 1)))
    return np.clip(canvas + 0.5, 0, 255).astype(np.uint8), masks


def _background(count: int, rng: np.random.Generator) -> Floats:
    """Draw smooth colour noise (N, H, W, 3): bilinear between 5 x 5 nearly normal values, deviation 0.12."""
    draws = rng.random((4, count, 5, 5, 3))
    grid = 0.5 + 0.12 * _SQRT3 * (draws[0] + draws[1] + draws[2] + draws[3] - 2)
    position = (np.arange(SIDE) + 0.5) * 4 / SIDE
    cell = position.astype(np.int64)
    share = (position - cell)[:, None]
    rows = grid[:, cell] + share[..., None] * (grid[:, 1:] - grid[:, :-1])[:, cell]
    smooth: Floats = rows[:, :, cell] + share * (rows[:, :, 1:] - rows[:, :, :-1])[:, :, cell]
    return smooth


def _cover(kind: str, centres: Floats, turns: Floats, sizes: Floats) -> tuple[tuple[Ints, Ints], Floats]:
    """Return rows (M, K, 1) and columns (M, 1, K) of the windows of M objects, and their coverage (M, K, K)."""
    corners = np.clip(np.floor(centres).astype(np.int64) - _WINDOW // 2, 0, SIDE - _WINDOW)
    lines = corners[..., None] + np.arange(_WINDOW)
    columns, rows = lines[:, 0, None, :], lines[:, 1, :, None]
    size = sizes[:, None, None]
    x = (columns + 0.5 - centres[:, 0, None, None]) / size
    y = (rows + 0.5 - centres[:, 1, None, None]) / size
    cos, sin = turns[:, 0, None, None], turns[:, 1, None, None]
    distance = _DISTANCE[kind](cos * x + sin * y, cos * y - sin * x)
    return (rows, columns), np.clip(0.5 - distance * size, 0, 1)


def _between(low: Floats | float, high: Floats | float, uniform: Floats) -> Floats:
    return low + (high - low) * uniform


def _labels(split: str, per_class: int) -> tuple[Ints, np.random.Generator]:
    """Return the shuffled labels of a split, and the generator of all that is drawn after them."""
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([_SEED, sorted(PER_CLASS).index(split)])))
    return np.argsort(rng.random(per_class * len(CLASSES)), kind="stable") % len(CLASSES), rng


@dataclass(frozen=True, eq=False)
class Painted(Images):
    """Images of a split, painted together when the first is read: what is kept of them may be all that is needed."""

    split: str
    per_class: int

    def __len__(self) -> int:
        return self.per_class * len(CLASSES)

    def payload(self, index: int) -> bytes:
        """Return the image's raw pixels."""
        return self.painted()[0].payload(index)

    def picture(self, index: int, payload: bytes) -> Picture:
        """Return one image as RGB."""
        return self.painted()[0].picture(index, payload)

    def signature(self) -> str:
        """Return a value that changes with the code that paints."""
        return hashlib.sha256(f"{hashing.sha256(Path(__file__))} {self.split} {self.per_class}".encode()).hexdigest()

    def painted(self) -> tuple[Arrays, NDArray[np.uint8]]:
        """Return the images and the masks of their decisive objects (N, H, W)."""
        with _PAINTING:
            return self._arrays

    @cached_property
    def _arrays(self) -> tuple[Arrays, NDArray[np.uint8]]:
        labels, rng = _labels(self.split, self.per_class)
        scenes = compose(labels, rng)
        parts = [paint(scenes.take(slice(start, start + _CHUNK)), rng) for start in range(0, len(self), _CHUNK)]
        pixels, masks = (np.concatenate(part) for part in zip(*parts, strict=True))
        # All readers of the process share one copy.
        pixels.flags.writeable = masks.flags.writeable = False
        return Arrays(pixels), masks


def generate(split: str, per_class: int) -> Split:
    """Generate `per_class` images of each class from the split's seed, in shuffled order."""
    labels, images = _labels(split, per_class)[0], Painted(split, per_class)
    labels.flags.writeable = False
    ids = tuple(f"{split}/{index:05d}" for index in range(len(images)))
    return Split(CLASSES, ids, labels, images, outlines=lambda: images.painted()[1])


@cache
def _full(split: str) -> Split:
    return generate(split, PER_CLASS[split])


def read(root: Path | None, split: str) -> Split:
    """Return the split `train` (6,000 images) or `test` (1,200); `root` is ignored, since the set is generated."""
    return _full(split)


def sheet(per_class: int = 4) -> Image.Image:
    """Draw test images of every class at double size, each next to a copy with its decisive objects outlined."""
    test, cell = read(None, "test"), 2 * SIDE + 4
    page = Image.new("RGB", (170 + 2 * per_class * cell, len(CLASSES) * cell), "white")
    for row, name in enumerate(CLASSES):
        ImageDraw.Draw(page).text((4, row * cell + SIDE), name, "black")
        for column, index in enumerate(np.flatnonzero(test.labels == row)[:per_class]):
            image = test.images.load(index).resize((2 * SIDE, 2 * SIDE))
            page.paste(image, (170 + 2 * column * cell, row * cell))
            page.paste(_outlined(image, test, index), (170 + (2 * column + 1) * cell, row * cell))
    return page


def _outlined(image: Image.Image, split: Split, index: int) -> Image.Image:
    assert split.masks is not None
    mask = np.pad(split.masks[index].repeat(2, 0).repeat(2, 1), 1)
    inner, around = mask[1:-1, 1:-1], (mask[:-2, 1:-1], mask[2:, 1:-1], mask[1:-1, :-2], mask[1:-1, 2:])
    edge = (inner > 0) & np.any([inner != neighbour for neighbour in around], axis=0)
    return Image.fromarray(np.where(edge[..., None], np.array([255, 255, 0], np.uint8), np.asarray(image)))


if __name__ == "__main__":
    sheet().save(sys.argv[1])
