"""Building a pixel store: against bare decoding and resizing, and the memory that it takes."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from PIL import Image

from benchmarks.fixtures import images
from benchmarks.harness.measure import FASTER, MIB, TIMES, Comparison, rate
from benchmarks.harness.orders import Work, functions, growth
from benchmarks.harness.setting import Setting, home
from benchmarks.harness.sides import Fresh, Given, Timed
from dctkd_zoo._io.paths import cache_home
from dctkd_zoo.data.pixel_cache import open_pixel_cache, resized

AHEAD, BESIDE = 64, 50e6  # images per core that may wait to be written, and bytes for everything else


def build(setting: Setting) -> Work:
    """A store of all images in the package's cache."""
    split, recipe = images.split(setting, setting.built), images.recipe(setting)
    return lambda: open_pixel_cache(split, recipe, cache_home())


def decode(setting: Setting) -> Work:
    """The same files decoded and resized by as many threads, and forgotten."""
    split = images.split(setting, setting.built)
    root = images.root(split)

    def one(name: str) -> None:
        with Image.open(root / name) as file:
            image = file.convert("RGB")
        scale = setting.resize / min(image.size)
        image.resize((int(image.width * scale), int(image.height * scale)), Image.Resampling.BILINEAR)

    def work() -> None:
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for _ in pool.map(one, split.ids):
                pass

    return work


@contextmanager
def store(setting: Setting) -> Iterator[Comparison]:
    """From files to the open store, in a cache that is empty each time."""
    with empty_home(setting) as emptied:
        student, teacher = Timed(build(setting), emptied, functions), Timed(decode(setting))
        figure = rate(setting.built)
        yield Comparison("pixel store", "decode and resize", student, teacher, FASTER, figure, setting.rounds)


@contextmanager
def store_memory(setting: Setting) -> Iterator[Comparison]:
    """How far a build takes its process, at the peak, against what is allowed."""
    first = resized(images.split(setting, 1).images.load(0), images.recipe(setting))
    waiting = AHEAD * (os.cpu_count() or 1) * first.nbytes
    with empty_home(setting) as emptied:
        student, teacher = Fresh(build, setting, growth, emptied), Given((waiting + BESIDE) / 2**20)
        yield Comparison("memory, pixel store", "limit", student, teacher, TIMES, MIB, setting.slow_rounds)


@contextmanager
def empty_home(setting: Setting) -> Iterator[Work]:
    """A home of the package for a while, and what empties it."""
    folder = setting.folder / "emptied"
    with home(folder):
        yield lambda: shutil.rmtree(folder, ignore_errors=True)
