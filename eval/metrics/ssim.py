"""Structural similarity (Wang et al., IEEE TIP 2004) of activation maps, from pixels inside the map alone."""

from __future__ import annotations

import torch
from torch import Tensor

from dctkd_zoo.attention import minmax
from eval.metrics._base import LevelMetric

SIDE, SIGMA = 11, 1.5  # px, of the Gaussian window
C1, C2 = 0.01**2, 0.03**2  # for values in [0, 1]


def window(size: int, side: int, padding: int) -> Tensor:
    """Weighted means along one axis as a matrix: (size + 2 padding - side + 1, size), float64; the padding is zero."""
    taps = torch.arange(side, dtype=torch.float64) - (side - 1) / 2
    weights = torch.exp(-(taps**2) / (2 * SIGMA**2))
    weights /= weights.sum()
    places = size + 2 * padding - side + 1
    tap = torch.arange(size) - torch.arange(places)[:, None] + padding
    inside = (tap >= 0) & (tap < side)
    return torch.where(inside, weights[tap.clamp(0, side - 1)], 0)


def structural_similarity(a: Tensor, b: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Mean over places of the SSIM of two maps (B, H, W) in [0, 1] -> (B,).

    The Gaussian means are products with the matrices `rows` (P, H) and `columns` (Q, W): small, and
    in float32 where a GPU's convolution would round to TF32.
    """
    rows, columns = rows.to(a), columns.to(a)
    means = rows @ torch.stack([a, b, a * a, b * b, a * b]) @ columns.T
    mean_a, mean_b = means[0], means[1]
    var_a, var_b, cov = means[2] - mean_a**2, means[3] - mean_b**2, means[4] - mean_a * mean_b
    luminance = (2 * mean_a * mean_b + C1) / (mean_a**2 + mean_b**2 + C1)
    return (luminance * (2 * cov + C2) / (var_a + var_b + C2)).mean(dim=(1, 2))


class SSIM(LevelMetric):
    """SSIM of the maps, each brought to [0, 1], over the places where the window lies within the map.

    A map of less than 11 px has a window as large as itself along that axis, of the same sigma: on
    7 x 7 px the score is a single comparison, weighted towards the centre. Nothing is padded, so
    there is no agreement on a border of zeros (docs/method.md, D-10).
    """

    def compare(self, student_map: Tensor, teacher_map: Tensor) -> Tensor:
        """One level, (B,)."""
        rows, columns = (window(size, min(SIDE, size), padding=0) for size in student_map.shape[1:])
        return structural_similarity(minmax(student_map), minmax(teacher_map), rows, columns)
