"""Insertion and deletion: areas with a known value, an independent computation, and the shown differences."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage, stats

from dctkd_zoo.features import Output
from eval.run import faithfulness
from eval.run.faithfulness import areas, blur, ranks


def test_pixels_are_ranked_from_the_largest_value():
    maps = torch.tensor([[[3.0, 1.0], [2.0, 4.0]]])
    assert ranks(maps, (2, 2)).tolist() == [[[1, 3], [2, 0]]]
    assert ranks(torch.zeros(1, 2, 2), (2, 2)).flatten().tolist() == [0, 1, 2, 3], "ties in order, not at random"
    large = ranks(torch.rand(2, 4, 4), (20, 24))
    assert large.shape == (2, 20, 24)
    assert [sorted(order.flatten().tolist()) for order in large] == [[*range(480)]] * 2


@pytest.mark.parametrize("share", [0.25, 0.5])
def test_the_area_of_a_network_that_reads_one_region_is_known(share):
    """Answer: mean brightness of the region, white on a black blur. If the region comes first, insertion is a ramp."""
    side, steps = 8, 16
    region = torch.zeros(side, side)
    region[: int(side * share)] = 1

    def answer(images):
        return (images[:, 0] * region).sum(dim=(1, 2)) / region.sum()

    images = torch.ones(1, 3, side, side)
    black = torch.zeros_like(images)
    first = ranks(region[None], (side, side))
    insertion, deletion = areas(answer, images, black, first, steps)
    assert insertion.item() == pytest.approx(1 - share / 2)
    assert deletion.item() == pytest.approx(share / 2)
    last = ranks(-region[None], (side, side))
    insertion, deletion = areas(answer, images, black, last, steps)
    assert insertion.item() == pytest.approx(share / 2)
    assert deletion.item() == pytest.approx(1 - share / 2)


def test_the_areas_are_those_of_an_independent_computation():
    generator = torch.Generator().manual_seed(0)
    images, blurred = torch.rand(2, 3, 3, 6, 6, generator=generator).unbind(0)
    weight = torch.randn(3, 6, 6, generator=generator)
    maps = torch.rand(3, 6, 6, generator=generator)

    def answer(x):
        return (x * weight).sum(dim=(1, 2, 3)).sigmoid()

    insertion, deletion = areas(answer, images, blurred, ranks(maps, (6, 6)), 9)
    for image in range(3):
        order = np.argsort(-maps[image].numpy().ravel(), kind="stable")
        starts = {"insertion": (blurred, images), "deletion": (images, blurred)}
        for name, values in (("insertion", insertion), ("deletion", deletion)):
            current, other = (side[image].numpy().copy().reshape(3, 36) for side in starts[name])
            curve = []
            for step in range(10):
                current[:, order[: 4 * step]] = other[:, order[: 4 * step]]
                curve.append(stats.logistic.cdf((current.astype(np.float64) * weight.numpy().reshape(3, 36)).sum()))
            assert values[image].item() == pytest.approx(np.trapezoid(curve, dx=1 / 9), abs=1e-6)


def test_the_blur_is_a_gaussian_of_a_tenth_of_the_side():
    image = torch.zeros(1, 3, 41, 41)
    image[:, :, 20, 20] = 1
    expected = ndimage.gaussian_filter(image[0, 0].numpy(), 4.1, radius=9)
    assert np.abs(blur(image)[0, 0].numpy() - expected).max() < 1e-6
    grey = torch.full((1, 3, 16, 16), 0.5)
    torch.testing.assert_close(blur(grey), grey)


def test_the_same_map_makes_no_difference():
    """A network against itself: the differences from the teacher's map are exactly zero."""
    torch.manual_seed(0)
    head, convolution = torch.nn.Linear(4, 5), torch.nn.Conv2d(3, 4, 3)

    def network(images):
        features = convolution(images).relu()
        maps = torch.einsum("kc,bchw->bkhw", head.weight, features) + head.bias[:, None, None]
        return Output(maps.mean(dim=(2, 3)), (features,), features.mean(dim=(2, 3)), class_maps=maps)

    images = torch.rand(6, 3, 12, 12)
    with torch.no_grad():
        result = faithfulness._differences(network, network(images), images, torch.Generator().manual_seed(0))  # type: ignore[arg-type]
    assert set(result) == {
        (maps, other) for maps in faithfulness.MAPS for other in ("the teacher's map", "a random order")
    }
    for (_, other), values in result.items():
        assert values.shape == (6, 2)
        assert (values == 0).all() == (other == "the teacher's map")
