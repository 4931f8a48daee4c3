"""Teacher networks: loading, adapting to a student's images, and checks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dctkd_zoo import registry, weights
from dctkd_zoo.device import to_device
from dctkd_zoo.errors import TeacherMismatch, UnsupportedNetwork, ZooError
from dctkd_zoo.features import FeatureExtractor, Output, channels
from dctkd_zoo.objective import Objective
from dctkd_zoo.spec import EXTERNAL, Dataset
from dctkd_zoo.weights import Weights


@dataclass(frozen=True)
class Teacher:
    """A frozen network in evaluation mode, `images -> Output`, and its weights."""

    name: str
    network: FeatureExtractor
    weights: Weights


class Adapted(FeatureExtractor):
    """A network that takes its student's images, resized to (H, W) and normalised as in its own `config.json`."""

    scale: Tensor
    shift: Tensor

    def __init__(self, model: nn.Module, dataset: Dataset) -> None:
        super().__init__(model)
        config: Any = model.pretrained_cfg
        expected, actual = len(config["mean"]), len(dataset.mean)
        if expected != actual:
            arch = config.get("architecture")
            raise UnsupportedNetwork(f"{arch} takes images of {channels(expected)}, {dataset.name} has {actual}")
        mean, std, own_mean, own_std = (
            torch.tensor(v).view(1, 3, 1, 1) for v in (dataset.mean, dataset.std, config["mean"], config["std"])
        )
        self.register_buffer("scale", std / own_std)
        self.register_buffer("shift", (mean - own_mean) / own_std)
        self.size = tuple(config["input_size"][1:])

    def forward(self, images: Tensor) -> Output:
        """Return the `Output` for images (B, 3, S, S) of any size, normalised as the dataset's."""
        images = images * self.scale + self.shift
        if images.shape[2:] != self.size:
            images = F.interpolate(images, self.size, mode="bilinear", antialias=True)
        return super().forward(images)


def load(name: str, dataset: Dataset, classes: Iterable[str], device: torch.device, trained: Path | None) -> Teacher:
    """Load the teacher `name`, an entry or a network of `hf-hub:` or `local-dir:`, for images of `dataset`.

    `trained` is a folder of runs to look in first. `WeightsNotFound` if it has no weights, `TeacherMismatch` if its
    classes are others than the student's or in another order.
    """
    return build(name, find(name, trained), dataset, classes, device)


def build(name: str, checkpoint: Weights, dataset: Dataset, classes: Iterable[str], device: torch.device) -> Teacher:
    """Build the teacher `name` from its weights; `TeacherMismatch` as in `load`."""
    from dctkd_zoo import models  # here: it imports timm, which takes seconds, and kept outputs need no network

    external = name.startswith(EXTERNAL)
    network = Adapted(
        models.load_any(checkpoint) if external else models.load(registry.get_entry(name).arch, checkpoint), dataset
    )
    check_classes(name, checkpoint, network.model.num_classes, tuple(classes))  # type: ignore[arg-type]
    to_device(network.requires_grad_(False), device)
    return Teacher(name, network.eval(), checkpoint)


def find(name: str, trained: Path | None) -> Weights:
    """Find the weights of the teacher `name`, an entry or a network outside the catalog."""
    return weights.locate(name) if name.startswith(EXTERNAL) else weights.find(registry.get_entry(name), trained)


def facts(name: str, checkpoint: Weights) -> list[Any]:
    """Return what determines the outputs of the teacher `name` as JSON data: weights, config, code, whether external.

    Its config says how it is built, and the size and normalisation of its images.
    """
    return [checkpoint.sha256, checkpoint.config_sha256, weights.registered_code(checkpoint), name.startswith(EXTERNAL)]


def check_classes(name: str, checkpoint: Weights, count: int, classes: tuple[str, ...]) -> None:
    """Refuse a teacher with other classes than the student's, or, if it names them, in another order."""
    if count != len(classes):
        raise TeacherMismatch(f"teacher {name} has {count} classes, the student {len(classes)}")
    names = weights.read_config(checkpoint.folder).get("label_names")
    if not isinstance(names, list):  # many timm networks have none
        return
    for label, (actual, expected) in enumerate(zip(names, classes, strict=True)):
        if actual != expected:
            raise TeacherMismatch(f"teacher {name}: output {label} is {actual!r}, but {expected!r} in the data")


SURE = 0.01  # significance level: the probability of accepting a teacher that only guesses


def check_cacheable(objective: Objective) -> None:
    """Refuse terms that need more of a teacher's outputs than a cache holds."""
    whole = objective.reading_features()
    if whole:
        raise ZooError(
            f"{', '.join(whole)}: compares whole feature maps, which a teacher cache does not hold; leave it out"
        )


def check_knowledge(top1: float, labels: torch.Tensor, name: str, seen: str = "") -> None:
    """Refuse a teacher that is not significantly better than guessing the commonest class (exact binomial test).

    A teacher without a mistake passes, however few the images. `seen` adds to the message how it saw them.
    """
    from scipy.stats import binom

    count, correct = len(labels), round(top1 / 100 * len(labels))
    commonest = torch.bincount(labels).max().item() / count
    limit = min(int(binom.isf(SURE, count, commonest)), count - 1)  # guessing exceeds it with probability SURE at most
    if correct <= limit:
        raise TeacherMismatch(
            f"teacher {name} has {top1:.2f} % top-1{seen}, no better than chance (up to {100 * limit / count:.2f} % "
            "here); train it first"
        )


def seen(network: nn.Module, crop: int) -> str:
    """Return a note on how a teacher sees its student's images of `crop` px; empty if that is its own size."""
    size = network.size if isinstance(network, Adapted) else (crop, crop)
    return "" if size == (crop, crop) else f" (sees the student's {crop} px resized to its own {size[0]}x{size[1]} px)"


def shapes(output: Output) -> str:
    """Return a summary of an output: `12 classes, maps of 40x40, 20x20, 10x10 px`."""
    sides = ", ".join(f"{m.shape[-2]}x{m.shape[-1]}" for m in output.maps)
    return f"{output.logits.shape[1]} classes, maps of {sides} px"
