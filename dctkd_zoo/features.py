"""Images through a network once: logits, feature maps and the pooled embedding."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

LEVELS = 4


class Output(NamedTuple):
    """What one pass gives: logits (B, K), maps of (B, C, H, W) from shallow to deep, embedding (B, D)."""

    logits: Tensor
    maps: tuple[Tensor, ...]
    embedding: Tensor


def run(model: nn.Module, images: Tensor) -> Output:
    """Run a timm model on images (B, 3, S, S).

    The maps are the last feature map of each of the four stages (three in a CIFAR ResNet); the
    deepest is what the head sees, which for MobileNetV2 is the 1280-channel map after `conv_head`,
    as released (METHOD.md section 2).
    """
    levels = min(LEVELS, len(model.feature_info))  # type: ignore[arg-type]
    deepest, maps = model.forward_intermediates(images, indices=levels)  # type: ignore[operator]
    logits = model.forward_head(deepest)  # type: ignore[operator]
    # Not the head's `pre_logits`: in training, those of MobileNetV2 have gone through dropout.
    return Output(logits, (*maps[:-1], deepest), deepest.mean(dim=(2, 3)))


class Tapped(nn.Module):
    """A model whose `forward` is `run`, for what wraps or compiles a module's forward."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Output:
        """Images (B, 3, S, S) -> `Output`."""
        return run(self.model, images)


def wide(tensor: Tensor) -> Tensor:
    """At least float32: half types are widened, float64 is left as it is."""
    return tensor if tensor.dtype in (torch.float32, torch.float64) else tensor.float()
