"""dctkd_zoo.data.pixel_cache against Pillow and NumPy alone."""

import errno
import hashlib
import itertools
import os
import threading
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any

import numpy as np
import pytest
import torch
from PIL import Image

from dctkd_zoo.data import fingerprint
from dctkd_zoo.data.decode import Picture
from dctkd_zoo.data.pixel_cache import PixelCache, open_pixel_cache
from dctkd_zoo.data.split import Arrays, Files, Images, Split, digest
from dctkd_zoo.errors import DatasetError, Undecodable, Unreadable
from dctkd_zoo.schedules import Step
from dctkd_zoo.spec import Recipe

RECIPE = Recipe(epochs=1, batch_size=2, lr=0.1, schedule=Step(1), resize=16, crop=12)
PADDED = replace(RECIPE, pad=3, pad_mode="reflect")
SIZES = ((16, 16), (31, 17), (17, 31), (9, 13), (64, 11), (11, 64), (200, 16), (5, 90), (33, 33), (1, 7), (90, 91))


def noise(width, height, seed=0):
    rng = np.random.default_rng([width, height, seed])
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """A cache of its own for each test."""
    monkeypatch.setenv("DCTKD_ZOO_HOME", str(tmp_path / "home"))


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "images").mkdir()
    return tmp_path / "images"


@pytest.fixture
def split(folder):
    """Images of many shapes, one file each."""
    return written(folder, {f"{w}x{h}.png": noise(w, h) for w, h in SIZES})


def written(folder, images):
    """PIL images by file name -> the split of their files, labelled 0 and 1 in turn."""
    for name, image in images.items():
        image.save(folder / name)
    return split_of(Files(folder, tuple(images)))


def split_of(images, ids=None):
    ids = ids or getattr(images, "names", None) or tuple(map(str, range(len(images))))
    return Split(("a", "b"), tuple(ids), np.arange(len(images)) % 2, images)


def joined(store):
    """All bytes of a store."""
    return torch.cat(store.pixels)


def image(store, index):
    """One image of a store as an array."""
    height, width = int(store.heights[index]), int(store.widths[index])
    start = int(store.offsets[index])
    return joined(store)[start : start + 3 * height * width].view(height, width, 3).numpy()


def reference(picture, recipe):
    """What a store should hold, from Pillow's resize, torchvision's documented size rule and NumPy's pad."""
    width, height = picture.size
    short, long = recipe.resize, int(recipe.resize * max(width, height) / min(width, height))
    size = (short, long) if width <= height else (long, short)
    if picture.mode == "I;16":
        picture = Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
    pixels = np.asarray(picture.convert("RGB").resize(size, Image.Resampling.BILINEAR))
    around = ((recipe.pad, recipe.pad), (recipe.pad, recipe.pad), (0, 0))
    return np.pad(pixels, around, mode=recipe.pad_mode)


def folders(cache):
    """What lies in a cache and looks like a store."""
    return sorted(path.name for path in (cache / "stores").iterdir())


@dataclass(frozen=True)
class Counting(Images):
    """Images that keep a list of what was decoded."""

    images: Files
    loaded: list[int] = field(default_factory=list)

    def __len__(self):
        return len(self.images)

    def picture(self, index, payload):
        self.loaded.append(index)
        return self.images.picture(index, payload)

    def payload(self, index):
        return self.images.payload(index)


@dataclass(frozen=True)
class Listed(Images):
    """PIL images, whose payload is their pixels; an exception among them is raised when it is decoded."""

    images: tuple[Image.Image | BaseException, ...]

    def __len__(self):
        return len(self.images)

    def picture(self, index, payload):
        if isinstance(self.images[index], BaseException):
            raise self.images[index]
        return Picture(self.images[index], ())

    def payload(self, index):
        return repr(self.images[index]).encode() if self._raises(index) else self.images[index].tobytes()

    def _raises(self, index):
        return isinstance(self.images[index], BaseException)


