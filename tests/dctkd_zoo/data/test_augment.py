"""dctkd_zoo.data.augment against torchvision's own transforms, and what seeds, batches and ranks may not change."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import kstest
from torchvision.transforms import v2

from dctkd_zoo import distributed, registry
from dctkd_zoo.data.augment import Mix, draw_mix, erased, recoloured
from dctkd_zoo.data.loader import ImageLoader
from dctkd_zoo.data.pixel_cache import PixelCache
from dctkd_zoo.schedules import Step
from dctkd_zoo.spec import Recipe

CPU = torch.device("cpu")
DATASET = replace(registry.get_dataset("scene15"), name="tiny", num_classes=3)
RECIPE = Recipe(epochs=1, batch_size=7, lr=0.1, schedule=Step(1), resize=20, crop=16)
CLASSES, DRAWS = 5, 4000


def pictures(count, side=16, seed=0):
    """Smooth images uint8 (count, side, side, 3) that every operation changes, and a seed for each."""
    generator = torch.Generator().manual_seed(seed)
    small = torch.rand(count, 3, 4, 4, generator=generator)
    large = torch.nn.functional.interpolate(small, (side, side), mode="bilinear")
    return (255 * large).byte().permute(0, 2, 3, 1).contiguous(), torch.randint(2**62, (count,), generator=generator)


def loader(recipe, count=31):
    """Views of `count` images of noise, 20 x 24 px, of 3 classes."""
    rng = np.random.default_rng(1)
    pixels = torch.from_numpy(rng.integers(0, 256, count * 20 * 24 * 3, dtype=np.uint8))
    heights, widths = torch.full((count,), 20), torch.full((count,), 24)
    store = PixelCache((pixels,), torch.arange(count) * 20 * 24 * 3, heights, widths, (), "digest")
    return ImageLoader(store, torch.from_numpy(rng.integers(0, 3, count)), recipe, DATASET, CPU)


def soft(labels, others, share):
    """The probabilities that a blended batch's labels stand for."""
    one, other = (torch.nn.functional.one_hot(part, CLASSES).float() for part in (labels, others))
    return share * one + (1 - share) * other


def box_of(mix):
    assert mix.box is not None
    return mix.box


class TestMix:
    @pytest.mark.parametrize("share", [0.0, 0.25, 0.7, 1.0])
    def test_a_weighted_mean_is_that_of_torchvision(self, monkeypatch, share):
        images, labels = torch.randn(6, 3, 16, 16), torch.randint(CLASSES, (6,))
        reference = v2.MixUp(num_classes=CLASSES)
        monkeypatch.setattr(reference, "make_params", lambda inputs: {"lam": share})
        expected, targets = reference(images, labels)
        torch.testing.assert_close(Mix(share)(images, images.roll(1, 0)), expected)
        torch.testing.assert_close(soft(labels, labels.roll(1), share), targets)

    @pytest.mark.parametrize("seed", range(8))
    def test_a_pasted_box_is_that_of_torchvision(self, monkeypatch, seed):
        images, labels = torch.randn(6, 3, 16, 16), torch.randint(CLASSES, (6,))
        mix = draw_mix(replace(RECIPE, cutmix=1.0), seed)
        top, left, bottom, right = box_of(mix)
        reference = v2.CutMix(num_classes=CLASSES)
        told = {"box": (left, top, right, bottom), "lam_adjusted": mix.share}
        monkeypatch.setattr(reference, "make_params", lambda inputs: told)
        expected, targets = reference(images, labels)
        assert torch.equal(mix(images, images.roll(1, 0)), expected)
        torch.testing.assert_close(soft(labels, labels.roll(1), mix.share), targets)

    def test_the_images_given_are_not_changed(self):
        for mix in (Mix(0.3), Mix(0.75, (0, 0, 8, 8))):
            images, others = torch.zeros(2, 3, 16, 16), torch.ones(2, 3, 16, 16)
            mix(images, others)
            assert not images.any() and others.all()


