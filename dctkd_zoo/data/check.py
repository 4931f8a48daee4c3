"""Dataset and its splits -> a report of what is missing, broken, doubled or leaked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import PurePosixPath
from typing import Literal

from rich.text import Text

from dctkd_zoo.data import tree
from dctkd_zoo.data.content import prints, twins
from dctkd_zoo.data.split import Files, Split
from dctkd_zoo.errors import printable, reason_of
from dctkd_zoo.shell import Column, Grid
from dctkd_zoo.spec import Dataset

Severity = Literal["error", "warning", "note"]
STYLE = {"error": "red", "warning": "yellow", "note": "dim"}
THREADS = 4  # decoding releases the interpreter's lock; more only crowd a disk


@dataclass(frozen=True)
class Finding:
    """One thing that was found: how bad, what, the first five places, and how many there are."""

    severity: Severity
    what: str
    first: tuple[str, ...]
    count: int


@dataclass(frozen=True)
class Report:
    """What a check of a dataset found; `sizes` are its numbers of images by split."""

    dataset: str
    sizes: Mapping[str, int]
    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """Whether there is no error; warnings are properties of a set that a user should know."""
        return all(finding.severity != "error" for finding in self.findings)


def check(dataset: Dataset, splits: Mapping[str, Split]) -> Report:
    """Look at every image of `splits` ("train" and "test", as `load.read` gives them): decodes and hashes all."""
    found = [
        *_classes(dataset, splits),
        *_sizes(dataset, splits),
        *_undecodable(splits),
        *_same_bytes(splits["train"], splits["test"]),
        *_same_names(splits["train"], splits["test"]),
        *_without_images(splits),
        *_unlisted(splits),
    ]
    findings = tuple(finding for finding in found if finding.count)
    return Report(dataset.name, {name: len(split) for name, split in splits.items()}, findings)


def render(report: Report) -> Grid:
    """The report as a table, a row per finding."""
    sizes = ", ".join(f"{count:,} {name}" for name, count in report.sizes.items())
    rows = [
        [
            Text(finding.severity, style=STYLE[finding.severity]),
            Text(finding.what),
            Text(f"{finding.count:,}"),
            Text("\n".join(map(printable, finding.first))),
        ]
        for finding in report.findings
    ]
    columns = (Column("severity"), Column("what", prose=True), Column("count", right=True), Column("first", prose=True))
    end = "nothing found" if not report.findings else "complete" if report.ok else "not usable as it is"
    return Grid(columns, rows, Text(f"{report.dataset}: {sizes} images", "bold"), Text(end))


def _finding(severity: Severity, what: str, places: Sequence[str]) -> Finding:
    return Finding(severity, what, tuple(places[:5]), len(places))


def _classes(dataset: Dataset, splits: Mapping[str, Split]) -> Iterator[Finding]:
    train, test = splits["train"].classes, splits["test"].classes
    if len(train) != dataset.num_classes:
        yield Finding("error", f"{len(train):,} classes, {dataset.num_classes:,} expected", (), 1)
    yield _finding("error", "classes in train or test alone", sorted(set(train) ^ set(test)))
    if set(train) == set(test):
        moved = [f"{a} in train, {b} in test" for a, b in zip(train, test, strict=True) if a != b]
        yield _finding("error", "labels that mean another class in test", moved)
    unsorted = [f"{a} before {b}" for a, b in pairwise(train) if a > b]
    yield _finding("warning", "classes out of alphabetical order", unsorted)


def _sizes(dataset: Dataset, splits: Mapping[str, Split]) -> Iterator[Finding]:
    for name, due in (("train", dataset.train), ("test", dataset.test)):
        there = len(splits[name])
        if there != due:
            kind = "missing" if there < due else "too many"
            yield Finding("error", f"{name} images {kind}: {there:,}, {due:,} expected", (), abs(due - there))


def _undecodable(splits: Mapping[str, Split]) -> Iterator[Finding]:
    for name, split in splits.items():
        with ThreadPoolExecutor(THREADS) as pool:
            faults = pool.map(lambda index, split=split: _fault(split, index), range(len(split)))
        yield _finding("error", f"{name} images that do not decode", [fault for fault in faults if fault])


def _fault(split: Split, index: int) -> str:
    try:
        split.images.load(index)
    except OSError as error:
        return reason_of(error)
    return ""


def _same_bytes(train: Split, test: Split) -> Iterator[Finding]:
    leaked = [f"{test.ids[a]} = {train.ids[b]}" for a, b in twins(train, test).items()]
    yield _finding("warning", "test images whose bytes also stand in train", leaked)
    first: dict[str, str] = {}
    doubled = []
    for name, content in zip(train.ids, prints(train), strict=True):
        if first.setdefault(content, name) != name:
            doubled.append(f"{name} = {first[content]}")
    yield _finding("warning", "train images whose bytes stand there before", doubled)


def _same_names(train: Split, test: Split) -> Iterator[Finding]:
    """The lists of SUN397 that came with the method's code name the same photographs in both splits."""
    if isinstance(train.images, Files) and isinstance(test.images, Files):
        shared = sorted(_names(train) & _names(test))
        yield _finding("warning", "names of a class's images that stand in both splits", shared)


def _names(split: Split) -> set[str]:
    pairs = zip(split.ids, split.labels, strict=True)
    return {f"{split.classes[label]}/{PurePosixPath(name).name}" for name, label in pairs}


def _without_images(splits: Mapping[str, Split]) -> Iterator[Finding]:
    for name, split in splits.items():
        counts = Counter(split.labels.tolist())
        absent = [known for label, known in enumerate(split.classes) if not counts[label]]
        yield _finding("warning", f"classes without an image in {name}", absent)


def _unlisted(splits: Mapping[str, Split]) -> Iterator[Finding]:
    """A release may hold more than its lists name, so this is no fault."""
    files = [split.images for split in splits.values() if isinstance(split.images, Files)]
    named = {images.root / name for images in files for name in images.names}
    beside = (path for folder in sorted({path.parent for path in named}) for path in sorted(folder.iterdir()))
    extra = [str(path) for path in beside if tree.is_image(path.name) and path not in named]
    yield _finding("note", "images beside the others that belong to no split", extra)
