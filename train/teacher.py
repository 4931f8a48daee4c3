"""A teacher, checked before it teaches: its classes, its maps, and that it knows something."""

from __future__ import annotations

import math

import torch
from torch import nn

from dctkd_zoo.errors import TeacherMismatch
from dctkd_zoo.features import Output


def check_classes(teacher: nn.Module, name: str, num_classes: int) -> None:
    """Refuse a teacher of another number of classes than the student's."""
    if teacher.num_classes != num_classes:
        raise TeacherMismatch(f"teacher {name} tells {teacher.num_classes} classes, the student {num_classes}")


def check_maps(student: Output, teacher: Output, name: str) -> None:
    """Refuse a teacher whose feature maps differ from the student's in number or size."""
    ours, theirs = ([tuple(m.shape[-2:]) for m in output.maps] for output in (student, teacher))
    if ours != theirs:
        raise TeacherMismatch(f"maps of teacher {name} are {theirs} px, the student's {ours}")


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
