"""Export of trained networks to folders in timm's format, ready for the Hub."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from timm.models import save_for_hf
from torch import nn

from dctkd_zoo._io import atomic
from dctkd_zoo.errors import ZooError
from dctkd_zoo.spec import Dataset, Entry, data_config
from dctkd_zoo.weights import WEIGHTS, licence, portable, write_hashes


def config(entry: Entry, dataset: Dataset, classes: tuple[str, ...], license_id: str | None) -> dict[str, Any]:
    """Return arguments for `save_for_hf`, without which timm would evaluate with the architecture's preprocessing."""
    lineage = {"name": entry.name, "teacher": portable(entry.teacher), "weights": dict(entry.weights)}
    meta = {"tag": entry.name, "license": license_id, "origin_url": None, "paper_ids": "arXiv:2205.01997"}
    model = {"label_names": list(classes), "dctkd": lineage, "pretrained_cfg": meta}
    return {"data_config": data_config(entry.recipe, dataset), "model_config": model}


def write(model: nn.Module, entry: Entry, dataset: Dataset, classes: tuple[str, ...], folder: Path) -> None:
    """Write `config.json` and `model.safetensors` so that plain timm loads the network and its preprocessing.

    The config has the licence of the weights if it is stated or follows, otherwise that of their initial weights.
    """
    plain = copy.deepcopy(model).to("cpu", memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    with _staged(folder) as staging:
        save_for_hf(plain, str(staging), safe_serialization=True, **config(entry, dataset, classes, _licence(entry)))
    write_hashes(folder)


def _licence(entry: Entry) -> str | None:
    try:
        return licence.of_weights(entry)
    except ZooError:  # they cannot be published as they are: `publish` says so
        return licence.of_start(entry)


@contextmanager
def _staged(folder: Path) -> Iterator[Path]:
    """Yield a folder to write into; its files then replace those of `folder` one by one, the weights last."""
    staging = folder / ".export"
    staging.mkdir(parents=True, exist_ok=True)
    yield staging
    for file in sorted(staging.iterdir(), key=lambda p: p.name == WEIGHTS):
        atomic.settle(file, folder / file.name)
    staging.rmdir()
