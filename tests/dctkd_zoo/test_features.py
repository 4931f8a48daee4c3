"""One pass through a network: what is tapped, and that tapping changes nothing."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

from dctkd_zoo import models, registry
from dctkd_zoo.attention import activation_map
from dctkd_zoo.errors import UnsupportedNetwork
from dctkd_zoo.features import FeatureExtractor, Output, out_indices, run, to_fp32
from dctkd_zoo.sync_batchnorm import accept_single_values

# The release taps: channels and side of each map at 224 px, then at 32 px; the deepest has the embedding's channels.
RESNET = ((64, 56), (128, 28), (256, 14), (512, 7))
BOTTLENECK = ((256, 56), (512, 28), (1024, 14), (2048, 7))
SCENES = {
    "r18": RESNET,
    "r34": RESNET,
    "r50": BOTTLENECK,
    "r152": BOTTLENECK,
    "mbv2": ((24, 56), (32, 28), (96, 14), (1280, 7)),
}
NARROW = ((16, 32), (32, 16), (64, 8))
WIDE = ((64, 32), (128, 16), (256, 8))
CIFAR = {"r20": NARROW, "r32": NARROW, "r56": NARROW, "r110": NARROW, "r8x4": WIDE, "r32x4": WIDE}
SMALL = {"r18": 64, "r50": 64, "mbv2": 64, "r20": 32, "r8x4": 32}  # what is run for real, and its side in pixels


def images(side: int) -> Tensor:
    return torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(0))


def create(arch: str, num_classes: int) -> Any:
    """`models.create`, whose type says nothing of what a timm model has."""
    return models.create(arch, num_classes)


@pytest.fixture(scope="module", params=SMALL)
def tapped(request) -> tuple[str, Any, Tensor, Output]:
    """Architecture, network in eval mode, images, and what `run` makes of them."""
    torch.manual_seed(0)
    model, batch = create(request.param, 11).eval(), images(SMALL[request.param])
    with torch.no_grad():
        return request.param, model, batch, run(model, batch)


@pytest.mark.parametrize(("arch", "maps"), [*SCENES.items(), *CIFAR.items()])
def test_shapes_are_those_of_the_released_taps(arch, maps):
    side = 224 if arch in SCENES else 32
    with torch.device("meta"):
        output = run(create(arch, 67), torch.empty(2, 3, side, side))
    assert [tuple(m.shape) for m in output.maps] == [(2, channels, size, size) for channels, size in maps]
    assert output.embedding.shape == (2, maps[-1][0])
    assert output.logits.shape == (2, 67)


# Channels of the maps of the networks that start from ImageNet; their sides at 224 px and at 112 px.
LITE, CONV, PATCHES = ((56, 28, 14, 7), (28, 14, 7, 4)), ((56, 28, 14, 7), (28, 14, 7, 3)), ((14,) * 4, (7,) * 4)
FROM_IMAGENET = {
    "el0": ((24, 40, 112, 1280), LITE),
    "el1": ((24, 40, 112, 1280), LITE),
    "el2": ((24, 48, 120, 1280), LITE),
    "mnv4": ((32, 64, 96, 960), LITE),
    "cnx": ((40, 80, 160, 320), CONV),
    "vit": ((192,) * 4, PATCHES),
}
BETWEEN = ("mnv4", "cnx")  # layers come between the embedding and the classifier


@pytest.mark.parametrize(("side", "which"), [(224, 0), (112, 1)])
@pytest.mark.parametrize("arch", FROM_IMAGENET)
def test_shapes_of_the_networks_that_start_from_imagenet(arch, side, which):
    channels, sides = FROM_IMAGENET[arch]
    with torch.device("meta"):
        output = run(models.create(arch, 67, side), torch.empty(2, 3, side, side))
    expected = [(2, c, s, s) for c, s in zip(channels, sides[which], strict=True)]
    assert [tuple(m.shape) for m in output.maps] == expected
    assert output.embedding.shape == (2, channels[-1]) and output.logits.shape == (2, 67)


@pytest.mark.parametrize("arch", FROM_IMAGENET)
def test_their_embedding_is_what_their_classifier_or_else_their_head_sees(arch):
    torch.manual_seed(0)
    model: Any = models.create(arch, 11, 112).eval()
    nn.init.normal_(model.get_classifier().weight, std=0.1)
    seen: list[Tensor] = []
    model.get_classifier().register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        output = run(model, images(112))
        deepest = model.forward_features(images(112))
        assert torch.equal(output.logits, model(images(112)))
        if arch in BETWEEN:
            expected = deepest.mean(dim=(2, 3))
        else:
            expected = seen[0]
            torch.testing.assert_close(model.get_classifier()(output.embedding), output.logits, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(output.embedding, expected, rtol=1e-4, atol=1e-5)


def test_logits_are_the_models_own_to_the_bit(tapped):
    _, model, batch, output = tapped
    with torch.no_grad():
        assert torch.equal(output.logits, model(batch))


def test_the_embedding_is_what_the_classifier_sees(tapped):
    _, model, _, output = tapped
    torch.testing.assert_close(output.embedding, output.maps[-1].mean(dim=(2, 3)))
    torch.testing.assert_close(output.embedding, model.forward_head(output.maps[-1], pre_logits=True))
    torch.testing.assert_close(output.logits, model.get_classifier()(output.embedding))


def test_resnets_are_tapped_after_the_relu_and_mobilenet_after_the_linear_bottleneck(tapped):
    arch, _, _, output = tapped
    lowest = [m.min().item() for m in output.maps]
    if arch == "mbv2":
        assert all(low < 0 for low in lowest[:-1])
        assert lowest[-1] == 0
        assert output.maps[-1].max() <= 6
    else:
        assert lowest == [0] * len(output.maps)


@pytest.mark.parametrize(("arch", "levels"), [("r18", 4), ("mbv2", 3)])
def test_maps_are_those_of_timms_feature_extractor(arch, levels):
    """All four of a ResNet; three of MobileNetV2, where timm stops before the 1280-channel convolution."""
    model = create(arch, 11).eval()
    extractor = timm.create_model(registry.archs()[arch].timm_name, features_only=True, out_indices=(1, 2, 3, 4)).eval()
    extractor.load_state_dict(model.state_dict(), strict=False)
    with torch.no_grad():
        maps, teacher, deepest = run(model, images(64)).maps, extractor(images(64)), model.forward_features(images(64))
    for student, expected in zip(maps[:levels], teacher[:levels], strict=True):
        torch.testing.assert_close(student, expected)
    torch.testing.assert_close(maps[-1], deepest)


def test_the_network_runs_once():
    model = create("r20", 5).eval()
    calls = []
    model.layer1.register_forward_hook(lambda *_: calls.append(1))
    run(model, images(16))
    assert calls == [1]


def test_dropout_hits_the_logits_and_not_the_embedding():
    torch.manual_seed(0)
    model = create("mbv2", 5).train()
    assert model.drop_rate == 0.2
    output = run(model, images(32))
    torch.testing.assert_close(output.embedding, output.maps[-1].mean(dim=(2, 3)))
    assert not torch.allclose(output.logits, model.get_classifier()(output.embedding))


@pytest.mark.parametrize("part", [*range(3), "embedding", "logits"])
def test_every_part_leads_a_gradient_back_to_the_first_convolution(part):
    model = create("r8", 5).train()
    output = run(model, images(16))
    tensor = output.maps[part] if isinstance(part, int) else getattr(output, part)
    (gradient,) = torch.autograd.grad(tensor.square().sum(), model.conv1.weight)
    assert gradient.isfinite().all()
    assert gradient.abs().max() > 0


def test_a_tapped_model_gives_what_run_gives():
    model = create("r8", 5).eval()
    student, expected = FeatureExtractor(model)(images(16)), run(model, images(16))
    assert isinstance(student, Output)
    assert torch.equal(student.logits, expected.logits)
    assert all(torch.equal(a, b) for a, b in zip(student.maps, expected.maps, strict=True))


# How models of timm are made, channels and side of their maps at 64 px, and whether a layer alone makes the logits.
VIT = ((192, 4),) * 4
SWIN = {"img_size": 64, "window_size": 2, "embed_dim": 24, "depths": (1, 2, 2, 1), "num_heads": (1, 1, 2, 2)}
TIMM: dict[str, tuple[dict[str, Any], tuple[tuple[int, int], ...], bool]] = {
    "vit_tiny_patch16_224": ({"img_size": 64}, VIT, True),
    "deit_tiny_patch16_224": ({"img_size": 64}, VIT, True),
    "swin_tiny_patch4_window7_224": (SWIN, ((24, 16), (48, 8), (96, 4), (192, 2)), True),
    "mixer_s16_224": ({"img_size": 64}, ((512, 4),) * 4, True),
    "mambaout_femto": ({}, ((48, 16), (96, 8), (192, 4), (288, 2)), True),
    "coatnet_nano_rw_224": ({"img_size": 64}, ((64, 16), (128, 8), (256, 4), (512, 2)), True),
    "convnext_atto": ({}, ((40, 16), (80, 8), (160, 4), (320, 2)), False),
    "mobilenetv3_small_050": ({}, ((8, 16), (16, 8), (24, 4), (288, 2)), False),
    "mobilenetv4_conv_small": ({}, ((32, 16), (64, 8), (96, 4), (960, 2)), False),
    "tf_efficientnet_b0": ({}, ((24, 16), (40, 8), (112, 4), (1280, 2)), True),
    "regnetx_002": ({}, ((24, 16), (56, 8), (152, 4), (368, 2)), True),
}


def of_timm(name: str) -> Any:
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=5, **TIMM[name][0]).eval()
    for layer in (m for m in model.modules() if isinstance(m, nn.Linear) and m.out_features == 5):
        nn.init.normal_(layer.weight, std=0.1)  # some start from zero, and so do their logits
    return model


@pytest.fixture(scope="module", params=TIMM)
def foreign(request) -> tuple[str, Any, Tensor, Output]:
    """Name, network of timm in eval mode, images, and what `run` makes of them."""
    model, batch = of_timm(request.param), images(64)
    with torch.no_grad():
        return request.param, model, batch, run(model, batch)


def test_models_of_timm_have_four_maps_channels_first_from_shallow_to_deep(foreign):
    name, _, _, output = foreign
    assert [tuple(m.shape) for m in output.maps] == [(2, channels, side, side) for channels, side in TIMM[name][1]]
    assert output.logits.shape == (2, 5)


def test_models_of_timm_have_their_own_logits_to_the_bit(foreign):
    _, model, batch, output = foreign
    with torch.no_grad():
        expected = model(batch)
    assert (expected != 0).all()
    assert torch.equal(output.logits, expected)


def test_the_embedding_of_a_model_of_timm_is_what_its_classifier_or_else_its_head_sees(foreign):
    name, model, batch, output = foreign
    with torch.no_grad():
        if TIMM[name][2]:
            student, expected = model.get_classifier()(output.embedding), output.logits
        else:  # layers come between
            student, expected = output.embedding, model.forward_features(batch).mean(dim=(2, 3))
    torch.testing.assert_close(student, expected, rtol=1e-4, atol=1e-5 * expected.abs().max().item())


@pytest.mark.parametrize("name", TIMM)
def test_every_part_of_a_model_of_timm_leads_a_gradient_back_to_the_images(name):
    """Through sums of random weights: those of squares are constant behind a norm over channels."""
    model, batch = of_timm(name), images(64).requires_grad_()
    output = run(model, batch)
    for part in (*output.maps, output.embedding, output.logits):
        weights = torch.randn(part.shape, generator=torch.Generator().manual_seed(1))
        (gradient,) = torch.autograd.grad((part * weights).sum(), batch, retain_graph=True)
        assert gradient.isfinite().all()
        assert (gradient.flatten(1).abs().amax(dim=1) > 0).all()


def caught(modules: Iterable[nn.Module], model: nn.Module, batch: Tensor) -> list[Tensor]:
    """What these modules give in one pass of the model."""
    given: list[Tensor] = []
    hooks = [m.register_forward_hook(lambda _module, _inputs, output: given.append(output)) for m in modules]
    with torch.no_grad():
        model(batch)
    for hook in hooks:
        hook.remove()
    return given


@pytest.mark.parametrize(("name", "others"), [("vit_tiny_patch16_224", 1), ("deit_tiny_distilled_patch16_224", 2)])
def test_maps_of_a_vit_are_its_patches_after_every_third_block(name, others):
    model, batch = timm.create_model(name, img_size=64).eval(), images(64)
    blocks: Any = model.blocks
    tokens = caught([blocks[i] for i in (2, 5, 8, 11)], model, batch)
    with torch.no_grad():
        maps = run(model, batch).maps
    for student, expected in zip(maps, tokens, strict=True):
        assert expected.shape == (2, others + 16, 192)
        for y, x in ((0, 0), (0, 3), (2, 1), (3, 3)):
            assert torch.equal(student[:, :, y, x], expected[:, others + 4 * y + x])


def test_maps_of_a_swin_are_its_stages_with_channels_first():
    model, batch = of_timm("swin_tiny_patch4_window7_224"), images(64)
    stages = caught(model.layers, model, batch)
    with torch.no_grad():
        maps = run(model, batch).maps
    assert stages[0].shape == (2, 16, 16, 24)
    for student, expected in zip(maps, stages, strict=True):
        torch.testing.assert_close(student, expected.movedim(3, 1))


@pytest.mark.parametrize("name", ["coatnet_nano_rw_224", "swin_tiny_patch4_window7_224", "vit_tiny_patch16_224"])
def test_no_final_norm_levels_the_deepest_activation_map(name):
    """The mean of squares over channels is one everywhere behind a fresh layer norm."""
    model, batch = of_timm(name), images(64)
    with torch.no_grad():
        maps, seen = activation_map(run(model, batch).maps[-1]), model.forward_features(batch)
    squares = seen.square().mean(dim=1 if "coatnet" in name else -1)
    torch.testing.assert_close(squares, torch.ones_like(squares), rtol=0, atol=1e-3)
    assert (maps.std(dim=(1, 2)) / maps.mean(dim=(1, 2)) > 1e-3).all()


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("vit_tiny_patch16_224", {}, [2, 5, 8, 11]),
        ("vit_tiny_patch16_224", {"depth": 6}, [0, 2, 3, 5]),
        ("vit_tiny_patch16_224", {"depth": 3}, [0, 1, 2]),
        ("swin_tiny_patch4_window7_224", {}, [0, 1, 2, 3]),
        ("resnet18", {}, [1, 2, 3, 4]),
        ("resnet20_cifar", {}, [0, 1, 2]),
        ("mobilenetv2_100", {}, [1, 2, 3, 4]),
        ("convnext_atto", {}, [0, 1, 2, 3]),
    ],
)
def test_taps_are_the_deepest_of_each_resolution_or_equal_parts_of_one(name, options, expected):
    with torch.device("meta"):
        assert out_indices(timm.create_model(name, **options)) == expected


def test_a_network_that_cannot_be_tapped_is_told_by_name():
    with pytest.raises(UnsupportedNetwork, match="Sequential has no forward_intermediates"):
        run(nn.Sequential(nn.Conv2d(3, 4, 1)), images(8))


@pytest.mark.parametrize(
    ("name", "options", "side", "message"),
    [
        ("resnet20_cifar", {"in_chans": 1}, 32, "resnet20_cifar takes images of 1 channel, these have 3"),
        ("resnet18", {"in_chans": 4}, 32, "resnet18 takes images of 4 channels, these have 3"),
        ("vit_tiny_patch16_224", {"in_chans": 1}, 224, "takes images of 1 channel, these have 3"),
        ("efficientvim_m1", {}, 64, "efficientvim_m1 has several last feature maps"),
        ("hrnet_w18_small", {}, 100, "hrnet_w18_small fails on images of 100 x 100 px: RuntimeError: The size of"),
        ("vit_tiny_patch16_224", {}, 64, "vit_tiny_patch16_224 fails on images of 64 x 64 px: AssertionError: Input"),
        ("deit_tiny_distilled_patch16_224", {"training": True}, 224, "logits of type tuple"),
    ],
)
def test_a_network_that_cannot_be_used_says_what_keeps_it(name, options, side, message):
    training = options.pop("training", False)
    model = timm.create_model(name, num_classes=3, **options).train(training)
    if training:
        model.set_distilled_training(True)  # type: ignore[operator]
    with torch.no_grad(), pytest.raises(UnsupportedNetwork, match=message):
        run(model, images(side))


def test_a_device_out_of_memory_is_no_fault_of_the_network(monkeypatch):
    model = create("r20", 3)

    def full(*arguments: Any, **options: Any) -> None:
        raise torch.cuda.OutOfMemoryError("2 GiB")

    monkeypatch.setattr(model, "forward_intermediates", full)
    with pytest.raises(torch.cuda.OutOfMemoryError):
        run(model, images(32))


@pytest.mark.parametrize("name", ["mobilenetv4_conv_small_035", "resnet20_cifar"])
def test_a_batch_of_one_image_is_normalised_by_running_statistics_where_it_has_no_spread(name):
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=3).train()
    plain = copy.deepcopy(model)
    accept_single_values(model)
    three = torch.randn(3, 3, 64, 64)
    assert torch.equal(model(three), plain(three))  # any other batch is normalised as ever
    before = {key: value.clone() for key, value in model.state_dict().items()}
    model(three[:1]).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    assert all(layer.training for layer in model.modules())
    single = {key for key, value in model.state_dict().items() if torch.equal(value, before[key])}
    heads = {key for key in before if key.startswith("norm_head.running")}
    assert heads <= single  # of the pooled vector nothing was learnt about the spread
    assert model.state_dict().keys() == plain.state_dict().keys()
    if heads:
        with pytest.raises(ValueError, match="more than 1 value per channel"):
            plain(three[:1])
    else:
        assert torch.equal(model(three[:1]), (plain(three[:1]), plain(three[:1]))[1])


@pytest.mark.parametrize("given", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_wide_is_at_least_float32(given):
    assert to_fp32(torch.zeros(1, dtype=given)).dtype == (torch.float64 if given == torch.float64 else torch.float32)
