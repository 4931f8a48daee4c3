"""Batches of images and labels, the input of networks and loss terms."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

UNLABELLED = -1  # label of an image without one


class Batch(NamedTuple):
    """Normalised images (B, 3, S, S), labels (B,) int64 or `UNLABELLED`, and positions in the split (B,) int64.

    In a batch of blended images (MixUp, CutMix), `other_labels` (B,) are the labels of the other images and `share`
    (B,) the weight of the first.
    """

    images: Tensor
    labels: Tensor
    ids: Tensor
    other_labels: Tensor | None = None
    share: Tensor | None = None

    def labelled(self) -> Tensor:
        """Return which images have a label, (B,); a blended one needs both."""
        known = self.labels != UNLABELLED
        return known if self.other_labels is None else known & (self.other_labels != UNLABELLED)
