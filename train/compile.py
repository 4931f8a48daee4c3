"""Compilation of the objective with torch.compile, for runs long enough to pay for it."""

from __future__ import annotations

import logging
from collections.abc import Callable

import torch
from torch import Tensor

from dctkd_zoo.data.batch import Batch
from dctkd_zoo.errors import reason_of
from dctkd_zoo.features import Output
from dctkd_zoo.objective import Objective

log = logging.getLogger(__name__)

MIN_STEPS = 2_000  # compiling takes half a minute and saves a few hundredths of a second per step

Losses = Callable[[Output, Output, Batch], dict[str, Tensor]]


def compile_objective(objective: Objective, steps: int, size: int) -> Losses:
    """Return the objective, compiled for batches of `size` images if the run has enough `steps`."""
    return Compiled(objective, size) if steps >= MIN_STEPS else objective


class Compiled:
    """An objective that is compiled for batches of `size` images and runs eagerly on others, such as an epoch's last.

    If compilation fails (on a CPU it needs a C++ compiler), this is logged once and all batches run eagerly.
    """

    def __init__(self, plain: Objective, size: int) -> None:
        self.plain, self.size = plain, size
        self.fast: Losses | None = torch.compile(plain, fullgraph=True, dynamic=False)
        self.works = False

    def __call__(self, student: Output, teacher: Output, batch: Batch) -> dict[str, Tensor]:
        """Return the weighted value of each term, scalars."""
        if self.fast is not None and len(batch.labels) == self.size:
            try:
                result = self.fast(student, teacher, batch)
                self.works = True
                return result
            except Exception as error:  # the compiler and its tools may raise anything
                if self.works:  # compilation has succeeded before, so this error is not the compiler's
                    raise
                log.info("the objective is not compiled: %s", reason_of(error).partition("\n")[0])
                self.fast = None
        values: dict[str, Tensor] = self.plain(student, teacher, batch)
        return values
