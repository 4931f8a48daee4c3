"""The facts of a card to the YAML at its head, and a card's text to what is wrong with that."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from dctkd_zoo.errors import reason_of
from dctkd_zoo.weights.licence import OURS
from eval.cards.facts import Card
from eval.run.results_csv import Row

TASK = "image-classification"

# What the Hub knows, as far as a card of this zoo may need it; its client checks none of it offline.
LICENSES = {
    "apache-2.0", "mit", "bsd-2-clause", "bsd-3-clause", "cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0",
    "cc-by-nc-sa-4.0", "openrail", "other", "unknown",
}  # fmt: skip
RELATIONS = {"adapter", "finetune", "merge", "quantized"}  # there is none for distillation
METRICS = {"accuracy"}
TAG = re.compile(r"[a-z0-9][a-z0-9._-]*")
MODEL = re.compile(r"\w[\w.-]*/\w[\w.-]*", re.ASCII)
DATASET = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?", re.ASCII)


def head(card: Card) -> str:
    """The metadata as YAML, in the order of the Hub's client."""
    here = card.here()
    data = ModelCardData(
        base_model=card.base_model,
        eval_results=eval_results(card, here) if here else None,
        library_name="timm",
        license=card.licence or (OURS if card.status == "recipe" else "unknown"),  # a recipe itself is this project's
        metrics=sorted(METRICS),
        model_name=card.entry.name if here else None,
        pipeline_tag=TASK,
        tags=tags(card),
    )
    if card.base_model:
        data["base_model_relation"] = "finetune"
    return data.to_yaml(line_break="\n")


def tags(card: Card) -> list[str]:
    """What the Hub can be searched for by."""
    distilled = ["knowledge-distillation", *card.entry.terms] if card.entry.terms else []
    return ["timm", TASK, *card.dataset.tags, card.dataset.name, *distilled]


def eval_results(card: Card, row: Row) -> list[EvalResult]:
    """The accuracy of a row, to two decimals."""
    return [
        EvalResult(
            task_type=TASK,
            dataset_type=card.dataset.name,
            dataset_name=card.dataset.title,
            dataset_split="test",
            metric_type="accuracy",
            metric_name=title,
            metric_value=round(float(row[column]), 2),
        )
        for title, column in (("Top-1", "top1"), ("Top-5", "top5"))
    ]


def check(text: str) -> list[str]:
    """What is wrong with the metadata of a card's text, offline: keys and values that the Hub does not know."""
    if not re.match(r"---\n.*?\n---\n", text, re.DOTALL):
        return ["no YAML between two lines of --- at its head"]
    try:
        meta = ModelCard(text).data.to_dict()
    except Exception as error:  # the YAML parser's errors are its own, and the client lets them through
        return [f"not readable: {reason_of(error)}"]
    return [*_wrong_keys(meta), *_wrong_relation(meta), *_wrong_results(meta.get("model-index", []))]


def _wrong_keys(told: Mapping[str, Any]) -> Iterator[str]:
    yield from (f"{key} is missing" for key in REQUIRED if key not in told)
    for key, value in told.items():
        if key not in KEYS:
            yield f"unknown key {key!r}"
        elif not KEYS[key](value):
            yield f"{key}: {value!r} is not allowed"


def _wrong_relation(told: Mapping[str, Any]) -> Iterator[str]:
    if ("base_model" in told) != ("base_model_relation" in told):
        yield "base_model and base_model_relation go together"
    if told.get("license") == "other" and not {"license_name", "license_link"} <= told.keys():
        yield "license 'other' needs license_name and license_link"


def _wrong_results(index: list[dict[str, Any]]) -> Iterator[str]:
    for result in (result for model in index for result in model["results"]):
        if result["task"]["type"] != TASK:
            yield f"model-index: task {result['task']['type']!r} is not {TASK}"
        if not _matching(DATASET)(result["dataset"]["type"]):
            yield f"model-index: dataset {result['dataset']['type']!r} is not of the form name or org/name"
        for metric in result["metrics"]:
            if metric["type"] not in METRICS:
                yield f"model-index: metric {metric['type']!r} is not allowed"
            if not isinstance(metric["value"], int | float) or not 0 <= metric["value"] <= 100:
                yield f"model-index: {metric['value']!r} is no percentage"
            if metric.get("verified"):
                yield "model-index: verified is the Hub's to say"


Allowed = Callable[[Any], bool]


def _in(values: set[str]) -> Allowed:
    return lambda value: isinstance(value, str) and value in values


def _matching(pattern: re.Pattern[str]) -> Allowed:
    return lambda value: isinstance(value, str) and pattern.fullmatch(value) is not None


def _each(allowed: Allowed) -> Allowed:
    return lambda values: isinstance(values, list) and bool(values) and all(map(allowed, values))


REQUIRED = ("library_name", "license", "pipeline_tag", "tags")
KEYS: Mapping[str, Allowed] = {
    "base_model": _matching(MODEL),
    "base_model_relation": _in(RELATIONS),
    "datasets": _each(_matching(DATASET)),
    "library_name": _in({"timm"}),
    "license": _in(LICENSES),
    "license_link": _matching(re.compile(r"https://\S+|LICENSE")),
    "license_name": _matching(TAG),
    "metrics": _each(_in(METRICS)),
    "model-index": lambda value: isinstance(value, list),
    "pipeline_tag": _in({TASK}),
    "tags": _each(_matching(TAG)),
}
