"""SIGINT and SIGTERM as a request that a run answers between two steps, when its state is whole."""

from __future__ import annotations

import signal
from types import FrameType, TracebackType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(KeyboardInterrupt):
    """A run that was asked to stop, and has kept its state."""

    def __init__(self, signum: int | None, path: str) -> None:
        by = f" by {signal.Signals(signum).name}" if signum else ", as another rank was,"
        super().__init__(f"stopped{by} {path}; go on with --resume")
        self.status = 128 + (signum or signal.SIGTERM)


class StopSignal:
    """The first signal inside is noted in `asked`; a second one acts as ever."""

    def __init__(self) -> None:
        self.asked: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopSignal:
        self._before = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._restore()

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.asked = number
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
