"""Folders of images that nobody prepared: where the classes are, and what in them is not read as one would think."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from dctkd_zoo.data import filelist
from dctkd_zoo.data.files import entries, is_folder
from dctkd_zoo.data.split import Split
from dctkd_zoo.errors import DatasetError

SPELT = re.compile("(train|val|test|valid|validation)(ing)?s?", re.I)  # what people call the splits
NAMED = 3  # files or folders that are named


def layout(folder: Path) -> tuple[Path, str]:
    """Return the folder that holds the classes or splits, and the source that reads it.

    `DatasetError` if there are no folders, or if those of the splits have names that are not read.
    """
    if not folder.is_dir():
        raise DatasetError(f"{folder}: there is no such folder")
    names = {entry.name for entry in entries(folder) if is_folder(entry) and not entry.name.startswith(".")}
    if "train" in names and names & {"val", "test"}:
        return folder, "folders"
    if names == {"train"}:
        return folder / "train", "folders/split"
    if not names:
        raise DatasetError(f"{folder}: there is no folder in it; put the images of each class into a folder of its own")
    splits = sorted(name for name in names if SPELT.fullmatch(name))
    if len(splits) > 1:
        raise DatasetError(f"{folder}: call the folders {', '.join(splits)} train and test, or train, val and test")
    return folder, "folders/split"


def unread(root: Path, splits: dict[str, Split]) -> Iterator[str]:
    """Yield what is below a folder but is not read, or is read otherwise than its folders may suggest."""
    used = {name for split in splits.values() for name in split.ids}
    others = [name for name in filelist.below(root) if name not in used]
    if stray := [name for name in others if filelist.is_image(name)]:
        yield f"not read, because in no class's folder: {filelist.brief(stray, NAMED)}"
    kinds = Counter(PurePosixPath(name).suffix.lower() or name for name in others if not filelist.is_image(name))
    if kinds:
        listed = [f"{kind} ({count:,})" for kind, count in kinds.most_common()]
        yield f"not read, because not images by their suffix: {filelist.brief(listed, NAMED)}"
    if nested := _nested(splits["train"]):
        yield f"one class each, although their images are in several folders: {filelist.brief(nested, NAMED)}"


def _nested(split: Split) -> list[str]:
    """Return the classes of which all images are in folders below theirs, if in several."""
    inner: dict[int, set[str]] = {}
    for name, label in zip(split.ids, split.labels.tolist(), strict=True):
        below = name.partition(f"{split.classes[label]}/")[2]
        inner.setdefault(label, set()).add(below.partition("/")[0] if "/" in below else "")
    several = {label: names for label, names in inner.items() if len(names) > 1 and "" not in names}
    return [f"{split.classes[label]} ({len(names)} folders)" for label, names in several.items()]
