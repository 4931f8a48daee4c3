"""The three transforms: the released code's figures, independent formulas, and the facts of METHOD.md section 1.2."""

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
from dctkd_zoo.spectrum import TRANSFORMS, dct2_coefficients, dft_coefficients

SIZES = [(7, 7), (8, 8), (14, 14), (17, 23), (9, 12), (1, 5), (56, 56)]
RELEASED = ("dft_abs", "dft_signed")


@pytest.fixture(params=TRANSFORMS)
def transform(request) -> spectrum.Transform:
    return TRANSFORMS[request.param]


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def centred(maps: Tensor) -> np.ndarray:
    return (maps - maps.mean(dim=(1, 2), keepdim=True)).numpy()


@pytest.mark.parametrize("file", ["square", "ragged"])
@pytest.mark.parametrize("name", TRANSFORMS)
def test_spectra_are_those_of_the_released_code(shared, file, name):
    golden = load_file(shared / "golden" / f"{file}.safetensors")
    levels = [key for key in golden if key.startswith("student_features.")]
    assert len(levels) == (4 if file == "square" else 3)
    for key in levels:
        due = golden[key.replace("student_features", f"spectrum_{name}.student")]
        ours = TRANSFORMS[name](activation_map(golden[key]))
        torch.testing.assert_close(ours, due.float(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("size", SIZES)
def test_dct2_is_scipys(size):
    maps = random(3, *size)
    due = scipy.fft.dctn(centred(maps), axes=(1, 2), norm="ortho")
    np.testing.assert_allclose(dct2_coefficients(maps).numpy(), due, atol=1e-12)
    np.testing.assert_allclose(dct2_coefficients(maps.float()).numpy(), due, atol=2e-5)


@pytest.mark.parametrize("size", SIZES)
def test_dft_is_the_real_part_of_fft2(size):
    """The mean that goes first is the DC coefficient and nothing else."""
    maps = random(3, *size)
    due = torch.fft.fft2(maps).real
    due[:, 0, 0] = 0
    torch.testing.assert_close(dft_coefficients(maps), due, rtol=0, atol=1e-10)
    torch.testing.assert_close(dft_coefficients(maps.float()), due.float(), rtol=0, atol=1e-3)


@pytest.mark.parametrize("size", SIZES)
def test_dft_is_the_fft_of_the_even_part(size):
    """Item 1: so it is no DCT."""
    maps = random(3, *size)
    even = (maps + reflected(maps)) / 2
    due = np.fft.fft2(centred(even))
    np.testing.assert_allclose(due.imag, 0, atol=1e-10)
    np.testing.assert_allclose(dft_coefficients(maps).numpy(), due.real, atol=1e-10)


def reflected(maps: Tensor) -> Tensor:
    """Circular point reflection: the value at (y, x) goes to (-y mod H, -x mod W)."""
    return torch.roll(torch.flip(maps, (-2, -1)), (1, 1), (-2, -1))


@pytest.mark.parametrize("size", [(7, 7), (8, 8), (9, 12), (28, 28)])
@pytest.mark.parametrize("name", TRANSFORMS)
def test_the_dft_is_blind_to_a_point_reflection_and_the_dct_is_not(name, size):
    """Item 2."""
    features = random(4, 3, *size)
    maps, mirrored = activation_map(features), activation_map(reflected(features))
    distance = spectral_distance(maps, mirrored, TRANSFORMS[name])
    assert (distance < 1e-12).all() if name in RELEASED else (distance > 0.5).all()


@pytest.mark.parametrize(("side", "distinct"), [(7, 25), (8, 34), (14, 100), (28, 394), (56, 1570)])
def test_the_dft_tells_most_coefficients_twice(side, distinct):
    """Item 3."""
    maps = random(1, side, side)
    assert count(dft_coefficients(maps)) == distinct
    assert count(dct2_coefficients(maps)) == side**2


def count(coefficients: Tensor) -> int:
    """Distinct values, with what rounding keeps apart taken together."""
    values = coefficients.flatten().sort().values
    return 1 + int((values.diff() > 1e-10).sum())


@pytest.mark.parametrize("size", [(7, 7), (9, 12)])
def test_spectra_know_neither_the_scale_of_features_nor_the_normalisation_of_maps(transform, size):
    """Item 4."""
    features = random(3, 4, *size)
    maps = activation_map(features)
    due = transform(maps)
    torch.testing.assert_close(transform(activation_map(1e-3 * features)), due, rtol=0, atol=1e-12)
    torch.testing.assert_close(transform(minmax(maps)), due, rtol=0, atol=1e-12)
    torch.testing.assert_close(transform(maps / maps.amax(dim=(1, 2), keepdim=True)), due, rtol=0, atol=1e-12)
    torch.testing.assert_close(transform(maps + 5), due, rtol=0, atol=1e-12)


@pytest.mark.parametrize("size", SIZES)
def test_unnormalised_dct_distance_is_the_spatial_one(size):
    """Item 5, Parseval: whatever the DCT gains over plain L2 is due to what is done beside it."""
    a, b = random(3, *size), random(3, *size, seed=1)
    spectral = (dct2_coefficients(a) - dct2_coefficients(b)).norm(dim=(1, 2))
    np.testing.assert_allclose(spectral.numpy(), np.linalg.norm(centred(a) - centred(b), axis=(1, 2)), rtol=1e-12)


@pytest.mark.parametrize(
    ("name", "due"),
    [
        ("dft_signed", (2.70, 4.02, 7.07, 12.00)),
        ("dft_abs", (2.87, 4.33, 7.83, 13.51)),
        ("dct2", (2.19, 3.52, 6.58, 11.21)),
    ],
)
def test_the_first_level_dominates(name, due):
    """Item 6: mean distance of random Gaussian features at 7, 14, 28 and 56 px."""
    distances = []
    for side in (7, 14, 28, 56):
        student, teacher = (activation_map(random(16, 16, side, side, seed=seed).float()) for seed in (0, 1))
        distances.append(spectral_distance(student, teacher, TRANSFORMS[name]).mean().item())
    assert distances == pytest.approx(due, rel=0.12)
    assert distances == sorted(distances)
    assert distances[-1] > 0.4 * sum(distances)


@pytest.mark.parametrize("size", [(7, 7), (9, 12)])
def test_no_gradient_and_no_nan_between_equal_maps(transform, size):
    """Item 7, first half."""
    student = random(2, *size).requires_grad_()
    distance = spectral_distance(student, student.detach().clone(), transform)
    (gradient,) = torch.autograd.grad(distance.sum(), student)
    assert torch.equal(distance, torch.zeros_like(distance))
    assert torch.equal(gradient, torch.zeros_like(gradient))


@pytest.mark.parametrize("side", [7, 14, 28])
@pytest.mark.parametrize("value", [0.0, 0.1, 0.37, 1.0, 3.3])
def test_a_constant_map_has_a_zero_spectrum_and_no_gradient(transform, value, side):
    """Item 7, second half; most of these values differ from their computed mean by a rounding."""
    student = torch.full((2, side, side), value, requires_grad=True)
    assert torch.equal(transform(student), torch.zeros(2, side, side))
    distance = spectral_distance(student, random(2, side, side).float(), transform)
    (gradient,) = torch.autograd.grad(distance.sum(), student)
    assert distance.isfinite().all()
    assert torch.equal(gradient, torch.zeros_like(gradient))


def test_where_the_dc_coefficient_ends_up():
    """Item 8: at zero in `dft_abs`; in `dft_signed` in the middle, at each image's own value."""
    maps = activation_map(random(16, 32, 14, 14))
    torch.testing.assert_close(dft_coefficients(maps)[:, 0, 0], torch.zeros(16).double(), rtol=0, atol=1e-11)
    torch.testing.assert_close(TRANSFORMS["dft_abs"](maps)[:, 0, 0], torch.zeros(16).double(), rtol=0, atol=1e-12)
    signed = TRANSFORMS["dft_signed"](maps)[:, 0, 0]
    assert signed.mean().item() == pytest.approx(0.48, abs=0.06)
    assert signed.min() > 0.3
    assert signed.max() < 0.7
    assert signed.std() > 0.01


@pytest.mark.parametrize("size", [(7, 7), (17, 23)])
def test_spectra_span_0_1_per_image(transform, size):
    maps = random(3, *size)
    values = transform(maps)
    torch.testing.assert_close(values.amin(dim=(1, 2)), torch.zeros(3).double())
    torch.testing.assert_close(values.amax(dim=(1, 2)), torch.ones(3).double())
    torch.testing.assert_close(transform(maps[1:2]), values[1:2])


@pytest.mark.parametrize("size", [(4, 4), (3, 5)])
def test_gradients_are_right(transform, size):
    assert torch.autograd.gradcheck(transform, random(2, *size).requires_grad_())


def test_autocast_leaves_a_transform_alone(transform):
    maps = random(3, 14, 14).float()
    due = transform(maps)
    with torch.autocast("cpu", torch.bfloat16):
        values = transform(maps)
    assert values.dtype == torch.float32
    assert torch.equal(values, due)


def test_what_is_kept_from_inference_serves_training(transform):
    spectrum._dct_matrix.cache_clear()
    spectrum._dft_matrices.cache_clear()
    with torch.inference_mode():
        transform(torch.rand(2, 6, 5))
    maps = torch.rand(2, 6, 5, requires_grad=True)
    transform(maps).sum().backward()
    assert maps.grad is not None
