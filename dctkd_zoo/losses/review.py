"""Knowledge review, ReviewKD (Chen et al., CVPR 2021, arXiv 2104.09044)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dctkd_zoo.data.batch import Batch
from dctkd_zoo.features import Output, to_fp32
from dctkd_zoo.levels import Pairs, feature_pairs
from dctkd_zoo.losses import Term
from dctkd_zoo.losses._base import BatchNorm2d

WIDTH = 512  # maximum number of channels in which levels are fused
POOLED = (4, 2, 1)  # side in px of the coarser comparisons


def review(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the hierarchical context loss: squared difference at full size and pooled, (B, C, H, W) twice -> (B,).

    Full size has weight 1, each coarser grid half of the previous one; the weights are then divided by their sum.
    """
    value, total, weight = (student - teacher).square().mean(dim=(1, 2, 3)), 1.0, 1.0
    for side in POOLED:
        if side >= min(student.shape[2:]):
            continue
        weight /= 2
        coarse = F.adaptive_avg_pool2d(student - teacher, side)
        value = value + weight * coarse.square().mean(dim=(1, 2, 3))
        total += weight
    return value / total


class Fusion(nn.Module):
    """Attention-based fusion of a level with the deeper ones.

    It takes the student's features (B, C, h, w) and those of the deeper levels (B, W, ., .), and returns features of
    the teacher's size and channels, and those for the next shallower level.
    """

    def __init__(self, channels: int, width: int, teacher_channels: int, deepest: bool) -> None:
        super().__init__()
        self.reduce = nn.Sequential(nn.Conv2d(channels, width, 1, bias=False), BatchNorm2d(width))
        self.expand = nn.Sequential(
            nn.Conv2d(width, teacher_channels, 3, padding=1, bias=False), BatchNorm2d(teacher_channels)
        )
        self.attend = None if deepest else nn.Sequential(nn.Conv2d(2 * width, 2, 1), nn.Sigmoid())
        for layers in (self.reduce, self.expand):
            nn.init.kaiming_uniform_(layers[0].weight, a=1)  # type: ignore[arg-type]

    def forward(self, features: Tensor, deeper: Tensor | None, size: torch.Size) -> tuple[Tensor, Tensor]:
        """Return, for the teacher's `size` (H, W), (B, C', H, W) to compare and (B, W, H, W) to pass on."""
        fused: Tensor = self.reduce(features)
        if self.attend is not None:
            assert deeper is not None
            deeper = F.interpolate(deeper, fused.shape[2:], mode="nearest")
            attention, deeper_attention = self.attend(torch.cat([fused, deeper], dim=1)).split(1, dim=1)
            fused = fused * attention + deeper * deeper_attention
        if fused.shape[2:] != size:
            fused = F.interpolate(fused, size, mode="nearest")
        return self.expand(fused), fused


def _levels(student: Output, teacher: Output) -> Pairs:
    """Return all levels and, as the deepest, the embedding as a map of one pixel."""
    vectors = student.embedding[:, :, None, None], teacher.embedding[:, :, None, None]
    return tuple((to_fp32(s), to_fp32(t)) for s, t in (*feature_pairs(student, teacher), vectors))


class Review(Term):
    """Distance of the student's levels, each fused with the deeper ones, to the teacher's, summed over the levels.

    The student's own maps do not change: the fused ones exist only in training (docs/method.md, D-15).
    """

    needs_features = True

    def setup(self, student: Output, teacher: Output, labels: Tensor | None = None) -> None:
        """Create a fusion per level."""
        pairs = _levels(student, teacher)
        width = min(WIDTH, student.embedding.shape[1])
        self.fusions = nn.ModuleList(
            Fusion(s.shape[1], width, t.shape[1], deepest=level == len(pairs)) for level, (s, t) in enumerate(pairs, 1)
        )

    def forward(self, student: Output, teacher: Output, batch: Batch) -> Tensor:
        """Return one value per image, (B,)."""
        deeper, values = None, []
        for fuse, (s, t) in reversed([*zip(self.fusions, _levels(student, teacher), strict=True)]):
            compared, deeper = fuse(s, deeper, t.shape[2:])
            values.append(review(to_fp32(compared), t))
        return torch.stack(values).sum(dim=0)
