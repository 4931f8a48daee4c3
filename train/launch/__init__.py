"""`python -m train ... --launcher`: entries planned, handed to a cluster and watched."""

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

FORWARDED = ("data", "device", "out", "teacher_cache", "catalog")  # what a job's command line has of the launcher's
EVERY, SHARE = 0.5, 10  # s between looks, and at least so many times what a look takes


def main(names: Sequence[str], options: argparse.Namespace) -> int:
    """Train the entries as jobs, or print the plan of it; 0 where all are trained."""
    out = (options.out or checkpoints()).absolute()
    jobs = plan.jobs(plan.seeded(names, options.seed), lambda entry: available(entry, out))
    console = shell.console()
    if options.dry_run:
        from train.launch import estimate

        shell.show(console, estimate.report(jobs, out, options.teacher_cache, lambda job: finished(out / job.name)))
        return 0
    cluster, begin, limit = chosen(options)
    launcher = Launcher(
        jobs,
        out,
        cluster,
        lambda job: [*begin, *words(job.entry, options)],
        options.jobs or limit,
        known=refused(jobs, out, options),
    )
    try:
        rows = watch(launcher, console)
    except KeyboardInterrupt:
        print(cluster.leave(launcher.active()), file=sys.stderr)
        return 130
    return int(any(row.status.state != "done" for row in rows))


def watch(launcher: Launcher, console: Console) -> list[Row]:
    """Look and show until every run has ended; the last rows."""
    launcher.adopt()
    with board.Board(str(launcher.out), console) as shown:
        while True:
            start = time.monotonic()
            rows = launcher.step()
            shown.show(rows)
            if all(row.status.state in ENDS for row in rows):
                return rows
            time.sleep(max(EVERY, SHARE * (time.monotonic() - start)))


def chosen(options: argparse.Namespace) -> tuple[Cluster, list[str], int]:
    """The cluster, how its command lines begin, and how many jobs it is given at once unless told."""
    if options.launcher is None or (options.slurm and options.launcher != "slurm"):
        raise ZooError("--jobs needs --launcher, and --slurm needs --launcher slurm")
    library()
    python = [sys.executable, "-m"]
    if options.launcher == "local":
        return Local(() if options.device else gpus()), [*python, "train"], 1
    if shutil.which("sbatch") is None:
        raise ZooError("--launcher slurm: there is no sbatch here; start it where jobs are submitted from")
    parameters = dict(options.slurm)
    if parameters.get("nodes", 1) != 1:
        raise ZooError(f"--slurm nodes={parameters['nodes']}: a run is of one node")
    if not isinstance(parameters.get("time", 1), int):
        raise ZooError(f"--slurm time={parameters['time']}: minutes, a whole number")
    count = parameters.get("gpus_per_node", 1)
    spread = ["torch.distributed.run", "--standalone", f"--nproc-per-node={count}", "-m"] if count > 1 else []
    return Slurm(parameters), [*python, *spread, "train"], sys.maxsize


def gpus() -> tuple[str, ...]:
    """The GPUs of this machine that may be used, as CUDA_VISIBLE_DEVICES calls them."""
    import torch

    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return tuple(filter(None, named.split(",")))
    return tuple(str(number) for number in range(torch.cuda.device_count()))


def words(entry: Entry, options: argparse.Namespace) -> list[str]:
    """What of `python -m train` makes one run, resumed where it has begun; paths as any folder understands them."""
    line = [entry.name, "--resume", "--seed", str(entry.recipe.seed)]
    for name in FORWARDED:
        value = getattr(options, name)
        if value is not None:
            line += [f"--{name.replace('_', '-')}", str(value.absolute() if isinstance(value, Path) else value)]
    return line


def available(entry: Entry, out: Path) -> bool:
    """Whether an entry's weights can be had without training it."""
    return weights.is_complete(out / entry.run_name) or weights.available(entry.run_name)


def refused(jobs: Sequence[Job], out: Path, options: argparse.Namespace) -> dict[str, Status]:
    """Those whose finished folder holds a network of another recipe."""
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
