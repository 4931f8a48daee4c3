"""Rows of `eval/results.csv` and JSON records of evaluated entries: metrics, weights, data, device and versions."""

from __future__ import annotations

from dataclasses import asdict
from importlib.metadata import version
from operator import itemgetter
from pathlib import Path
from typing import Any, TypeVar

import torch

import dctkd_zoo
from dctkd_zoo import registry
from dctkd_zoo._io.typecheck import fits
from dctkd_zoo.device import describe
from dctkd_zoo.errors import CorruptFile
from dctkd_zoo.spec import Entry
from dctkd_zoo.weights import Weights, run_folder
from eval.run import protocol
from eval.run.attempt import Outcome
from eval.run.evaluation import Result

Record = dict[str, Any]
T = TypeVar("T")

ENDS = ("low", "high")
COSTS = ("macs", "latency_ms", "latency_p95_ms", "images_per_s", "peak_mib")


def record(outcome: Outcome) -> Record:
    """Return the JSON record of an outcome: name, dataset, status, reason, row, undecodable images and subsets.

    `other_recipe` says how its networks were trained otherwise than the catalog says. `sanity` has a row for each step
    of the sanity check, `faithfulness` one for each difference of insertion and deletion.
    """
    result = outcome.result
    return {
        "name": outcome.entry.name,
        "dataset": outcome.entry.dataset,
        "status": outcome.status,
        "reason": outcome.reason,
        "row": row(result) if result else None,
        "undecodable": list(result.failed) if result else [],
        "other_recipe": other_recipe(result) if result else "",
        "subsets": subsets(result) if result else {},
        "sanity": [{"untrained": step.part, **step.figures} for step in result.sanity] if result else [],
        "faithfulness": [asdict(difference) for difference in result.faithfulness] if result else [],
    }


def subsets(result: Result) -> dict[str, dict[str, Any]]:
    """Return the metrics and number of the images that the teacher gets right, and of those that both get right."""
    table = result.table
    if "teacher_prediction" not in table or not protocol.PROTOCOLS[result.config.protocol].complete:
        return {}
    teacher = table["teacher_prediction"] == table["label"]
    parts = {"teacher right": table[teacher], "both right": table[teacher & (table["prediction"] == table["label"])]}
    return {
        name: {"n": len(part), **protocol.figures(part, "exact", len(result.classes))}
        for name, part in parts.items()
        if len(part)
    }


def row(result: Result) -> dict[str, Any]:
    """Return the row of a result: metrics to six digits, what they were measured on, how and when; None if unknown."""
    entry, config, teacher = result.entry, result.config, result.teacher_weights
    return {
        "name": result.label or entry.name,
        "dataset": entry.dataset,
        "protocol": config.protocol,
        "seed": training_seed(result.weights.folder),
        "n": len(result.table),
        "failed": len(result.failed),
        **{name: _short(value) for name, value in result.figures.items()},
        **ends(result),
        "teacher_cache": views(result.weights.folder),
        "trained_on": trained_on(result.weights.folder),
        **best_epoch(result.weights.folder),
        **costs(result),
        "parameters": result.parameters,
        "weights_sha256": result.weights.sha256,
        "weights_origin": result.weights.origin,
        "teacher": result.teacher,
        "teacher_sha256": teacher.sha256 if teacher else None,
        "dataset_digest": result.digest,
        "device": describe(config.device),
        "precision": "float32",
        "torch": str(torch.__version__),
        "timm": version("timm"),
        "dctkd_zoo": dctkd_zoo.__version__,
        "selected": run_folder.SELECTED[run_folder.selection(result.weights.folder)],
        "limit": config.limit,
        "date": result.date,
        "note": "; ".join(filter(None, (other_recipe(result), result.note or _other_teacher(result)))) or None,
    }


