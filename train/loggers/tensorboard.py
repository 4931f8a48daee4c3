"""TensorBoard: event files in `tensorboard/` in the folder of the run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from tensorboard.backend.event_processing import event_accumulator
from torch.utils.tensorboard import SummaryWriter

from train.loggers import Logger, RunInfo

FOLDER = "tensorboard"


class TensorBoard(Logger):
    """Scalars in event files; `tensorboard --logdir OUT` shows all runs in OUT."""

    def __init__(self, run: RunInfo) -> None:
        folder = run.folder / FOLDER
        self.last_step = min(last_epoch_end(folder), run.step)
        self.writer = SummaryWriter(str(folder), purge_step=run.step + 1 if run.step else 0)
        if not run.step:
            self.writer.add_text("run", f"```json\n{json.dumps(run.facts, indent=2)}\n```", 0)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Write named values after so many optimizer steps."""
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)
        self.writer.flush()

    def close(self, succeeded: bool) -> None:
        """Close the event file."""
        self.writer.close()


def last_epoch_end(folder: Path) -> int:
    """Return the step at the end of the last epoch in the event files of a folder, 0 if there is none."""
    events = event_accumulator.EventAccumulator(str(folder), {event_accumulator.SCALARS: 0})
    if not folder.is_dir() or "epoch" not in events.Reload().Tags()[event_accumulator.SCALARS]:
        return 0
    return max(int(event.step) for event in events.Scalars("epoch"))
