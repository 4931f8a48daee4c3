"""Loggers of training runs, one file each, found by its name; `train_log.csv` is written without any of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dctkd_zoo import discover
from dctkd_zoo.errors import ZooError, reason_of

PROJECT = "dctkd_zoo"  # what runs are grouped under, where a logger groups them


@dataclass(frozen=True)
class RunInfo:
    """What a logger is told about a run: name, folder, an id that no other run has, and its facts as JSON data.

    `step` is the number of optimizer steps done, 0 for a run that begins.
    """

    name: str
    folder: Path
    id: str
    facts: Mapping[str, Any]
    step: int


class Logger:
    """An open log of one run.

    A resumed run (`run.step` above 0) goes on in the log that it began, whose values after `run.step` are dropped if
    the tool can do that. `last_step` is the last step that is in the log, 0 if there is none.
    """

    last_step = 0

    def __init__(self, run: RunInfo) -> None:
        raise NotImplementedError

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Write named values after so many optimizer steps; `step` grows from call to call."""
        raise NotImplementedError

    def close(self, succeeded: bool) -> None:
        """Write what is still in memory and close the log; `succeeded` is false after an error or a stop signal."""
        raise NotImplementedError


def load(name: str) -> type[Logger]:
    """Return the logger of `train/loggers/<name>.py`; `ZooError` if what it needs is not installed."""
    try:
        return discover.only(discover.load(__name__, name), Logger)
    except ImportError as error:
        raise ZooError(f"--logger {name}: {reason_of(error)}; run `pip install 'dctkd-zoo[{name}]'`") from error


def chosen(text: str) -> list[str]:
    """Return the loggers in `text`, `tensorboard,wandb` -> [tensorboard, wandb]; `ValueError` for an unknown one."""
    names = text.split(",")
    for name in names:
        discover.check(__name__, name)
    return names
