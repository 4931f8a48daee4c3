"""Synchronised batch norm on GPUs and CPUs: statistics over the batch of all ranks."""

from __future__ import annotations

from typing import Any

import torch
from timm.layers.norm_act import convert_sync_batchnorm
from torch import Tensor, nn

from dctkd_zoo import distributed
from dctkd_zoo.features import to_fp32


def to_sync_batchnorm(module: nn.Module, device: torch.device) -> nn.Module:
    """Return the module with its batch norms synchronised over all ranks; names in its state dict stay the same.

    Uses torch's `SyncBatchNorm` on GPUs and `SyncedBatchNorm` on CPUs, where torch has none.
    """
    if distributed.world_size() == 1:
        return module
    if device.type == "cuda":
        converted: nn.Module = convert_sync_batchnorm(module)
        return converted
    return _converted(module)


def accept_single_values(module: nn.Module) -> None:
    """Let batch norms train on a single value per channel, with their running statistics.

    The last batch of an epoch may be one image, and some networks normalise its pooled vector. A single value has no
    variance, and torch raises `ValueError` for it. All other batches are normalised as usual.
    """
    for layer in module.modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            layer.register_forward_pre_hook(_by_running_statistics)
            layer.register_forward_hook(_by_batch_statistics, always_call=True)


def _by_running_statistics(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    """Switch a layer to evaluation mode if its input is a single value per channel (forward pre-hook)."""
    images = inputs[0]
    layer.single = layer.training and distributed.world_size() == 1 and images.numel() == images.shape[1]  # type: ignore[assignment]
    if layer.single:
        layer.training = False


def _by_batch_statistics(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    """Switch the layer back to training mode (forward hook)."""
    if layer.single:
        layer.training = True


def _converted(module: nn.Module) -> nn.Module:
    if isinstance(module, nn.modules.batchnorm._BatchNorm):  # of maps, or of vectors as in LeViT
        return SyncedBatchNorm(module)
    for name, child in module.named_children():
        setattr(module, name, _converted(child))
    return module


class SyncedBatchNorm(nn.Module):
    """A `BatchNorm1d` to `3d`, or timm's with an activation, with statistics over the images of all ranks."""

    def __init__(self, plain: nn.modules.batchnorm._BatchNorm) -> None:
        super().__init__()
        self.eps, self.momentum = plain.eps, plain.momentum
        self.weight, self.bias = plain.weight, plain.bias
        for name, buffer in plain.named_buffers(recurse=False):
            self.register_buffer(name, buffer)
        # timm's BatchNormAct2d: the layers after the normalisation have no state.
        self.after = [getattr(plain, name) for name in ("drop", "act") if hasattr(plain, name)]
        self.train(plain.training)

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (B, C, ...) -> (B, C, ...)."""
        mean, variance = self._statistics(to_fp32(x)) if self.training else (self.running_mean, self.running_var)
        scale = torch.rsqrt(variance + self.eps)
        if self.weight is not None:
            scale = scale * self.weight
        shift = (0 if self.bias is None else self.bias) - mean * scale
        along = (-1, *(1 for _ in x.shape[2:]))
        x = (to_fp32(x) * scale.view(along) + shift.view(along)).to(x.dtype)
        for layer in self.after:
            x = layer(x)
        return x

    def _statistics(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and biased variance (C,) over all ranks' images, and update the running ones."""
        variance, mean = torch.var_mean(x, dim=(0, *range(2, x.dim())), correction=0)
        local = torch.stack([mean, variance, torch.full_like(mean, x.numel() / x.shape[1])])
        gathered = distributed.all_gather_with_grad(local[None], equal=True)
        means, variances, counts = gathered[:, 0], gathered[:, 1], gathered[:, 2].detach()
        total = counts.sum(dim=0)
        share = counts / total
        mean = (share * means).sum(dim=0)
        variance = (share * (variances + (means - mean).square())).sum(dim=0)
        if total[0] == 1:  # a single value has no variance
            return self.running_mean, self.running_var
        self._update_running(mean.detach(), variance.detach() * (total / (total - 1)))
        return mean, variance

    def _update_running(self, mean: Tensor, variance: Tensor) -> None:
        self.num_batches_tracked += 1
        momentum: Any = self.momentum if self.momentum is not None else 1 / self.num_batches_tracked
        self.running_mean.lerp_(mean, momentum)
        self.running_var.lerp_(variance, momentum)
