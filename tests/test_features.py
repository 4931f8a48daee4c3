"""One pass through a network: what is tapped, and that tapping changes nothing."""

from __future__ import annotations

from typing import Any

import pytest
import timm
import torch
from torch import Tensor

from dctkd_zoo import models, registry
from dctkd_zoo.features import Output, Tapped, run, wide

# METHOD.md section 2: channels and side of each map at 224 px, then at 32 px; the deepest has the embedding's channels.
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
        maps, theirs, deepest = run(model, images(64)).maps, extractor(images(64)), model.forward_features(images(64))
    for ours, due in zip(maps[:levels], theirs[:levels], strict=True):
        torch.testing.assert_close(ours, due)
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
    ours, due = Tapped(model)(images(16)), run(model, images(16))
    assert isinstance(ours, Output)
    assert torch.equal(ours.logits, due.logits)
    assert all(torch.equal(a, b) for a, b in zip(ours.maps, due.maps, strict=True))


@pytest.mark.parametrize("name", ["convnext_atto", "efficientnet_b0", "regnetx_002"])
def test_other_convolutional_models_of_timm_have_four_halving_maps(name):
    model = timm.create_model(name, num_classes=5).eval()
    with torch.no_grad():
        output = run(model, images(64))
        assert torch.equal(output.logits, model(images(64)))
    assert [m.shape[-2:] for m in output.maps] == [(16, 16), (8, 8), (4, 4), (2, 2)]
    assert output.embedding.shape == (2, output.maps[-1].shape[1])


@pytest.mark.parametrize("given", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_wide_is_at_least_float32(given):
    assert wide(torch.zeros(1, dtype=given)).dtype == (torch.float64 if given == torch.float64 else torch.float32)
