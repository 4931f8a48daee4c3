"""Train and test splits of a dataset, checked against its catalog entry."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import ModuleType

from dctkd_zoo import discover, registry
from dctkd_zoo._io.paths import data_root
from dctkd_zoo.cli import shell
from dctkd_zoo.data import filelist, sources
from dctkd_zoo.data.filelist import incomplete
from dctkd_zoo.data.fingerprint import duplicates
from dctkd_zoo.data.split import Split, first_of_each, held_out, with_unlabelled
from dctkd_zoo.errors import DatasetError, DatasetMissing
from dctkd_zoo.spec import OTHER, Dataset, Recipe

NAMED = 20  # maximum classes listed in a message

log = logging.getLogger(__name__)


def read(dataset: Dataset, data: Path | None = None) -> dict[str, Split]:
    """Read the splits as they are on disk, unchecked and with every image; `DatasetError` if files are missing.

    They are "train" and "test", and "val" if the dataset has a part of its own to choose on.
    """
    root, source = root_of(dataset, data), source_of(dataset)
    with way_on(dataset, root):
        parts = source.parts(root) if hasattr(source, "parts") else ("train", "test")
        return {split: source.read(root, split, *_inside(dataset)) for split in parts}


def root_of(dataset: Dataset, data: Path | None = None) -> Path:
    """Return the folder of a dataset's images: its own, or the one of its name below the data folder."""
    return Path(dataset.folder) if dataset.folder else data_root(data) / dataset.name


def _inside(dataset: Dataset) -> tuple[str, ...]:
    """Return what a dataset's source is told to read, if anything: `("12k",)` for `miniplaces/12k`."""
    _, _, name = dataset.source.partition("/")
    return (name,) if name else ()


def annotated(dataset: Dataset, data: Path | None = None) -> Split:
    """Load the images with masks of the objects that decide their class: the test set, or a split of their own.

    `DatasetError` if a dataset has neither.
    """
    root, source = root_of(dataset, data), source_of(dataset)
    if hasattr(source, "annotated"):
        with way_on(dataset, root):
            split: Split = source.annotated(root, *_inside(dataset))
            if wrong := wrong_classes(split, dataset.num_classes):
                raise incomplete(root, wrong)
            return split
    test = load(dataset, data)["test"]
    if test.outlines is None:
        raise DatasetError(f"{dataset.name} has no images with outlines of objects")
    return test


def source_of(dataset: Dataset) -> ModuleType:
    """Return the module of `dctkd_zoo.data.sources` that reads a dataset."""
    return discover.load(sources.__name__, dataset.source.partition("/")[0])


@contextmanager
def way_on(dataset: Dataset, root: Path) -> Iterator[None]:
    """Add how to get the dataset to a `DatasetMissing` raised inside."""
    try:
        yield
    except DatasetMissing as error:
        fetch = f"To fetch the dataset: {shell.suggest(f'data fetch {dataset.name}')}"
        source = "" if dataset.url == "unknown" else f"get it from {dataset.url} and "
        by_hand = f"It cannot be fetched automatically: {source}put it into {root}"
        raise DatasetMissing(f"{error}\n{fetch if dataset.archives else by_hand}") from error


def load(dataset: Dataset, data: Path | None = None) -> dict[str, Split]:
    """Load the splits for training and evaluation, without leaked test images if the dataset says so.

    `DatasetError` if images are missing, or classes differ in number or order.
    """
    splits = read(dataset, data)
    root = root_of(dataset, data)
    with way_on(dataset, root):
        for name, split in splits.items():
            _check(root, name, split, {"train": dataset.train, "test": dataset.test}.get(name), dataset.num_classes)
    for name in splits.keys() - {"train"}:
        _check_order(root, splits["train"].classes, splits[name].classes, name)
    _say(dataset, splits)
    return without_leaks(splits) if dataset.drop_leaked else splits


def without_leaks(splits: dict[str, Split]) -> dict[str, Split]:
    """Return the splits without the test images whose bytes also occur in the training set."""
    train, test = splits["train"], splits["test"]
    leaked = duplicates(train, test)
    remaining = [index for index in range(len(test)) if index not in leaked]
    log.info("left out %d of %d test images: their bytes also occur in train", len(leaked), len(test))
    return {**splits, "test": test.take(remaining)}


