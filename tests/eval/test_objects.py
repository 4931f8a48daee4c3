"""How far maps lie on the decisive objects: answers known beforehand, loops, and real images of synthscenes."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import Tensor

from dctkd_zoo.catalog.synthscenes import STUDENT
from dctkd_zoo.data.loader import centre_crops, crop
from dctkd_zoo.data.pixel_cache import open_pixel_cache
from dctkd_zoo.data.sources.synthscenes import generate
from dctkd_zoo.data.split import Arrays, Split
from eval.metrics import _objects
from eval.metrics._objects import (
    area,
    attended,
    auc,
    averages,
    covered,
    energy,
    in_view,
    pointing,
    rank_accuracy,
    seen,
    shares,
)
from eval.stats import skill

SCORES = (energy, pointing, attended, rank_accuracy, auc)


@pytest.fixture(scope="module")
def small() -> Split:
    return generate("test", 10)


@pytest.fixture(scope="module")
def objects(small) -> Tensor:
    """What the recipe's view sees of the objects of 120 images, (120, 40, 40)."""
    return seen(_objects.masks(small, torch.arange(120)), STUDENT)


def scene() -> Tensor:
    """One image of 8 x 8 px with an object of 4 px, one of 8 px and one of 2 px."""
    one = torch.zeros(1, 8, 8, dtype=torch.uint8)
    one[0, :2, :2], one[0, 4:, 6:], one[0, 0, 6:] = 1, 2, 3
    return one


def test_masks_are_those_of_the_positions(small):
    ids = torch.tensor([5, 0, 119])
    result = _objects.masks(small, ids)
    assert result.dtype == torch.uint8 and np.array_equal(result.numpy(), small.masks[[5, 0, 119]])
    assert np.array_equal(_objects.masks(small.take([7, 5]), torch.tensor([1])).numpy(), small.masks[[5]])
    result[:] = 9
    assert small.masks.max() == 3


RECIPES = (
    STUDENT,
    replace(STUDENT, resize=64, crop=48, pad=0),
    replace(STUDENT, resize=37, crop=31, pad=0),
    replace(STUDENT, resize=32, crop=38, pad=4),
    replace(STUDENT, resize=32, crop=39, pad=4, pad_mode="constant"),
)


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("size", [(64, 64), (64, 85), (91, 64)])
def test_the_view_is_that_of_the_pixels(recipe, size, tmp_path):
    """Smooth images that are their own masks: resizing and nearest neighbour then hardly differ."""
    y, x = np.mgrid[: size[0], : size[1]]
    ramps = np.stack([2 * y, 2 * x, 255 - y - x]).astype(np.uint8)
    pixels = np.repeat(ramps[..., None], 3, axis=-1)
    split = Split(("a",), ("0", "1", "2"), np.zeros(3, np.int64), Arrays(pixels))
    store = open_pixel_cache(split, recipe, tmp_path)
    shown = crop(store, torch.arange(3), centre_crops(store, recipe), recipe.crop)[..., 0]
    result = seen(torch.from_numpy(ramps), recipe)
    assert result.dtype == torch.uint8 and result.shape == (3, recipe.crop, recipe.crop)
    step = 2 * size[0] / recipe.resize
    assert (result.int() - shown.int()).abs().max() <= step
    assert (result.int() - shown.int()).float().mean().abs() < 0.6


def test_the_view_of_equal_size_is_the_cut_out_middle():
    whole = torch.randint(4, (2, 64, 64), dtype=torch.uint8)
    assert torch.equal(seen(whole, replace(STUDENT, resize=64, crop=50)), whole[:, 7:57, 7:57])
    assert torch.equal(seen(whole, replace(STUDENT, resize=64, crop=72))[:, 4:-4, 4:-4], whole)
    assert torch.equal(seen(whole, replace(STUDENT, resize=64, crop=72))[:, 3, 4:-4], whole[:, 1])  # reflected


@pytest.mark.parametrize(("fine", "coarse"), [(40, 10), (40, 7), (8, 8), (8, 1), (5, 3), (3, 5), (1, 4)])
def test_averages_are_those_of_equal_parts(fine, coarse):
    line = np.random.default_rng(0).random(fine)
    expected = np.repeat(line, coarse).reshape(coarse, fine).mean(axis=1)  # fine * coarse equal pieces
    assert averages(fine, coarse).numpy() @ line == pytest.approx(expected, abs=1e-12)