class TestPixels:
    @pytest.mark.parametrize("pad", [0, 3])
    @pytest.mark.parametrize("mode", ["constant", "reflect"])
    def test_equal_pillow(self, split, tmp_path, mode, pad):
        recipe = replace(RECIPE, pad=pad, pad_mode=mode)
        store = open_pixel_cache(split, recipe, tmp_path / "cache")
        for index, (width, height) in enumerate(SIZES):
            np.testing.assert_array_equal(
                image(store, index), reference(noise(width, height), recipe), str(SIZES[index])
            )
        assert store.failed == () and len(joined(store)) == 3 * int((store.heights * store.widths).sum())

    def test_every_ratio_has_torchvision_s_size(self, tmp_path):
        sizes = list(itertools.product(range(3, 60, 7), range(2, 60, 5)))
        split = split_of(Listed(tuple(noise(*size) for size in sizes)))
        store = open_pixel_cache(split, RECIPE, tmp_path)
        for index, (width, height) in enumerate(sizes):
            np.testing.assert_array_equal(image(store, index), reference(noise(width, height), RECIPE))

    def test_image_of_the_right_size_is_kept_as_it_is(self, tmp_path):
        pixels = np.random.default_rng(0).integers(0, 256, (5, 16, 16, 3), dtype=np.uint8)
        store = open_pixel_cache(split_of(Arrays(pixels)), RECIPE, tmp_path)
        np.testing.assert_array_equal(joined(store).numpy(), pixels.ravel())

    @pytest.mark.parametrize("mode", ["L", "1", "P", "CMYK", "I;16", "LA", "RGBA", "F"])
    def test_every_kind_of_file_becomes_rgb(self, folder, tmp_path, mode):
        grey = Image.linear_gradient("L")
        picture = Image.new("I;16", (20, 20), 20_000) if mode == "I;16" else grey.resize((20, 20)).convert(mode)
        name = "a.png" if mode in ("L", "1", "P", "I;16", "LA", "RGBA") else "a.tiff"
        store = open_pixel_cache(written(folder, {name: picture}), RECIPE, tmp_path / "cache")
        assert store.failed == () and image(store, 0).shape == (16, 16, 3)
        np.testing.assert_array_equal(image(store, 0), reference(Image.open(folder / name), RECIPE))

    def test_grey_jpeg_has_three_equal_channels(self, folder, tmp_path):
        split = written(folder, {"a.jpg": Image.linear_gradient("L").resize((40, 20))})
        pixels = image(open_pixel_cache(split, RECIPE, tmp_path / "cache"), 0)
        assert np.ptp(pixels, axis=2).max() == 0 and np.ptp(pixels) > 200


class TestReuse:
    def test_second_open_decodes_nothing(self, split, tmp_path):
        counting = Counting(split.images)
        first = open_pixel_cache(replace(split, images=counting), RECIPE, tmp_path / "cache")
        assert sorted(counting.loaded) == list(range(len(split)))
        again = open_pixel_cache(replace(split, images=counting), RECIPE, tmp_path / "cache")
        assert len(counting.loaded) == len(split)
        assert torch.equal(joined(first), joined(again)) and first.digest == again.digest == digest(split)

    def test_key_is_of_content_and_geometry(self, split, folder, tmp_path):
        cache = tmp_path / "cache"
        for recipe in (RECIPE, replace(RECIPE, resize=17), replace(RECIPE, pad=3), PADDED):
            open_pixel_cache(split, recipe, cache)
        assert len(folders(cache)) == 4
        same = replace(RECIPE, seed=9, epochs=9, batch_size=9, crop=8, flip=False, lr=9.0, pretrained="tv_in1k")
        open_pixel_cache(split, same, cache)
        assert len(folders(cache)) == 4
        noise(16, 16, seed=1).save(folder / split.ids[0])
        changed = open_pixel_cache(split, RECIPE, cache)
        assert len(folders(cache)) == 5
        np.testing.assert_array_equal(image(changed, 0), reference(noise(16, 16, seed=1), RECIPE))

    def test_another_order_is_another_store(self, split, tmp_path):
        backwards = split.take(range(len(split))[::-1])
        straight, turned = (open_pixel_cache(s, RECIPE, tmp_path / "cache") for s in (split, backwards))
        np.testing.assert_array_equal(image(straight, 0), image(turned, len(split) - 1))
        assert len(folders(tmp_path / "cache")) == 2


