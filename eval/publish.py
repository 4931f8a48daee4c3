"""A trained folder to the Hub: looked over, put together, uploaded, tagged, and noted in the catalog."""

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
from dctkd_zoo.spec import Entry
from dctkd_zoo.weights import hub, licence, run_folder
from eval.cards import attention_figure, rendering
from eval.cards import measured as card_figures
from eval.run import results_csv
from eval.run.config import EvalConfig
from eval.run.evaluation import evaluate, silent

COLLECTION = "dctkd_zoo"
SAMPLE = 200  # test images that a network is tried on before it is published
ENVIRONMENT = "environment.json"
KEPT = ("recipe.json", "train_log.csv", ENVIRONMENT)  # of what training wrote, beside the network
RESULTS, CARD, FIGURE = "results.json", "README.md", "attention.png"


@dataclass(frozen=True)
class Plan:
    """What publishing an entry would do: from which folder, into which repository, and what stands in its way.

    `folder` is None for a recipe that was not trained here: there is nothing to publish.
    """

    entry: Entry
    repo: str
    folder: Path | None
    problems: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """Bytes of the weights."""
        return (self.folder / weights.WEIGHTS).stat().st_size if self.folder else 0


def plan(entry: Entry, org: str, config: EvalConfig, stated: str | None = None) -> Plan:
    """Look over what there is of an entry; nothing is sent, and nothing wrong is raised.

    The licence `stated` for the weights goes before the entry's own.
    """
    entry = replace(entry, license=stated or entry.license)
    row = weights.published().get(entry.run_name)
    repo = row["repo"] if row and row["repo"].startswith(f"{org}/") else f"{org}/{entry.run_name}"
    folder = trained(entry, config.trained)
    if folder is None:
        return Plan(entry, repo, None)
    return Plan(entry, repo, folder, tuple(problems(entry, folder, config)))


def trained(entry: Entry, out: Path | None) -> Path | None:
    """The folder that training wrote: in `out` if given, on this machine, or bundled."""
    places = (out or checkpoints(), checkpoints(), weights.BUNDLED)
    return next((path / entry.run_name for path in places if weights.is_complete(path / entry.run_name)), None)


def problems(entry: Entry, folder: Path, config: EvalConfig) -> Iterator[str]:
    """What a folder must not be published with, in words."""
    for check in CHECKS:
        try:
            check(entry, folder, config)
        except ZooError as error:
            yield str(error)


def _is_as_trained(entry: Entry, folder: Path, config: EvalConfig) -> None:
    weights.from_folder(folder, "trained here")
    lost = [name for name in KEPT if not (folder / name).is_file()]
    if lost:
        raise WeightsNotFound(f"{folder}: no {', '.join(lost)}, which training writes")
    differing = weights.recipe_mismatch(folder, entry.to_dict())
    if differing:
        raise ZooError(f"{folder} was trained with another {', '.join(differing)} than the catalog's: train it again")


def _loads_with_timm(entry: Entry, folder: Path, config: EvalConfig) -> None:
    dataset = registry.get_dataset(entry.dataset)
    try:
        model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
        with torch.inference_mode():
            logits = model(torch.zeros(1, 3, entry.recipe.crop, entry.recipe.crop))
    except Exception as error:  # whatever a damaged or foreign folder makes timm raise
        raise ZooError(f"{folder}: timm does not load it: {reason_of(error)}") from error
    if logits.shape != (1, dataset.num_classes) or not logits.isfinite().all():
        raise ZooError(f"{folder}: {tuple(logits.shape)} outputs or not finite, {dataset.num_classes} are due")
    meta = weights.read_config(folder).get("label_names") or []
    if len(set(meta)) != dataset.num_classes:
        raise ZooError(f"{folder}: its config names {len(set(meta))} classes of {dataset.num_classes}")


def _measures_as_recorded(entry: Entry, folder: Path, config: EvalConfig) -> None:
    """Compare top-1 on a sample with that recorded over all images: within four standard errors."""
    expected = float(measured(entry, folder)["top1"]) / 100
    sample = EvalConfig(config.data, config.device, config.trained, limit=SAMPLE)
    result = evaluate(entry, sample, silent, found=weights.from_folder(folder, "trained here"))
    found, n = result.figures["top1"] / 100, len(result.table)
    allowed = 4 * math.sqrt(max(expected * (1 - expected), 1 / n) / n)
    if abs(found - expected) > allowed:
        raise ZooError(
            f"{entry.run_name}: {found:.1%} top-1 on {n} images, {expected:.1%} was recorded: evaluate it again"
        )


