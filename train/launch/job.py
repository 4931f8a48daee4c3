"""A command line as the callable of a submitit job: stopped and started again as the cluster wants it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dctkd_zoo._io import atomic

if TYPE_CHECKING:
    from submitit.helpers import DelayedSubmission

PATIENCE = 60  # s that a run has to stop in, once it is asked to
SETTLE = 1  # s after which a signal that a cluster sends to all of a job's processes has come to each


class Command:
    """Runs a command and notes how it ended.

    submitit pickles this object into its job file, for itself to read: words and numbers, nothing else. `note` is the
    file that is to hold the exit code, `environment` what differs from the job's own (`None`: unset), and `grace` the
    seconds in which a cluster that tells a job to end does end it, or has it requeued.
    """

    def __init__(self, line: Sequence[str], note: str, environment: Mapping[str, str | None], grace: float) -> None:
        self.line, self.note, self.environment, self.grace = [*line], note, dict(environment), grace
        self.process: subprocess.Popen[bytes] | None = None
        self.told = False

    def __call__(self) -> None:
        """Run to the end; the job's exit status is the command's."""
        signal.signal(signal.SIGTERM, self._told)
        Path(self.note).unlink(missing_ok=True)
        changed = {**os.environ, **self.environment}
        environment = {name: value for name, value in changed.items() if value is not None}
        # A session of its own: when it stops is decided here.
        self.process = subprocess.Popen(self.line, env=environment, start_new_session=True, preexec_fn=_interruptible)
        try:
            code = self._ended()
        finally:
            self._stop()
        atomic.write_text(Path(self.note), json.dumps({"code": code}))
        if code:
            sys.exit(code if code > 0 else 128 - code)

    def checkpoint(self) -> DelayedSubmission:
        """What submitit calls before it requeues the job: the run stops, and is started again with the same words."""
        from submitit.helpers import DelayedSubmission

        self._stop()
        return DelayedSubmission(Command(self.line, self.note, self.environment, self.grace))

    def _told(self, number: int, frame: Any) -> None:
        if not self.told:
            self.told = True
            self._stop()

    def _ended(self) -> int:
        """Wait for the run's exit code; where its job is to end, that is left to submitit's handler."""
        assert self.process is not None
        if self.told:  # before there was anything to stop
            self._stop()
        os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOWAIT)  # unlike wait(), holds no lock that _stop needs
        code = self.process.wait()
        if code:
            time.sleep(SETTLE)
        if code and (self.told or -code in (signal.SIGTERM, signal.SIGUSR2)):
            time.sleep(self.grace)
            return -signal.SIGTERM
        return code

    def _stop(self) -> None:
        """Interrupt the run, which keeps its last checkpoint; kill it where that takes too long."""
        if self.process is None or self.process.returncode is not None:
            return
        deadline = time.monotonic() + PATIENCE
        with suppress(ProcessLookupError, ChildProcessError):  # it has just ended
            os.kill(self.process.pid, signal.SIGINT)
            while os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is None:
                time.sleep(0.1)
                if time.monotonic() > deadline:
                    os.killpg(self.process.pid, signal.SIGKILL)


def _interruptible() -> None:
    """In the child: SIGINT stops it, also where this process was started without it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
