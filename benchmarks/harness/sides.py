"""Sides of a comparison: work in this process, in another process, in a new process each round, or a command."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context, set_start_method
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Protocol

from benchmarks.harness.orders import SHOWN, Work, profiled, seconds
from benchmarks.harness.setting import Setting
from dctkd_zoo import device

Make = Callable[[Setting], Work]  # a module-level function, because it is pickled by name


class Side(Protocol):
    """One side of a comparison: a measurement per round, in seconds or MiB, and a profile."""

    def warm_up(self) -> object:
        """Run once without measuring."""
        ...

    def measure(self) -> float:
        """Return the measurement of one round."""
        ...

    def profile(self) -> str:
        """Return a profile of one round, most expensive first."""
        ...


@dataclass(frozen=True)
class Timed:
    """Work in this process; `prepare` runs before each round and is not timed."""

    work: Work
    prepare: Work | None = None
    profiler: Callable[[Work], str] = profiled

    def warm_up(self) -> None:
        """Run the work once."""
        self.measure()

    def measure(self) -> float:
        """Return the seconds of one round."""
        if self.prepare:
            self.prepare()
        return seconds(self.work)

    def profile(self) -> str:
        """Return the output of the profiler."""
        self.measure()
        if self.prepare:
            self.prepare()
        return self.profiler(self.work)


@dataclass(frozen=True)
class Remote:
    """Work in another process that takes orders through a pipe."""

    pipe: Connection

    def ask(self, order: Callable[[Work], Any]) -> Any:
        """Return the result of `order`, a module-level function, applied to the work in the other process."""
        self.pipe.send(order)
        return self.pipe.recv()

    def warm_up(self) -> None:
        """Run the work once."""
        self.measure()

    def measure(self) -> float:
        """Return the seconds of one round."""
        return float(self.ask(seconds))

    def profile(self) -> str:
        """Return the most expensive operators."""
        self.measure()
        return str(self.ask(profiled))


@contextmanager
def process(make: Make, setting: Setting, keep_memory: bool) -> Iterator[Remote]:
    """Start a process that prepares the work and waits for orders; `keep_memory` as in `python -m train`."""
    context = get_context("spawn")
    pipe, child_pipe = context.Pipe()
    child = context.Process(target=_serve, args=(child_pipe, make, setting, keep_memory))
    child.start()
    child_pipe.close()  # so that the pipe closes when the process ends
    try:
        pipe.recv()
        yield Remote(pipe)
    finally:
        pipe.close()
        child.join()


def _serve(pipe: Connection, make: Make, setting: Setting, keep_memory: bool) -> None:
    set_start_method(None, force=True)  # the work's own processes start with the default method, not with spawn
    if keep_memory:
        device.keep_memory()
    work = make(setting)
    pipe.send("ready")
    try:
        while True:
            pipe.send(pipe.recv()(work))
    except EOFError:  # the other end was closed
        pass


@dataclass(frozen=True)
class Fresh:
    """Work done once in a new process each round; `order` takes the measurement there.

    `prepare` runs in this process before the new one starts.
    """

    make: Make
    setting: Setting
    order: Callable[[Work], float]
    prepare: Work | None = None

    def warm_up(self) -> None:
        """Do nothing, as each round is a new process."""

    def measure(self) -> float:
        """Return the measurement of one process."""
        return float(self._ask(self.order))

    def profile(self) -> str:
        """Return the most expensive operators."""
        return str(self._ask(profiled))

    def _ask(self, order: Callable[[Work], Any]) -> Any:
        if self.prepare:
            self.prepare()
        with process(self.make, self.setting, keep_memory=True) as remote:
            return remote.ask(order)


@dataclass(frozen=True)
class Command:
    """A Python command, timed from start to exit; `prepare` runs before each and is not timed."""

    arguments: Sequence[str]
    folder: Path
    prepare: Work | None = None

    def warm_up(self) -> None:
        """Run the command once."""
        self.measure()

    def measure(self) -> float:
        """Return the seconds of one run."""
        if self.prepare:
            self.prepare()
        return seconds(self._run)

    def profile(self) -> str:
        """Return the slowest imports, in microseconds."""
        lines = self._run("-X", "importtime").splitlines()[1:]
        rows = [line.removeprefix("import time:") for line in lines if line.startswith("import time:")]
        slowest = sorted(rows, key=lambda row: -int(row.partition("|")[0]) if row.split()[0].isdigit() else 0)
        return "\n".join([" self [us] | cumulative | imported package", *slowest[:SHOWN]])

    def _run(self, *flags: str) -> str:
        command = [sys.executable, *flags, *self.arguments]
        return subprocess.run(command, cwd=self.folder, capture_output=True, text=True, check=True).stderr


@dataclass(frozen=True)
class Given:
    """A fixed value instead of a measurement."""

    value: float

    def warm_up(self) -> None:
        """Do nothing."""

    def measure(self) -> float:
        """Return the value."""
        return self.value

    def profile(self) -> str:
        """Return an empty string, as nothing runs."""
        return ""


NOTHING = Given(math.nan)
