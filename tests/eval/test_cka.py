"""Linear CKA, taken batch by batch, against its definition by Gram matrices and against its properties."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from eval.metrics._cka import LinearCKA


def cka(x: Tensor, y: Tensor, batch_size: int = 16) -> float:
    accumulator = LinearCKA()
    for a, b in zip(x.split(batch_size), y.split(batch_size), strict=True):
        accumulator.update(a, b)
    return accumulator.value()


def by_gram_matrices(x: Tensor, y: Tensor) -> float:
    """HSIC(K, L) / sqrt(HSIC(K, K) HSIC(L, L)) of the linear kernels, centred on both sides."""
    centring = np.eye(len(x)) - 1 / len(x)
    k, m = (centring @ (f.double().numpy() @ f.double().numpy().T) @ centring for f in (x, y))
    return float(np.trace(k @ m) / math.sqrt(np.trace(k @ k) * np.trace(m @ m)))


def features(seed: int, images: int = 100, width: int = 12) -> Tensor:
    return torch.randn(images, width, generator=torch.Generator().manual_seed(seed)).double()


def related(images: int = 100) -> tuple[Tensor, Tensor]:
    x = features(0, images)
    return x, torch.cat([x[:, :4] @ features(1, 4, 5), features(2, images, 3)], dim=1).relu()


def rotation(width: int) -> Tensor:
    orthogonal: Tensor = torch.linalg.qr(features(7, width, width)).Q
    return orthogonal


@pytest.mark.parametrize("images", [2, 3, 10, 100])
def test_it_is_that_of_the_gram_matrices(images):
    x, y = related(images)
    assert cka(x, y) == pytest.approx(by_gram_matrices(x, y), abs=1e-12)
    assert cka(features(3, images), y) == pytest.approx(by_gram_matrices(features(3, images), y), abs=1e-12)


@pytest.mark.parametrize("offset", [1e3, -1e6])
def test_a_large_common_mean_costs_no_digits(offset):
    x, y = related()
    assert cka(x + offset, y - offset) == pytest.approx(by_gram_matrices(x, y), abs=1e-8)


def test_it_is_independent_of_the_batches():
    x, y = related()
    whole = cka(x, y, 100)
    for batch_size in (1, 7, 64):
        assert cka(x, y, batch_size) == pytest.approx(whole, abs=1e-13)
    order = torch.randperm(100, generator=torch.Generator().manual_seed(0))
    assert cka(x[order], y[order]) == pytest.approx(whole, abs=1e-13)


def test_what_is_kept_does_not_grow_with_the_images():
    accumulator = LinearCKA()
    shapes = []
    for _ in range(3):
        accumulator.update(*related())
        shapes.append([v.shape for v in vars(accumulator).values() if isinstance(v, Tensor)])
    assert shapes == [[(28,), (28,), (12, 28), (8, 8)]] * 3


@pytest.mark.parametrize("batch_size", [1, 16, 100])
def test_the_chance_level_is_that_of_the_features_of_other_images(batch_size):
    x, y = related()
    partner = torch.randperm(100, generator=torch.Generator().manual_seed(0))
    accumulator = LinearCKA()
    for parts in zip(*(each.split(batch_size) for each in (x, y, y[partner])), strict=True):
        accumulator.update(*parts)
    assert accumulator.value() == pytest.approx(by_gram_matrices(x, y), abs=1e-12)
    assert accumulator.chance() == pytest.approx(by_gram_matrices(x, y[partner]), abs=1e-12)
    assert accumulator.chance() < accumulator.value()


def test_equal_features_are_alike_up_to_rotation_and_one_factor():
    x = features(0)
    for y in (x, x @ rotation(12), 1e-4 * x, 1e4 * x @ rotation(12) + 5):
        assert cka(x, y) == pytest.approx(1, abs=1e-12)
        assert cka(x, y) <= 1
    assert cka(x, x * torch.arange(1, 13)) < 0.99  # a factor for each is another matter


def test_neither_rotation_nor_factor_nor_order_counts():
    x, y = related()
    expected = cka(x, y)
    assert 0.1 < expected < 0.9
    assert cka(y, x) == pytest.approx(expected, abs=1e-13)
    assert cka(3e-5 * x @ rotation(12), 2e5 * y @ rotation(8)) == pytest.approx(expected, abs=1e-12)


def test_unrelated_features_of_many_images_have_little_in_common_and_of_few_much():
    assert 0 <= cka(features(0, 20_000), features(1, 20_000), 5_000) < 0.01
    assert cka(features(0, 4), features(1, 4)) > 0.5


@pytest.mark.parametrize("value", [0.0, 0.1, 1e8])
def test_features_that_do_not_vary_have_nothing_in_common(value):
    constant = torch.full((30, 3), value)
    assert cka(constant, features(0, 30), 7) == 0
    assert cka(constant, constant, 7) == 0


def test_without_two_images_there_is_nothing_to_compare():
    assert math.isnan(LinearCKA().value())
    assert math.isnan(cka(features(0, 1), features(1, 1)))
    accumulator = LinearCKA()
    accumulator.update(*related(0))
    assert math.isnan(accumulator.value())
    accumulator.update(*related())
    assert accumulator.value() == pytest.approx(cka(*related()), abs=1e-13)


def test_half_types_and_tensors_that_learn_are_taken():
    x, y = related()
    x, y = x.bfloat16().requires_grad_(), y.float().requires_grad_()
    assert cka(x, y) == pytest.approx(by_gram_matrices(x.detach().float(), y.detach()), abs=1e-12)


def test_what_was_taken_in_under_inference_mode_can_go_on_without():
    x, y = related()
    accumulator = LinearCKA()
    with torch.inference_mode():
        accumulator.update(x[:50], y[:50])
    accumulator.update(x[50:], y[50:])
    assert accumulator.value() == pytest.approx(cka(x, y), abs=1e-13)
