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

from dctkd_zoo import ranks
from dctkd_zoo.data.batch import Batch
from dctkd_zoo.data.views import Views, centre_windows, derive
from dctkd_zoo.device import autocast, seed
from dctkd_zoo.errors import NonFiniteLoss
from dctkd_zoo.features import Output, Tapped, finite, refuse_non_finite
from dctkd_zoo.objective import Objective
from dctkd_zoo.spec import Recipe
from train.compiled import Losses
from train.guide import Guide, Teach
from train.optim import set_rate

# Older versions of torch know the second name alone, newer ones want the first.
SYNC_BUFFERS = next(
    name
    for name in ("forward_sync_buffers", "broadcast_buffers")
    if name in inspect.signature(DistributedDataParallel).parameters
)
LOOK_EVERY = 20  # steps between looks at the losses, which make the device wait


@dataclass(frozen=True)
class Moment:
    """Where a step stands in a run. Its random numbers depend on this alone, and so not on where a run was resumed."""

    seed: int = 0
    epoch: int = 0
    step: int = 0


@dataclass(frozen=True)
class Learner:
    """What a training step needs. Without a guide the objective reads the student's output alone."""

    student: Tapped
    guide: Guide | None
    objective: Objective
    losses: Losses  # the objective, or a compiled form of it
    optimizer: torch.optim.Optimizer
    recipe: Recipe
    precision: torch.dtype
    teacher_sha256: str = ""
    teacher_config_sha256: str = ""

    @cached_property
    def lesson(self) -> nn.Module:
        """Student and objective as one module, whose gradients are averaged over the ranks where there are several."""
        lesson = Lesson(self.student, self.objective, self.losses, self.precision)
        # All buffers are the same on all ranks anyway: batch statistics and banks are of the whole batch.
        options: dict[str, Any] = {SYNC_BUFFERS: False}
        return DistributedDataParallel(lesson, **options) if ranks.size() > 1 else lesson


class Lesson(nn.Module):
    """The weighted terms of the objective on a rank's part of a batch."""

    def __init__(self, student: Tapped, objective: Objective, losses: Losses, precision: torch.dtype) -> None:
        super().__init__()
        self.student, self.objective = student, objective
        self.call = [losses]  # in a list, since the objective is a part of this module already
        self.precision = precision

    def forward(self, batch: Batch, taught: Output | None, share: float, moment: Moment) -> dict[str, Tensor]:
        """Scalars with a graph, times `share`: what the rank's images weigh in the mean over the ranks."""
        device = batch.images.device
        with autocast(device, self.precision):
            seed(device, derive(moment.seed, "dropout", moment.epoch, moment.step, ranks.rank()))
            student = self.student(batch.images)
            seed(device, derive(moment.seed, "terms", moment.epoch, moment.step))
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
            for row in ranks.mean(table.double()).tolist():
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
    learner: Learner,
    views: Views,
    seed: int,
    number: int,
    report: Callable[[int, dict[str, float]], None],
    meter: Meter | None = None,
    between: Callable[[], None] = lambda: None,
) -> dict[str, float]:
    """Train on all images once, or on those that the `meter` of a run that was stopped has not counted yet.

    `report` gets the images done and the means so far, `between` is called after each step. Returns the log row's
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
        meter.add(step(learner, batch, teach, count, Moment(seed, number, index)))
        done += count
        if index % LOOK_EVERY == 0:
            report(done, meter.look())
        between()
    losses = meter.look()
    report(done, losses)
    rate = set_rate(learner.optimizer, learner.recipe, number + (steps - 1) / steps)
    return {"lr": rate, "images_per_s": (done - begun) / (time.perf_counter() - start), **losses}


def step(
    learner: Learner, batch: Batch, teach: Teach | None, count: int | None = None, moment: Moment | None = None
) -> dict[str, Tensor]:
    """One update on this rank's part of a batch of `count` images; returns the weighted terms, scalars."""
    count = len(batch.labels) if count is None else count
    _ = learner.lesson  # is made of all ranks, whatever this batch is
    with ranks.apart(count < ranks.size()):
        losses = forward(learner, batch, teach, ranks.size() * len(batch.labels) / count, moment or Moment())
        learner.optimizer.zero_grad(set_to_none=True)
        torch.stack(list(losses.values())).sum().backward()
    learner.optimizer.step()
    return losses


def forward(learner: Learner, batch: Batch, teach: Teach | None, share: float, moment: Moment) -> dict[str, Tensor]:
    """The weighted terms of the objective on a rank's part of a batch, scalars with a graph."""
    losses: dict[str, Tensor] = learner.lesson(batch, teach(batch) if teach else None, share, moment)
    return losses


@torch.inference_mode()
def top1(
    network: Tapped, views: Views, precision: torch.dtype, between: Callable[[], None] = lambda: None, who: str = ""
) -> float:
    """Share of the test images that the model gets right, in percent; each rank looks at some of them.

    `NonFiniteAnswers`, which begins with `who`, where its outputs are no numbers on any of them.
    """
    network.eval()
    counts = torch.zeros(3, dtype=torch.long)
    for batch, own in views.turns(centre_windows(views.store, views.recipe), views.recipe.batch_size):
        if own:
            with autocast(batch.images.device, precision):
                output = network(batch.images)
            hits, broken = (output.logits.argmax(dim=1) == batch.labels).sum(), (~finite(output.tensors())).sum()
            counts += torch.stack([hits.cpu(), torch.tensor(len(batch.labels)), broken.cpu()])
        between()
    right, seen, wrong = map(int, ranks.total(counts))
    refuse_non_finite(wrong, seen, who)
    return 100 * right / seen
