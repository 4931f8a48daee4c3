"""Networks ready for prediction: with their class names and preprocessing, on a device."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from timm.data.config import resolve_model_data_config
from timm.data.transforms_factory import create_transform
from torch import Tensor, nn

from dctkd_zoo import device as devices
from dctkd_zoo import models, registry, weights
from dctkd_zoo.device import to_device
from dctkd_zoo.errors import CorruptWeights, UnsupportedNetwork, WeightsNotFound
from dctkd_zoo.features import FeatureExtractor
from dctkd_zoo.spec import NAME, Entry
from dctkd_zoo.weights import Weights


@dataclass(frozen=True)
class Predictor:
    """A network on a device, with its class names and preprocessing.

    `transform` is the preprocessing its weights were evaluated with, from their `config.json`. `weights` is None for
    a network that was given as a module.
    """

    name: str
    network: FeatureExtractor
    weights: Weights | None
    classes: tuple[str, ...]
    transform: Callable[[Image.Image], Tensor]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    device: torch.device


def load(entry: Entry, device: torch.device, source: str | None = None) -> Predictor:
    """Load an entry with its own weights, or with those of a folder or `hf-hub:org/name@rev`.

    `WeightsNotFound` if there are none, or if they have another number of classes than the entry.
    """
    checkpoint = weights.find(entry) if source is None else weights.locate(source)
    model = models.load(entry.arch, checkpoint)
    expected, count = registry.get_dataset(entry.dataset).num_classes, int(model.num_classes)  # type: ignore[arg-type]
    if count != expected:
        raise WeightsNotFound(
            f"{entry.name} has {expected:,} classes, but the weights in {checkpoint.folder} have {count:,}"
        )
    return _loaded(entry.name, checkpoint, model, device)


def load_external(source: str, device: torch.device) -> Predictor:
    """Load a network that is no entry, from a folder in timm's format, `local-dir:PATH` or `hf-hub:org/name@rev`."""
    checkpoint = weights.locate(source)
    name = str(weights.read_config(checkpoint.folder).get("architecture", "network"))
    return _loaded(name, checkpoint, models.load_any(checkpoint), device)


def load_predictor(
    model: str | os.PathLike[str] | nn.Module | Predictor, device: str | torch.device | None = None
) -> Predictor:
    """Return a network ready for `predict`: an entry's, a folder's, `hf-hub:ORG/NAME`'s, or a copy of a timm module.

    It runs on `device`, by default a GPU if there is one; a module's copy stays where the module is. A module's
    classes and preprocessing are those of its `pretrained_cfg`. A `Predictor` is returned as it is.
    """
    match model:
        case Predictor():
            if device is not None:
                raise ValueError(f"device is {str(device)!r}, but the predictor is on {model.device}: leave it out")
            return model
        case nn.Module():
            return _of_module(model, device)
    chosen = devices.choose(None if device is None else str(device))
    source = os.fspath(model)
    is_name = isinstance(model, str) and NAME.fullmatch(source) is not None
    if is_name and (registry.knows(source) or not Path(source).exists()):
        return load(registry.get_entry(source), chosen)
    return load_external(source, chosen)


def _of_module(model: nn.Module, device: str | torch.device | None) -> Predictor:
    """Return a predictor with a copy of a module, so that its mode, device and memory layout stay as they are."""
    config: Mapping[str, Any] = getattr(model, "pretrained_cfg", None) or {}
    count = getattr(model, "num_classes", None)
    if not count or not isinstance(count, int):
        raise UnsupportedNetwork(f"{type(model).__name__} has no classes (num_classes is {count}): give a timm model")
    names = config.get("label_names")
    known = isinstance(names, Sequence) and len(names) == count  # not those of a head that was replaced
    own = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    chosen = own if device is None else devices.choose(str(device))
    name = str(config.get("architecture") or type(model).__name__)
    return _predictor(name, None, copy.deepcopy(model), _class_names(names if known else None, count), chosen)


def _loaded(name: str, checkpoint: Weights, model: nn.Module, device: torch.device) -> Predictor:
    return _predictor(name, checkpoint, model, class_names(checkpoint, int(model.num_classes)), device)  # type: ignore[arg-type]


def class_names(checkpoint: Weights, count: int) -> tuple[str, ...]:
    """Return the names of the outputs of some weights; `CorruptWeights` if there are not `count` of them."""
    names = weights.read_config(checkpoint.folder).get("label_names")
    if not isinstance(names, list):
        return _class_names(None, count)
    if len(names) != count:
        raise CorruptWeights(f"{checkpoint.folder / weights.CONFIG}: {len(names):,} label_names for {count:,} classes")
    return _class_names(names, count)


def _class_names(names: Sequence[Any] | None, count: int) -> tuple[str, ...]:
    """Return the names of the outputs, which networks from elsewhere often lack."""
    return tuple(map(str, names)) if names else tuple(f"output {label}" for label in range(count))


def _predictor(
    name: str, checkpoint: Weights | None, model: nn.Module, classes: tuple[str, ...], device: torch.device
) -> Predictor:
    config = resolve_model_data_config(model)
    network = FeatureExtractor(to_device(model, device)).eval()
    transform = create_transform(**config, is_training=False)
    return Predictor(name, network, checkpoint, classes, transform, config["mean"], config["std"], device)
