"""Pairs of student and teacher features and activation maps, level by level."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from dctkd_zoo.features import Output
from dctkd_zoo.spectrum import common

Pairs = tuple[tuple[Tensor, Tensor], ...]


def feature_pairs(student: Output, teacher: Output) -> Pairs:
    """Return student and teacher features (B, C, H, W) at each level that both have, counted from the deepest."""
    return _deepest(student.maps, teacher.maps)


def _deepest(student: tuple[Tensor, ...], teacher: tuple[Tensor, ...]) -> Pairs:
    count = min(len(student), len(teacher))
    return tuple(zip(student[-count:], teacher[-count:], strict=True))


def map_pairs(student: Output, teacher: Output, keep: int | None = None, counts: Tensor | None = None) -> Pairs:
    """Return each level's two activation maps (B, H, W), resampled to one size of at most `keep` px a side.

    The student's maps of images for which `counts` (B,) is False are zero and get no gradient.
    """
    own, others = student.activation_maps(), teacher.activation_maps()
    if counts is not None:
        own = tuple(torch.where(counts[:, None, None], maps, 0) for maps in own)
    return tuple(common(s, t, keep) for s, t in _deepest(own, others))


def pooled(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Average-pool two features (B, C, H, W) of any sizes to the smaller height and the smaller width."""
    height, width = (min(x, y) for x, y in zip(a.shape[2:], b.shape[2:], strict=True))
    return _averaged(a, height, width), _averaged(b, height, width)


def _averaged(features: Tensor, height: int, width: int) -> Tensor:
    same = features.shape[2:] == (height, width)
    return features if same else F.adaptive_avg_pool2d(features, (height, width))
