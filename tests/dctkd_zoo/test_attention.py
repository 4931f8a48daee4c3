"""Activation maps and their normalisation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from dctkd_zoo.attention import activation_map, amin_amax, minmax, safe_divide


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("file", ["square", "ragged"])
@pytest.mark.parametrize("side", ["student", "teacher"])
def test_maps_are_those_of_the_released_code(shared, file, side):
    golden = load_file(shared / "golden" / f"{file}.safetensors")
    levels = [key for key in golden if key.startswith(f"{side}_features.")]
    assert len(levels) == (4 if file == "square" else 3)
    for key in levels:
        expected = golden[key.replace(f"{side}_features", f"activation_map.{side}")]
        torch.testing.assert_close(minmax(activation_map(golden[key])), expected, rtol=1e-5, atol=1e-6)


def test_a_map_is_the_mean_over_channels_of_the_squares():
    features = random(2, 5, 3, 4)
    expected = (features.numpy() ** 2).sum(axis=1) / 5
    np.testing.assert_allclose(activation_map(features).numpy(), expected, rtol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_features_are_squared_in_float32(dtype):
    features = torch.full((1, 2, 3, 3), 300.0, dtype=dtype)  # the square is beyond float16
    maps = activation_map(features)
    assert maps.dtype == torch.float32
    assert torch.equal(maps, torch.full((1, 3, 3), features[0, 0, 0, 0].item() ** 2))


def test_minmax_brings_each_map_onto_0_1():
    maps = random(4, 5, 7) * torch.tensor([1e-6, 1.0, 1e3, 1e6])[:, None, None]
    low, high = amin_amax(minmax(maps))
    assert low.shape == high.shape == (4, 1, 1)
    assert torch.equal(low, torch.zeros_like(low))
    assert torch.equal(high, torch.ones_like(high))


def test_minmax_knows_neither_scale_nor_offset_nor_the_other_maps():
    maps = random(4, 5, 7)
    torch.testing.assert_close(minmax(3 * maps - 8), minmax(maps))
    torch.testing.assert_close(minmax(maps)[2:3], minmax(maps[2:3]))
    torch.testing.assert_close(minmax(minmax(maps)), minmax(maps))


@pytest.mark.parametrize("value", [0.0, 0.1, 1.0, 3e8])
def test_a_constant_map_becomes_zero_with_a_zero_gradient(value):
    maps = torch.full((2, 7, 7), value, requires_grad=True)
    normalised = minmax(maps)
    normalised.sum().backward()
    assert torch.equal(normalised, torch.zeros(2, 7, 7))
    assert maps.grad is not None
    assert torch.equal(maps.grad, torch.zeros(2, 7, 7))


def test_a_quotient_over_zero_is_zero_and_leads_no_gradient_anywhere():
    numerator = torch.tensor([3.0, 3.0], requires_grad=True)
    denominator = torch.tensor([0.0, 2.0], requires_grad=True)
    quotient = safe_divide(numerator, denominator)
    assert quotient.tolist() == [0, 1.5]
    above, below = torch.autograd.grad(quotient.sum(), (numerator, denominator))
    assert above.tolist() == [0, 0.5]
    assert below.tolist() == [0, -0.75]


def test_gradients_of_random_maps():
    assert torch.autograd.gradcheck(lambda x: minmax(activation_map(x)), random(2, 2, 3, 4).requires_grad_())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_the_layout_in_memory_changes_neither_the_map_nor_its_gradient(dtype):
    features = torch.randn(3, 8, 6, 5, generator=torch.Generator().manual_seed(0)).to(dtype)
    features[0, :, 2, 2] = 0  # where the length of the vector of channels has no slope
    ways = []
    for layout in (torch.contiguous_format, torch.channels_last):
        leaf = features.clone(memory_format=layout).requires_grad_()
        value = activation_map(leaf)
        value.square().sum().backward()
        assert leaf.grad is not None
        assert leaf.grad.dtype == dtype
        ways.append((value, leaf.grad))
    expected = features.double().square().mean(dim=1)
    tolerance = {torch.float32: 1e-6, torch.float64: 1e-12, torch.bfloat16: 2e-2}[dtype]
    for value, gradient in ways:
        torch.testing.assert_close(value.double(), expected, rtol=1e-6 if dtype != torch.float64 else 1e-12, atol=0)
        slope = 4 / 8 * features.double() * expected[:, None]
        torch.testing.assert_close(gradient.double(), slope, rtol=tolerance, atol=tolerance)


LAYOUTS = {
    "contiguous": lambda x: x,
    "channels last": lambda x: x.contiguous(memory_format=torch.channels_last),
    "every second channel": lambda x: x.repeat_interleave(2, dim=1)[:, ::2],
    "transposed": lambda x: x.transpose(2, 3).contiguous().transpose(2, 3),
    "one image repeated": lambda x: x[:1].expand_as(x),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape", [(0, 3, 4, 4), (1, 1, 1, 1), (2, 40, 96, 80), (5, 9, 160, 130), (70, 8, 30, 21)])
def test_maps_of_any_size_and_layout_are_exact_to_their_precision(shape, dtype, layout):
    features = LAYOUTS[layout](random(*shape).to(dtype))
    expected = features.double().square().mean(dim=1)
    wide = torch.promote_types(dtype, torch.float32)
    value = activation_map(features)
    assert value.dtype == wide
    torch.testing.assert_close(value.double(), expected, rtol=1e-6 if wide == torch.float32 else 1e-14, atol=0)


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("layout", ["contiguous", "channels last"])
def test_images_of_zero_gradient_pass_on_zeros_even_where_they_are_not_finite(layout, compiled, monkeypatch):
    if compiled:  # as torch.compile traces it
        monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    features = LAYOUTS[layout](random(6, 4, 3, 3).float())
    features[1], features[4, :, 2] = torch.nan, torch.inf
    leaf = features.clone(memory_format=torch.preserve_format).requires_grad_()
    counts = torch.tensor([True, False, True, False, False, True])
    value = activation_map(leaf)
    torch.where(counts[:, None, None], value, 0).sum().backward()
    expected = torch.where(counts[:, None, None, None], features / 2, 0)
    assert leaf.grad is not None
    torch.testing.assert_close(leaf.grad, expected)
