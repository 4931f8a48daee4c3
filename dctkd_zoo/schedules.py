"""Learning rate schedules, as functions of the epoch."""

from __future__ import annotations

import math
from dataclasses import dataclass

from dctkd_zoo._io.typecheck import Checked


@dataclass(frozen=True)
class Step(Checked):
    """Learning rate times `gamma` every `every` epochs."""

    every: int
    gamma: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        self.positive("every", "gamma")

    def factor(self, epoch: float, epochs: int) -> float:
        """Return the multiplier of the base learning rate at `epoch` (fractional) of `epochs`."""
        return self.gamma ** int(epoch // self.every)


@dataclass(frozen=True)
class MultiStep(Checked):
    """Learning rate times `gamma` at each epoch of `at`."""

    at: tuple[int, ...]
    gamma: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        self.positive("gamma")

    def factor(self, epoch: float, epochs: int) -> float:
        """Return the multiplier of the base learning rate at `epoch` (fractional) of `epochs`."""
        return self.gamma ** sum(epoch >= milestone for milestone in self.at)


@dataclass(frozen=True)
class Cosine(Checked):
    """Linear warm-up over the fraction `warmup` of the run, then half a cosine to zero."""

    warmup: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.warmup < 1:
            raise ValueError(f"warmup {self.warmup} is not a fraction of the run in [0, 1)")

    def factor(self, epoch: float, epochs: int) -> float:
        """Return the multiplier of the base learning rate at `epoch` (fractional) of `epochs`."""
        progress = epoch / epochs
        if progress < self.warmup:
            return progress / self.warmup
        return 0.5 * (1 + math.cos(math.pi * (progress - self.warmup) / (1 - self.warmup)))


Schedule = Step | MultiStep | Cosine


@dataclass(frozen=True)
class Ramp(Checked):
    """Factor of a loss term's weight: linear from `start` to `end` over the fraction `over` of the run, then `end`.

    `Ramp()` warms a term up over the first tenth, `Ramp(1, 0, over=1)` fades it out by the last epoch.
    """

    start: float = 0.0
    end: float = 1.0
    over: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.start, self.end) < 0:
            raise ValueError(f"Ramp: start {self.start} or end {self.end} is negative")
        if not 0 < self.over <= 1:
            raise ValueError(f"Ramp: over {self.over} is not a fraction of the run in (0, 1]")

    def factor(self, epoch: float, epochs: int) -> float:
        """Return the factor at `epoch` (fractional) of `epochs`."""
        progress = min(epoch / epochs / self.over, 1.0)
        return self.start + (self.end - self.start) * progress
