"""Source of MIT Indoor 67: `Images/<class>/<file>` with `TrainImages.txt` and `TestImages.txt`.

Classes are those of `TrainImages.txt`, sorted.
"""

from __future__ import annotations

from pathlib import Path

from dctkd_zoo.data import filelist
from dctkd_zoo.data.split import Split

LIST = {"train": "TrainImages.txt", "test": "TestImages.txt"}


def read(root: Path, split: str) -> Split:
    """Read the split "train" or "test" of the folder `root`; ids are paths like `Images/kitchen/int474.jpg`."""
    classes = sorted({name for _, name in _rows(root, "train")})
    return filelist.listed(root, _rows(root, split), classes)


def _rows(root: Path, split: str) -> list[tuple[str, str]]:
    return [(f"Images/{line}", line.partition("/")[0]) for line in filelist.lines(root, LIST[split])]
