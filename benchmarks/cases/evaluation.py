"""Evaluation with all metrics, against running only the two networks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.cases.building import empty_home
from benchmarks.fixtures import images, learners
from benchmarks.harness.measure import FASTER, Comparison, rate
from benchmarks.harness.setting import Setting
from benchmarks.harness.sides import Timed
from dctkd_zoo.device import fp32_inference
from eval.run import protocol
from eval.run.evaluation import partners, silent, teacher_outputs
from eval.run.per_image import BATCH_SIZE, References, table


@contextmanager
def evaluate(setting: Setting) -> Iterator[Comparison]:
    """Compare evaluation with the two networks alone, in float32 and channels last.

    The networks alone get images that are already normalised and on the device.
    """
    views = images.views(setting)
    student, teacher = learners.student(views).eval(), learners.teacher(views)
    metrics = protocol.image_metrics("exact", teacher=True)
    batches = [batch.images for batch in views.test(BATCH_SIZE)]

    def whole() -> None:
        table(
            student, References(teacher_outputs(teacher, views, silent), None, partners(views)), views, metrics, silent
        )

    def bare() -> None:
        with fp32_inference():
            for batch in batches:
                student.model(batch)
                teacher.network.model(batch)

    figure = rate(setting.images)
    with empty_home(setting) as clear:  # otherwise the teacher would run only in the first round
        ours, baseline = Timed(whole, clear), Timed(bare)
        yield Comparison("evaluation table", "bare networks", ours, baseline, FASTER, figure, setting.slow_rounds)
