"""Jobs to trained networks: each starts when what it rests on is there, is watched, and resumed where it was killed."""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dctkd_zoo import weights
from dctkd_zoo._io import lock
from dctkd_zoo.errors import Busy
from train import checkpoint
from train.launch import board
from train.launch.board import Row, Status
from train.launch.cluster import Cluster, Handle
from train.launch.plan import Job

JOBS = ".launch"  # the folder of job files among those of runs
ENDS = ("done", "failed", "not started")


@dataclass
class Launcher:
    """Runs jobs, `limit` at once, and knows what each is doing. `line` is what trains one."""

    jobs: Sequence[Job]
    out: Path
    cluster: Cluster
    line: Callable[[Job], Sequence[str]]
    limit: int
    handles: dict[str, Handle] = field(default_factory=dict)
    known: dict[str, Status] = field(default_factory=dict)
    since: dict[str, int] = field(default_factory=dict)  # epochs done when a run's job was submitted

    def step(self) -> list[Row]:
        """Look at every job, and submit those that can be."""
        for job in self.jobs:
            before = self.known.get(job.name, Status())
            if before.state not in ENDS:
                self.known[job.name] = self._look(job, before)
        return [self._row(job) for job in self.jobs]

    def adopt(self) -> None:
        """Take over jobs that an earlier launcher submitted."""
        for job in self.jobs:
            handle = None if finished(self._folder(job)) else self.cluster.adopt(self._place(job))
            if handle is not None:
                self.handles[job.name], self.since[job.name] = handle, self._epochs(job)

    def active(self) -> list[Handle]:
        """Jobs that have not ended."""
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
        needed = self.known[job.needs].state if job.needs else "done"
        if needed in ("failed", "not started"):
            return Status("not started", f"{job.needs} {needed}")
        if handle is not None and not self._again(job, handle):
            return Status("failed", self._why(job, handle))
        self.handles.pop(job.name, None)
        first = self.handles.get(job.needs or "")
        if needed != "done" and not (self.cluster.ahead and first is not None):
            return Status("waiting", f"for {job.needs}")
        if self._occupied() >= self.limit:
            return Status("waiting")
        return self._submit(job, None if needed == "done" else first)

    def _again(self, job: Job, handle: Handle) -> bool:
        """Whether a job that ended early is started once more: killed but further than before, or waiting in vain."""
        if handle.code is not None and handle.code > 0:
            return False
        if handle.after is None or handle.began:
            return self._epochs(job) > self.since[job.name]
        first = self.handles.get(job.needs or "")  # which was itself started once more, or done elsewhere
        return self.known[str(job.needs)].state == "done" or (first is not None and first.number != handle.after)

    def _why(self, job: Job, handle: Handle) -> str:
        if handle.code is None or handle.code < 0:
            how = "with its job" if handle.code is None else f"by {signal.Signals(-handle.code).name}"
            return f"killed {how}, no epoch further than when it was started"
        return handle.last_error().removeprefix(f"{job.name}: ") or f"exit status {handle.code}"

    def _submit(self, job: Job, after: Handle | None) -> Status:
        self.since[job.name] = self._epochs(job)
        handle = self.cluster.submit(job.name, self.line(job), self._place(job), after)
        self.handles[job.name] = handle
        return Status(self.cluster.state(handle).replace("ended", "running"), f"job {handle.number}")

    def _occupied(self) -> int:
        """Jobs that count against the limit: ours, and those an earlier launcher on this machine has left."""
        elsewhere = [n for n, status in self.known.items() if status.state == "running elsewhere"]
        return len(self.active()) + sum(self.cluster.here(self.out / JOBS / name) for name in elsewhere)

    def _row(self, job: Job) -> Row:
        done, top1 = board.progress(self._folder(job) / "train_log.csv")
        return Row(job.name, self.known[job.name], done, job.entry.recipe.epochs, top1)

    def _epochs(self, job: Job) -> int:
        return board.progress(self._folder(job) / "train_log.csv")[0]

    def _folder(self, job: Job) -> Path:
        return self.out / job.name

    def _place(self, job: Job) -> Path:
        return self.out / JOBS / job.name


def finished(folder: Path) -> bool:
    """Whether a run has come to its end: the network is there, and the state to go on from is gone."""
    return weights.is_complete(folder) and not checkpoint.begun(folder)


def busy(folder: Path) -> bool:
    """Whether another process writes a run."""
    if not lock.lock_path(folder).exists():
        return False
    try:
        with lock.held(folder, wait=False):
            return False
    except Busy:
        return True
