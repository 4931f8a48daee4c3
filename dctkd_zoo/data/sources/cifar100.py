"""Source of CIFAR-100 in its binary version, `cifar-100-binary/{train,test}.bin`, held in memory.

The better known Python version consists of pickles, and loading a pickle runs whatever code is in it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dctkd_zoo.data import filelist
from dctkd_zoo.data.files import contents
from dctkd_zoo.data.split import Arrays, Split

ARCHIVE = "https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz"
FOLDER = "cifar-100-binary"
RECORD = 2 + 3 * 32 * 32  # the superclass, the class, then the planes red, green, blue


def read(root: Path, split: str) -> Split:
    """Read the split "train" or "test" of the folder `root`, uint8 (N, 32, 32, 3); ids are `train/00000` and so on."""
    path = root / FOLDER / f"{split}.bin"
    if not path.is_file():
        raise filelist.incomplete(root, _missing(root, f"{FOLDER}/{split}.bin"))
    data = np.frombuffer(contents(path), np.uint8)
    if not len(data) or len(data) % RECORD:
        raise filelist.incomplete(root, f"{FOLDER}/{split}.bin has {len(data):,} bytes, not a multiple of {RECORD:,}")
    records = data.reshape(-1, RECORD)
    pixels = records[:, 2:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    labels = records[:, 1].astype(np.int64)
    classes = tuple(filelist.lines(root, f"{FOLDER}/fine_label_names.txt"))
    if labels.max() >= len(classes):
        raise filelist.incomplete(
            root, f"{FOLDER}/{split}.bin has label {labels.max()}, but there are {len(classes)} classes"
        )
    ids = tuple(f"{split}/{index:05d}" for index in range(len(records)))
    return Split(classes, ids, labels, Arrays(np.ascontiguousarray(pixels)))


def _missing(root: Path, name: str) -> str:
    if (root / "cifar-100-python").is_dir():
        return f"there is no {name}, only pickles, which are never loaded. The binary version is {ARCHIVE}"
    return f"there is no {name}"
