"""Weights & Biases: its server, or files in `./wandb` with WANDB_MODE=offline."""

from __future__ import annotations

import os
from collections.abc import Mapping

import wandb

from dctkd_zoo.errors import ZooError, reason_of
from train.loggers import PROJECT, Logger, RunInfo


class WandB(Logger):
    """History of a run. Values stay when the run is resumed; those of repeated steps are not added twice."""

    def __init__(self, run: RunInfo) -> None:
        project = os.environ.get("WANDB_PROJECT") or PROJECT
        resume = "allow" if run.step else None
        try:
            self.run = wandb.init(project=project, name=run.name, id=run.id, config=dict(run.facts), resume=resume)
        except wandb.Error as error:
            way_on = "run `wandb login`, or set WANDB_MODE=offline to write files only"
            raise ZooError(f"--logger wandb: {reason_of(error)}; {way_on}") from error
        self.last_step = self.run.step - 1  # its `step` is the next one
        self.run.define_metric("epoch/*", step_metric="epoch")

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Write named values after so many optimizer steps."""
        self.run.log(dict(values), step)

    def close(self, succeeded: bool) -> None:
        """Wait until all values are written, and mark the run as finished or failed."""
        self.run.finish(exit_code=int(not succeeded))
