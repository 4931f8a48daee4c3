"""Structural similarity of activation maps as released: with a padding of 5 zeros, on which any two maps agree."""

from __future__ import annotations

from torch import Tensor

from dctkd_zoo.attention import minmax
from eval.metrics._base import LevelMetric
from eval.metrics.ssim import SIDE, structural_similarity, window


class SSIMZeroPad(LevelMetric):
    """SSIM with zero padding; higher for smaller maps, over 0.4 for random 7 x 7 maps (docs/method.md, D-10, D-11)."""

    protocols = ("released",)

    def compare(self, student_map: Tensor, teacher_map: Tensor) -> Tensor:
        """Return the values of one level, (B,)."""
        rows, columns = (window(size, SIDE, padding=SIDE // 2) for size in student_map.shape[1:])
        return structural_similarity(minmax(student_map), minmax(teacher_map), rows, columns)
