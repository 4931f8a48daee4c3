"""Handling of SIGINT and SIGTERM: a run stops between two steps, after writing a checkpoint."""

from __future__ import annotations

import signal
from types import FrameType, TracebackType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(KeyboardInterrupt):
    """A run that was stopped by a signal and has written a checkpoint."""

    def __init__(self, signum: int | None, when: str) -> None:
        cause = f" by {signal.Signals(signum).name}" if signum else " because another rank was stopped,"
        super().__init__(f"stopped{cause} {when}; continue with --resume")
        self.status = 128 + (signum or signal.SIGTERM)


class StopSignal:
    """Context that records the first signal in `signum`; a second signal has its usual effect."""

    def __init__(self) -> None:
        self.signum: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopSignal:
        self._before = {number: signal.signal(number, self._record) for number in SIGNALS}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._restore()

    def _record(self, number: int, frame: FrameType | None) -> None:
        self.signum = number
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
