"""An entry to what became of its evaluation: measured, not to be had here, or failed; never an exception."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from enum import StrEnum

from dctkd_zoo import distributed
from dctkd_zoo.errors import DatasetMissing, WeightsNotFound, ZooError, named
from dctkd_zoo.spec import Entry
from eval.run.config import EvalConfig
from eval.run.evaluation import Result, evaluate
from eval.run.per_image import Report

log = logging.getLogger(__name__)


class Status(StrEnum):
    """What became of an entry; without weights or data it cannot be evaluated, which is no failure."""

    EVALUATED = "evaluated"
    NO_WEIGHTS = "no weights"
    NO_DATA = "no data"
    FAILED = "failed"


@dataclass(frozen=True)
class Outcome:
    """An entry's result, or the reason why there is none."""

    entry: Entry
    status: Status
    result: Result | None = None
    reason: str = ""


def attempt(entry: Entry, config: EvalConfig, report: Report) -> Outcome:
    """Evaluate an entry; whatever goes wrong with it is told, and the next can be tried."""
    try:
        with distributed.lost_rank_errors():
            return Outcome(entry, Status.EVALUATED, evaluate(entry, config, report))
    except WeightsNotFound as error:
        return Outcome(entry, Status.NO_WEIGHTS, reason=str(error))
    except DatasetMissing as error:
        return Outcome(entry, Status.NO_DATA, reason=str(error))
    except ZooError as error:
        if distributed.world_size() > 1:  # what one rank cannot do the others wait for
            raise
        return Outcome(entry, Status.FAILED, reason=str(error))
    except Exception as error:  # a model may fail in any way, and the others are still to be evaluated
        if distributed.world_size() > 1:
            raise
        log.debug("%s failed", entry.name, exc_info=True)
        return Outcome(entry, Status.FAILED, reason=named(error))
