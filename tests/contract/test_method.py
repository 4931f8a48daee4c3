"""The facts of docs/method.md, as properties of our code against computations of their own."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import scipy.fft
import torch
from torch import Tensor

from dctkd_zoo import losses, models
from dctkd_zoo.attention import activation_map, minmax
from dctkd_zoo.data.batch import Batch
from dctkd_zoo.features import Output, run
from dctkd_zoo.losses.dctkd import spectral_distance
from dctkd_zoo.losses.fft import fft
from dctkd_zoo.losses.wavelet import haar, wavelet
from dctkd_zoo.spectrum import TRANSFORMS, common, dct2_coefficients, dft_coefficients

RELEASED = ("dft_abs", "dft_signed")
NORMALISED = ("dct2", *RELEASED)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def distance(name: str, student_map: Tensor, teacher_map: Tensor) -> Tensor:
    return spectral_distance(student_map, teacher_map, TRANSFORMS[name])


def reflected(maps: Tensor) -> Tensor:
    """Circular point reflection: the value at (y, x) goes to (-y mod H, -x mod W)."""
    return torch.roll(torch.flip(maps, (-2, -1)), (1, 1), (-2, -1))


def fft2(maps: Tensor) -> np.ndarray:
    return np.asarray(np.fft.fft2((maps - maps.mean(dim=(-2, -1), keepdim=True)).numpy()))


def outputs(sizes: tuple[int, ...], channels: tuple[int, ...], seed: int, images: int = 6) -> Output:
    maps = tuple(random(images, c, s, s, seed=seed + c).float() for c, s in zip(channels, sizes, strict=True))
    return Output(random(images, 5, seed=seed).float(), maps, maps[-1].mean(dim=(2, 3)))


def batch(teacher: Output, right: tuple[int, ...]) -> Batch:
    """Labels that the teacher gets right for these images, and wrong for the others."""
    labels = (teacher.logits.argmax(dim=1) + 1) % 5
    labels[list(right)] = teacher.logits[list(right)].argmax(dim=1)
    return Batch(torch.zeros(len(labels), 3, 8, 8), labels, torch.arange(len(labels)))


@pytest.mark.parametrize("size", [(7, 7), (8, 8), (17, 23), (56, 56)])
def test_fact_1_the_real_part_of_an_fft_is_the_fft_of_the_even_part(size):
    maps = random(3, *size)
    expected = fft2((maps + reflected(maps)) / 2)
    np.testing.assert_allclose(expected.imag, 0, atol=1e-10)
    np.testing.assert_allclose(dft_coefficients(maps).numpy(), expected.real, atol=1e-10)


@pytest.mark.parametrize("path", [(2, 3), (5, 1)])
def test_fact_1_its_kernel_is_the_cosine_of_a_sum_and_that_of_the_dct_a_product(path):
    """What a single pixel turns into; beyond the coefficient (0, 0), which the mean takes with it."""
    (y, x), (height, width) = path, (7, 9)
    pixel = torch.zeros(1, height, width).double()
    pixel[0, y, x] = 1
    u, v = np.arange(height)[:, None], np.arange(width)
    wave = np.cos(2 * np.pi * (u * y / height + v * x / width))
    rows, columns = np.cos(np.pi * u * (2 * y + 1) / (2 * height)), np.cos(np.pi * v * (2 * x + 1) / (2 * width))
    scale = np.sqrt(np.where(u == 0, 1, 2) * np.where(v == 0, 1, 2) / (height * width))
    dft, true = dft_coefficients(pixel)[0].numpy(), dct2_coefficients(pixel)[0].numpy()
    np.testing.assert_allclose(dft.ravel()[1:], wave.ravel()[1:], atol=1e-12)
    np.testing.assert_allclose(true.ravel()[1:], (scale * rows * columns).ravel()[1:], atol=1e-12)
    assert np.linalg.matrix_rank(dft[1:, 1:], tol=1e-9) == 2
    assert np.linalg.matrix_rank(true[1:, 1:], tol=1e-9) == 1


@pytest.mark.parametrize("name", RELEASED)
def test_fact_1_it_is_not_the_dct(name):
    """Not even in what is left of it once each spectrum is brought onto [0, 1]."""
    maps = random(8, 14, 14)
    free = maps - maps.mean(dim=(1, 2), keepdim=True)
    expected = minmax(torch.from_numpy(scipy.fft.dctn(free.numpy(), axes=(1, 2), norm="ortho")))
    assert (TRANSFORMS["dct2"](maps) - expected).norm(dim=(1, 2)).max() < 1e-10
    assert (TRANSFORMS[name](maps) - expected).norm(dim=(1, 2)).min() > 1


@pytest.mark.parametrize("size", [(7, 7), (8, 8), (9, 12), (28, 28)])
@pytest.mark.parametrize("name", TRANSFORMS)
def test_fact_2_the_released_transforms_are_blind_to_a_point_reflection_and_the_others_are_not(name, size):
    features = random(4, 3, *size)
    result = distance(name, activation_map(features), activation_map(reflected(features)))
    assert (result < 1e-12).all() if name in RELEASED else (result > 0.5).all()


@pytest.mark.parametrize("name", RELEASED)
def test_fact_2_so_they_give_the_odd_part_of_a_map_no_gradient(name):
    maps, other = random(3, 8, 9).requires_grad_(), random(3, 8, 9, seed=1)
    (gradient,) = torch.autograd.grad(distance(name, maps, other).sum(), maps)
    assert gradient.abs().max() > 1e-3
    torch.testing.assert_close(gradient, reflected(gradient), rtol=0, atol=1e-12)


def own_partners(side: int) -> np.ndarray:
    """Where (u, v) and (-u, -v) are the same coefficient."""
    fixed = np.arange(side) == -np.arange(side) % side
    return np.asarray(fixed[:, None] & fixed)


@pytest.mark.parametrize(("side", "distinct"), [(7, 25), (8, 34), (14, 100), (28, 394), (56, 1570)])
def test_fact_3_the_dft_tells_most_coefficients_twice(side, distinct):
    maps = random(1, side, side)
    dft = dft_coefficients(maps)
    torch.testing.assert_close(dft, reflected(dft), rtol=0, atol=1e-9)
    assert count(dft) == distinct == (side**2 + own_partners(side).sum()) / 2
    assert count(dct2_coefficients(maps)) == side**2


def count(coefficients: Tensor) -> int:
    """Distinct values, with what rounding keeps apart taken together."""
    values = coefficients.flatten().sort().values
    return 1 + int((values.diff() > 1e-10).sum())


@pytest.mark.parametrize("side", [7, 8])
def test_fact_3_and_the_norm_counts_all_twice_that_are_not_their_own_partners(side):
    a, b = random(1, side, side), random(1, side, side, seed=1)
    steps = [np.asarray((x - x.min()) / (x.max() - x.min())) for x in (fft2(a)[0].real, fft2(b)[0].real)]
    squares, own = (steps[0] - steps[1]) ** 2, own_partners(side)
    half = np.zeros_like(own)
    for u, v in np.argwhere(~own):
        half[u, v] = not half[-u % side, -v % side]
    expected = np.sqrt(squares[own].sum() + 2 * squares[half].sum())
    np.testing.assert_allclose(distance("dft_signed", a, b).numpy(), [expected], rtol=1e-10)


@pytest.mark.parametrize("size", [(7, 7), (9, 12)])
@pytest.mark.parametrize("name", NORMALISED)
def test_fact_4_bringing_a_map_onto_0_1_changes_nothing(name, size):
    """Neither as on the main branch, nor as in the `abs` variant, which divides by the largest value."""
    maps, others = activation_map(random(3, 4, *size)), activation_map(random(3, 4, *size, seed=1))
    low, high = maps.amin(dim=(1, 2), keepdim=True), maps.amax(dim=(1, 2), keepdim=True)
    expected = distance(name, maps, others)
    assert expected.min() > 0.5
    for changed in ((maps - low) / (high - low), (maps - low) / high, maps + 5):
        torch.testing.assert_close(distance(name, changed, others), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", TRANSFORMS)
def test_fact_4_nor_does_the_scale_of_the_features(name):
    features, others = random(3, 4, 9, 12), activation_map(random(3, 4, 9, 12, seed=1))
    scale = torch.tensor([1e-3, 1, 1e3]).double().view(3, 1, 1, 1)
    expected = distance(name, activation_map(features), others)
    torch.testing.assert_close(distance(name, activation_map(scale * features), others), expected, rtol=0, atol=1e-11)


@pytest.mark.parametrize("size", [(7, 7), (9, 12), (56, 56)])
def test_fact_5_an_unnormalised_dct_is_a_spatial_distance_and_differs_from_plain_l2_by_the_means(size):
    """Parseval: whatever the DCT gains over plain L2 is due to what is done beside it."""
    a, b = 3 * random(4, *size) + 8, random(4, *size, seed=1) - 2
    on_0_1 = []
    for maps in (a.numpy(), b.numpy()):
        low, high = maps.min(axis=(1, 2), keepdims=True), maps.max(axis=(1, 2), keepdims=True)
        on_0_1.append((maps - low) / (high - low))
    means = np.subtract(*(m.mean(axis=(1, 2)) for m in on_0_1))
    raw, plain = (distance(name, a, b).numpy() for name in ("dct2_raw", "l2_minmax"))
    free = np.subtract(*(m - m.mean(axis=(1, 2), keepdims=True) for m in on_0_1))
    np.testing.assert_allclose(raw, np.linalg.norm(free, axis=(1, 2)), rtol=1e-10)
    np.testing.assert_allclose(plain, np.linalg.norm(np.subtract(*on_0_1), axis=(1, 2)), rtol=1e-10)
    np.testing.assert_allclose(plain**2, raw**2 + np.prod(size) * means**2, rtol=1e-10)
    assert (np.abs(means) > 1e-4).all()


@pytest.mark.parametrize("size", [(8, 8), (9, 12), (7, 7)])
def test_fact_5_a_whole_fft_is_half_of_the_mean_square_and_its_gradient(size):
    a, b = random(4, 1, *size).requires_grad_(), random(4, 1, *size, seed=1)
    spectra = np.subtract(*(np.fft.fft2(x.detach().numpy(), norm="ortho") for x in (a, b)))
    parts = np.stack([spectra.real, spectra.imag])
    values = fft(a, b, half=False), (a - b).square().mean(dim=(1, 2, 3)) / 2
    for value in values:
        np.testing.assert_allclose(value.detach().numpy(), (parts**2).mean(axis=(0, 2, 3, 4)), rtol=1e-12)
    torch.testing.assert_close(*(torch.autograd.grad(value.sum(), a)[0] for value in values), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("size", [(8, 8), (16, 4)])
def test_fact_5_all_bands_of_a_haar_transform_have_the_distance_of_the_maps(size):
    rest = difference = random(4, 1, *size) - random(4, 1, *size, seed=1)
    squares = torch.zeros(4).double()
    while min(rest.shape[2:]) > 1:
        rest, bands = haar(rest)
        squares += bands.square().sum(dim=(0, 2, 3, 4))
    expected = difference.square().sum(dim=(1, 2, 3))
    torch.testing.assert_close(squares + rest.square().sum(dim=(1, 2, 3)), expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("width", [8, 7])
def test_fact_5_half_a_spectrum_an_l1_and_a_min_max_are_no_l2_of_the_maps(width):
    """By the ratio to that L2: it would be the same for all images."""
    a, b = (activation_map(random(16, 3, 8, width, seed=seed)) for seed in (0, 1))
    square = (a - b).square().mean(dim=(1, 2))
    half = fft(a[:, None], b[:, None]) / square
    borders = 2 * (width // 2 + 1)
    assert (half > width / (2 * borders)).all() and (half < width / borders).all()
    assert abs(half.mean() - 0.5) < 0.02
    bands, spectra = wavelet(a[:, None], b[:, None]), distance("dct2", a, b)
    for ratio in (half, bands / square.sqrt(), spectra / square.sqrt()):
        assert ratio.std() > 0.005 * ratio.mean()


TABLE = {  # mean distance at 7, 14, 28 and 56 px
    "dft_signed": (2.70, 4.02, 7.07, 12.00),
    "dft_abs": (2.87, 4.33, 7.83, 13.51),
    "dct2": (2.19, 3.52, 6.58, 11.21),
}


@pytest.mark.parametrize("channels", [1, 16])
@pytest.mark.parametrize("name", TABLE)
def test_fact_6_the_first_level_dominates(name, channels):
    """Of independent standard normal features on 48 images; how many channels they have hardly counts.

    The table is met within 5 % at 28 and 56 px. Below, where images differ more, it is the mean of a few: each of
    its figures is within one image's standard deviation of the mean, and within 10 %.
    """
    means, spreads = [], []
    for side in (7, 14, 28, 56):
        student, teacher = (activation_map(random(48, channels, side, side, seed=seed).float()) for seed in (0, 1))
        result = distance(name, student, teacher)
        means.append(result.mean().item())
        spreads.append(result.std().item())
    assert means[2:] == pytest.approx(TABLE[name][2:], rel=0.05)
    assert means[:2] == pytest.approx(TABLE[name][:2], rel=0.10)
    assert all(abs(m - expected) < spread for m, expected, spread in zip(means, TABLE[name], spreads, strict=True))
    assert all(1.4 < b / a < 2 for a, b in pairwise(means))
    assert means[-1] > 0.45 * sum(means)


def naive(student: Tensor, teacher: Tensor) -> Tensor:
    """The released formula word by word, on features (B, C, H, W): nothing is done about 0 / 0 or the root of 0."""

    def onto(x: Tensor) -> Tensor:
        low, high = x.amin(dim=(1, 2), keepdim=True), x.amax(dim=(1, 2), keepdim=True)
        return (x - low) / (high - low)

    def spectrum(features: Tensor) -> Tensor:
        maps = onto(features.square().mean(dim=1))
        return onto(torch.fft.fft2(maps - maps.mean(dim=(1, 2), keepdim=True)).real)

    return (spectrum(student) - spectrum(teacher)).square().sum(dim=(1, 2)).sqrt()


@pytest.mark.parametrize("name", TRANSFORMS)
def test_fact_7_where_student_and_teacher_are_equal_the_formula_has_no_gradient_and_ours_is_zero(name):
    student, teacher = random(2, 3, 7, 7).requires_grad_(), random(2, 3, 7, 7)
    loss = naive(student, teacher)
    (gradient,) = torch.autograd.grad(loss.sum(), student)
    assert torch.equal(loss, torch.zeros(2).double())
    assert gradient.isnan().all()

    loss = distance(name, activation_map(student), activation_map(teacher))
    (gradient,) = torch.autograd.grad(loss.sum(), student)
    assert torch.equal(loss, torch.zeros(2).double())
    assert torch.equal(gradient, torch.zeros_like(gradient))


@pytest.mark.parametrize(("side", "teacher_side"), [(7, 7), (7, 14), (14, 7)])
@pytest.mark.parametrize("name", TRANSFORMS)
def test_fact_7_a_constant_map_makes_nan_of_the_formula_and_not_of_ours(name, side, teacher_side):
    features = random(2, 3, side, side)
    features[1] = 1.7
    features.requires_grad_()
    assert naive(features, random(2, 3, side, side, seed=1)).isnan().tolist() == [False, True]

    teacher = activation_map(random(2, 3, teacher_side, teacher_side, seed=1))
    loss = distance(name, *common(activation_map(features), teacher))
    (gradient,) = torch.autograd.grad(loss.sum(), features)
    assert (loss > 0.1).all()
    assert loss.isfinite().all()
    assert gradient.isfinite().all()
    assert gradient[0].abs().max() > 1e-3
    assert torch.equal(gradient[1], torch.zeros_like(gradient[1]))


def test_fact_7_a_guide_by_a_product_does_not_save_the_formula_from_nan():
    student, teacher = outputs((7,), (3,), seed=0), outputs((7,), (4,), seed=10)
    student.maps[0][5] = 0.5
    guided = batch(teacher, right=(0, 1, 2, 3, 4))
    right = teacher.logits.argmax(dim=1) == guided.labels
    assert (naive(student.maps[0], teacher.maps[0]) * right).mean().isnan()
    assert losses.create("dctkd")(student, teacher, guided).mean().isfinite()


def test_fact_8_the_dc_coefficient_lands_where_the_image_says_when_signed_and_stays_0_as_a_magnitude():
    maps = activation_map(random(16, 32, 14, 14))
    spectra = fft2(maps).real
    low, high = spectra.min(axis=(1, 2)), spectra.max(axis=(1, 2))
    signed, magnitude, true = (TRANSFORMS[name](maps)[:, 0, 0].numpy() for name in ("dft_signed", "dft_abs", "dct2"))
    np.testing.assert_allclose(magnitude, 0, atol=1e-12)
    np.testing.assert_allclose(signed, -low / (high - low), rtol=1e-10)
    for result in (signed, true):
        assert np.diff(np.sort(result)).min() > 1e-6
        assert result.std() > 0.01


def scipy_resampled(maps: Tensor, side: int) -> Tensor:
    spectra = scipy.fft.dctn(maps.numpy(), axes=(1, 2), norm="ortho")[:, :side, :side]
    scale = side / np.sqrt(maps.shape[1] * maps.shape[2])
    return torch.from_numpy(scale * scipy.fft.idctn(spectra, axes=(1, 2), norm="ortho"))


@pytest.mark.parametrize("name", TRANSFORMS)
def test_fact_9_maps_of_any_sizes_and_channels_have_a_distance_and_a_gradient(name):
    student, teacher = outputs((16, 8, 4), (3, 5, 7), seed=0), outputs((12, 8, 6), (2, 9, 4), seed=10)
    expected = torch.zeros(6)
    for s, t, side in zip(student.maps, teacher.maps, (12, 8, 4), strict=True):
        expected = expected + distance(name, *(scipy_resampled(activation_map(f.double()), side) for f in (s, t)))
    for features in student.maps:
        features.requires_grad_()
    result = losses.create("dctkd", transform=name, guided=False)(student, teacher, batch(teacher, ()))
    np.testing.assert_allclose(result.detach().numpy(), expected.numpy(), rtol=1e-4)
    for gradient in torch.autograd.grad(result.sum(), student.maps):
        assert gradient.isfinite().all()
        assert (gradient.flatten(1).abs().amax(dim=1) > 1e-4).all()


def test_a_step_of_distillation_needs_no_accelerator():
    torch.manual_seed(0)
    student, teacher = models.create("r8", 5), models.create("r8x4", 5)
    images = random(4, 3, 32, 32).float()
    with torch.no_grad():
        taught = run(teacher, images)
    loss = losses.create("dctkd")(run(student, images), taught, batch(taught, (0, 1, 2))._replace(images=images))
    loss.mean().backward()
    first = next(student.parameters()).grad
    assert first is not None
    assert first.abs().max() > 0