class TestDraw:
    @pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
    def test_shares_are_of_the_beta_distribution(self, alpha):
        drawn = [draw_mix(replace(RECIPE, mixup=alpha), seed) for seed in range(DRAWS)]
        assert all(mix.box is None for mix in drawn)
        assert kstest([mix.share for mix in drawn], "beta", (alpha, alpha)).pvalue > 1e-3

    @pytest.mark.parametrize("alpha", [0.3, 1.0])
    def test_a_box_has_the_area_that_its_share_leaves(self, alpha):
        for seed in range(500):
            mix = draw_mix(replace(RECIPE, cutmix=alpha), seed)
            top, left, bottom, right = box_of(mix)
            assert 0 <= top <= bottom <= 16 and 0 <= left <= right <= 16
            pasted = mix(torch.zeros(1, 1, 16, 16), torch.ones(1, 1, 16, 16)).sum()
            assert pasted == (bottom - top) * (right - left)
            assert mix.share == pytest.approx(1 - float(pasted) / 256)

    def test_boxes_have_the_sides_and_places_of_torchvision_s(self):
        """The distributions of area, top and left, of as many draws of each on a side of 224 px."""
        torch.manual_seed(0)
        reference, images = v2.CutMix(num_classes=CLASSES), torch.empty(1, 3, 224, 224)
        others = [reference.make_params([images]) for _ in range(DRAWS)]
        own = [draw_mix(replace(RECIPE, resize=224, crop=224, cutmix=1.0), seed) for seed in range(DRAWS)]
        for ours, theirs in (
            ([m.share for m in own], [o["lam_adjusted"] for o in others]),
            ([box_of(m)[0] for m in own], [o["box"][1] for o in others]),
            ([box_of(m)[1] for m in own], [o["box"][0] for o in others]),
        ):
            assert kstest(ours, theirs).pvalue > 1e-3

    def test_with_both_half_of_the_batches_are_of_each_kind(self):
        recipe = replace(RECIPE, mixup=0.2, cutmix=1.0)
        cuts = sum(draw_mix(recipe, seed).box is not None for seed in range(DRAWS))
        assert abs(cuts / DRAWS - 0.5) < 5 * 0.5 / DRAWS**0.5

    def test_the_seed_decides_and_torch_s_generator_plays_no_part(self):
        recipe = replace(RECIPE, mixup=0.2, cutmix=1.0)
        before = torch.get_rng_state()
        assert draw_mix(recipe, 3) == draw_mix(recipe, 3) != draw_mix(recipe, 4)
        assert torch.equal(torch.get_rng_state(), before)


CHANGES: dict[str, Any] = {
    "recoloured": (recoloured, v2.TrivialAugmentWide(), 0, lambda images: images.permute(0, 3, 1, 2)),
    "erased": (lambda images, seeds: erased(images, seeds, 0.6), v2.RandomErasing(0.6), 1, lambda images: images),
}


@pytest.mark.parametrize("name", CHANGES)
class TestOfEachImage:
    def images(self, name, count=24):
        pixels, seeds = pictures(count)
        return (pixels if name == "recoloured" else pixels.permute(0, 3, 1, 2) / 255 + 1), seeds

    def test_each_is_what_torchvision_makes_of_it_under_its_seed(self, name):
        change, reference, offset, channels_first = CHANGES[name]
        images, seeds = self.images(name)
        results = channels_first(change(images, seeds))
        for image, seed, result in zip(channels_first(images), seeds.tolist(), results, strict=True):
            torch.manual_seed(seed + offset)
            assert torch.equal(reference(image), result)

    def test_neither_order_nor_neighbours_change_an_image(self, name):
        change, *_ = CHANGES[name]
        images, seeds = self.images(name)
        whole, order = change(images, seeds), torch.randperm(len(seeds))
        assert torch.equal(change(images[order], seeds[order]), whole[order])
        parts = [change(images[part], seeds[part]) for part in torch.arange(len(seeds)).split((1, 9, 14))]
        assert torch.equal(torch.cat(parts), whole)
        assert not torch.equal(change(images, seeds.flip(0)), whole)

    def test_torch_s_generator_and_the_images_are_as_before(self, name):
        change, *_ = CHANGES[name]
        images, seeds = self.images(name)
        before, copy = torch.get_rng_state(), images.clone()
        change(images, seeds)
        assert torch.equal(torch.get_rng_state(), before) and torch.equal(images, copy)


def test_as_many_images_are_erased_as_the_recipe_says_by_a_rectangle_of_the_mean_colour():
    images = torch.ones(1000, 3, 16, 16)
    results = erased(images, torch.arange(1000), 0.25)
    changed = (results == 0).all(dim=1)
    assert torch.equal(changed, (results != 1).any(dim=1))
    count = changed.flatten(1).any(dim=1).sum().item()
    assert abs(count - 250) < 5 * (1000 * 0.25 * 0.75) ** 0.5
    for mask in changed[changed.flatten(1).any(dim=1)]:
        rows, columns = mask.any(dim=1).sum(), mask.any(dim=0).sum()
        assert mask.sum() == rows * columns and 0.01 < mask.float().mean() < 0.4
    assert torch.equal(erased(images, torch.arange(1000), 0.0), images)


FIELDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "rrc": {"augment": "rrc"},
    "rand": {"augment": "rand"},
    "erasing": {"erasing": 0.5},
    "mixup": {"mixup": 0.4},
    "cutmix": {"cutmix": 1.0},
    "all": {"augment": "rand", "erasing": 0.5, "mixup": 0.4, "cutmix": 1.0},
}


def epoch(recipe, number=0, seed=0, start=0):
    return [*loader(recipe).train(seed, number, start=start)]


