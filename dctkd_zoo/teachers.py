"""A teacher's name to a network that takes its student's batches."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dctkd_zoo import models, registry, weights
from dctkd_zoo.device import to_device
from dctkd_zoo.errors import TeacherMismatch, UnsupportedNetwork, ZooError
from dctkd_zoo.features import FeatureExtractor, Output, channels
from dctkd_zoo.objective import Objective
from dctkd_zoo.spec import EXTERNAL, Dataset
from dctkd_zoo.weights import Weights


@dataclass(frozen=True)
class Teacher:
    """A frozen network in evaluation mode, `images -> Output`, and the weights that it has."""

    name: str
    network: FeatureExtractor
    weights: Weights


class Adapted(FeatureExtractor):
    """A network fed with its student's images, at the size (H, W) and normalised as its own `config.json` tells."""

    scale: Tensor
    shift: Tensor

    def __init__(self, model: nn.Module, dataset: Dataset) -> None:
        super().__init__(model)
        config: Any = model.pretrained_cfg
        taken, given = len(config["mean"]), len(dataset.mean)
        if taken != given:
            called = config.get("architecture")
            raise UnsupportedNetwork(f"{called} takes images of {channels(taken)}, {dataset.name} has {given}")
        mean, std, own_mean, own_std = (
            torch.tensor(v).view(1, 3, 1, 1) for v in (dataset.mean, dataset.std, config["mean"], config["std"])
        )
        self.register_buffer("scale", std / own_std)
        self.register_buffer("shift", (mean - own_mean) / own_std)
        self.size = tuple(config["input_size"][1:])

    def forward(self, images: Tensor) -> Output:
        """Images (B, 3, S, S), normalised as the data set says, of any size -> `Output`."""
        images = images * self.scale + self.shift
        if images.shape[2:] != self.size:
            images = F.interpolate(images, self.size, mode="bilinear", antialias=True)
        return super().forward(images)


def load(name: str, dataset: Dataset, classes: Iterable[str], device: torch.device, trained: Path | None) -> Teacher:
    """The entry `name`, or the network of `hf-hub:` or `local-dir:`, on a device, for images of `dataset`.

    `trained` is a folder of runs to look in first. `WeightsNotFound` where there are none,
    `TeacherMismatch` where it tells other classes, or numbers them otherwise.
    """
    return build(name, find(name, trained), dataset, classes, device)


def build(name: str, found: Weights, dataset: Dataset, classes: Iterable[str], device: torch.device) -> Teacher:
    """The teacher `name` of the weights that were found of it; `TeacherMismatch` as `load` says."""
    external = name.startswith(EXTERNAL)
    network = Adapted(
        models.load_any(found) if external else models.load(registry.get_entry(name).arch, found), dataset
    )
    check_classes(name, found, network.model.num_classes, tuple(classes))  # type: ignore[arg-type]
    to_device(network.requires_grad_(False), device)
    return Teacher(name, network.eval(), found)


def find(name: str, trained: Path | None) -> Weights:
    """The weights of the teacher `name`, in whichever of the two ways it is named."""
    return weights.locate(name) if name.startswith(EXTERNAL) else weights.find(registry.get_entry(name), trained)


def facts(name: str, found: Weights) -> list[Any]:
    """What decides how the teacher `name` answers, as JSON can hold it: its values, config, code and where it is named.

    Its config tells how it is built, and size and normalisation of what it is fed with.
    """
    return [found.sha256, found.config_sha256, models.code(found), name.startswith(EXTERNAL)]


def check_classes(name: str, found: Weights, count: int, classes: tuple[str, ...]) -> None:
    """Refuse a teacher of other classes than the student's; where it names them, the order counts too."""
    if count != len(classes):
        raise TeacherMismatch(
            f"teacher {name} tells {count} classes, the student {len(classes)}; to start from its weights, "
            "make it an entry of your own whose recipe has them as `pretrained`, and train that first"
        )
    meta = weights.read_config(found.folder).get("label_names")
    if not isinstance(meta, list):  # many networks of timm do not say
        return
    for label, (teacher, student) in enumerate(zip(meta, classes, strict=True)):
        if teacher != student:
            raise TeacherMismatch(f"teacher {name}: output {label} means {teacher!r}, in the data it is {student!r}")


SURE = 0.01  # the chance of taking an ignorant teacher for one that knows something, at most


def check_cacheable(objective: Objective) -> None:
    """Refuse terms that read more of a teacher than a cache keeps."""
    whole = objective.reading_features()
    if whole:
        raise ZooError(f"{', '.join(whole)}: compares whole feature maps, which no teacher cache keeps; leave it out")


def check_knowledge(top1: float, labels: torch.Tensor, name: str, seen: str = "") -> None:
    """Refuse a teacher that is not clearly better than always guessing the commonest class: an exact binomial test.

    However few the images, one without a mistake is taken. `seen` adds to the message what it saw of them.
    """
    from scipy.stats import binom

    count, right = len(labels), round(top1 / 100 * len(labels))
    share = torch.bincount(labels).max().item() / count
    limit = min(int(binom.isf(SURE, count, share)), count - 1)  # what guessing gets right in all but so few cases
    if right <= limit:
        raise TeacherMismatch(
            f"teacher {name} has {top1:.2f} % top-1{seen}, no better than chance (up to {100 * limit / count:.2f} % "
            "here); train it first"
        )


def seen(network: nn.Module, crop: int) -> str:
    """What a teacher sees of its student's images of `crop` px where that is another size than its own, in words."""
    size = network.size if isinstance(network, Adapted) else (crop, crop)
    return "" if size == (crop, crop) else f" (sees the student's {crop} px resized to its own {size[0]}x{size[1]} px)"


def shapes(output: Output) -> str:
    """The classes and maps of an output in words: `12 classes, maps of 40x40, 20x20, 10x10 px`."""
    sides = ", ".join(f"{m.shape[-2]}x{m.shape[-1]}" for m in output.maps)
    return f"{output.logits.shape[1]} classes, maps of {sides} px"
