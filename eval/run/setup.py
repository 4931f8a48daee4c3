"""The test images, the network and the teacher of an evaluation, loaded and checked."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dctkd_zoo import models, registry, teachers, weights
from dctkd_zoo._io.paths import cache_home, checkpoints
from dctkd_zoo.data import load
from dctkd_zoo.data.loader import ImageLoader
from dctkd_zoo.data.pixel_cache import open_pixel_cache
from dctkd_zoo.data.split import Split
from dctkd_zoo.device import to_device as put
from dctkd_zoo.errors import DatasetError, WeightsNotFound
from dctkd_zoo.features import FeatureExtractor
from dctkd_zoo.models import export
from dctkd_zoo.spec import Dataset, Entry, Recipe
from dctkd_zoo.weights import Weights
from eval.metrics import _objects as ground_truth
from eval.run.config import EvalConfig


def reference(entry: Entry) -> str | None:
    """The name of the teacher that an entry's attention is compared with.

    For a baseline it is the one that the first distilled entry of the same architecture and dataset
    learns from; an entry that teaches others, and has no such sibling, has none.
    """
    if entry.teacher is not None:
        return entry.teacher
    siblings = (e for e in registry.entries().values() if (e.arch, e.dataset) == (entry.arch, entry.dataset))
    return next((sibling.teacher for sibling in siblings if sibling.teacher), None)


def find_teacher(entry: Entry, config: EvalConfig) -> tuple[Weights | None, str]:
    """The weights of the network an entry is compared with, or why there are none.

    A baseline among runs in a folder of their own was trained by none: it is not compared with one of this machine's
    other checkpoints, which may be of another data set or recipe than the teacher that those runs will have.
    """
    name = reference(entry)
    if name is None:
        return None, ""
    try:
        result = teachers.find(name, config.trained)
    except WeightsNotFound as error:
        return None, f"not compared with its teacher {name}: {error}"
    apart = config.trained is not None and config.trained.resolve() != checkpoints().resolve()
    if entry.teacher is None and apart and result.folder.parent == checkpoints():
        return None, f"not compared with {name}: it is not trained in the folder of these runs yet (--out)"
    return result, ""


def load_teacher(entry: Entry, classes: tuple[str, ...], config: EvalConfig) -> teachers.Teacher | None:
    """The network an entry is compared with; None where it has none, or the weights cannot be had."""
    result, _ = find_teacher(entry, config)
    if result is None:
        return None
    return teachers.build(str(reference(entry)), result, registry.get_dataset(entry.dataset), classes, config.device)


def object_masks(split: Split, recipe: Recipe, ids: Tensor) -> Tensor:
    """The objects of the images at some positions, as the centre view shows them."""
    return ground_truth.seen(ground_truth.masks(split, ids), recipe).to(ids.device)


def load_network(entry: Entry, found: Weights, classes: tuple[str, ...], device: torch.device) -> FeatureExtractor:
    """The network of some weights on a device; `DatasetError` where it numbers the classes otherwise."""
    check_classes(entry.name, weights.read_config(found.folder).get("label_names", []), classes)
    return FeatureExtractor(put(models.load(entry.arch, found), device)).eval()


def check_classes(name: str, told: Iterable[str], classes: tuple[str, ...]) -> None:
    """Refuse a network whose outputs `told` are not the classes of the data, in the same order."""
    told = tuple(told)
    if len(told) != len(classes):
        raise DatasetError(f"{name} was trained on {len(told):,} classes, the data has {len(classes):,}")
    for label, (student, teacher) in enumerate(zip(told, classes, strict=True)):
        if student != teacher:
            raise DatasetError(f"{name}: output {label} means {student!r}, in the data class {label} is {teacher!r}")


def check_preprocessing(entry: Entry, dataset: Dataset, config: Mapping[str, Any]) -> None:
    """Refuse a network whose `config.json` prepares images otherwise than the catalog, by which they are seen here."""
    expected = export.data_config(entry.recipe, dataset)
    meta = config.get("pretrained_cfg") or config
    for name, catalog in expected.items():
        stated = meta.get(name)
        if stated is not None and not _same(name, catalog, stated, entry.recipe):
            raise DatasetError(
                f"{entry.name}: {name} is {stated} in the config.json of its weights, {catalog} by the catalog: they "
                "are of other images than it would be shown; correct the one that is wrong, or train it again"
            )


def _same(name: str, student: Any, teacher: Any, recipe: Recipe) -> bool:
    if name == "crop_pct":  # a share that may be rounded: what counts is the size it leads to
        return bool(math.floor(recipe.crop / teacher) == recipe.resize)
    return list(student) == list(teacher) if isinstance(student, tuple) else bool(student == teacher)


@lru_cache(maxsize=2)  # entries of one dataset are evaluated one after the other
def test_split(dataset: Dataset, data: Path | None, limit: int | None) -> Split:
    """The test images of a dataset, or `limit` of them, spread evenly."""
    split = load.load(dataset, data)["test"]
    if limit is None or limit >= len(split):
        return split
    return split.take([index * len(split) // limit for index in range(limit)])


def open_views(entry: Entry, split: Split, device: torch.device) -> ImageLoader:
    """The images of a split as an entry sees them."""
    store = open_pixel_cache(split, entry.recipe, cache_home())
    return ImageLoader(store, torch.tensor(split.labels), entry.recipe, registry.get_dataset(entry.dataset), device)
