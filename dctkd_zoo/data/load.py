"""Dataset -> its splits "train" and "test", checked against what the catalog says of it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from dctkd_zoo import discover
from dctkd_zoo._io.paths import data_root
from dctkd_zoo.cli import shell
from dctkd_zoo.data import filelist, sources
from dctkd_zoo.data.filelist import incomplete
from dctkd_zoo.data.fingerprint import duplicates
from dctkd_zoo.data.split import Split
from dctkd_zoo.errors import DatasetError, DatasetMissing
from dctkd_zoo.spec import Dataset

NAMED = 20  # classes that a message lists

log = logging.getLogger(__name__)


def read(dataset: Dataset, data: Path | None = None) -> dict[str, Split]:
    """Both splits as they lie on disk, unchecked and with every image; `DatasetError` where files are missing."""
    _, _, name = dataset.source.partition("/")
    inside = (name,) if name else ()
    root = data_root(data) / dataset.name
    with way_on(dataset, root):
        return {split: source_of(dataset).read(root, split, *inside) for split in ("train", "test")}


def source_of(dataset: Dataset) -> ModuleType:
    """The module of `dctkd_zoo.data.sources` that reads a dataset."""
    return discover.load(sources.__name__, dataset.source.partition("/")[0])


@contextmanager
def way_on(dataset: Dataset, root: Path) -> Iterator[None]:
    """Whatever is missing inside, say how the dataset is had."""
    try:
        yield
    except DatasetMissing as error:
        fetch = f"To fetch the dataset: {shell.suggest(f'python -m dctkd_zoo data fetch {dataset.name}')}"
        by_hand = f"There is nothing to fetch it by: it comes from {dataset.url}, its place is {root}"
        raise DatasetMissing(f"{error}\n{fetch if dataset.archives else by_hand}") from error


def load(dataset: Dataset, data: Path | None = None) -> dict[str, Split]:
    """Both splits to train and evaluate on, without leaked test images where the dataset says so.

    `DatasetError` where images are missing, or classes differ in number or order.
    """
    splits = read(dataset, data)
    root = data_root(data) / dataset.name
    with way_on(dataset, root):
        for name, expected in (("train", dataset.train), ("test", dataset.test)):
            _check(root, name, splits[name], expected, dataset.num_classes)
    _check_order(root, splits["train"].classes, splits["test"].classes)
    _say(dataset, splits)
    return without_leaks(splits) if dataset.drop_leaked else splits


def without_leaks(splits: dict[str, Split]) -> dict[str, Split]:
    """The splits, without the test images whose bytes also stand in the training set."""
    train, test = splits["train"], splits["test"]
    leaked = duplicates(train, test)
    kept = [index for index in range(len(test)) if index not in leaked]
    log.info("left out %d of %d test images: their bytes also stand in train", len(leaked), len(test))
    return {"train": train, "test": test.take(kept)}


def without_images(split: Split) -> list[str]:
    """The classes that no image of a split is of."""
    there = set(split.labels.tolist())
    return [name for label, name in enumerate(split.classes) if label not in there]


def wrong_classes(split: Split, expected: int) -> str:
    """What is wrong with the number of classes, and what they are called; the empty string where nothing is."""
    if len(split.classes) == expected:
        return ""
    meta = f"{len(split.classes):,} classes, {expected:,} expected: {filelist.brief(split.classes, NAMED)}"
    empty = without_images(split)
    return f"{meta}; without an image: {filelist.brief(empty)}" if empty else meta


def _check(root: Path, name: str, split: Split, expected: int, num_classes: int) -> None:
    if wrong := wrong_classes(split, num_classes):
        raise incomplete(root, wrong)
    if len(split) < expected:
        raise incomplete(root, f"{len(split):,} of {expected:,} {name} images are there")


def _say(dataset: Dataset, splits: dict[str, Split]) -> None:
    """Say what is taken as it is, though a user may not expect it."""
    for name, expected in (("train", dataset.train), ("test", dataset.test)):
        if len(splits[name]) > expected:
            log.warning(
                "%s: %d %s images, more than the %d of its catalog", dataset.name, len(splits[name]), name, expected
            )
    if empty := without_images(splits["train"]):
        what = f"{'classes' if len(empty) > 1 else 'class'} {filelist.brief(empty, NAMED)}"
        log.warning("%s: there is no training image of %s: never learned", dataset.name, what)


def _check_order(root: Path, train: tuple[str, ...], test: tuple[str, ...]) -> None:
    differing = [
        f"{index}: {a} in train, {b} in test" for index, (a, b) in enumerate(zip(train, test, strict=True)) if a != b
    ]
    if differing:
        raise DatasetError(f"{root}: train and test number the classes differently: {', '.join(differing[:5])}")
