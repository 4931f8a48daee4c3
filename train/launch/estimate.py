"""Jobs to a plan with hours and disk, from throughput that was measured; where none was, it says so."""

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
from train.launch.plan import Job, generations

BENCHMARKS = Path(__file__).parents[2] / "benchmarks" / "results.json"
# Rows of the benchmarks that train r18 under r50, and whether the teacher was on disk.
BENCHED = {"gpu": False, "gpu-cached": True, "train": False, "cached": True}
COLUMNS = ("run", "teacher", "epochs", "images", "device-hours", "disk", "from")
UNKNOWN = "nothing: none of these networks was trained here"
NOT_COUNTED = (
    "Not counted: start-up, tests after epochs, pixel stores, teacher caches, and the checkpoint of a job that runs, "
    "which takes as much disk again."
)


@dataclass(frozen=True)
class Work:
    """What the time for an image depends on: networks, terms, px, and whether the teacher is on disk."""

    arch: str
    teacher: str | None
    terms: tuple[str, ...]
    crop: int
    cached: bool

    @property
    def networks(self) -> tuple[str, str | None, bool]:
        """What runs on each image."""
        return self.arch, self.teacher, self.cached


@dataclass(frozen=True)
class Measured:
    """Images a second of some work, and where that was measured; the lower `rank`, the nearer."""

    work: Work
    images_per_s: float
    basis: str
    rank: int = 0


@dataclass(frozen=True)
class Estimate:
    """What a job is expected to take; no hours where nothing like it was measured."""

    job: Job
    epochs: int
    images: int
    hours: float | None
    disk: int
    basis: str


def work(entry: Entry, crop: int, cached: bool) -> Work:
    """What an entry's training does with an image."""
    taught = registry.entries().get(entry.teacher or "")
    teacher = (taught.arch if taught else entry.teacher) if entry.terms else None
    return Work(entry.arch, teacher, entry.terms, crop, cached and bool(entry.terms))


def speed(wanted: Work, measured: Sequence[Measured]) -> tuple[float | None, str]:
    """Images a second and their basis, from as near as can be: of the same work, else of its networks, by pixels."""
    alike = [m for m in measured if m.work.networks == wanted.networks]
    if not alike:
        return None, UNKNOWN
    best = min(alike, key=lambda m: (m.rank, m.work.crop != wanted.crop, m.work.terms != wanted.terms))
    terms = "" if best.work.terms == wanted.terms else f", terms {'+'.join(best.work.terms) or 'none'}"
    scaled = "" if best.work.crop == wanted.crop else f", scaled from {best.work.crop} px"
    return best.images_per_s * (best.work.crop / wanted.crop) ** 2, best.basis + terms + scaled


def measurements(out: Path) -> list[Measured]:
    """All there are, those of this machine's runs first."""
    here = [m for folder in dict.fromkeys((out, checkpoints())) for m in runs(folder, "measured here")]
    return [*here, *runs(weights.BUNDLED, "the bundled run", 1), *benchmarks(BENCHMARKS)]


def runs(folder: Path, config: str, rank: int = 0) -> Iterator[Measured]:
    """Throughput of the finished runs in a folder, the newest first."""
    result = (path for path in folder.glob("*/train_log.csv") if weights.is_complete(path.parent))
    for path in sorted(result, key=lambda path: path.stat().st_mtime, reverse=True):
        recipe, environment = (json.loads(path.with_name(f"{n}.json").read_text()) for n in ("recipe", "environment"))
        entry = registry.entries().get(recipe["name"])
        if entry is not None:
            done = work(entry, recipe["recipe"]["crop"], "--teacher-cache" in recipe["command"])
            rates = [float(row["images_per_s"]) for row in csv.DictReader(path.read_text().splitlines())]
            yield Measured(done, harmonic_mean(rates), f"{config}, {environment['device']}", rank)


