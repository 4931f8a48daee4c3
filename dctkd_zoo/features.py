"""Logits, feature maps and pooled embedding of a network, in one forward pass."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from dctkd_zoo import distributed
from dctkd_zoo.attention import activation_map
from dctkd_zoo.errors import NonFiniteAnswers, UnsupportedNetwork

LEVELS = 4
CLOSE = 1e-3  # of the largest logit: by so much may means of class maps differ from the logits, for rounding


class Output(NamedTuple):
    """Outputs of one forward pass: logits (B, K), maps (B, C, H, W) from shallow to deep, embedding (B, D).

    `means` of the maps over their pixels, (B, C) each, are given where the maps themselves are not kept (`pooled`).
    `class_maps` (B, K, H, W) are given on request (`FeatureExtractor.enable_class_maps`), `activations` (B, H, W) of
    each level where several read them (`with_activations`).
    """

    logits: Tensor
    maps: tuple[Tensor, ...]
    embedding: Tensor
    means: tuple[Tensor, ...] = ()
    class_maps: Tensor | None = None
    activations: tuple[Tensor, ...] = ()

    def activation_maps(self) -> tuple[Tensor, ...]:
        """Return each level's activation map, (B, H, W)."""
        return self.activations or tuple(map(activation_map, self.maps))

    def with_activations(self) -> Output:
        """Return the same output with its activation maps, so that all who read them share one computation."""
        return self._replace(activations=self.activation_maps())

    def pooled(self) -> tuple[Tensor, ...]:
        """Return each level's features averaged over their pixels, (B, C)."""
        return self.means or tuple(features.mean(dim=(2, 3)) for features in self.maps)

    def tensors(self) -> tuple[Tensor, ...]:
        """Return all tensors, each (B, ...)."""
        class_maps = () if self.class_maps is None else (self.class_maps,)
        return (self.logits, *self.maps, self.embedding, *self.means, *class_maps, *self.activations)


def run(model: nn.Module, images: Tensor, with_class_maps: bool = False) -> Output:
    """Run a timm model on images (B, 3, S, S); `UnsupportedNetwork` says why a model cannot be used.

    The maps are those of `out_indices`. If the head's input has another number of channels, it is the deepest map:
    for MobileNetV2 the 1280-channel map after `conv_head`, as released. Otherwise the deepest map is the last block's,
    before a final norm: a norm over channels (MaxViT) would flatten the activation map.
    If the head's input is tokens or channels last (ViT, Swin), the embedding is the head's own pooled vector.
    """
    if not hasattr(model, "forward_intermediates"):
        raise UnsupportedNetwork(
            f"{_called(model)} has no forward_intermediates, so its feature maps are not accessible"
        )
    try:
        return _run(model, images, with_class_maps)
    except (UnsupportedNetwork, torch.cuda.OutOfMemoryError):
        raise
    except Exception as error:  # a network's own code may fail in any way
        if distributed.is_lost(error):  # batch statistics are taken over all ranks
            raise
        raise UnsupportedNetwork(f"{_called(model)} {_why(model, images, error)}") from error


def _run(model: Any, images: Tensor, with_class_maps: bool) -> Output:
    features, maps = model.forward_intermediates(images, indices=out_indices(model))
    if not maps or not all(isinstance(item, Tensor) and item.dim() == 4 for item in maps):
        raise UnsupportedNetwork(f"{_called(model)} has no feature maps of shape (B, C, H, W), one per level")
    if not isinstance(features, Tensor):
        raise UnsupportedNetwork(f"{_called(model)} has several last feature maps, but one (B, C, H, W) is needed")
    logits = model.forward_head(features)
    if not isinstance(logits, Tensor) or logits.dim() != 2:
        shape = f"shape {tuple(logits.shape)}" if isinstance(logits, Tensor) else f"type {type(logits).__name__}"
        raise UnsupportedNetwork(f"{_called(model)} returns logits of {shape}, but (B, K) is needed")
    of_classes = class_maps(model, features) if with_class_maps else None
    if features.dim() == 4 and features.shape[2:] == maps[-1].shape[2:]:
        # Not the head's `pre_logits`: in training, those of MobileNetV2 have gone through dropout.
        deepest = maps[-1] if features.shape == maps[-1].shape else features
        return Output(logits, (*maps[:-1], deepest), features.mean(dim=(2, 3)), class_maps=of_classes)
    return Output(logits, tuple(maps), model.forward_head(features, pre_logits=True), class_maps=of_classes)


