"""Which maps of two networks are compared, at which size, and what DCTKD's options make of that."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.fft
import torch
from torch import Tensor
from torch.nn import functional as F

from dctkd_zoo import losses
from dctkd_zoo.attention import activation_map
from dctkd_zoo.data.batch import Batch
from dctkd_zoo.features import Output
from dctkd_zoo.levels import feature_pairs, map_pairs, pooled
from dctkd_zoo.losses import Term
from dctkd_zoo.spectrum import TRANSFORMS

FOUR = ((16, 12), (8, 6), (4, 4), (3, 2))
THREE = ((9, 9), (5, 3), (2, 3))
BATCH = Batch(torch.zeros(3, 3, 8, 8), torch.zeros(3, dtype=torch.long), torch.arange(3))


def output(sizes: tuple[tuple[int, int], ...], seed: int) -> Output:
    generator = torch.Generator().manual_seed(seed)
    maps = tuple(torch.randn(3, level + 2, *size, generator=generator) for level, size in enumerate(sizes))
    return Output(torch.randn(3, 5, generator=generator), maps, maps[-1].mean(dim=(2, 3)))


def unguided(**options: object) -> Term:
    return losses.create("dctkd", guided=False, **options)


def single(side: Output, level: int) -> Output:
    return side._replace(maps=(side.maps[level],))


def test_levels_are_paired_from_the_deepest_on():
    deep, flat = output(FOUR, 0), output(THREE, 1)
    for pairs, (first, second) in (
        (feature_pairs(deep, flat), (deep.maps[1:], flat.maps)),
        (feature_pairs(flat, deep), (flat.maps, deep.maps[1:])),
        (feature_pairs(deep, deep), (deep.maps, deep.maps)),
    ):
        assert len(pairs) == len(first)
        for (s, t), student, teacher in zip(pairs, first, second, strict=True):
            assert s is student
            assert t is teacher


@pytest.mark.parametrize(("one", "other", "size"), [((8, 6), (5, 9), (5, 6)), ((7, 7), (3, 2), (3, 2))])
def test_features_of_other_sizes_are_averaged_to_the_smaller_one(one, other, size):
    a, b = torch.rand(2, 3, *one), torch.rand(2, 4, *other)
    student, teacher = pooled(a, b)
    assert student.shape == (2, 3, *size)
    assert teacher.shape == (2, 4, *size)
    torch.testing.assert_close(student, averaged(a, size))
    torch.testing.assert_close(teacher, averaged(b, size))
    swapped = pooled(b, a)
    assert torch.equal(swapped[0], teacher)
    assert torch.equal(swapped[1], student)


def averaged(features: Tensor, size: tuple[int, int]) -> Tensor:
    """Cell i of n along an axis of length m is the mean of floor(i m / n) up to ceil((i + 1) m / n)."""
    height, width = features.shape[2:]
    rows = [slice(i * height // size[0], -(-(i + 1) * height // size[0])) for i in range(size[0])]
    columns = [slice(i * width // size[1], -(-(i + 1) * width // size[1])) for i in range(size[1])]
    return torch.stack([torch.stack([features[..., r, c].mean(dim=(2, 3)) for c in columns], -1) for r in rows], -2)


def test_features_of_one_size_are_left_as_they_are():
    a, b = torch.rand(2, 3, 5, 6), torch.rand(2, 4, 5, 6)
    student, teacher = pooled(a, b)
    assert student is a
    assert teacher is b


@pytest.mark.parametrize(
    ("keep", "sizes"),
    [(None, ((8, 6), (4, 3), (2, 2))), (4, ((4, 4), (4, 3), (2, 2))), (99, ((8, 6), (4, 3), (2, 2)))],
)
def test_activation_maps_of_a_level_meet_at_one_size_and_at_most_at_keep(keep, sizes):
    student, teacher = output(FOUR, 0), output(THREE, 1)
    pairs = map_pairs(student, teacher, keep)
    assert [tuple(s.shape) for s, _ in pairs] == [tuple(t.shape) for _, t in pairs] == [(3, *size) for size in sizes]
    for pair, *features in zip(pairs, student.maps[1:], teacher.maps, strict=True):
        for result, given in zip(pair, features, strict=True):
            np.testing.assert_allclose(result.numpy(), resampled(given, *result.shape[1:]), atol=1e-5)


def resampled(features: Tensor, height: int, width: int) -> np.ndarray:
    maps = (features.double() ** 2).mean(dim=1).numpy()
    corner = scipy.fft.dctn(maps, axes=(1, 2), norm="ortho")[:, :height, :width]
    scale = np.sqrt(height * width / (maps.shape[1] * maps.shape[2]))
    return np.asarray(scale * scipy.fft.idctn(corner, axes=(1, 2), norm="ortho"))


def test_maps_of_one_size_are_the_activation_maps_as_they_are():
    student, teacher = output(FOUR, 0), output(FOUR, 1)
    for (s, t), ours, theirs in zip(map_pairs(student, teacher), student.maps, teacher.maps, strict=True):
        assert torch.equal(s, activation_map(ours))
        assert torch.equal(t, activation_map(theirs))


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_level_weights_scale_the_distance_of_each_level(transform):
    student, teacher = output(FOUR, 0), output(THREE, 1)
    term = unguided(transform=transform)
    alone = [term(single(student, level), single(teacher, level), BATCH) for level in (-3, -2, -1)]
    weights = (0.25, 0.0, 3.0)
    result = unguided(transform=transform, level_weights=weights)(student, teacher, BATCH)
    torch.testing.assert_close(result, 0.25 * alone[0] + 3 * alone[2])
    torch.testing.assert_close(term(student, teacher, BATCH), alone[0] + alone[1] + alone[2])
    assert all((distance > 0.1).all() for distance in alone)


@pytest.mark.parametrize("weights", [(1.0,), (1.0, 1.0, 1.0, 1.0), ()])
def test_level_weights_for_another_number_of_levels_are_refused(weights):
    term = unguided(level_weights=weights)
    with pytest.raises(ValueError, match=rf"{len(weights)} level_weights for the 3 levels"):
        term(output(FOUR, 0), output(THREE, 1), BATCH)


@pytest.mark.parametrize("keep", [2, 3, 5])
def test_keep_compares_the_lowest_frequencies_alone(keep):
    """Of the true DCT-II: the corner of scipy's spectra, each brought onto [0, 1]."""
    student, teacher = output(((9, 7), (6, 6)), 0), output(((9, 7), (6, 6)), 1)
    expected = np.zeros(3)
    for pair in zip(student.maps, teacher.maps, strict=True):
        spectra = []
        for features in pair:
            maps = (features.double() ** 2).mean(dim=1).numpy()
            free = maps - maps.mean(axis=(1, 2), keepdims=True)
            corner = scipy.fft.dctn(free, axes=(1, 2), norm="ortho")[:, :keep, :keep]
            low, high = corner.min(axis=(1, 2), keepdims=True), corner.max(axis=(1, 2), keepdims=True)
            spectra.append((corner - low) / (high - low))
        expected += np.linalg.norm(spectra[0] - spectra[1], axis=(1, 2))
    np.testing.assert_allclose(unguided(keep=keep)(student, teacher, BATCH).numpy(), expected, rtol=1e-4)
    assert (expected < 0.9 * unguided()(student, teacher, BATCH).numpy()).all()


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_a_keep_beyond_all_maps_changes_nothing(transform):
    student, teacher = output(FOUR, 0), output(THREE, 1)
    expected = unguided(transform=transform)(student, teacher, BATCH)
    assert torch.equal(unguided(transform=transform, keep=16)(student, teacher, BATCH), expected)
    assert not torch.allclose(unguided(transform=transform, keep=5)(student, teacher, BATCH), expected)


