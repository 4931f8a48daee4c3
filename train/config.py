"""Configuration of a training run: folders, device and options that no recipe holds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch


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
