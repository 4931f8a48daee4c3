"""Evaluation of one entry with errors turned into a status."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from dctkd_zoo import distributed
from dctkd_zoo.errors import DatasetMissing, WeightsNotFound, ZooError, named
from dctkd_zoo.spec import Entry
from eval.run.config import EvalConfig
from eval.run.evaluation import Result, evaluate
from eval.run.per_image import Report

log = logging.getLogger(__name__)

Evaluate = Callable[[Entry, EvalConfig, Report], Result]


class Status(StrEnum):
    """Status of an evaluation; an entry without weights or data is skipped, which is not a failure."""

    EVALUATED = "evaluated"
    NO_WEIGHTS = "no weights"
    NO_DATA = "no data"
    FAILED = "failed"


@dataclass(frozen=True)
class Outcome:
    """Result of an entry, or the reason why there is none."""

    entry: Entry
    status: Status
    result: Result | None = None
    reason: str = ""


def attempt(entry: Entry, config: EvalConfig, report: Report, measure: Evaluate | None = None) -> Outcome:
    """Evaluate one entry, with its own weights or as `measure` does; errors become a status instead of an exception."""
    try:
        with distributed.lost_rank_errors():
            return Outcome(entry, Status.EVALUATED, (measure or evaluate)(entry, config, report))
    except WeightsNotFound as error:
        return Outcome(entry, Status.NO_WEIGHTS, reason=str(error))
    except DatasetMissing as error:
        return Outcome(entry, Status.NO_DATA, reason=str(error))
    except ZooError as error:
        if distributed.world_size() > 1:  # the other ranks would wait for this one forever
            raise
        return Outcome(entry, Status.FAILED, reason=str(error))
    except Exception as error:  # a model can raise anything, and the other entries should still be evaluated
        if distributed.world_size() > 1:
            raise
        log.debug("%s failed", entry.name, exc_info=True)
        return Outcome(entry, Status.FAILED, reason=named(error))
