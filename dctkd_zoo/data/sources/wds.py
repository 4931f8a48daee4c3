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

from dctkd_zoo._io import json_file
from dctkd_zoo._io.typecheck import fits
from dctkd_zoo.data import filelist
from dctkd_zoo.data.files import opened
from dctkd_zoo.data.fingerprint import remembered
from dctkd_zoo.data.sources.hfds import open_reader
from dctkd_zoo.data.split import Split, Tars, stat_of
from dctkd_zoo.errors import DatasetError, reason_of

PARTS = {"train": ("train",), "test": ("test", "val")}
MOST = 2**20  # bytes of a label's file
FORMAT = 2  # raise when the index of a tar changes

Row = tuple[str, int, int, int]  # a sample's name, its image's offset and size, its label


def read(root: Path, split: str) -> Split:
    """The split "train" or "test" of the folder `root`; ids are `<tar>/<sample>`."""
    names = _tars(root, split)
    rows = [(number, *row) for number, name in enumerate(names) for row in _index(root, name)]
    if not rows:
        raise filelist.incomplete(root, f"the tars of {split} hold no images")
    ids = tuple(f"{names[number].removesuffix('.tar')}/{key}" for number, key, *_ in rows)
    labels = np.array([row[-1] for row in rows], np.int64)
    try:
        classes = _classes(root) or filelist.numbered(_largest(root))
    except ValueError as error:
        raise filelist.incomplete(root, f"{error}; name the classes in classes.txt, one a line") from error
    if labels.max() >= len(classes):
        raise filelist.incomplete(
            root, f"{split} has labels {labels.min()} to {labels.max()} of {len(classes)} classes"
        )
    where = np.array([(number, offset, size) for number, _, offset, size, _ in rows], np.int64)
    return Split(classes, ids, labels, Tars(root, names, where))


def _tars(root: Path, split: str) -> tuple[str, ...]:
    info = next((root / name for name in ("_info.json", "info.json") if (root / name).is_file()), None)
    if info is not None:
        known = json_file.read_object(info, DatasetError).get("splits")
        if not isinstance(known, dict):
            raise DatasetError(f"{info}: its splits are {known!r:.60}, not an object")
        part = next((part for part in (*PARTS[split], "validation") if part in known), split)
        meta = known.get(part)
        names = meta.get("filenames", []) if isinstance(meta, dict) else []
        if not fits(names, list[str]):
            raise DatasetError(f"{info}: the filenames of {part} are {names!r:.60}, not a list of names")
        filelist.refuse_outside(root, names)
        reader = open_reader("wds", "", root, part)
        return tuple(map(str, reader.split_info.filenames))
    there = filelist.below(root) if root.is_dir() else []
    for part in PARTS[split]:
        result = tuple(name for name in there if name.startswith(part) and name.endswith(".tar"))
        if result:
            return result
    raise filelist.incomplete(root, f"there is no {' or '.join(f'{part}*.tar' for part in PARTS[split])}")


def _classes(root: Path) -> tuple[str, ...]:
    return tuple(filelist.lines(root, "classes.txt")) if (root / "classes.txt").is_file() else ()


def _largest(root: Path) -> int:
    return max((row[-1] for name in _tars(root, "train") for row in _index(root, name)), default=-1)


def _index(root: Path, name: str) -> list[Row]:
    """The samples of a tar in order, remembered while it does not change."""
    key = hashlib.sha256(f"{FORMAT}\n{stat_of(root, (name,))}".encode()).hexdigest()
    try:
        result: list[Row] = remembered("tars", key, lambda: list(_samples(root / name)), name)
    except (tarfile.TarError, EOFError, ValueError, KeyError) as error:
        raise DatasetError(
            f"{root / name}: {reason_of(error)}; shards are plain tar files of images and their labels"
        ) from error
    return result


def _samples(path: Path) -> Iterator[Row]:
    samples: dict[str, dict[str, Any]] = {}
    with opened(path) as file, tarfile.open(path, "r:", fileobj=file) as tar:
        for member in tar:
            if member.isreg() and not member.issparse():
                stem, _, kind = PurePosixPath(member.name).name.partition(".")
                key = str(PurePosixPath(member.name).parent / stem)
                if filelist.is_image(f"x.{kind}"):
                    samples.setdefault(key, {}).setdefault("image", member)
                elif kind in ("cls", "json"):
                    samples.setdefault(key, {})[kind] = _bytes(tar, member)
    for key, sample in samples.items():
        if "image" in sample:
            yield key, sample["image"].offset_data, sample["image"].size, _label(key, sample)


def _bytes(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    if member.size > MOST:
        raise ValueError(f"{member.name} has {member.size:,} bytes, a label at most {MOST:,}")
    file = tar.extractfile(member)
    assert file is not None
    return file.read()


def _label(key: str, sample: dict[str, Any]) -> int:
    try:
        if "cls" in sample:
            return filelist.whole(sample["cls"].decode())
        if "json" in sample:
            return filelist.whole(_field(json.loads(sample["json"])))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"the sample {key}: {error}") from error
    raise ValueError(f"the sample {key} has neither a .cls nor a .json")


def _field(told: object) -> object:
    if not isinstance(told, dict) or "label" not in told:
        raise ValueError(f"its .json is {told!r:.60}, not an object with a label")
    return told["label"]
