"""Helpers of the loss terms: checks of options and classes, logits, labels, inner products, batch norm and levels."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dctkd_zoo import distributed
from dctkd_zoo.data.batch import Batch
from dctkd_zoo.features import Output, to_fp32
from dctkd_zoo.levels import Pairs, feature_pairs, map_pairs, pooled
from dctkd_zoo.losses import Term


def positive(**options: float) -> None:
    """Raise `ValueError` for an option that is not positive."""
    for name, value in options.items():
        if not value > 0:
            raise ValueError(f"{name} {value} is not positive")


def not_negative(**options: float) -> None:
    """Raise `ValueError` for an option that is negative."""
    for name, value in options.items():
        if not value >= 0:
            raise ValueError(f"{name} {value} is negative")


def same_classes(term: str, student: Tensor, teacher: Tensor) -> None:
    """Raise `ValueError` if logits (B, K) of student and teacher are not of the same number of classes."""
    if student.shape != teacher.shape:
        raise ValueError(
            f"{term} needs the same classes, but the student has {student.shape[1]} and the teacher {teacher.shape[1]}"
        )


def standardise(logits: Tensor) -> Tensor:
    """Subtract the mean of each image's logits (B, K) and divide by their standard deviation, at least in float32.

    As in the code of Sun et al. (CVPR 2024, arXiv 2403.01427), the deviation is the unbiased one, plus 1e-7.
    """
    logits = to_fp32(logits)
    rise = logits - logits.amin(dim=1, keepdim=True).detach()  # exactly zero for equal logits, unlike their mean
    free = rise - rise.mean(dim=1, keepdim=True)
    # A norm, not `std`, whose gradient is NaN for equal logits.
    deviation = torch.linalg.vector_norm(free, dim=1, keepdim=True) / max(1, logits.shape[1] - 1) ** 0.5
    result: Tensor = free / (deviation + 1e-7)
    return result


def divergence(student: Tensor, teacher: Tensor) -> Tensor:
    """Return `KL(teacher || student)` in nats: log-probabilities (B, K) -> (B,)."""
    return F.kl_div(student, teacher, reduction="none", log_target=True).sum(dim=1)


def over_labels(value: Callable[[Tensor], Tensor], batch: Batch) -> Tensor:
    """Return `value(labels)` (B,); for a blended image, the weighted mean of that of both labels."""
    first = value(batch.labels)
    if batch.other_labels is None or batch.share is None:
        return first
    return torch.lerp(value(batch.other_labels), first, batch.share.to(first.dtype))


def inner_products(features: Tensor) -> Tensor:
    """Return inner products of each image's features (B, ...) with those of the batch of all ranks -> (B, B')."""
    flat = features.flatten(1)
    with torch.autocast(flat.device.type, enabled=False):
        return flat @ distributed.all_gather_with_grad(flat).T


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
    same_classes(term, student.logits, teacher.logits)
    return to_fp32(own), to_fp32(other)


class LevelTerm(Term):
    """Sum over the levels of a distance between activation maps or features of one size.

    Args:
        of: `maps`, each scaled to unit L2 norm as in `at`; or `features`, the larger ones average-pooled to the
            smaller size, and the student's brought to the teacher's channels by a learned 1 x 1 convolution if they
            have others.
    """

    def __init__(self, of: str = "maps") -> None:
        super().__init__()
        if of not in ("maps", "features"):
            raise ValueError(f"of {of!r} is neither 'maps' nor 'features'")
        self.needs_features = of == "features"
        self.reads_activations = of == "maps"
        self.projections = nn.ModuleList()

    def setup(self, student: Output, teacher: Output, labels: Tensor | None = None) -> None:
        """Create a projection per level of features."""
        if self.needs_features:
            pairs = feature_pairs(student, teacher)
            self.projections = nn.ModuleList(_projection(s.shape[1], t.shape[1]) for s, t in pairs)

    def forward(self, student: Output, teacher: Output, batch: Batch) -> Tensor:
        """Return one value per image, (B,)."""
        pairs = self._features(student, teacher) if self.needs_features else _unit_maps(student, teacher)
        return torch.stack([self.distance(s, t) for s, t in pairs]).sum(dim=0)

    def distance(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the distance at one level: (B, C, H, W) twice -> (B,); of maps, C is 1."""
        raise NotImplementedError

    def _features(self, student: Output, teacher: Output) -> Pairs:
        pairs = [pooled(to_fp32(s), to_fp32(t)) for s, t in feature_pairs(student, teacher)]
        return tuple((to_fp32(project(s)), t) for project, (s, t) in zip(self.projections, pairs, strict=True))


def _projection(student_channels: int, teacher_channels: int) -> nn.Module:
    if student_channels == teacher_channels:
        return nn.Identity()
    return nn.Conv2d(student_channels, teacher_channels, 1, bias=False)


def _unit_maps(student: Output, teacher: Output) -> Pairs:
    """Return each level's two activation maps as (B, 1, H, W) of unit L2 norm."""
    return tuple((_unit(s), _unit(t)) for s, t in map_pairs(student, teacher))


def _unit(maps: Tensor) -> Tensor:
    return F.normalize(maps.flatten(1), dim=1).view(len(maps), 1, *maps.shape[1:])
