"""Estimates of hours and disk space for a plan of jobs, from measured throughput."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import harmonic_mean, median

from rich.text import Text

from dctkd_zoo import registry, weights
from dctkd_zoo._io.paths import checkpoints
from dctkd_zoo.cli.shell import Column, Grid
from dctkd_zoo.spec import Entry
from dctkd_zoo.weights import run_folder
from train.launch.plan import Job, generations

BENCHMARKS = Path(__file__).parents[2] / "benchmarks" / "results.json"
# Benchmark rows that train r18 with teacher r50, and whether the teacher was cached.
BENCHED = {"gpu": False, "gpu-cached": True, "train": False, "cached": True}
COLUMNS = ("run", "teacher", "epochs", "images", "device-hours", "disk", "from")
UNKNOWN = "no measurement: these networks have not been trained here"
NOT_COUNTED = (
    "Not included: start-up, tests after epochs, pixel caches, teacher caches, and the checkpoint of a running job, "
    "which is as large as its weights."
)


@dataclass(frozen=True)
class Work:
    """What throughput depends on: networks, loss terms, crop in px, and whether the teacher is cached."""

    arch: str
    teacher: str | None
    terms: tuple[str, ...]
    crop: int
    cached: bool

    @property
    def networks(self) -> tuple[str, str | None, bool]:
        """Student, teacher, and whether the teacher is cached."""
        return self.arch, self.teacher, self.cached


@dataclass(frozen=True)
class Measured:
    """Images per second of some work, and where it was measured; lower `rank` is preferred."""

    work: Work
    images_per_s: float
    basis: str
    rank: int = 0


@dataclass(frozen=True)
class Estimate:
    """Expected epochs, images per epoch, hours and bytes of a job; hours are None without a comparable measurement."""

    job: Job
    epochs: int
    images: int | None
    hours: float | None
    disk: int
    basis: str


def work(entry: Entry, crop: int, cached: bool) -> Work:
    """Return the work of training an entry on one image."""
    teacher_entry = registry.entries().get(entry.teacher or "")
    teacher = (teacher_entry.arch if teacher_entry else entry.teacher) if entry.terms else None
    return Work(entry.arch, teacher, entry.terms, crop, cached and bool(entry.terms))


def speed(wanted: Work, measured: Sequence[Measured]) -> tuple[float | None, str]:
    """Return images per second and their source: the same work if possible, else the same networks scaled by pixels."""
    candidates = [m for m in measured if m.work.networks == wanted.networks]
    if not candidates:
        return None, UNKNOWN
    best = min(candidates, key=lambda m: (m.rank, m.work.crop != wanted.crop, m.work.terms != wanted.terms))
    terms = "" if best.work.terms == wanted.terms else f", terms {'+'.join(best.work.terms) or 'none'}"
    scaled = "" if best.work.crop == wanted.crop else f", scaled from {best.work.crop} px"
    return best.images_per_s * (best.work.crop / wanted.crop) ** 2, best.basis + terms + scaled


def measurements(out: Path) -> list[Measured]:
    """Return all measurements, those of runs on this machine first."""
    local = [m for folder in dict.fromkeys((out, checkpoints())) for m in runs(folder, "measured here")]
    return [*local, *runs(weights.BUNDLED, "the bundled run", 1), *benchmarks(BENCHMARKS)]


def runs(folder: Path, source: str, rank: int = 0) -> Iterator[Measured]:
    """Yield the throughput of the finished runs in a folder, newest first."""
    logs = (path for path in folder.glob(f"*/{run_folder.LOG}") if weights.is_complete(path.parent))
    for path in sorted(logs, key=lambda path: path.stat().st_mtime, reverse=True):
        recipe, environment = (json.loads(path.with_name(f"{n}.json").read_text()) for n in ("recipe", "environment"))
        entry = registry.entries().get(recipe["name"])
        if entry is not None:
            done = work(entry, recipe["recipe"]["crop"], "--teacher-cache" in recipe["command"])
            throughputs = [float(row["images_per_s"]) for row in csv.DictReader(path.read_text().splitlines())]
            yield Measured(done, harmonic_mean(throughputs), f"{source}, {environment['device']}", rank)


def benchmarks(path: Path) -> Iterator[Measured]:
    """Yield the throughput of training a DCT student, from the last `make bench`."""
    document = json.loads(path.read_text()) if path.is_file() else {"rows": []}
    for row in document["rows"]:
        if row["name"] in BENCHED and row.get("ours"):
            done = Work("r18", "r50", ("dctkd",), document["setting"]["crop"], BENCHED[row["name"]])
            basis = f"from benchmarks/results.json, {document['machine']['device']}"
            yield Measured(done, median(row["ours"]), basis, 2)


def estimates(
    jobs: Iterable[Job], measured: Sequence[Measured], teacher_cache: int | None, out: Path
) -> list[Estimate]:
    """Estimate what is left of each job."""
    result = []
    for job in jobs:
        log = out / job.name / run_folder.LOG
        done = len(log.read_text().splitlines()) - 1 if log.is_file() else 0
        dataset, recipe = registry.get_dataset(job.entry.dataset), job.entry.recipe
        images_per_s, basis = speed(work(job.entry, recipe.crop, bool(teacher_cache)), measured)
        hours = None
        if images_per_s is not None and dataset.train is not None:
            hours = (recipe.epochs - done) * dataset.train / images_per_s / 3600
        files = 1 if recipe.select == "last" else 2  # weights of the last epoch, and of the best one
        disk = files * size(job.entry.arch, dataset.num_classes)
        result.append(Estimate(job, recipe.epochs - done, dataset.train, hours, disk, basis))
    return result


@cache
def size(arch: str, classes: int) -> int:
    """Return the size of a network's weights in bytes."""
    import torch

    from dctkd_zoo import models

    with torch.device("meta"):
        return sum(t.numel() * t.element_size() for t in models.create(arch, classes).state_dict().values())


