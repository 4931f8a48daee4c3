"""Trackio: a local database in its cache folder, or the Space or server that its environment variables name."""

from __future__ import annotations

from collections.abc import Mapping

import trackio

from train.loggers import PROJECT, Logger, RunInfo


class Trackio(Logger):
    """Metrics for `trackio show`. Values stay when a run is resumed; those of repeated steps are not added twice."""

    def __init__(self, run: RunInfo) -> None:
        resume = "allow" if run.step else "never"
        self.run = trackio.init(PROJECT, name=run.name, config=dict(run.facts), resume=resume, embed=False)
        self.last_step = self.run._next_step - 1  # nothing public tells it for both a local and a remote log

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Write named values after so many optimizer steps."""
        self.run.log(dict(values), step)

    def close(self, succeeded: bool) -> None:
        """Wait until all values are written."""
        trackio.finish()
