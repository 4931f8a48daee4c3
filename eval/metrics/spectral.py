"""Spectral distance of activation maps: the distance that the DCT loss minimises, with the true DCT-II."""

from __future__ import annotations

from torch import Tensor

from dctkd_zoo.losses.dctkd import spectral_distance
from dctkd_zoo.spectrum import dct2
from eval.metrics._base import LevelMetric


class Spectral(LevelMetric):
    """L2 norm of the difference of the normalised spectra; 0 for equal maps, larger for larger maps."""

    best = 0.0

    def compare(self, student_map: Tensor, teacher_map: Tensor) -> Tensor:
        """Return the values of one level, (B,)."""
        return spectral_distance(student_map, teacher_map, dct2)
