"""A Hub data set with images and labels, by timm's reader `hfds` -> Split; `hfds/ORG/NAME`, or in the folder itself.

The split "test" is the set's `test`, or its `validation` where it has none; the columns are `image` and `label`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dctkd_zoo.data import tree
from dctkd_zoo.data.packed import Rows
from dctkd_zoo.data.reader import check_columns, open_reader
from dctkd_zoo.data.split import Split
from dctkd_zoo.errors import DatasetError, DatasetMissing


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
        labels = [tree.whole(label) for label in reader.iter_targets()]
        classes = tuple(names) or tree.numbered(max(labels, default=-1))
    except ValueError as error:
        raise DatasetError(f"{what}: {error}; the column label holds the numbers of classes") from error
    if not labels or max(labels) >= len(classes):
        raise DatasetError(f"{what}: {len(labels):,} labels up to {max(labels, default=-1)} of {len(classes)} classes")
    ids = tuple(f"{split}/{index:07d}" for index in range(len(labels)))
    return Split(classes, ids, np.array(labels, np.int64), Rows(reader, what))
