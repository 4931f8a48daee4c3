"""Start-up time of commands that need no network, from the start of Python to its exit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.harness.measure import ALONE, MILLISECONDS, Comparison
from benchmarks.harness.setting import Setting
from benchmarks.harness.sides import NOTHING, Command

ROOT = Path(__file__).resolve().parents[2]


@contextmanager
def imported(setting: Setting) -> Iterator[Comparison]:
    """Measure the import of the package."""
    yield command(setting, "-c", "import dctkd_zoo")


@contextmanager
def listed(setting: Setting) -> Iterator[Comparison]:
    """Measure the listing of all entries."""
    yield command(setting, "-m", "dctkd_zoo", "list")


@contextmanager
def helped(setting: Setting) -> Iterator[Comparison]:
    """Measure the help of a command."""
    yield command(setting, "-m", "train", "--help")


def command(setting: Setting, *arguments: str) -> Comparison:
    """Return the measurement of a Python command, in seconds."""
    line = " ".join(("python", *arguments))
    return Comparison(line, "", Command(arguments, ROOT), NOTHING, ALONE, MILLISECONDS, setting.rounds)
