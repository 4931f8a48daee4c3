"""Validation of a dataset: a report of missing, broken, duplicate and leaked images."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import PurePosixPath
from typing import Literal

from rich.text import Text

from dctkd_zoo.cli.shell import Column, Grid
from dctkd_zoo.data import filelist, load
from dctkd_zoo.data.fingerprint import WAY_ON, recorded
from dctkd_zoo.data.split import Files, Split
from dctkd_zoo.errors import Undecodable, Unreadable, printable, reason_of
from dctkd_zoo.spec import Dataset

Severity = Literal["error", "warning", "note"]
STYLE = {"error": "red", "warning": "yellow", "note": "dim"}
LEAKED = "test images whose bytes also occur in train"
THREADS = 4  # decoding releases the GIL; more threads only crowd a disk


@dataclass(frozen=True)
class Finding:
    """One finding: its severity, what it is, the first five places, and how many there are."""

    severity: Severity
    what: str
    first: tuple[str, ...]
    count: int


@dataclass(frozen=True)
class Report:
    """Findings of a dataset check; `sizes` are its numbers of images by split."""

    dataset: str
    sizes: Mapping[str, int]
    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """Whether there is no error; warnings are properties of a dataset that a user should know."""
        return all(finding.severity != "error" for finding in self.findings)


def check(dataset: Dataset, splits: Mapping[str, Split]) -> Report:
    """Check every image of `splits` ("train" and "test", as from `load.read`) by decoding and hashing it.

    Errors are what training refuses; what it accepts is at most a warning.
    """
    checked = {name: _checked(split) for name, split in splits.items()}
    result = [
        *_classes(dataset, splits),
        *_sizes(dataset, splits),
        *(finding for name, images in checked.items() for finding in _images(name, images)),
        *_same_bytes(checked["train"], checked["test"]),
        *_same_names(splits["train"], splits["test"]),
        *_without_images(splits),
        *_unlisted(splits),
        *_otherwise(dataset, splits),
    ]
    findings = tuple(finding for finding in result if finding.count)
    return Report(dataset.name, {name: len(split) for name, split in splits.items()}, findings)


def render(report: Report) -> Grid:
    """Return the report as a table, a row per finding."""
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
    end = "nothing found" if not report.findings else "complete" if report.ok else "not usable as is"
    return Grid(columns, rows, Text(f"{report.dataset}: {sizes} images", "bold"), Text(end))


def _finding(severity: Severity, what: str, places: Sequence[str]) -> Finding:
    return Finding(severity, what, tuple(places[:5]), len(places))


def _classes(dataset: Dataset, splits: Mapping[str, Split]) -> Iterator[Finding]:
    train, test = splits["train"].classes, splits["test"].classes
    if wrong := load.wrong_classes(splits["train"], dataset.num_classes):
        yield Finding("error", wrong, (), 1)
    yield _finding("error", "classes in only one of train and test", sorted(set(train) ^ set(test)))
    if set(train) == set(test):
        moved = [f"{a} in train, {b} in test" for a, b in zip(train, test, strict=True) if a != b]
        yield _finding("error", "labels that mean another class in test", moved)
    unsorted = [f"{a} before {b}" for a, b in pairwise(train) if a > b]
    yield _finding("warning", "classes out of alphabetical order", unsorted)
    forms = Counter(map(filelist.composed, train))
    ambiguous = [f"{name} ({name!a})" for name in train if forms[filelist.composed(name)] > 1]
    yield _finding("warning", "classes whose names differ only in their Unicode form", ambiguous)


def _sizes(dataset: Dataset, splits: Mapping[str, Split]) -> Iterator[Finding]:
    for name, expected in (("train", dataset.train), ("test", dataset.test)):
        actual = len(splits[name])
        if expected is None:
            continue
        if actual < expected:
            yield Finding("error", f"{name} images missing: {actual:,} of {expected:,}", (), expected - actual)
        elif actual > expected:
            what = f"too many {name} images: {actual:,} instead of {expected:,}"
            yield Finding("warning", what, (), actual - expected)


@dataclass(frozen=True)
class _Checked:
    """An image: the sha256 of its bytes if they could be read, its faults by kind, and notes on it."""

    name: str
    sha256: str | None = None
    faults: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()


def _checked(split: Split) -> list[_Checked]:
    """Check each image of a split, reading it once."""
    known: Sequence[str | None] = recorded(split) or [None] * len(split)
    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(lambda index: _check(split, index, known[index]), range(len(split))))


def _check(split: Split, index: int, known: str | None) -> _Checked:
    name, digest = split.ids[index], None
    faults: list[tuple[str, str]] = []
    notes: tuple[str, ...] = ()
    try:
        data = split.images.payload(index)
        digest = hashlib.sha256(data).hexdigest()
        if known not in (None, digest):
            faults.append((f"whose bytes differ from those hashed before: {WAY_ON}", name))
        notes = split.images.picture(index, data).notes
    except Undecodable as error:
        faults.append(("that do not decode", str(error)))
    except (Unreadable, OSError, MemoryError) as error:
        faults.append(("that cannot be read", reason_of(error)))
    return _Checked(name, digest, tuple(faults), notes)


def _images(name: str, images: Sequence[_Checked]) -> Iterator[Finding]:
    yield from _by_kind("error", name, [fault for image in images for fault in image.faults])
    yield from _by_kind("note", name, [(note, image.name) for image in images for note in image.notes])


def _by_kind(severity: Severity, name: str, pairs: Sequence[tuple[str, str]]) -> Iterator[Finding]:
    places: defaultdict[str, list[str]] = defaultdict(list)
    for what, place in pairs:
        places[what].append(place)
    for what, names in places.items():
        yield _finding(severity, f"{name} images {what}", names)


def _same_bytes(train: Sequence[_Checked], test: Sequence[_Checked]) -> Iterator[Finding]:
    first: dict[str, str] = {}
    duplicates = []
    for image in train:
        if image.sha256 and first.setdefault(image.sha256, image.name) != image.name:
            duplicates.append(f"{image.name} = {first[image.sha256]}")
    leaked = [f"{image.name} = {first[image.sha256]}" for image in test if image.sha256 in first]
    yield _finding("warning", LEAKED, leaked)
    yield _finding("warning", "duplicate train images", duplicates)


def _same_names(train: Split, test: Split) -> Iterator[Finding]:
    """Report names in both splits: the SUN397 lists that came with the method's code share their photographs."""
    if isinstance(train.images, Files) and isinstance(test.images, Files):
        shared = sorted(_names(train) & _names(test))
        yield _finding("warning", "image names of a class that occur in both splits", shared)


