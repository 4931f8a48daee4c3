"""Evaluation: with all metrics against running only the networks, and as a whole command against timm's way."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from benchmarks.cases.building import empty_home
from benchmarks.cases.starting import ROOT
from benchmarks.fixtures import images, learners
from benchmarks.harness.measure import FASTER, Comparison, Figure, Skipped, rate
from benchmarks.harness.setting import Setting
from benchmarks.harness.sides import Command, Timed
from dctkd_zoo import models, registry
from dctkd_zoo.data import load
from dctkd_zoo.device import fp32_inference
from dctkd_zoo.models import export
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


ENTRY = "mbv2_scene15"
SECONDS = Figure("s", lambda seconds: seconds)


@contextmanager
def first(setting: Setting) -> Iterator[Comparison]:
    """Compare the evaluation of one entry, from start to exit and with nothing kept, with timm's way of validating."""
    with empty_home(setting) as clear:
        yield _command(setting, f"eval {ENTRY}, first time", Command(_evaluation(setting), ROOT, clear))


@contextmanager
def again(setting: Setting) -> Iterator[Comparison]:
    """Compare the same with the measurement kept."""
    with empty_home(setting):
        yield _command(setting, f"eval {ENTRY}, again", Command(_evaluation(setting), ROOT))


def _evaluation(setting: Setting) -> tuple[str, ...]:
    if setting.data is None:
        raise Skipped(f"needs --data with {images.DATASET}")
    entry, out = registry.get_entry(ENTRY), setting.folder / "out"
    dataset = registry.get_dataset(entry.dataset)
    if not out.exists():
        torch.manual_seed(learners.SEED)
        classes = load.read(dataset, setting.data)["test"].classes
        export.write(models.create(entry.arch, len(classes)), entry, dataset, classes, out / ENTRY)
    return ("-m", "eval", ENTRY, "--out", str(out), "--data", str(setting.data.resolve()))


def _command(setting: Setting, what: str, ours: Command) -> Comparison:
    validation = ("-m", "benchmarks.fixtures.validate", str(setting.folder / "out" / ENTRY), str(_test_images(setting)))
    return Comparison(what, "timm's validate.py", ours, Command(validation, ROOT), FASTER, SECONDS, setting.slow_rounds)


def _test_images(setting: Setting) -> Path:
    """Return a folder with links to the test images, one folder per class."""
    assert setting.data is not None
    folder, split = setting.folder / "validated", load.load(images.dataset(), setting.data)["test"]
    for name, label in zip(split.ids, split.labels.tolist(), strict=True):
        link = folder / f"{label:03}" / Path(name).name
        if not link.is_symlink():
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to((setting.data / images.DATASET / name).resolve())
    return folder
