"""Structural similarity of activation maps as released: with a border of 5 zeros, on which any two maps agree."""

from __future__ import annotations

from torch import Tensor

from dctkd_zoo.attention import minmax
from eval.metrics._base import LevelMetric
from eval.metrics.ssim import SIDE, structural_similarity, window


class SSIMZeroPad(LevelMetric):
    """The smaller the map the higher: over 0.4 for two random maps of 7 x 7 px (docs/method.md, D-10 and D-11)."""

    def compare(self, student_map: Tensor, teacher_map: Tensor) -> Tensor:
        """One level, (B,)."""
        rows, columns = (window(size, SIDE, padding=SIDE // 2) for size in student_map.shape[1:])
        return structural_similarity(minmax(student_map), minmax(teacher_map), rows, columns)