def class_maps(model: nn.Module, features: Tensor) -> Tensor:
    """Return class activation maps (Zhou et al., CVPR 2016): last features (B, C, H, W) -> (B, K, H, W).

    They are the head's weights applied at each pixel, without its bias, at least float32. `UnsupportedNetwork` if the
    head is not one linear layer on these features.
    """
    head = model.get_classifier() if hasattr(model, "get_classifier") else None  # type: ignore[operator]
    if not isinstance(head, nn.Linear) or features.dim() != 4 or features.shape[1] != head.in_features:
        raise UnsupportedNetwork(
            f"{_called(model)} has no class maps: its head is not one linear layer on its last map"
        )
    with torch.autocast(features.device.type, enabled=False):
        features = to_fp32(features)
        return torch.einsum("kc,bchw->bkhw", head.weight.to(features.dtype), features)


def _called(model: nn.Module) -> str:
    """Return a network's name in timm, or its class."""
    config = getattr(model, "pretrained_cfg", None) or {}
    return str(config.get("architecture") or type(model).__name__)


def channels(count: int) -> str:
    """Return `1 channel`, `3 channels`."""
    return f"{count} channel{'s' if count != 1 else ''}"


def _why(model: nn.Module, images: Tensor, error: Exception) -> str:
    """Return what went wrong in a network's own code."""
    stem = next((module for module in model.modules() if isinstance(module, nn.Conv2d)), None)
    if stem is not None and stem.in_channels != images.shape[1]:
        return f"takes images of {channels(stem.in_channels)}, these have {images.shape[1]}"
    reason = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
    return f"fails on images of {' x '.join(map(str, images.shape[2:]))} px: {reason}"


def out_indices(model: nn.Module) -> list[int]:
    """Return the indices of the feature maps to use of a timm model, from shallow to deep.

    These are the last map of each resolution, at most the four deepest. A network of one resolution (a ViT) is cut
    into four equal parts.
    """
    reductions = [info["reduction"] for info in model.feature_info]  # type: ignore[union-attr]
    last = sorted({reduction: index for index, reduction in enumerate(reductions)}.values())
    if len(last) > 1:
        return last[-LEVELS:]
    parts = min(LEVELS, len(reductions))
    return [len(reductions) * part // parts - 1 for part in range(1, parts + 1)]


class FeatureExtractor(nn.Module):
    """A module whose `forward` is `run`, for code that wraps or compiles a module."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.with_class_maps = False

    def forward(self, images: Tensor) -> Output:
        """Return the `Output` for images (B, 3, S, S)."""
        return run(self.model, images, self.with_class_maps)

    @torch.no_grad()
    def enable_class_maps(self, images: Tensor) -> None:
        """Let outputs have `class_maps` from now on, after checking on images (B, 3, S, S) that they are what they say.

        Their mean over the pixels, plus the head's bias, has to be the logits; `UnsupportedNetwork` if it is not, as in
        a network with a norm or a layer between the mean and the classifier. The network must be in evaluation mode.
        """
        self.with_class_maps = True
        try:
            output = self(images)
            assert output.class_maps is not None
            means, bias = output.class_maps.mean(dim=(2, 3)), self.model.get_classifier().bias  # type: ignore[operator]
            difference = (means + (0 if bias is None else bias) - output.logits).abs().max()
            share = float(difference / output.logits.abs().max().clamp(min=torch.finfo(means.dtype).tiny))
            if not share <= CLOSE:
                raise UnsupportedNetwork(
                    f"{_called(self.model)} has no class maps: their mean is not its logits but differs by {share:.1%} "
                    "of the largest, so something stands between its mean over pixels and its classifier"
                )
        except UnsupportedNetwork:
            self.with_class_maps = False
            raise


def finite(tensors: Iterable[Tensor]) -> Tensor:
    """Return which images (B,) have only finite values in all tensors (B, ...) of an output."""
    return torch.stack([tensor.flatten(1).isfinite().all(dim=1) for tensor in tensors]).all(dim=0)


def refuse_non_finite(wrong: int, total: int, who: str = "") -> None:
    """Raise `NonFiniteAnswers` if a network's outputs for some images are not finite, which makes metrics meaningless.

    `who` begins the message, to say which network is meant.
    """
    if wrong:
        raise NonFiniteAnswers(
            f"{who}outputs are not finite for {wrong:,} of {total:,} images: "
            "the weights are damaged or overflowed in training; train it again"
        )


def to_fp32(tensor: Tensor) -> Tensor:
    """Convert half types to float32; leave float32 and float64 as they are."""
    return tensor if tensor.dtype in (torch.float32, torch.float64) else tensor.float()
