"""The evaluation's table, with all metrics, against the two networks alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks import images, learners
from benchmarks.building import empty_home
from benchmarks.measure import FASTER, Comparison, rate
from benchmarks.setting import Setting
from benchmarks.sides import Timed
from dctkd_zoo.device import exactly
from eval import protocol
from eval.run import partners, silent, taught
from eval.table import BATCH_SIZE, Reference, table


@contextmanager
def evaluate(setting: Setting) -> Iterator[Comparison]:
    """Both in float32, channels last; the other side has its images normalised and on the device."""
    views = images.views(setting)
    student, teacher = learners.student(views).eval(), learners.teacher(views)
    metrics = protocol.image_metrics("exact", teacher=True)
    batches = [batch.images for batch in views.test(BATCH_SIZE)]

    def whole() -> None:
        table(student, Reference(taught(teacher, views, silent), None, partners(views)), views, metrics, silent)

    def bare() -> None:
        with exactly():
            for batch in batches:
                student.model(batch)
                teacher.network.model(batch)

    figure = rate(setting.images)
    with empty_home(setting) as emptied:  # or the teacher would be run once for all rounds
        ours, theirs = Timed(whole, emptied), Timed(bare)
        yield Comparison("evaluation table", "bare networks", ours, theirs, FASTER, figure, setting.slow_rounds)
