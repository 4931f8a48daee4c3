"""The transforms and the resampling of maps: the released code's figures, independent formulas, edge cases."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.fft
import torch
from safetensors.torch import load_file
from torch import Tensor

from dctkd_zoo import spectrum
from dctkd_zoo.attention import activation_map, minmax
from dctkd_zoo.losses.dctkd import spectral_distance
from dctkd_zoo.spectrum import TRANSFORMS, common, dct2_coefficients, dft_coefficients, resample

SIZES = [(7, 7), (8, 8), (14, 14), (17, 23), (9, 12), (1, 5), (56, 56)]
SHRINKS = [((56, 56), (7, 7)), ((14, 14), (13, 13)), ((17, 23), (9, 12)), ((9, 12), (9, 5)), ((4, 16), (3, 1))]
NORMALISED = ("dct2", "dft_abs", "dft_signed")


@pytest.fixture(params=TRANSFORMS)
def transform(request) -> spectrum.Transform:
    return TRANSFORMS[request.param]


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def centred(maps: Tensor) -> np.ndarray:
    return (maps - maps.mean(dim=(1, 2), keepdim=True)).numpy()


def ramp(values: np.ndarray) -> np.ndarray:
    """Each of (B, H, W) onto [0, 1]."""
    low, high = values.min(axis=(1, 2), keepdims=True), values.max(axis=(1, 2), keepdims=True)
    return np.asarray((values - low) / (high - low))


def dct(values: np.ndarray) -> np.ndarray:
    return np.asarray(scipy.fft.dctn(values, axes=(1, 2), norm="ortho"))


@pytest.mark.parametrize("file", ["square", "ragged"])
@pytest.mark.parametrize("name", NORMALISED)
def test_spectra_are_those_of_the_released_code(shared, file, name):
    golden = load_file(shared / "golden" / f"{file}.safetensors")
    levels = [key for key in golden if key.startswith("student_features.")]
    assert len(levels) == (4 if file == "square" else 3)
    for key in levels:
        expected = golden[key.replace("student_features", f"spectrum_{name}.student")]
        student = TRANSFORMS[name](activation_map(golden[key]))
        torch.testing.assert_close(student, expected.float(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("size", SIZES)
def test_dct2_is_scipys(size):
    maps = random(3, *size)
    expected = dct(centred(maps))
    np.testing.assert_allclose(dct2_coefficients(maps).numpy(), expected, atol=1e-12)
    np.testing.assert_allclose(dct2_coefficients(maps.float()).numpy(), expected, atol=2e-5)


@pytest.mark.parametrize("size", SIZES)
def test_dft_is_the_real_part_of_fft2(size):
    """The mean that goes first is the DC coefficient and nothing else."""
    maps = random(3, *size)
    expected = torch.fft.fft2(maps).real
    expected[:, 0, 0] = 0
    torch.testing.assert_close(dft_coefficients(maps), expected, rtol=0, atol=1e-10)
    torch.testing.assert_close(dft_coefficients(maps.float()), expected.float(), rtol=0, atol=1e-3)


@pytest.mark.parametrize("size", SIZES)
def test_the_others_are_a_dct_of_the_map_on_0_1_or_of_unit_energy_and_the_map_on_0_1(size):
    maps = 1e3 * random(3, *size) + 40
    onto = ramp(maps.numpy())
    free = centred(maps)
    energy = np.sqrt((free**2).sum(axis=(1, 2), keepdims=True))  # of the map, which the DCT keeps
    due = {
        "dct2_raw": dct(onto - onto.mean(axis=(1, 2), keepdims=True)),
        "dct2_energy": dct(free / energy),
        "l2_minmax": onto,
    }
    assert {*TRANSFORMS} == {*NORMALISED, *due}
    for name, expected in due.items():
        np.testing.assert_allclose(TRANSFORMS[name](maps).numpy(), expected, atol=1e-12)


@pytest.mark.parametrize("name", [*NORMALISED, "l2_minmax"])
@pytest.mark.parametrize("size", [(7, 7), (17, 23)])
def test_spectra_span_0_1_per_image(name, size):
    maps = random(3, *size)
    values = TRANSFORMS[name](maps)
    torch.testing.assert_close(values.amin(dim=(1, 2)), torch.zeros(3).double())
    torch.testing.assert_close(values.amax(dim=(1, 2)), torch.ones(3).double())


def test_a_map_is_transformed_whatever_the_other_maps_are(transform):
    maps = random(3, 6, 9)
    torch.testing.assert_close(transform(maps[1:2]), transform(maps)[1:2])


@pytest.mark.parametrize("size", [(7, 7), (9, 12)])
def test_no_gradient_and_no_nan_between_equal_maps(transform, size):
    student = random(2, *size).requires_grad_()
    distance = spectral_distance(student, student.detach().clone(), transform)
    (gradient,) = torch.autograd.grad(distance.sum(), student)
    assert torch.equal(distance, torch.zeros_like(distance))
    assert torch.equal(gradient, torch.zeros_like(gradient))


@pytest.mark.parametrize("fewer", [14, 9, 7])
@pytest.mark.parametrize("value", [0.0, 0.1, 0.37, 1.0, 3.3])
def test_a_constant_map_has_a_zero_spectrum_and_no_gradient(transform, value, fewer):
    """At its own size and at a smaller one; most of these values differ from their computed mean by a rounding."""
    student = torch.full((2, 14, 14), value, requires_grad=True)
    ours, teacher = common(student, random(2, fewer, fewer).float())
    assert torch.equal(ours, torch.full((2, fewer, fewer), value))
    assert torch.equal(transform(ours), torch.zeros(2, fewer, fewer))
    distance = spectral_distance(ours, teacher, transform)
    (gradient,) = torch.autograd.grad(distance.sum(), student)
    assert (distance > 0.1).all()
    assert torch.equal(gradient, torch.zeros_like(gradient))


@pytest.mark.parametrize("size", [(4, 4), (3, 5)])
def test_gradients_are_right(transform, size):
    assert torch.autograd.gradcheck(transform, random(2, *size).requires_grad_())


def test_autocast_leaves_a_transform_alone(transform):
    maps = random(3, 14, 14).float()
    expected = transform(maps)
    with torch.autocast("cpu", torch.bfloat16):
        values = transform(maps)
    assert values.dtype == torch.float32
    assert torch.equal(values, expected)


def test_what_is_kept_from_inference_serves_training(transform):
    side = 101 + 2 * list(TRANSFORMS).index(transform.__name__)  # of which no matrix is kept yet
    with torch.inference_mode():
        transform(resample(torch.rand(2, side, side), side - 1, side - 1))
    maps = torch.rand(2, side, side, requires_grad=True)
    transform(resample(maps, side - 1, side - 1)).square().sum().backward()
    assert maps.grad is not None
    assert maps.grad.abs().max() > 0


@pytest.mark.parametrize(("size", "fewer"), SHRINKS)
def test_resampling_crops_scipys_spectrum(size, fewer):
    maps = random(3, *size)
    expected = dct(maps.numpy())[:, : fewer[0], : fewer[1]] * np.sqrt(np.prod(fewer) / np.prod(size))
    np.testing.assert_allclose(dct(resample(maps, *fewer).numpy()), expected, atol=1e-12)
    np.testing.assert_allclose(dct(resample(maps.float(), *fewer).numpy()), expected, atol=1e-5)


@pytest.mark.parametrize(("size", "fewer"), SHRINKS)
def test_resampling_keeps_the_mean_and_the_batch(size, fewer):
    maps = random(3, *size) + 5
    result = resample(maps, *fewer)
    assert result.shape == (3, *fewer)
    torch.testing.assert_close(result.mean(dim=(1, 2)), maps.mean(dim=(1, 2)), rtol=0, atol=1e-12)
    torch.testing.assert_close(resample(maps[1:2], *fewer), result[1:2])


def waves(amplitudes: np.ndarray, height: int, width: int) -> Tensor:
    """A sum of cosines over the unit square (B, U, V), read off in the middle of height x width equal tiles."""
    places = [(np.arange(count) + 0.5) / count for count in (height, width)]
    rows, columns = (
        np.cos(np.pi * np.outer(np.arange(c), p)) for c, p in zip(amplitudes.shape[1:], places, strict=True)
    )
    return torch.from_numpy(np.einsum("buv,uh,vw->bhw", amplitudes, rows, columns))


@pytest.mark.parametrize(("size", "fewer"), [((56, 56), (14, 14)), ((28, 28), (7, 7)), ((17, 23), (6, 5))])
def test_what_has_low_frequencies_alone_is_resampled_without_loss(size, fewer):
    amplitudes = random(2, 6, 5).numpy()
    torch.testing.assert_close(resample(waves(amplitudes, *size), *fewer), waves(amplitudes, *fewer))


def test_resampling_twice_is_resampling_once():
    maps = random(3, 56, 40)
    torch.testing.assert_close(resample(resample(maps, 28, 21), 14, 9), resample(maps, 14, 9))


def test_a_map_of_the_size_asked_for_is_handed_back_as_it_is():
    maps = random(2, 9, 12)
    assert resample(maps, 9, 12) is maps


@pytest.mark.parametrize(("size", "fewer"), [((5, 4), (3, 4)), ((4, 6), (2, 5))])
def test_gradients_of_resampling_are_right(size, fewer):
    maps = random(2, *size).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: resample(x, *fewer), maps)
    assert torch.autograd.gradcheck(lambda x: TRANSFORMS["dct2"](resample(x, *fewer)), maps)


def test_autocast_leaves_resampling_alone():
    maps = random(3, 14, 14).float()
    expected = resample(maps, 9, 5)
    with torch.autocast("cpu", torch.bfloat16):
        values = resample(maps, 9, 5)
    assert values.dtype == torch.float32
    assert torch.equal(values, expected)


PAIRS = [
    ((9, 12), (14, 7), None, (9, 7)),
    ((9, 12), (14, 7), 8, (8, 7)),
    ((9, 12), (14, 7), 5, (5, 5)),
    ((9, 12), (14, 7), 99, (9, 7)),
    ((14, 14), (56, 56), None, (14, 14)),
    ((14, 14), (14, 14), 4, (4, 4)),
]


@pytest.mark.parametrize(("one", "other", "keep", "size"), PAIRS)
def test_two_maps_meet_at_the_smaller_height_and_the_smaller_width(one, other, keep, size):
    a, b = random(2, *one), random(2, *other, seed=1)
    student, teacher = common(a, b, keep)
    assert student.shape == teacher.shape == (2, *size)
    assert torch.equal(student, resample(a, *size))
    assert torch.equal(teacher, resample(b, *size))
    swapped = common(b, a, keep)
    assert torch.equal(swapped[0], teacher)
    assert torch.equal(swapped[1], student)


@pytest.mark.parametrize("keep", [None, 14, 56])
def test_maps_of_one_size_are_left_as_they_are(keep):
    a, b = random(2, 14, 14), random(2, 14, 14, seed=1)
    assert all(x is y for x, y in zip(common(a, b, keep), (a, b), strict=True))


@pytest.mark.parametrize(("one", "other", "keep", "size"), PAIRS)
def test_the_distance_is_that_of_the_frequencies_that_both_have(one, other, keep, size):
    """Of scipy's spectra, cut off beyond the common corner, each brought onto [0, 1]."""
    a, b = random(2, *one), 7 * random(2, *other, seed=1)
    corners = (ramp(dct(centred(m))[:, : size[0], : size[1]]) for m in (a, b))
    expected = np.linalg.norm(np.subtract(*corners), axis=(1, 2))
    result = spectral_distance(*common(a, b, keep), TRANSFORMS["dct2"])
    np.testing.assert_allclose(result.numpy(), expected, rtol=1e-10)


def test_cutting_off_frequencies_matters():
    a, b = minmax(random(2, 14, 14)), minmax(random(2, 14, 14, seed=1))
    whole, few = (spectral_distance(*common(a, b, keep), TRANSFORMS["dct2"]) for keep in (None, 4))
    assert (few < 0.7 * whole).all()