def measured(entry: Entry, folder: Path) -> results_csv.Row:
    """The row that training wrote beside the network, or the one in `eval/results.csv`, if it is of these weights."""
    path = folder / RESULTS
    if path.is_file():
        row: results_csv.Row = json.loads(path.read_text(encoding="utf-8"))
        return row
    expected = weights.read_hashes(folder)[weights.WEIGHTS]
    result = next((row for row in results_csv.read(results_csv.RESULTS) if row["weights_sha256"] == expected), None)
    if result is None:
        raise ZooError(f"nothing was recorded of {folder}: `python -m eval {entry.name} --write` records it")
    return {name: value for name, value in result.items() if value}


def _may_be_published(entry: Entry, folder: Path, config: EvalConfig) -> None:
    terms(entry, folder)


def terms(entry: Entry, folder: Path) -> str:
    """The licence of the weights in a folder, whatever its config says; `ZooError` where they may have none."""
    return licence.of_weights(entry, run_folder.read_facts(folder / ENVIRONMENT).get("start_license"))


def _has_a_card(entry: Entry, folder: Path, config: EvalConfig) -> None:
    card(entry, folder, "org/name")


Checked = Callable[[Entry, Path, EvalConfig], None]
CHECKS: tuple[Checked, ...] = (
    _is_as_trained,
    _loads_with_timm,
    _may_be_published,
    _has_a_card,
    _measures_as_recorded,
)


def card(entry: Entry, folder: Path, repo: str) -> str:
    """The card as it stands in the repository: with what was measured of these weights."""
    meta = results_csv.read(results_csv.RESULTS)
    return rendering.render(rendering.gather(entry, meta, folder=folder, repo=repo, figure=FIGURE))


@contextmanager
def assembled(ready: Plan, config: EvalConfig) -> Iterator[Path]:
    """A folder with everything that goes into the repository; the same files make the same bytes."""
    folder = ready.folder
    assert folder is not None
    with tempfile.TemporaryDirectory(prefix="publish.") as name:
        others = Path(name)
        for file in (weights.CONFIG, weights.WEIGHTS, weights.HASHES, *KEPT):
            shutil.copyfile(folder / file, others / file)
        for file in ("recipe.json", ENVIRONMENT):
            _rewrite(others / file, weights.portable)
        _rewrite(others / weights.CONFIG, lambda config: _licensed(config, terms(ready.entry, folder)))
        weights.write_hashes(others)
        row = dict(measured(ready.entry, folder))
        row |= {"note": card_figures.note(row)} if row.get("note") else {}
        atomic.write_text(others / RESULTS, results_csv.as_json(weights.portable(row)))
        attention_figure.write(ready.entry, config, others / FIGURE)
        atomic.write_text(others / CARD, card(ready.entry, folder, ready.repo))
        yield others


def _licensed(config: dict[str, Any], terms: str) -> dict[str, Any]:
    meta = weights.portable(config)
    return {**meta, "pretrained_cfg": {**meta["pretrained_cfg"], "license": terms}}


def _rewrite(path: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Change the object in a JSON file; where nothing changes its bytes stay."""
    old = json.loads(path.read_text(encoding="utf-8"))
    new = change(old)
    if new != old:
        atomic.write_text(path, json.dumps(new, indent=2) + "\n")


def publish(ready: Plan, config: EvalConfig, noted: Path | None = None, *, private: bool = False) -> dict[str, str]:
    """Upload an entry, tag it, put it into the collection, and note commit and hashes; its row of `published.csv`.

    It is put into the file `noted`, if given, in place of the package's.
    Each step that was done before is left as it is, so that the same call goes on where one was stopped.
    """
    if ready.folder is None or ready.problems:
        raise HubError(f"{ready.entry.run_name} is not ready: {'; '.join(ready.problems) or 'it was not trained here'}")
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
    """The version that a repository is tagged with: this package's."""
    return dctkd_zoo.__version__


def note(row: dict[str, str], path: Path) -> None:
    """Put a row into `published.csv`, or another such file, in place of the entry's last one."""
    kept = {**(weights.read_published(path) if path.exists() else {}), row["name"]: row}
    atomic.write_text(path, csv_rows.as_csv(list(row), [kept[name] for name in sorted(kept, key=registry.natural_key)]))
    weights.published.cache_clear()
