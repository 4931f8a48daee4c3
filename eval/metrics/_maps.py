"""Activation maps of any scale to maps of one scale, and to distributions over the image."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from dctkd_zoo.attention import safe_divide
from dctkd_zoo.features import to_fp32


def peaked(maps: Tensor) -> Tensor:
    """Each map (B, H, W) over its largest magnitude, at least float32; a map of zeros stays zero."""
    maps = to_fp32(maps)
    return safe_divide(maps, maps.abs().amax(dim=(1, 2), keepdim=True))


def shares(maps: Tensor) -> Tensor:
    """Each map (B, H, W) as shares of its sum, at least float32; a map of zeros is spread evenly.

    Values below zero count zero: an activation map has none, but resampling one can leave some.
    """
    energy = peaked(maps).clamp(min=0)
    total = energy.sum(dim=(1, 2), keepdim=True)
    return torch.where(total > 0, safe_divide(energy, total), 1 / math.prod(maps.shape[1:]))
