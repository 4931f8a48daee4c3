"""Source that splits another dataset's training set, to choose recipes without its test images.

`held/NAME` reads the training images of the dataset NAME, in the folder next to the root. One image in five of each
class is held out as "test": the same ones on every machine.
"""

from __future__ import annotations

from pathlib import Path

from dctkd_zoo import registry
from dctkd_zoo.data import load
from dctkd_zoo.data.split import Split, held_out

PART = 1 / 5


def read(root: Path, split: str, name: str) -> Split:
    """Read the part "train" or "test" of the training images of the dataset `name`, in the folder next to `root`."""
    whole = load.load(registry.get_dataset(name), root.parent)["train"]
    return held_out(whole, PART)[split == "test"]
