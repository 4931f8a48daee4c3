"""Distance of complex spectra, as in SpectralKD (Tian et al., 2024, arXiv 2412.19055): a control for `dctkd`."""

from __future__ import annotations

import torch
from torch import Tensor

from dctkd_zoo.losses._base import LevelTerm


def fft(student: Tensor, teacher: Tensor, half: bool = True) -> Tensor:
    """Return the mean squared difference of orthonormal 2-D spectra: (B, C, H, W) twice -> (B,).

    The mean runs over channels, coefficients, and their real and imaginary parts. The full spectrum gives exactly
    half of the mean squared difference of the maps themselves (Parseval; docs/method.md, Fact 5). The `half` plane
    that determines the spectrum of real maps has each pair of conjugate coefficients once, but those of its first
    column, and of its last one if the width is even, twice as often in comparison.
    """
    transform = torch.fft.rfft2 if half else torch.fft.fft2
    spectrum = torch.view_as_real(transform(student - teacher, norm="ortho"))
    return spectrum.square().mean(dim=(1, 2, 3, 4))


class FFT(LevelTerm):
    """Distance of spectra without their min-max, summed over the levels: an L2 of the maps in disguise.

    Args:
        of: `maps`, scaled to unit L2 norm, of which the full spectrum is half of `at`; or `features`, of which the
            student's are projected to the teacher's channels if they have others.
        half: whether the spectrum is the half plane of `rfft2`, as in the paper's code, or all of `fft2`.

    SpectralKD compares features of vision transformers, of which it pools the teacher's channels instead of learning
    a projection, takes the mean over levels, and chooses the levels by their spectra, which is left out. Its weights
    of 0.05 to 0.2 belong to those features; on maps, that of `at` is 1,000, which corresponds to 2,000 here.
    """

    def __init__(self, of: str = "maps", half: bool = True) -> None:
        super().__init__(of)
        self.half_plane = half  # `half` is a method of a module

    def distance(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the distance at one level: (B, C, H, W) twice -> (B,)."""
        return fft(student, teacher, self.half_plane)
