"""Source of MiniPlaces: the official lists, images and object outlines, or a part of them chosen by rule.

In the root, or its folder `data`, are `train.txt` and `val.txt` (an image's path below `images` and its class number
in each line) and `categories.txt` (`/a/abbey 0`); the outlines are `objects/**/*.xml` or the same in `objects.zip`.
"test" is the official validation set. `annotated` reads the images with outlines that `train` of the part 12k
does not have, with masks of the objects that are typical of their scene (`diagnostic`).

`miniplaces/12k` keeps 120 training images of each class, as `FIRST`, `PER_CLASS` and `LEFT_OUT` say;
`miniplaces/all` keeps all. With `-scene15` at the end, those that 15-Scene has too are left out (`overlaps.txt`), for
networks that are tested there.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from dctkd_zoo.data import filelist
from dctkd_zoo.data.archive import read_zip
from dctkd_zoo.data.files import contents
from dctkd_zoo.data.split import Split, first_of_each
from dctkd_zoo.errors import DatasetError

SIDE = 128  # px of every image

FIRST, PER_CLASS = 301, 120  # of 12k: the first images of each class from this number on
# Images from FIRST on that also stand elsewhere in MiniPlaces, byte for byte or under another label, by class.
LEFT_OUT: Mapping[int, frozenset[int]] = {
    12: frozenset({327}),
    42: frozenset({363}),
    59: frozenset({361}),
    67: frozenset({337}),
    83: frozenset({328}),
    88: frozenset({329}),
    94: frozenset({361, 378, 380}),
    99: frozenset({387}),
}
MOST_ANNOTATED = 60  # training images of a class in `annotated`
OVERLAPS = Path(__file__).with_name("miniplaces_overlaps.txt")

# Diagnostic objects of a scene: pointwise mutual information of at least LEAST_BITS, in at least LEAST_IMAGES of its
# annotated training images and LEAST_SHARE of them.
LEAST_BITS, LEAST_IMAGES, LEAST_SHARE = 1.0, 3, 0.1
OBJECTS = 3  # categories that the mask of an image shows
# Regions rather than objects, which cover most of an image whatever its scene.
# fmt: off
STUFF = frozenset({
    "ceiling", "field", "floor", "grass", "ground", "hill", "land", "mountain", "path", "river_water", "road",
    "rocky_mountain", "sand_beach", "sea_water", "sidewalk", "sky", "snowy_mountain", "trees", "wall", "water",
})
# fmt: on

Row = tuple[str, int]  # an image's path below `images`, and its label


@dataclass(frozen=True)
class Outline:
    """An object's category number and its corners, (x, y) in px from 0."""

    category: int
    corners: tuple[tuple[int, int], ...]


def read(root: Path, split: str, part: str = "all") -> Split:
    """Read the split "train" or "test" of a part of MiniPlaces; ids are paths like `images/train/a/abbey/...jpg`.

    Without the folder `root` (`miniplaces12k`), the folder `miniplaces` next to it is read.
    """
    which = re.fullmatch("(all|12k)(-scene15)?", part)
    if which is None:
        raise DatasetError(f"MiniPlaces has no part {part!r}, only all and 12k, also with -scene15 at the end")
    root, home = _found(root)
    rows = _numbered(home, "val.txt" if split == "test" else "train.txt")
    if split == "train":
        rows = chosen(rows) if which[1] == "12k" else rows
        out = frozenset(OVERLAPS.read_text(encoding="utf-8").split()) if which[2] else frozenset[str]()
        rows = [row for row in rows if row[0] not in out]
    return _listed(root, home, rows)


def _found(root: Path) -> tuple[Path, Path]:
    """Return the folder of the images and that of the lists."""
    if not root.is_dir() and (root.parent / "miniplaces").is_dir():
        root = root.parent / "miniplaces"
    return root, root / "data" if (root / "data" / "train.txt").is_file() else root


