"""Spectral distance of activation maps: what the DCT loss minimises, with the true DCT-II."""

from __future__ import annotations

import torch
from torch import Tensor

from dctkd_zoo.features import to_fp32
from dctkd_zoo.losses.dctkd import spectral_distance
from dctkd_zoo.spectrum import dct2, dct2_raw
from eval.metrics._base import LevelMetric

LOW, MIDDLE, HIGH = range(3)


def thirds(size: int) -> Tensor:
    """Of the frequencies 0 to size - 1 along one axis, which third of that range each lies in, (size,)."""
    # In integers: a frequency at a border belongs to the higher third, whatever the size.
    return (3 * torch.arange(size) // max(size - 1, 1)).clamp(max=HIGH)


def band_distance(student_map: Tensor, teacher_map: Tensor, band: int) -> Tensor:
    """The distance of the DCT-II spectra of two maps on [0, 1] in one band: maps (B, H, W) -> (B,).

    The band of coefficient (u, v) is the third of [0, 1] that max(u / (H - 1), v / (W - 1)) lies in. By Parseval
    the squares of the three add up to the squared distance of the mean-free maps. Not those of `spectral`: it
    normalises the coefficients, and the distance of high ones, mostly zeros, is then that of two maps' zeros.
    A map of 2 px has no middle band, its distance is 0.
    """
    rows, columns = (thirds(size).to(student_map.device) for size in student_map.shape[1:])
    inside = torch.maximum(rows[:, None], columns) == band
    difference = dct2_raw(to_fp32(student_map)) - dct2_raw(to_fp32(teacher_map))
    distance: Tensor = torch.linalg.vector_norm(difference * inside, dim=(1, 2))
    return distance


class Spectral(LevelMetric):
    """L2 norm of the difference of the normalised spectra; larger on larger maps, zero for equal ones."""

    best = 0.0

    def compare(self, student_map: Tensor, teacher_map: Tensor) -> Tensor:
        """One level, (B,)."""
        return spectral_distance(student_map, teacher_map, dct2)
