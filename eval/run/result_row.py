"""An outcome to what is kept of it: a result as one row, with all that must be known to trust it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import timm
import torch

import dctkd_zoo
from dctkd_zoo._io.typecheck import fits
from dctkd_zoo.device import describe
from dctkd_zoo.errors import CorruptFile
from dctkd_zoo.weights import run_folder
from eval.run import protocol
from eval.run.attempt import Outcome
from eval.run.evaluation import Result

Record = dict[str, Any]
T = TypeVar("T")

ENDS = ("low", "high")
COSTS = ("macs", "latency_ms", "latency_p95_ms", "images_per_s", "peak_mib")


def record(outcome: Outcome) -> Record:
    """Name, dataset, status and reason of an entry, its row if it has one, and the images that did not decode."""
    result = outcome.result
    return {
        "name": outcome.entry.name,
        "dataset": outcome.entry.dataset,
        "status": outcome.status,
        "reason": outcome.reason,
        "row": row(result) if result else None,
        "undecodable": list(result.failed) if result else [],
        "subsets": subsets(result) if result else {},
    }


def subsets(result: Result) -> dict[str, dict[str, Any]]:
    """Figures of the images that the teacher gets right, and of those that both do, and how many these are."""
    table = result.table
    if "teacher_prediction" not in table or result.config.protocol != "exact":
        return {}
    teacher = table["teacher_prediction"] == table["label"]
    parts = {"teacher right": table[teacher], "both right": table[teacher & (table["prediction"] == table["label"])]}
    return {
        name: {"n": len(part), **protocol.figures(part, "exact", len(result.classes))}
        for name, part in parts.items()
        if len(part)
    }


def row(result: Result) -> dict[str, Any]:
    """The figures of a result to six digits, what they were measured on, how and when; None for what is unknown."""
    entry, config, teacher = result.entry, result.config, result.teacher_weights
    return {
        "name": entry.name,
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
        "timm": timm.__version__,
        "dctkd_zoo": dctkd_zoo.__version__,
        "selected": "last epoch",
        "limit": config.limit,
        "date": result.date,
        "note": result.note or _taught_otherwise(result) or None,
    }


def ends(result: Result) -> dict[str, float]:
    """The ends of the 95 % interval of each figure that is of no single level: `top1.low` and `top1.high`."""
    shown = {name: ends for name, ends in result.intervals.items() if not name.rpartition(".")[2].isdecimal()}
    return {f"{name}.{side}": _short(end) for name, ends in shown.items() for side, end in zip(ENDS, ends, strict=True)}


def costs(result: Result) -> dict[str, float | None]:
    """What the network cost where it was measured, which `device` names."""
    if result.cost is None:
        return {}
    return {name: getattr(result.cost, name) for name in COSTS}


def _short(value: float) -> float:
    return float(f"{value:.6g}")


def _taught_otherwise(result: Result) -> str:
    """That a student was trained by another form of its teacher than it is compared with; nothing if not so."""
    meta, now = run_folder.read_facts(result.weights.folder / "environment.json"), result.teacher_weights
    weights, config = meta.get("teacher_sha256"), meta.get("teacher_config_sha256")
    if now and weights and weights != now.sha256:
        return f"trained by other weights of {result.teacher}, {weights!s:.12}, than those it is compared with"
    if now and config and config != now.config_sha256:
        return f"trained by another config.json of {result.teacher}, {config!s:.12}, than the one it is compared with"
    return ""


def training_seed(folder: Path) -> int | None:
    """The seed a network was trained with, where the `recipe.json` of its training lies beside it."""
    path = folder / "recipe.json"
    recipe = run_folder.read_facts(path).get("recipe")
    seed = recipe.get("seed") if isinstance(recipe, dict) else None
    if path.is_file() and not fits(seed, int):
        raise CorruptFile(f"{path}: seed is {seed!r:.60}, no whole number: {run_folder.WAY_ON}")
    return seed


def views(folder: Path) -> int | None:
    """Of how many views of an image a network was trained, where its teacher was on disk; None for any number."""
    return _told(folder, "teacher_cache", int, "whole number")


def trained_on(folder: Path) -> str | None:
    """The device and precision that a network was trained on and in; None where these are not known."""
    meta = (_told(folder, name, str, "text") for name in ("device", "precision"))
    return ", ".join(words.removeprefix("torch.") for words in meta if words) or None


def _told(folder: Path, name: str, kind: type[T], words: str) -> T | None:
    path = folder / "environment.json"
    value: T | None = run_folder.read_facts(path).get(name)
    if not fits(value, kind | None):
        raise CorruptFile(f"{path}: {name} is {value!r:.60}, no {words}: {run_folder.WAY_ON}")
    return value


def best_epoch(folder: Path) -> dict[str, float | None]:
    """The best test accuracy in training, in percent, and its epoch: chosen on the test set, so no result."""
    tested = [row for row in run_folder.read_log(folder) if row["test_top1"]]
    if not tested:
        return {"best_top1": None, "best_epoch": None}
    best = max(tested, key=lambda row: float(row["test_top1"]))
    return {"best_top1": float(best["test_top1"]), "best_epoch": int(best["epoch"])}
