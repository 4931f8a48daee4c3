"""A Hub data set with images and labels, by timm's reader `hfds` -> Split; `hfds/ORG/NAME`, or in the folder itself.

The split "test" is the set's `test`, or its `validation` where it has none; the columns are `image` and `label`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dctkd_zoo.data.packed import Rows
from dctkd_zoo.data.reader import check_columns, open_reader
from dctkd_zoo.data.split import Split
from dctkd_zoo.errors import DatasetMissing


def read(root: Path, split: str, name: str = "") -> Split:
    """The split "train" or "test" of the set `name`, else of that in the folder `root`; ids are `test/0000001`."""
    try:
        reader = open_reader("hfds", name, root, split)
    except DatasetMissing:
        if split == "train":
            raise
        reader = open_reader("hfds", name, root, "validation")
    check_columns(reader.dataset.column_names, name or str(root))
    labels = list(reader.iter_targets())
    ids = tuple(f"{split}/{index:07d}" for index in range(len(labels)))
    names = sorted(reader.class_to_idx, key=reader.class_to_idx.__getitem__)
    classes = tuple(names or map(str, range(max(labels) + 1)))
    return Split(classes, ids, np.array(labels, np.int64), Rows(reader, f"{name or root}, {split}"))
