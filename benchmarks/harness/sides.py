"""Sides of a comparison: work in this process, in one of its own, in a new one each round, or a command."""

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

Make = Callable[[Setting], Work]  # of a module, since processes are told it by its name


class Side(Protocol):
    """One side of a comparison: a figure a round (seconds, or MiB), and what it is made of."""

    def warm_up(self) -> object:
        """Do once what is not measured."""
        ...

    def measure(self) -> float:
        """One round."""
        ...

    def profile(self) -> str:
        """What one round consists of, the most expensive first."""
        ...


@dataclass(frozen=True)
class Timed:
    """Work in this process; `prepare` is done before each round and not timed."""

    work: Work
    prepare: Work | None = None
    profiler: Callable[[Work], str] = profiled

    def warm_up(self) -> None:
        """Work once."""
        self.measure()

    def measure(self) -> float:
        """Seconds of one round."""
        if self.prepare:
            self.prepare()
        return seconds(self.work)

    def profile(self) -> str:
        """The most expensive operators, or what else the profiler tells."""
        self.measure()
        if self.prepare:
            self.prepare()
        return self.profiler(self.work)


@dataclass(frozen=True)
class Remote:
    """Work in a process that waits at the other end of a pipe."""

    pipe: Connection

    def ask(self, order: Callable[[Work], Any]) -> Any:
        """What `order`, a function of a module, makes of the work there."""
        self.pipe.send(order)
        return self.pipe.recv()

    def warm_up(self) -> None:
        """Work once."""
        self.measure()

    def measure(self) -> float:
        """Seconds of one round."""
        return float(self.ask(seconds))

    def profile(self) -> str:
        """The most expensive operators."""
        self.measure()
        return str(self.ask(profiled))


@contextmanager
def process(make: Make, setting: Setting, keep_memory: bool) -> Iterator[Remote]:
    """A process in which work has been made and waits for orders; `keep_memory` as `python -m train` does."""
    context = get_context("spawn")
    student, teacher = context.Pipe()
    started = context.Process(target=_serve, args=(teacher, make, setting, keep_memory))
    started.start()
    teacher.close()  # so that the end of the process is the end of the pipe
    try:
        student.recv()
        yield Remote(student)
    finally:
        student.close()
        started.join()


def _serve(pipe: Connection, make: Make, setting: Setting, keep_memory: bool) -> None:
    set_start_method(None, force=True)  # not as this one was started, but as the work's own processes usually are
    if keep_memory:
        device.keep_memory()
    work = make(setting)
    pipe.send("ready")
    try:
        while True:
            pipe.send(pipe.recv()(work))
    except EOFError:  # nobody is there any more
        pass


@dataclass(frozen=True)
class Fresh:
    """Work that is done once in a new process each round; `order` says what is measured of it.

    `prepare` is done here, before the process starts.
    """

    make: Make
    setting: Setting
    order: Callable[[Work], float]
    prepare: Work | None = None

    def warm_up(self) -> None:
        """Nothing: each round starts anew."""

    def measure(self) -> float:
        """The figure of one process."""
        return float(self._ask(self.order))

    def profile(self) -> str:
        """The most expensive operators."""
        return str(self._ask(profiled))

    def _ask(self, order: Callable[[Work], Any]) -> Any:
        if self.prepare:
            self.prepare()
        with process(self.make, self.setting, keep_memory=True) as remote:
            return remote.ask(order)


@dataclass(frozen=True)
class Command:
    """A Python command from its start to its end."""

    arguments: Sequence[str]
    folder: Path

    def warm_up(self) -> None:
        """Run it once."""
        self.measure()

    def measure(self) -> float:
        """Seconds of one run."""
        return seconds(self._run)

    def profile(self) -> str:
        """The modules that take longest to import, in microseconds."""
        lines = self._run("-X", "importtime").splitlines()[1:]
        rows = [line.removeprefix("import time:") for line in lines if line.startswith("import time:")]
        slowest = sorted(rows, key=lambda row: -int(row.partition("|")[0]) if row.split()[0].isdigit() else 0)
        return "\n".join([" self [us] | cumulative | imported package", *slowest[:SHOWN]])

    def _run(self, *flags: str) -> str:
        command = [sys.executable, *flags, *self.arguments]
        return subprocess.run(command, cwd=self.folder, capture_output=True, text=True, check=True).stderr


@dataclass(frozen=True)
class Given:
    """A figure that is set rather than measured."""

    value: float

    def warm_up(self) -> None:
        """Nothing."""

    def measure(self) -> float:
        """The figure."""
        return self.value

    def profile(self) -> str:
        """Nothing: it does not run."""
        return ""


NOTHING = Given(math.nan)
