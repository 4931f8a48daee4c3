"""Whole training: against the released style, with and without a cached teacher, and against the bare step."""

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
    """Epochs of this project: pixels from the store, the teacher in the loop, the released terms."""
    views = images.views(setting)
    learner = learners.live_learner(views, learners.SIGNED, setting.steps)
    return lambda: learners.epoch(learner, views)


def cached(setting: Setting) -> Work:
    """The same, the teacher's knowledge from disk."""
    views = images.views(setting)
    learner = learners.cached_learner(views, learners.SIGNED, setting.steps)
    return lambda: learners.epoch(learner, views)


def whole(setting: Setting) -> Work:
    """Epochs with every part: store, views, three terms."""
    views = images.views(setting)
    learner = learners.live_learner(views, learners.KD, setting.steps)
    return lambda: learners.epoch(learner, views)


def bare(setting: Setting) -> Work:
    """As many steps as an epoch has, of the networks and the optimizer alone."""
    step = learners.bare_step(images.views(setting))

    def work() -> None:
        for _ in range(-(-setting.images // setting.batch)):
            step()

    return work


@contextmanager
def against_released(setting: Setting, what: str, make: Make) -> Iterator[Comparison]:
    """Each side in a process of its own: how memory is kept is a matter of the whole process."""
    with (
        process(make, setting, keep_memory=True) as student,
        process(released.epochs, setting, keep_memory=False) as teacher,
    ):
        figure = rate(setting.images)
        yield Comparison(what, "released style", student, teacher, FASTER, figure, setting.slow_rounds)


@contextmanager
def train(setting: Setting) -> Iterator[Comparison]:
    """Training with the teacher in the loop."""
    with against_released(setting, "training, live teacher", live) as comparison:
        yield comparison


@contextmanager
def train_cached(setting: Setting) -> Iterator[Comparison]:
    """Training with a cached teacher."""
    with against_released(setting, "training, cached teacher", cached) as comparison:
        yield comparison


@contextmanager
def loop(setting: Setting) -> Iterator[Comparison]:
    """What store, views, terms and the log cost beside the networks."""
    student, teacher = Timed(whole(setting)), Timed(bare(setting))
    figure = rate(setting.images)
    yield Comparison("training loop", "bare step", student, teacher, FASTER, figure, setting.slow_rounds)


@contextmanager
def memory_short(setting: Setting) -> Iterator[Comparison]:
    """The same of a run too short to compile its objective: without the compiler's own memory."""
    with memory(replace(setting, steps=0)) as comparison:
        yield replace(comparison, what="memory, nothing compiled")


@contextmanager
def memory(setting: Setting) -> Iterator[Comparison]:
    """The same as `loop` in memory, at its peak."""
    images.views(setting)  # building their store is another row's business
    student, teacher = Fresh(whole, setting, peak), Fresh(bare, setting, peak)
    yield Comparison("memory, training loop", "bare step", student, teacher, TIMES, MIB, setting.slow_rounds)
