"""JPEG files as a split, and that as views of a pixel store: what the sides of a row read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from benchmarks.setting import Setting
from dctkd_zoo import registry
from dctkd_zoo.data import load
from dctkd_zoo.data.split import Files, Split
from dctkd_zoo.data.store import open_store
from dctkd_zoo.data.views import Views
from dctkd_zoo.home import cache_home
from dctkd_zoo.spec import Cosine, Dataset, Recipe

SIZE, COARSE, QUALITY = (300, 260), (15, 13), 90  # px, random values along each axis, of JPEG
CLASSES = 15
DATASET = "scene15"


def dataset() -> Dataset:
    """How the images are normalised."""
    return registry.get_dataset(DATASET)


def recipe(setting: Setting) -> Recipe:
    """Geometry and optimizer of the runs that are measured; the rate keeps random labels from diverging."""
    return Recipe(70, setting.batch, 0.01, Cosine(), resize=setting.resize, crop=setting.crop)


def split(setting: Setting, count: int) -> Split:
    """So many images in files: spread over the training set of `setting.data`, else made."""
    if setting.data is None:
        return _made(setting.folder / "images", count)
    whole = load.read(dataset(), setting.data)["train"]
    kept = [index * len(whole) // count for index in range(count)]
    names = tuple(whole.ids[index] for index in kept)
    return Split(whole.classes, names, whole.labels[kept], Files(setting.data / DATASET, names))


def _made(folder: Path, count: int) -> Split:
    folder.mkdir(exist_ok=True)
    names = tuple(f"{index:04d}.jpg" for index in range(count))
    for index, name in enumerate(names):
        if not (folder / name).exists():
            smooth(index).save(folder / name, quality=QUALITY)
    classes = tuple(f"class {index}" for index in range(CLASSES))
    return Split(classes, names, np.arange(count) % CLASSES, Files(folder, names))


def smooth(seed: int) -> Image.Image:
    """Random colours that change smoothly over an image."""
    coarse = np.random.default_rng(seed).integers(0, 256, (*COARSE[::-1], 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize(SIZE, Image.Resampling.BICUBIC)


def root(split: Split) -> Path:
    """The folder that a split's ids are paths in."""
    assert isinstance(split.images, Files)
    return split.images.root


def views(setting: Setting) -> Views:
    """The images of a round as `python -m train` sees them; their store is built on first use."""
    images, how = split(setting, setting.images), recipe(setting)
    store = open_store(images, how, cache_home())
    return Views(store, torch.tensor(images.labels), how, dataset(), setting.device)
