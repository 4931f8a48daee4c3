"""CIFAR ResNets (He et al. 2016, section 4.2) for images of any size, registered with timm on import."""

# No `from __future__ import annotations`: TorchScript and FX read the annotations of `forward` as types, not strings.

from typing import Any

import torch.nn.functional as F
from timm.layers.classifier import create_classifier
from timm.models import build_model_with_cfg, checkpoint_seq, generate_default_cfgs, register_model
from timm.models._features import feature_take_indices  # private, but every timm model takes it from there
from torch import Tensor, nn
from torch.jit import is_scripting  # type: ignore[attr-defined]


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with a shortcut, ReLU after the sum: (B,C,H,W) -> (B,C',H/stride,W/stride)."""

    def __init__(self, in_chs: int, out_chs: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_chs, out_chs, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_chs)
        self.conv2 = nn.Conv2d(out_chs, out_chs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_chs)
        self.downsample = nn.Identity() if stride == 1 and in_chs == out_chs else _projection(in_chs, out_chs, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(B,C,H,W) -> (B,C',H/stride,W/stride), non-negative."""
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return F.relu(y + self.downsample(x))


def _projection(in_chs: int, out_chs: int, stride: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(in_chs, out_chs, 1, stride=stride, bias=False), nn.BatchNorm2d(out_chs))


def _stage(depth: int, in_chs: int, out_chs: int, stride: int) -> nn.Sequential:
    widths = [in_chs] + [out_chs] * depth
    strides = [stride] + [1] * (depth - 1)
    return nn.Sequential(*map(BasicBlock, widths[:-1], widths[1:], strides))


class ResNetCifar(nn.Module):
    """A stem and three stages of `depth` blocks at full, half and quarter resolution, then pooling and a classifier.

    Maps of an input (B,3,H,W): (B,C1,H,W), (B,C2,H/2,W/2), (B,C3,H/4,W/4), each after the last ReLU of
    its stage. The interface is that of timm's own models.
    """

    def __init__(
        self,
        depth: int,
        stem_width: int = 16,
        channels: tuple[int, int, int] = (16, 32, 64),
        num_classes: int = 100,
        in_chans: int = 3,
        global_pool: str = "avg",
        drop_rate: float = 0.0,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.in_chans = in_chans
        self.drop_rate = drop_rate
        self.grad_checkpointing = False

        self.conv1 = nn.Conv2d(in_chans, stem_width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(stem_width)
        # A module, because timm's `features_only` runs the children in order and nothing else.
        self.act1 = nn.ReLU(inplace=True)
        self.layer1 = _stage(depth, stem_width, channels[0], stride=1)
        self.layer2 = _stage(depth, channels[0], channels[1], stride=2)
        self.layer3 = _stage(depth, channels[1], channels[2], stride=2)
        self.feature_info = [
            {"num_chs": chs, "reduction": 2**i, "module": f"layer{i + 1}"} for i, chs in enumerate(channels)
        ]

        self.num_features = channels[-1]
        self.global_pool, self.fc = create_classifier(self.num_features, num_classes, pool_type=global_pool)
        self.head_hidden_size = self.num_features * self.global_pool.feat_mult()
        self.init_weights()

    def init_weights(self) -> None:
        """Initialise convolutions Kaiming-normal (fan out); batch norm keeps PyTorch's default, the identity."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def group_matcher(self, coarse: bool = False) -> dict[str, str]:
        """Return patterns that group parameters by stage (coarse) or block."""
        return {"stem": r"^conv1|bn1", "blocks": r"^layer(\d+)" if coarse else r"^layer(\d+)\.(\d+)"}

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Trade a second forward pass per block for the memory of its activations."""
        self.grad_checkpointing = enable

    def get_classifier(self) -> nn.Module:
        """Return the last linear layer, (B,D) -> (B,K)."""
        classifier: nn.Module = self.fc
        return classifier

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replace the head by an untrained one for `num_classes`; keep the pooling unless another is given."""
        weight = self.conv1.weight
        self.num_classes = num_classes
        self.global_pool, self.fc = create_classifier(
            self.num_features,
            num_classes,
            pool_type=self.global_pool.pool_type if global_pool is None else global_pool,
            device=weight.device,
            dtype=weight.dtype,
        )
        self.head_hidden_size = self.num_features * self.global_pool.feat_mult()
        self.global_pool.train(self.training)
        self.fc.train(self.training)

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | list[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> tuple[Tensor, list[Tensor]] | list[Tensor]:
        """Return the last map and the stages' maps at `indices` (all if None, the last n if a number) for (B,3,H,W).

        `norm` is part of timm's signature; there is no final norm layer here to apply.
        """
        if output_fmt != "NCHW":
            raise ValueError(f"output_fmt {output_fmt!r}: these maps are NCHW only")
        taken, last = feature_take_indices(3, indices)
        stages = [self.layer1, self.layer2, self.layer3]
        maps = []
        x = self._stem(x)
        for i, stage in enumerate(stages[: last + 1] if stop_early else stages):
            x = self._run_stage(stage, x)
            if i in taken:
                maps.append(x)
        return maps if intermediates_only else (x, maps)

    def forward_features(self, x: Tensor) -> Tensor:
        """(B,3,H,W) -> (B,C3,H/4,W/4)."""
        x = self._stem(x)
        if self.grad_checkpointing and not is_scripting():  # TorchScript has no checkpointing
            x = checkpoint_seq([self.layer1, self.layer2, self.layer3], x, flatten=True)
        else:
            x = self.layer3(self.layer2(self.layer1(x)))
        return x

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """(B,C3,h,w) -> logits (B,K), or the pooled vector (B,C3) before them."""
        pooled: Tensor = F.dropout(self.global_pool(x), p=self.drop_rate, training=self.training)
        logits: Tensor = pooled if pre_logits else self.fc(pooled)
        return logits

    def forward(self, x: Tensor) -> Tensor:
        """(B,3,H,W) -> (B,K)."""
        return self.forward_head(self.forward_features(x))

    def _stem(self, x: Tensor) -> Tensor:
        y: Tensor = self.act1(self.bn1(self.conv1(x)))
        return y

    def _run_stage(self, stage: nn.Sequential, x: Tensor) -> Tensor:
        y: Tensor = checkpoint_seq(stage, x) if self.grad_checkpointing else stage(x)
        return y


def _cfg() -> dict[str, Any]:
    return {
        "num_classes": 100,
        "input_size": (3, 32, 32),
        "pool_size": (8, 8),
        "crop_pct": 1.0,
        "interpolation": "bilinear",
        "mean": (0.5071, 0.4867, 0.4408),
        "std": (0.2675, 0.2565, 0.2761),
        "first_conv": "conv1",
        "classifier": "fc",
    }


# timm's decorator looks up the configuration under this name, in the module of the function.
default_cfgs = generate_default_cfgs(
    {
        "resnet8_cifar": _cfg(),
        "resnet14_cifar": _cfg(),
        "resnet20_cifar": _cfg(),
        "resnet32_cifar": _cfg(),
        "resnet44_cifar": _cfg(),
        "resnet56_cifar": _cfg(),
        "resnet110_cifar": _cfg(),
        "resnet8x4_cifar": _cfg(),
        "resnet32x4_cifar": _cfg(),
    }
)


def _create(variant: str, pretrained: bool, **kwargs: Any) -> nn.Module:
    # By default timm extracts five maps; these networks have three.
    return build_model_with_cfg(ResNetCifar, variant, pretrained, feature_cfg={"out_indices": (0, 1, 2)}, **kwargs)


def _create_x4(variant: str, pretrained: bool, **kwargs: Any) -> nn.Module:
    return _create(variant, pretrained, stem_width=32, channels=(64, 128, 256), **kwargs)


@register_model
def resnet8_cifar(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """ResNet-8: one block per stage."""
    return _create("resnet8_cifar", pretrained, depth=1, **kwargs)


@register_model
def resnet14_cifar(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """ResNet-14: two blocks per stage."""
    return _create("resnet14_cifar", pretrained, depth=2, **kwargs)


@register_model
def resnet20_cifar(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """ResNet-20: three blocks per stage."""
    return _create("resnet20_cifar", pretrained, depth=3, **kwargs)


@register_model
def resnet32_cifar(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """ResNet-32: five blocks per stage."""
    return _create("resnet32_cifar", pretrained, depth=5, **kwargs)


@register_model
def resnet44_cifar(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """ResNet-44: seven blocks per stage."""
    return _create("resnet44_cifar", pretrained, depth=7, **kwargs)


@register_model
def resnet56_cifar(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """ResNet-56: nine blocks per stage."""
    return _create("resnet56_cifar", pretrained, depth=9, **kwargs)


@register_model
def resnet110_cifar(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """ResNet-110: eighteen blocks per stage."""
    return _create("resnet110_cifar", pretrained, depth=18, **kwargs)


@register_model
def resnet8x4_cifar(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """ResNet-8, four times as wide after a stem of twice the width."""
    return _create_x4("resnet8x4_cifar", pretrained, depth=1, **kwargs)


@register_model
def resnet32x4_cifar(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """ResNet-32, four times as wide after a stem of twice the width."""
    return _create_x4("resnet32x4_cifar", pretrained, depth=5, **kwargs)
