"""An entry to the facts that its model card tells: the catalog's, the measured, and what training left behind."""

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
from dctkd_zoo.spec import EXTERNAL, Arch, Dataset, Entry
from dctkd_zoo.weights import licence, run_folder
from eval.run import results_csv
from eval.run.results_csv import Row
from eval.stats import seeds

REPO = re.compile(r"(?P<id>\w[\w.-]*/\w[\w.-]*)(?:@(?P<revision>[\w./-]+))?", re.ASCII)


@dataclass(frozen=True)
class Run:
    """What training wrote beside the weights; `log` and `environment` are empty where it is not there."""

    sha256: str
    classes: tuple[str, ...]
    log: tuple[Row, ...]
    environment: Mapping[str, Any]
    command: str


@dataclass(frozen=True)
class Card:
    """All that a model card tells of an entry.

    `rows` are the entry's measured ones of every seed and protocol, `beside` those of the networks it is compared
    with, `run` is there where its weights are, `base` is the entry that it is a variant of, `untrained` are the
    networks that it rests on, farthest first, whose weights nobody can have yet, `others` are the datasets that these
    were trained on where they are not its own, `published` is the sha256 of the weights in `repo`, `other_views` are
    the numbers of fixed views, empty for new ones, that it was trained on too and that `rows` are not of, `licence` is
    that of its weights, None where none is stated and none follows.
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
    beside: Mapping[str, tuple[Row, ...]]
    run: Run | None
    bundled: bool
    repo: str | None
    published: str | None
    figure: str | None
    other_views: tuple[str, ...]
    licence: str | None

    @property
    def status(self) -> str:
        """Where the weights are: `published`, `bundled`, `trained` by whoever writes the card, or a `recipe` only."""
        if self.repo:
            return "published"
        if self.bundled:
            return "bundled"
        return "trained" if self.run else "recipe"

    @property
    def compared_with(self) -> str | None:
        """The teacher, or for a baseline the one that its maps were compared with."""
        return self.entry.teacher or next((row["teacher"] for row in self.rows if row.get("teacher")), None)

    @property
    def needs_import(self) -> bool:
        """Whether timm has the architecture only after `import dctkd_zoo.models`."""
        return self.arch.timm_name.endswith("_cifar")

    @property
    def parameters(self) -> int | None:
        """Number of trained values, where the network was measured."""
        return next((int(row["parameters"]) for row in self.rows if row.get("parameters")), None)

    @property
    def views(self) -> str:
        """The number of fixed views of an image that the measured networks were trained on; empty for new ones."""
        return next((row.get("teacher_cache") or "" for row in self.rows), "")

    @property
    def sha256(self) -> str | None:
        """That of the weights, where there are any."""
        return self.run.sha256 if self.run else self.published

    @property
    def base_model(self) -> str | None:
        """The Hub's name of the weights that training starts from. Never the teacher: no student holds its weights."""
        source = self.entry.recipe.pretrained
        if source is None or source.startswith("local-dir:"):
            return None
        if self.entry.start:
            return weights.published().get(self.entry.start, {}).get("repo")
        if source.startswith(EXTERNAL):
            return source.removeprefix("hf-hub:").partition("@")[0]
        return f"timm/{self.arch.timm_name}.{source}"

    def of_these_weights(self, row: Row) -> bool:
        """Whether a row was measured on the very weights that the card goes with."""
        return self.sha256 is not None and row.get("weights_sha256") == self.sha256

    def measured(self, protocol: str) -> list[Row]:
        """The entry's rows under one protocol, by seed."""
        return [row for row in self.rows if row["protocol"] == protocol]

    def here(self) -> Row | None:
        """The row of these weights under the exact protocol."""
        return next((row for row in self.measured("exact") if self.of_these_weights(row)), None)


