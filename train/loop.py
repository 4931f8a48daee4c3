"""One epoch of training: views through teacher and student, the objective, and a step."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from dctkd_zoo.data.batch import Batch
from dctkd_zoo.data.views import Views, derive
from dctkd_zoo.device import autocast
from dctkd_zoo.errors import NonFiniteLoss
from dctkd_zoo.features import Tapped
from dctkd_zoo.objective import Objective
from dctkd_zoo.spec import Recipe
from train.compiled import Losses
from train.guide import Guide, Teach
from train.optim import set_rate

LOOK_EVERY = 20  # steps between looks at the losses, which make the device wait


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


@dataclass
class Meter:
    """Mean of each term over an epoch, brought to the host every few steps and checked there."""

    epoch: int
    sums: dict[str, float] = field(default_factory=dict)
    waiting: list[dict[str, Tensor]] = field(default_factory=list)
    steps: int = 0

    def add(self, losses: dict[str, Tensor]) -> None:
        """Keep the terms of one step, still on the device."""
        self.waiting.append({name: value.detach() for name, value in losses.items()})

    def look(self) -> dict[str, float]:
        """Means so far; `NonFiniteLoss` names the first term and step that went wrong."""
        if self.waiting:
            names = list(self.waiting[0])
            rows = torch.stack([torch.stack([step[name] for name in names]) for step in self.waiting]).double().tolist()
            for row in rows:
                self._count(dict(zip(names, row, strict=True)))
            self.waiting.clear()
        return {name: total / self.steps for name, total in self.sums.items()}

    def _count(self, row: dict[str, float]) -> None:
        for name, value in row.items():
            if not abs(value) < float("inf"):
                raise NonFiniteLoss(f"the term {name!r} is {value} at step {self.steps + 1} of epoch {self.epoch}")
            self.sums[name] = self.sums.get(name, 0.0) + value
        self.steps += 1


def epoch(
    learner: Learner, views: Views, seed: int, number: int, report: Callable[[int, dict[str, float]], None]
) -> dict[str, float]:
    """Train on all images once; `report` gets the images done and the means so far. Returns the log row's figures."""
    torch.manual_seed(derive(seed, "dropout", number))
    learner.student.train()
    learner.objective.train()
    meter, start, done, rate = Meter(number + 1), time.perf_counter(), 0, 0.0
    steps = -(-len(views.labels) // learner.recipe.batch_size)
    windows, teach = learner.guide.epoch(number) if learner.guide else (None, None)
    for index, batch in enumerate(views.train(seed, number, windows)):
        rate = set_rate(learner.optimizer, learner.recipe, number + index / steps)
        meter.add(step(learner, batch, teach))
        done += len(batch.labels)
        if index % LOOK_EVERY == 0:
            report(done, meter.look())
    losses = meter.look()
    report(done, losses)
    return {"lr": rate, "images_per_s": done / (time.perf_counter() - start), **losses}


def step(learner: Learner, batch: Batch, teach: Teach | None) -> dict[str, Tensor]:
    """One update on one batch; returns the weighted terms, scalars."""
    losses = forward(learner, batch, teach)
    learner.optimizer.zero_grad(set_to_none=True)
    torch.stack(list(losses.values())).sum().backward()
    learner.optimizer.step()
    return losses


def forward(learner: Learner, batch: Batch, teach: Teach | None) -> dict[str, Tensor]:
    """The weighted terms of the objective on one batch, scalars with a graph."""
    taught = teach(batch) if teach else None
    with autocast(batch.images.device, learner.precision):
        student = learner.student(batch.images)
        return learner.losses(student, student if taught is None else taught, batch)


@torch.inference_mode()
def predictions(network: Tapped, batches: Iterator[Batch], precision: torch.dtype) -> tuple[Tensor, Tensor]:
    """Best guesses and labels of all images, both (N,), on the host."""
    network.eval()
    guesses, labels = [], []
    for batch in batches:
        with autocast(batch.images.device, precision):
            guesses.append(network(batch.images).logits.argmax(dim=1))
        labels.append(batch.labels)
    return torch.cat(guesses).cpu(), torch.cat(labels).cpu()


def top1(network: Tapped, views: Views, precision: torch.dtype) -> float:
    """Share of the test images that the model gets right, in percent."""
    guesses, labels = predictions(network, views.test(views.recipe.batch_size), precision)
    return 100 * (guesses == labels).double().mean().item()
