"""Spectral distance of activation maps in the low third of the frequencies: the coarse layout."""

from __future__ import annotations

from torch import Tensor

from eval.metrics._base import LevelMetric
from eval.metrics.spectral import LOW, band_distance


class SpectralLow(LevelMetric):
    """The low band of `spectral.band_distance`."""

    best = 0.0

    def compare(self, student_map: Tensor, teacher_map: Tensor) -> Tensor:
        """One level, (B,)."""
        return band_distance(student_map, teacher_map, LOW)
