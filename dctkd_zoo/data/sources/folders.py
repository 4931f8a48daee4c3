"""Source of image folders, `{train,test}/<class>/**/<image>`; `val` is the test set if there is no `test`.

With `source="folders/split"` there is one folder of classes, `<class>/**/<image>`. One image in five of each class is
the test set, in the order of the sha256 of their ids: the same ones on every machine.

Classes are the folders in `train`, sorted by character codes like torchvision's `ImageFolder`; links are followed.
Files are images by their suffix, in any case; hidden ones are skipped, which other readers read.
"""

from __future__ import annotations

from pathlib import Path

from dctkd_zoo.data import filelist
from dctkd_zoo.data.files import entries, is_folder
from dctkd_zoo.data.split import Files, Split, held_out
from dctkd_zoo.errors import DatasetError

TEST = 0.2  # of the images of one folder, those for testing


def parts(root: Path) -> tuple[str, ...]:
    """Return the names of the splits there are: "val" is one of its own only beside "test", and if it has classes."""
    both = all((root / name).is_dir() for name in ("val", "test"))
    return ("train", "val", "test") if both and _classes(root, "val") else ("train", "test")


def read(root: Path, split: str, how: str = "") -> Split:
    """Read the split "train", "val" or "test" of the folder `root`; ids are paths like `test/bedroom/image_3.jpg`.

    With `how` "split", the folder has no such parts and is split here.
    """
    if how not in ("", "split"):
        raise DatasetError(f"source folders/{how}: it is either folders or folders/split")
    if how:
        return held_out(_listed(root, "", _classes(root, "")), TEST)[split == "test"]
    part = "val" if split == "test" and not (root / "test").is_dir() and (root / "val").is_dir() else split
    return _listed(root, f"{part}/", _classes(root, "train"), _classes(root, part))


def _listed(root: Path, prefix: str, classes: list[str], folders: list[str] | None = None) -> Split:
    """Return the images below `root/prefix`, in the folders of their classes."""
    rows = [
        (f"{prefix}{name}/{file}", name)
        for name in (classes if folders is None else folders)
        for file in filelist.below(root / prefix / name)
        if filelist.is_image(file)
    ]
    return filelist.labelled(root, rows, classes)


def _classes(root: Path, part: str) -> list[str]:
    folder = root / part
    if not folder.is_dir():
        raise filelist.incomplete(root, f"there is no folder {part}" if part else "there is no such folder")
    return [entry.name for entry in entries(folder) if is_folder(entry) and not entry.name.startswith(".")]


def otherwise(split: Split) -> dict[str, list[str]]:
    """Return what torchvision's `ImageFolder` and timm's reader read differently in this split, and where."""
    if not isinstance(split.images, Files):  # split here: others read the folder as a whole
        return {}
    part = split.images.root / split.ids[0].partition("/")[0]
    labels = {
        str(split.images.root / name): split.classes[label]
        for name, label in zip(split.ids, split.labels.tolist(), strict=True)
    }
    result: dict[str, list[str]] = {}
    for who, reader in {"torchvision's ImageFolder": _torchvision, "timm's reader": _timm}.items():
        try:
            read_labels, order = reader(str(part))
        except (OSError, RecursionError) as error:
            result[f"folders that {who} cannot read"] = [str(error)]
            continue
        moved = [f"{path}: {name}" for path, name in read_labels.items() if labels.get(path, name) != name]
        numbers = [f"{a} is its {b}" for a, b in zip(split.classes, order, strict=False) if a != b]
        result[f"images that {who} skips"] = sorted(labels.keys() - read_labels.keys())
        result[f"files skipped here that {who} reads as images"] = sorted(read_labels.keys() - labels.keys())
        result[f"images that {who} assigns to another class"] = sorted(moved)
        result[f"classes that {who} numbers differently or lacks"] = numbers or sorted(set(split.classes) ^ set(order))
    return result


def _torchvision(part: str) -> tuple[dict[str, str], list[str]]:
    """Return files with their classes, and all classes in order."""
    from torchvision.datasets.folder import IMG_EXTENSIONS, find_classes, make_dataset

    order, numbers = find_classes(part)
    samples = make_dataset(part, numbers, IMG_EXTENSIONS, allow_empty=True)
    return {path: order[label] for path, label in samples}, order


def _timm(part: str) -> tuple[dict[str, str], list[str]]:
    from timm.data.readers.reader_image_folder import find_images_and_targets

    samples, numbers = find_images_and_targets(part)
    order = sorted(numbers, key=numbers.__getitem__)
    return {path: order[label] for path, label in samples}, order
