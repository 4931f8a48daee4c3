"""Training loop: one step, one epoch, and test accuracy."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from timm.utils.model_ema import ModelEmaV3
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
from dctkd_zoo.teacher_cache import compact
from dctkd_zoo.weights.run_folder import GRAD_NORM
from train.compile import Losses
from train.optim import set_rate
from train.teacher_source import TeacherFn, TeacherSource

# Newer versions of torch use the first name, older ones only know the second.
SYNC_BUFFERS = next(
    name
    for name in ("forward_sync_buffers", "broadcast_buffers")
    if name in inspect.signature(DistributedDataParallel).parameters
)
FLUSH_EVERY = 20  # steps between transfers of the losses to the host, each of which synchronises the device


@dataclass(frozen=True)
class StepKey:
    """Position of a step in a run whose epochs have `steps` steps.

    Its random numbers depend on nothing else, so resuming does not change them.
    """

    seed: int = 0
    epoch: int = 0
    step: int = 0
    steps: int = 1

    @property
    def position(self) -> float:
        """Epochs done before the step, with a fraction."""
        return self.epoch + self.step / self.steps


@dataclass(frozen=True)
class TrainState:
    """Everything a training step needs. Without a teacher, the objective reads only the student's output."""

    student: FeatureExtractor
    teacher: TeacherSource | None
    objective: Objective
    losses: Losses  # the objective, or a compiled form of it
    optimizer: torch.optim.Optimizer
    recipe: Recipe
    precision: torch.dtype
    teacher_sha256: str = ""
    teacher_config_sha256: str = ""
    average: ModelEmaV3 | None = None
    measures_norm: bool = False  # also without clipping

    @property
    def result(self) -> FeatureExtractor:
        """The network that is tested and exported: the average over the steps if there is one, else the student."""
        return self.student if self.average is None else FeatureExtractor(self.average.module)

    @cached_property
    def loss_module(self) -> nn.Module:
        """Student and objective as one module, wrapped in DDP if there are several ranks."""
        module = LossModule(self.student, self.objective, self.losses, self.precision)
        # Buffers are equal on all ranks already: batch statistics and banks are computed from the whole batch.
        options: dict[str, Any] = {SYNC_BUFFERS: False}
        return DistributedDataParallel(module, **options) if distributed.world_size() > 1 else module


class LossModule(nn.Module):
    """The weighted terms of the objective on a rank's part of a batch."""

    def __init__(self, student: FeatureExtractor, objective: Objective, losses: Losses, precision: torch.dtype) -> None:
        super().__init__()
        self.student, self.objective = student, objective
        self.call = [losses]  # in a list, so that the compiled objective is not registered as a second submodule
        self.precision = precision

    def forward(self, batch: Batch, teacher_output: Output | None, share: float, key: StepKey) -> dict[str, Tensor]:
        """Return scalars with a graph, times `share`: the weight of this rank's images in the mean over the ranks."""
        device = batch.images.device
        with autocast(device, self.precision):
            seed(device, derive_seed(key.seed, "dropout", key.epoch, key.step, distributed.rank()))
            student = self.student(batch.images)
            seed(device, derive_seed(key.seed, "terms", key.epoch, key.step))
            values = self.call[0](student, student if teacher_output is None else teacher_output, batch)
        return values if share == 1 else {name: share * value for name, value in values.items()}


