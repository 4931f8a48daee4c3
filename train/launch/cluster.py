"""Command lines to jobs, through submitit: on this machine, or in Slurm's queue."""

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
from dctkd_zoo.errors import ZooError, reason_of
from train.launch.job import Command

if TYPE_CHECKING:
    import submitit

RECORD, NOTE = "job.json", "ended.json"
NO_LIMIT = 10 * 365 * 24 * 60  # minutes: a job on this machine is never timed out
TIMEOUTS = 1000  # times that Slurm may requeue a job whose time is up
DEFAULTS = {"time": 240, "gpus_per_node": 1, "signal_delay_s": 120}  # of Slurm's; minutes, and seconds
SLURM = {"requeue": True, "kill-on-invalid-dep": "yes"}
GRACE = 300  # s from a cluster's SIGTERM to the job's end
LOOK = 30  # s between questions to Slurm
LAG = 60  # s after which files that a job wrote on another node are seen here
QUEUED = ("PENDING", "REQUEUED", "UNKNOWN", "READY")


@dataclass(frozen=True)
class Handle:
    """A submitted job: where its files are, and what it runs on."""

    job: submitit.Job[None]
    place: Path
    after: str | None = None  # the number of the job that it waits for
    devices: str | None = None

    @property
    def number(self) -> str:
        """What the cluster calls it."""
        return self.job.job_id

    @property
    def began(self) -> bool:
        """Whether it got as far as to write a log."""
        return self.job.paths.stdout.exists()

    @property
    def code(self) -> int | None:
        """The command's exit code; `None` while it runs, or where the job was killed with it."""
        path = self.place / NOTE
        return int(json.loads(path.read_text())["code"]) if path.is_file() else None

    def last_error(self) -> str:
        """The last line of the job's log that says what went wrong."""
        path = self.job.paths.stderr
        text = path.read_text(errors="replace") if path.is_file() else ""
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        said = [line for line in lines if line.startswith("error: ")] or lines
        return said[-1].removeprefix("error: ") if said else ""


class Cluster(Protocol):
    """Where jobs run. `ahead`: one can be submitted before the one that it waits for has ended."""

    ahead: bool

    def submit(self, name: str, line: Sequence[str], path: Path, after: Handle | None) -> Handle:
        """Submit a command line, to start once `after` has ended well."""
        ...

    def adopt(self, path: Path) -> Handle | None:
        """The job that an earlier launcher submitted there, if it waits or runs still."""
        ...

    def state(self, handle: Handle) -> str:
        """`queued`, `running` or `ended`."""
        ...

    def here(self, path: Path) -> bool:
        """Whether the job whose record is there takes a turn of this launcher's."""
        ...

    def leave(self, handles: Sequence[Handle]) -> str:
        """What becomes of jobs that have not ended when the launcher is stopped, done and said."""
        ...


@dataclass
class Local:
    """Jobs on this machine, a GPU each where there are some and none was named."""

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
        """None: the lock of its run says whether it still runs."""
        return None

    def state(self, handle: Handle) -> str:
        """`running` or `ended`."""
        return "ended" if handle.job.done() else "running"

    def here(self, path: Path) -> bool:
        """Whether it was started on this machine."""
        meta = _record(path)
        return meta.get("cluster") == "local" and meta.get("host") == platform.node()

    def leave(self, handles: Sequence[Handle]) -> str:
        """Stop them; they can be resumed."""
        left = list(handles)
        while left := [handle for handle in left if self.state(handle) != "ended"]:
            for handle in left:
                os.kill(int(handle.number), signal.SIGTERM)
            time.sleep(1)
        return f"{len(handles)} stopped; start the same command again to go on"


@dataclass
class Slurm:
    """Jobs in Slurm's queue, with parameters of sbatch."""

    parameters: Mapping[str, Any]
    ahead: bool = True
    asked: float = float("-inf")
    gone: dict[str, float] = field(default_factory=dict)  # jobs that ended unheard of, and since when

    def submit(self, name: str, line: Sequence[str], path: Path, after: Handle | None) -> Handle:
        """Queue a command line; one that waits in vain is taken out of the queue."""
        executor = library().SlurmExecutor(path, max_num_timeout=TIMEOUTS)
        waits = {"dependency": f"afterok:{after.number}"} if after else {}
        wanted = {**DEFAULTS, **self.parameters, **waits, "job_name": name, "additional_parameters": SLURM}
        try:
            executor.update_parameters(**wanted)
        except ValueError as error:
            raise ZooError(f"--slurm: {reason_of(error)}") from error
        self.asked = float("-inf")
        number = after.number if after else None
        return Handle(_submit(executor, Command(line, str(path / NOTE), {}, GRACE), path, number), path, number)

    def adopt(self, path: Path) -> Handle | None:
        """The job whose number stands there, if Slurm has it."""
        meta = _record(path)
        if meta.get("cluster") != "slurm":
            return None
        handle = Handle(library().SlurmJob(path, str(meta["id"])), path, meta["after"])
        return None if self.state(handle) == "ended" else handle

    def state(self, handle: Handle) -> str:
        """As Slurm says, which is asked for all jobs at once, every half a minute."""
        if handle.code is not None:
            return "ended"
        watcher = handle.job.watcher
        if time.monotonic() - self.asked > LOOK:
            watcher.update()
            self.asked = time.monotonic()
        if watcher.is_done(handle.number, mode="cache"):
            since = self.gone.setdefault(handle.number, time.monotonic())
            return "ended" if time.monotonic() - since > LAG else "running"
        return "queued" if watcher.get_state(handle.number, mode="cache") in QUEUED else "running"

    def here(self, path: Path) -> bool:
        """No: turns are Slurm's business."""
        return False

    def leave(self, handles: Sequence[Handle]) -> str:
        """Leave them to Slurm."""
        numbers = " ".join(handle.number for handle in handles)
        return (
            f"Slurm goes on with {len(handles)} jobs (to end them: scancel {numbers}); the same command watches again"
        )


def library() -> ModuleType:
    """The submitit package; a `ZooError` that says how to get it where it is missing."""
    try:
        import submitit
    except ImportError as error:
        raise ZooError("--launcher needs submitit: pip install 'dctkd-zoo[cluster]'") from error
    return submitit


def _submit(executor: submitit.Executor, command: Command, path: Path, after: str | None = None) -> submitit.Job[None]:
    Path(command.note).unlink(missing_ok=True)
    try:
        job = executor.submit(command)
    except RuntimeError as error:  # what sbatch says
        raise ZooError(f"{executor.name()} does not take the job: {reason_of(error)}") from error
    record = {"cluster": executor.name(), "id": job.job_id, "after": after, "host": platform.node()}
    atomic.write_text(path / RECORD, json.dumps(record))
    return job


def _record(place: Path) -> dict[str, Any]:
    path = place / RECORD
    meta: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    return meta


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """What is started inside does not hear the terminal's Ctrl-C: the launcher tells it what to do."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
