"""Launcher of many runs: plan the jobs, submit them and monitor them (`python -m train ... --launcher`)."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dctkd_zoo import weights
from dctkd_zoo._io.paths import checkpoints
from dctkd_zoo.cli import shell
from dctkd_zoo.errors import ZooError
from dctkd_zoo.spec import Entry
from train.launch import board, plan
from train.launch.board import Row, Status
from train.launch.cluster import Cluster, Local, Slurm, library
from train.launch.plan import Job
from train.launch.scheduler import ENDS, Launcher, finished

if TYPE_CHECKING:
    from rich.console import Console

FORWARDED = (
    "data",
    "device",
    "out",
    "teacher_cache",
    "precision",
    "logger",
    "catalog",
    *plan.CHANGES,
)  # options that every job is given, too
# Seconds between two polls, and at least this many times the duration of one.
POLL_INTERVAL, POLL_FACTOR = 0.5, 10


def main(names: Sequence[str], options: argparse.Namespace) -> int:
    """Train the entries as jobs, or print the plan; return 0 if all of them are trained."""
    out = (options.out or checkpoints()).absolute()
    entries = [plan.changed(entry, options) for entry in plan.seeded(names, options.seed)]
    jobs = plan.jobs(entries, lambda entry: available(entry, out))
    console = shell.console()
    if options.dry_run:
        from train.launch import estimate

        shell.show(console, estimate.report(jobs, out, options.teacher_cache, lambda job: finished(out / job.name)))
        return 0
    cluster, prefix, limit = choose_cluster(options)
    launcher = Launcher(
        jobs,
        out,
        cluster,
        lambda job: [*prefix, *arguments(job.entry, options)],
        options.jobs or limit,
        statuses=other_recipes(jobs, out, options),
    )
    try:
        rows = watch(launcher, console)
    except KeyboardInterrupt:
        print(cluster.leave(launcher.active()), file=sys.stderr)
        return 130
    return int(any(row.status.state != "done" for row in rows))


def watch(launcher: Launcher, console: Console) -> list[Row]:
    """Poll and display the jobs until every run has ended; return the last rows."""
    launcher.adopt()
    with board.Board(str(launcher.out), console) as display:
        while True:
            start = time.monotonic()
            rows = launcher.step()
            display.show(rows)
            if all(row.status.state in ENDS for row in rows):
                return rows
            time.sleep(max(POLL_INTERVAL, POLL_FACTOR * (time.monotonic() - start)))


def choose_cluster(options: argparse.Namespace) -> tuple[Cluster, list[str], int]:
    """Return the cluster, the start of its command lines, and the default number of jobs at once."""
    if options.launcher is None or (options.slurm and options.launcher != "slurm"):
        raise ZooError("--jobs needs --launcher, and --slurm needs --launcher slurm")
    library()
    python = [sys.executable, "-m"]
    train = ["dctkd_zoo", "train"]  # not -m train, which would run a train.py of the current folder
    if options.launcher == "local":
        return Local(() if options.device else gpus()), [*python, *train], 1
    if shutil.which("sbatch") is None:
        raise ZooError("--launcher slurm: sbatch not found; run this command on a login node")
    parameters = dict(options.slurm)
    if parameters.get("nodes", 1) != 1:
        raise ZooError(f"--slurm nodes={parameters['nodes']}: a run uses one node; leave it out")
    if not isinstance(parameters.get("time", 1), int):
        raise ZooError(f"--slurm time={parameters['time']}: give minutes as a whole number")
    count = parameters.get("gpus_per_node", 1)
    torchrun = ["torch.distributed.run", "--standalone", f"--nproc-per-node={count}", "-m"] if count > 1 else []
    return Slurm(parameters), [*python, *torchrun, *train], sys.maxsize


def gpus() -> tuple[str, ...]:
    """Return the usable GPUs of this machine, in the notation of CUDA_VISIBLE_DEVICES."""
    import torch

    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return tuple(filter(None, visible.split(",")))
    return tuple(str(number) for number in range(torch.cuda.device_count()))


def arguments(entry: Entry, options: argparse.Namespace) -> list[str]:
    """Return the arguments of `python -m train` for one run, with absolute paths."""
    line = [entry.name, "--resume", "--seed", str(entry.recipe.seed)]
    for name in FORWARDED:
        value = getattr(options, name)
        if value is not None:
            line += [f"--{name.replace('_', '-')}", _text(value)]
    return line


def _text(value: object) -> str:
    """Return an option's value as it is written on a command line."""
    if isinstance(value, list):
        return ",".join(value)
    return str(value.absolute() if isinstance(value, Path) else value)


def available(entry: Entry, out: Path) -> bool:
    """Return whether an entry's weights exist without training it."""
    return weights.is_complete(out / entry.run_name) or weights.available(entry.run_name)


def other_recipes(jobs: Sequence[Job], out: Path, options: argparse.Namespace) -> dict[str, Status]:
    """Return a failed status for each job whose finished folder holds a network of another recipe."""
    import torch

    from train import run
    from train.config import TrainConfig

    config, result = TrainConfig(options.data, out, torch.device("cpu"), teacher_cache=options.teacher_cache), {}
    for job in jobs:
        if finished(out / job.name):
            try:
                run.refuse_other_recipe(job.entry, out / job.name, config)
            except ZooError as error:
                result[job.name] = Status("failed", str(error))
    return result
