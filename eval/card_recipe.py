"""The facts of a card to its tables of how the entry is trained."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from dctkd_zoo.spec import Cosine, Entry, MultiStep, Recipe, Schedule, Step
from eval.card import Card
from eval.markdown import Markdown, code, table


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
    told, dataset = card.entry.recipe, card.dataset
    rows = [
        ("start", start(card)),
        ("epochs", told.epochs),
        ("batch", f"{told.batch_size} images"),
        ("optimizer", f"SGD, {'Nesterov ' if told.nesterov else ''}momentum {told.momentum:g}"),
        ("rate", f"{told.lr:g}, {schedule(told.schedule)}"),
        ("weight decay", f"{told.weight_decay:g}"),
        ("image", geometry(told)),
        ("normalisation", code(f"mean {dataset.mean}, std {dataset.std}")),
        ("tested", "every epoch" if told.test_every == 1 else f"every {told.test_every} epochs"),
        ("seed", told.seed),
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
    ours, theirs = (dict(_flat(each.facts())) for each in (entry, base))
    names = [name for name in {**ours, **theirs} if name != "name"]
    return [(n, _plain(ours.get(n)), _plain(theirs.get(n))) for n in names if ours.get(n) != theirs.get(n)]


def _plain(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else "none" if value is None else shortened(str(value))


def _flat(facts: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in facts.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", value
