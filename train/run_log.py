"""What a run's loggers are told: finished epochs, and the steps between two reports of the losses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from dctkd_zoo import distributed
from dctkd_zoo.recipe import Recipe
from dctkd_zoo.spec import Entry
from dctkd_zoo.weights.run_folder import GRAD_NORM
from train import loggers
from train.checkpoint import Progress
from train.config import TrainConfig
from train.loggers import Logger, RunInfo
from train.loop import Meter


class RunLog:
    """The open loggers of a run whose epochs have `steps` optimizer steps."""

    def __init__(self, loggers: Sequence[Logger], recipe: Recipe, steps: int) -> None:
        self.loggers, self.recipe, self.steps = loggers, recipe, steps

    def recent(self, epoch: int, meter: Meter) -> None:
        """Log mean terms since the last call and the learning rate, as `step/NAME`; `epoch` epochs are done.

        Those at the end of an epoch are logged with its row.
        """
        if meter.steps < self.steps:
            self._write(epoch * self.steps + meter.steps, self._recent(epoch, meter))

    def epoch(self, row: Mapping[str, float | None], meter: Meter | None = None) -> None:
        """Log an epoch's row of train_log.csv as `epoch` and `epoch/NAME`; with `meter`, also its last steps."""
        number = int(row["epoch"] or 0)
        values = {f"epoch/{name}": value for name, value in row.items() if value is not None and name != "epoch"}
        recent = self._recent(number - 1, meter) if meter else {}
        self._write(number * self.steps, {"epoch": number, **values, **recent})

    def _recent(self, epoch: int, meter: Meter) -> dict[str, float]:
        rate = self.recipe.lr * self.recipe.rate(epoch + (meter.steps - 1) / self.steps)
        return {f"step/{name}": value for name, value in {**meter.lap(), "lr": rate}.items()}

    def _write(self, step: int, values: Mapping[str, float]) -> None:
        for logger in self.loggers:
            if step > logger.last_step:
                logger.log(step, values)


@contextmanager
def opened(entry: Entry, config: TrainConfig, progress: Progress, images: int, folder: Path) -> Iterator[RunLog]:
    """Open the loggers of a run, add finished epochs that a log lacks, and close them at the end.

    Only the primary rank has any. `images` are those of the training set.
    """
    steps = -(-images // entry.recipe.batch_size)
    facts = {**entry.to_dict(), **progress.facts}
    run = RunInfo(entry.run_name, folder, progress.log_id, facts, progress.epoch * steps + progress.step)
    names = config.loggers if distributed.is_primary() else ()
    with ExitStack() as stack:
        log = RunLog([stack.enter_context(_closing(loggers.load(n)(run))) for n in names], entry.recipe, steps)
        for row in progress.log:
            log.epoch(row)
        yield log


@contextmanager
def _closing(logger: Logger) -> Iterator[Logger]:
    try:
        yield logger
    except BaseException:
        logger.close(succeeded=False)
        raise
    logger.close(succeeded=True)


def measures_norm(progress: Progress, config: TrainConfig) -> bool:
    """Return whether a run measures the norm of its gradient: if it began with a logger, so that all rows have it."""
    values = progress.log[-1] if progress.log else progress.sums
    return GRAD_NORM in values if values else bool(config.loggers)
