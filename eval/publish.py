"""Publishing of trained weights on the Hub: checks, files, upload, tag, and the row in `published.csv`."""

from __future__ import annotations

import json
import math
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import timm
import torch

import dctkd_zoo
from dctkd_zoo import registry, weights
from dctkd_zoo._io import atomic, csv_rows
from dctkd_zoo._io.paths import checkpoints
from dctkd_zoo.errors import HubError, WeightsNotFound, ZooError, reason_of
from dctkd_zoo.onnx.export import with_labels
from dctkd_zoo.spec import Entry
from dctkd_zoo.weights import hub, licence, run_folder
from eval.cards import attention_figure, rendering
from eval.cards import measured as card_tables
from eval.run import exported, results_csv
from eval.run.config import EvalConfig
from eval.run.evaluation import evaluate, silent

COLLECTION = "dctkd_zoo"
SAMPLE = 200  # test images that a network is evaluated on before it is published
KEPT = (run_folder.RECIPE, run_folder.LOG, run_folder.ENVIRONMENT)  # published with the weights
CARD, FIGURE, EXAMPLE = "README.md", "attention.png", "example.png"
PREPROCESSOR = "preprocessor_config.json"  # published with ONNX files


@dataclass(frozen=True)
class Plan:
    """What publishing an entry would do: folder, repository, and the problems that prevent it.

    `folder` is None if the entry was not trained here, so that there is nothing to publish.
    """

    entry: Entry
    repo: str
    folder: Path | None
    problems: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """The size of the weights in bytes, 0 if there are none."""
        return (self.folder / weights.WEIGHTS).stat().st_size if self.folder else 0


def plan(entry: Entry, org: str, config: EvalConfig, stated: str | None = None) -> Plan:
    """Check an entry without uploading anything; problems are listed in the plan, not raised.

    `stated` is a licence for the weights that overrides the entry's own.
    """
    entry = replace(entry, license=stated or entry.license)
    row = weights.published().get(entry.run_name)
    repo = row["repo"] if row and row["repo"].startswith(f"{org}/") else f"{org}/{entry.run_name}"
    folder = trained(entry, config.trained)
    if folder is None:
        return Plan(entry, repo, None)
    return Plan(entry, repo, folder, tuple(problems(entry, folder, config)))


def trained(entry: Entry, out: Path | None) -> Path | None:
    """Return the run folder of an entry: in `out` if given, else in the checkpoints of this machine, else bundled."""
    roots = (out or checkpoints(), checkpoints(), weights.BUNDLED)
    return next((root / entry.run_name for root in roots if weights.is_complete(root / entry.run_name)), None)


def problems(entry: Entry, folder: Path, config: EvalConfig) -> Iterator[str]:
    """Yield a message for each check that a folder fails."""
    for check in CHECKS:
        try:
            check(entry, folder, config)
        except ZooError as error:
            yield str(error)


def _is_as_trained(entry: Entry, folder: Path, config: EvalConfig) -> None:
    weights.from_folder(folder, "trained here")
    missing = [name for name in KEPT if not (folder / name).is_file()]
    if missing:
        raise WeightsNotFound(f"{folder}: no {', '.join(missing)}, which training writes")
    differing = weights.recipe_mismatch(folder, entry.to_dict())
    if differing:
        raise ZooError(f"{folder} was trained with another {', '.join(differing)} than the catalog's: train it again")


def _loads_with_timm(entry: Entry, folder: Path, config: EvalConfig) -> None:
    dataset = registry.get_dataset(entry.dataset)
    try:
        model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
        with torch.inference_mode():
            logits = model(torch.zeros(1, 3, entry.recipe.crop, entry.recipe.crop))
    except Exception as error:  # a damaged or foreign folder can make timm raise anything
        raise ZooError(f"{folder}: timm cannot load it: {reason_of(error)}") from error
    expected = (1, dataset.num_classes)
    if logits.shape != expected:
        raise ZooError(f"{folder}: the outputs have shape {tuple(logits.shape)}, expected {expected}: train it again")
    if not logits.isfinite().all():
        raise ZooError(f"{folder}: the outputs are not finite: train it again")
    classes = weights.read_config(folder).get("label_names") or []
    if len(set(classes)) != dataset.num_classes:
        raise ZooError(
            f"{folder}: label_names of {weights.CONFIG} has {len(set(classes))} different classes, {dataset.name} has "
            f"{dataset.num_classes}: train it again"
        )


def _measures_as_recorded(entry: Entry, folder: Path, config: EvalConfig) -> None:
    """Refuse weights whose top-1 on a sample is more than four standard errors from the recorded top-1."""
    expected = float(measured(entry, folder)["top1"]) / 100
    sample = EvalConfig(config.data, config.device, config.trained, limit=SAMPLE)
    result = evaluate(entry, sample, silent, found=weights.from_folder(folder, "trained here"))
    top1, n = result.figures["top1"] / 100, len(result.table)
    tolerance = 4 * math.sqrt(max(expected * (1 - expected), 1 / n) / n)
    if abs(top1 - expected) > tolerance:
        raise ZooError(
            f"{entry.run_name}: {top1:.1%} top-1 on {n} images, but {expected:.1%} was recorded: evaluate it again"
        )


