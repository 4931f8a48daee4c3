"""An outcome to what is kept of it: a result as one row, with all that must be known to trust it."""

from __future__ import annotations

import csv
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import timm
import torch

import dctkd_zoo
from dctkd_zoo.device import describe
from eval.outcome import Outcome
from eval.run import Result

Record = dict[str, Any]


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
    }


def row(result: Result) -> dict[str, Any]:
    """The figures of a result to six digits, what they were measured on, how and when; None for what is unknown."""
    entry, where, teacher = result.entry, result.where, result.teacher_weights
    return {
        "name": entry.name,
        "dataset": entry.dataset,
        "protocol": where.protocol,
        "seed": training_seed(result.weights.folder),
        "n": len(result.table),
        "failed": len(result.failed),
        **{name: float(f"{value:.6g}") for name, value in result.figures.items()},
        **best_epoch(result.weights.folder),
        "parameters": result.parameters,
        "weights_sha256": result.weights.sha256,
        "weights_origin": result.weights.origin,
        "teacher": result.teacher,
        "teacher_sha256": teacher.sha256 if teacher else None,
        "dataset_digest": result.digest,
        "device": describe(where.device),
        "precision": "float32",
        "torch": str(torch.__version__),
        "timm": timm.__version__,
        "dctkd_zoo": dctkd_zoo.__version__,
        "selected": "last epoch",
        "limit": where.limit,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "note": result.note or None,
    }


def training_seed(folder: Path) -> int | None:
    """The seed a network was trained with, where the `recipe.json` of its training lies beside it."""
    path = folder / "recipe.json"
    if not path.is_file():
        return None
    seed: int = json.loads(path.read_text(encoding="utf-8"))["recipe"]["seed"]
    return seed


def best_epoch(folder: Path) -> dict[str, float | None]:
    """The best test accuracy in training, in percent, and its epoch: chosen on the test set, so no result."""
    path = folder / "train_log.csv"
    if not path.is_file():
        return {"best_top1": None, "best_epoch": None}
    with path.open(newline="", encoding="utf-8") as file:
        tested = [row for row in csv.DictReader(file) if row["test_top1"]]
    best = max(tested, key=lambda row: float(row["test_top1"]))
    return {"best_top1": float(best["test_top1"]), "best_epoch": int(best["epoch"])}
