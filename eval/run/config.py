"""Configuration of an evaluation."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch


@dataclass(frozen=True)
class EvalConfig:
    """Where an evaluation reads and computes, on how many images, and under which protocol it reduces.

    `trained` is a folder of checkpoints to look in before anywhere else. `limit` takes that many
    images, spread evenly over the test set. `fresh` measures anew what was measured before, `cost` also what
    the network costs here.
    """

    data: Path | None
    device: torch.device
    trained: Path | None = None
    limit: int | None = None
    protocol: str = "exact"
    fresh: bool = False
    cost: bool = False
