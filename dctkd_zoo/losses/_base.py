"""Helpers of the loss terms: batch norm that accepts a single value, and the choice of levels."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from dctkd_zoo.features import Output, to_fp32
from dctkd_zoo.levels import Pairs


class BatchNorm2d(nn.BatchNorm2d):
    """Batch norm that normalises a single value per channel, which has no variance, by its running statistics."""

    def forward(self, input: Tensor) -> Tensor:
        """Normalise (B, C, H, W) -> (B, C, H, W)."""
        if self.training and input.numel() == input.shape[1]:
            return F.batch_norm(input, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        return super().forward(input)


# As released, VID and CKD skip the first level: the code assumes that the list begins with the stem
# (docs/method.md, D-12).
FIRST = {"all": 0, "released": 1}


def first_level(levels: str) -> int:
    """Return how many of the shallowest levels are left out; `ValueError` for an unknown name."""
    if levels not in FIRST:
        raise ValueError(f"levels {levels!r} is not one of {sorted(FIRST)}")
    return FIRST[levels]


def chosen(pairs: Pairs, first: int) -> Pairs:
    """Return the pairs from level `first` on; `ValueError` if none is left."""
    if len(pairs) <= first:
        raise ValueError(f"{len(pairs)} levels are compared and the first is skipped: nothing is left")
    return pairs[first:]


def class_map_pair(student: Output, teacher: Output, term: str) -> tuple[Tensor, Tensor]:
    """Return the class maps (B, K, H, W) of student and teacher, at least float32.

    `ValueError` if there are none, or of other classes.
    """
    own, other = student.class_maps, teacher.class_maps
    if own is None or other is None:
        who = "student" if own is None else "teacher"
        raise ValueError(f"{term} compares class maps, but the {who}'s output has none: call enable_class_maps first")
    if own.shape[1] != other.shape[1]:
        counts = f"the student has {own.shape[1]} and the teacher {other.shape[1]}"
        raise ValueError(f"{term} needs the same classes, but {counts}")
    return to_fp32(own), to_fp32(other)
