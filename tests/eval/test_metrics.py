"""Metrics against independent implementations, golden figures and answers known beforehand."""

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from scipy.fft import dctn, idctn
from scipy.ndimage import correlate1d
from scipy.special import softmax
from scipy.stats import entropy, pearsonr
from torch import Tensor
from torchmetrics.functional.classification import multiclass_accuracy
from torchmetrics.functional.image import structural_similarity_index_measure

from dctkd_zoo import discover, losses
from dctkd_zoo.data.batch import Batch
from dctkd_zoo.features import Output
from eval import metrics
from eval.metrics import _base
from eval.metrics._base import ImageMetric, LevelMetric, Metric, TableMetric
from eval.stats import intervals
from eval.stats.bootstrap import wilson

SIZES = ((32, 32), (14, 9), (7, 7), (4, 4))


def output(
    seed: int, images: int = 6, classes: int = 11, channels: int = 5, sizes: tuple[tuple[int, int], ...] = SIZES
) -> Output:
    generator = torch.Generator().manual_seed(seed)
    maps = tuple(torch.rand(images, channels, *size, generator=generator) for size in sizes)
    return Output(torch.randn(images, classes, generator=generator), maps, torch.rand(images, 3, generator=generator))


def batch(seed: int = 9, images: int = 6, classes: int = 11) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes, (images,), generator=generator)
    return Batch(torch.zeros(images, 3, 1, 1), labels, torch.arange(images))


def one(name: str) -> Metric:
    (result,) = _base.load([name])
    return result


def reads_activations(metric: Metric) -> bool:
    """Whether it compares the activation maps of each level, as all do but that of class maps."""
    return isinstance(metric, LevelMetric) and not metric.needs_class_maps


LEVEL_METRICS = tuple(name for name in discover.modules(metrics.__name__) if reads_activations(one(name)))


def image_metric(name: str) -> ImageMetric:
    result = one(name)
    assert isinstance(result, ImageMetric)
    return result


def level_metric(name: str) -> LevelMetric:
    result = one(name)
    assert isinstance(result, LevelMetric)
    return result


def compare(name: str, student: Tensor, teacher: Tensor) -> Tensor:
    """A level metric on two maps (B, H, W)."""
    return level_metric(name).compare(student, teacher)


def unit(maps: Tensor) -> Tensor:
    low, high = maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)
    return (maps - low) / (high - low)


@pytest.mark.parametrize("name", discover.modules(metrics.__name__))
def test_a_metric_is_called_as_its_file(name):
    assert one(name).name == name


def test_a_misspelt_metric_is_told_the_close_name():
    with pytest.raises(ValueError, match="'pearson'"):
        _base.load(["pearsn"])


@pytest.mark.parametrize(("name", "k"), [("top1", 1), ("top5", 5)])
def test_top_k_is_that_of_torchmetrics(name, k):
    student, labelled = output(0, images=400), batch(images=400)
    expected = multiclass_accuracy(student.logits, labelled.labels, num_classes=11, top_k=k, average="micro")
    result = image_metric(name)(student, student, labelled)
    assert result.shape == (400,)
    assert result.mean().item() == pytest.approx(100 * expected.item(), rel=1e-6)


def test_top_5_of_three_classes_is_always_right():
    student = output(0, classes=3)
    assert image_metric("top5")(student, student, batch(classes=3)).tolist() == [100.0] * 6


def test_nll_is_the_cross_entropy_of_training():
    student, labelled = output(0), batch()
    assert torch.equal(image_metric("nll")(student, student, labelled), losses.create("ce")(student, student, labelled))


def test_agreement_counts_equal_guesses_right_or_wrong():
    student, teacher = output(0), output(1)
    teacher.logits[:2] = student.logits[:2] * 3
    teacher.logits[2:] = -student.logits[2:]
    assert image_metric("agreement")(student, teacher, batch()).tolist() == [100, 100, 0, 0, 0, 0]


