"""Distance of wavelet details, the core of FreeKD (Zhang et al., CVPR 2024, arXiv 2311.12079)."""

from __future__ import annotations

import torch
from torch import Tensor

from dctkd_zoo.losses._base import LevelTerm


def haar(values: Tensor) -> tuple[Tensor, Tensor]:
    """Return one level of the orthonormal Haar transform: (..., H, W) -> (..., H/2, W/2), (3, ..., H/2, W/2).

    These are the approximation, half of the sum of each 2 x 2 px, and the details: differences of columns, of rows,
    and of diagonals (LH, HL, HH). An odd side is extended by its last row or column.
    """
    height, width = values.shape[-2:]
    if height % 2:
        values = torch.cat([values, values[..., -1:, :]], dim=-2)
    if width % 2:
        values = torch.cat([values, values[..., -1:]], dim=-1)
    a, b = values[..., ::2, ::2], values[..., ::2, 1::2]
    c, d = values[..., 1::2, ::2], values[..., 1::2, 1::2]
    return (a + b + c + d) / 2, torch.stack([a - b + c - d, a + b - c - d, a - b - c + d]) / 2


def wavelet(student: Tensor, teacher: Tensor, depth: int = 3) -> Tensor:
    """Return the mean absolute difference of each detail band, summed over bands and scales: (B, C, H, W) -> (B,).

    There are three bands at each of `depth` scales, fewer if a side is down to 1 px.
    """
    approximation = student - teacher  # the transform is linear
    total = 0 * approximation.sum(dim=(1, 2, 3))  # zeros that have a gradient, also if there are no details
    for _ in range(depth):
        if min(approximation.shape[2:]) == 1:
            break
        approximation, details = haar(approximation)
        total = total + details.abs().mean(dim=(2, 3, 4)).sum(dim=0)
    return total


class Wavelet(LevelTerm):
    """L1 distance of the detail bands of a Haar transform, summed over the levels.

    An L1 is not kept by an orthonormal transform, so unlike `fft` this is no L2 of the maps in disguise. The
    approximation is left out, as in the authors' code, so a constant added to what is compared does not count: to
    the maps after they are scaled, or to each channel of the features.

    Args:
        of: `maps`, scaled to unit L2 norm; or `features`, of which the student's are projected to the teacher's
            channels if they have others, as in FreeKD.
        depth: number of scales.

    FreeKD's prompts and the masks that they make of the teacher's bands are left out: all positions count alike. It
    was published for detection and segmentation. At a border, it pads with zeros instead of the last pixel.
    """

    def __init__(self, of: str = "maps", depth: int = 3) -> None:
        super().__init__(of)
        if depth < 1:
            raise ValueError(f"depth {depth} leaves no details to compare: use at least 1")
        self.depth = depth

    def distance(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the distance at one level: (B, C, H, W) twice -> (B,)."""
        return wavelet(student, teacher, self.depth)
