"""Jensen-Shannon divergence (Lin, IEEE Trans. Inf. Theory 1991) of activation maps as distributions, in bits."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from dctkd_zoo.attention import safe_divide
from eval.metrics._base import LevelMetric
from eval.metrics._maps import shares


def divergence(p: Tensor, mean: Tensor) -> Tensor:
    """Kullback-Leibler divergence of shares (B, H, W) from a mean that they are part of, in bits, (B,)."""
    nats: Tensor = torch.special.xlogy(p, safe_divide(p, mean)).sum(dim=(1, 2))
    return nats / math.log(2)


class JensenShannon(LevelMetric):
    """0 where the shares of the maps' sums that fall on each pixel are equal, 1 where no pixel has some of both.

    A map of zeros counts as an even one.
    """

    best = 0.0

    def compare(self, student_map: Tensor, teacher_map: Tensor) -> Tensor:
        """One level, (B,)."""
        p, q = shares(student_map), shares(teacher_map)
        mean = (p + q) / 2
        # Rounding can lead a little beyond either end.
        return ((divergence(p, mean) + divergence(q, mean)) / 2).clamp(0, 1)
