"""Loading and checking of what an evaluation needs: test images, network and teacher."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dctkd_zoo import registry, teachers, weights
from dctkd_zoo._io.paths import cache_home, checkpoints
from dctkd_zoo.data import load
from dctkd_zoo.data.loader import ImageLoader
from dctkd_zoo.data.pixel_cache import open_pixel_cache
from dctkd_zoo.data.split import Split
from dctkd_zoo.device import to_device as put
from dctkd_zoo.errors import DatasetError, TeacherMismatch, UnsupportedNetwork, WeightsNotFound
from dctkd_zoo.features import FeatureExtractor
from dctkd_zoo.spec import Dataset, Entry, Recipe, data_config
from dctkd_zoo.weights import Weights
from eval.metrics import _objects as ground_truth
from eval.run.config import EvalConfig


def reference(entry: Entry) -> str | None:
    """Return the name of an entry's own teacher, which it is compared with unless another one is chosen.

    For a baseline it is the teacher of the first student with the same architecture and dataset; None if there is no
    such student.
    """
    if entry.teacher is not None:
        return entry.teacher
    siblings = (e for e in registry.entries().values() if (e.arch, e.dataset) == (entry.arch, entry.dataset))
    return next((sibling.teacher for sibling in siblings if sibling.teacher), None)


def role(entry: Entry) -> str:
    """Return `student`, `baseline` (a network like the students, trained without a teacher) or `teacher`."""
    return "student" if entry.teacher else "baseline" if reference(entry) else "teacher"


def compared_with(entry: Entry, config: EvalConfig) -> str | None:
    """Return the name of the network that an entry is compared with: the chosen one, else its own teacher."""
    return config.teacher or reference(entry)


def find_teacher(entry: Entry, config: EvalConfig) -> tuple[Weights | None, str]:
    """Return the weights of the network an entry is compared with, or None and the reason.

    `WeightsNotFound` if that network was chosen and has no weights. A baseline in a folder of runs (`--out`) is not
    compared with a teacher from this machine's other checkpoints, which may have another dataset or recipe than the
    teacher that those runs will have.
    """
    if config.teacher:
        return teachers.find(config.teacher, config.trained), ""
    name = reference(entry)
    if name is None:
        return None, ""
    try:
        result = teachers.find(name, config.trained)
    except WeightsNotFound as error:
        return None, f"not compared with its teacher {name}: {error}"
    elsewhere = config.trained is not None and config.trained.resolve() != checkpoints().resolve()
    if entry.teacher is None and elsewhere and result.folder.parent == checkpoints():
        return None, f"not compared with {name}: it has not been trained in this folder of runs (--out) yet"
    return result, ""


def load_teacher(entry: Entry, classes: tuple[str, ...], config: EvalConfig) -> teachers.Teacher | None:
    """Return the network an entry is compared with; None if it has none or its weights are not available."""
    result, _ = find_teacher(entry, config)
    return build_teacher(entry, result, classes, config) if result else None


def build_teacher(entry: Entry, found: Weights, classes: tuple[str, ...], config: EvalConfig) -> teachers.Teacher:
    """Build the network an entry is compared with; `TeacherMismatch` if its classes are not the entry's, in order."""
    name = str(compared_with(entry, config))
    try:
        return teachers.build(name, found, registry.get_dataset(entry.dataset), classes, config.device)
    except TeacherMismatch as error:
        raise TeacherMismatch(f"{entry.name} cannot be compared with {name}: {error}") from error


def object_masks(split: Split, recipe: Recipe, ids: Tensor) -> Tensor:
    """Return the object masks of the images at some positions, resized and cropped as the centre crop."""
    return ground_truth.seen(ground_truth.masks(split, ids), recipe).to(ids.device)


def load_network(entry: Entry, found: Weights, classes: tuple[str, ...], device: torch.device) -> FeatureExtractor:
    """Load a network on a device; `DatasetError` if its classes are not those of the data, in the same order."""
    from dctkd_zoo import models  # here: it imports timm, which takes seconds, and kept results need no network

    check_classes(entry.name, weights.read_config(found.folder).get("label_names", []), classes)
    return FeatureExtractor(put(models.load(entry.arch, found), device)).eval()


def enable_class_maps(networks: Iterable[FeatureExtractor], images: Tensor) -> bool:
    """Let all of the networks give class maps, checked on images (B, 3, S, S), or none; return whether they do."""
    networks = tuple(networks)
    try:
        for network in networks:
            network.enable_class_maps(images)
    except UnsupportedNetwork:
        for network in networks:
            network.with_class_maps = False
        return False
    return True


def check_classes(name: str, outputs: Iterable[str], classes: tuple[str, ...]) -> None:
    """Refuse a network whose outputs are not the classes of the data, in the same order."""
    outputs = tuple(outputs)
    if len(outputs) != len(classes):
        raise DatasetError(f"{name} was trained on {len(outputs):,} classes, the data has {len(classes):,}")
    for label, (output, expected) in enumerate(zip(outputs, classes, strict=True)):
        if output != expected:
            raise DatasetError(f"{name}: output {label} means {output!r}, in the data class {label} is {expected!r}")


def check_preprocessing(entry: Entry, dataset: Dataset, config: Mapping[str, Any]) -> None:
    """Refuse a network whose `config.json` has other preprocessing than the catalog, which the evaluation follows."""
    expected = data_config(entry.recipe, dataset)
    pretrained = config.get("pretrained_cfg") or config
    for name, catalog in expected.items():
        stated = pretrained.get(name)
        if stated is not None and not _same(name, catalog, stated, entry.recipe):
            raise DatasetError(
                f"{entry.name}: {name} is {stated} in the config.json of its weights, but {catalog} in the catalog, so "
                "the evaluation would preprocess images differently from the training; correct whichever is wrong, or "
                "train it again"
            )


def _same(name: str, catalog: Any, stated: Any, recipe: Recipe) -> bool:
    if name == "crop_pct":  # a share that may be rounded, so compare the sizes that it gives
        return bool(math.floor(recipe.crop / stated) == recipe.resize)
    return list(catalog) == list(stated) if isinstance(catalog, tuple) else bool(catalog == stated)


@lru_cache(maxsize=2)  # entries are evaluated dataset by dataset
def test_split(dataset: Dataset, data: Path | None, limit: int | None, annotated: bool = False) -> Split:
    """Return the test split of a dataset, or its annotated images; of them `limit` images, spread evenly, if given."""
    split = load.annotated(dataset, data) if annotated else load.load(dataset, data)["test"]
    if limit is None or limit >= len(split):
        return split
    return split.take([index * len(split) // limit for index in range(limit)])


def open_views(entry: Entry, split: Split, device: torch.device) -> ImageLoader:
    """Return a loader of a split's images with an entry's preprocessing."""
    pixels = open_pixel_cache(split, entry.recipe, cache_home())
    return ImageLoader(pixels, torch.tensor(split.labels), entry.recipe, registry.get_dataset(entry.dataset), device)
