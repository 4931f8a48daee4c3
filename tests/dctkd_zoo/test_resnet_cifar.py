"""The CIFAR ResNets: sizes, maps, and what timm does with them."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from timm.data.config import resolve_model_data_config
from timm.models import group_parameters, save_for_hf
from torch import nn
from torchvision.models.feature_extraction import create_feature_extractor

from dctkd_zoo.models.resnet_cifar import ResNetCifar

# Parameters with 100 classes, as the released code counts them.
COUNTS = {
    "resnet8_cifar": 83_892,
    "resnet14_cifar": 181_108,
    "resnet20_cifar": 278_324,
    "resnet32_cifar": 472_756,
    "resnet44_cifar": 667_188,
    "resnet56_cifar": 861_620,
    "resnet110_cifar": 1_736_564,
    "resnet8x4_cifar": 1_233_540,
    "resnet32x4_cifar": 7_433_860,
}


def reference_count(depth: int, stem: int, widths: tuple[int, int, int], classes: int) -> int:
    """Parameters counted from the paper's description, without building anything."""

    def conv_bn(kernel: int, chs_in: int, chs_out: int) -> int:
        return kernel * kernel * chs_in * chs_out + 2 * chs_out

    total, chs = conv_bn(3, 3, stem), stem
    for stage, width in enumerate(widths):
        for block in range((depth - 2) // 6):
            total += conv_bn(3, chs, width) + conv_bn(3, width, width)
            if block == 0 and (stage > 0 or chs != width):
                total += conv_bn(1, chs, width)
            chs = width
    return total + chs * classes + classes


def images(size: int = 32) -> torch.Tensor:
    return torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))


def create(name: str, **kwargs: Any) -> ResNetCifar:
    model = timm.create_model(name, **kwargs)
    assert isinstance(model, ResNetCifar)
    return model.eval()


def r20(**kwargs: Any) -> ResNetCifar:
    """A ResNet-20 with batch statistics that are not the identity, in eval mode."""
    torch.manual_seed(0)
    model = create("resnet20_cifar", **kwargs)
    for name, buffer in model.named_buffers():
        if name.endswith("running_mean"):
            buffer.uniform_(-0.5, 0.5)
        if name.endswith("running_var"):
            buffer.uniform_(0.5, 2.0)
    return model


@pytest.mark.parametrize("name", COUNTS)
def test_count_is_that_of_the_released_code(name: str) -> None:
    model = create(name)
    depth = int(name.removeprefix("resnet").split("x4")[0].split("_")[0])
    widths = (32, (64, 128, 256)) if "x4" in name else (16, (16, 32, 64))
    count = sum(p.numel() for p in model.parameters())
    assert count == COUNTS[name] == reference_count(depth, *widths, classes=100)


def test_a_name_stands_for_its_number_of_weighted_layers() -> None:
    for name in COUNTS:
        layers = [m for n, m in create(name).named_modules() if isinstance(m, nn.Conv2d | nn.Linear)]
        main_path = [m for m in layers if isinstance(m, nn.Linear) or m.kernel_size == (3, 3)]
        assert f"resnet{len(main_path)}" == name.split("x4")[0].split("_")[0]