def equal(batch, other):
    """Whether two batches are the same bit for bit."""
    pairs = [*zip(batch, other, strict=True)]
    return all(a is b if a is None or b is None else torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("name", FIELDS)
class TestEpoch:
    def test_batches_are_channels_last_and_depend_on_seed_and_epoch_alone(self, name):
        recipe = replace(RECIPE, **FIELDS[name])
        first, again = epoch(recipe, 2), epoch(recipe, 2)
        assert all(map(equal, first, again))
        assert not equal(first[0], epoch(recipe, 3)[0]) and not equal(first[0], epoch(recipe, 2, seed=1)[0])
        assert all(batch.images.is_contiguous(memory_format=torch.channels_last) for batch in first)
        assert [len(batch.ids) for batch in first] == [7, 7, 7, 7, 3]

    def test_a_resumed_epoch_goes_on_with_the_same_batches(self, name):
        recipe = replace(RECIPE, **FIELDS[name])
        assert all(map(equal, epoch(recipe)[3:], epoch(recipe, start=3)))

    @pytest.mark.parametrize("size", [2, 3, 5])
    def test_the_parts_of_all_ranks_are_the_batch_of_one_process(self, name, size, monkeypatch):
        recipe = replace(RECIPE, **FIELDS[name])
        whole, parts = epoch(recipe), []
        monkeypatch.setattr(distributed, "_size", size)
        for rank in range(size):
            monkeypatch.setattr(distributed, "_rank", rank)
            parts.append(epoch(recipe))
        for batch, *shares in zip(whole, *parts, strict=True):
            if len(batch.ids) < size:
                assert all(equal(share, batch) for share in shares)
                continue
            for value, *pieces in zip(batch, *shares, strict=True):
                assert (value is None and pieces == [None] * size) or torch.equal(torch.cat(pieces), value)

    def test_the_field_changes_what_is_seen(self, name):
        if name != "plain":
            pairs = zip(epoch(RECIPE), epoch(replace(RECIPE, **FIELDS[name])), strict=True)
            assert not all(torch.equal(one.images, other.images) for one, other in pairs)

    def test_the_test_images_are_never_changed(self, name):
        one, other = (next(loader(recipe).test(31)) for recipe in (RECIPE, replace(RECIPE, **FIELDS[name])))
        assert equal(one, other)


@pytest.mark.parametrize("field", ["mixup", "cutmix"])
def test_each_image_is_blended_with_the_one_before_it_in_the_whole_batch(field):
    plain, blended = epoch(RECIPE), epoch(replace(RECIPE, **FIELDS[field]))
    shares = set()
    for one, mixed in zip(plain, blended, strict=True):
        assert torch.equal(mixed.ids, one.ids) and torch.equal(mixed.labels, one.labels)
        assert torch.equal(mixed.other_labels, one.labels.roll(1))
        assert len(mixed.share.unique()) == 1 and mixed.share.shape == mixed.labels.shape
        share, before = mixed.share[0].item(), one.images.roll(1, 0)
        shares.add(share)
        if field == "mixup":
            torch.testing.assert_close(mixed.images, share * one.images + (1 - share) * before)
            continue
        own = (mixed.images == one.images).all(dim=1)
        assert torch.equal(torch.where(own[:, None], one.images, before), mixed.images)
        assert own.float().mean().item() == pytest.approx(share, abs=1e-3)
    assert len(shares) == len(plain)


def test_a_last_batch_of_one_image_is_blended_with_itself():
    recipe = replace(RECIPE, batch_size=10, mixup=1.0)
    batch = [*loader(recipe).train(0, 0)][-1]
    plain = [*loader(replace(recipe, mixup=0.0)).train(0, 0)][-1]
    assert len(batch.ids) == 1 and torch.equal(batch.labels, batch.other_labels)
    torch.testing.assert_close(batch.images, plain.images)


def test_the_views_of_a_teacher_cache_are_augmented_alike_in_every_epoch():
    recipe = replace(RECIPE, augment="rand", erasing=0.5)
    views = loader(recipe)
    windows = views.fixed(1)
    batches = [*views.iter_ordered(windows, 8)]
    assert torch.equal(torch.cat([batch.ids for batch in batches]), torch.arange(31))
    stored = torch.cat([batch.images for batch in batches])
    for number in (0, 1):
        for batch in views.train(0, number, windows):
            assert torch.equal(stored[batch.ids], batch.images)


def test_a_teacher_cache_tells_apart_what_changes_an_image_and_nothing_else():
    keys = [loader(replace(RECIPE, **fields)).cache_key() for fields in FIELDS.values()]
    plain, rrc, rand, erasing, mixup, cutmix, both = keys
    assert plain == mixup == cutmix
    assert len({str(key) for key in (plain, rrc, rand, erasing, both)}) == 5