def _listed(root: Path, home: Path, rows: Iterable[Row]) -> Split:
    names = _names(home)
    wrong = [f"{label} ({path})" for path, label in rows if not 0 <= label < len(names)]
    if wrong:
        raise filelist.incomplete(root, f"{len(wrong):,} labels are not numbers of categories.txt:", wrong)
    return filelist.listed(root, [(f"images/{path}", names[label]) for path, label in rows], names)


def _numbered(home: Path, name: str) -> list[Row]:
    rows = []
    for line in filelist.lines(home, name):
        path, _, number = line.rpartition(" ")
        if not path or not number.isdecimal():
            raise filelist.incomplete(home, f"{name}: {line!r:.80} is not a name and a number")
        rows.append((path, int(number)))
    return rows


def _names(home: Path) -> list[str]:
    """Return the names of the scenes by number; `DatasetError` if `categories.txt` does not number them from 0 on."""
    rows = _numbered(home, "categories.txt")
    wrong = [f"{name} {number}" for place, (name, number) in enumerate(rows) if number != place or "/" not in name[1:]]
    if wrong:
        raise filelist.incomplete(home, "categories.txt has lines other than /LETTER/NAME and their number:", wrong)
    return [readable(name) for name, _ in rows]


def readable(category: str) -> str:
    """Return a scene's name as a person reads it: `/c/church/outdoor` -> `church (outdoor)`."""
    name, *kind = category.strip("/").split("/")[1:]
    return " ".join([name, *(f"({part})" for part in kind)]).replace("_", " ")


def number(path: str) -> int:
    """Return the number of an image in its class: `train/a/abbey/00000301.jpg` -> 301; `DatasetError` for no number."""
    stem = PurePosixPath(path).stem
    if not (stem.isascii() and stem.isdecimal()):
        raise DatasetError(f"MiniPlaces: {path!r:.80} is not named by a number, by which the part 12k is chosen")
    return int(stem)


def chosen(rows: Iterable[Row]) -> list[Row]:
    """Return the training images of the part 12k, in the order of the list."""
    numbered = ((path, label, number(path)) for path, label in rows)
    usable = [(path, label) for path, label, n in numbered if n >= FIRST and n not in LEFT_OUT.get(label, ())]
    return _first_rows(usable, PER_CLASS)


def _first_rows(rows: list[Row], most: int) -> list[Row]:
    """Return the first `most` rows of each label, in their order."""
    return [rows[index] for index in first_of_each((label for _, label in rows), most)]


def annotated(root: Path, part: str = "all") -> Split:
    """Read the images with outlines: the first `MOST_ANNOTATED` of each class of `train.txt`, and all of `val.txt`.

    Those that the part 12k trains on are not among them, so only its networks can be measured on them.
    """
    root, home = _found(root)
    outlines = _outlines(root)
    if (home / "annotated.txt").is_file():
        rows = _numbered(home, "annotated.txt")
    else:
        train = _numbered(home, "train.txt")
        out = {path for path, _ in chosen(train)}
        rows = _first_rows([r for r in train if r[0] in outlines and r[0] not in out], MOST_ANNOTATED)
        rows += [row for row in _numbered(home, "val.txt") if row[0] in outlines]
    missing = [path for path, _ in rows if path not in outlines]
    if missing:
        raise filelist.incomplete(root, f"{len(missing):,} annotated images have no outlines:", missing)
    split = _listed(root, home, rows)
    categories = [name for name, _ in _numbered(home, "object_categories.txt")]
    unknown = [path for path, _ in rows if any(o.category not in range(len(categories)) for o in outlines[path])]
    if unknown:
        what = f"{len(unknown):,} images have objects whose number is not in object_categories.txt:"
        raise filelist.incomplete(home, what, unknown)
    present = [(label, {outline.category for outline in outlines[path]}) for path, label in rows]
    training = [item for item, (path, _) in zip(present, rows, strict=True) if path.startswith("train/")]
    typical = diagnostic(training, categories)

    def masks() -> NDArray[np.uint8]:
        return np.stack([mask(outlines[path], typical.get(label, {})) for path, label in rows])

    return replace(split, outlines=masks)