@dataclass
class Meter:
    """Mean of each loss term over an epoch, copied to the host and checked every few steps."""

    epoch: int
    sums: dict[str, float] = field(default_factory=dict)
    steps: int = 0
    pending: list[dict[str, Tensor]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._seen = self.steps, dict(self.sums)

    def lap(self) -> dict[str, float]:
        """Return the means over the steps flushed since the last call; empty if there are none."""
        (steps, sums), self._seen = self._seen, (self.steps, dict(self.sums))
        return {n: (v - sums.get(n, 0.0)) / (self.steps - steps) for n, v in self.sums.items() if self.steps > steps}

    def add(self, losses: dict[str, Tensor]) -> None:
        """Add the terms of one step, leaving them on the device."""
        self.pending.append({name: value.detach() for name, value in losses.items()})

    def flush(self) -> dict[str, float]:
        """Return the means so far over all ranks; `NonFiniteLoss` names the first term and step that is not finite."""
        if self.pending:
            names = list(self.pending[0])
            table = torch.stack([torch.stack([step[name] for name in names]) for step in self.pending])
            self.pending.clear()
            for row in distributed.all_reduce_mean(table.double()).tolist():
                self._add_row(dict(zip(names, row, strict=True)))
        return {name: total / self.steps for name, total in self.sums.items()}

    def _add_row(self, row: dict[str, float]) -> None:
        for name, value in row.items():
            if not abs(value) < float("inf"):
                raise NonFiniteLoss(f"the term {name!r} is {value} at step {self.steps + 1} of epoch {self.epoch}")
        for name, value in row.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
        self.steps += 1


def epoch(
    state: TrainState,
    views: ImageLoader,
    seed: int,
    number: int,
    report: Callable[[int, dict[str, float]], None],
    meter: Meter | None = None,
    on_step_end: Callable[[], None] = lambda: None,
) -> dict[str, float]:
    """Train on all images once; with the `meter` of an interrupted run, on the images left of its epoch.

    `report` is called with the images done and the mean losses so far, `on_step_end` after each step. Returns the
    values of the epoch's log row.
    """
    meter = meter or Meter(number + 1)
    state.student.train()
    state.objective.train()
    size, total = state.recipe.batch_size, len(views.labels)
    start, done_before = time.perf_counter(), min(meter.steps * size, total)
    done, steps = done_before, -(-total // size)
    crops, teach = state.teacher.epoch(number) if state.teacher else (None, None)
    for index, batch in enumerate(views.train(seed, number, crops, meter.steps), start=meter.steps):
        set_rate(state.optimizer, state.recipe, number + index / steps)
        count = min(size, total - done)
        meter.add(step(state, batch, teach, count, StepKey(seed, number, index, steps)))
        done += count
        if index % FLUSH_EVERY == 0:
            report(done, meter.flush())
        on_step_end()
    losses = meter.flush()
    report(done, losses)
    lr = set_rate(state.optimizer, state.recipe, number + (steps - 1) / steps)
    return {"lr": lr, "images_per_s": (done - done_before) / (time.perf_counter() - start), **losses}


def step(
    state: TrainState, batch: Batch, teach: TeacherFn | None, count: int | None = None, key: StepKey | None = None
) -> dict[str, Tensor]:
    """Update the student on this rank's part of a batch of `count` images; return the weighted terms, scalars.

    If the recipe clips the gradient or the state asks for its norm, that norm is among them, as `grad_norm`. It is that
    before clipping.
    """
    count, key = len(batch.labels) if count is None else count, key or StepKey()
    _ = state.loss_module  # creating the DDP wrapper needs all ranks, so do it before `local_only`
    with distributed.local_only(count < distributed.world_size()):
        losses = forward(state, batch, teach, distributed.world_size() * len(batch.labels) / count, key)
        state.optimizer.zero_grad(set_to_none=True)
        torch.stack(list(losses.values())).sum().backward()
    norm = _clip(state)
    state.optimizer.step()
    if state.average is not None:
        state.average.update(state.student.model, key.epoch * key.steps + key.step + 1)
    return losses if norm is None else {**losses, GRAD_NORM: norm}


def _clip(state: TrainState) -> Tensor | None:
    """Scale the gradient down to the recipe's maximum norm, if it has one; return what its norm was, if measured."""
    if state.recipe.clip_grad:
        return nn.utils.clip_grad_norm_(state.loss_module.parameters(), state.recipe.clip_grad)
    gradients = (p.grad for p in state.loss_module.parameters() if p.grad is not None)
    return nn.utils.get_total_norm(gradients) if state.measures_norm else None


def forward(state: TrainState, batch: Batch, teach: TeacherFn | None, share: float, key: StepKey) -> dict[str, Tensor]:
    """Return the weighted terms of the objective on a rank's part of a batch, scalars with a graph."""
    losses: dict[str, Tensor] = state.loss_module(batch, teach(batch) if teach else None, share, key)
    ramps, epochs = state.recipe.ramps, state.recipe.epochs
    return {n: v * ramps[n].factor(key.position, epochs) if n in ramps else v for n, v in losses.items()}


@torch.inference_mode()
def top1(
    network: FeatureExtractor,
    views: ImageLoader,
    precision: torch.dtype,
    on_step_end: Callable[[], None] = lambda: None,
    who: str = "",
) -> float:
    """Return top-1 accuracy on the test images in percent; each rank evaluates some of them.

    `NonFiniteAnswers`, with `who` as prefix, if the outputs for any image are not finite.
    """
    network.eval()
    counts = torch.zeros(3, dtype=torch.long)
    for batch, is_local in views.iter_sharded(centre_crops(views.store, views.recipe), views.recipe.batch_size):
        if is_local:
            with autocast(batch.images.device, precision):
                output = network(batch.images)
            hits, broken = (
                (output.logits.argmax(dim=1) == batch.labels).sum(),
                (~finite(compact(output).tensors())).sum(),
            )
            counts += torch.stack([hits.cpu(), torch.tensor(len(batch.labels)), broken.cpu()])
        on_step_end()
    correct, total, non_finite = map(int, distributed.all_reduce_sum(counts))
    refuse_non_finite(non_finite, total, who)
    return 100 * correct / total
