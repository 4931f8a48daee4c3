"""Structural similarity (SSIM; Wang et al., IEEE TIP 2004) of activation maps, without padding."""

from __future__ import annotations

import torch
from torch import Tensor

from dctkd_zoo.attention import minmax
from eval.metrics._base import LevelMetric

SIDE, SIGMA = 11, 1.5  # px, of the Gaussian window
C1, C2 = 0.01**2, 0.03**2  # for values in [0, 1]


def window(size: int, side: int, padding: int) -> Tensor:
    """Return Gaussian means along one axis as a matrix (size + 2 padding - side + 1, size), float64, zero padding."""
    taps = torch.arange(side, dtype=torch.float64) - (side - 1) / 2
    weights = torch.exp(-(taps**2) / (2 * SIGMA**2))
    weights /= weights.sum()
    positions = size + 2 * padding - side + 1
    tap = torch.arange(size) - torch.arange(positions)[:, None] + padding
    inside = (tap >= 0) & (tap < side)
    return torch.where(inside, weights[tap.clamp(0, side - 1)], 0)


def structural_similarity(a: Tensor, b: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Return the mean SSIM over positions of two maps (B, H, W) in [0, 1] -> (B,).

    The Gaussian means are products with the small matrices `rows` (P, H) and `columns` (Q, W), in float32; a
    convolution on a GPU would round to TF32.
    """
    rows, columns = rows.to(a), columns.to(a)
    means = rows @ torch.stack([a, b, a * a, b * b, a * b]) @ columns.T
    mean_a, mean_b = means[0], means[1]
    var_a, var_b, cov = means[2] - mean_a**2, means[3] - mean_b**2, means[4] - mean_a * mean_b
    luminance = (2 * mean_a * mean_b + C1) / (mean_a**2 + mean_b**2 + C1)
    return (luminance * (2 * cov + C2) / (var_a + var_b + C2)).mean(dim=(1, 2))


class SSIM(LevelMetric):
    """SSIM of the maps, each scaled to [0, 1], over the positions where the window is inside the map.

    If a map is smaller than 11 px, the window is as large as the map along that axis, with the same sigma: on 7 x 7 px
    the score is a single comparison, weighted towards the centre. There is no padding, so maps do not agree on a
    border of zeros (docs/method.md, D-10).
    """

    def compare(self, student_map: Tensor, teacher_map: Tensor) -> Tensor:
        """Return the values of one level, (B,)."""
        rows, columns = (window(size, min(SIDE, size), padding=0) for size in student_map.shape[1:])
        return structural_similarity(minmax(student_map), minmax(teacher_map), rows, columns)
