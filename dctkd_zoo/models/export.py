"""Trained networks to folders in timm's format, ready for the Hub."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from timm.models import save_for_hf
from torch import nn

from dctkd_zoo._io import atomic
from dctkd_zoo.errors import ZooError
from dctkd_zoo.spec import Dataset, Entry, Recipe
from dctkd_zoo.weights import WEIGHTS, licence, portable, write_hashes


def config(entry: Entry, dataset: Dataset, classes: tuple[str, ...], terms: str | None) -> dict[str, Any]:
    """What `save_for_hf` has to be told, or timm would evaluate with the architecture's own preprocessing."""
    lineage = {"name": entry.name, "teacher": portable(entry.teacher), "weights": dict(entry.weights)}
    meta = {"tag": entry.name, "license": terms, "origin_url": None, "paper_ids": "arXiv:2205.01997"}
    model = {"label_names": list(classes), "dctkd": lineage, "pretrained_cfg": meta}
    return {"data_config": data_config(entry.recipe, dataset), "model_config": model}


def data_config(recipe: Recipe, dataset: Dataset) -> dict[str, Any]:
    """How images are prepared in evaluation, as timm tells it."""
    return {
        "input_size": (3, recipe.crop, recipe.crop),
        "crop_pct": crop_pct(recipe.crop, recipe.resize),
        "crop_mode": "center",
        "interpolation": "bilinear",
        "mean": dataset.mean,
        "std": dataset.std,
    }


def crop_pct(crop: int, resize: int) -> float:
    """The share from which timm, which rounds `crop / crop_pct` down, gets exactly `resize` back."""
    share = crop / resize
    return share if math.floor(crop / share) == resize else math.nextafter(share, 0)


def write(model: nn.Module, entry: Entry, dataset: Dataset, classes: tuple[str, ...], folder: Path) -> None:
    """Write `config.json` and `model.safetensors` so that plain timm loads the network and its preprocessing.

    The config tells the licence of the weights where it is stated or follows, and that of their start otherwise.
    """
    plain = copy.deepcopy(model).to("cpu", memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    with _staged(folder) as others:
        save_for_hf(plain, str(others), safe_serialization=True, **config(entry, dataset, classes, _licence(entry)))
    write_hashes(folder)


def _licence(entry: Entry) -> str | None:
    try:
        return licence.of_weights(entry)
    except ZooError:  # not to be published as they are, which is told when that is asked for
        return licence.of_start(entry)


@contextmanager
def _staged(folder: Path) -> Iterator[Path]:
    """A folder to write into beside the files of `folder`; they replace those one by one, the weights last."""
    others = folder / ".export"
    others.mkdir(parents=True, exist_ok=True)
    yield others
    for file in sorted(others.iterdir(), key=lambda p: p.name == WEIGHTS):
        atomic.settle(file, folder / file.name)
    others.rmdir()
