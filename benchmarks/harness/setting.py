"""How large the measured work is, and where it lies on disk."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from dctkd_zoo import device


@dataclass(frozen=True)
class Setting:
    """Sizes of the work, and a folder that it may fill; `data` has real images (`scene15/train/...`) in it.

    `images` are trained or evaluated on a round, `built` are put into a pixel store. What takes seconds a
    round is measured `slow_rounds` times, everything else `rounds` times. `steps` is the length of the run
    that training measures a part of: long ones compile their objective.
    """

    folder: Path
    data: Path | None = None
    resize: int = 256
    crop: int = 224
    batch: int = 32
    images: int = 96
    built: int = 600
    rounds: int = 7
    slow_rounds: int = 5
    steps: int = 11_060  # of the paper's students on ADE20K
    note: str = ""

    @property
    def device(self) -> torch.device:
        """The GPU, or the CPU where there is none."""
        return device.choose()

    @property
    def words(self) -> str:
        """The sizes, for titles."""
        rounds = f"median of {self.rounds} rounds, {self.slow_rounds} of the slow rows{self.note}"
        return (
            f"{self.crop} px, batch {self.batch}, {self.images} images a round, runs of {self.steps:,} steps, {rounds}"
        )


def full(folder: Path, data: Path | None) -> Setting:
    """What targets are set for."""
    return Setting(folder, data)


def quick(folder: Path, data: Path | None) -> Setting:
    """A quarter of the pixels, fewer rounds and nothing compiled: whether anything went wrong, not by how much."""
    note = "; a first look, the targets are set for the full sizes"
    return Setting(folder, data, resize=128, crop=112, images=64, rounds=5, slow_rounds=3, steps=64, note=note)


@contextmanager
def home(folder: Path) -> Iterator[None]:
    """Let the package keep its caches in `folder`, in this process and those that it starts."""
    before = os.environ.get("DCTKD_ZOO_HOME")
    os.environ["DCTKD_ZOO_HOME"] = str(folder)
    try:
        yield
    finally:
        del os.environ["DCTKD_ZOO_HOME"]
        if before is not None:
            os.environ["DCTKD_ZOO_HOME"] = before