def test_agreement_in_top_5_is_top_5_with_the_teachers_classes_as_labels():
    student, teacher = output(0, images=400), output(1, images=400)
    labels = batch(images=400)._replace(labels=teacher.logits.argmax(dim=1))
    result = image_metric("agreement5")(student, teacher, batch(images=400))
    assert torch.equal(result, image_metric("top5")(student, student, labels)) and set(result.tolist()) == {0, 100}
    few = output(0, classes=5), output(1, classes=5)
    assert image_metric("agreement5")(*few, batch(classes=5)).tolist() == [100.0] * 6


def test_kl_is_that_of_scipy_whatever_the_precision_and_the_scale():
    student, teacher = output(0, images=50), output(1, images=50)
    for scale in (1.0, 20.0):  # at 20 many probabilities are 0 in float32
        a, b = (side._replace(logits=scale * side.logits) for side in (student, teacher))
        ours, theirs = (softmax(side.logits.double().numpy(), axis=1) for side in (a, b))
        expected = entropy(theirs, ours, axis=1)
        result = image_metric("kl")(a, b, batch(images=50))
        assert result.dtype == torch.float32 and result.numpy() == pytest.approx(expected, rel=1e-4, abs=1e-6)
    a, b = (output(0)._replace(logits=1e4 * torch.eye(6, 11).roll(shift, dims=1)) for shift in (0, 1))
    assert image_metric("kl")(a, b, batch()).tolist() == [1e4] * 6
    shifted = student._replace(logits=student.logits + 100)
    result = image_metric("kl")(shifted, student, batch(images=50))
    assert (result >= 0).all() and result.max() < 1e-4
    half = student._replace(logits=student.logits.half())
    assert image_metric("kl")(half, half, batch(images=50)).tolist() == [0.0] * 50


def test_shared_mistakes_are_counted_among_those_of_the_teacher():
    metric = one("agreement_wrong")
    assert isinstance(metric, TableMetric)
    table = pd.DataFrame(
        {"label": [0, 0, 1, 1, 2, 2], "teacher_prediction": [0, 1, 0, 2, 2, 1], "prediction": [1, 1, 0, 1, 0, 2]}
    )  # the teacher is wrong on the second, third, fourth and last image, the student with it on the first two of these
    assert metric.fits(table) and metric.reduce(table, 3) == 50
    assert not metric.fits(table.drop(columns="teacher_prediction"))
    assert np.isnan(metric.reduce(table.assign(teacher_prediction=table["label"]), 3))
    many = pd.concat([table] * 100_000)  # sums of float32 would be off by then
    assert metric.reduce(many.astype({"label": np.float32}), 3) == 50


def test_shared_mistakes_have_an_interval_of_the_mistakes_alone():
    """Wilson's, as fewer than five of the 20 are shared, whatever the other 980 images are."""
    label = np.zeros(1000, int)
    teacher = np.where(np.arange(1000) < 20, 1, 0)
    table = pd.DataFrame({"id": np.arange(1000), "label": label, "teacher_prediction": teacher, "confidence": 0.5})
    table["prediction"] = np.where(np.arange(1000) < 3, 1, 0)
    ends = intervals.intervals(table, count=50)["agreement_wrong"]
    assert ends == pytest.approx(tuple(100 * end for end in wilson(3 / 20, 20)))
    none = intervals.intervals(table.assign(teacher_prediction=0), count=50)["agreement_wrong"]
    assert np.isnan(none).all()
    assert "agreement_wrong" not in intervals.intervals(table.drop(columns="teacher_prediction"), count=50)


@pytest.mark.parametrize(("name", "of"), [("mca", 3), ("mca_all", 5)])
def test_mean_class_accuracy_against_bincount(name, of):
    labels, predictions = np.array([0, 0, 0, 2, 2, 4]), np.array([0, 0, 1, 2, 0, 3])
    share = np.bincount(labels[labels == predictions], minlength=5) / np.maximum(np.bincount(labels, minlength=5), 1)
    result = one(name)
    assert isinstance(result, TableMetric)
    reduced = result.reduce(pd.DataFrame({"label": labels, "prediction": predictions}), 5)
    assert reduced == pytest.approx(100 * share.sum() / of)


