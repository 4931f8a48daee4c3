"""Per-image tables to test images chosen by rules, and networks to pictures of their attention on these."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from PIL import Image

from dctkd_zoo import registry
from dctkd_zoo.attention import activation_map
from dctkd_zoo.data.views import centre_windows, crop
from dctkd_zoo.device import exactly
from dctkd_zoo.features import Output
from dctkd_zoo.overlay import overlay
from dctkd_zoo.spec import Entry
from eval.paired import align
from eval.report.data import Example, Panel, Seen
from eval.run import Result, Where, load_teacher, network, open_views, reference, test_split
from eval.table import BATCH_SIZE

COUNT = 3  # images of a rule
CELL, GAP = 144, 2  # px of a map, and between two
QUALITY = 80  # of a JPEG


@dataclass(frozen=True)
class Chosen:
    """A rule in words and the ids of the images that it chooses, which may be none."""

    rule: str
    ids: tuple[str, ...]


def at_random(table: pd.DataFrame, count: int = COUNT, seed: int = 0) -> Chosen:
    """Images drawn by a seed, whatever anybody makes of them."""
    ids = np.sort(table["id"].to_numpy(str))
    drawn = np.random.default_rng(seed).choice(len(ids), min(count, len(ids)), replace=False)
    rule = (
        f"{len(drawn)} of {len(ids):,} test images, drawn at random with seed {seed} before any answer was looked at."
    )
    return Chosen(rule, tuple(str(ids[place]) for place in drawn))


def gains(baseline: pd.DataFrame, student: pd.DataFrame, names: tuple[str, str], count: int = COUNT) -> Chosen:
    """Images that a student gets right, to whose class it gives the most probability beyond what the baseline gives.

    Where a table does not tell that probability: images that the baseline gets wrong and the student right, the
    student's most confident first. Of equals, the first by id. `names` are those of baseline and student.
    """
    base, one = names
    ids, fitting, told = _rising(baseline, student, names, count)
    if told:
        rule = f"{one} is right, and gives the true class the most probability beyond what {base} gives it"
    else:
        rule = f"{one} is right and {base} wrong, the most confident answers of {one}"
    return Chosen(_rule(rule, len(ids), fitting, len(student)), ids)


def losses(baseline: pd.DataFrame, student: pd.DataFrame, names: tuple[str, str], count: int = COUNT) -> Chosen:
    """The reverse of `gains`: images that the baseline gets right, whose class the student gives the least of it."""
    base, one = names
    ids, fitting, told = _rising(student, baseline, (one, base), count)
    if told:
        rule = f"{base} is right, and gives the true class the most probability beyond what {one} gives it"
    else:
        rule = f"{base} is right and {one} wrong, the most confident answers of {base}"
    return Chosen(_rule(rule, len(ids), fitting, len(student)), ids)


def _rule(words: str, shown: int, fitting: int, images: int) -> str:
    return f"{words}: the first {shown} of {fitting:,} such images among {images:,}, chosen by that number alone."


def _rising(
    before: pd.DataFrame, after: pd.DataFrame, names: tuple[str, str], count: int
) -> tuple[tuple[str, ...], int, bool]:
    """Ids of the images that rise most, how many rise, and whether by the probability of their class."""
    before, after = align(before, after, names)
    chosen, told = after["prediction"] == after["label"], "nll" in before and "nll" in after
    if told:
        rise = np.exp(-after["nll"]) - np.exp(-before["nll"])
        chosen &= rise > 0
    else:
        rise = after["confidence"]
        chosen &= before["prediction"] != before["label"]
    order = np.argsort(-rise[chosen].to_numpy(), kind="stable")[:count]
    return tuple(str(each) for each in after["id"][chosen].to_numpy()[order]), int(chosen.sum()), told


def panels(results: Mapping[str, Result], baselines: Mapping[str, str], where: Where) -> dict[str, list[Panel]]:
    """Panels of one dataset by the entry that they are of, and those of all entries under the empty name.

    `baselines` are the entries' baselines by their name, both among the `results`.
    """
    first = next(iter(results.values()))
    drawn = at_random(first.table)
    plan: list[tuple[str, str, Chosen, list[str]]] = [("", "Random images", drawn, list(results))]
    for student, baseline in baselines.items():
        a, b = (results[name].table for name in (baseline, student))
        beside = [baseline, student]
        plan.append((student, "Largest gain", gains(a, b, (baseline, student)), beside))
        plan.append((student, "Largest loss", losses(a, b, (baseline, student)), beside))
    wanted: dict[str, set[str]] = {}
    for _, _, chosen, names in plan:
        for name in names:
            wanted.setdefault(name, set()).update(chosen.ids)
    looks = {name: look(results[name], sorted(ids), where) for name, ids in wanted.items()}
    found: dict[str, list[Panel]] = {}
    for owner, title, chosen, names in plan:
        examples = tuple(_example(image, names, looks) for image in chosen.ids)
        found.setdefault(owner, []).append(Panel(title, chosen.rule, examples))
    return found


@dataclass(frozen=True)
class Look:
    """What an entry, and the teacher it is compared with, make of some images, by id."""

    entry: Entry
    classes: tuple[str, ...]
    labels: Mapping[str, int]
    pictures: Mapping[str, str]
    seen: Mapping[str, Seen]
    taught: Mapping[str, Seen]


def look(result: Result, ids: Sequence[str], where: Where) -> Look:
    """Run an entry and its teacher on the test images of some ids."""
    entry = result.entry
    split = test_split(registry.get_dataset(entry.dataset), where.data, where.limit)
    views = open_views(entry, split, where.device)
    windows = centre_windows(views.store, entry.recipe)
    places = {image: place for place, image in enumerate(split.ids)}
    positions = torch.tensor([places[image] for image in ids])
    model = network(entry, result.weights, split.classes, where.device)
    teacher = load_teacher(entry, split.classes, where)
    pictures: list[Image.Image] = []
    ours: list[Seen] = []
    theirs: list[Seen] = []
    role = "student" if entry.teacher else "baseline" if result.teacher else "teacher"
    for chunk in positions.split(BATCH_SIZE) if len(positions) else ():
        pixels = crop(views.store, chunk, windows, entry.recipe.crop).cpu().numpy()
        images = [_large(Image.fromarray(each)) for each in pixels]
        pictures += images
        labels = split.labels[chunk.numpy()].tolist()
        batch = views.batch(chunk, windows)
        with exactly():
            ours += _seen(entry.name, role, model(batch.images), images, labels, split.classes)
            if teacher is not None:
                known = teacher.network(batch.images)
                theirs += _seen(str(reference(entry)), "teacher", known, images, labels, split.classes)
    return Look(
        entry,
        split.classes,
        {image: int(split.labels[places[image]]) for image in ids},
        {image: uri(picture) for image, picture in zip(ids, pictures, strict=True)},
        dict(zip(ids, ours, strict=True)),
        dict(zip(ids, theirs, strict=bool(theirs))),
    )


def _seen(
    name: str, role: str, output: Output, images: Sequence[Image.Image], labels: Sequence[int], classes: Sequence[str]
) -> list[Seen]:
    """What a network's output on some images is, image by image."""
    shares, guesses = output.logits.cpu().softmax(dim=1).max(dim=1)
    maps = [activation_map(level).cpu() for level in output.maps]
    found = []
    for row, (image, label) in enumerate(zip(images, labels, strict=True)):
        guess = int(guesses[row])
        strip = side_by_side([overlay(image, level[row]) for level in maps])
        found.append(Seen(name, role, classes[guess], guess == label, float(shares[row]), len(maps), uri(strip)))
    return found


def _example(image: str, names: Iterable[str], looks: Mapping[str, Look]) -> Example:
    """An image with each teacher once, then the networks in their order."""
    chosen = [looks[name] for name in names]
    seen: dict[str, Seen] = {}
    for each in chosen:
        if image in each.taught:
            seen.setdefault(each.taught[image].network, each.taught[image])
    for each in chosen:
        seen.setdefault(each.entry.name, each.seen[image])
    first = chosen[0]
    return Example(image, first.classes[first.labels[image]], first.pictures[image], tuple(seen.values()))


def _large(image: Image.Image) -> Image.Image:
    return image.resize((CELL, CELL), Image.Resampling.BICUBIC)


def side_by_side(pictures: Sequence[Image.Image]) -> Image.Image:
    """Pictures of one size from left to right."""
    strip = Image.new("RGB", (len(pictures) * (CELL + GAP) - GAP, CELL), (128, 128, 128))
    for place, picture in enumerate(pictures):
        strip.paste(picture, (place * (CELL + GAP), 0))
    return strip


def uri(picture: Image.Image) -> str:
    """A picture as a JPEG in a data URI."""
    kept = io.BytesIO()
    picture.save(kept, "JPEG", quality=QUALITY, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(kept.getvalue()).decode()}"
