"""Scheduler of jobs: starts each when its teacher is trained, monitors it, and resumes it if it was killed."""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dctkd_zoo import weights
from dctkd_zoo._io import lock
from dctkd_zoo.errors import Busy
from dctkd_zoo.weights import run_folder
from train import checkpoint
from train.launch import board
from train.launch.board import Row, Status
from train.launch.cluster import Cluster, Handle
from train.launch.plan import Job

JOBS = ".launch"  # subfolder of --out with the job files
ENDS = ("done", "failed", "not started")


@dataclass
class Launcher:
    """Runs at most `limit` jobs at once and tracks their states. `line` returns a job's command line."""

    jobs: Sequence[Job]
    out: Path
    cluster: Cluster
    line: Callable[[Job], Sequence[str]]
    limit: int
    handles: dict[str, Handle] = field(default_factory=dict)
    statuses: dict[str, Status] = field(default_factory=dict)
    start_epochs: dict[str, int] = field(default_factory=dict)  # epochs done when a run's job was submitted

    def step(self) -> list[Row]:
        """Update the state of every job, submit those that can start, and return a row for each."""
        for job in self.jobs:
            before = self.statuses.get(job.name, Status())
            if before.state not in ENDS:
                self.statuses[job.name] = self._look(job, before)
        return [self._row(job) for job in self.jobs]

    def adopt(self) -> None:
        """Take over jobs submitted by an earlier launcher."""
        for job in self.jobs:
            handle = None if finished(self._folder(job)) else self.cluster.adopt(self._job_folder(job))
            if handle is not None:
                self.handles[job.name], self.start_epochs[job.name] = handle, self._epochs(job)

    def active(self) -> list[Handle]:
        """Return the jobs that have not ended."""
        return [handle for handle in self.handles.values() if self.cluster.state(handle) != "ended"]

    def _look(self, job: Job, before: Status) -> Status:
        folder, handle = self._folder(job), self.handles.get(job.name)
        if handle is not None and (state := self.cluster.state(handle)) != "ended":
            return Status(state, f"job {handle.number}")
        if finished(folder):
            return Status("done", "" if handle or before.state == "running elsewhere" else "before")
        if busy(folder):
            self.handles.pop(job.name, None)
            return Status("running elsewhere")
        needed = self.statuses[job.needs].state if job.needs else "done"
        if needed in ("failed", "not started"):
            return Status("not started", f"{job.needs} {needed}")
        if handle is not None and not self._should_retry(job, handle):
            return Status("failed", self._failure_reason(job, handle))
        self.handles.pop(job.name, None)
        first = self.handles.get(job.needs or "")
        if needed != "done" and not (self.cluster.ahead and first is not None):
            return Status("waiting", f"for {job.needs}")
        if self._slots_used() >= self.limit:
            return Status("waiting")
        return self._submit(job, None if needed == "done" else first)

    def _should_retry(self, job: Job, handle: Handle) -> bool:
        """Return whether to restart a job that ended early: if it made progress, or its dependency was resubmitted."""
        if handle.code is not None and handle.code > 0:
            return False
        if handle.after is None or handle.began:
            return self._epochs(job) > self.start_epochs[job.name]
        first = self.handles.get(job.needs or "")  # resubmitted under another number, or finished elsewhere
        return self.statuses[str(job.needs)].state == "done" or (first is not None and first.number != handle.after)

    def _failure_reason(self, job: Job, handle: Handle) -> str:
        if handle.code is None or handle.code < 0:
            how = "with its job" if handle.code is None else f"by {signal.Signals(-handle.code).name}"
            return f"killed {how} without finishing an epoch"
        return handle.last_error().removeprefix(f"{job.name}: ") or f"exit status {handle.code}"

    def _submit(self, job: Job, after: Handle | None) -> Status:
        self.start_epochs[job.name] = self._epochs(job)
        handle = self.cluster.submit(job.name, self.line(job), self._job_folder(job), after)
        self.handles[job.name] = handle
        return Status(self.cluster.state(handle).replace("ended", "running"), f"job {handle.number}")

    def _slots_used(self) -> int:
        """Count the jobs against the limit: active ones, and those left by an earlier launcher on this machine."""
        others = [n for n, status in self.statuses.items() if status.state == "running elsewhere"]
        return len(self.active()) + sum(self.cluster.counts_here(self.out / JOBS / name) for name in others)

    def _row(self, job: Job) -> Row:
        done, top1 = board.progress(self._folder(job) / run_folder.LOG)
        return Row(job.name, self.statuses[job.name], done, job.entry.recipe.epochs, top1)

    def _epochs(self, job: Job) -> int:
        return board.progress(self._folder(job) / run_folder.LOG)[0]

    def _folder(self, job: Job) -> Path:
        return self.out / job.name

    def _job_folder(self, job: Job) -> Path:
        return self.out / JOBS / job.name


def finished(folder: Path) -> bool:
    """Return whether a run is finished: its network is complete and its checkpoint is gone."""
    return weights.is_complete(folder) and not checkpoint.begun(folder)


def busy(folder: Path) -> bool:
    """Return whether another process is writing the run in `folder`."""
    if not lock.lock_path(folder).exists():
        return False
    try:
        with lock.held(folder, wait=False):
            return False
    except Busy:
        return True
