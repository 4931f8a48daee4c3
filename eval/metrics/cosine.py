"""Cosine similarity of the activation maps of student and teacher over their pixels."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from eval.metrics._base import LevelMetric
from eval.metrics._maps import peaked


class Cosine(LevelMetric):
    """In [0, 1], for activation maps have no negative values; zero where one of them is zero throughout.

    The mean is not removed: two even maps are alike, and any two maps of little contrast nearly so.
    """

    def compare(self, student_map: Tensor, teacher_map: Tensor) -> Tensor:
        """One level, (B,)."""
        # Each over its peak: the squares of small values would vanish in float32.
        return F.cosine_similarity(peaked(student_map).flatten(1), peaked(teacher_map).flatten(1), dim=1)
