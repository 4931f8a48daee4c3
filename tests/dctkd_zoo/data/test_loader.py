"""dctkd_zoo.data.loader against naive slicing, and against the torchvision pipeline that users get."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms

from dctkd_zoo import registry
from dctkd_zoo.data.loader import (
    RATIO,
    CropParams,
    ImageLoader,
    centre_crops,
    crop,
    derive_seed,
    normalise,
    random_crops,
    random_resized_crops,
)
from dctkd_zoo.data.pixel_cache import PixelCache, open_pixel_cache
from dctkd_zoo.data.split import Arrays, Files, Split
from dctkd_zoo.models import create_transform
from dctkd_zoo.schedules import Step
from dctkd_zoo.spec import Recipe

CPU = torch.device("cpu")
DATASET = replace(registry.get_dataset("scene15"), name="tiny", num_classes=2)
RECIPE = Recipe(epochs=1, batch_size=7, lr=0.1, schedule=Step(1), resize=10, crop=8)
ODD = ((300, 200), (201, 333), (257, 257), (131, 400), (90, 91), (17, 40), (640, 427), (33, 32))


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """A cache of its own for each test."""
    monkeypatch.setenv("DCTKD_ZOO_HOME", str(tmp_path / "home"))


def ragged(sides):
    """Random images of (height, width), and the store of them."""
    rng = np.random.default_rng(0)
    images = [torch.from_numpy(rng.integers(0, 256, (h, w, 3), dtype=np.uint8)) for h, w in sides]
    heights, widths = torch.tensor(sides).unbind(1)
    lengths = 3 * heights * widths
    pixels = torch.cat([image.flatten() for image in images])
    return images, PixelCache((pixels,), lengths.cumsum(0) - lengths, heights, widths, (), "digest")


def counted(count=50, recipe=RECIPE):
    """Views of `count` images of noise, 10 x 10 px."""
    rng = np.random.default_rng(1)
    _, store = ragged([(10, 10)] * count)
    return ImageLoader(store, torch.from_numpy(rng.integers(0, 2, count)), recipe, DATASET, CPU)


def of_files(folder, name, dataset=None):
    """Files of odd sizes -> the views of the entry `name` on them, and the files."""
    rng = np.random.default_rng(2)
    for width, height in ODD:
        low = Image.fromarray(rng.integers(0, 256, (height // 8 + 1, width // 8 + 1, 3), dtype=np.uint8))
        low.resize((width, height), Image.Resampling.BICUBIC).save(folder / f"{width}x{height}.png")
    Image.linear_gradient("L").resize((77, 50)).save(folder / "grey.jpg")
    Image.linear_gradient("L").resize((50, 77)).convert("CMYK").save(folder / "cmyk.jpg")
    names = tuple(sorted(path.name for path in folder.iterdir()))
    split = Split(("a", "b"), names, np.arange(len(names)) % 2, Files(folder, names))
    entry = registry.get_entry(name)
    store = open_pixel_cache(split, entry.recipe, folder.parent / "cache")
    return ImageLoader(store, torch.tensor(split.labels), entry.recipe, registry.get_dataset(entry.dataset), CPU)


def equal_batches(first, second):
    """Whether two sequences of batches without blended images are the same."""
    pairs = [*zip(first, second, strict=True)]
    return all(torch.equal(a, b) for x, y in pairs for a, b in zip(x[:3], y[:3], strict=True))


class TestCrop:
    def test_equals_slicing(self):
        rng = np.random.default_rng(3)
        sides = [tuple(rng.integers(5, 30, 2).tolist()) for _ in range(40)]
        images, store = ragged([*sides, (5, 5), (5, 29), (29, 5)])
        for _ in range(5):
            tops = torch.tensor([int(rng.integers(0, h - 4)) for h in store.heights.tolist()])
            lefts = torch.tensor([int(rng.integers(0, w - 4)) for w in store.widths.tolist()])
            ids = torch.from_numpy(rng.permutation(len(images))[:17])
            windows = CropParams(tops, lefts, torch.zeros(len(images), dtype=torch.bool))
            expected = [images[i][tops[i] : tops[i] + 5, lefts[i] : lefts[i] + 5] for i in ids.tolist()]
            assert torch.equal(crop(store, ids, windows, 5), torch.stack(expected))

    def test_last_window_of_the_last_image(self):
        images, store = ragged([(5, 9), (8, 6)])
        windows = CropParams(torch.tensor([0, 3]), torch.tensor([4, 1]), torch.zeros(2, dtype=torch.bool))
        assert torch.equal(crop(store, torch.tensor([1]), windows, 5)[0], images[1][3:, 1:])


class TestNormalise:
    def test_equals_torchvision(self):
        pixels = torch.arange(256, dtype=torch.uint8).repeat(3).view(1, 16, 16, 3)
        for name in ("scene15", "ade20k", "cifar100", "synthscenes"):
            dataset = registry.get_dataset(name)
            pipeline = transforms.Compose([transforms.ToTensor(), transforms.Normalize(dataset.mean, dataset.std)])
            expected = pipeline(Image.fromarray(pixels[0].numpy()))
            assert torch.equal(normalise(pixels, dataset.mean, dataset.std)[0], expected)

    def test_channels_last(self):
        images = normalise(torch.zeros(2, 6, 6, 3, dtype=torch.uint8), DATASET.mean, DATASET.std)
        assert images.shape == (2, 3, 6, 6) and images.dtype == torch.float32
        assert images.is_contiguous(memory_format=torch.channels_last)


class TestTrain:
    def test_each_image_once_with_its_label(self):
        views = counted()
        batches = list(views.train(seed=0, epoch=0))
        ids = torch.cat([batch.ids for batch in batches])
        assert sorted(ids.tolist()) == list(range(50)) and ids.tolist() != list(range(50))
        assert [len(batch.labels) for batch in batches] == [7] * 7 + [1]
        assert torch.equal(torch.cat([batch.labels for batch in batches]), views.labels[ids])
        assert all(b.images.shape == (len(b.ids), 3, 8, 8) for b in batches)
        assert batches[0].images.is_contiguous(memory_format=torch.channels_last)

    def test_each_view_is_a_window_of_its_image_mirrored_or_not(self):
        views = counted()
        images = views.store.pixels[0].view(50, 10, 10, 3)
        windows = images.unfold(1, 8, 1).unfold(2, 8, 1).flatten(1, 2)  # (N, 9, 3, 8, 8)
        windows = normalise(windows.reshape(-1, 3, 8, 8).permute(0, 2, 3, 1), DATASET.mean, DATASET.std)
        windows = windows.view(50, 9, 3, 8, 8)
        for batch in views.train(seed=0, epoch=0):
            for image, index in zip(batch.images, batch.ids.tolist(), strict=True):
                candidates = torch.cat([windows[index], windows[index].flip(3)])
                assert (candidates == image).flatten(1).all(1).sum() == 1

    def test_seed_and_epoch_decide_everything(self):
        views = counted()
        same, again = list(views.train(3, 4)), list(views.train(3, 4))
        torch.rand(1)  # torch's own generator plays no part
        assert all(
            torch.equal(a, b) for x, y in zip(same, again, strict=True) for a, b in zip(x[:3], y[:3], strict=True)
        )
        for seed, epoch in ((3, 5), (4, 4), (4, 3)):
            assert not torch.equal(next(views.train(seed, epoch)).ids, same[0].ids)

    def test_number_of_threads_changes_nothing(self):
        def epoch(threads):
            torch.set_num_threads(threads)
            return list(counted(200).train(0, 0))

        before = torch.get_num_threads()
        try:
            one, many = epoch(1), epoch(5)
        finally:
            torch.set_num_threads(before)
        assert equal_batches(one, many)

    def test_windows_and_flips_are_uniform(self):
        _, store = ragged([(10, 13)] * 6000)
        windows = random_crops(store, RECIPE, torch.Generator().manual_seed(0))
        for places, count in ((windows.tops, 3), (windows.lefts, 6)):
            result = torch.bincount(places, minlength=count)
            assert len(result) == count
            expected = 6000 / count
            assert (result - expected).abs().max() < 5 * math.sqrt(expected)
        assert abs(windows.flips.float().mean() - 0.5) < 5 * 0.5 / math.sqrt(6000)
        together = torch.bincount(windows.tops * 6 + windows.lefts, minlength=18)
        assert ((together - 6000 / 18) ** 2 / (6000 / 18)).sum() < 50  # chi-squared of 17 degrees: 1 in 30,000

    def test_windows_fit_images_of_any_size(self):
        sides = [(8, 8), (8, 100), (100, 8), (9, 9), (50, 51)] * 400
        _, store = ragged(sides)
        windows = random_crops(store, RECIPE, torch.Generator().manual_seed(1))
        for places, lengths in ((windows.tops, store.heights), (windows.lefts, store.widths)):
            assert (places >= 0).all() and (places + 8 <= lengths).all()
        assert (windows.lefts == 92).any() and (windows.lefts == 0).any()

    def test_recipe_without_flips(self):
        views = counted(recipe=replace(RECIPE, flip=False))
        assert not random_crops(views.store, views.recipe, torch.Generator().manual_seed(0)).flips.any()

    def test_seeds_of_different_purposes_differ(self):
        assert len({derive_seed(seed, purpose, epoch) for seed in (0, 1) for purpose in "ab" for epoch in (0, 1)}) == 8
        assert derive_seed(1, 2, 3) != derive_seed(12, 3) and 0 <= derive_seed(0) < 2**63


RRC = replace(RECIPE, augment="rrc")


def drawn(sides, scale=(0.08, 1.0), seed=0, recipe=RRC):
    """Resized crops of images of (height, width), and the store of them."""
    _, store = ragged(sides)
    return random_resized_crops(store, replace(recipe, rrc_scale=scale), torch.Generator().manual_seed(seed)), store


def by_torchvision(side, scale, count):
    """Windows (count, 4) of top, left, height, width that torchvision draws of an image of (height, width)."""
    image = torch.empty(3, *side)
    torch.manual_seed(5)
    get = transforms.RandomResizedCrop.get_params
    return torch.tensor([get(image, list(scale), list(RATIO)) for _ in range(count)])


def stacked(windows):
    return torch.stack([windows.tops, windows.lefts, windows.heights, windows.widths], dim=1)


class TestResizedCrops:
    @pytest.mark.parametrize("scale", [(0.08, 1.0), (0.35, 1.0), (0.2, 0.2), (1.0, 1.0)])
    def test_crops_lie_in_their_image_with_an_area_and_a_shape_in_range(self, scale):
        sides = [(64, 64), (48, 64), (90, 70), (200, 301), (100, 134), (17, 18)] * 200
        windows, store = drawn(sides, scale)
        high, wide = windows.heights.double(), windows.widths.double()
        assert windows.tops.min() >= 0 and windows.lefts.min() >= 0 and high.min() >= 1 and wide.min() >= 1
        assert (windows.tops + high <= store.heights).all() and (windows.lefts + wide <= store.widths).all()
        # A whole image is the fallback of one whose shape is in range; the rest was drawn, and rounded to pixels.
        whole = (high == store.heights) & (wide == store.widths)
        share, around = high * wide / (store.heights * store.widths), (high + wide + 1) / (store.heights * store.widths)
        inside = (share >= scale[0] - around) & (share <= scale[1] + around)
        centred = (windows.tops == (store.heights - high) // 2) & (windows.lefts == (store.widths - wide) // 2)
        fallback = whole | (centred & ((high == store.heights) | (wide == store.widths)))
        assert (inside | fallback).all()
        assert scale[0] == 1 or inside.float().mean() > 0.9
        assert ((wide + 0.5) / (high - 0.5) >= RATIO[0]).all() and ((wide - 0.5) / (high + 0.5) <= RATIO[1]).all()

    @pytest.mark.parametrize(("side", "scale"), [((128, 128), (0.08, 1.0)), ((112, 168), (0.35, 1.0))])
    def test_they_are_distributed_as_torchvision_s(self, side, scale):
        count = 4000
        ours, theirs = stacked(drawn([side] * count, scale)[0]).double(), by_torchvision(side, scale, count).double()
        height, width = side

        def figures(windows):
            top, left, high, wide = windows.unbind(1)
            area, ratio = high * wide / (height * width), (wide / high).log()
            places = (top / (height - high).clamp(min=1), left / (width - wide).clamp(min=1))
            return {"area": area, "ratio": ratio, "top": places[0], "left": places[1]}

        for (name, one), other in zip(figures(ours).items(), figures(theirs).values(), strict=True):
            error = math.sqrt((one.var() + other.var()).item() / count)
            assert abs(one.mean() - other.mean()).item() < 5 * error + 1e-3, name
            for quantile in (0.1, 0.5, 0.9):
                assert one.quantile(quantile).item() == pytest.approx(other.quantile(quantile).item(), abs=0.05), name

    @pytest.mark.parametrize("side", [(10, 200), (200, 10), (7, 31), (31, 7), (5, 400), (90, 128), (128, 90)])
    def test_where_no_draw_fits_the_crop_is_the_largest_in_the_centre_as_torchvision_s(self, side):
        """The whole area fits into an image only in its own shape, which is out of range here."""
        (expected,) = by_torchvision(side, (1.0, 1.0), 20).unique(dim=0)
        result = stacked(drawn([side] * 20, (1.0, 1.0))[0])
        assert (result == expected).all() and min(expected[2:].tolist()) == min(side)

    def test_the_pixels_are_pillow_s_crop_resized(self):
        sides = [(64, 64), (30, 90), (90, 30), (9, 8), (128, 100)] * 8
        images, store = ragged(sides)
        windows = random_resized_crops(store, RRC, torch.Generator().manual_seed(2))
        ids = torch.randperm(len(sides), generator=torch.Generator().manual_seed(3))[:30]
        cut = len(sides) // 2  # of a store in two pieces, as on disk
        middle = int(store.offsets[cut])
        halves = replace(store, pixels=(store.pixels[0][:middle], store.pixels[0][middle:]))
        for known in (store, halves):
            for result, index in zip(crop(known, ids, windows, 8), ids.tolist(), strict=True):
                top, left, high, wide = stacked(windows)[index].tolist()
                image = Image.fromarray(images[index].numpy()).crop((left, top, left + wide, top + high))
                expected = np.asarray(image.resize((8, 8), Image.Resampling.BILINEAR))
                assert np.array_equal(result.numpy(), expected)

    def test_a_batch_is_normalised_and_half_of_it_mirrored(self):
        views = counted(recipe=RRC)
        windows = views.fixed(0)
        batch = views.batch(torch.arange(50), windows)
        expected = normalise(crop(views.store, torch.arange(50), windows, 8), DATASET.mean, DATASET.std)
        expected = torch.where(windows.flips[:, None, None, None], expected.flip(3), expected)
        assert torch.equal(batch.images, expected) and batch.images.shape == (50, 3, 8, 8)
        many, _ = drawn([(10, 10)] * 6000)
        assert abs(many.flips.float().mean() - 0.5) < 5 * 0.5 / math.sqrt(6000)
        assert not drawn([(10, 10)] * 100, recipe=replace(RRC, flip=False))[0].flips.any()

    def test_seed_and_epoch_decide_everything(self):
        views = counted(recipe=RRC)
        same, again = list(views.train(3, 4)), list(views.train(3, 4))
        torch.rand(1)  # torch's own generator plays no part
        assert all(
            torch.equal(a, b) for x, y in zip(same, again, strict=True) for a, b in zip(x[:3], y[:3], strict=True)
        )
        assert [len(batch.ids) for batch in same] == [7] * 7 + [1]
        ordered = [torch.cat([b.images for b in views.train(*key)]) for key in ((3, 4), (3, 5), (4, 4))]
        assert not torch.equal(ordered[0], ordered[1]) and not torch.equal(ordered[0], ordered[2])
        one, other = (stacked(drawn([(64, 64)] * 9, seed=seed)[0]) for seed in (0, 1))
        assert torch.equal(one, stacked(drawn([(64, 64)] * 9, seed=0)[0])) and not torch.equal(one, other)

    def test_an_epoch_that_begins_later_goes_on_with_the_same_images(self):
        views = counted(recipe=RRC)
        whole, rest = list(views.train(0, 1)), list(views.train(0, 1, start=5))
        assert len(rest) == len(whole) - 5
        assert all(
            torch.equal(a, b) for x, y in zip(whole[5:], rest, strict=True) for a, b in zip(x[:3], y[:3], strict=True)
        )

    def test_tests_are_on_centre_crops_as_before(self):
        one, other = (next(counted(recipe=recipe).test(50)) for recipe in (RECIPE, RRC))
        assert torch.equal(one.images, other.images)
        windows = centre_crops(counted(recipe=RRC).store, RRC)
        assert windows.heights is None and windows.widths is None

    def test_what_determines_the_images_is_in_the_key(self):
        def key(**changes):
            return counted(recipe=replace(RECIPE, **changes)).cache_key()

        keys = [key(), *(key(augment="rrc", rrc_scale=scale) for scale in ((0.08, 1.0), (0.35, 1.0), (0.08, 0.9)))]
        assert all(a != b for i, a in enumerate(keys) for b in keys[:i])
        plain = ["digest", 10, 0, "constant", 8, True, DATASET.mean, DATASET.std]
        assert key() == key(rrc_scale=(0.35, 1.0)) == key(label_smoothing=0.1, head_lr=0.1) == plain


class TestTest:
    @pytest.mark.parametrize("name", ["r18_ade20k", "r18_sun397", "r18_mit67", "r18_scene15", "r20_synthscenes"])
    def test_equals_the_transform_that_users_get(self, tmp_path, name):
        (tmp_path / "images").mkdir()
        views = of_files(tmp_path / "images", name)
        transform = create_transform(name)
        names = sorted(path for path in (tmp_path / "images").iterdir())
        batches = list(views.test(4))
        assert torch.cat([batch.ids for batch in batches]).tolist() == list(range(len(names)))
        for image, path in zip(torch.cat([batch.images for batch in batches]), names, strict=True):
            with Image.open(path) as file:
                assert torch.equal(image, transform(file)), path.name

    def test_failed_images_are_left_out(self, tmp_path):
        for index in range(5):
            Image.new("RGB", (12, 12), (index, 0, 0)).save(tmp_path / f"{index}.png")
        (tmp_path / "0.png").write_bytes(b"no image")
        (tmp_path / "3.png").write_bytes(b"no image")
        names = tuple(f"{index}.png" for index in range(5))
        split = Split(("a", "b"), names, np.array([0, 1, 0, 1, 1]), Files(tmp_path, names))
        store = open_pixel_cache(split, RECIPE, tmp_path / "cache")
        (batch,) = ImageLoader(store, torch.tensor(split.labels), RECIPE, DATASET, CPU).test(10)
        assert batch.ids.tolist() == [1, 2, 4] and batch.labels.tolist() == [1, 0, 1]
        reds = batch.images[:, 0, 0, 0] * DATASET.std[0] + DATASET.mean[0]
        assert (reds * 255).round().tolist() == [1, 2, 4]

    def test_same_each_time_and_channels_last(self):
        views = counted()
        first, again = next(views.test(16)), next(views.test(16))
        assert torch.equal(first.images, again.images) and len(first.ids) == 16
        assert first.images.is_contiguous(memory_format=torch.channels_last)

    def test_arrays(self, tmp_path):
        pixels = np.random.default_rng(4).integers(0, 256, (3, 40, 40, 3), dtype=np.uint8)
        recipe = registry.get_entry("r20_synthscenes").recipe
        split = Split(("a",), ("0", "1", "2"), np.zeros(3, np.int64), Arrays(pixels))
        store = open_pixel_cache(split, recipe, tmp_path)
        dataset = registry.get_dataset("synthscenes")
        (batch,) = ImageLoader(store, torch.tensor(split.labels), recipe, dataset, CPU).test(3)
        transform = create_transform("r20_synthscenes")
        assert torch.equal(batch.images, torch.stack([transform(Image.fromarray(image)) for image in pixels]))