def _names(split: Split) -> set[str]:
    pairs = zip(split.ids, split.labels, strict=True)
    return {f"{split.classes[label]}/{PurePosixPath(name).name}" for name, label in pairs}


def _without_images(splits: Mapping[str, Split]) -> Iterator[Finding]:
    for name, split in splits.items():
        yield _finding("warning", f"classes without an image in {name}", load.without_images(split))


def _unlisted(splits: Mapping[str, Split]) -> Iterator[Finding]:
    """Report unlisted images as a note: a release may hold more than its lists name."""
    files = [split.images for split in splits.values() if isinstance(split.images, Files)]
    named = {images.root / name for images in files for name in images.names}
    others = (path for folder in sorted({path.parent for path in named}) for path in sorted(folder.iterdir()))
    extra = [str(path) for path in others if filelist.is_image(path.name) and path not in named]
    yield _finding("note", "images in the same folders that belong to no split", extra)


def _otherwise(dataset: Dataset, splits: Mapping[str, Split]) -> Iterator[Finding]:
    """Report where other readers of the same layout read something else."""
    compare = getattr(load.source_of(dataset), "otherwise", None)
    for name, split in splits.items():
        if compare and isinstance(split.images, Files):
            for what, places in compare(split).items():
                yield _finding("note", f"{name}: {what}", places)
