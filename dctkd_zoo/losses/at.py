"""Attention transfer (Zagoruyko and Komodakis, ICLR 2017, arXiv 1612.03928), activation-based, p = 2."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from dctkd_zoo.data.batch import Batch
from dctkd_zoo.features import Output
from dctkd_zoo.levels import map_pairs
from dctkd_zoo.losses import Term


def at(student_map: Tensor, teacher_map: Tensor) -> Tensor:
    """Return the mean squared difference of two maps (B, H, W), each scaled to unit L2 norm -> (B,)."""
    student, teacher = (F.normalize(m.flatten(1), dim=1) for m in (student_map, teacher_map))
    return (student - teacher).square().mean(dim=1)


class AT(Term):
    """Attention transfer, summed over the levels; maps of different sizes are compared at the smaller one."""

    reads_activations = True

    def forward(self, student: Output, teacher: Output, batch: Batch) -> Tensor:
        """Return one value per image, (B,)."""
        return torch.stack([at(s, t) for s, t in map_pairs(student, teacher)]).sum(dim=0)
