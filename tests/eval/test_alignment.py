"""The metrics of alignment against independent implementations, and at their ends."""

import math

import numpy as np
import pytest
import torch
from scipy.fft import dctn
from scipy.ndimage import center_of_mass
from scipy.spatial.distance import cosine, jensenshannon
from torch import Tensor

from dctkd_zoo import discover
from dctkd_zoo.attention import minmax
from dctkd_zoo.data.batch import Batch
from dctkd_zoo.features import Output
from eval import metrics
from eval.metrics import _base
from eval.metrics._base import LevelMetric
from eval.metrics._maps import peaked, shares
from eval.metrics.iou import strongest
from eval.metrics.spectral import thirds

SIZES = ((40, 30), (14, 9), (7, 7), (2, 2), (1, 1))
BANDS = ("spectral_low", "spectral_middle", "spectral_high")
NEW = ("cosine", "jensen_shannon", "iou", "centre", *BANDS)


def level_metric(name: str) -> LevelMetric:
    (result,) = _base.load([name])
    assert isinstance(result, LevelMetric)
    return result


def compare(name: str, student: Tensor, teacher: Tensor) -> Tensor:
    return level_metric(name).compare(student, teacher)


def pair(size: tuple[int, int], images: int = 5) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(size[0])
    student, teacher = torch.randn(2, images, *size, generator=generator, dtype=torch.float64).square()
    return student, teacher


def each(function, student: Tensor, teacher: Tensor) -> np.ndarray:
    return np.array([function(a, b) for a, b in zip(student.numpy(), teacher.numpy(), strict=True)])


@pytest.mark.parametrize("size", SIZES)
def test_cosine_is_that_of_scipy(size):
    maps = pair(size)
    expected = each(lambda a, b: 1 - cosine(a.ravel(), b.ravel()), *maps)
    assert compare("cosine", *maps).numpy() == pytest.approx(expected, abs=1e-12)
    scaled = compare("cosine", maps[0].float() * 1e-25, maps[1].float() * 1e25)
    assert scaled.numpy() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("size", SIZES)
def test_jensen_shannon_is_that_of_scipy(size):
    maps = pair(size)
    expected = each(lambda a, b: jensenshannon(a.ravel(), b.ravel(), base=2) ** 2, *maps)
    assert compare("jensen_shannon", *maps).numpy() == pytest.approx(expected, abs=1e-7)
    assert compare("jensen_shannon", maps[0].float(), 1e6 * maps[1].float()).numpy() == pytest.approx(
        expected, abs=1e-5
    )


def test_jensen_shannon_of_maps_without_a_common_pixel_is_one_bit():
    left, right = torch.zeros(2, 1, 4, 4)
    left[:, :, :2], right[:, :, 2:] = torch.rand(2, 1, 4, 2)
    assert compare("jensen_shannon", left, right).item() == pytest.approx(1, abs=1e-6)
    assert compare("jensen_shannon", left, right).item() <= 1


