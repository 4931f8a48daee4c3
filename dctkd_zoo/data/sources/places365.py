"""Places365-Standard, its lists with `data_256_standard` and `val_256`, or the easy directories -> Split.

Classes are those of `categories_places365.txt` in its order; `/a/apartment_building/outdoor` is called
`apartment_building-outdoor`. Where there is `places365_standard` in their place, with `train/<class>` and
`val/<class>`, classes are its folders, sorted. "test" is the validation set: labels of the test set are not public.
"""

from __future__ import annotations

from pathlib import Path

from dctkd_zoo.data import filelist
from dctkd_zoo.data.sources import folders
from dctkd_zoo.data.split import Split

LIST = {"train": "places365_train_standard.txt", "test": "places365_val.txt"}
IMAGES = {"train": ("data_256_standard", "data_256"), "test": ("val_256",)}  # torchvision adds to the tar's own name
EASY = "places365_standard"


def read(root: Path, split: str) -> Split:
    """The split "train" or "test" of the folder `root`; ids are paths, `val_256/Places365_val_00000001.jpg`."""
    if (root / EASY).is_dir():
        return folders.read(root / EASY, split)
    classes = [
        _class(root, number, line) for number, line in enumerate(filelist.lines(root, "categories_places365.txt"))
    ]
    images = next((name for name in IMAGES[split] if (root / name).is_dir()), IMAGES[split][0])
    numbers = {str(number): name for number, name in enumerate(classes)}
    rows = []
    for line in filelist.lines(root, LIST[split]):
        path, _, label = line.rpartition(" ")
        if label not in numbers:
            raise filelist.incomplete(root, f"{LIST[split]}: {line!r} is not an image and one of {len(classes)} labels")
        rows.append((f"{images}/{path.lstrip('/')}", numbers[label]))
    return filelist.listed(root, rows, classes)


def _class(root: Path, number: int, line: str) -> str:
    path, _, label = line.partition(" ")
    if label != str(number):
        raise filelist.incomplete(root, f"categories_places365.txt: {line!r} stands where label {number} is due")
    return "-".join(path.split("/")[2:])
