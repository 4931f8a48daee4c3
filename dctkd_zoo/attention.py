"""Activation maps: where a network responds."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx

CONSTANT = 1e-30  # maps of a smaller range count as constant: the gradient of the range would overflow float32
BLOCK = 2**18  # values read at a time on a CPU: in float32, 1 MiB, they stay in the cache


def activation_map(features: Tensor) -> Tensor:
    """Return the mean over channels of the squared features (B, C, H, W) -> (B, H, W), at least float32.

    The abstract speaks of maximum activation maps; the released code computes this mean (docs/method.md).
    An image whose map gets a zero gradient passes on a zero gradient, also where its features are not finite.
    """
    result: Tensor = _MeanSquare.apply(features)
    return result


class _MeanSquare(torch.autograd.Function):
    """Mean square that reads the features once per direction; the plain formula writes widened and squared copies."""

    @staticmethod
    def forward(ctx: FunctionCtx, features: Tensor) -> Tensor:
        ctx.save_for_backward(features)
        dtype = torch.promote_types(features.dtype, torch.float32)
        in_order = features.stride(1) == 1  # the channels of a pixel are neighbours in memory
        if _eager_on_cpu(features) and not (in_order and features.dtype == dtype):
            return _in_blocks(features, dtype, in_order)
        length: Tensor = torch.linalg.vector_norm(features, dim=1, dtype=dtype)
        return length.square() / features.shape[1]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (features,) = ctx.saved_tensors
        slope = (gradient * (2 / features.shape[1])).to(features.dtype)[:, None]
        result: Tensor = features * slope
        # A zero gradient times features that are not finite would be NaN.
        if not _eager_on_cpu(features):
            return torch.where(slope == 0, 0, result)
        zero = ~slope.flatten(1).any(dim=1)
        return result.index_fill_(0, zero.nonzero()[:, 0], 0)  # a mask would take another pass over everything


def _eager_on_cpu(features: Tensor) -> bool:
    return features.device.type == "cpu" and not torch.compiler.is_compiling()


def _in_blocks(features: Tensor, dtype: torch.dtype, in_order: bool) -> Tensor:
    """Return the mean square over channels, (B, C, H, W) -> (B, H, W), of a few images at a time.

    Reductions of half types to float32 are slow on a CPU, so each block is widened into the same piece of memory first.
    Reductions over channels that are not `in_order` are fast for sums only, so the block is squared there.
    """
    images = max(1, BLOCK // max(1, features[:1].numel()))
    block = torch.empty_like(features[:images], dtype=dtype)
    result = features.new_empty(features.shape[:1] + features.shape[2:], dtype=dtype)
    for part, out in zip(features.split(images), result.split(images), strict=True):
        wide = block[: len(part)].copy_(part)
        if in_order:
            torch.linalg.vector_norm(wide, dim=1, out=out)
        else:
            torch.sum(wide.square_(), dim=1, out=out)
    return (result.square_() if in_order else result).div_(features.shape[1])


def of_class(maps: Tensor, classes: Tensor) -> Tensor:
    """Return the map of one class per image: class maps (B, K, H, W), (B,) -> (B, H, W)."""
    return maps[torch.arange(len(maps), device=maps.device), classes]


def grad_cam(maps: Tensor, classes: Tensor) -> Tensor:
    """Return the Grad-CAM of a class per image, class maps (B, K, H, W), (B,) -> (B, H, W).

    It is the positive part of the class's map over H W. For a head that is a mean over pixels and a linear layer, this
    is Grad-CAM (Selvaraju et al., ICCV 2017) at the last features exactly: the gradient of a logit is the head's weight
    over H W at every pixel.
    """
    return of_class(maps, classes).relu() / math.prod(maps.shape[2:])


def minmax(maps: Tensor) -> Tensor:
    """Scale each map (B, H, W) to [0, 1]; a constant map becomes zero."""
    low, high = amin_amax(maps)
    return safe_divide(maps - low, high - low)


def amin_amax(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Return the minimum and maximum of each map (B, H, W), both (B, 1, 1)."""
    return maps.amin(dim=(1, 2), keepdim=True), maps.amax(dim=(1, 2), keepdim=True)


def safe_divide(numerator: Tensor, denominator: Tensor) -> Tensor:
    """Divide; where the denominator (not negative) is at most `CONSTANT`, the quotient and its gradient are zero."""
    zero = denominator <= CONSTANT
    quotient = numerator / torch.where(zero, 1, denominator)
    return torch.where(zero, 0, quotient)
