"""The metrics of alignment against independent implementations, and at their ends."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from dctkd_zoo import discover
from dctkd_zoo.data.batch import Batch
from dctkd_zoo.features import Output
from eval import metrics
from eval.metrics import _base
from eval.metrics._base import LevelMetric
from eval.metrics.iou import strongest

SIZES = ((40, 30), (14, 9), (7, 7), (2, 2), (1, 1))


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


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("value", [0.1, 0.3])
def test_constant_maps_have_the_best_iou(size, value):
    result = compare("iou", flat(size, value), flat(size, value))
    torch.testing.assert_close(result, torch.ones(5), rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", LEVEL_METRICS)
@pytest.mark.parametrize("size", SIZES[:3])
def test_equal_maps_have_the_best_score_and_no_order_counts(name, size):
    student, teacher = (maps.float() for maps in pair(size))
    best = torch.full((5,), level_metric(name).best)
    torch.testing.assert_close(compare(name, student, student), best, rtol=0, atol=1e-5)
    torch.testing.assert_close(compare(name, student, teacher), compare(name, teacher, student))


def test_iou_of_half_types_is_float32():
    student, teacher = (maps.bfloat16() for maps in pair((14, 9)))
    result = compare("iou", student, teacher)
    assert result.dtype == torch.float32
    torch.testing.assert_close(result, compare("iou", student.float(), teacher.float()))


@pytest.mark.parametrize("name", sorted({*LEVEL_METRICS} - {"class_map"}))
def test_features_of_half_types_have_scores_in_float32(name):
    maps = [torch.rand(3, 4, 9, 9).bfloat16() for _ in range(2)]
    student, teacher = (Output(torch.zeros(3, 2), (m, m[..., :5, :5]), torch.zeros(3, 4)) for m in maps)
    result = level_metric(name)(student, teacher, Batch(torch.zeros(3, 3, 1, 1), torch.zeros(3), torch.arange(3)))
    assert result.dtype == torch.float32 and result.shape == (3, 2) and result.isfinite().all()


def class_sides(seed: int, sizes: tuple[tuple[int, int], ...]) -> list[Output]:
    """Outputs with class maps of given sizes, for 4 images of 3 classes."""
    generator = torch.Generator().manual_seed(seed)
    drawn = [(torch.randn(4, 3, generator=generator), torch.randn(4, 3, *size, generator=generator)) for size in sizes]
    return [Output(logits, (), logits, class_maps=maps) for logits, maps in drawn]


@pytest.mark.parametrize("seed", range(3))
def test_class_maps_are_compared_where_they_favour_the_teachers_class(seed):
    student, teacher = class_sides(seed, ((5, 4), (5, 4)))
    batch = Batch(torch.zeros(4, 3, 1, 1), torch.zeros(4), torch.arange(4))
    assert student.class_maps is not None and teacher.class_maps is not None
    result = level_metric("class_map")(student, teacher, batch)
    expected = []
    for image, first in enumerate(teacher.logits.argmax(dim=1).tolist()):
        a, b = (np.clip(m[image, first].numpy().ravel(), 0, None) for m in (student.class_maps, teacher.class_maps))
        expected.append(a @ b / math.sqrt((a @ a) * (b @ b)))
    assert result.shape == (4, 1)
    assert result[:, 0].numpy() == pytest.approx(expected, abs=1e-6)
    scaled = student._replace(class_maps=100 * student.class_maps)
    torch.testing.assert_close(level_metric("class_map")(scaled, teacher, batch), result)
    torch.testing.assert_close(level_metric("class_map")(teacher, teacher, batch), torch.ones(4, 1))
    against = student._replace(class_maps=-student.class_maps.abs())
    assert not level_metric("class_map")(against, teacher, batch).any()
