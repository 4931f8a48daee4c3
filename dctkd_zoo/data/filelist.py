"""Names and lists below a folder -> a Split of files: what the sources share."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath

import numpy as np

from dctkd_zoo.data.files import contents, entries, is_folder, is_missing, unreadable
from dctkd_zoo.data.split import Files, Split
from dctkd_zoo.errors import DatasetError, DatasetMissing, Unreadable

OTHER_FORM = " (the same letters are there in another Unicode form, NFC or NFD: rename them)"
MOST_CLASSES = 1_000_000
IMAGES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})


def is_image(name: str) -> bool:
    """Whether a file's name says that it is an image; a hidden file never is."""
    path = PurePosixPath(name)
    return path.suffix.lower() in IMAGES and not path.name.startswith(".")


def incomplete(root: Path, what: str, names: Sequence[str] = ()) -> DatasetMissing:
    """The error for a dataset in the folder `root`: what is wrong, and the first five."""
    first = "".join(f"\n  {name}" for name in names[:5])
    rest = f"\n  and {len(names) - 5:,} more" if len(names) > 5 else ""
    return DatasetMissing(f"{root}: {what}{first}{rest}")


def lines(root: Path, name: str) -> list[str]:
    """The lines of the text file `root/name` that are not blank, stripped; `DatasetError` where it is missing."""
    try:
        text = contents(root / name).decode()
    except Unreadable as error:
        if not is_missing(error):
            raise
        raise incomplete(root, f"there is no {name}") from error
    except UnicodeDecodeError as error:
        raise incomplete(root, f"{name} is not UTF-8: {error}") from error
    return [line.strip() for line in text.splitlines() if line.strip()]


def brief(names: Sequence[str], most: int = 5) -> str:
    """The first names in one line, and how many more there are."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return f"{', '.join(names[:most])}{more}"


def below(folder: Path) -> list[str]:
    """Posix paths of the files anywhere below `folder`, relative to it, sorted; nothing hidden. Links are followed.

    `Unreadable` where a folder cannot be looked into; `DatasetError` for a link that leads back to where it lies.
    """
    result: list[str] = []
    waiting = [("", _Above(folder, None))]
    while waiting:  # by hand, for folders may be nested deeper than calls can be
        prefix, above = waiting.pop()
        for entry in entries(folder / prefix):
            if entry.name.startswith("."):
                continue
            name = f"{prefix}{entry.name}"
            if not is_folder(entry):
                result.append(name)
                continue
            here = _Above(folder / name, above)
            if entry.is_symlink() and here.identity in here.those_above():
                raise DatasetError(f"{folder / name}: a link that leads back to a folder that it lies in: remove it")
            waiting.append((f"{name}/", here))
    return sorted(result)


class _Above:
    """A folder on the way down, and the one it was come to from."""

    def __init__(self, path: Path, above: _Above | None) -> None:
        try:
            stat = path.stat()
        except OSError as error:
            raise unreadable(path, error) from error
        self.identity, self.above = (stat.st_dev, stat.st_ino), above

    def those_above(self) -> Iterator[tuple[int, int]]:
        item = self.above
        while item:
            yield item.identity
            item = item.above


def whole(value: object) -> int:
    """A label as a file tells it, a whole number or its digits, as `int`; `ValueError` for anything else."""
    text = str(value) if isinstance(value, int | str) and not isinstance(value, bool) else ""
    if re.fullmatch(r"\s*\d{1,18}\s*", text, re.ASCII) is None:
        raise ValueError(f"the label is {value!r:.60}, not a whole number from 0 on")
    return int(text)


def numbered(largest: int) -> tuple[str, ...]:
    """Names for the classes of labels that have none; `ValueError` where labels are not numbers of classes but ids."""
    if largest >= MOST_CLASSES:
        raise ValueError(f"the label {largest:,} is no number of a class: they count from 0, at most {MOST_CLASSES:,}")
    return tuple(map(str, range(largest + 1)))


def refuse_outside(root: Path, names: Sequence[str]) -> None:
    """`DatasetError` for paths that lead out of the folder `root`; links in it are its owner's, and followed."""
    outside = [path for path in names if PureWindowsPath(path).anchor or ".." in PureWindowsPath(path).parts]
    if outside:
        raise incomplete(root, f"{len(outside):,} names lead out of this folder:", outside)


def labelled(root: Path, rows: Sequence[tuple[str, str]], classes: Sequence[str]) -> Split:
    """A Split of `rows`, each a file's path below `root` and its class, in that order.

    `DatasetError` where there are no rows, a path leads out of `root` or is not UTF-8, or a class is not of `classes`.
    The files are taken to exist.
    """
    if not rows:
        raise incomplete(root, "there are no images")
    refuse_outside(root, [path for path, _ in rows])
    broken = [path for row in rows for path in row if not _is_utf8(path)]
    if broken:
        raise incomplete(root, f"{len(broken):,} names are not UTF-8, rename them:", list(map(repr, broken)))
    label = {name: index for index, name in enumerate(classes)}
    strange = [f"{name} ({path})" for path, name in rows if name not in label]
    if strange:
        known = set(map(composed, classes))
        alike = any(composed(name) in known for _, name in rows if name not in label)
        what = f"{len(strange):,} images of classes that are not among the {len(classes)}{OTHER_FORM * alike}"
        raise incomplete(root, f"{what}:", strange)
    ids = tuple(path for path, _ in rows)
    labels = np.array([label[name] for _, name in rows], dtype=np.int64)
    return Split(tuple(classes), ids, labels, Files(root, ids))


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def listed(root: Path, rows: Sequence[tuple[str, str]], classes: Sequence[str]) -> Split:
    """`labelled`, and `DatasetError` where a file does not exist."""
    split = labelled(root, rows, classes)
    lost = absent(root, split.ids)
    if lost:
        what = f"{len(lost):,} of {len(rows):,} listed images are missing"
        raise incomplete(root, f"{what}{OTHER_FORM * any(_in_other_form(root, name) for name in lost[:5])}:", lost)
    return split


def composed(name: str) -> str:
    """A name in the one of its Unicode forms that is usual but on a Mac: `é` as one character."""
    return unicodedata.normalize("NFC", name)


def _in_other_form(root: Path, name: str) -> bool:
    """Whether a path below `root` is there by the same letters, where those with accents are one character or two."""
    here = ""
    for part in name.split("/"):
        alike = (path for path in _inside(root, here) if composed(path.rpartition("/")[2]) == composed(part))
        here = next(alike, "")
        if not here:
            return False
    return True


def absent(root: Path, names: Iterable[str]) -> list[str]:
    """Those of the posix paths `names` below `root` that do not exist."""
    # One listing per folder: a question per file takes minutes on a network disk.
    folders: defaultdict[str, list[str]] = defaultdict(list)
    for name in names:
        folders[name.rpartition("/")[0]].append(name)
    lost = []
    for folder, inside in folders.items():
        there = set(_inside(root, folder))
        lost += [name for name in inside if name not in there]
    return lost


def _inside(root: Path, folder: str) -> list[str]:
    """Paths below `root` of what is in a folder there; none where it does not exist."""
    try:
        return [f"{folder}/{entry.name}".lstrip("/") for entry in entries(root / folder)]
    except Unreadable as error:
        if not is_missing(error):
            raise
        return []
