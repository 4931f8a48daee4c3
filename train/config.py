"""Configuration of a training run: folders, device and options that no recipe holds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from dctkd_zoo.device import amp_dtype
from dctkd_zoo.recipe import PRECISIONS

DTYPES: dict[str, torch.dtype] = {name: getattr(torch, name) for name in PRECISIONS}


@dataclass(frozen=True)
class TrainConfig:
    """Where a run reads, computes and writes. What it trains is in the entry."""

    data: Path | None
    out: Path
    device: torch.device
    resume: bool = False
    trained: Path | None = None  # folder in which teachers are looked up first
    teacher_cache: int | None = (
        None  # number of fixed views per image with cached teacher outputs; None: online teacher
    )
    precision: str | None = None  # "float32" or "bfloat16"; None: the faster one (train/precision.py)
    loggers: tuple[str, ...] = ()  # modules of train/loggers

    @property
    def dtype(self) -> torch.dtype:
        """The precision of training: the chosen one, or the device's."""
        return amp_dtype(self.device) if self.precision is None else DTYPES[self.precision]
