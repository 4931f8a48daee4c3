"""A teacher, looked at before it teaches: that it knows something, and what it shows."""

from __future__ import annotations

import math

import torch

from dctkd_zoo.errors import TeacherMismatch, ZooError
from dctkd_zoo.features import Output
from dctkd_zoo.objective import Objective


def check_cacheable(objective: Objective) -> None:
    """Refuse terms that read more of a teacher than a cache keeps."""
    whole = objective.reading_features()
    if whole:
        raise ZooError(f"{', '.join(whole)}: compares whole feature maps, which no teacher cache keeps; leave it out")


def check_knowledge(top1: float, labels: torch.Tensor, name: str) -> None:
    """Refuse a teacher that is not clearly better than always guessing the commonest class (3 standard errors)."""
    share = torch.bincount(labels).max().item() / len(labels)
    limit = 100 * (share + 3 * math.sqrt(share * (1 - share) / len(labels)))
    if top1 <= limit:
        raise TeacherMismatch(
            f"teacher {name} has {top1:.2f} % top-1, no better than chance (up to {limit:.2f} % here); train it first"
        )


def shapes(output: Output) -> str:
    """The classes and maps of an output in words: `12 classes, maps of 40x40, 20x20, 10x10 px`."""
    sides = ", ".join(f"{m.shape[-2]}x{m.shape[-1]}" for m in output.maps)
    return f"{output.logits.shape[1]} classes, maps of {sides} px"
