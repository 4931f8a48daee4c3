"""The facts of a card to its tables of how the entry is trained."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from dctkd_zoo.schedules import Cosine, MultiStep, Schedule, Step
from dctkd_zoo.spec import Entry, Recipe
from eval.cards.facts import Card
from eval.pages.markdown import Markdown, code, table


def terms(card: Card) -> Markdown:
    """The objective, term by term."""
    rows = [
        (code(term), f"{weight:g}", options(card.entry.options.get(term, {})), card.terms[term])
        for term, weight in card.entry.weights.items()
    ]
    return table(("term", "weight", "options", "what it is"), rows)


def options(given: Mapping[str, Any]) -> Markdown:
    """Keyword arguments as code, in the order of their names."""
    return code(", ".join(f"{name}={given[name]!r}" for name in sorted(given))) if given else Markdown("its defaults")


def recipe(card: Card) -> Markdown:
    """How the entry is trained."""
    meta, dataset = card.entry.recipe, card.dataset
    rows = [
        ("start", start(card)),
        ("epochs", meta.epochs),
        ("batch", f"{meta.batch_size} images"),
        ("optimizer", f"SGD, {'Nesterov ' if meta.nesterov else ''}momentum {meta.momentum:g}"),
        ("rate", f"{meta.lr:g}, {schedule(meta.schedule)}"),
        ("weight decay", f"{meta.weight_decay:g}"),
        ("image", geometry(meta)),
        ("normalisation", code(f"mean {dataset.mean}, std {dataset.std}")),
        ("tested", "every epoch" if meta.test_every == 1 else f"every {meta.test_every} epochs"),
        ("seed", meta.seed),
    ]
    return table(("what", "value"), rows)


def start(card: Card) -> Markdown:
    """What the network is before training."""
    source = card.base_model or card.entry.start or card.entry.recipe.pretrained
    return code(shortened(source)) if source else Markdown("from scratch")


def shortened(name: str) -> str:
    """The name of a network, without the folders of a path on someone's machine."""
    path = name.removeprefix("local-dir:")
    return name if path == name else f"local-dir:{path.replace(chr(92), '/').rstrip('/').rpartition('/')[2]}"


def schedule(schedule: Schedule) -> str:
    """How the rate changes, in words."""
    match schedule:
        case Step():
            return f"times {schedule.gamma:g} every {schedule.every} epochs"
        case MultiStep():
            return f"times {schedule.gamma:g} at epochs {', '.join(map(str, schedule.at))}"
        case Cosine():
            return f"linear rise over {schedule.warmup:.0%} of the run, then half a cosine to zero"


def geometry(recipe: Recipe) -> str:
    """How an image gets its size, in training and in evaluation."""
    padded = f", {recipe.pad} px {recipe.pad_mode} padding" if recipe.pad else ""
    flipped = ", mirrored at random" if recipe.flip else ""
    return (
        f"short side to {recipe.resize} px (bilinear){padded}; training: {recipe.crop} px crop at random{flipped}; "
        f"evaluation: {recipe.crop} px at the centre"
    )


def differences(entry: Entry, base: Entry) -> list[tuple[str, str, str]]:
    """What tells a variant from its base: the fact, here, there."""
    student, teacher = (dict(_flat(item.to_dict())) for item in (entry, base))
    names = [name for name in {**student, **teacher} if name != "name"]
    return [(n, _plain(student.get(n)), _plain(teacher.get(n))) for n in names if student.get(n) != teacher.get(n)]


def _plain(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else "none" if value is None else shortened(str(value))


def _flat(facts: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in facts.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", value
