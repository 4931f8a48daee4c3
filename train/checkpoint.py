"""A run's state to one safetensors file and back: tensors as they are, the rest as JSON in its header."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from dctkd_zoo import atomic
from dctkd_zoo.errors import CorruptWeights


@dataclass
class Progress:
    """How far a run is: epochs done, a log row each, the best test accuracy, and what it must not change between."""

    facts: dict[str, Any]
    epoch: int = 0
    log: list[dict[str, float | None]] = field(default_factory=list)
    best_epoch: int = 0
    best_top1: float = -1.0


def save(
    path: Path, progress: Progress, student: nn.Module, objective: nn.Module, optimizer: torch.optim.Optimizer
) -> None:
    """Write the state of a run; a reader finds the previous one or this one, never a part."""
    tensors = {f"student.{k}": v for k, v in student.state_dict().items()}
    tensors |= {f"objective.{k}": v for k, v in objective.state_dict().items()}
    tensors |= {f"momentum.{i}": v for i, v in momenta(optimizer).items()}
    with atomic.replacing(path) as temporary:
        save_file(_packed(tensors), temporary, metadata={"progress": json.dumps(asdict(progress))})


def progress(path: Path) -> Progress:
    """How far the run in `path` is."""
    with _opened(path) as file:
        return Progress(**json.loads(file.metadata()["progress"]))


def load(path: Path, student: nn.Module, objective: nn.Module, optimizer: torch.optim.Optimizer) -> Progress:
    """Bring a run back to the state in `path`."""
    with _opened(path) as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  not a mapping
        student.load_state_dict(_under("student.", tensors))
        objective.load_state_dict(_under("objective.", tensors))
    buffers = {int(i): {"momentum_buffer": v} for i, v in _under("momentum.", tensors).items()}
    optimizer.load_state_dict({"state": buffers, "param_groups": optimizer.state_dict()["param_groups"]})
    return progress(path)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise CorruptWeights(f"{path}: not a checkpoint ({error}); delete it to start over") from error


def save_model(path: Path, model: nn.Module) -> None:
    """Write a network's weights alone."""
    with atomic.replacing(path) as temporary:
        save_file(_packed(dict(model.state_dict())), temporary)


def momenta(optimizer: torch.optim.Optimizer) -> dict[int, Tensor]:
    """Momentum of each parameter by its number."""
    states = optimizer.state_dict()["state"]
    return {index: state["momentum_buffer"] for index, state in states.items() if "momentum_buffer" in state}


def _packed(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
