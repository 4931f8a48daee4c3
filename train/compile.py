"""The objective through torch.compile, where a run is long enough to pay for it."""

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

PAYS = 2_000  # steps; compiling takes half a minute, and saves a few hundredths of a second of each

Losses = Callable[[Output, Output, Batch], dict[str, Tensor]]


def compile_objective(objective: Objective, steps: int, size: int) -> Losses:
    """The objective as a run of so many steps with batches of `size` images calls it."""
    return Compiled(objective, size) if steps >= PAYS else objective


class Compiled:
    """Batches of `size` images go through the compiled objective, the last of an epoch through the plain one.

    Where it cannot be compiled (a CPU needs a C++ compiler for it), one line in the log says so, and all
    go through the plain one.
    """

    def __init__(self, plain: Objective, size: int) -> None:
        self.plain, self.size = plain, size
        self.fast: Losses | None = torch.compile(plain, fullgraph=True, dynamic=False)
        self.works = False

    def __call__(self, student: Output, teacher: Output, batch: Batch) -> dict[str, Tensor]:
        """The weighted value of each term, scalars."""
        if self.fast is not None and len(batch.labels) == self.size:
            try:
                result = self.fast(student, teacher, batch)
                self.works = True
                return result
            except Exception as error:  # whatever the compiler, or what it calls, fails with
                if self.works:  # it was compiled: this is no failure of the compiler's
                    raise
                log.info("the objective is not compiled: %s", reason_of(error).partition("\n")[0])
                self.fast = None
        values: dict[str, Tensor] = self.plain(student, teacher, batch)
        return values