def ends(result: Result) -> dict[str, float]:
    """Return the ends of the 95 % intervals, `top1.low` and `top1.high`, of all metrics but those of single levels."""
    chosen = {name: ends for name, ends in result.intervals.items() if not name.rpartition(".")[2].isdecimal()}
    return {
        f"{name}.{side}": _short(end) for name, ends in chosen.items() for side, end in zip(ENDS, ends, strict=True)
    }


def costs(result: Result) -> dict[str, float | None]:
    """Return the columns of the cost of inference on `device`, none if it was not measured."""
    if result.cost is None:
        return {}
    return {name: getattr(result.cost, name) for name in COSTS}


def _short(value: float) -> float:
    return float(f"{value:.6g}")


def other_recipe(result: Result) -> str:
    """Return how the entry or its teacher was trained with another recipe than the catalog's; else an empty string."""
    own = _differences(result.weights, result.entry)
    known = result.teacher if result.teacher in registry.entries() else None
    teacher = _differences(result.teacher_weights, registry.get_entry(known)) if known else ""
    return "; ".join(filter(None, (own, teacher and f"teacher {known} {teacher}")))


def _differences(found: Weights | None, entry: Entry) -> str:
    differences = run_folder.recipe_differences(found.folder, entry) if found else []
    return f"trained with another recipe: {', '.join(differences)}" if differences else ""


def _other_teacher(result: Result) -> str:
    """Return a note if a student is compared with its own teacher, but with other weights than it was trained with."""
    if result.teacher != result.entry.teacher:
        return ""
    environment = run_folder.read_facts(result.weights.folder / run_folder.ENVIRONMENT)
    weights, config = environment.get("teacher_sha256"), environment.get("teacher_config_sha256")
    teacher = result.teacher_weights
    if teacher and weights and weights != teacher.sha256:
        return f"trained with other weights of {result.teacher} ({weights!s:.12}) than those it is compared with"
    if teacher and config and config != teacher.config_sha256:
        return f"trained with another config.json of {result.teacher} ({config!s:.12}) than the one it is compared with"
    return ""


def training_seed(folder: Path) -> int | None:
    """Return the seed a network was trained with, from the `recipe.json` next to it; None if that is missing."""
    path = folder / run_folder.RECIPE
    recipe = run_folder.read_facts(path).get("recipe")
    seed = recipe.get("seed") if isinstance(recipe, dict) else None
    if path.is_file() and not fits(seed, int):
        raise CorruptFile(f"{path}: seed is {seed!r:.60}, not a whole number: {run_folder.WAY_ON}")
    return seed


def views(folder: Path) -> int | None:
    """Return the number of cached views a network was trained on; None if it saw new views every epoch."""
    return _environment(folder, "teacher_cache", int, "a whole number")


def trained_on(folder: Path) -> str | None:
    """Return the device and precision a network was trained with, None if these are not known."""
    facts = (_environment(folder, name, str, "text") for name in ("device", "precision"))
    return ", ".join(fact.removeprefix("torch.") for fact in facts if fact) or None


def _environment(folder: Path, name: str, kind: type[T], kind_name: str) -> T | None:
    """Return a value of a run folder's `environment.json`; `CorruptFile` if it is of another type."""
    path = folder / run_folder.ENVIRONMENT
    value: T | None = run_folder.read_facts(path).get(name)
    if not fits(value, kind | None):
        raise CorruptFile(f"{path}: {name} is {value!r:.60}, not {kind_name}: {run_folder.WAY_ON}")
    return value


def best_epoch(folder: Path) -> dict[str, float | None]:
    """Return the best top-1 of the training log in percent and its epoch, if the recipe chose one; else None for both.

    It was chosen on val, or by recipes as released on the test set, where it is not a result.
    """
    judged = run_folder.judged(run_folder.read_log(folder))
    if not judged or run_folder.selection(folder) == "last":
        return {"best_top1": None, "best_epoch": None}
    epoch, top1 = max(judged, key=itemgetter(1))
    return {"best_top1": top1, "best_epoch": epoch}
