"""One epoch of training: views through teacher and student, the objective, and a step."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from dctkd_zoo import distributed
from dctkd_zoo.data.batch import Batch
from dctkd_zoo.data.loader import ImageLoader, centre_crops, derive_seed
from dctkd_zoo.device import autocast, seed
from dctkd_zoo.errors import NonFiniteLoss
from dctkd_zoo.features import FeatureExtractor, Output, finite, refuse_non_finite
from dctkd_zoo.objective import Objective
from dctkd_zoo.spec import Recipe
from train.compile import Losses
from train.optim import set_rate
from train.teacher_source import TeacherFn, TeacherSource

# Older versions of torch know the second name alone, newer ones want the first.
SYNC_BUFFERS = next(
    name
    for name in ("forward_sync_buffers", "broadcast_buffers")
    if name in inspect.signature(DistributedDataParallel).parameters
)
LOOK_EVERY = 20  # steps between looks at the losses, which make the device wait


@dataclass(frozen=True)
class StepKey:
    """Where a step stands in a run. Its random numbers depend on this alone, and so not on where a run was resumed."""

    seed: int = 0
    epoch: int = 0
    step: int = 0


@dataclass(frozen=True)
class TrainState:
    """What a training step needs. Without a guide the objective reads the student's output alone."""

    student: FeatureExtractor
    guide: TeacherSource | None
    objective: Objective
    losses: Losses  # the objective, or a compiled form of it
    optimizer: torch.optim.Optimizer
    recipe: Recipe
    precision: torch.dtype
    teacher_sha256: str = ""
    teacher_config_sha256: str = ""

    @cached_property
    def loss_module(self) -> nn.Module:
        """Student and objective as one module, whose gradients are averaged over the ranks where there are several."""
        lesson = LossModule(self.student, self.objective, self.losses, self.precision)
        # All buffers are the same on all ranks anyway: batch statistics and banks are of the whole batch.
        options: dict[str, Any] = {SYNC_BUFFERS: False}
        return DistributedDataParallel(lesson, **options) if distributed.world_size() > 1 else lesson


class LossModule(nn.Module):
    """The weighted terms of the objective on a rank's part of a batch."""

    def __init__(self, student: FeatureExtractor, objective: Objective, losses: Losses, precision: torch.dtype) -> None:
        super().__init__()
        self.student, self.objective = student, objective
        self.call = [losses]  # in a list, since the objective is a part of this module already
        self.precision = precision

    def forward(self, batch: Batch, taught: Output | None, share: float, moment: StepKey) -> dict[str, Tensor]:
        """Scalars with a graph, times `share`: what the rank's images weigh in the mean over the ranks."""
        device = batch.images.device
        with autocast(device, self.precision):
            seed(device, derive_seed(moment.seed, "dropout", moment.epoch, moment.step, distributed.rank()))
            student = self.student(batch.images)
            seed(device, derive_seed(moment.seed, "terms", moment.epoch, moment.step))
            values = self.call[0](student, student if taught is None else taught, batch)
        return values if share == 1 else {name: share * value for name, value in values.items()}


@dataclass
class Meter:
    """Mean of each term over an epoch, brought to the host every few steps and checked there."""

    epoch: int
    sums: dict[str, float] = field(default_factory=dict)
    steps: int = 0
    waiting: list[dict[str, Tensor]] = field(default_factory=list)

    def add(self, losses: dict[str, Tensor]) -> None:
        """Keep the terms of one step, still on the device."""
        self.waiting.append({name: value.detach() for name, value in losses.items()})

    def look(self) -> dict[str, float]:
        """Means so far, over all ranks; `NonFiniteLoss` names the first term and step that went wrong."""
        if self.waiting:
            names = list(self.waiting[0])
            table = torch.stack([torch.stack([step[name] for name in names]) for step in self.waiting])
            self.waiting.clear()
            for row in distributed.all_reduce_mean(table.double()).tolist():
                self._count(dict(zip(names, row, strict=True)))
        return {name: total / self.steps for name, total in self.sums.items()}

    def _count(self, row: dict[str, float]) -> None:
        for name, value in row.items():
            if not abs(value) < float("inf"):
                raise NonFiniteLoss(f"the term {name!r} is {value} at step {self.steps + 1} of epoch {self.epoch}")
        for name, value in row.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
        self.steps += 1


