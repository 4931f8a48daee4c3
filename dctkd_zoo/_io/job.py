"""Callable of a submitit job: runs one command line, and stops or requeues it when the cluster asks."""

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

PATIENCE = 60  # s between the request to stop a run and killing it
SETTLE = 1  # s within which a signal that a cluster sends to all processes of a job reaches each of them


class Command:
    """A command line that records its exit code.

    submitit pickles this object into a job file that only submitit reads; it holds strings and numbers only. Its module
    is in this package, since the job's process starts in the user's folder, which may have a `train.py`. `note` is the
    file for the exit code, `environment` changes the job's environment variables (`None` unsets one), and `grace`
    is the number of seconds after SIGTERM in which a cluster kills or requeues the job.
    """

    def __init__(self, line: Sequence[str], note: str, environment: Mapping[str, str | None], grace: float) -> None:
        self.line, self.note, self.environment, self.grace = [*line], note, dict(environment), grace
        self.process: subprocess.Popen[bytes] | None = None
        self.terminated = False  # whether the cluster has sent SIGTERM

    def __call__(self) -> None:
        """Run the command to its end and exit with its status."""
        signal.signal(signal.SIGTERM, self._on_sigterm)
        Path(self.note).unlink(missing_ok=True)
        changed = {**os.environ, **self.environment}
        environment = {name: value for name, value in changed.items() if value is not None}
        # In a session of its own, so that signals to the job's process group do not reach it directly.
        self.process = subprocess.Popen(self.line, env=environment, start_new_session=True, preexec_fn=_reset_sigint)
        try:
            code = self._wait()
        finally:
            self._stop()
        atomic.write_text(Path(self.note), json.dumps({"code": code}))
        if code:
            sys.exit(code if code > 0 else 128 - code)

    def checkpoint(self) -> DelayedSubmission:
        """Stop the run and return the same command; submitit calls this before it requeues the job."""
        from submitit.helpers import DelayedSubmission

        self._stop()
        return DelayedSubmission(Command(self.line, self.note, self.environment, self.grace))

    def _on_sigterm(self, number: int, frame: Any) -> None:
        if not self.terminated:
            self.terminated = True
            self._stop()

    def _wait(self) -> int:
        """Wait for the run's exit code; if the job is being terminated, leave time for submitit's handler."""
        assert self.process is not None
        if self.terminated:  # the signal came before the process existed
            self._stop()
        os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOWAIT)  # unlike wait(), takes no lock that _stop needs
        code = self.process.wait()
        if code:
            time.sleep(SETTLE)
        if code and (self.terminated or -code in (signal.SIGTERM, signal.SIGUSR2)):
            time.sleep(self.grace)
            return -signal.SIGTERM
        return code

    def _stop(self) -> None:
        """Interrupt the run, which writes a checkpoint, and kill it if that takes longer than `PATIENCE`."""
        if self.process is None or self.process.returncode is not None:
            return
        deadline = time.monotonic() + PATIENCE
        with suppress(ProcessLookupError, ChildProcessError):  # it has just ended
            os.kill(self.process.pid, signal.SIGINT)
            while os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is None:
                time.sleep(0.1)
                if time.monotonic() > deadline:
                    os.killpg(self.process.pid, signal.SIGKILL)


def _reset_sigint() -> None:
    """Restore the default SIGINT handler in the child, in case this process was started with SIGINT ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
