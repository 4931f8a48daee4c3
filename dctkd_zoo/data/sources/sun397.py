"""Source of SUN397: `SUN397/<letter>/<class>[/<kind>]/<file>` with the official partition 1.

The lists `ClassName.txt`, `Training_01.txt` and `Testing_01.txt` are in `Partitions`, or next to `SUN397`.
The name of a nested class has both parts: `/a/apartment_building/outdoor` is `apartment_building-outdoor`.
"""

from __future__ import annotations

from pathlib import Path

from dctkd_zoo.data import filelist
from dctkd_zoo.data.split import Split

LIST = {"train": "Training_01.txt", "test": "Testing_01.txt"}


def read(root: Path, split: str) -> Split:
    """Read the split "train" or "test" of the folder `root`; ids are paths like `SUN397/a/abbey/sun_aqswjsnj.jpg`."""
    folder = "Partitions/" if (root / "Partitions").is_dir() else ""
    classes = sorted(_class(line) for line in filelist.lines(root, f"{folder}ClassName.txt"))
    rows = [(f"SUN397{line}", _class(line.rpartition("/")[0])) for line in filelist.lines(root, folder + LIST[split])]
    return filelist.listed(root, rows, classes)


def _class(path: str) -> str:
    return "-".join(path.split("/")[2:])