def test_cells_are_covered_in_part():
    result = covered(torch.zeros(1, 4, 2), scene())
    assert result.shape == (1, 3, 4, 2)
    assert result[0, 0].tolist() == [[0.5, 0], [0, 0], [0, 0], [0, 0]]
    assert result[0, 1].tolist() == [[0, 0], [0, 0], [0, 0.5], [0, 0.5]]
    assert result[0, 2].tolist() == [[0, 0.25], [0, 0], [0, 0], [0, 0]]


def test_scores_of_a_map_that_is_known():
    maps = torch.zeros(1, 4, 4)
    maps[0, 0, 0], maps[0, 0, 3], maps[0, 3, 0] = 3, 2, 1
    assert energy(maps, scene()).item() == pytest.approx((3 + 2 / 2) / 6)
    assert pointing(maps, scene()).item() == 1
    assert attended(maps, scene()).item() == 2
    maps[0, 0, 3] = 4
    assert pointing(maps, scene()).item() == 0.5
    maps[0, 3, 0] = 4
    assert pointing(maps, scene()).item() == 0.25
    maps[0, 3, 3] = 0.9  # over object 2 now 0.45 = (0.9 + 0) / 2, over the image 0.74
    assert attended(maps, scene()).item() == 2
    maps[0, 2, 3] = 0.9
    assert attended(maps, scene()).item() == 3


def test_a_map_that_is_the_objects_has_all_and_what_is_around_them_nothing():
    on = (scene() > 0).float()
    assert [score(on, scene()).item() for score in SCORES] == [1, 1, 3, 1, 1]
    assert [score(1 - on, scene()).item() for score in SCORES] == [0, 0, 0, 0, 0]


