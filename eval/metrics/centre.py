"""Distance of the centres of mass of student's and teacher's activation maps, as a share of the map's diagonal."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from eval.metrics._base import LevelMetric
from eval.metrics._maps import shares


def centre_of_mass(maps: Tensor) -> Tensor:
    """Maps (B, H, W) -> mean row and column (B, 2) in px, weighted by the map; the middle for a map of zeros."""
    mass = shares(maps)
    rows, columns = (torch.arange(size, device=mass.device) for size in mass.shape[1:])
    return torch.stack([(mass.sum(dim=2) * rows).sum(dim=1), (mass.sum(dim=1) * columns).sum(dim=1)], dim=1)


class Centre(LevelMetric):
    """Below 1, since the centres of two pixels are less than the diagonal from outer corner to corner apart."""

    best = 0.0

    def compare(self, student_map: Tensor, teacher_map: Tensor) -> Tensor:
        """One level, (B,)."""
        apart = centre_of_mass(student_map) - centre_of_mass(teacher_map)
        distance: Tensor = torch.linalg.vector_norm(apart, dim=1)
        return distance / math.hypot(*student_map.shape[1:])
