"""Linear CKA (Kornblith et al., ICML 2019) of the features of two networks, computed batch by batch."""

from __future__ import annotations

import math

import torch
from torch import Tensor


class LinearCKA:
    """Linear centred kernel alignment of features x (N, P) and y (N, Q) that come in batches and are not stored.

    With X and Y centred over the images it is ||X^T Y||^2 / (||X^T X|| ||Y^T Y||), Frobenius norms: the same as from
    the Gram matrices (N, N), but from sums of (P + 2 Q) P + Q^2 numbers. The sums are in float64, of the differences
    from the first image, so that a large common mean costs no precision, and are centred at the end.

    With few images it is high even for unrelated features; its chance level is that of x and the y of other images.
    """

    def __init__(self) -> None:
        self._count = 0
        self._origin: Tensor | float = 0.0
        self._sum: Tensor | float = 0.0
        self._across: Tensor | float = 0.0  # X^T [X, Y, Z], with the y of other images, Z
        self._within: Tensor | float = 0.0  # Y^T Y
        self._widths = 0, 0

    def update(self, x: Tensor, y: Tensor, others: Tensor | None = None) -> None:
        """Add the features x (B, P) and y (B, Q) of a batch of images, and y of each one's partner, for `chance`.

        Over all batches, the partners have to be the images themselves in another order.
        """
        joint = torch.cat([_double(part) for part in (x, y, y if others is None else others)], dim=1)
        self._widths = x.shape[1], y.shape[1]
        if self._count == 0 and len(joint):
            self._origin = joint[0]
        joint = joint - self._origin
        own, above = self._parts(joint)[:2]
        self._count += len(joint)
        self._sum = self._sum + joint.sum(dim=0)
        self._across = self._across + own.T @ joint
        self._within = self._within + above.T @ above

    def value(self) -> float:
        """Return CKA in [0, 1]: 1 for features that are equal up to rotation and scale, 0 if either is constant.

        NaN with fewer than two images.
        """
        return self._of(1)

    def chance(self) -> float:
        """Return CKA of x and the partners' y."""
        return self._of(2)

    def _parts(self, values: Tensor) -> tuple[Tensor, ...]:
        p, q = self._widths
        parts: tuple[Tensor, ...] = values.split((p, q, values.shape[-1] - p - q), dim=-1)
        return parts

    def _of(self, which: int) -> float:
        if self._count < 2:
            return math.nan
        total = torch.as_tensor(self._sum)
        own, above = self._parts(total)[:2]
        across = self._parts(torch.as_tensor(self._across) - torch.outer(own, total) / self._count)
        within = torch.as_tensor(self._within) - torch.outer(above, above) / self._count
        norms = (torch.linalg.matrix_norm(across[0]) * torch.linalg.matrix_norm(within)).item()
        return min(across[which].square().sum().item() / norms, 1.0) if norms > 0 else 0.0


def _double(features: Tensor) -> Tensor:
    features = features.detach()
    return (features.cpu() if features.device.type == "mps" else features).double()  # mps has no float64
