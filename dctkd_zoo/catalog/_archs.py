"""Short names of architectures and their timm networks."""

from __future__ import annotations

from collections.abc import Mapping

from dctkd_zoo.spec import Arch

_RESNET = {"zero_init_last": False}  # the released students are initialised like torchvision's

ARCHS: Mapping[str, Arch] = {
    "r18": Arch("resnet18", scratch=_RESNET),
    "r34": Arch("resnet34", scratch=_RESNET),
    "r50": Arch("resnet50", scratch=_RESNET),
    "r152": Arch("resnet152", scratch=_RESNET),
    "mbv2": Arch("mobilenetv2_100", train={"drop_rate": 0.2}),
    "mnv4": Arch("mobilenetv4_conv_small"),
    "el0": Arch("tf_efficientnet_lite0"),
    "el1": Arch("tf_efficientnet_lite1"),
    "el2": Arch("tf_efficientnet_lite2"),
    "cnx": Arch("convnext_atto"),
    "vit": Arch("vit_tiny_patch16_224"),
    "r8": Arch("resnet8_cifar"),
    "r14": Arch("resnet14_cifar"),
    "r20": Arch("resnet20_cifar"),
    "r32": Arch("resnet32_cifar"),
    "r44": Arch("resnet44_cifar"),
    "r56": Arch("resnet56_cifar"),
    "r110": Arch("resnet110_cifar"),
    "r8x4": Arch("resnet8x4_cifar"),
    "r32x4": Arch("resnet32x4_cifar"),
}
