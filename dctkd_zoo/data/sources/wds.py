"""Source of WebDataset tar shards, read in place without unpacking.

A sample consists of the members of one name: `0001.jpg` and its label, `0001.cls` (a number) or `0001.json` with a
field `label`. Other members are never read. The tars of a split are those that `_info.json` (or `info.json`) lists,
else `train*.tar` and `test*.tar` or `val*.tar`. `classes.txt` names the classes, one per line.

timm's reader gives no random access and skips broken samples without a message, so the tars are indexed here.
"""

from __future__ import annotations

import hashlib
import json
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dctkd_zoo._io import json_file
from dctkd_zoo._io.typecheck import fits
from dctkd_zoo.data import decode, filelist
from dctkd_zoo.data.decode import Picture
from dctkd_zoo.data.files import opened, unreadable
from dctkd_zoo.data.fingerprint import remembered
from dctkd_zoo.data.split import Images, Split, stat_of
from dctkd_zoo.errors import DatasetError, Unreadable, reason_of

PARTS = {"train": ("train",), "test": ("test", "val")}  # prefixes of a split's tars
INFO = {"train": ("train",), "test": ("test", "val", "validation")}  # names of a split in `_info.json`
MOST = 2**20  # maximum bytes of a label file
FORMAT = 2  # increase when the index of a tar changes

Row = tuple[str, int, int, int]  # a sample's name, its image's offset and size, its label


@dataclass(frozen=True, eq=False)
class Tars(Images):
    """Members of uncompressed tar files; each row of `where` (N, 3) is the number of a tar, an offset and a size."""

    root: Path
    names: tuple[str, ...]
    where: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.where)

    def payload(self, index: int) -> bytes:
        """Return the member's bytes; `Unreadable` if the tar ends before."""
        tar, offset, size = self.where[index].tolist()
        path = self.root / self.names[tar]
        with opened(path) as file:
            try:
                file.seek(offset)
                data = file.read(size)
            except (OSError, MemoryError) as error:
                raise unreadable(path, error) from error
        if len(data) < size:
            raise Unreadable(f"{path}: ends within a member")
        return data

    def picture(self, index: int, payload: bytes) -> Picture:
        """Decode one image as RGB."""
        tar, offset, _ = self.where[index].tolist()
        return decode.decode(payload, f"{self.root / self.names[tar]} at byte {offset:,}")

    def signature(self) -> str:
        """Return a value that changes whenever a tar is written to."""
        return stat_of(self.root, self.names)


def read(root: Path, split: str) -> Split:
    """Read the split "train" or "test" of the folder `root`; ids are `<tar>/<sample>`."""
    names = _tars(root, split)
    rows = [(number, *row) for number, name in enumerate(names) for row in _index(root, name)]
    if not rows:
        raise filelist.incomplete(root, f"the tars of {split} hold no images")
    ids = tuple(f"{names[number].removesuffix('.tar')}/{key}" for number, key, *_ in rows)
    labels = np.array([row[-1] for row in rows], np.int64)
    try:
        classes = _classes(root) or filelist.numbered(_largest(root))
    except ValueError as error:
        raise filelist.incomplete(root, f"{error}; name the classes in classes.txt, one per line") from error
    if labels.max() >= len(classes):
        raise filelist.incomplete(
            root, f"{split} has labels {labels.min()} to {labels.max()} of {len(classes)} classes"
        )
    where = np.array([(number, offset, size) for number, _, offset, size, _ in rows], np.int64)
    return Split(classes, ids, labels, Tars(root, names, where))


def _tars(root: Path, split: str) -> tuple[str, ...]:
    info = next((root / name for name in ("_info.json", "info.json") if (root / name).is_file()), None)
    if info is not None:
        parts = json_file.read_object(info, DatasetError).get("splits")
        if not isinstance(parts, dict):
            raise DatasetError(f"{info}: its splits are {parts!r:.60}, not an object")
        part = next((part for part in INFO[split] if part in parts), None)
        if part is None:
            listed = filelist.brief(tuple(parts)) or "none"
            raise filelist.incomplete(
                root, f"{info.name} has no split {' or '.join(INFO[split])}; its splits: {listed}"
            )
        facts = parts[part]
        names: Any = facts.get("filenames") if isinstance(facts, dict) else None
        if not fits(names, list[str]):
            raise DatasetError(f"{info}: the filenames of {part} are {names!r:.60}, not a list of names")
        filelist.refuse_outside(root, names)
        return tuple(names)
    files = filelist.below(root) if root.is_dir() else []
    for part in PARTS[split]:
        result = tuple(name for name in files if name.startswith(part) and name.endswith(".tar"))
        if result:
            return result
    raise filelist.incomplete(root, f"there is no {' or '.join(f'{part}*.tar' for part in PARTS[split])}")


def _classes(root: Path) -> tuple[str, ...]:
    return tuple(filelist.lines(root, "classes.txt")) if (root / "classes.txt").is_file() else ()


def _largest(root: Path) -> int:
    return max((row[-1] for name in _tars(root, "train") for row in _index(root, name)), default=-1)


def _index(root: Path, name: str) -> list[Row]:
    """Return the samples of a tar in order, cached while it does not change."""
    key = hashlib.sha256(f"{FORMAT}\n{stat_of(root, (name,))}".encode()).hexdigest()
    try:
        result: list[Row] = remembered("tars", key, lambda: list(_samples(root / name)), name)
    except (tarfile.TarError, EOFError, ValueError, KeyError) as error:
        raise DatasetError(
            f"{root / name}: {reason_of(error)}; shards must be plain tar files of images and their labels"
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
        raise ValueError(f"{member.name} has {member.size:,} bytes, a label may have {MOST:,}")
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
        raise ValueError(f"sample {key}: {error}") from error
    raise ValueError(f"sample {key} has neither a .cls nor a .json")


def _field(content: object) -> object:
    if not isinstance(content, dict) or "label" not in content:
        raise ValueError(f"its .json is {content!r:.60}, not an object with a label")
    return content["label"]
