"""Submission of command lines as submitit jobs, on this machine or to Slurm."""

from __future__ import annotations

import json
import os
import platform
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Protocol

from dctkd_zoo._io import atomic
from dctkd_zoo._io.job import Command
from dctkd_zoo.errors import ZooError, reason_of

if TYPE_CHECKING:
    import submitit

RECORD, NOTE = "job.json", "ended.json"
NO_LIMIT = 10 * 365 * 24 * 60  # minutes: a job on this machine is never timed out
TIMEOUTS = 1000  # times that Slurm may requeue a job whose time is up
DEFAULTS = {"time": 240, "gpus_per_node": 1, "signal_delay_s": 120}  # for Slurm; time in minutes, delay in seconds
SLURM = {"requeue": True, "kill-on-invalid-dep": "yes"}
GRACE = 300  # s between a cluster's SIGTERM and the end of the job
POLL_INTERVAL = 30  # s between queries to Slurm
LAG = 60  # s until files written on another node are visible here
QUEUED = ("PENDING", "REQUEUED", "UNKNOWN", "READY")


@dataclass(frozen=True)
class Handle:
    """A submitted job: its folder, the job it depends on, and its devices."""

    job: submitit.Job[None]
    folder: Path
    after: str | None = None  # number of the job it waits for
    devices: str | None = None

    @property
    def number(self) -> str:
        """Job number assigned by the cluster."""
        return self.job.job_id

    @property
    def began(self) -> bool:
        """Whether the job has started: it has a log file."""
        return self.job.paths.stdout.exists()

    @property
    def code(self) -> int | None:
        """The command's exit code; `None` while it runs, or if it was killed together with its job."""
        path = self.folder / NOTE
        return int(json.loads(path.read_text())["code"]) if path.is_file() else None

    def last_error(self) -> str:
        """Return the last error message in the job's log, or its last line."""
        path = self.job.paths.stderr
        text = path.read_text(errors="replace") if path.is_file() else ""
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        errors = [line for line in lines if line.startswith("error: ")] or lines
        return errors[-1].removeprefix("error: ") if errors else ""


class Cluster(Protocol):
    """A place to run jobs. `ahead`: a job can be submitted before the job it depends on has ended."""

    ahead: bool

    def submit(self, name: str, line: Sequence[str], path: Path, after: Handle | None) -> Handle:
        """Submit a command line that starts once `after` has succeeded."""
        ...

    def adopt(self, path: Path) -> Handle | None:
        """Return the job that an earlier launcher submitted from folder `path`, if it is still queued or running."""
        ...

    def state(self, handle: Handle) -> str:
        """Return `queued`, `running` or `ended`."""
        ...

    def counts_here(self, path: Path) -> bool:
        """Return whether the job recorded in folder `path` counts against this launcher's limit."""
        ...

    def leave(self, handles: Sequence[Handle]) -> str:
        """Stop or leave unfinished jobs when the launcher is stopped, and return a message about it."""
        ...


@dataclass
class Local:
    """Jobs on this machine, each on the GPU of `gpus` with the fewest jobs."""

    gpus: Sequence[str] = ()
    running: list[Handle] = field(default_factory=list)
    ahead: bool = False

    def submit(self, name: str, line: Sequence[str], path: Path, after: Handle | None) -> Handle:
        """Start a command line."""
        executor = library().LocalExecutor(path)
        executor.update_parameters(timeout_min=NO_LIMIT)
        self.running = [handle for handle in self.running if self.state(handle) != "ended"]
        busy = [handle.devices for handle in self.running]
        devices = min(self.gpus, key=busy.count) if self.gpus else os.environ.get("CUDA_VISIBLE_DEVICES")
        with _uninterrupted():
            job = _submit(executor, Command(line, str(path / NOTE), {"CUDA_VISIBLE_DEVICES": devices}, 0), path)
        handle = Handle(job, path, devices=devices)
        self.running.append(handle)
        return handle

    def adopt(self, path: Path) -> Handle | None:
        """Return None: the lock of a run shows whether it is still running."""
        return None

    def state(self, handle: Handle) -> str:
        """Return `running` or `ended`."""
        return "ended" if handle.job.done() else "running"

    def counts_here(self, path: Path) -> bool:
        """Return whether the job was started on this machine."""
        record = _record(path)
        return record.get("cluster") == "local" and record.get("host") == platform.node()

    def leave(self, handles: Sequence[Handle]) -> str:
        """Stop the jobs; they can be resumed."""
        remaining = list(handles)
        while remaining := [handle for handle in remaining if self.state(handle) != "ended"]:
            for handle in remaining:
                os.kill(int(handle.number), signal.SIGTERM)
            time.sleep(1)
        return f"jobs stopped: {len(handles)}; run the same command again to continue"


