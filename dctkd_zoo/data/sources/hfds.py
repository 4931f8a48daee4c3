"""Source of datasets on the Hugging Face Hub with the columns `image` and `label`, by timm's reader `hfds`.

`hfds/ORG/NAME` downloads one, plain `hfds` reads the dataset's folder. The split "test" is the Hub's `test`, or its
`validation` if it has no `test`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from dctkd_zoo.data import decode, filelist, files
from dctkd_zoo.data.decode import Picture
from dctkd_zoo.data.split import Images, Split
from dctkd_zoo.errors import DatasetError, DatasetMissing, Unreadable, ZooError, reason_of

REFUSED = (OSError, ValueError, RuntimeError, LookupError, TypeError, AttributeError)  # errors that `datasets` raises


@dataclass(frozen=True, eq=False)
class Rows(Images):
    """Images of a table opened by timm's reader."""

    reader: Any
    what: str

    def __len__(self) -> int:
        return len(self.reader)

    def payload(self, index: int) -> bytes:
        """Return the bytes in the table, or of the file that it names."""
        try:
            cell = self.reader.dataset[index][self.reader.image_key]
        except (OSError, MemoryError) as error:
            raise files.unreadable(f"{self.what}, row {index:,}", error) from error
        match cell:
            case {"bytes": bytes(data)} if data:
                return data
            case {"path": str(path)} if path:
                return files.contents(Path(path))
            case _:
                raise Unreadable(f"{self.what}, row {index:,}: there is no image: {cell!r:.60}")

    def picture(self, index: int, payload: bytes) -> Picture:
        """Decode one image as RGB."""
        return decode.decode(payload, f"{self.what}, row {index:,}")

    def signature(self) -> str:
        """Return the hash of the table's own fingerprint."""
        return hashlib.sha256(str(self.reader.dataset._fingerprint).encode()).hexdigest()


def read(root: Path, split: str, name: str = "") -> Split:
    """Read the split "train" or "test" of the dataset `name`, or of the one in `root`; ids are `test/0000001`."""
    try:
        reader = _open(root, split, name)
    except DatasetMissing:
        if split == "train":
            raise
        reader = _open(root, "validation", name)
    _check_columns(reader.dataset.column_names, name or str(root))
    what = f"{name or root}, {split}"
    names = sorted(reader.class_to_idx, key=reader.class_to_idx.__getitem__)
    try:
        labels = [filelist.whole(label) for label in reader.iter_targets()]
        classes = tuple(names) or filelist.numbered(max(labels, default=-1))
    except ValueError as error:
        raise DatasetError(f"{what}: {error}; the column label must hold class numbers") from error
    if not labels or max(labels) >= len(classes):
        raise DatasetError(f"{what}: {len(labels):,} labels up to {max(labels, default=-1)} of {len(classes)} classes")
    ids = tuple(f"{split}/{index:07d}" for index in range(len(labels)))
    return Split(classes, ids, np.array(labels, np.int64), Rows(reader, what))


def _open(root: Path, split: str, name: str) -> Any:
    """Open a split with timm's reader; `DatasetMissing` if there is none, `ZooError` without the package `datasets`."""
    if find_spec("datasets") is None:
        raise ZooError("hfds needs the package datasets: pip install 'dctkd-zoo[datasets]'")
    from timm.data.readers.reader_factory import create_reader

    path = name or str(root)
    try:
        _refuse_tars(path)
        return create_reader(f"hfds/{path}", root=None, split=split)
    except REFUSED as error:
        raise filelist.incomplete(
            root, f"timm's reader hfds finds no split {split} of {path}: {reason_of(error)}"
        ) from error


def _refuse_tars(path: str) -> None:
    """Refuse tar shards: `datasets` decodes whatever else is in them, and decoding some kinds of file runs code."""
    import datasets

    kinds = type(datasets.load_dataset_builder(path)).__mro__
    if any(kind.__name__ == "WebDataset" for kind in kinds):
        raise DatasetError(f"{path} consists of tar shards: download them, and read them with the source 'wds'")


def _check_columns(names: Iterable[str], what: str) -> None:
    """Raise `DatasetError` if a table lacks the columns `image` and `label`."""
    missing = {"image", "label"} - set(names)
    if missing:
        raise DatasetError(f"{what} has no column {' or '.join(sorted(missing))}; it has {', '.join(names)}")
