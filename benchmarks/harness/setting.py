"""Sizes of the measured work and its folders."""

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
    """Sizes of the work and a scratch folder; `data` is a folder with real images (`scene15/train/...`).

    `images` is the number of images trained or evaluated on per round, `built` the number put into a pixel cache.
    Rows that take seconds per round are measured `slow_rounds` times, all others `rounds` times. `steps` is the
    assumed length of the training run: long runs compile their objective.
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
    steps: int = 11_060  # for the paper's students on ADE20K
    note: str = ""

    @property
    def device(self) -> torch.device:
        """The GPU, or the CPU if there is none."""
        return device.choose()

    @property
    def words(self) -> str:
        """The sizes in words, for titles."""
        rounds = f"median of {self.rounds} rounds ({self.slow_rounds} for slow rows){self.note}"
        sizes = f"{self.crop} px, batch {self.batch}, {self.images} images per round, runs of {self.steps:,} steps"
        return f"{sizes}, {rounds}"


def full(folder: Path, data: Path | None) -> Setting:
    """Return the sizes that the targets are set for."""
    return Setting(folder, data)


def quick(folder: Path, data: Path | None) -> Setting:
    """Return a quarter of the pixels, fewer rounds and no compilation, to find gross regressions quickly."""
    note = "; quick run, the targets are set for the full sizes"
    return Setting(folder, data, resize=128, crop=112, images=64, rounds=5, slow_rounds=3, steps=64, note=note)


@contextmanager
def home(folder: Path) -> Iterator[None]:
    """Set DCTKD_ZOO_HOME to `folder` in this process and its children."""
    before = os.environ.get("DCTKD_ZOO_HOME")
    os.environ["DCTKD_ZOO_HOME"] = str(folder)
    try:
        yield
    finally:
        del os.environ["DCTKD_ZOO_HOME"]
        if before is not None:
            os.environ["DCTKD_ZOO_HOME"] = before