@pytest.mark.parametrize("size", SIZES)
def test_pearson_is_that_of_scipy(size):
    student, teacher = torch.rand(5, *size) * 1e4 + 1e6, torch.rand(5, *size) * 1e-4
    expected = [pearsonr(a, b).statistic for a, b in zip(student.flatten(1), teacher.flatten(1), strict=True)]
    assert compare("pearson", student.double(), teacher.double()).numpy() == pytest.approx(np.array(expected), abs=1e-6)
    assert compare("pearson", student, teacher).numpy() == pytest.approx(np.array(expected), abs=1e-3)


@pytest.mark.parametrize("case", ["square", "ragged"])
def test_zero_padded_ssim_is_the_released_one(shared, case):
    golden = load_file(shared / "golden" / f"{case}.safetensors")
    for level in range(sum(name.startswith("ssim.level.") for name in golden)):
        maps = (golden[f"{who}_features.{level}"].square().mean(dim=1) for who in ("student", "teacher"))
        result = compare("ssim_zeropad", *maps)
        torch.testing.assert_close(result, golden[f"ssim.level.{level}"], rtol=1e-5, atol=1e-5)


def scipy_ssim(a: np.ndarray, b: np.ndarray) -> float:
    """SSIM over the places where the window, 11 px or the map's size, lies within the map."""

    def mean(image: np.ndarray) -> np.ndarray:
        for axis, size in enumerate(image.shape):
            side = min(11, size)
            weights = np.exp(-((np.arange(side) - (side - 1) / 2) ** 2) / (2 * 1.5**2))
            image = correlate1d(image, weights / weights.sum(), axis=axis)
            places = range(side // 2, side // 2 + size - side + 1)
            image = image.take(places, axis=axis)
        return image

    mean_a, mean_b = mean(a), mean(b)
    var_a, var_b, cov = mean(a * a) - mean_a**2, mean(b * b) - mean_b**2, mean(a * b) - mean_a * mean_b
    score = (2 * mean_a * mean_b + 1e-4) * (2 * cov + 9e-4)
    return float((score / ((mean_a**2 + mean_b**2 + 1e-4) * (var_a + var_b + 9e-4))).mean())


@pytest.mark.parametrize("size", [*SIZES, (8, 8)])
def test_ssim_is_that_of_scipy_inside_the_map(size):
    student, teacher = torch.rand(4, *size).double(), torch.rand(4, *size).double()
    expected = [scipy_ssim(a.numpy(), b.numpy()) for a, b in zip(unit(student), unit(teacher), strict=True)]
    assert compare("ssim", student, teacher).numpy() == pytest.approx(np.array(expected), abs=1e-9)


def test_ssim_is_that_of_torchmetrics():
    student, teacher = torch.rand(4, 40, 32), torch.rand(4, 40, 32)
    pair = unit(student)[:, None], unit(teacher)[:, None]
    full = structural_similarity_index_measure(*pair, sigma=1.5, data_range=1.0, return_full_image=True)
    inside = full[1][:, 0, 5:-5, 5:-5]  # it reflects the map beyond its border
    torch.testing.assert_close(compare("ssim", student, teacher), inside.mean((1, 2)), rtol=0, atol=1e-5)


def test_independent_maps_agree_by_their_border_alone_when_it_is_padded():
    torch.manual_seed(0)
    padded, valid = {}, {}
    for side in (56, 7):
        student, teacher = torch.rand(500, side, side), torch.rand(500, side, side)
        padded[side], valid[side] = (compare(n, student, teacher).mean() for n in ("ssim_zeropad", "ssim"))
    assert padded[56] == pytest.approx(0.07, abs=0.01)  # docs/method.md, D-10
    assert padded[7] > 0.4
    assert max(valid.values()) < 0.03


@pytest.mark.parametrize("name", LEVEL_METRICS)
def test_a_network_compared_with_itself_has_the_best_score_at_each_level(name):
    student, chosen = output(0), level_metric(name)
    result = chosen(student, student, batch())
    torch.testing.assert_close(result, torch.full((6, 4), chosen.best), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", LEVEL_METRICS)
def test_another_network_has_a_worse_score_at_each_level(name):
    chosen = level_metric(name)
    result = chosen(output(0, sizes=(*SIZES[:3], (7, 5))), output(1, sizes=(*SIZES[:3], (7, 5))), batch())
    assert ((result - chosen.best).abs() > 1e-3).all()
    assert (result < chosen.best).all() or (result > chosen.best).all()


@pytest.mark.parametrize("name", LEVEL_METRICS)
def test_the_scale_of_the_features_does_not_count(name):
    student, teacher = output(0), output(1)
    scaled = student._replace(maps=tuple(100 * m for m in student.maps))
    a, b = (image_metric(name)(s, teacher, batch()) for s in (student, scaled))
    torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", LEVEL_METRICS)
@pytest.mark.parametrize("value", [0.0, 0.3])
def test_constant_maps_have_finite_scores(name, value):
    flat = output(0)._replace(maps=tuple(torch.full((6, 2, *size), value) for size in SIZES))
    for student, teacher in ((flat, flat), (flat, output(1)), (output(1), flat)):
        assert image_metric(name)(student, teacher, batch()).isfinite().all()


OTHER_SIZES = ((16, 40), (14, 12), (9, 7), (2, 3))
COMMON = ((16, 32), (14, 9), (7, 7), (2, 3))


def resampled(features: Tensor, height: int, width: int) -> Tensor:
    """The activation map of features (B, C, H, W), cut down to its lowest frequencies by scipy."""
    maps = (features.double().numpy() ** 2).mean(axis=1)
    corner = dctn(maps, axes=(1, 2), norm="ortho")[:, :height, :width]
    scale = np.sqrt(height * width / (maps.shape[1] * maps.shape[2]))
    return torch.from_numpy(scale * idctn(corner, axes=(1, 2), norm="ortho"))


@pytest.mark.parametrize("name", LEVEL_METRICS)
def test_maps_of_other_sizes_score_as_they_do_once_they_are_resampled(name):
    student, teacher = output(0), output(1, sizes=OTHER_SIZES, channels=3)
    result = image_metric(name)(student, teacher, batch())
    assert result.shape == (6, 4)
    assert result.isfinite().all()
    for level, size in enumerate(COMMON):
        expected = compare(name, *(resampled(side.maps[level], *size) for side in (student, teacher)))
        assert result[:, level].numpy() == pytest.approx(expected.numpy(), abs=1e-4)


@pytest.mark.parametrize("name", LEVEL_METRICS)
def test_one_map_at_two_sizes_has_the_best_score(name):
    """Of low frequencies alone, so that the smaller size loses nothing."""
    amplitudes = np.random.default_rng(0).normal(size=(6, 4, 4))
    sides = []
    for sizes in (SIZES, ((9, 8), (28, 28), (5, 6), (14, 4))):
        levels = []
        for size in sizes:
            rows, columns = (np.cos(np.pi * np.outer(np.arange(4), (np.arange(n) + 0.5) / n)) for n in size)
            maps = torch.from_numpy(np.einsum("buv,uh,vw->bhw", amplitudes, rows, columns))
            levels.append((maps + 30).sqrt()[:, None].float())
        sides.append(output(0)._replace(maps=tuple(levels)))
    chosen = level_metric(name)
    result = chosen(sides[0], sides[1], batch())
    torch.testing.assert_close(result, torch.full((6, 4), chosen.best), rtol=0, atol=2e-4)


@pytest.mark.parametrize("name", LEVEL_METRICS)
def test_of_networks_with_more_levels_than_the_other_the_deepest_are_compared(name):
    student, teacher = output(0), output(1)
    expected = image_metric(name)(student, teacher, batch())[:, 1:]
    fewer = teacher._replace(maps=teacher.maps[1:])
    assert torch.equal(image_metric(name)(student, fewer, batch()), expected)


@pytest.mark.parametrize("value", [0.1, 0.3])
def test_a_constant_map_correlates_with_nothing_at_any_size(value):
    flat = output(0)._replace(maps=tuple(torch.full((6, 2, *size), value) for size in SIZES))
    result = image_metric("pearson")(flat, output(1, sizes=OTHER_SIZES), batch())
    assert torch.equal(result, torch.zeros(6, 4))
