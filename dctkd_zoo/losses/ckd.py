"""Cross-layer distillation with semantic calibration, SemCKD (Chen et al., AAAI 2021, arXiv 2012.03236)."""

from __future__ import annotations

from itertools import product

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dctkd_zoo.data.batch import Batch
from dctkd_zoo.features import Output, to_fp32
from dctkd_zoo.levels import feature_pairs, pooled
from dctkd_zoo.losses import Term
from dctkd_zoo.losses._base import BatchNorm2d, chosen, first_level, inner_products

FACTOR = 4  # embeddings have a quarter of the length of a row of similarities


def ckd(distances: Tensor, weights: Tensor) -> Tensor:
    """Return the loss for distances and weights of each student level with each teacher level, (B, S, T) twice -> (B,).

    It is the mean over the student's levels of weighted sums over the teacher's.
    """
    return (weights * distances).sum(dim=2).mean(dim=1)


def similarities(features: Tensor, size: int) -> Tensor:
    """Return inner products of each image's features (B, C, H, W) with those of its batch -> (B, size), zero-padded.

    The batch is that of all ranks. `ValueError` if it is larger than `size`.
    """
    products = inner_products(features)
    if products.shape[1] > size:
        raise ValueError(f"batch of {products.shape[1]} images, but ckd was set up for {size}")
    return F.pad(products, (0, size - products.shape[1]))


class Embedding(nn.Module):
    """Embedding of a row of similarities (B, size) as a query or key (B, size / 4) of unit length."""

    def __init__(self, size: int) -> None:
        super().__init__()
        dim = max(1, size // FACTOR)
        self.layers = nn.Sequential(nn.Linear(size, 2 * dim), nn.ReLU(), nn.Linear(2 * dim, dim))

    def forward(self, rows: Tensor) -> Tensor:
        """Embed (B, size) -> (B, size / 4), at least float32."""
        return F.normalize(to_fp32(self.layers(rows)), dim=1)


def regressor(student_channels: int, teacher_channels: int) -> nn.Sequential:
    """Return a regressor to the teacher's channels: 1 x 1, 3 x 3 and 1 x 1 convolutions, twice as wide in between."""
    wider = 2 * teacher_channels
    return nn.Sequential(
        nn.Conv2d(student_channels, wider, 1, bias=False),
        BatchNorm2d(wider),
        nn.ReLU(),
        nn.Conv2d(wider, wider, 3, padding=1, bias=False),
        BatchNorm2d(wider),
        nn.ReLU(),
        nn.Conv2d(wider, teacher_channels, 1, bias=False),
    )


class CKD(Term):
    """Distance of every student level to every teacher level, weighted per image by attention between them.

    The attention is computed from the similarities between the images of a batch at each level. Its layers are as wide
    as the batch given to `setup` (docs/method.md, D-14): a smaller batch is zero-padded, a larger one refused.
    `levels="released"` skips the first level (D-12).
    """

    needs_features = True

    def __init__(self, levels: str = "all") -> None:
        super().__init__()
        self.first = first_level(levels)

    def setup(self, student: Output, teacher: Output, labels: Tensor | None = None) -> None:
        """Create queries, keys, and a regressor for each pair of levels."""
        student_features, teacher_features = self._features(student, teacher)
        self.size = len(student.logits)
        self.queries = nn.ModuleList(Embedding(self.size) for _ in student_features)
        self.keys = nn.ModuleList(Embedding(self.size) for _ in teacher_features)
        self.regressors = nn.ModuleList(
            regressor(s.shape[1], t.shape[1]) for s, t in product(student_features, teacher_features)
        )

    def _features(self, student: Output, teacher: Output) -> tuple[list[Tensor], list[Tensor]]:
        pairs = chosen(feature_pairs(student, teacher), self.first)
        return [to_fp32(s) for s, _ in pairs], [to_fp32(t) for _, t in pairs]

    def forward(self, student: Output, teacher: Output, batch: Batch) -> Tensor:
        """Return one value per image, (B,); `ValueError` for a batch larger than that of `setup`."""
        student_features, teacher_features = self._features(student, teacher)
        return ckd(self.distances(student_features, teacher_features), self.weights(student_features, teacher_features))

    def weights(self, student: list[Tensor], teacher: list[Tensor]) -> Tensor:
        """Return how much each student level attends to each teacher level, (B, S, T), summing to 1 over T."""
        queries = [embed(similarities(f, self.size)) for embed, f in zip(self.queries, student, strict=True)]
        keys = [embed(similarities(f, self.size)) for embed, f in zip(self.keys, teacher, strict=True)]
        with torch.autocast(queries[0].device.type, enabled=False):
            attention: Tensor = (torch.stack(queries, dim=1) @ torch.stack(keys, dim=2)).softmax(dim=2)
        return attention

    def distances(self, student: list[Tensor], teacher: list[Tensor]) -> Tensor:
        """Return the mean squared difference of each regressed student level and each teacher level, (B, S, T)."""
        pairs = zip(self.regressors, product(student, teacher), strict=True)
        values = torch.stack([self._distance(regress, s, t) for regress, (s, t) in pairs], dim=1)
        return values.view(-1, len(student), len(teacher))

    @staticmethod
    def _distance(regress: nn.Module, student: Tensor, teacher: Tensor) -> Tensor:
        source, target = pooled(student, teacher)
        difference: Tensor = to_fp32(regress(source)) - target
        return difference.square().mean(dim=(1, 2, 3))
