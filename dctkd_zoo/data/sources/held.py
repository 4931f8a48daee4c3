"""Source that splits another dataset's training set, to choose recipes without its test images.

`held/NAME` reads the training images of the dataset NAME, in the folder next to the root. One image in five of each
class is held out as "test", in the order of the sha256 of their ids: the same ones on every machine.
"""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

from dctkd_zoo import registry
from dctkd_zoo.data import load
from dctkd_zoo.data.split import Split

EVERY = 5


def read(root: Path, split: str, name: str) -> Split:
    """Read the part "train" or "test" of the training images of the dataset `name`, in the folder next to `root`."""
    whole = load.load(registry.get_dataset(name), root.parent)["train"]
    out = held_out(whole)
    return whole.take([index for index in range(len(whole)) if (index in out) == (split == "test")])


def held_out(split: Split) -> set[int]:
    """Return the positions of one image in `EVERY` of each class."""
    shuffled = sorted(range(len(split)), key=lambda index: sha256(split.ids[index].encode()).digest())
    members = ([i for i in shuffled if split.labels[i] == label] for label in range(len(split.classes)))
    return {index for of_class in members for index in of_class[::EVERY]}
