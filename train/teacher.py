"""A teacher, looked at before it teaches: that it knows something, and what it shows."""

from __future__ import annotations

import torch
from torch import nn

from dctkd_zoo.errors import TeacherMismatch, ZooError
from dctkd_zoo.features import Output
from dctkd_zoo.objective import Objective
from dctkd_zoo.teachers import Adapted

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