@pytest.mark.parametrize("size", [32, 64, 224])
def test_maps_are_full_half_and_quarter_resolution(size: int) -> None:
    y, maps = r20().forward_intermediates(images(size))
    assert [tuple(m.shape) for m in maps] == [
        (2, 16, size, size),
        (2, 32, size // 2, size // 2),
        (2, 64, size // 4, size // 4),
    ]
    assert y is maps[-1]


def test_maps_of_the_wide_ones() -> None:
    _, maps = create("resnet8x4_cifar").forward_intermediates(images())
    assert [tuple(m.shape[1:]) for m in maps] == [(64, 32, 32), (128, 16, 16), (256, 8, 8)]


def test_maps_are_after_the_relu_and_stay_what_they_were() -> None:
    model = r20()
    copies: list[torch.Tensor] = []
    for stage in (model.layer1, model.layer2, model.layer3):
        stage.register_forward_hook(lambda _module, _args, output: copies.append(output.clone()))
    _, maps = model.forward_intermediates(images())
    for copy, tap in zip(copies, maps, strict=True):
        assert torch.equal(copy, tap)
        assert tap.min() == 0
        assert tap.max() > 0


def test_every_way_to_the_logits_agrees() -> None:
    model, x = r20(num_classes=12), images(64)
    logits = model(x)
    y, _ = model.forward_intermediates(x)
    assert logits.shape == (2, 12)
    assert torch.equal(logits, model.forward_head(model.forward_features(x)))
    assert torch.equal(logits, model.forward_head(y))
    embedding = model.forward_head(y, pre_logits=True)
    assert embedding.shape == (2, model.head_hidden_size)
    assert torch.equal(logits, model.get_classifier()(embedding))


def test_indices_mean_what_they_mean_in_timm() -> None:
    model, x = r20(), images()
    y, maps = model.forward_intermediates(x)
    only: Any = model.forward_intermediates(x, indices=[0, -1], intermediates_only=True)
    assert len(only) == 2
    assert torch.equal(only[0], maps[0])
    assert torch.equal(only[1], maps[2])
    assert len(model.forward_intermediates(x, indices=2, intermediates_only=True)) == 2
    early, taken = model.forward_intermediates(x, indices=[0], stop_early=True)
    assert early is taken[0]
    assert torch.equal(early, maps[0])
    late, _ = model.forward_intermediates(x, indices=[0])
    assert torch.equal(late, y)
    with pytest.raises(ValueError, match="NLC"):
        model.forward_intermediates(x, output_fmt="NLC")


def test_features_only_gives_the_same_maps() -> None:
    model, x = r20(), images(64)
    features: Any = timm.create_model("resnet20_cifar", features_only=True).eval()
    features.load_state_dict({k: v for k, v in model.state_dict().items() if not k.startswith("fc.")})
    assert features.feature_info.channels() == [16, 32, 64]
    assert features.feature_info.reduction() == [1, 2, 4]
    for student, teacher in zip(model.forward_intermediates(x)[1], features(x), strict=True):
        assert torch.equal(student, teacher)


@pytest.mark.parametrize("name", ["resnet20_cifar", "resnet8x4_cifar"])
def test_export_and_load_are_bit_identical(name: str, tmp_path: Path) -> None:
    model = create(name, num_classes=12)
    save_for_hf(model, str(tmp_path), safe_serialization=True)
    again = create(f"local-dir:{tmp_path}", pretrained=True)
    assert json.loads((tmp_path / "config.json").read_text())["architecture"] == name
    assert again.num_classes == 12
    assert torch.equal(model(images()), again(images()))


def test_preprocessing_is_that_of_cifar() -> None:
    config = resolve_model_data_config(r20())
    assert config["input_size"] == (3, 32, 32)
    assert config["crop_pct"] == 1.0
    assert config["mean"] == (0.5071, 0.4867, 0.4408)


def test_a_new_head_keeps_the_body() -> None:
    model, x = r20(), images()
    before = model.forward_features(x)
    model.reset_classifier(7, "max")
    assert model(x).shape == (2, 7)
    assert torch.equal(before, model.forward_features(x))
    model.reset_classifier(0)
    assert torch.equal(model(x), before.amax((2, 3)))


def test_other_channels_and_dropout() -> None:
    assert r20(in_chans=1)(images()[:, :1]).shape == (2, 100)
    model = r20(drop_rate=0.5).train()
    assert not torch.equal(model(images()), model(images()))


def test_convolutions_start_as_he_et_al_say() -> None:
    weight = create("resnet110_cifar").state_dict()["layer3.5.conv1.weight"]
    assert weight.std().item() == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.02)


def test_channels_last_and_autocast() -> None:
    model, x = r20(), images()
    expected = model(x)
    torch.testing.assert_close(model.to(memory_format=torch.channels_last)(x), expected, atol=1e-4, rtol=1e-4)
    with torch.autocast("cpu", torch.bfloat16):
        y, maps = model.forward_intermediates(x)
    assert y.dtype == torch.bfloat16
    assert [m.min().item() for m in maps] == [0, 0, 0]


# What timm's own tests/dctkd_zoo/test_models.py asks of every network, and equality beyond it.
every_network = pytest.mark.parametrize("name", COUNTS)


def scripted(module: nn.Module) -> Any:
    """TorchScript of a network, without what torch says of TorchScript as such."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`torch.jit.(script|load)` is deprecated")
        warnings.filterwarnings("ignore", "The TorchScript type system")  # of torch's own GraphModule.__init__
        return torch.jit.script(module)


@every_network
def test_scripted_and_traced_by_fx_equal_eager(name: str) -> None:
    model, x = create(name), images()
    expected, traced = model(x), torch.fx.symbolic_trace(model)
    assert torch.equal(scripted(model)(x), expected)
    assert torch.equal(traced(x), expected)
    assert torch.equal(scripted(traced)(x), expected)


@pytest.mark.parametrize("options", [{"num_classes": 0}, {"num_classes": 0, "global_pool": ""}, {"drop_rate": 0.5}])
def test_scripted_with_another_head(options: dict[str, Any]) -> None:
    model, x = r20(**options), images()
    assert torch.equal(scripted(model)(x), model(x))


def test_a_network_that_checkpoints_is_scripted_without() -> None:
    model, x = r20(), images()
    expected = model(x)
    model.set_grad_checkpointing()
    assert torch.equal(scripted(model)(x), expected)


@every_network
def test_gradients_through_fx_are_those_of_eager(name: str) -> None:
    model = create(name).train()
    traced = create_feature_extractor(model, ["fc"])  # shares the parameters
    gradients = []
    for logits in (model(images()), traced(images())["fc"]):
        gradients.append(torch.autograd.grad(logits.square().sum(), [*model.parameters()]))
    torch.testing.assert_close(*gradients)


@every_network
def test_features_are_those_of_forward_intermediates(name: str) -> None:
    x = images()
    for kind in ("list", "fx", "hook", "getter"):
        torch.manual_seed(0)
        features: Any = timm.create_model(name, features_only=True, feature_cls=kind).eval()
        torch.manual_seed(0)
        expected: Any = create(name).forward_intermediates(x, intermediates_only=True)
        assert features.feature_info.channels() == [m.shape[1] for m in expected]
        assert all(map(torch.equal, features(x), expected)) and len(features(x)) == 3, kind


@every_network
def test_the_configuration_names_what_is_there(name: str) -> None:
    model = create(name)
    config: Any = model.default_cfg
    assert {f"{config['first_conv']}.weight", f"{config['classifier']}.weight"} <= model.state_dict().keys()
    x = torch.zeros(1, *config["input_size"])
    assert model.forward_features(x).shape[2:] == config["pool_size"]
    model.reset_classifier(0, "")
    assert model(x).shape == (1, model.num_features, *config["pool_size"])
    assert create(name, num_classes=0, global_pool="")(x).shape == (1, model.num_features, *config["pool_size"])


def test_dynamo_captures_one_graph() -> None:
    model, x = r20(), images()
    compiled = torch.compile(model.forward_intermediates, fullgraph=True, backend="eager")
    assert torch.equal(compiled(x)[0], model.forward_features(x))


def test_checkpointing_gives_the_same_gradient() -> None:
    gradients = []
    for enable in (False, True):
        model = r20()
        model.set_grad_checkpointing(enable)
        model(images().requires_grad_()).sum().backward()
        gradients.append(model.conv1.weight.grad)
    torch.testing.assert_close(*gradients)


def test_every_parameter_but_the_head_is_in_a_group() -> None:
    model = r20()
    groups = group_parameters(model, model.group_matcher())
    assert sorted(name for group in groups.values() for name in group) == sorted(n for n, _ in model.named_parameters())
    assert len(groups) == 1 + 9 + 1  # stem, blocks, the head that matches neither
