"""Intersection over union of where student and teacher respond the most: the strongest fifth of each map's area."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from dctkd_zoo.features import to_fp32
from eval.metrics._base import LevelMetric

PARTS = 5  # of which the strongest is compared: 20 % of the area


def strongest(maps: Tensor) -> Tensor:
    """How much of each pixel of maps (B, H, W) belongs to the strongest fifth of the area, in [0, 1].

    By rank, so that the scale does not count. The weakest pixels in it, all those of one value, share
    evenly what the stronger leave: the area is a fifth of any map, and no tie is broken by position.
    """
    values = to_fp32(maps).flatten(1)
    area = values.shape[1] / PARTS
    weakest = values.topk(math.ceil(area), dim=1).values[:, -1:]
    above, level = values > weakest, values == weakest
    left = (area - above.sum(dim=1, keepdim=True)) / level.sum(dim=1, keepdim=True)
    return torch.where(above, 1, torch.where(level, left, 0)).view(maps.shape)


class IoU(LevelMetric):
    """1 for the same fifth, 0 for two apart, about 1/9 for two independent ones."""

    def compare(self, student_map: Tensor, teacher_map: Tensor) -> Tensor:
        """One level, (B,)."""
        a, b = strongest(student_map), strongest(teacher_map)
        return torch.minimum(a, b).sum(dim=(1, 2)) / torch.maximum(a, b).sum(dim=(1, 2))
