"""WebDataset shards, `<split>-<number>.tar` with images and their labels -> Split of members, read where they lie.

A sample is the members of one name: `0001.jpg` and its label, `0001.cls` (a number) or `0001.json` with a field
`label`. Other members are never read. Where there is an `_info.json`, timm's reader `wds` says from it which tars a
split has; else they are called `train*.tar` and `test*.tar` or `val*.tar`. `classes.txt` names the classes, one a line.

timm's reader gives no positions and passes over broken samples in silence, so the members are found here.
"""

from __future__ import annotations

import hashlib
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from dctkd_zoo.data import tree
from dctkd_zoo.data.content import remembered
from dctkd_zoo.data.packed import Tars
from dctkd_zoo.data.reader import open_reader
from dctkd_zoo.data.split import Split, stat_of
from dctkd_zoo.errors import DatasetError, reason_of

PARTS = {"train": ("train",), "test": ("test", "val")}
FORMAT = 1  # raise when the index of a tar changes

Row = tuple[str, int, int, int]  # a sample's name, its image's offset and size, its label


def read(root: Path, split: str) -> Split:
    """The split "train" or "test" of the folder `root`; ids are `<tar>/<sample>`."""
    names = _tars(root, split)
    rows = [(number, *row) for number, name in enumerate(names) for row in _index(root, name)]
    if not rows:
        raise tree.incomplete(root, f"the tars of {split} hold no images")
    ids = tuple(f"{names[number].removesuffix('.tar')}/{key}" for number, key, *_ in rows)
    labels = np.array([row[-1] for row in rows], np.int64)
    classes = _classes(root) or tuple(str(label) for label in range(_largest(root) + 1))
    if labels.max() >= len(classes) or labels.min() < 0:
        raise tree.incomplete(root, f"{split} has labels {labels.min()} to {labels.max()} of {len(classes)} classes")
    where = np.array([(number, offset, size) for number, _, offset, size, _ in rows], np.int64)
    return Split(classes, ids, labels, Tars(root, names, where))


def _tars(root: Path, split: str) -> tuple[str, ...]:
    info = next((root / name for name in ("_info.json", "info.json") if (root / name).is_file()), None)
    if info is not None:
        known = json.loads(info.read_text())["splits"]
        part = next((part for part in (*PARTS[split], "validation") if part in known), split)
        reader = open_reader("wds", "", root, part)
        return tuple(map(str, reader.split_info.filenames))
    for part in PARTS[split]:
        found = [name for name in tree.below(root) if name.startswith(part) and name.endswith(".tar")]
        if found:
            return tuple(found)
    raise tree.incomplete(root, f"there is no {' or '.join(f'{part}*.tar' for part in PARTS[split])}")


def _classes(root: Path) -> tuple[str, ...]:
    return tuple(tree.lines(root, "classes.txt")) if (root / "classes.txt").is_file() else ()


def _largest(root: Path) -> int:
    return max((row[-1] for name in _tars(root, "train") for row in _index(root, name)), default=-1)


def _index(root: Path, name: str) -> list[Row]:
    """The samples of a tar in order, remembered while it does not change."""
    key = hashlib.sha256(f"{FORMAT}\n{stat_of(root, (name,))}".encode()).hexdigest()
    try:
        found: list[Row] = remembered("tars", key, lambda: list(_samples(root / name)), name)
    except (tarfile.TarError, EOFError, ValueError, KeyError) as error:
        raise DatasetError(
            f"{root / name}: {reason_of(error)}; shards are plain tar files of images and their labels"
        ) from error
    return found


def _samples(path: Path) -> Iterator[Row]:
    samples: dict[str, dict[str, Any]] = {}
    with tarfile.open(path, "r:") as tar:
        for member in tar:
            if member.isreg() and not member.issparse():
                stem, _, kind = PurePosixPath(member.name).name.partition(".")
                key = str(PurePosixPath(member.name).parent / stem)
                if tree.is_image(f"x.{kind}"):
                    samples.setdefault(key, {}).setdefault("image", member)
                elif kind in ("cls", "json"):
                    samples.setdefault(key, {})[kind] = _bytes(tar, member)
    for key, sample in samples.items():
        if "image" in sample:
            yield key, sample["image"].offset_data, sample["image"].size, _label(key, sample)


def _bytes(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = tar.extractfile(member)
    assert file is not None
    return file.read()


def _label(key: str, sample: dict[str, Any]) -> int:
    if "cls" in sample:
        return int(sample["cls"])
    if "json" in sample:
        return int(json.loads(sample["json"])["label"])
    raise ValueError(f"the sample {key} has neither a .cls nor a .json")
