"""Configuration of an evaluation."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch


@dataclass(frozen=True)
class EvalConfig:
    """Data folder, device and options of an evaluation.

    - `trained`: a folder of checkpoints that is searched first.
    - `protocol`: a name in `eval.run.protocol.PROTOCOLS`.
    - `limit`: evaluate only that many images, spread evenly over the test set.
    - `fresh`: ignore cached measurements.
    - `cost`: also measure latency, throughput and memory on this device.
    - `sanity`: also measure alignment while the network's weights are replaced by untrained ones.
    - `faithfulness`: also measure insertion and deletion by the network's own maps and by its teacher's.
    - `teacher`: the network that every entry is compared with, instead of its own teacher (`setup.compared_with`).
    """

    data: Path | None
    device: torch.device
    trained: Path | None = None
    limit: int | None = None
    protocol: str = "exact"
    fresh: bool = False
    cost: bool = False
    sanity: bool = False
    faithfulness: bool = False
    teacher: str | None = None
