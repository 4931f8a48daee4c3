"""Images through a network once: logits, feature maps and the pooled embedding."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from dctkd_zoo import distributed
from dctkd_zoo.errors import NonFiniteAnswers, UnsupportedNetwork

LEVELS = 4


class Output(NamedTuple):
    """What one pass gives: logits (B, K), maps of (B, C, H, W) from shallow to deep, embedding (B, D).

    `means` of the maps over their pixels, (B, C) each, are kept where the maps themselves are not (`pooled`).
    """

    logits: Tensor
    maps: tuple[Tensor, ...]
    embedding: Tensor
    means: tuple[Tensor, ...] = ()

    def pooled(self) -> tuple[Tensor, ...]:
        """Each level's features averaged over their pixels, (B, C)."""
        return self.means or tuple(features.mean(dim=(2, 3)) for features in self.maps)

    def tensors(self) -> tuple[Tensor, ...]:
        """All that there is, each (B, ...)."""
        return (self.logits, *self.maps, self.embedding, *self.means)


def run(model: nn.Module, images: Tensor) -> Output:
    """Run a timm model on images (B, 3, S, S); `UnsupportedNetwork` says what keeps a model from being used.

    The maps are those that `taps` names. Where the head sees one of other channels, that is the deepest:
    for MobileNetV2 the 1280-channel map after `conv_head`, as released. Elsewhere it is the last block's,
    before a final norm: one over channels (MaxViT) would level the activation map.
    Where the head sees tokens or channels last (ViT, Swin), the embedding is the head's own pooled vector.
    """
    if not hasattr(model, "forward_intermediates"):
        raise UnsupportedNetwork(f"{_called(model)} has no forward_intermediates: its feature maps cannot be had")
    try:
        return _run(model, images)
    except (UnsupportedNetwork, torch.cuda.OutOfMemoryError):
        raise
    except Exception as error:  # a network's own code may fail in any way
        if distributed.is_lost(error):  # its batch statistics are of all ranks
            raise
        raise UnsupportedNetwork(f"{_called(model)} {_why(model, images, error)}") from error


def _run(model: Any, images: Tensor) -> Output:
    seen, maps = model.forward_intermediates(images, indices=out_indices(model))
    if not maps or not all(isinstance(item, Tensor) and item.dim() == 4 for item in maps):
        raise UnsupportedNetwork(f"{_called(model)} has no feature maps (B, C, H, W), one a level, to compare")
    if not isinstance(seen, Tensor):
        raise UnsupportedNetwork(f"{_called(model)} has several last feature maps, one (B, C, H, W) is needed")
    logits = model.forward_head(seen)
    if not isinstance(logits, Tensor) or logits.dim() != 2:
        shape = f"shape {tuple(logits.shape)}" if isinstance(logits, Tensor) else f"a {type(logits).__name__} of them"
        raise UnsupportedNetwork(f"{_called(model)} gives logits of {shape}, (B, K) is needed")
    if seen.dim() == 4 and seen.shape[2:] == maps[-1].shape[2:]:
        # Not the head's `pre_logits`: in training, those of MobileNetV2 have gone through dropout.
        deepest = maps[-1] if seen.shape == maps[-1].shape else seen
        return Output(logits, (*maps[:-1], deepest), seen.mean(dim=(2, 3)))
    return Output(logits, tuple(maps), model.forward_head(seen, pre_logits=True))


def _called(model: nn.Module) -> str:
    """A network's name in timm, or its class."""
    known = getattr(model, "pretrained_cfg", None) or {}
    return str(known.get("architecture") or type(model).__name__)


def channels(count: int) -> str:
    """`1 channel`, `3 channels`."""
    return f"{count} channel{'s' if count != 1 else ''}"


def _why(model: nn.Module, images: Tensor, error: Exception) -> str:
    """What went wrong in a network's own code, in words."""
    stem = next((module for module in model.modules() if isinstance(module, nn.Conv2d)), None)
    if stem is not None and stem.in_channels != images.shape[1]:
        return f"takes images of {channels(stem.in_channels)}, these have {images.shape[1]}"
    reason = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
    return f"fails on images of {' x '.join(map(str, images.shape[2:]))} px: {reason}"


def out_indices(model: nn.Module) -> list[int]:
    """Which of a timm model's feature maps are taken, from shallow to deep.

    The last of each resolution, and of these the four deepest. A network of one resolution (a ViT) is
    cut into four equal parts.
    """
    reductions = [info["reduction"] for info in model.feature_info]  # type: ignore[union-attr]
    last = sorted({reduction: index for index, reduction in enumerate(reductions)}.values())
    if len(last) > 1:
        return last[-LEVELS:]
    parts = min(LEVELS, len(reductions))
    return [len(reductions) * part // parts - 1 for part in range(1, parts + 1)]


class FeatureExtractor(nn.Module):
    """A model whose `forward` is `run`, for what wraps or compiles a module's forward."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Output:
        """Images (B, 3, S, S) -> `Output`."""
        return run(self.model, images)


def finite(tensors: Iterable[Tensor]) -> Tensor:
    """Which images (B,) have finite numbers alone in all of some tensors (B, ...): those of an output."""
    return torch.stack([tensor.flatten(1).isfinite().all(dim=1) for tensor in tensors]).all(dim=0)


def refuse_non_finite(wrong: int, total: int, who: str = "") -> None:
    """`NonFiniteAnswers` where a network's outputs of some images are not `finite`: none of its figures means anything.

    `who` begins the message where it is not clear which network is meant.
    """
    if wrong:
        raise NonFiniteAnswers(
            f"{who}answers that are no finite numbers on {wrong:,} of {total:,} images: "
            "its weights are damaged, or overflowed in training; train it again"
        )


def to_fp32(tensor: Tensor) -> Tensor:
    """At least float32: half types are widened, float64 is left as it is."""
    return tensor if tensor.dtype in (torch.float32, torch.float64) else tensor.float()
