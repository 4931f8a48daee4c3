"""Facts of a model card: those of the catalog, the measured rows, and the files that training wrote."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from dctkd_zoo import registry, weights
from dctkd_zoo.errors import CorruptFile, ZooError
from dctkd_zoo.onnx import EVALUATION, FOLDER
from dctkd_zoo.spec import EXTERNAL, Arch, Dataset, Entry
from dctkd_zoo.weights import licence, run_folder
from eval.run import results_csv
from eval.run.results_csv import Row
from eval.stats import seeds

REPO = re.compile(r"(?P<id>\w[\w.-]*/\w[\w.-]*)(?:@(?P<revision>[\w./-]+))?", re.ASCII)


@dataclass(frozen=True)
class Run:
    """What is next to the weights; `log`, `environment` and `onnx` are empty if their file is missing.

    `onnx` has the measurements of the ONNX files by name (`eval.run.exported.Measured`).
    """

    sha256: str
    classes: tuple[str, ...]
    log: tuple[Row, ...]
    environment: Mapping[str, Any]
    command: str
    selection: str
    onnx: Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Card:
    """All facts of an entry that its model card shows.

    - `rows`: the entry's rows of every seed and protocol; `related`: those of the networks it is compared with.
    - `run`: None if there are no weights here.
    - `base`: the entry that this one is a variant of.
    - `untrained`: the networks that it depends on and whose weights are not available, the most distant first.
    - `others`: the networks that it depends on and that were trained on another dataset, with that dataset.
    - `published`: the sha256 of the weights in `repo`.
    - `other_views`: numbers of cached views of its other training runs, which `rows` leave out; empty for new views.
    - `licence`: that of its weights, None if none is stated and none follows.
    """

    entry: Entry
    dataset: Dataset
    arch: Arch
    terms: Mapping[str, str]
    base: Entry | None
    students: tuple[str, ...]
    untrained: tuple[str, ...]
    others: Mapping[str, Dataset]
    rows: tuple[Row, ...]
    related: Mapping[str, tuple[Row, ...]]
    run: Run | None
    bundled: bool
    repo: str | None
    published: str | None
    figure: str | None
    example: str | None
    other_views: tuple[str, ...]
    licence: str | None

    @property
    def status(self) -> str:
        """Where the weights are: `published`, `bundled`, `trained` on this machine, or nowhere (`recipe`)."""
        if self.repo:
            return "published"
        if self.bundled:
            return "bundled"
        return "trained" if self.run else "recipe"

    @property
    def compared_with(self) -> str | None:
        """The teacher; for a baseline, the network that its maps are compared with."""
        return self.entry.teacher or next((row["teacher"] for row in self.rows if row.get("teacher")), None)

    @property
    def needs_import(self) -> bool:
        """Whether timm knows the architecture only after `import dctkd_zoo.models`."""
        return self.arch.timm_name.endswith("_cifar")

    @property
    def parameters(self) -> int | None:
        """Number of parameters, None if the network was not measured."""
        return next((int(row["parameters"]) for row in self.rows if row.get("parameters")), None)

    @property
    def views(self) -> str:
        """The number of cached views that the measured networks were trained on; empty for new views every epoch."""
        return next((row.get("teacher_cache") or "" for row in self.rows), "")

    @property
    def sha256(self) -> str | None:
        """The sha256 of the weights, None if there are none."""
        return self.run.sha256 if self.run else self.published

    @property
    def base_model(self) -> str | None:
        """The name on the Hub of the weights that training starts from, None if they are not there."""
        source = self.entry.recipe.pretrained
        if source is None:
            return None
        if self.entry.start:
            return weights.published().get(self.entry.start, {}).get("repo")
        if source.startswith(EXTERNAL):
            return _hub_name(source)
        return f"timm/{self.arch.timm_name}.{source}"

    @property
    def teacher_model(self) -> str | None:
        """The name of the teacher on the Hub, None if it is not there."""
        teacher = self.entry.teacher or ""
        if teacher.startswith(EXTERNAL):
            return _hub_name(teacher)
        return weights.published().get(teacher, {}).get("repo")

    def of_these_weights(self, row: Row) -> bool:
        """Return whether a row was measured with the weights of this card."""
        return self.sha256 is not None and row.get("weights_sha256") == self.sha256

    def measured(self, protocol: str) -> list[Row]:
        """Return the entry's rows under one protocol, by seed."""
        return [row for row in self.rows if row["protocol"] == protocol]

    def here(self) -> Row | None:
        """Return the row of these weights under the exact protocol, None if there is none."""
        return next((row for row in self.measured("exact") if self.of_these_weights(row)), None)


def _hub_name(source: str) -> str | None:
    """Return `org/name` of `hf-hub:org/name@revision`, None of a folder."""
    repo = source.removeprefix("hf-hub:")
    return None if repo == source else repo.partition("@")[0]


