"""Metadata of a model card: the YAML header, as huggingface_hub writes it."""

from __future__ import annotations

from huggingface_hub import EvalResult, ModelCardData, hf_hub_url

from dctkd_zoo.weights.licence import OURS
from eval.cards.facts import Card
from eval.run.results_csv import Row

TASK, METRIC = "image-classification", "accuracy"


def head(card: Card) -> str:
    """Return the metadata as YAML, in the order of huggingface_hub."""
    here = card.here()
    data = ModelCardData(
        base_model=[name for name in (card.base_model, card.teacher_model) if name] or None,
        eval_results=eval_results(card, here) if here else None,
        library_name="timm",
        license=card.licence or (OURS if card.status == "recipe" else "unknown"),  # a recipe is part of this project
        metrics=[METRIC],
        model_name=card.entry.name if here else None,
        pipeline_tag=TASK,
        tags=tags(card),
    )
    if card.base_model and not card.teacher_model:  # the Hub has no relation for distillation
        data["base_model_relation"] = "finetune"
    if card.example and card.repo:
        url = hf_hub_url(card.repo.partition("@")[0], card.example)
        data["widget"] = [{"src": url, "example_title": f"A test image of {card.dataset.title}"}]
    return data.to_yaml(line_break="\n")


def tags(card: Card) -> list[str]:
    """Return the tags under which the Hub finds the card."""
    distilled = ["knowledge-distillation", *card.entry.terms] if card.entry.terms else []
    return ["timm", TASK, *card.dataset.tags, card.dataset.name, *distilled]


def eval_results(card: Card, row: Row) -> list[EvalResult]:
    """Return the accuracies of a row, rounded to two decimals."""
    return [
        EvalResult(
            task_type=TASK,
            dataset_type=card.dataset.name,
            dataset_name=card.dataset.title,
            dataset_split="test",
            metric_type=METRIC,
            metric_name=title,
            metric_value=round(float(row[column]), 2),
        )
        for title, column in (("Top-1", "top1"), ("Top-5", "top5"))
    ]
