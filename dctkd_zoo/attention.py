"""Feature maps to activation maps: where a network responds."""

from __future__ import annotations

import torch
from torch import Tensor

from dctkd_zoo.features import wide


def activation_map(features: Tensor) -> Tensor:
    """Mean over channels of the squared features (B, C, H, W) -> (B, H, W), at least float32.

    The abstract speaks of maximum activation maps; the released code computes this mean (docs/method.md).
    """
    return wide(features).square().mean(dim=1)


def minmax(maps: Tensor) -> Tensor:
    """Each map (B, H, W) moved and scaled onto [0, 1]; a constant map becomes zero."""
    low, high = extremes(maps)
    return over(maps - low, high - low)


def extremes(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Smallest and largest value of each map (B, H, W), both (B, 1, 1)."""
    return maps.amin(dim=(1, 2), keepdim=True), maps.amax(dim=(1, 2), keepdim=True)


def over(numerator: Tensor, denominator: Tensor) -> Tensor:
    """A quotient that is zero, with a zero gradient, where the denominator is zero."""
    zero = denominator == 0
    quotient = numerator / torch.where(zero, 1, denominator)
    return torch.where(zero, 0, quotient)