def report(jobs: Sequence[Job], out: Path, teacher_cache: int | None, finished: Callable[[Job], bool]) -> Grid:
    """Return the plan as a table, generation by generation, with totals and the source of each throughput."""
    unfinished = [job for job in jobs if not finished(job)]
    by_name = {e.job.name: e for e in estimates(unfinished, measurements(out), teacher_cache, out)}
    bases = {basis: number for number, basis in enumerate(dict.fromkeys(e.basis for e in by_name.values()), start=1)}
    columns = [Column(name, right=name not in ("run", "teacher")) for name in COLUMNS]
    rows = [
        [Text(cell) for cell in (job.name, job.entry.teacher or "–", *cells(by_name.get(job.name), bases))]
        for generation in generations(jobs)
        for job in generation
    ]
    notes = [f"{number}  {basis}" for basis, number in bases.items()]
    caption = Text("\n".join(["throughput from:", *notes, NOT_COUNTED] if notes else [NOT_COUNTED]), "dim")
    title = Text(totals([*by_name.values()], len(jobs)), "bold")
    return Grid(columns, rows, title, caption, spare=("images", "from", "teacher"))


def cells(estimate: Estimate | None, bases: Mapping[str, int]) -> tuple[str, ...]:
    """Return the cells for epochs, images, hours, disk and throughput source; empty ones for a finished run."""
    if estimate is None:
        return "trained", "", "", "", ""
    hours = "unknown" if estimate.hours is None else figure(estimate.hours)
    disk = f"{estimate.disk / 1e6:,.1f} MB"
    images = "unknown" if estimate.images is None else f"{estimate.images:,}"
    return str(estimate.epochs), images, hours, disk, str(bases[estimate.basis])


def totals(estimates: Sequence[Estimate], count: int) -> str:
    """Return the totals over all jobs as one line."""
    hours, unknown = sum(e.hours or 0 for e in estimates), sum(e.hours is None for e in estimates)
    images, disk = sum(e.epochs * (e.images or 0) for e in estimates), sum(e.disk for e in estimates)
    more = f" plus {unknown} jobs of unknown duration" if unknown else ""
    return (
        f"{len(estimates)} jobs to do, {count - len(estimates)} done: {images:,} images, "
        f"{figure(hours)} device-hours{more}, {disk / 1e6:,.1f} MB"
    )


def figure(hours: float) -> str:
    """Return a number with three significant digits, or all digits before the decimal point."""
    return f"{hours:,.0f}" if hours >= 100 else f"{hours:.3g}"
