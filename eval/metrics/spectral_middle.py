"""Spectral distance of activation maps in the middle third of the frequencies: parts of objects and their gaps."""

from __future__ import annotations

from torch import Tensor

from eval.metrics._base import LevelMetric
from eval.metrics.spectral import MIDDLE, band_distance


class SpectralMiddle(LevelMetric):
    """The middle band of `spectral.band_distance`."""

    best = 0.0

    def compare(self, student_map: Tensor, teacher_map: Tensor) -> Tensor:
        """One level, (B,)."""
        return band_distance(student_map, teacher_map, MIDDLE)
