"""Batch normalisation that a batch of one image does not stop."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from dctkd_zoo.levels import Pairs


class BatchNorm2d(nn.BatchNorm2d):
    """As its parent; a single value per channel, which has no spread, is normalised by the running statistics."""

    def forward(self, input: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        if self.training and input.numel() == input.shape[1]:
            return F.batch_norm(input, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        return super().forward(input)


# As released, VID and CKD skip the first: their list was taken to begin with the stem (docs/method.md, D-12).
FIRST = {"all": 0, "released": 1}


def first_level(levels: str) -> int:
    """How many of the shallowest levels are left out; `ValueError` for a name that is none."""
    if levels not in FIRST:
        raise ValueError(f"levels {levels!r} is none of {sorted(FIRST)}")
    return FIRST[levels]


def chosen(pairs: Pairs, first: int) -> Pairs:
    """The pairs from level `first` on; `ValueError` where none is left."""
    if len(pairs) <= first:
        raise ValueError(f"{len(pairs)} levels are compared and the first is skipped: nothing is left")
    return pairs[first:]