def gather(
    entry: Entry,
    rows: Iterable[Row],
    folder: Path | None = None,
    repo: str | None = None,
    figure: str | None = None,
) -> Card:
    """The facts of an entry.

    `rows` are those of `eval/results.csv`, `folder` is what training wrote (for a bundled entry found by itself),
    `repo` the Hub's `org/name` or `org/name@revision`, `figure` the path of the picture of its attention beside the
    card. `ValueError` for a `repo` of another form.
    """
    if repo is not None and REPO.fullmatch(repo) is None:
        raise ValueError(f"{repo!r} is not of the form org/name or org/name@revision")
    bundled = weights.is_complete(weights.BUNDLED / entry.run_name)
    folder = folder or (weights.BUNDLED / entry.run_name if bundled else None)
    kept = [row for row in rows if not row.get("limit")]
    run = read_run(folder) if folder else None
    groups = seeds.by_views(_own(entry, kept, folder))
    views = _views(groups, run)
    known = registry.entries()
    card = Card(
        entry,
        registry.get_dataset(entry.dataset),
        registry.archs()[entry.arch],
        {term: describe(term) for term in entry.weights},
        known.get(entry.name.partition(".")[0]) if entry.variant else None,
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
        tuple(item for item in groups if item != views),
        _licence(entry, run),
    )
    names = [name for name in (card.compared_with, registry.baseline(entry)) if name and name != entry.name]
    others = {name: tuple(seeds.most_trained(row for row in kept if row["name"] == name)) for name in names}
    return replace(card, beside={name: result for name, result in others.items() if result})


def _licence(entry: Entry, run: Run | None) -> str | None:
    try:
        return licence.of_weights(entry, run.environment.get("start_license") if run else None)
    except ZooError:
        return None


def _own(entry: Entry, rows: Iterable[Row], folder: Path | None) -> list[Row]:
    """An entry's rows in order of protocol and seed, with that which training left in `folder` if it is new."""
    own = {_measurement(row): row for row in rows if row["name"] == entry.name}
    row = results_csv.as_text(run_folder.read_facts(folder / "results.json")) if folder else {}
    if row:
        fault = results_csv.fault(row) or next(
            (f"no {name}" for name in ("seed", "weights_sha256") if name not in row), ""
        )
        if fault:
            raise CorruptFile(f"{folder}: results.json: {fault}: {run_folder.WAY_ON}")
        own.setdefault(_measurement(row), row)
    return sorted(own.values(), key=lambda row: [registry.natural_key(row[name]) for name in ("protocol", "seed")])


def _views(groups: Mapping[str, Sequence[Row]], run: Run | None) -> str:
    """Of rows by number of fixed views, which are no seeds of one recipe, the number of the run's; else of the most."""
    alike = (n for n, rows in groups.items() if run and any(row["weights_sha256"] == run.sha256 for row in rows))
    return next(alike, max(groups, key=lambda views: len(groups[views]), default=""))


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
    """Networks that an entry rests on, by name, whose dataset is another, and that dataset."""
    known = registry.entries()
    behind = [known[name] for name in registry.ancestors(entry.name, known)[1:] if name in known]
    return {e.name: registry.get_dataset(e.dataset) for e in behind if e.dataset != entry.dataset}


def read_run(folder: Path) -> Run:
    """What training wrote into a folder; `weights.is_whole` says that the network is there."""
    classes = weights.read_config(folder).get("label_names") or ()
    command = str(run_folder.read_facts(folder / "recipe.json").get("command", ""))
    environment = run_folder.read_facts(folder / "environment.json")
    return Run(
        weights.read_hashes(folder)[weights.WEIGHTS],
        tuple(classes),
        tuple(run_folder.read_log(folder)),
        environment,
        command,
    )


@cache
def describe(term: str) -> str:
    """What a loss term is: the first sentence of its file, which is read and not run."""
    text = (weights.PACKAGE / "losses" / f"{term}.py").read_text(encoding="utf-8")
    return (ast.get_docstring(ast.parse(text)) or term).partition("\n")[0].rstrip(".")