def _outlines(root: Path) -> dict[str, tuple[Outline, ...]]:
    """Return the outlines of each annotated image, by its path below `images`."""
    archive, folder = root / "objects.zip", root / "objects"
    if folder.is_dir():
        files = {name: contents(folder / name) for name in filelist.below(folder) if name.endswith(".xml")}
    elif archive.is_file():
        inside = read_zip(archive, lambda name: name.startswith("objects/") and name.endswith(".xml"))
        files = {name.removeprefix("objects/"): data for name, data in inside.items()}
    else:
        raise filelist.incomplete(root, "there is neither a folder objects nor objects.zip, so no outlines of objects")
    return {f"{name.removesuffix('.xml')}.jpg": parsed(data, f"{root}: {name}") for name, data in files.items()}


def parsed(data: bytes, name: str) -> tuple[Outline, ...]:
    """Parse an image's outlines: several root elements, of which `objects` has `class` and a `polygon` of `pt`."""
    if b"<!" in data:  # neither a document type nor an entity belongs there
        raise DatasetError(f"{name}: has a declaration, which outlines of objects do not need")
    try:
        tree = ElementTree.fromstring(b"<all>" + data + b"</all>")
        return tuple(_outline(item) for item in tree.findall("objects"))
    except (ElementTree.ParseError, ValueError, TypeError) as error:
        raise DatasetError(f"{name}: not the outlines of objects: {error}") from error


def _outline(item: ElementTree.Element) -> Outline:
    points = item.findall("polygon/pt")
    corners = tuple((int(point.findtext("x", "")) - 1, int(point.findtext("y", "")) - 1) for point in points)
    return Outline(int(item.findtext("class", "")), corners)


def diagnostic(images: Iterable[tuple[int, set[int]]], categories: list[str]) -> dict[int, dict[int, float]]:
    """Return the diagnostic object categories of each scene, with their pointwise mutual information in bits.

    `images` are the scene and the object categories of each annotated training image. The information is
    log2(p(category, scene) / (p(category) p(scene))), of the presence of a category in an image.
    """
    of_scene, of_category, together, total = Counter[int](), Counter[int](), Counter[tuple[int, int]](), 0
    for scene, present in images:
        total += 1
        of_scene[scene] += 1
        of_category.update(present)
        together.update((scene, category) for category in present)
    result: defaultdict[int, dict[int, float]] = defaultdict(dict)
    for (scene, category), count in sorted(together.items()):
        bits = math.log2(count * total / (of_category[category] * of_scene[scene]))
        frequent = count >= max(LEAST_IMAGES, LEAST_SHARE * of_scene[scene])
        if frequent and bits >= LEAST_BITS and categories[category] not in STUFF:
            result[scene][category] = bits
    return dict(result)


def mask(outlines: Iterable[Outline], typical: Mapping[int, float]) -> NDArray[np.uint8]:
    """Return the mask (SIDE, SIDE) of an image: 1 for its most diagnostic category, up to `OBJECTS`, else 0.

    Where outlines overlap, the more diagnostic category is in front.
    """
    outlines = list(outlines)
    present = {outline.category for outline in outlines}
    ranked = sorted((c for c in present if c in typical), key=lambda c: (-typical[c], c))[:OBJECTS]
    image = Image.new("L", (SIDE, SIDE))
    draw = ImageDraw.Draw(image)
    for rank in range(len(ranked), 0, -1):
        for outline in outlines:
            if outline.category == ranked[rank - 1] and len(outline.corners) > 1:
                draw.polygon(outline.corners, fill=rank)
    return np.asarray(image).copy()