@pytest.mark.parametrize("keep", [1, 0, -3])
def test_a_keep_that_leaves_the_mean_alone_is_refused(keep):
    with pytest.raises(ValueError, match=rf"keep {keep} leaves only the mean"):
        losses.create("dctkd", keep=keep)


def test_at_and_dctkd_pair_levels_and_sizes_alike():
    """Attention transfer by its formula on maps that were resampled beforehand."""
    student, teacher = output(FOUR, 0), output(THREE, 1)
    expected = torch.zeros(3, dtype=torch.float64)
    for s, t in zip(student.maps[1:], teacher.maps, strict=True):
        size = (min(s.shape[2], t.shape[2]), min(s.shape[3], t.shape[3]))
        a, b = (F.normalize(torch.from_numpy(resampled(f, *size)).flatten(1), dim=1) for f in (s, t))
        expected += (a - b).square().mean(dim=1)
    torch.testing.assert_close(losses.create("at")(student, teacher, BATCH), expected.float())


def guided(reduction: str, right: tuple[int, ...]) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Loss per image, of which the teacher gets these right; the same unguided; the gradients of the former's mean."""
    student, teacher = output(FOUR, 0), output(FOUR, 1)
    guesses = teacher.logits.argmax(dim=1)
    labels = torch.stack([guess if i in right else (guess + 1) % 5 for i, guess in enumerate(guesses)])
    for features in student.maps:
        features.requires_grad_()
    loss = losses.create("dctkd", reduction=reduction)(student, teacher, BATCH._replace(labels=labels))
    plain = unguided(reduction=reduction)(student, teacher, BATCH).detach()
    return loss, plain, list(torch.autograd.grad(loss.mean(), student.maps))


@pytest.mark.parametrize("right", [(0, 2), (1,), (0, 1, 2)])
@pytest.mark.parametrize("reduction", ["batch", "correct"])
def test_the_guided_mean_is_one_over_the_whole_batch_or_over_what_the_teacher_gets_right(reduction, right):
    loss, plain, gradients = guided(reduction, right)
    count = len(right) if reduction == "correct" else 3
    torch.testing.assert_close(loss.mean(), plain[list(right)].sum() / count)
    for gradient in gradients:
        assert (gradient.flatten(1).abs().amax(dim=1) > 0).tolist() == [i in right for i in range(3)]


@pytest.mark.parametrize("reduction", ["batch", "correct"])
def test_a_batch_that_the_teacher_gets_wrong_throughout_teaches_nothing(reduction):
    loss, plain, gradients = guided(reduction, ())
    assert torch.equal(loss, torch.zeros(3))
    assert all(torch.equal(g, torch.zeros_like(g)) for g in gradients)
    assert (plain > 0).all()


def test_a_mean_over_the_batch_is_the_default_and_without_a_guide_there_is_no_other():
    student, teacher = output(FOUR, 0), output(FOUR, 1)
    labelled = BATCH._replace(labels=teacher.logits.argmax(dim=1) + torch.tensor([0, 0, 1]))
    values = {
        (reduction, guide): losses.create("dctkd", reduction=reduction, guided=guide)(student, teacher, labelled)
        for reduction in ("batch", "correct")
        for guide in (True, False)
    }
    assert torch.equal(losses.create("dctkd")(student, teacher, labelled), values["batch", True])
    torch.testing.assert_close(values["correct", True], 1.5 * values["batch", True])
    assert torch.equal(values["correct", False], values["batch", False])


def test_an_unknown_reduction_is_refused():
    with pytest.raises(ValueError, match=r"reduction 'mean' is not one of \['batch', 'correct'\]"):
        losses.create("dctkd", reduction="mean")