@pytest.mark.parametrize("size", [(40, 40), (20, 20), (10, 10), (7, 9), (2, 2), (1, 1), (56, 50)])
@pytest.mark.parametrize("value", [0.0, 0.1, 0.3, 1e20])
def test_an_even_map_scores_the_share_of_the_image_that_is_objects(objects, size, value):
    even = torch.full((len(objects), *size), value)
    torch.testing.assert_close(energy(even, objects), area(objects), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(pointing(even, objects), area(objects), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(rank_accuracy(even, objects), area(objects), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(auc(even, objects), torch.full((len(objects),), 0.5), rtol=0, atol=1e-5)
    assert torch.equal(attended(even, objects), torch.zeros(len(objects)))


def test_maps_that_know_nothing_score_as_even_ones_do(objects):
    many = objects.repeat(20, 1, 1)
    maps = torch.rand(len(many), 10, 10, generator=torch.Generator().manual_seed(0))
    for score in (energy, pointing, rank_accuracy):
        assert score(maps, many).mean().item() == pytest.approx(area(many).mean().item(), abs=0.015)
    assert attended(maps, many).mean().item() == pytest.approx(1.5, abs=0.1)
    assert auc(maps, many).mean().item() == pytest.approx(0.5, abs=0.005)


@pytest.mark.parametrize("size", [(40, 40), (10, 10), (7, 9), (2, 2), (1, 1)])
def test_scores_against_loops(objects, size):
    maps = torch.rand(12, *size, generator=torch.Generator().manual_seed(1)).double()
    for image, mask, *result in zip(maps, objects[:12], *(s(maps, objects[:12]) for s in SCORES), strict=True):
        fine = np.kron(image.numpy(), np.ones((40, 40)))  # every cell of the map and every px of the mask whole
        big = np.kron(mask.numpy(), np.ones(size))
        on_objects = fine[big > 0].sum() / fine.sum()
        hit = (big[fine == fine.max()] > 0).mean()
        count = sum(fine[big == k].mean() > image.numpy().mean() * (1 + 1e-12) for k in (1, 2, 3))
        ranked = (big > 0)[np.unravel_index(np.argsort(-fine, axis=None, kind="stable"), fine.shape)]
        expected = [on_objects, hit, count]
        assert [number.item() for number in result[:3]] == pytest.approx(expected, abs=1e-9)
        # Cells are equal within themselves: the last one counts in part, as its share of objects.
        cells = (big > 0).mean() * image.numel()
        whole, rest = int(cells + 1e-9), cells - int(cells + 1e-9)
        on = ranked.reshape(-1, 40 * 40).mean(axis=1)  # share of objects of each cell, the largest first
        right = on[:whole].sum() + (rest * on[whole] if rest > 1e-9 else 0)
        assert result[3].item() == pytest.approx(right / cells, abs=1e-9)
        on = torch.nn.functional.avg_pool2d(torch.from_numpy((big > 0) * 1.0)[None], 40).numpy().ravel()
        assert result[4].item() == pytest.approx(by_pairs(image.numpy().ravel(), on), abs=1e-9)


def by_pairs(heights: np.ndarray, on: np.ndarray) -> float:
    """The AUC from all pairs of cells: of a share on objects of the one, and a share off them of the other."""
    wins = (heights[:, None] > heights) + 0.5 * (heights[:, None] == heights)
    weights = on[:, None] * (1 - on)
    return float((wins * weights).sum() / weights.sum()) if weights.sum() > 1e-12 else np.nan


def few_values(count: int, *size: int) -> Tensor:
    """Maps with many equal cells."""
    return torch.randint(5, (count, *size), generator=torch.Generator().manual_seed(2)).double() / 4


@pytest.mark.parametrize("size", [(40, 40), (10, 10), (7, 9), (2, 2)])
def test_auc_counts_equal_cells_by_half(objects, size):
    maps = few_values(12, *size)
    on = covered(maps, objects[:12]).sum(dim=1).flatten(1).numpy()
    expected = [by_pairs(image.numpy().ravel(), share) for image, share in zip(maps, on, strict=True)]
    assert auc(maps, objects[:12]).numpy() == pytest.approx(np.array(expected), abs=1e-9)
    assert auc(maps.float(), objects[:12]).numpy() == pytest.approx(np.array(expected), abs=1e-5)


@pytest.mark.parametrize("size", [(40, 40), (10, 10), (7, 9)])
def test_auc_is_that_of_scikit_learn(objects, size):
    metrics = pytest.importorskip("sklearn.metrics")
    maps = few_values(12, *size)
    result = auc(maps, objects[:12])
    for image, shares_on, value in zip(maps, covered(maps, objects[:12]).sum(dim=1).numpy(), result, strict=True):
        on, heights = shares_on.ravel(), image.numpy().ravel()
        labels, weights = np.repeat([1, 0], len(on)), np.concatenate([on, (1 - on).clip(0)])
        expected = metrics.roc_auc_score(labels, np.tile(heights, 2), sample_weight=weights)
        assert value.item() == pytest.approx(expected, abs=1e-9)


def test_auc_of_a_cell_that_is_partly_on_an_object():
    """By hand: cells with 1, 1/2 and 0 on objects; heights 3, 2, 1 in all orders."""
    objects = torch.zeros(1, 2, 6, dtype=torch.uint8)
    objects[0, :, :2], objects[0, 0, 2:4] = 1, 2
    for heights, expected in (((3, 2, 1), 2.125), ((1, 2, 3), 0.125), ((2, 3, 1), 1.625), ((1, 1, 1), 1.125)):
        maps = torch.tensor(heights, dtype=torch.float32).view(1, 1, 3)
        assert auc(maps, objects).item() == pytest.approx(expected / 2.25), heights


def test_auc_is_no_number_where_everything_is_objects():
    """And elsewhere it is one, also beside such an image."""
    whole = torch.full((1, 7, 7), 2, dtype=torch.uint8)
    almost = whole.clone()
    almost[0, 3, 3] = 0
    maps = torch.rand(2, 3, 3, generator=torch.Generator().manual_seed(0))
    result = auc(maps, torch.cat([whole, almost]))
    assert result.isnan().tolist() == [True, False] and 0 <= result[1] <= 1


def test_auc_of_maps_that_are_no_numbers_is_any_value_but_no_error():
    """The network is refused afterwards."""
    maps = torch.full((2, 4, 4), torch.nan)
    maps[1, 0] = 1.0
    assert auc(maps, scene().repeat(2, 1, 1)).shape == (2,)


@pytest.mark.parametrize(
    "score", [*SCORES, lambda maps, objects: area(objects), lambda maps, objects: in_view(objects)]
)
def test_images_that_show_no_object_are_not_a_number(score):
    objects = torch.cat([torch.zeros_like(scene()), scene()])
    result = score(torch.rand(2, 4, 4), objects)
    assert result.isnan().tolist() == [True, False]


def test_an_object_out_of_view_is_not_attended():
    objects = scene()
    maps = (objects > 0).float()
    assert attended(maps, objects).item() == 3
    objects[objects == 2] = 0
    assert attended(maps, objects).item() == 2


def test_objects_in_view_are_counted_by_what_is_seen_of_them(objects):
    expected = [len(set(image.unique().tolist()) - {0}) for image in objects]
    assert in_view(objects).tolist() == expected and in_view(objects).dtype == torch.float32
    one = scene()
    assert in_view(one).tolist() == [3]
    one[one == 2] = 0
    assert in_view(one).tolist() == [2]
    one[one == 1] = 0
    assert in_view(one).tolist() == [1] and in_view(torch.zeros_like(one)).isnan().all()
    assert in_view(torch.cat([scene(), one, torch.zeros_like(one)]))[:2].tolist() == [3, 1]


def test_the_most_that_can_be_attended_is_what_is_in_view(objects):
    some = objects.clone()
    some[::2][some[::2] == 3] = 0
    on = (some > 0).float()
    assert torch.equal(attended(on, some), in_view(some))


def test_the_largest_cells_are_right_as_far_as_they_are_on_objects():
    """Objects of 14 of 64 px are 3.5 of 16 cells: the three largest count whole, the fourth by half."""
    area_in_cells = 3.5
    assert (scene() > 0).sum() / 4 == area_in_cells
    maps = torch.arange(16.0).view(1, 4, 4)  # the largest: (3, 3) on object 2, (3, 2), (3, 1) off, then (3, 0) off
    assert rank_accuracy(maps, scene()).item() == pytest.approx(1 / area_in_cells)
    maps[0, 0, 0] = 100  # (0, 0) on object 1, (3, 3) on object 2, (3, 2) off, half of (3, 1) off
    assert rank_accuracy(maps, scene()).item() == pytest.approx(2 / area_in_cells)
    maps[0, 2, 3], maps[0, 0, 3] = 99, 98  # both on objects, the latter by half and then by half counted
    assert rank_accuracy(maps, scene()).item() == pytest.approx((3 * 1 + 0.5 * 0) / area_in_cells)
    maps[0, 0, 3] = 101  # now (0, 3) by half, (0, 0) and (2, 3) whole, and half of (3, 3)
    assert rank_accuracy(maps, scene()).item() == pytest.approx((0.5 + 1 + 1 + 0.5) / area_in_cells)


def test_equal_cells_share_the_rest():
    maps = torch.zeros(1, 4, 4)
    maps[0, 0, 0] = 2
    maps[0, 3] = 1  # four cells for the remaining 2.5: (3, 3) is on an object
    assert rank_accuracy(maps, scene()).item() == pytest.approx((1 + 2.5 / 4) / 3.5)


@pytest.mark.parametrize("size", [(4, 4), (8, 8), (2, 2), (7, 9), (1, 1)])
def test_a_map_that_has_whole_cells_of_objects_largest_is_perfect(size):
    """Whatever else it has, and however large the objects are: to the whole image."""
    rows, columns = size
    cells = torch.zeros(rows * columns)
    for count in sorted({1, rows * columns // 3 + 1, rows * columns // 2 + 1, rows * columns}):
        cells[:] = torch.arange(rows * columns) < count
        maps = cells.view(1, rows, columns)
        mask = maps.repeat_interleave(5, 1).repeat_interleave(5, 2).to(torch.uint8)
        maps = 0.5 + maps + 0.1 * torch.rand(maps.shape)
        assert rank_accuracy(maps, mask).item() == pytest.approx(1, abs=1e-5)
        inverse = rank_accuracy(-maps, mask).item()
        assert inverse == pytest.approx(max(0, 2 * count - rows * columns) / count, abs=1e-5)


def test_ranks_are_those_of_a_sort():
    """Objects of whole cells and maps without ties."""
    rng = torch.Generator().manual_seed(4)
    for _ in range(50):
        on = torch.rand(6, 8, generator=rng) < 0.3
        on[0, 0] = True
        maps = torch.randperm(48, generator=rng).view(1, 6, 8).float()
        largest = maps.flatten().argsort(descending=True)[: int(on.sum())]
        mask = on.repeat_interleave(3, 0).repeat_interleave(3, 1)[None].to(torch.uint8)
        expected = on.flatten()[largest].float().mean().item()
        assert rank_accuracy(maps, mask).item() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("random_masks", [True, False])
@pytest.mark.parametrize(
    ("score", "reference", "levels"),
    [
        (energy, "RelevanceMassAccuracy", 7),
        (pointing, "PointingGame", None),
        (rank_accuracy, "RelevanceRankAccuracy", None),
        (auc, "AUC", 7),
    ],
)
def test_scores_are_those_of_quantus(score, reference, levels, random_masks, objects):
    """On maps of the masks' size; with equal cells (few `levels`) where Quantus does not order them by position."""
    quantus = pytest.importorskip("quantus", reason="Quantus is an optional reference: pip install quantus")
    random = np.random.default_rng(5)
    areas = np.linspace(0.05, 0.9, 16)[:, None, None]
    masks = (random.random((16, 40, 40)) < areas) if random_masks else objects[:16].numpy() > 0
    maps = random.permutation(16 * 1600).reshape(16, 40, 40) / 25_600
    maps[::2] += 0.1 * masks[::2]  # half of them are drawn to the objects
    if levels:
        maps = np.floor(levels * maps) / levels
    metric = getattr(quantus, reference)(abs=False, normalise=False, disable_warnings=True)
    expected = np.asarray(metric.evaluate_batch(a_batch=maps, s_batch=masks), float)
    result = score(torch.from_numpy(maps), torch.from_numpy(masks.astype(np.uint8)))
    assert result.numpy() == pytest.approx(expected, abs=1e-5)
    assert np.ptp(expected) > 0  # images differ, of the pointing game too


def test_the_best_number_of_attended_objects_is_what_images_show():
    assert skill.best("attended") == skill.best("teacher_attended") == 3
    assert skill.best("attended", 1.7) == skill.best("teacher_attended", 1.7) == 1.7
    assert all(skill.best(name, 1.7) == 1 for name in ("energy", "pointing", "rank_accuracy", "auc", "ssim", "cka"))
    table = pd.DataFrame({"objects_in_view": [3.0, 1.0, np.nan, 2.0]})
    assert skill.in_view(table) == 2 and skill.in_view(pd.DataFrame({"label": [0]})) == 3


@pytest.mark.parametrize("score", SCORES)
def test_half_types_are_widened_and_the_scale_does_not_count(score, objects):
    maps = torch.rand(120, 10, 10).bfloat16()
    result = score(maps, objects)
    assert result.dtype == torch.float32
    torch.testing.assert_close(result, score(maps.float(), objects))
    torch.testing.assert_close(result, score(2.0**40 * maps, objects))


def test_the_view_of_the_recipe_shows_all_three_objects_of_each_image(objects):
    assert objects.shape == (120, 40, 40) and objects.max() == 3
    pixels = torch.stack([(objects == number).sum(dim=(1, 2)) for number in (1, 2, 3)])
    assert pixels.min() > 8
    assert 0.05 < area(objects).mean() < 0.2


def test_masks_lie_on_what_stands_out_from_the_background(small, objects):
    """A map of local contrast, made from the pixels alone, is drawn to the objects well beyond chance."""
    images = [small.images.load(i).resize((40, 40), Image.Resampling.BILINEAR) for i in range(120)]
    pixels = torch.from_numpy(np.stack([np.asarray(image) for image in images])).float().permute(0, 3, 1, 2)
    contrast = (pixels - torch.nn.functional.avg_pool2d(pixels, 15, 1, 7, count_include_pad=False)).square().sum(dim=1)
    assert energy(contrast, objects).mean() > 2 * area(objects).mean()
    assert pointing(contrast, objects).mean() > 2 * area(objects).mean()
    assert attended(contrast, objects).mean() > 2.5
    others = objects.roll(1, 0)
    assert energy(contrast, others).mean() < 1.6 * area(others).mean()


def test_a_maps_shares_add_up_to_one_and_what_is_below_zero_has_none():
    maps = torch.tensor([[[1.0, 3.0], [0.0, -2.0]], [[0.0, 0.0], [0.0, 0.0]], [[-1.0, -1.0], [-1.0, -1.0]]])
    expected = torch.tensor([[[0.25, 0.75], [0, 0]], [[0.25] * 2] * 2, [[0.25] * 2] * 2])
    for scale in (1, 1e30, 1e-30):
        torch.testing.assert_close(shares(scale * maps), expected)
    assert shares(maps[:0]).shape == (0, 2, 2)
