"""A Hub data set with images and labels, by timm's reader `hfds` -> Split; `hfds/ORG/NAME`, or in the folder itself.

The split "test" is the set's `test`, or its `validation` where it has none; the columns are `image` and `label`.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from dctkd_zoo.data import filelist
from dctkd_zoo.data.filelist import incomplete
from dctkd_zoo.data.split import Rows, Split
from dctkd_zoo.errors import DatasetError, DatasetMissing, ZooError, reason_of


def read(root: Path, split: str, name: str = "") -> Split:
    """The split "train" or "test" of the set `name`, else of that in the folder `root`; ids are `test/0000001`."""
    try:
        reader = open_reader("hfds", name, root, split)
    except DatasetMissing:
        if split == "train":
            raise
        reader = open_reader("hfds", name, root, "validation")
    check_columns(reader.dataset.column_names, name or str(root))
    what = f"{name or root}, {split}"
    names = sorted(reader.class_to_idx, key=reader.class_to_idx.__getitem__)
    try:
        labels = [filelist.whole(label) for label in reader.iter_targets()]
        classes = tuple(names) or filelist.numbered(max(labels, default=-1))
    except ValueError as error:
        raise DatasetError(f"{what}: {error}; the column label holds the numbers of classes") from error
    if not labels or max(labels) >= len(classes):
        raise DatasetError(f"{what}: {len(labels):,} labels up to {max(labels, default=-1)} of {len(classes)} classes")
    ids = tuple(f"{split}/{index:07d}" for index in range(len(labels)))
    return Split(classes, ids, np.array(labels, np.int64), Rows(reader, what))


REFUSED = (OSError, ValueError, RuntimeError, LookupError, TypeError, AttributeError)  # datasets' own, and of bad facts
NEEDS = {"wds": "webdataset", "hfds": "datasets", "hfids": "datasets"}


def open_reader(kind: str, name: str, root: Path, split: str, **options: Any) -> Any:
    """What `timm.data.create_reader("<kind>/<name>")` gives; `ZooError` where the extra that it needs is missing.

    `DatasetMissing` where it finds nothing: without a `name` it is looked for in the folder `root`.
    """
    require(kind)
    from timm.data.readers.reader_factory import create_reader

    try:
        if kind != "wds":
            _refuse_tars(name or str(root))
        path = str(root) if kind == "wds" else None
        return create_reader(f"{kind}/{name or root}", root=path, split=split, **options)
    except REFUSED as error:
        raise incomplete(
            root, f"timm's reader {kind} finds no split {split} of {name or root}: {reason_of(error)}"
        ) from error


def _refuse_tars(path: str) -> None:
    """`datasets` decodes whatever else lies in tar shards, and some kinds of that run code."""
    import datasets

    kinds = type(datasets.load_dataset_builder(path)).__mro__
    if any(kind.__name__ == "WebDataset" for kind in kinds):
        raise DatasetError(f"{path} consists of tar shards: fetch them, and read them with the source 'wds'")


def check_columns(names: Iterable[str], what: str) -> None:
    """`DatasetError` where a table has no columns `image` and `label`."""
    lacking = {"image", "label"} - set(names)
    if lacking:
        raise DatasetError(f"{what} has no column {' or '.join(sorted(lacking))}; it has {', '.join(names)}")


def require(kind: str) -> None:
    """`ZooError` where the package that reads this kind is not installed."""
    if find_spec(NEEDS[kind]) is None:
        raise ZooError(f"{kind} needs the package {NEEDS[kind]}: pip install 'dctkd-zoo[streaming]'")