@dataclass
class Slurm:
    """Jobs in Slurm's queue, submitted with the given sbatch parameters."""

    parameters: Mapping[str, Any]
    ahead: bool = True
    polled_at: float = float("-inf")
    ended_at: dict[str, float] = field(default_factory=dict)  # when Slurm first reported a job as ended

    def submit(self, name: str, line: Sequence[str], path: Path, after: Handle | None) -> Handle:
        """Submit a command line; Slurm cancels the job if the one it depends on fails."""
        executor = library().SlurmExecutor(path, max_num_timeout=TIMEOUTS)
        dependency = {"dependency": f"afterok:{after.number}"} if after else {}
        parameters = {**DEFAULTS, **self.parameters, **dependency, "job_name": name, "additional_parameters": SLURM}
        try:
            executor.update_parameters(**parameters)
        except ValueError as error:
            raise ZooError(f"--slurm: {reason_of(error)}") from error
        self.polled_at = float("-inf")
        number = after.number if after else None
        return Handle(_submit(executor, Command(line, str(path / NOTE), {}, GRACE), path, number), path, number)

    def adopt(self, path: Path) -> Handle | None:
        """Return the job recorded in folder `path`, if Slurm still has it."""
        record = _record(path)
        if record.get("cluster") != "slurm":
            return None
        handle = Handle(library().SlurmJob(path, str(record["id"])), path, record["after"])
        return None if self.state(handle) == "ended" else handle

    def state(self, handle: Handle) -> str:
        """Return the state that Slurm reports; it is queried for all jobs at once, every `POLL_INTERVAL` seconds."""
        if handle.code is not None:
            return "ended"
        watcher = handle.job.watcher
        if time.monotonic() - self.polled_at > POLL_INTERVAL:
            watcher.update()
            self.polled_at = time.monotonic()
        if watcher.is_done(handle.number, mode="cache"):
            ended_at = self.ended_at.setdefault(handle.number, time.monotonic())
            return "ended" if time.monotonic() - ended_at > LAG else "running"
        return "queued" if watcher.get_state(handle.number, mode="cache") in QUEUED else "running"

    def counts_here(self, path: Path) -> bool:
        """Return False: Slurm schedules its jobs itself."""
        return False

    def leave(self, handles: Sequence[Handle]) -> str:
        """Leave the jobs to Slurm."""
        numbers = " ".join(handle.number for handle in handles)
        return (
            f"jobs left in Slurm's queue: {len(handles)} (cancel them with: scancel {numbers}); "
            "run the same command again to monitor them"
        )


def library() -> ModuleType:
    """Return the submitit package; `ZooError` with installation instructions if it is missing."""
    try:
        import submitit
    except ImportError as error:
        raise ZooError("--launcher needs submitit: pip install 'dctkd-zoo[cluster]'") from error
    return submitit


def _submit(executor: submitit.Executor, command: Command, path: Path, after: str | None = None) -> submitit.Job[None]:
    Path(command.note).unlink(missing_ok=True)
    try:
        job = executor.submit(command)
    except RuntimeError as error:  # holds the message of sbatch
        raise ZooError(f"{executor.name()} did not accept the job: {reason_of(error)}") from error
    record = {"cluster": executor.name(), "id": job.job_id, "after": after, "host": platform.node()}
    atomic.write_text(path / RECORD, json.dumps(record))
    return job


def _record(folder: Path) -> dict[str, Any]:
    path = folder / RECORD
    record: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    return record


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Start child processes with SIGINT ignored, so that Ctrl-C in the terminal reaches only the launcher."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