def measured(entry: Entry, folder: Path) -> results_csv.Row:
    """Return the row that training wrote next to the weights, else the row of these weights in `eval/results.csv`."""
    path = folder / run_folder.RESULTS
    if path.is_file():
        row: results_csv.Row = json.loads(path.read_text(encoding="utf-8"))
        return row
    sha256 = weights.read_hashes(folder)[weights.WEIGHTS]
    recorded = next((row for row in results_csv.read(results_csv.RESULTS) if row["weights_sha256"] == sha256), None)
    if recorded is None:
        raise ZooError(f"{folder} has no row in eval/results.csv: run `python -m eval {entry.name} --write`")
    return {name: value for name, value in recorded.items() if value}


def _may_be_published(entry: Entry, folder: Path, config: EvalConfig) -> None:
    terms(entry, folder)


def terms(entry: Entry, folder: Path) -> str:
    """Return the licence of the weights in a folder, whatever its config says; `ZooError` if none can be given."""
    return licence.of_weights(entry, run_folder.read_facts(folder / run_folder.ENVIRONMENT).get("start_license"))


def _has_a_card(entry: Entry, folder: Path, config: EvalConfig) -> None:
    card(entry, folder, "org/name")


def _has_good_onnx_files(entry: Entry, folder: Path, config: EvalConfig) -> None:
    exported.check(folder)


Checked = Callable[[Entry, Path, EvalConfig], None]
CHECKS: tuple[Checked, ...] = (
    _is_as_trained,
    _loads_with_timm,
    _may_be_published,
    _has_a_card,
    _has_good_onnx_files,
    _measures_as_recorded,
)


def card(entry: Entry, folder: Path, repo: str) -> str:
    """Return the model card for the repository, with the results of these weights."""
    rows = results_csv.read(results_csv.RESULTS)
    return rendering.render(rendering.gather(entry, rows, folder=folder, repo=repo, figure=FIGURE, example=EXAMPLE))


@contextmanager
def assembled(ready: Plan, config: EvalConfig) -> Iterator[Path]:
    """Make a temporary folder with everything that goes into the repository; the same files give the same bytes."""
    folder = ready.folder
    assert folder is not None
    with tempfile.TemporaryDirectory(prefix="publish.") as name:
        upload = Path(name)
        for file in (weights.CONFIG, weights.WEIGHTS, weights.HASHES, *KEPT):
            shutil.copyfile(folder / file, upload / file)
        onnx_files = exported.check(folder)
        for path in [*onnx_files, *([folder / PREPROCESSOR] if onnx_files else [])]:
            copy = upload / path.relative_to(folder)
            copy.parent.mkdir(exist_ok=True)
            shutil.copyfile(path, copy)
        for file in (run_folder.RECIPE, run_folder.ENVIRONMENT):
            _rewrite(upload / file, weights.portable)
        _rewrite(upload / weights.CONFIG, lambda config: _with_licence(config, terms(ready.entry, folder)))
        if onnx_files:
            _rewrite(upload / weights.CONFIG, lambda config: with_labels(config, config["label_names"]))
        weights.write_hashes(upload)
        row = dict(measured(ready.entry, folder))
        row |= {"note": card_tables.note(row)} if row.get("note") else {}
        atomic.write_text(upload / run_folder.RESULTS, results_csv.as_json(weights.portable(row)))
        attention_figure.write(ready.entry, config, upload / FIGURE, upload / EXAMPLE)
        atomic.write_text(upload / CARD, card(ready.entry, folder, ready.repo))
        yield upload


def _with_licence(config: dict[str, Any], terms: str) -> dict[str, Any]:
    portable = weights.portable(config)
    return {**portable, "pretrained_cfg": {**portable["pretrained_cfg"], "license": terms}}


def _rewrite(path: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Apply `change` to the object in a JSON file; the file is left as it is if nothing changes."""
    old = json.loads(path.read_text(encoding="utf-8"))
    new = change(old)
    if new != old:
        atomic.write_text(path, json.dumps(new, indent=2) + "\n")


def publish(ready: Plan, config: EvalConfig, noted: Path | None = None, *, private: bool = False) -> dict[str, str]:
    """Upload an entry, tag it, add it to the collection and write its row of `published.csv`; return the row.

    The row has the commit and the hashes. It is written to the file `noted` if given, else to the package's.
    Steps that are done already are skipped, so repeating the call resumes one that was interrupted.
    """
    if ready.folder is None or ready.problems:
        reasons = "; ".join(ready.problems) or "it was not trained here"
        raise HubError(f"{ready.entry.run_name} cannot be published: {reasons}")
    with assembled(ready, config) as folder:
        hub.check_card(folder / CARD, ready.repo)
        commit = hub.push(folder, ready.repo, f"{ready.entry.run_name}, dctkd_zoo {version()}", private=private)
        hub.tag(ready.repo, commit, version())
        hub.collect(ready.repo, COLLECTION, private=private)
        hashes = weights.read_hashes(folder)
    row = {
        "name": ready.entry.run_name,
        "repo": ready.repo,
        "revision": commit,
        "sha256": hashes[weights.WEIGHTS],
        "config_sha256": hashes[weights.CONFIG],
    }
    note(row, noted or weights.PUBLISHED)
    return row


def version() -> str:
    """Return the version that a repository is tagged with, which is this package's."""
    return dctkd_zoo.__version__


def note(row: dict[str, str], path: Path) -> None:
    """Write a row into `published.csv` or another such file; it replaces the entry's earlier row."""
    rows = {**(weights.read_published(path) if path.exists() else {}), row["name"]: row}
    atomic.write_text(path, csv_rows.as_csv(list(row), [rows[name] for name in sorted(rows, key=registry.natural_key)]))
    weights.published.cache_clear()
