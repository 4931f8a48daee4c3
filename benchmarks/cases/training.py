"""Training: against the released style, with an online or cached teacher, and against bare steps."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from benchmarks.fixtures import images, learners, released
from benchmarks.harness.measure import FASTER, MIB, TIMES, Comparison, rate
from benchmarks.harness.orders import Work, peak
from benchmarks.harness.setting import Setting
from benchmarks.harness.sides import Fresh, Make, Timed, process


def live(setting: Setting) -> Work:
    """Return epochs of this project with the pixel cache, the teacher in the loop and the released loss terms."""
    views = images.views(setting)
    state = learners.live_learner(views, learners.SIGNED, setting.steps)
    return lambda: learners.epoch(state, views)


def cached(setting: Setting) -> Work:
    """Return the same epochs with a cached teacher."""
    views = images.views(setting)
    state = learners.cached_learner(views, learners.SIGNED, setting.steps)
    return lambda: learners.epoch(state, views)


def whole(setting: Setting) -> Work:
    """Return epochs with the pixel cache, the image loader and three loss terms."""
    views = images.views(setting)
    state = learners.live_learner(views, learners.KD, setting.steps)
    return lambda: learners.epoch(state, views)


def bare(setting: Setting) -> Work:
    """Return as many steps as an epoch has, with only networks, cross-entropy and optimizer."""
    step = learners.bare_step(images.views(setting))

    def work() -> None:
        for _ in range(-(-setting.images // setting.batch)):
            step()

    return work


@contextmanager
def against_released(setting: Setting, what: str, make: Make) -> Iterator[Comparison]:
    """Compare with the released style, each side in its own process because memory settings are per process."""
    with (
        process(make, setting, keep_memory=True) as ours,
        process(released.epochs, setting, keep_memory=False) as baseline,
    ):
        figure = rate(setting.images)
        yield Comparison(what, "released style", ours, baseline, FASTER, figure, setting.slow_rounds)


@contextmanager
def train(setting: Setting) -> Iterator[Comparison]:
    """Compare training with the teacher in the loop."""
    with against_released(setting, "training, live teacher", live) as comparison:
        yield comparison


@contextmanager
def train_cached(setting: Setting) -> Iterator[Comparison]:
    """Compare training with a cached teacher."""
    with against_released(setting, "training, cached teacher", cached) as comparison:
        yield comparison


@contextmanager
def loop(setting: Setting) -> Iterator[Comparison]:
    """Measure the overhead of pixel cache, loader, loss terms and log over bare steps."""
    ours, baseline = Timed(whole(setting)), Timed(bare(setting))
    figure = rate(setting.images)
    yield Comparison("training loop", "bare step", ours, baseline, FASTER, figure, setting.slow_rounds)


@contextmanager
def memory_short(setting: Setting) -> Iterator[Comparison]:
    """Compare peak memory in a run too short to compile its objective, so without the compiler's memory."""
    with memory(replace(setting, steps=0)) as comparison:
        yield replace(comparison, what="memory, nothing compiled")


@contextmanager
def memory(setting: Setting) -> Iterator[Comparison]:
    """Compare the peak memory of the sides of `loop`."""
    images.views(setting)  # build the pixel cache now: another row measures that
    ours, baseline = Fresh(whole, setting, peak), Fresh(bare, setting, peak)
    yield Comparison("memory, training loop", "bare step", ours, baseline, TIMES, MIB, setting.slow_rounds)
