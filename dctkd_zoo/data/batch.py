"""Batches of images and labels, the input of networks and loss terms."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Batch(NamedTuple):
    """Normalised images (B, 3, S, S), labels (B,) int64, and positions in the split (B,) int64."""

    images: Tensor
    labels: Tensor
    ids: Tensor
