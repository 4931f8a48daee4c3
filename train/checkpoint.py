"""A run's state to one safetensors file and back: tensors as they are, the rest as JSON in its header.

The header also holds the sha256 of all that, so that a flipped bit is not trained on; and the state before
the last one is kept, to go on from where the last one is damaged.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from dctkd_zoo import distributed
from dctkd_zoo._io import atomic
from dctkd_zoo.errors import CorruptWeights, reason_of
from train.loop import Meter, TrainState
from train.signals import Interrupted, StopSignal

log = logging.getLogger(__name__)

STATE, PREVIOUS = "checkpoint.safetensors", "checkpoint.previous.safetensors"


@dataclass
class Progress:
    """How far a run is: epochs done, a log row each, the best test accuracy, and what it must not change between.

    `step` are the steps done in the epoch after those, `sums` what the terms add up to over them.
    """

    facts: dict[str, Any]
    epoch: int = 0
    log: list[dict[str, float | None]] = field(default_factory=list)
    best_epoch: int = 0
    best_top1: float = -1.0
    step: int = 0
    sums: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class State:
    """What a checkpoint holds."""

    path: Path
    progress: Progress
    tensors: Mapping[str, Tensor]


def begun(folder: Path) -> bool:
    """Whether a run has left a state in `folder`."""
    return any((folder / name).exists() for name in (STATE, PREVIOUS))


def remove(folder: Path) -> None:
    """Take the state of a finished run away."""
    for name in (PREVIOUS, STATE):
        (folder / name).unlink(missing_ok=True)


def discard_damaged(state: State) -> None:
    """Where a run goes on from the state before the last, remove the last: it must not take that one's place."""
    if state.path.name == PREVIOUS:
        state.path.with_name(STATE).unlink(missing_ok=True)


def save(
    folder: Path, progress: Progress, student: nn.Module, objective: nn.Module, optimizer: torch.optim.Optimizer
) -> None:
    """Write the state of a run; a reader finds the previous one or this one, never a part."""
    tensors = {f"student.{k}": v for k, v in student.state_dict().items()}
    tensors |= {f"objective.{k}": v for k, v in objective.state_dict().items()}
    tensors |= {f"momentum.{i}": v for i, v in momenta(optimizer).items()}
    tensors, meta = _packed(tensors), json.dumps(asdict(progress))
    path = folder / STATE
    with atomic.replacing(path) as temporary:
        _write(tensors, temporary, {"progress": meta, "sha256": _seal(meta, tensors)})
        atomic.flush(temporary)
        if path.exists():
            path.replace(folder / PREVIOUS)


def load(folder: Path) -> State:
    """The last state of the run in `folder`, or the one before where that is damaged, which is logged.

    `CorruptWeights` where there is no other.
    """
    paths = [path for path in (folder / STATE, folder / PREVIOUS) if path.exists()]
    for path, other in zip(paths, [*paths[1:], None], strict=True):
        try:
            return read(path)
        except CorruptWeights as error:
            if other is None:
                raise
            log.warning("%s; going on from %s", error, other.name)
    raise FileNotFoundError(f"{folder} holds no checkpoint")


def read(path: Path) -> State:
    """What a checkpoint holds; `CorruptWeights` where it is not what was written."""
    try:
        with safe_open(path, framework="pt") as file:
            meta = file.metadata()
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  not a mapping
        progress, seal = meta["progress"], meta["sha256"]
        if seal == _seal(progress, tensors):
            return State(path, Progress(**json.loads(progress)), tensors)
        reason = "its content does not match its sha256"
    except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = reason_of(error)
    raise CorruptWeights(f"{path}: not a checkpoint, or a damaged one ({reason}); delete it to start over")


def restore(state: State, student: nn.Module, objective: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Bring a run back to a state; `CorruptWeights` where it is another network's."""
    try:
        student.load_state_dict(_under("student.", state.tensors))
        objective.load_state_dict(_under("objective.", state.tensors))
        buffers = {int(i): {"momentum_buffer": v} for i, v in _under("momentum.", state.tensors).items()}
        optimizer.load_state_dict({"state": buffers, "param_groups": optimizer.state_dict()["param_groups"]})
    except (RuntimeError, ValueError, KeyError) as error:
        raise CorruptWeights(
            f"{state.path}: of another network ({reason_of(error)}); delete it to start over"
        ) from error


def save_model(path: Path, model: nn.Module) -> None:
    """Write a network's weights alone."""
    with atomic.replacing(path) as temporary:
        _write(_packed(dict(model.state_dict())), temporary, None)


def momenta(optimizer: torch.optim.Optimizer) -> dict[int, Tensor]:
    """Momentum of each parameter by its number."""
    states = optimizer.state_dict()["state"]
    return {index: state["momentum_buffer"] for index, state in states.items() if "momentum_buffer" in state}


def _write(tensors: dict[str, Tensor], path: Path, told: dict[str, str] | None) -> None:
    try:
        save_file(tensors, path, metadata=told)
    except SafetensorError as error:  # what it makes of a full disk
        raise OSError(f"{path.parent}: nothing was written there: {reason_of(error)}") from error


def _seal(progress: str, tensors: Mapping[str, Tensor]) -> str:
    """sha256 of everything in a checkpoint."""
    hasher = hashlib.sha256(progress.encode())
    for name, tensor in sorted(tensors.items()):
        hasher.update(f"\n{name}\t{tensor.dtype}\t{tuple(tensor.shape)}\t".encode())
        hasher.update(tensor.contiguous().view(-1).view(torch.uint8).numpy().data)
    return hasher.hexdigest()


def _packed(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}


EVERY = 600.0  # s of an epoch that are lost at most, whatever happens


@dataclass
class CheckpointManager:
    """Keeps the state of a run, at the end of each epoch and, of long ones, on the way."""

    folder: Path
    learner: TrainState
    progress: Progress
    meter: Meter
    requests: StopSignal
    saved: float = field(default_factory=time.monotonic)  # a clock that is set does not move it

    def on_step_end(self) -> None:
        """To be called between two steps: write the state where it is time; `Interrupted` where a signal asked for it.

        Ranks decide together, so that none waits for one that has stopped.
        """
        stop, expected = distributed.any_rank(self.requests.asked is not None, time.monotonic() - self.saved > EVERY)
        if not (stop or expected):
            return
        self.meter.look()  # which refuses to keep what is not finite
        self.progress.step, self.progress.sums = self.meter.steps, dict(self.meter.sums)
        self.save()
        if stop:
            path = f"after step {self.progress.step} of epoch {self.progress.epoch + 1}"
            raise Interrupted(self.requests.asked, path)

    def save(self) -> None:
        """Write the state; of several ranks the first does."""
        if distributed.is_primary():
            learner = self.learner
            save(self.folder, self.progress, learner.student.model, learner.objective, learner.optimizer)
        self.saved = time.monotonic()
