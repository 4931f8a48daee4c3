"""Linear CKA (Kornblith et al., ICML 2019) of the features of two networks, computed batch by batch."""

from __future__ import annotations

import math

import torch
from torch import Tensor


class LinearCKA:
    """Linear centred kernel alignment of features x (N, P) and y (N, Q) that come in batches and are not stored.

    With X and Y centred over the images it is ||X^T Y||^2 / (||X^T X|| ||Y^T Y||), Frobenius norms: the same as from
    the Gram matrices (N, N), but from sums of (P + Q)^2 numbers. The sums are in float64, of the differences from the
    first image, so that a large common mean costs no precision, and are centred at the end.

    With few images it is high even for unrelated features; its chance level is that of x and the y of other images.
    """

    def __init__(self) -> None:
        self._count = 0
        self._width = 0
        self._origin: Tensor | float = 0.0
        self._sum: Tensor | float = 0.0
        self._products: Tensor | float = 0.0

    def update(self, x: Tensor, y: Tensor) -> None:
        """Add the features x (B, P) and y (B, Q) of a batch of images."""
        joint = torch.cat([_double(x), _double(y)], dim=1)
        if self._count == 0 and len(joint):
            self._width, self._origin = x.shape[1], joint[0]
        joint = joint - self._origin
        self._count += len(joint)
        self._sum = self._sum + joint.sum(dim=0)
        self._products = self._products + joint.T @ joint

    def value(self) -> float:
        """Return CKA in [0, 1]: 1 for features that are equal up to rotation and scale, 0 if either is constant.

        NaN with fewer than two images.
        """
        if self._count < 2:
            return math.nan
        total, products = torch.as_tensor(self._sum), torch.as_tensor(self._products)
        covariance = products - torch.outer(total, total) / self._count
        p = self._width
        norms = (torch.linalg.matrix_norm(covariance[:p, :p]) * torch.linalg.matrix_norm(covariance[p:, p:])).item()
        cross = covariance[:p, p:].square().sum().item()
        return min(cross / norms, 1.0) if norms > 0 else 0.0


def _double(features: Tensor) -> Tensor:
    features = features.detach()
    return (features.cpu() if features.device.type == "mps" else features).double()  # mps has no float64
