"""Training throughput on a GPU at the paper's image size, with pixels in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import torch

from benchmarks.fixtures import images, learners
from benchmarks.harness.measure import Comparison, Skipped, Value, rate
from benchmarks.harness.setting import Setting
from benchmarks.harness.sides import NOTHING, Timed
from dctkd_zoo import registry
from dctkd_zoo.data.loader import ImageLoader
from dctkd_zoo.data.pixel_cache import PixelCache
from train.loop import TrainState

DATASET, SIZE = "ade20k", (256, 341)  # px of a photograph of 3:4 once its short side is resized
BLOCK = 2**26  # random bytes, repeated


@contextmanager
def throughput(
    setting: Setting, batch: int, what: str, learner: Callable[[ImageLoader, str, int], TrainState]
) -> Iterator[Comparison]:
    """Measure epochs over the paper's training set in images per second, with loading, loss terms and log."""
    if not torch.cuda.is_available():
        raise Skipped("torch does not see a GPU")
    views = ade20k(replace(setting, batch=batch, resize=256, crop=224))
    state, count = learner(views, learners.SIGNED, setting.steps), len(views.labels)
    work = Timed(lambda: learners.epoch(state, views))
    value = Value("images/s", lambda seconds, _: count / seconds)
    yield Comparison(f"{what}, batch {batch}", "", work, NOTHING, value, rate(count), setting.slow_rounds)


def ade20k(setting: Setting) -> ImageLoader:
    """Return a loader of random pixels with as many images as the paper's training set."""
    dataset = registry.get_dataset(DATASET)
    count, (height, width) = dataset.train or 0, SIZE
    size = height * width * 3
    block = torch.randint(256, (BLOCK,), dtype=torch.uint8)
    pixels = block.repeat(-(-count * size // BLOCK))[: count * size]
    heights, widths = torch.full((count,), height), torch.full((count,), width)
    cache = PixelCache((pixels,), torch.arange(count) * size, heights, widths, (), "random")
    labels = torch.randint(dataset.num_classes, (count,))
    return ImageLoader(cache, labels, images.recipe(setting), dataset, setting.device)


live = partial(throughput, batch=128, what="live teacher", learner=learners.live_learner)
cached = partial(throughput, batch=128, what="cached teacher", learner=learners.cached_learner)
live_512 = partial(throughput, batch=512, what="live teacher", learner=learners.live_learner)
cached_512 = partial(throughput, batch=512, what="cached teacher", learner=learners.cached_learner)