def loop_iou(a: np.ndarray, b: np.ndarray) -> float:
    sets = [set(np.argsort(m.ravel())[::-1][: m.size // 5]) for m in (a, b)]
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1])


@pytest.mark.parametrize("size", [(40, 30), (10, 7), (5, 1)])
def test_iou_is_that_of_the_sets_of_the_strongest_pixels(size):
    maps = pair(size, images=40)
    assert compare("iou", *maps).numpy() == pytest.approx(each(loop_iou, *maps), abs=1e-6)
    assert torch.equal(compare("iou", *maps), compare("iou", maps[0] ** 3, maps[1].log()))


def test_iou_of_independent_maps_is_a_ninth():
    student, teacher = torch.rand(2, 500, 40, 40, generator=torch.Generator().manual_seed(0))
    assert compare("iou", student, teacher).mean().item() == pytest.approx(1 / 9, abs=0.003)


@pytest.mark.parametrize("size", SIZES)
def test_the_strongest_fifth_is_a_fifth_of_any_map_whatever_its_ties(size):
    maps = torch.stack([torch.rand(size), torch.zeros(size), torch.rand(size).round(), torch.rand(size).bfloat16()])
    area = strongest(maps).double().sum(dim=(1, 2))
    assert area.numpy() == pytest.approx(np.full(4, math.prod(size) / 5), rel=1e-5)


def test_equal_values_share_what_the_stronger_leave():
    maps = torch.tensor([[[3.0, 1.0, 1.0, 1.0, 0.0], [0.0, 0.0, 0.0, 0.0, 0.0]]])
    third = 1 / 3
    torch.testing.assert_close(strongest(maps), torch.tensor([[[1, third, third, third, 0], [0.0] * 5]]))
    # Where a map lies does not count, not even among ties.
    other = torch.rand(1, 2, 5)
    torch.testing.assert_close(compare("iou", maps, other), compare("iou", maps.flip(1, 2), other.flip(1, 2)))


@pytest.mark.parametrize("size", SIZES)
def test_centre_is_that_of_scipy(size):
    maps = pair(size)
    expected = each(lambda a, b: math.dist(center_of_mass(a), center_of_mass(b)) / math.hypot(*size), *maps)
    assert compare("centre", *maps).numpy() == pytest.approx(expected, abs=1e-9)
    assert compare("centre", maps[0].float(), 1e-9 * maps[1].float()).numpy() == pytest.approx(expected, abs=1e-5)


def test_centre_knows_its_distances():
    maps = torch.zeros(3, 3, 4)
    maps[0, 0, 0], maps[1, 0, 3], maps[2, 2, 3] = 1, 7, 0.1
    corner = maps[:1].expand(3, 3, 4)
    torch.testing.assert_close(compare("centre", corner, maps), torch.tensor([0, 3, math.sqrt(13)]) / 5)
    even = torch.ones(3, 3, 4)
    torch.testing.assert_close(compare("centre", even, maps), torch.full((3,), math.sqrt(1 + 1.5**2) / 5))


def in_band(student: np.ndarray, teacher: np.ndarray, band: int) -> float:
    """Loops over the coefficients of scipy's DCT-II of mean-free maps on [0, 1]."""
    spectra = []
    for m in (student, teacher):
        unit = (m - m.min()) / np.ptp(m)
        spectra.append(dctn(unit - unit.mean(), norm="ortho"))
    height, width = student.shape
    total = 0.0
    for u in range(height):
        for v in range(width):
            index = max(u * (width - 1), v * (height - 1))  # of (height - 1) (width - 1)
            if min(3 * index // ((height - 1) * (width - 1)), 2) == band:
                total += (spectra[0][u, v] - spectra[1][u, v]) ** 2
    return math.sqrt(total)


@pytest.mark.parametrize("size", [(40, 30), (14, 9), (10, 10), (7, 7), (3, 4), (2, 2)])
def test_each_band_is_that_of_scipy(size):
    maps = pair(size)
    for band, name in enumerate(BANDS):
        expected = each(lambda a, b, band=band: in_band(a, b, band), *maps)
        assert compare(name, *maps).numpy() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("size", [*SIZES, (1, 8), (56, 56)])
def test_the_squares_of_the_bands_add_up_to_that_of_the_distance_of_the_mean_free_maps(size):
    student, teacher = (maps.float() for maps in pair(size))
    total = sum(compare(name, student, teacher).square() for name in BANDS)
    free = [unit - unit.mean(dim=(1, 2), keepdim=True) for unit in (minmax(student), minmax(teacher))]
    torch.testing.assert_close(total, (free[0] - free[1]).square().sum((1, 2)), rtol=1e-5, atol=1e-7)


def test_the_frequencies_are_cut_at_thirds():
    assert thirds(10).tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2, 2]
    assert thirds(7).tolist() == [0, 0, 1, 1, 2, 2, 2]
    assert thirds(2).tolist() == [0, 2]
    assert thirds(1).tolist() == [0]


def flat(size: tuple[int, int], value: float) -> Tensor:
    return torch.full((5, *size), value)


LEVEL_METRICS = tuple(
    name for name in discover.modules(metrics.__name__) if isinstance(_base.load([name])[0], LevelMetric)
)


@pytest.mark.parametrize("name", LEVEL_METRICS)
@pytest.mark.parametrize("size", SIZES)
def test_constant_maps_of_any_size_have_finite_scores(name, size):
    maps = pair(size)[0].float()
    for value in (0.0, 0.1, 1e-30):
        for sides in ((flat(size, value), maps), (maps, flat(size, value)), (flat(size, value), flat(size, 0.3))):
            result = compare(name, *sides)
            assert result.shape == (5,) and result.isfinite().all()


@pytest.mark.parametrize("name", NEW)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("value", [0.1, 0.3])
def test_constant_maps_are_alike(name, size, value):
    best = torch.full((5,), level_metric(name).best)
    torch.testing.assert_close(compare(name, flat(size, value), flat(size, value)), best, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", NEW)
@pytest.mark.parametrize("size", SIZES)
def test_equal_maps_have_the_best_score_and_no_order_counts(name, size):
    student, teacher = (maps.float() for maps in pair(size))
    best = torch.full((5,), level_metric(name).best)
    torch.testing.assert_close(compare(name, student, student), best, rtol=0, atol=1e-6)
    torch.testing.assert_close(compare(name, student, teacher), compare(name, teacher, student))
    assert (compare(name, student, teacher) >= 0).all()


@pytest.mark.parametrize("name", NEW)
def test_half_types_are_widened(name):
    student, teacher = (maps.bfloat16() for maps in pair((14, 9)))
    result = compare(name, student, teacher)
    assert result.dtype == torch.float32
    torch.testing.assert_close(result, compare(name, student.float(), teacher.float()))


@pytest.mark.parametrize("name", LEVEL_METRICS)
def test_features_of_half_types_have_scores_in_float32(name):
    maps = [torch.rand(3, 4, 9, 9).bfloat16() for _ in range(2)]
    student, teacher = (Output(torch.zeros(3, 2), (m, m[..., :5, :5]), torch.zeros(3, 4)) for m in maps)
    result = level_metric(name)(student, teacher, Batch(torch.zeros(3, 3, 1, 1), torch.zeros(3), torch.arange(3)))
    assert result.dtype == torch.float32 and result.shape == (3, 2) and result.isfinite().all()


def test_a_maps_shares_add_up_to_one_and_what_is_below_zero_has_none():
    maps = torch.tensor([[[1.0, 3.0], [0.0, -2.0]], [[0.0, 0.0], [0.0, 0.0]], [[-1.0, -1.0], [-1.0, -1.0]]])
    expected = torch.tensor([[[0.25, 0.75], [0, 0]], [[0.25] * 2] * 2, [[0.25] * 2] * 2])
    torch.testing.assert_close(shares(maps), expected)
    torch.testing.assert_close(shares(1e30 * maps), expected)
    torch.testing.assert_close(shares(1e-30 * maps), expected)
    assert shares(maps[:0]).shape == (0, 2, 2)


def test_a_map_of_zeros_has_no_peak():
    assert torch.equal(peaked(torch.zeros(2, 3, 3)), torch.zeros(2, 3, 3))
    assert peaked(torch.tensor([[[1.0, -4.0]]])).tolist() == [[[0.25, -1.0]]]
