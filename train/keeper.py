"""When a run's state is written, and when a run stops."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path

from dctkd_zoo import ranks
from train import checkpoint
from train.checkpoint import Progress
from train.interrupt import Interrupted, Requests
from train.loop import Learner, Meter

EVERY = 600.0  # s of an epoch that are lost at most, whatever happens


@dataclass
class Keeper:
    """Keeps the state of a run, at the end of each epoch and, of long ones, on the way."""

    folder: Path
    learner: Learner
    progress: Progress
    meter: Meter
    requests: Requests
    saved: float = field(default_factory=time.monotonic)  # a clock that is set does not move it

    def between(self) -> None:
        """To be called between two steps: write the state where it is time; `Interrupted` where a signal asked for it.

        Ranks decide together, so that none waits for one that has stopped.
        """
        stop, due = ranks.any_of(self.requests.asked is not None, time.monotonic() - self.saved > EVERY)
        if not (stop or due):
            return
        self.meter.look()  # which refuses to keep what is not finite
        self.progress.step, self.progress.sums = self.meter.steps, dict(self.meter.sums)
        self.save()
        if stop:
            place = f"after step {self.progress.step} of epoch {self.progress.epoch + 1}"
            raise Interrupted(self.requests.asked, place)

    def save(self) -> None:
        """Write the state; of several ranks the first does."""
        if ranks.leads():
            learner = self.learner
            checkpoint.save(self.folder, self.progress, learner.student.model, learner.objective, learner.optimizer)
        self.saved = time.monotonic()
