"""Variational information distillation (Ahn et al., CVPR 2019, arXiv 1904.05835)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dctkd_zoo.data.batch import Batch
from dctkd_zoo.features import Output, to_fp32
from dctkd_zoo.levels import feature_pairs, pooled
from dctkd_zoo.losses import Term
from dctkd_zoo.losses._base import chosen, first_level

EPSILON = 1e-5  # minimum variance
START = 5.0  # initial variance


def vid(mean: Tensor, variance: Tensor, target: Tensor) -> Tensor:
    """Return the Gaussian negative log-likelihood of `target` in nats, without its constant, averaged over features.

    mean and target (B, C, H, W), variance (C,) -> (B,). It may be negative.
    """
    variance = variance.view(1, -1, 1, 1)
    likelihood = (mean - target).square() / variance + variance.log()
    return 0.5 * likelihood.mean(dim=(1, 2, 3))


class Prediction(nn.Module):
    """Gaussian prediction of the teacher's features from the student's (B, C, H, W): three 1 x 1 convolutions."""

    def __init__(self, student_channels: int, teacher_channels: int) -> None:
        super().__init__()
        self.regressor = nn.Sequential(
            nn.Conv2d(student_channels, teacher_channels, 1, bias=False),
            nn.ReLU(),
            nn.Conv2d(teacher_channels, teacher_channels, 1, bias=False),
            nn.ReLU(),
            nn.Conv2d(teacher_channels, teacher_channels, 1, bias=False),
        )
        self.log_scale = nn.Parameter(torch.full((teacher_channels,), math.log(math.expm1(START - EPSILON))))

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mean (B, C', H, W) and variance (C',), at least float32."""
        return to_fp32(self.regressor(features)), F.softplus(self.log_scale) + EPSILON


class VID(Term):
    """Negative log-likelihood of the teacher's features given the student's, summed over the levels.

    `levels="released"` skips the first level (docs/method.md, D-12). Features of different sizes are average-pooled to
    the smaller one.
    """

    needs_features = True

    def __init__(self, levels: str = "all") -> None:
        super().__init__()
        self.first = first_level(levels)
        self.predictions = nn.ModuleList()

    def setup(self, student: Output, teacher: Output, labels: Tensor | None = None) -> None:
        """Create a regressor per level."""
        pairs = chosen(feature_pairs(student, teacher), self.first)
        self.predictions = nn.ModuleList(Prediction(s.shape[1], t.shape[1]) for s, t in pairs)

    def forward(self, student: Output, teacher: Output, batch: Batch) -> Tensor:
        """Return one value per image, (B,)."""
        pairs = chosen(feature_pairs(student, teacher), self.first)
        levels = [
            self._level(predict, *pooled(to_fp32(s), to_fp32(t)))
            for predict, (s, t) in zip(self.predictions, pairs, strict=True)
        ]
        return torch.stack(levels).sum(dim=0)

    @staticmethod
    def _level(predict: nn.Module, student: Tensor, teacher: Tensor) -> Tensor:
        mean, variance = predict(student)
        return vid(mean, variance, teacher)
