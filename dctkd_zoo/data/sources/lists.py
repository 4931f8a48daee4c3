"""Source of lists, `train.txt` and `test.txt` (or `val.txt`), which name images in the same folder.

A line is the path of an image and its class, or only a path that ends in an image's suffix: then the class is its
first folder, not counting a leading `train`, `val` or `test`. Classes are sorted, unless `scene_names.txt` gives their
order: one name per line, whose line number, from 0, is the label.
"""

from __future__ import annotations

from pathlib import Path

from dctkd_zoo.data import filelist
from dctkd_zoo.data.split import Split

PARTS = ("train", "val", "test")


def read(root: Path, split: str) -> Split:
    """Read the split "train" or "test" of the folder `root`; ids are the paths as listed."""
    part = "val" if split == "test" and not (root / "test.txt").is_file() and (root / "val.txt").is_file() else split
    return filelist.listed(root, _rows(root, part), _classes(root))


def _classes(root: Path) -> list[str]:
    if not (root / "scene_names.txt").is_file():
        return sorted({name for _, name in _rows(root, "train")})
    names = []
    for number, line in enumerate(filelist.lines(root, "scene_names.txt")):
        name, *index = line.split()
        if index not in ([], [str(number)]):
            raise filelist.incomplete(root, f"scene_names.txt: {line!r} is in the line of label {number}")
        names.append(name)
    return names


def _rows(root: Path, part: str) -> list[tuple[str, str]]:
    return [_row(root, part, line) for line in filelist.lines(root, f"{part}.txt")]


def _row(root: Path, part: str, line: str) -> tuple[str, str]:
    if not filelist.is_image(line):  # file names may have spaces: without an image's suffix, the last word is the class
        path, _, name = line.rpartition(" ")
        if path:
            return path.strip(), name
    folders = line.split("/")[:-1]
    inner = folders[1:] if folders[:1] and folders[0] in PARTS else folders
    if not inner:
        raise filelist.incomplete(root, f"{part}.txt: {line!r} names neither a class nor a folder to infer it from")
    return line, inner[0]