def epoch(
    learner: TrainState,
    views: ImageLoader,
    seed: int,
    number: int,
    report: Callable[[int, dict[str, float]], None],
    meter: Meter | None = None,
    on_step_end: Callable[[], None] = lambda: None,
) -> dict[str, float]:
    """Train on all images once, or on those that the `meter` of a run that was stopped has not counted yet.

    `report` gets the images done and the means so far, `on_step_end` is called after each step. Returns the log row's
    figures.
    """
    meter = meter or Meter(number + 1)
    learner.student.train()
    learner.objective.train()
    size, total = learner.recipe.batch_size, len(views.labels)
    start, begun = time.perf_counter(), min(meter.steps * size, total)
    done, steps = begun, -(-total // size)
    windows, teach = learner.guide.epoch(number) if learner.guide else (None, None)
    for index, batch in enumerate(views.train(seed, number, windows, meter.steps), start=meter.steps):
        set_rate(learner.optimizer, learner.recipe, number + index / steps)
        count = min(size, total - done)
        meter.add(step(learner, batch, teach, count, StepKey(seed, number, index)))
        done += count
        if index % LOOK_EVERY == 0:
            report(done, meter.look())
        on_step_end()
    losses = meter.look()
    report(done, losses)
    rate = set_rate(learner.optimizer, learner.recipe, number + (steps - 1) / steps)
    return {"lr": rate, "images_per_s": (done - begun) / (time.perf_counter() - start), **losses}


def step(
    learner: TrainState, batch: Batch, teach: TeacherFn | None, count: int | None = None, moment: StepKey | None = None
) -> dict[str, Tensor]:
    """One update on this rank's part of a batch of `count` images; returns the weighted terms, scalars."""
    count = len(batch.labels) if count is None else count
    _ = learner.loss_module  # is made of all ranks, whatever this batch is
    with distributed.local_only(count < distributed.world_size()):
        losses = forward(
            learner, batch, teach, distributed.world_size() * len(batch.labels) / count, moment or StepKey()
        )
        learner.optimizer.zero_grad(set_to_none=True)
        torch.stack(list(losses.values())).sum().backward()
    learner.optimizer.step()
    return losses


def forward(
    learner: TrainState, batch: Batch, teach: TeacherFn | None, share: float, moment: StepKey
) -> dict[str, Tensor]:
    """The weighted terms of the objective on a rank's part of a batch, scalars with a graph."""
    losses: dict[str, Tensor] = learner.loss_module(batch, teach(batch) if teach else None, share, moment)
    return losses


@torch.inference_mode()
def top1(
    network: FeatureExtractor,
    views: ImageLoader,
    precision: torch.dtype,
    on_step_end: Callable[[], None] = lambda: None,
    who: str = "",
) -> float:
    """Share of the test images that the model gets right, in percent; each rank looks at some of them.

    `NonFiniteAnswers`, which begins with `who`, where its outputs are no numbers on any of them.
    """
    network.eval()
    counts = torch.zeros(3, dtype=torch.long)
    for batch, own in views.iter_sharded(centre_crops(views.store, views.recipe), views.recipe.batch_size):
        if own:
            with autocast(batch.images.device, precision):
                output = network(batch.images)
            hits, broken = (output.logits.argmax(dim=1) == batch.labels).sum(), (~finite(output.tensors())).sum()
            counts += torch.stack([hits.cpu(), torch.tensor(len(batch.labels)), broken.cpu()])
        on_step_end()
    right, seen, wrong = map(int, distributed.all_reduce_sum(counts))
    refuse_non_finite(wrong, seen, who)
    return 100 * right / seen
