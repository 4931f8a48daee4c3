"""`{train,test}/<class>/**/<image>` -> Split; `val` serves where there is no `test`.

Classes are the folders in `train`, sorted. Files are images by their suffix; hidden ones are left out.
"""

from __future__ import annotations

from pathlib import Path

from dctkd_zoo.data import tree
from dctkd_zoo.data.split import Split


def read(root: Path, split: str) -> Split:
    """The split "train" or "test" of the folder `root`; ids are paths like `test/bedroom/image_0003.jpg`."""
    classes = _classes(root, "train")
    part = "val" if split == "test" and not (root / "test").is_dir() and (root / "val").is_dir() else split
    rows = [
        (f"{part}/{name}/{file}", name)
        for name in _classes(root, part)
        for file in tree.below(root / part / name)
        if tree.is_image(file)
    ]
    return tree.labelled(root, rows, classes)


def _classes(root: Path, part: str) -> list[str]:
    folder = root / part
    if not folder.is_dir():
        raise tree.incomplete(root, f"there is no folder {part}")
    return sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