def benchmarks(path: Path) -> Iterator[Measured]:
    """Throughput of a DCT student as `make bench` measured it last."""
    meta = json.loads(path.read_text()) if path.is_file() else {"rows": []}
    for row in meta["rows"]:
        if row["name"] in BENCHED and row.get("ours"):
            done = Work("r18", "r50", ("dctkd",), meta["setting"]["crop"], BENCHED[row["name"]])
            basis = f"from benchmarks/results.json, {meta['machine']['device']}"
            yield Measured(done, median(row["ours"]), basis, 2)


def estimates(
    jobs: Iterable[Job], measured: Sequence[Measured], teacher_cache: int | None, out: Path
) -> list[Estimate]:
    """What is left to be done of each job."""
    result = []
    for job in jobs:
        log = out / job.name / "train_log.csv"
        done = len(log.read_text().splitlines()) - 1 if log.is_file() else 0
        dataset, recipe = registry.get_dataset(job.entry.dataset), job.entry.recipe
        rate, basis = speed(work(job.entry, recipe.crop, bool(teacher_cache)), measured)
        hours = None if rate is None else (recipe.epochs - done) * dataset.train / rate / 3600
        disk = 2 * size(job.entry.arch, dataset.num_classes)  # the last epoch's, and the best's
        result.append(Estimate(job, recipe.epochs - done, dataset.train, hours, disk, basis))
    return result


@cache
def size(arch: str, classes: int) -> int:
    """Bytes of a network's weights."""
    import torch

    from dctkd_zoo import models

    with torch.device("meta"):
        return sum(t.numel() * t.element_size() for t in models.create(arch, classes).state_dict().values())


def report(jobs: Sequence[Job], out: Path, teacher_cache: int | None, finished: Callable[[Job], bool]) -> Grid:
    """The plan as a table, generation by generation, with totals and where the throughput is from."""
    left = [job for job in jobs if not finished(job)]
    meta = {e.job.name: e for e in estimates(left, measurements(out), teacher_cache, out)}
    bases = {basis: number for number, basis in enumerate(dict.fromkeys(e.basis for e in meta.values()), start=1)}
    columns = [Column(name, right=name not in ("run", "teacher")) for name in COLUMNS]
    rows = [
        [Text(cell) for cell in (job.name, job.entry.teacher or "–", *cells(meta.get(job.name), bases))]
        for generation in generations(jobs)
        for job in generation
    ]
    notes = [f"{number}  {basis}" for basis, number in bases.items()]
    caption = Text("\n".join(["images a second from:", *notes, NOT_COUNTED] if notes else [NOT_COUNTED]), "dim")
    title = Text(totals([*meta.values()], len(jobs)), "bold")
    return Grid(columns, rows, title, caption, spare=("images", "from", "teacher"))


def cells(estimate: Estimate | None, bases: Mapping[str, int]) -> tuple[str, ...]:
    """Epochs, images, hours, disk and basis in words; nothing of what is done."""
    if estimate is None:
        return "trained", "", "", "", ""
    hours = "unknown" if estimate.hours is None else figure(estimate.hours)
    disk = f"{estimate.disk / 1e6:,.1f} MB"
    return str(estimate.epochs), f"{estimate.images:,}", hours, disk, str(bases[estimate.basis])


def totals(estimates: Sequence[Estimate], count: int) -> str:
    """The sums over all jobs."""
    hours, unknown = sum(e.hours or 0 for e in estimates), sum(e.hours is None for e in estimates)
    images, disk = sum(e.epochs * e.images for e in estimates), sum(e.disk for e in estimates)
    more = f" and {unknown} jobs of unknown length" if unknown else ""
    return (
        f"{len(estimates)} jobs to do, {count - len(estimates)} done: {images:,} images, "
        f"{figure(hours)} device-hours{more}, {disk / 1e6:,.1f} MB"
    )


def figure(hours: float) -> str:
    """Three digits that mean something, or as many as are before the point."""
    return f"{hours:,.0f}" if hours >= 100 else f"{hours:.3g}"
