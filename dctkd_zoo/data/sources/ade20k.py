"""Source of ADEChallengeData2016: `images/{training,validation}/<id>.jpg` and `sceneCategories.txt`.

Classes are all names in `sceneCategories.txt`, sorted, whichever split they occur in.
"""

from __future__ import annotations

from pathlib import Path

from dctkd_zoo.data import filelist
from dctkd_zoo.data.split import Split

FOLDER = {"train": "images/training", "test": "images/validation"}
PREFIX = {"train": "ADE_train_", "test": "ADE_val_"}


def read(root: Path, split: str) -> Split:
    """Read the split "train" or "test" (the release's validation set) in `root` or `root/ADEChallengeData2016`."""
    inner = root / "ADEChallengeData2016"
    home = inner if inner.is_dir() else root
    scenes = [_scene(root, line) for line in filelist.lines(home, "sceneCategories.txt")]
    classes = sorted({name for _, name in scenes})
    rows = [(f"{FOLDER[split]}/{key}.jpg", name) for key, name in scenes if key.startswith(PREFIX[split])]
    return filelist.listed(home, rows, classes)


def _scene(root: Path, line: str) -> tuple[str, str]:
    key, _, name = line.partition(" ")
    if not name:
        raise filelist.incomplete(root, f"sceneCategories.txt: {line!r} is not an image and its scene")
    return key, name.strip()