class TestMapping:
    def test_mapped_not_read(self, split, tmp_path):
        if not Path("/proc/self/maps").exists():
            pytest.skip("what is mapped can be read on Linux only")
        store = open_pixel_cache(split, RECIPE, tmp_path / "cache")
        (file,) = (tmp_path / "cache" / "stores").glob("*/*.bin")
        start, end = next(
            (int(part, 16) for part in line.split()[0].split("-"))
            for line in Path("/proc/self/maps").read_text().splitlines()
            if line.endswith(str(file))
        )
        assert start <= store.pixels[0].data_ptr() < end

    def test_writing_to_a_store_leaves_its_file_alone(self, split, tmp_path):
        before = open_pixel_cache(split, RECIPE, tmp_path / "cache").pixels[0].clone()
        open_pixel_cache(split, RECIPE, tmp_path / "cache").pixels[0].zero_()
        assert torch.equal(open_pixel_cache(split, RECIPE, tmp_path / "cache").pixels[0], before)


class TestFaults:
    def test_undecodable_files_are_named_and_the_rest_is_whole(self, split, folder, tmp_path):
        good = open_pixel_cache(split, RECIPE, tmp_path / "good")
        whole = (folder / split.ids[4]).read_bytes()
        (folder / split.ids[1]).write_bytes(b"no image at all")
        (folder / split.ids[4]).write_bytes(whole[: len(whole) // 2])
        (folder / split.ids[10]).write_bytes(b"")
        store = open_pixel_cache(split, RECIPE, tmp_path / "cache")
        assert len(store.failed) == 3
        for index, message in zip((1, 4, 10), store.failed, strict=True):
            assert message.startswith(f"{split.ids[index]}: ") and str(folder / split.ids[index]) in message
            assert store.heights[index] == store.widths[index] == 0
        for index in set(range(len(split))) - {1, 4, 10}:
            np.testing.assert_array_equal(image(store, index), image(good, index))

    def test_decoder_that_raises_what_no_one_expects(self, split, folder, tmp_path, monkeypatch):
        whole = (folder / split.ids[2]).read_bytes()

        def strange(file, **how):
            if file.getvalue() == whole:
                raise TypeError("'IFDRational' object cannot be interpreted as an integer")
            return real(file, **how)

        real = Image.open
        monkeypatch.setattr(Image, "open", strange)
        (failed,) = open_pixel_cache(split, RECIPE, tmp_path / "cache").failed
        assert str(folder / split.ids[2]) in failed and "IFDRational" in failed

    @pytest.mark.parametrize(
        ("death", "told"),
        [
            (KeyboardInterrupt(), KeyboardInterrupt),
            (SystemExit(), SystemExit),
            (MemoryError(), Unreadable),
            (OSError(errno.EIO, "Input/output error"), Unreadable),
            (Unreadable("a disk"), Unreadable),
        ],
        ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
    )
    def test_build_that_dies_leaves_nothing(self, tmp_path, death, told):
        pictures = [noise(20, 20, seed) for seed in range(80)]
        dying = split_of(Listed((*pictures[:40], death, *pictures[41:])))
        with pytest.raises(told):
            open_pixel_cache(dying, RECIPE, tmp_path)
        assert not list((tmp_path / "stores").rglob("*.bin")) and not list((tmp_path / "stores").rglob("*.json"))
        store = open_pixel_cache(split_of(Listed(tuple(pictures))), RECIPE, tmp_path)
        np.testing.assert_array_equal(image(store, 40), reference(pictures[40], RECIPE))

    def test_nothing_decodes(self, tmp_path):
        store = open_pixel_cache(split_of(Listed((Undecodable("a"), Undecodable("b")))), RECIPE, tmp_path)
        assert len(store.failed) == 2 and store.heights.tolist() == [0, 0] and len(joined(store)) == 0

    def test_a_disk_that_goes_away_for_a_moment_ends_the_build(self, split, tmp_path, monkeypatch):
        cache, real = tmp_path / "cache", os.fdopen
        fingerprint.fingerprints(split)
        monkeypatch.setattr(os, "fdopen", lambda *how: Failing(real(*how), errno.EIO))
        with pytest.raises(Unreadable, match=r"16x16\.png: cannot be read: Input/output error"):
            open_pixel_cache(split, RECIPE, cache)
        monkeypatch.setattr(os, "fdopen", real)
        assert open_pixel_cache(split, RECIPE, cache).failed == (), "nothing was kept of the moment"

    @pytest.mark.parametrize("code", ["ESTALE", "EACCES", "ENOENT", "EMFILE", "ENOMEM"])
    def test_no_error_of_reading_means_that_an_image_does_not_decode(self, split, tmp_path, monkeypatch, code):
        fingerprint.fingerprints(split)

        def refuse(*path):
            raise OSError(getattr(errno, code), os.strerror(getattr(errno, code)))

        monkeypatch.setattr(os, "open", refuse)
        with pytest.raises(Unreadable, match=os.strerror(getattr(errno, code))):
            split.images.payload(0)

    def test_no_memory_to_decode_one_ends_the_build(self, split, tmp_path, monkeypatch):
        def short(image, mode):
            raise MemoryError

        fingerprint.fingerprints(split)
        monkeypatch.setattr(Image.Image, "convert", short)
        with pytest.raises(Unreadable, match=r"16x16\.png: cannot be read: there is not enough memory"):
            open_pixel_cache(split, RECIPE, tmp_path / "cache")

    def test_an_image_that_rots_is_found_where_its_time_does_not_tell(self, split, folder, tmp_path):
        before = digest(split, fingerprint.fingerprints(split))
        path = folder / split.ids[3]
        data, stat = bytearray(path.read_bytes()), path.stat()
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        assert digest(split, fingerprint.fingerprints(split)) == before, "its size and time are the same"
        with pytest.raises(DatasetError, match=rf"{split.ids[3]}: its bytes differ from those hashed before"):
            open_pixel_cache(split, RECIPE, tmp_path / "cache")
        path.touch()
        store = open_pixel_cache(split, RECIPE, tmp_path / "cache")
        assert store.digest == digest(split, [hashlib.sha256((folder / n).read_bytes()).hexdigest() for n in split.ids])

    def test_how_images_are_seen_is_said_once(self, folder, tmp_path, caplog):
        caplog.set_level("INFO", "dctkd_zoo")
        deep = Image.fromarray(np.full((20, 20), 40_000, np.uint16))
        split = written(folder, {"a.png": noise(20, 20), "b.png": deep, "c.tif": deep})
        for _ in range(2):
            open_pixel_cache(split, RECIPE, tmp_path / "cache")
        assert caplog.messages == ["2 images read as 8 bits, as in evaluation: the upper 8 of 16: b.png, c.tif"]


@dataclass
class Failing:
    """A file whose bytes cannot be read."""

    file: IO[Any]
    code: int

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()

    def fileno(self):
        return self.file.fileno()

    def read(self, size):
        raise OSError(self.code, os.strerror(self.code))


class TestThreads:
    def test_order_is_that_of_the_split(self, tmp_path, monkeypatch):
        monkeypatch.setattr("os.cpu_count", lambda: 8)
        shades = [Image.new("RGB", (16, 16), (shade, 0, 0)) for shade in range(200)]

        class Slow(Listed):
            def picture(self, index, payload):
                time.sleep(0.002 * (index % 5 == 0))
                return super().picture(index, payload)

        store = open_pixel_cache(split_of(Slow(tuple(shades))), RECIPE, tmp_path)
        assert joined(store).view(200, -1)[:, 0].tolist() == list(range(200))

    def test_no_store_depends_on_the_number_of_threads(self, split, tmp_path, monkeypatch):
        def built(threads):
            monkeypatch.setattr("os.cpu_count", lambda: threads)
            return open_pixel_cache(split, PADDED, tmp_path / str(threads))

        one, many = built(None), built(7)
        assert torch.equal(joined(one), joined(many)) and torch.equal(one.offsets, many.offsets)

    def test_two_builders_at_once_decode_each_image_once(self, tmp_path):
        first, loaded = threading.Event(), []

        class Slow(Listed):
            def picture(self, index, payload):
                loaded.append(index)
                first.set()
                time.sleep(0.01)
                return super().picture(index, payload)

        split = split_of(Slow(tuple(noise(20, 30, seed) for seed in range(20))))
        stores: list[PixelCache] = []
        threads = [
            threading.Thread(target=lambda: stores.append(open_pixel_cache(split, RECIPE, tmp_path))) for _ in "ab"
        ]
        threads[0].start()
        first.wait(timeout=30)
        threads[1].start()
        for thread in threads:
            thread.join()
        assert sorted(loaded) == list(range(20))
        assert len(stores) == 2 and torch.equal(joined(stores[0]), joined(stores[1]))
        assert len(folders(tmp_path)) == 1
        np.testing.assert_array_equal(image(stores[0], 19), reference(noise(20, 30, 19), RECIPE))
