"""Pearson correlation of the activation maps of student and teacher over their pixels."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from dctkd_zoo.attention import minmax
from eval.metrics._base import LevelMetric


def pearson(a: Tensor, b: Tensor) -> Tensor:
    """Correlation of two maps (B, H, W) -> (B,), in [-1, 1]; zero where one of them is constant."""
    # The correlation does not change with scale, float32's precision does: hence maps in [0, 1].
    a, b = (minmax(m).flatten(1) for m in (a, b))
    return F.cosine_similarity(a - a.mean(dim=1, keepdim=True), b - b.mean(dim=1, keepdim=True), dim=1)


class Pearson(LevelMetric):
    """Whether student and teacher respond in the same places, whatever the strength."""

    def compare(self, student_map: Tensor, teacher_map: Tensor) -> Tensor:
        """One level, (B,)."""
        return pearson(student_map, teacher_map)
