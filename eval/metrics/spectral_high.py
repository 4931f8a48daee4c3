"""Spectral distance of activation maps in the high third of the frequencies: edges and single pixels."""

from __future__ import annotations

from torch import Tensor

from eval.metrics._base import LevelMetric
from eval.metrics.spectral import HIGH, band_distance


class SpectralHigh(LevelMetric):
    """The high band of `spectral.band_distance`."""

    best = 0.0

    def compare(self, student_map: Tensor, teacher_map: Tensor) -> Tensor:
        """One level, (B,)."""
        return band_distance(student_map, teacher_map, HIGH)