def for_recipe(dataset: Dataset, recipe: Recipe, data: Path | None = None) -> dict[str, Split]:
    """Load the splits that a recipe trains on ("train"), chooses its epoch on if it does ("val") and is tested on.

    Without a "val" of the dataset's own, part of the training set is held out. Unlabelled images follow the labelled
    ones of "train"; those whose bytes also occur in the other splits are left out.
    """
    splits = load(dataset, data)
    if recipe.limit:
        train = splits["train"]
        splits["train"] = train.take(first_of_each(train.labels.tolist(), recipe.limit))
    if recipe.select != "val":
        splits.pop("val", None)
    elif "val" not in splits:
        splits["train"], splits["val"] = held_out(splits["train"], dataset.val)
        if not len(splits["val"]):
            raise DatasetError(f"{dataset.name}: one image per class leaves none to choose an epoch on: select='last'")
    if recipe.unlabelled:
        others = unlabelled(dataset, data)
        for name, split in splits.items():
            known = duplicates(split, others)
            log.info("left out %d of %d unlabelled images: their bytes also occur in %s", len(known), len(others), name)
            others = others.take([index for index in range(len(others)) if index not in known])
        splits["train"] = with_unlabelled(splits["train"], others)
    return splits


def unlabelled(dataset: Dataset, data: Path | None = None) -> Split:
    """Return the images that a dataset names to train on without labels: a folder, or another's training images.

    Of another dataset that shares images with this one, those are left out.
    """
    if not dataset.unlabelled:
        raise DatasetError(f"{dataset.name} names no unlabelled images: set `unlabelled` in its Dataset")
    if dataset.unlabelled.startswith(OTHER):
        other = registry.get_dataset(dataset.unlabelled.removeprefix(OTHER))
        shared = dataset.name in other.overlaps
        source = f"{other.source}-{dataset.name}" if shared else other.source
        return load(replace(other, source=source, train=None if shared else other.train), data)["train"]
    folder = data_root(data) / dataset.unlabelled
    if not folder.is_dir():
        raise DatasetMissing(f"{folder} is not a folder: put the unlabelled images of {dataset.name} there")
    files = [(file, "") for file in filelist.below(folder) if filelist.is_image(file)]
    return filelist.labelled(folder, files, [""])


def without_images(split: Split) -> list[str]:
    """Return the classes without an image in a split."""
    present = set(split.labels.tolist())
    return [name for label, name in enumerate(split.classes) if label not in present]


def wrong_classes(split: Split, expected: int) -> str:
    """Return what is wrong with the number of classes, with their names; empty if nothing is."""
    if len(split.classes) == expected:
        return ""
    message = f"{len(split.classes):,} classes instead of {expected:,}: {filelist.brief(split.classes, NAMED)}"
    empty = without_images(split)
    return f"{message}; without an image: {filelist.brief(empty)}" if empty else message


def _check(root: Path, name: str, split: Split, expected: int | None, num_classes: int) -> None:
    if wrong := wrong_classes(split, num_classes):
        raise incomplete(root, wrong)
    if expected is not None and len(split) < expected:
        raise incomplete(root, f"{len(split):,} of {expected:,} {name} images are there")


def _say(dataset: Dataset, splits: dict[str, Split]) -> None:
    """Log what is accepted although a user may not expect it."""
    for name, expected in (("train", dataset.train), ("test", dataset.test)):
        if expected is not None and len(splits[name]) > expected:
            log.warning(
                "%s: %d %s images, more than the %d in its catalog entry",
                dataset.name,
                len(splits[name]),
                name,
                expected,
            )
    if empty := without_images(splits["train"]):
        what = f"{'classes' if len(empty) > 1 else 'class'} {filelist.brief(empty, NAMED)}"
        log.warning("%s: no training images of %s, which cannot be learned", dataset.name, what)


def _check_order(root: Path, train: tuple[str, ...], test: tuple[str, ...], name: str) -> None:
    differing = [
        f"{index}: {a} in train, {b} in {name}" for index, (a, b) in enumerate(zip(train, test, strict=True)) if a != b
    ]
    if differing:
        raise DatasetError(f"{root}: train and {name} number the classes differently: {', '.join(differing[:5])}")
