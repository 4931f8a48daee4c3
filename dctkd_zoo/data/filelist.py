"""Splits from lists of files and from folders: helpers shared by the sources."""

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

OTHER_FORM = " (they exist with the same letters in another Unicode form, NFC or NFD: rename them)"
MOST_CLASSES = 1_000_000
IMAGES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})


def is_image(name: str) -> bool:
    """Return whether a file name has the suffix of an image; a hidden file is never one."""
    path = PurePosixPath(name)
    return path.suffix.lower() in IMAGES and not path.name.startswith(".")


def incomplete(root: Path, what: str, names: Sequence[str] = ()) -> DatasetMissing:
    """Return the error for a dataset in the folder `root`: what is wrong, and the first five names."""
    first = "".join(f"\n  {name}" for name in names[:5])
    rest = f"\n  and {len(names) - 5:,} more" if len(names) > 5 else ""
    return DatasetMissing(f"{root}: {what}{first}{rest}")


def lines(root: Path, name: str) -> list[str]:
    """Return the non-blank lines of the text file `root/name`, stripped; `DatasetError` if it is missing."""
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
    """Return the first names in one line, and how many more there are."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return f"{', '.join(names[:most])}{more}"


def below(folder: Path) -> list[str]:
    """Return the sorted posix paths of all files below `folder`, relative to it; skip hidden ones, follow links.

    `Unreadable` if a folder cannot be read; `DatasetError` for a link back to a folder that contains it.
    """
    result: list[str] = []
    waiting = [("", _Above(folder, None))]
    while waiting:  # not recursive, because folders may be nested deeper than the call stack
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
                raise DatasetError(f"{folder / name}: a link back to a folder that contains it: remove it")
            waiting.append((f"{name}/", here))
    return sorted(result)


class _Above:
    """A folder on the way down, and the one above it."""

    def __init__(self, path: Path, above: _Above | None) -> None:
        try:
            stat = path.stat()
        except OSError as error:
            raise unreadable(path, error) from error
        self.identity, self.above = (stat.st_dev, stat.st_ino), above

    def those_above(self) -> Iterator[tuple[int, int]]:
        folder = self.above
        while folder:
            yield folder.identity
            folder = folder.above


def whole(value: object) -> int:
    """Convert a label, a whole number or its digits, to `int`; `ValueError` for anything else."""
    text = str(value) if isinstance(value, int | str) and not isinstance(value, bool) else ""
    if re.fullmatch(r"\s*\d{1,18}\s*", text, re.ASCII) is None:
        raise ValueError(f"the label is {value!r:.60}, not a whole number of 0 or more")
    return int(text)


def numbered(largest: int) -> tuple[str, ...]:
    """Return names for unnamed classes, their numbers; `ValueError` if labels are ids rather than class numbers."""
    if largest >= MOST_CLASSES:
        raise ValueError(
            f"the label {largest:,} is not a class number: these go from 0 to {MOST_CLASSES - 1:,} at most"
        )
    return tuple(map(str, range(largest + 1)))


def refuse_outside(root: Path, names: Sequence[str]) -> None:
    """Raise `DatasetError` for paths that lead out of the folder `root`; links in it are trusted and followed."""
    outside = [path for path in names if PureWindowsPath(path).anchor or ".." in PureWindowsPath(path).parts]
    if outside:
        raise incomplete(root, f"{len(outside):,} names lead out of this folder:", outside)


def labelled(root: Path, rows: Sequence[tuple[str, str]], classes: Sequence[str]) -> Split:
    """Return a Split of `rows`, each a file's path below `root` and its class, in that order.

    `DatasetError` if there are no rows, a path leads out of `root` or is not UTF-8, or a class is not in `classes`.
    The files are assumed to exist.
    """
    if not rows:
        raise incomplete(root, "there are no images")
    refuse_outside(root, [path for path, _ in rows])
    broken = [path for row in rows for path in row if not _is_utf8(path)]
    if broken:
        raise incomplete(root, f"{len(broken):,} names are not UTF-8, rename them:", list(map(repr, broken)))
    label = {name: index for index, name in enumerate(classes)}
    unknown = [f"{name} ({path})" for path, name in rows if name not in label]
    if unknown:
        known = set(map(composed, classes))
        other_form = any(composed(name) in known for _, name in rows if name not in label)
        what = f"{len(unknown):,} images of classes that are not among the {len(classes)}{OTHER_FORM * other_form}"
        raise incomplete(root, f"{what}:", unknown)
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
    """Return a Split as `labelled` does; `DatasetError` if a file does not exist."""
    split = labelled(root, rows, classes)
    missing = absent(root, split.ids)
    if missing:
        what = f"{len(missing):,} of {len(rows):,} listed images are missing"
        other_form = any(_in_other_form(root, name) for name in missing[:5])
        raise incomplete(root, f"{what}{OTHER_FORM * other_form}:", missing)
    return split


def composed(name: str) -> str:
    """Return a name in Unicode form NFC, usual except on a Mac: `é` as one character."""
    return unicodedata.normalize("NFC", name)


def _in_other_form(root: Path, name: str) -> bool:
    """Return whether a path exists below `root` in another Unicode form, with accents composed or decomposed."""
    current = ""
    for part in name.split("/"):
        matches = (path for path in _inside(root, current) if composed(path.rpartition("/")[2]) == composed(part))
        current = next(matches, "")
        if not current:
            return False
    return True


def absent(root: Path, names: Iterable[str]) -> list[str]:
    """Return those of the posix paths `names` below `root` that do not exist."""
    # One listing per folder: checking each file takes minutes on a network disk.
    folders: defaultdict[str, list[str]] = defaultdict(list)
    for name in names:
        folders[name.rpartition("/")[0]].append(name)
    missing = []
    for folder, inside in folders.items():
        existing = set(_inside(root, folder))
        missing += [name for name in inside if name not in existing]
    return missing


def _inside(root: Path, folder: str) -> list[str]:
    """Return the paths, below `root`, of what is in a folder there; none if it does not exist."""
    try:
        return [f"{folder}/{entry.name}".lstrip("/") for entry in entries(root / folder)]
    except Unreadable as error:
        if not is_missing(error):
            raise
        return []
