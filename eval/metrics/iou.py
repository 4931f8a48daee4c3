"""Intersection over union of the strongest fifth of the area of student's and teacher's activation maps."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from dctkd_zoo.features import to_fp32
from eval.metrics._base import LevelMetric

PARTS = 5  # the strongest of five parts, 20 % of the area, is compared


def strongest(maps: Tensor) -> Tensor:
    """Return how much of each pixel of maps (B, H, W) belongs to the strongest fifth of the area, in [0, 1].

    Pixels are ranked, so the scale does not matter. Pixels with the value at the threshold share the remaining area
    equally, so the area is always a fifth and ties are not broken by position.
    """
    values = to_fp32(maps).flatten(1)
    area = values.shape[1] / PARTS
    weakest = values.topk(math.ceil(area), dim=1).values[:, -1:]
    above, level = values > weakest, values == weakest
    rest = (area - above.sum(dim=1, keepdim=True)) / level.sum(dim=1, keepdim=True)
    return torch.where(above, 1, torch.where(level, rest, 0)).view(maps.shape)


class IoU(LevelMetric):
    """1 for the same fifth, 0 for disjoint fifths, about 1/9 for independent ones."""

    def compare(self, student_map: Tensor, teacher_map: Tensor) -> Tensor:
        """Return the values of one level, (B,)."""
        a, b = strongest(student_map), strongest(teacher_map)
        return torch.minimum(a, b).sum(dim=(1, 2)) / torch.maximum(a, b).sum(dim=(1, 2))
