"""Tables of a model card that say how the entry is trained."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from dctkd_zoo.schedules import Cosine, MultiStep, Ramp, Schedule, Step
from dctkd_zoo.spec import Entry, Recipe
from eval.cards.facts import Card
from eval.pages.markdown import Markdown, code, table


def terms(card: Card) -> Markdown:
    """Return the table of the loss terms: weight, options and description."""
    rows = [
        (code(term), f"{weight:g}", options(card.entry.options.get(term, {})), card.terms[term])
        for term, weight in card.entry.weights.items()
    ]
    return table(("term", "weight", "options", "what it is"), rows)


def options(given: Mapping[str, Any]) -> Markdown:
    """Return keyword arguments as code, sorted by name."""
    return code(", ".join(f"{name}={given[name]!r}" for name in sorted(given))) if given else Markdown("defaults")


def recipe(card: Card) -> Markdown:
    """Return the table of the training settings."""
    settings, dataset = card.entry.recipe, card.dataset
    rows = [
        ("starting weights", start(card)),
        ("epochs", settings.epochs),
        ("batch size", settings.batch_size),
        ("optimizer", optimizer(settings)),
        ("learning rate", f"{rates(settings)}, {schedule(settings.schedule)}"),
        ("weight decay", f"{settings.weight_decay:g}"),
        *((title, say(settings)) for title, say in EXTRAS.items() if say(settings)),
        ("images", geometry(settings)),
        ("normalisation", code(f"mean {dataset.mean}, std {dataset.std}")),
        ("evaluated", "every epoch" if settings.test_every == 1 else f"every {settings.test_every} epochs"),
        ("seed", settings.seed),
    ]
    return table(("setting", "value"), rows)


def start(card: Card) -> Markdown:
    """Return the name of the weights that training starts from."""
    source = card.base_model or card.entry.start or card.entry.recipe.pretrained
    return code(shortened(source)) if source else Markdown("none: trained from scratch")


def shortened(name: str) -> str:
    """Return the name of a network without the directories of a local path."""
    path = name.removeprefix("local-dir:")
    return name if path == name else f"local-dir:{path.replace(chr(92), '/').rstrip('/').rpartition('/')[2]}"


def rates(recipe: Recipe) -> str:
    """Return the learning rate, that of the classifier if it has one of its own, and what changes it by layer."""
    parts = [
        "" if recipe.head_lr is None else f"{recipe.head_lr:g} of the classifier",
        "" if recipe.layer_decay == 1 else f"times {recipe.layer_decay:g} per layer below the last",
        f"linear warm-up over {recipe.warmup:g} epochs" if recipe.warmup else "",
    ]
    extra = ", ".join(filter(None, parts))
    return f"{recipe.lr:g}" + (f" ({extra})" if extra else "")


def optimizer(recipe: Recipe) -> str:
    """Describe the optimizer."""
    if recipe.optimizer != "sgd":
        return f"{recipe.optimizer} of timm.optim"
    return f"SGD, {'Nesterov ' if recipe.nesterov else ''}momentum {recipe.momentum:g}"


SELECTION = {
    "last": "",
    "val": "best epoch on held-out images",
    "released": "last epoch; the best one on the test set is kept for reference",
}
# Settings that most recipes do not have: title, and the value as text or nothing.
EXTRAS: Mapping[str, Callable[[Recipe], str]] = {
    "label smoothing": lambda r: f"{r.label_smoothing:g}" if r.label_smoothing else "",
    "maximum gradient norm": lambda r: f"{r.clip_grad:g}" if r.clip_grad else "",
    "stochastic depth": lambda r: f"{r.drop_path:g}" if r.drop_path else "",
    "MixUp": lambda r: f"alpha {r.mixup:g}" if r.mixup else "",
    "CutMix": lambda r: f"alpha {r.cutmix:g}" if r.cutmix else "",
    "weights": lambda r: f"exponential moving average over the steps, decay {r.ema:g}" if r.ema else "",
    "weights of the terms": lambda r: "; ".join(f"{name}: {ramp(r.ramps[name])}" for name in sorted(r.ramps)),
    "result": lambda r: SELECTION[r.select] + (f", at most {r.patience} epochs without one" if r.patience else ""),
    "unlabelled images": lambda r: "as many as the dataset names" if r.unlabelled else "",
}


def ramp(item: Ramp) -> str:
    """Describe how a term's weight changes."""
    return f"from {item.start:g} to {item.end:g} times its weight over the first {item.over:.0%} of the run"


def schedule(schedule: Schedule) -> str:
    """Describe a learning rate schedule."""
    match schedule:
        case Step():
            return f"multiplied by {schedule.gamma:g} every {schedule.every} epochs"
        case MultiStep():
            return f"multiplied by {schedule.gamma:g} at epochs {', '.join(map(str, schedule.at))}"
        case Cosine():
            return f"linear warm-up over {schedule.warmup:.0%} of the run, then cosine decay to zero"


def geometry(recipe: Recipe) -> str:
    """Describe how images are resized and cropped in training and in evaluation."""
    padding = f", {recipe.pad} px {recipe.pad_mode} padding" if recipe.pad else ""
    flip = ", random horizontal flip" if recipe.flip else ""
    crop = f"random {recipe.crop} px crop"
    if recipe.augment in ("rrc", "rand"):
        low, high = recipe.rrc_scale
        crop = f"RandomResizedCrop of {low:.0%} to {high:.0%} of the area to {recipe.crop} px"
        flip += ", TrivialAugmentWide" if recipe.augment == "rand" else ""
    flip += f", random erasing of {recipe.erasing:.0%} of the images" if recipe.erasing else ""
    return (
        f"short side resized to {recipe.resize} px (bilinear){padding}; training: {crop}{flip}; "
        f"evaluation: {recipe.crop} px centre crop"
    )


def differences(entry: Entry, base: Entry) -> list[tuple[str, str, str]]:
    """Return the settings in which a variant differs from its base: the name, the variant's value, the base's value."""
    here, there = (dict(_flat(item.to_dict())) for item in (entry, base))
    names = [name for name in {**here, **there} if name != "name"]
    return [(n, _plain(here.get(n)), _plain(there.get(n))) for n in names if here.get(n) != there.get(n)]


def _plain(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else "none" if value is None else shortened(str(value))


def _flat(facts: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in facts.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