def gather(
    entry: Entry,
    rows: Iterable[Row],
    folder: Path | None = None,
    repo: str | None = None,
    figure: str | None = None,
    example: str | None = None,
) -> Card:
    """Return the facts of an entry.

    `rows` are those of `eval/results.csv`. `folder` is what training wrote (a bundled entry is found without it).
    `repo` is `org/name` or `org/name@revision` on the Hub; `ValueError` for any other form. `figure` is the path of
    the attention figure, `example` that of an image to try the network on, both relative to the card.
    """
    if repo is not None and REPO.fullmatch(repo) is None:
        raise ValueError(f"{repo!r} is not of the form org/name or org/name@revision")
    bundled = weights.is_complete(weights.BUNDLED / entry.run_name)
    folder = folder or (weights.BUNDLED / entry.run_name if bundled else None)
    complete = [row for row in rows if not row.get("limit")]
    run = read_run(folder) if folder else None
    groups = seeds.by_views(_rows_of(entry, complete, folder))
    views = _views(groups, run)
    entries = registry.entries()
    card = Card(
        entry,
        registry.get_dataset(entry.dataset),
        registry.archs()[entry.arch],
        {term: describe(term) for term in entry.weights},
        entries.get(entry.name.partition(".")[0]) if entry.variant else None,
        tuple(registry.distilled(entry.name)),
        tuple(_untrained(entry)),
        _others(entry),
        tuple(groups.get(views, ())),
        {},
        run,
        bundled and folder == weights.BUNDLED / entry.run_name,
        repo,
        weights.published().get(entry.run_name, {}).get("sha256") if repo else None,
        figure,
        example,
        tuple(item for item in groups if item != views),
        _licence(entry, run),
    )
    names = [name for name in (card.compared_with, registry.baseline(entry)) if name and name != entry.name]
    related = {name: tuple(seeds.most_trained(row for row in complete if row["name"] == name)) for name in names}
    return replace(card, related={name: group for name, group in related.items() if group})


def _licence(entry: Entry, run: Run | None) -> str | None:
    try:
        return licence.of_weights(entry, run.environment.get("start_license") if run else None)
    except ZooError:
        return None


def _rows_of(entry: Entry, rows: Iterable[Row], folder: Path | None) -> list[Row]:
    """Return an entry's rows sorted by protocol and seed, including the one that training wrote into `folder`."""
    measured = {_measurement(row): row for row in rows if row["name"] == entry.name}
    row = results_csv.as_text(run_folder.read_facts(folder / run_folder.RESULTS)) if folder else {}
    if row:
        fault = results_csv.fault(row) or next(
            (f"no {name}" for name in ("seed", "weights_sha256") if name not in row), ""
        )
        if fault:
            raise CorruptFile(f"{folder}: results.json: {fault}: {run_folder.WAY_ON}")
        measured.setdefault(_measurement(row), row)
    return sorted(measured.values(), key=lambda row: [registry.natural_key(row[name]) for name in ("protocol", "seed")])


def _views(groups: Mapping[str, Sequence[Row]], run: Run | None) -> str:
    """Return the number of cached views whose rows the card shows: the run's, else the one with the most rows.

    Trainings with different numbers of views are different recipes, so their rows are not seeds of each other.
    """
    of_the_run = (n for n, rows in groups.items() if run and any(row["weights_sha256"] == run.sha256 for row in rows))
    return next(of_the_run, max(groups, key=lambda views: len(groups[views]), default=""))


def _measurement(row: Row) -> tuple[str, ...]:
    return row["protocol"], row["weights_sha256"]


def _untrained(entry: Entry) -> list[str]:
    result: list[str] = []
    name = entry.depends_on
    while name and not name.startswith(EXTERNAL) and not weights.is_complete(weights.BUNDLED / name):
        result += [] if name in weights.published() else [name]
        name = None if name in weights.published() else registry.get_entry(name).depends_on
    return result[::-1]


def _others(entry: Entry) -> dict[str, Dataset]:
    """Return the datasets of the networks that an entry depends on, by network, where they are not the entry's own."""
    entries = registry.entries()
    ancestors = [entries[name] for name in registry.ancestors(entry.name, entries)[1:] if name in entries]
    return {e.name: registry.get_dataset(e.dataset) for e in ancestors if e.dataset != entry.dataset}


def read_run(folder: Path) -> Run:
    """Read what training wrote into a folder for which `weights.is_complete` is true."""
    classes = weights.read_config(folder).get("label_names") or ()
    command = str(run_folder.read_facts(folder / run_folder.RECIPE).get("command", ""))
    environment = run_folder.read_facts(folder / run_folder.ENVIRONMENT)
    return Run(
        weights.read_hashes(folder)[weights.WEIGHTS],
        tuple(classes),
        tuple(run_folder.read_log(folder)),
        environment,
        command,
        run_folder.selection(folder),
        run_folder.read_facts(folder / FOLDER / EVALUATION).get("files", {}),
    )


@cache
def describe(term: str) -> str:
    """Return the first line of a loss term's docstring; the file is parsed, not imported."""
    text = (weights.PACKAGE / "losses" / f"{term}.py").read_text(encoding="utf-8")
    return (ast.get_docstring(ast.parse(text)) or term).partition("\n")[0].rstrip(".")
