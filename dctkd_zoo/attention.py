"""Feature maps to activation maps: where a network responds."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx

from dctkd_zoo.features import wide


def activation_map(features: Tensor) -> Tensor:
    """Mean over channels of the squared features (B, C, H, W) -> (B, H, W), at least float32.

    The abstract speaks of maximum activation maps; the released code computes this mean (docs/method.md).
    """
    result: Tensor = _MeanSquare.apply(features)
    return result


class _MeanSquare(torch.autograd.Function):
    """Reads the features once each way: the plain formula writes a widened and a squared copy of them."""

    @staticmethod
    def forward(ctx: FunctionCtx, features: Tensor) -> Tensor:
        ctx.save_for_backward(features)
        if features.is_contiguous(memory_format=torch.channels_last):
            dtype = torch.promote_types(features.dtype, torch.float32)
            length: Tensor = torch.linalg.vector_norm(features, dim=1, dtype=dtype)
            return length.square() / features.shape[1]
        return wide(features).square().mean(dim=1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (features,) = ctx.saved_tensors
        slope = gradient * (2 / features.shape[1])
        result: Tensor = features * slope.to(features.dtype)[:, None]
        return result


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
