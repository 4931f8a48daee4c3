"""A user's process: calls of functions, one after the other, to what came of each and what was printed meanwhile."""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Outcome:
    """What a call gave, or the class and text of its exception; what it printed, and how long it asked to sleep."""

    value: Any = None
    error: str = ""
    said: str = ""
    traceback: str = field(default="", repr=False)
    slept: float = 0
    printed: str = field(default="", repr=False)

    def get(self) -> Any:
        """The value, where there was no exception."""
        assert not self.error, self.traceback
        return self.value

    def refused(self, error: str, *words: str) -> str:
        """What was said, where it was an exception of this class that has these words."""
        assert self.error == error, self.traceback or self.value
        assert [word for word in words if word not in self.said] == [], self.said
        return self.said


class User:
    """A process of its own, with `folder` for its home: the Hub's address is read when its client is imported."""

    def __init__(self, endpoint: str, folder: Path, **environment: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.home, self.log = folder / "hf", folder / "log.txt"
        own = {"HF_ENDPOINT": endpoint, "HF_HOME": str(self.home), "DCTKD_ZOO_HOME": str(folder / "zoo")}
        quiet = {"HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1", "NO_PROXY": "*", "no_proxy": "*"}
        # Spawned: a fork would have what this process has imported.
        self._pool = ProcessPoolExecutor(1, get_context("spawn"), _begin, ({**quiet, **own, **environment}, self.log))
        self.printed = ""

    def __call__(self, function: Callable[..., Any], *arguments: Any, token: str = "", **named: Any) -> Outcome:
        """Call a function there, with `HF_TOKEN` set or not."""
        outcome: Outcome = self._pool.submit(_call, function, arguments, named, token, self.log).result()
        self.printed += outcome.printed + outcome.said + outcome.traceback
        return outcome

    def cached(self, repo: str) -> dict[str, bytes]:
        """The blobs in the cache of a repository, by name."""
        blobs = (self.home / "hub" / f"models--{repo.replace('/', '--')}" / "blobs").glob("*")
        return {path.name: path.read_bytes() for path in blobs}

    def close(self) -> None:
        """End the process."""
        self._pool.shutdown()


_slept: list[float] = []


def _begin(environment: dict[str, str], log: Path) -> None:
    for name in [*os.environ]:
        if name.startswith(("HF_", "HUGGING")) or name.lower().endswith("_proxy"):
            del os.environ[name]
    os.environ.update(environment)
    printed = log.open("a")
    os.dup2(printed.fileno(), 1)
    os.dup2(printed.fileno(), 2)
    time.sleep = _sleep


def _sleep(seconds: Any) -> None:
    _slept.append(float(seconds))  # the client waits between its tries


def _call(function: Callable[..., Any], arguments: Any, named: Any, token: str, log: Path) -> Outcome:
    _slept.clear()
    os.environ["HF_TOKEN"] = token
    before = log.stat().st_size
    came: dict[str, Any] = {}
    try:
        came = {"value": function(*arguments, **named)}
    except Exception as error:
        came = {"error": type(error).__name__, "said": str(error), "traceback": traceback.format_exc()}
    sys.stdout.flush()
    return Outcome(**came, slept=sum(_slept), printed=log.read_bytes()[before:].decode())
