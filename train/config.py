"""Where a run reads, computes and writes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch


@dataclass(frozen=True)
class TrainConfig:
    """Where a run reads, computes and writes; what it trains is the entry's business."""

    data: Path | None
    out: Path
    device: torch.device
    resume: bool = False
    trained: Path | None = None  # where teachers are looked for before anywhere else
    teacher_cache: int | None = None  # train on so many fixed views, with what the teacher said of them
