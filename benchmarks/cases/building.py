"""Building a pixel cache: speed against plain decoding and resizing, and memory."""

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

QUEUED, OVERHEAD = 64, 50e6  # images per core that may wait to be written, and bytes for everything else


def build(setting: Setting) -> Work:
    """Return work that builds a pixel cache of all images."""
    split, recipe = images.split(setting, setting.built), images.recipe(setting)
    resized(split.images.load(0), recipe)  # imports torchvision, whose memory is not that of the work
    return lambda: open_pixel_cache(split, recipe, cache_home())


def decode(setting: Setting) -> Work:
    """Return work that decodes and resizes the same files with as many threads and discards the result."""
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
    """Compare building a pixel cache from scratch with plain decoding and resizing."""
    with empty_home(setting) as clear:
        ours, baseline = Timed(build(setting), clear, functions), Timed(decode(setting))
        figure = rate(setting.built)
        yield Comparison("pixel cache", "decode and resize", ours, baseline, FASTER, figure, setting.rounds)


@contextmanager
def store_memory(setting: Setting) -> Iterator[Comparison]:
    """Compare the peak memory of building a pixel cache with its limit."""
    first = resized(images.split(setting, 1).images.load(0), images.recipe(setting))
    queued = QUEUED * (os.cpu_count() or 1) * first.nbytes
    with empty_home(setting) as clear:
        ours, limit = Fresh(build, setting, growth, clear), Given((queued + OVERHEAD) / 2**20)
        yield Comparison("memory, pixel cache", "limit", ours, limit, TIMES, MIB, setting.slow_rounds)


@contextmanager
def empty_home(setting: Setting) -> Iterator[Work]:
    """Use an empty DCTKD_ZOO_HOME inside the block, and yield a function that empties it again."""
    folder = setting.folder / "emptied"
    with home(folder):
        yield lambda: shutil.rmtree(folder, ignore_errors=True)
