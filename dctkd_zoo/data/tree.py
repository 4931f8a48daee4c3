"""Names and lists below a folder -> a Split of files: what the sources share."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath

import numpy as np

from dctkd_zoo.data.split import Files, Split
from dctkd_zoo.errors import DatasetMissing

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
        text = (root / name).read_text(encoding="utf-8")
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
        raise incomplete(root, f"there is no {name}") from error
    except UnicodeDecodeError as error:
        raise incomplete(root, f"{name} is not UTF-8: {error}") from error
    return [line.strip() for line in text.splitlines() if line.strip()]


def below(folder: Path) -> list[str]:
    """Posix paths of the files anywhere below `folder`, relative to it, sorted; nothing hidden."""
    found = []
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        prefix = Path(parent).relative_to(folder)
        found += [(prefix / name).as_posix() for name in files if not name.startswith(".")]
    return sorted(found)


def labelled(root: Path, rows: Sequence[tuple[str, str]], classes: Sequence[str]) -> Split:
    """A Split of `rows`, each a file's path below `root` and its class, in that order.

    `DatasetError` where there are no rows, a path leads out of `root` or is not UTF-8, or a class is not of `classes`.
    The files are taken to exist.
    """
    if not rows:
        raise incomplete(root, "there are no images")
    outside = [path for path, _ in rows if PureWindowsPath(path).anchor or ".." in PureWindowsPath(path).parts]
    if outside:
        raise incomplete(root, f"{len(outside):,} names lead out of this folder:", outside)
    broken = [path for row in rows for path in row if not _is_utf8(path)]
    if broken:
        raise incomplete(root, f"{len(broken):,} names are not UTF-8, rename them:", list(map(repr, broken)))
    label = {name: index for index, name in enumerate(classes)}
    strange = [f"{name} ({path})" for path, name in rows if name not in label]
    if strange:
        raise incomplete(root, f"{len(strange):,} images of classes that are not among the {len(classes)}:", strange)
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
        raise incomplete(root, f"{len(lost):,} of {len(rows):,} listed images are missing:", lost)
    return split


def absent(root: Path, names: Iterable[str]) -> list[str]:
    """Those of the posix paths `names` below `root` that do not exist."""
    # One listing per folder: a question per file takes minutes on a network disk.
    folders: defaultdict[str, list[str]] = defaultdict(list)
    for name in names:
        folders[name.rpartition("/")[0]].append(name)
    lost = []
    for folder, inside in folders.items():
        path = root / folder
        try:
            there = {entry.name for entry in path.iterdir()} if path.is_dir() else set()
        except OSError:  # a name that no disk takes, or a folder that may not be looked into
            there = set()
        lost += [name for name in inside if name.rpartition("/")[2] not in there]
    return lost
