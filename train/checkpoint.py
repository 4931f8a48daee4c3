"""Checkpoints of a run: one safetensors file with its tensors, and the rest as JSON in the header.

The header also holds a sha256 of the content, so that a damaged checkpoint is detected before it is used. The
previous checkpoint is kept as a fallback.
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
from uuid import uuid4

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

OPTIMIZER, GROUP = "optimizer", "group"  # prefixes of the names of its tensors, and of those of its parameter groups
SETTING = (bool, int, float, str, tuple, list, type(None))  # kinds of an optimizer's settings that JSON can hold
STATE, PREVIOUS = "checkpoint.safetensors", "checkpoint.previous.safetensors"


@dataclass
class Progress:
    """Progress of a run: finished epochs with a log row each, the best test accuracy in percent, and its identity.

    `facts` must be equal when the run is resumed. `step` counts the steps done in the current epoch, `sums` holds the
    sum of each loss term over them. `log_id` is what loggers know the run by.
    """

    facts: dict[str, Any]
    epoch: int = 0
    log: list[dict[str, float | None]] = field(default_factory=list)
    best_epoch: int = 0
    best_top1: float = -1.0
    step: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    log_id: str = field(default_factory=lambda: uuid4().hex)


@dataclass(frozen=True)
class State:
    """Content of a checkpoint file."""

    path: Path
    progress: Progress
    tensors: Mapping[str, Tensor]
    optimizer: Mapping[str, Any]  # its state but for the tensors


def begun(folder: Path) -> bool:
    """Return whether `folder` holds a checkpoint."""
    return any((folder / name).exists() for name in (STATE, PREVIOUS))


def remove(folder: Path) -> None:
    """Delete the checkpoints of a finished run."""
    for name in (PREVIOUS, STATE):
        (folder / name).unlink(missing_ok=True)


def discard_damaged(state: State) -> None:
    """Delete the last checkpoint if `state` is the previous one: else the damaged file would become the fallback."""
    if state.path.name == PREVIOUS:
        state.path.with_name(STATE).unlink(missing_ok=True)


def save(
    folder: Path,
    progress: Progress,
    student: nn.Module,
    objective: nn.Module,
    optimizer: torch.optim.Optimizer,
    average: nn.Module | None = None,
) -> None:
    """Write a checkpoint atomically: a reader finds the previous one or this one, never a partial file."""
    modules = {"student": student, "objective": objective} | ({"average": average} if average else {})
    tensors = {f"{part}.{k}": v for part, module in modules.items() for k, v in module.state_dict().items()}
    numbers = optimizer_state(optimizer, tensors)
    tensors, header = _packed(tensors), json.dumps({**asdict(progress), OPTIMIZER: numbers})
    path = folder / STATE
    with atomic.replacing(path) as temporary:
        _write(tensors, temporary, {"progress": header, "sha256": _hash(header, tensors)})
        atomic.flush(temporary)
        if path.exists():
            path.replace(folder / PREVIOUS)


def load(folder: Path) -> State:
    """Return the last checkpoint in `folder`, or the previous one with a warning if the last is damaged.

    `CorruptWeights` if there is no intact one.
    """
    paths = [path for path in (folder / STATE, folder / PREVIOUS) if path.exists()]
    for path, other in zip(paths, [*paths[1:], None], strict=True):
        try:
            return read(path)
        except CorruptWeights as error:
            if other is None:
                raise
            log.warning("%s; resuming from %s", error, other.name)
    raise FileNotFoundError(f"there is no checkpoint in {folder}")


def read(path: Path) -> State:
    """Return the content of a checkpoint; `CorruptWeights` if it does not match its sha256."""
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata()
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  not a mapping
        progress, expected = header["progress"], header["sha256"]
        if expected == _hash(progress, tensors):
            facts = json.loads(progress)
            numbers = facts.pop(OPTIMIZER)
            return State(path, Progress(**facts), tensors, numbers)
        reason = "its content does not match its sha256"
    except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = reason_of(error)
    raise CorruptWeights(f"{path} is not a checkpoint or is damaged ({reason}); delete it to start over")


def restore(
    state: State,
    student: nn.Module,
    objective: nn.Module,
    optimizer: torch.optim.Optimizer,
    average: nn.Module | None = None,
) -> None:
    """Load a checkpoint into student, objective and optimizer; `CorruptWeights` if it belongs to another network."""
    try:
        student.load_state_dict(_under("student.", state.tensors))
        objective.load_state_dict(_under("objective.", state.tensors))
        if average:
            average.load_state_dict(_under("average.", state.tensors))
        load_optimizer(optimizer, state)
    except (RuntimeError, ValueError, KeyError) as error:
        raise CorruptWeights(
            f"{state.path} belongs to another network ({reason_of(error)}); delete it to start over"
        ) from error


def save_model(path: Path, model: nn.Module) -> None:
    """Write the weights of a network, and nothing else."""
    with atomic.replacing(path) as temporary:
        _write(_packed(dict(model.state_dict())), temporary, None)


def optimizer_state(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> dict[str, Any]:
    """Add an optimizer's tensors to `tensors`; return its numbers as JSON data.

    They are called `optimizer.<parameter>.<name>`, or `optimizer.group<number>.<name>` in a group of parameters.
    """
    state = optimizer.state_dict()
    numbers: dict[str, dict[str, Any]] = {}
    for index, values in state["state"].items():
        for name, value in values.items():
            if isinstance(value, Tensor):
                tensors[f"{OPTIMIZER}.{index}.{name}"] = value
            else:
                numbers.setdefault(str(index), {})[name] = value
    for number, group in enumerate(state["param_groups"]):
        tensors |= {f"{OPTIMIZER}.{GROUP}{number}.{n}": v for n, v in group.items() if isinstance(v, Tensor)}
    groups = [
        {name: value for name, value in group.items() if name != "params" and isinstance(value, SETTING)}
        for group in state["param_groups"]
    ]
    return {"state": numbers, "groups": groups}


def load_optimizer(optimizer: torch.optim.Optimizer, state: State) -> None:
    """Load what `optimizer_state` returned; settings of another kind, such as a dtype, are those of the optimizer.

    Tensors lie in memory as their parameters do: sums over them, as of a norm, would else be rounded in another order.
    """
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    values: dict[int, dict[str, Any]] = {int(index): dict(item) for index, item in state.optimizer["state"].items()}
    current = optimizer.state_dict()["param_groups"]
    groups = [{**own, **saved} for own, saved in zip(current, state.optimizer["groups"], strict=True)]
    for name, tensor in _under(f"{OPTIMIZER}.", state.tensors).items():
        owner, _, key = name.partition(".")
        if owner.startswith(GROUP):
            groups[int(owner.removeprefix(GROUP))][key] = tensor
        else:
            values.setdefault(int(owner), {})[key] = _laid_out_as(parameters[int(owner)], tensor)
    optimizer.load_state_dict({"state": values, "param_groups": groups})


def _laid_out_as(parameter: Tensor, tensor: Tensor) -> Tensor:
    """Return a tensor with the strides of a parameter, if it has the same shape."""
    alike = tensor.shape == parameter.shape
    return torch.empty_like(parameter, dtype=tensor.dtype, device=tensor.device).copy_(tensor) if alike else tensor


def _write(tensors: dict[str, Tensor], path: Path, told: dict[str, str] | None) -> None:
    try:
        save_file(tensors, path, metadata=told)
    except SafetensorError as error:  # raised for a full disk, too
        raise OSError(f"cannot write to {path.parent}: {reason_of(error)}") from error


def _hash(progress: str, tensors: Mapping[str, Tensor]) -> str:
    """Return the sha256 of everything in a checkpoint."""
    hasher = hashlib.sha256(progress.encode())
    for name, tensor in sorted(tensors.items()):
        hasher.update(f"\n{name}\t{tensor.dtype}\t{tuple(tensor.shape)}\t".encode())
        hasher.update(tensor.contiguous().view(-1).view(torch.uint8).numpy().data)
    return hasher.hexdigest()


def _packed(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}


EVERY = 600.0  # s between checkpoints within an epoch: at most this much work is lost


@dataclass
class CheckpointManager:
    """Writes checkpoints of a run: after each epoch and, in long epochs, every ten minutes."""

    folder: Path
    state: TrainState
    progress: Progress
    meter: Meter
    stop_signal: StopSignal
    saved_at: float = field(default_factory=time.monotonic)  # unaffected when the system clock is changed

    def on_step_end(self) -> None:
        """Write a checkpoint if one is due; `Interrupted` after a stop signal. To be called between two steps.

        Ranks decide together, so that none waits for one that has stopped.
        """
        stop, due = distributed.any_rank(self.stop_signal.signum is not None, time.monotonic() - self.saved_at > EVERY)
        if not (stop or due):
            return
        self.meter.flush()  # raises if a loss is not finite: such a state is not saved
        self.progress.step, self.progress.sums = self.meter.steps, dict(self.meter.sums)
        self.save()
        if stop:
            raise Interrupted(
                self.stop_signal.signum, f"after step {self.progress.step} of epoch {self.progress.epoch + 1}"
            )

    def save(self) -> None:
        """Write a checkpoint; with several ranks, only the primary one does."""
        if distributed.is_primary():
            state = self.state
            save(self.folder, self.progress, state.student.model, state.objective, state.optimizer, state.average)
        self.saved_at = time.monotonic()
