"""Pearson correlation of the activation maps of student and teacher over pixels."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from dctkd_zoo.attention import minmax
from eval.metrics._base import LevelMetric


def pearson(a: Tensor, b: Tensor) -> Tensor:
    """Return the correlation of two maps (B, H, W) -> (B,), in [-1, 1]; 0 if one of them is constant."""
    # Maps are scaled to [0, 1], which leaves the correlation as it is but keeps float32 precise.
    a, b = (minmax(m).flatten(1) for m in (a, b))
    return F.cosine_similarity(a - a.mean(dim=1, keepdim=True), b - b.mean(dim=1, keepdim=True), dim=1)


class Pearson(LevelMetric):
    """Whether student and teacher respond at the same positions, whatever the strength."""

    def compare(self, student_map: Tensor, teacher_map: Tensor) -> Tensor:
        """Return the values of one level, (B,)."""
        return pearson(student_map, teacher_map)
