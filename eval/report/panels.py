"""Panels of a report: test images chosen by rules, with the attention of networks on them."""

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
from dctkd_zoo.attention_grid import Row, grid, overlay
from dctkd_zoo.data.loader import centre_crops, crop
from dctkd_zoo.device import fp32_inference
from dctkd_zoo.features import Output
from dctkd_zoo.spec import Entry
from eval.report.data import Example, Panel, Seen
from eval.run.config import EvalConfig
from eval.run.evaluation import Result
from eval.run.per_image import BATCH_SIZE
from eval.run.setup import load_network, load_teacher, open_views, role, test_split
from eval.stats.paired import align

COUNT = 3  # images of a panel
CELL = 144  # size of a map in px
QUALITY = 80  # JPEG quality


@dataclass(frozen=True)
class Chosen:
    """A rule in words and the ids of the images that it chooses, possibly none."""

    rule: str
    ids: tuple[str, ...]


def at_random(table: pd.DataFrame, count: int = COUNT, seed: int = 0) -> Chosen:
    """Choose images at random with a seed, whatever the predictions."""
    ids = np.sort(table["id"].to_numpy(str))
    sample = np.random.default_rng(seed).choice(len(ids), min(count, len(ids)), replace=False)
    rule = f"{len(sample)} of {len(ids):,} test images, drawn at random with seed {seed}, whatever the predictions."
    return Chosen(rule, tuple(str(ids[index]) for index in sample))


def gains(baseline: pd.DataFrame, student: pd.DataFrame, names: tuple[str, str], count: int = COUNT) -> Chosen:
    """Choose images that the student gets right and whose true class gains the most probability over the baseline.

    If a table lacks that probability: images that the baseline gets wrong and the student right, sorted by the
    student's confidence. Ties are in the order of ids. `names` are those of baseline and student.
    """
    return _chosen(baseline, student, names, count)


def losses(baseline: pd.DataFrame, student: pd.DataFrame, names: tuple[str, str], count: int = COUNT) -> Chosen:
    """Choose images as `gains` does, with baseline and student exchanged."""
    return _chosen(student, baseline, names[::-1], count)


def _chosen(before: pd.DataFrame, after: pd.DataFrame, names: tuple[str, str], count: int) -> Chosen:
    ids, fitting, by_probability = _rising(before, after, names, count)
    if by_probability:
        rule = f"{names[1]} is right and more confident of the true class than {names[0]}, by the largest margin"
    else:
        rule = f"{names[1]} is right and {names[0]} wrong, by the confidence of {names[1]}"
    return Chosen(f"{rule}: the first {len(ids)} of {fitting:,} such images among {len(after):,}.", ids)


def _rising(
    before: pd.DataFrame, after: pd.DataFrame, names: tuple[str, str], count: int
) -> tuple[tuple[str, ...], int, bool]:
    """Return the ids of the images with the largest gain, how many gain, and whether by probability of the class."""
    before, after = align(before, after, names)
    chosen, by_probability = after["prediction"] == after["label"], "nll" in before and "nll" in after
    if by_probability:
        rise = np.exp(-after["nll"]) - np.exp(-before["nll"])
        chosen &= rise > 0
    else:
        rise = after["confidence"]
        chosen &= before["prediction"] != before["label"]
    order = np.argsort(-rise[chosen].to_numpy(), kind="stable")[:count]
    return tuple(str(item) for item in after["id"][chosen].to_numpy()[order]), int(chosen.sum()), by_probability


def panels(results: Mapping[str, Result], baselines: Mapping[str, str], config: EvalConfig) -> dict[str, list[Panel]]:
    """Return the panels of a dataset by entry; those of all entries are under the empty name.

    `baselines` are the baselines by student; both are among the `results`.
    """
    first = next(iter(results.values()))
    plan: list[tuple[str, str, Chosen, list[str]]] = [("", "Random images", at_random(first.table), list(results))]
    for student, baseline in baselines.items():
        a, b = (results[name].table for name in (baseline, student))
        pair = [baseline, student]
        plan.append((student, "Largest gain", gains(a, b, (baseline, student)), pair))
        plan.append((student, "Largest loss", losses(a, b, (baseline, student)), pair))
    wanted: dict[str, set[str]] = {}
    for _, _, chosen, names in plan:
        for name in names:
            wanted.setdefault(name, set()).update(chosen.ids)
    looks = {name: look(results[name], sorted(ids), config) for name, ids in wanted.items()}
    result: dict[str, list[Panel]] = {}
    for owner, title, chosen, names in plan:
        examples = tuple(_example(image, names, looks) for image in chosen.ids)
        result.setdefault(owner, []).append(Panel(title, chosen.rule, examples))
    return result


@dataclass(frozen=True)
class Look:
    """Predictions and attention of an entry (`seen`) and of its teacher (`teacher_seen`), by image id."""

    entry: Entry
    classes: tuple[str, ...]
    labels: Mapping[str, int]
    pictures: Mapping[str, str]
    seen: Mapping[str, Seen]
    teacher_seen: Mapping[str, Seen]


def look(result: Result, ids: Sequence[str], config: EvalConfig) -> Look:
    """Run an entry and the teacher it is compared with on the test images of some ids."""
    entry = result.entry
    split = test_split(registry.get_dataset(entry.dataset), config.data, config.limit)
    views = open_views(entry, split, config.device)
    windows = centre_crops(views.store, entry.recipe)
    index = {image: position for position, image in enumerate(split.ids)}
    positions = torch.tensor([index[image] for image in ids])
    model = load_network(entry, result.weights, split.classes, config.device)
    teacher = load_teacher(entry, split.classes, config)
    pictures: list[Image.Image] = []
    seen: list[Seen] = []
    teacher_seen: list[Seen] = []
    for chunk in positions.split(BATCH_SIZE) if len(positions) else ():
        pixels = crop(views.store, chunk, windows, entry.recipe.crop).cpu().numpy()
        images = [_large(Image.fromarray(item)) for item in pixels]
        pictures += images
        labels = split.labels[chunk.numpy()].tolist()
        batch = views.batch(chunk, windows)
        with fp32_inference():
            seen += _seen(entry.name, role(entry), model(batch.images), images, labels, split.classes)
            if teacher is not None:
                output = teacher.network(batch.images)
                teacher_seen += _seen(teacher.name, "teacher", output, images, labels, split.classes)
    return Look(
        entry,
        split.classes,
        {image: int(split.labels[index[image]]) for image in ids},
        {image: uri(picture) for image, picture in zip(ids, pictures, strict=True)},
        dict(zip(ids, seen, strict=True)),
        dict(zip(ids, teacher_seen, strict=bool(teacher_seen))),
    )


def _seen(
    name: str, role: str, output: Output, images: Sequence[Image.Image], labels: Sequence[int], classes: Sequence[str]
) -> list[Seen]:
    """Return a network's predictions and attention for some images."""
    confidences, predictions = output.logits.cpu().softmax(dim=1).max(dim=1)
    maps = [level.cpu() for level in output.activation_maps()]
    result = []
    for row, (image, label) in enumerate(zip(images, labels, strict=True)):
        prediction = int(predictions[row])
        strip = grid([Row([overlay(image, level[row]) for level in maps])], margin=0)
        right, confidence = prediction == label, float(confidences[row])
        result.append(Seen(name, role, classes[prediction], right, confidence, len(maps), uri(strip)))
    return result


def _example(image: str, names: Iterable[str], looks: Mapping[str, Look]) -> Example:
    """Return an image with each teacher once, then the other networks in their order."""
    chosen = [looks[name] for name in names]
    seen: dict[str, Seen] = {}
    for item in chosen:
        if image in item.teacher_seen:
            seen.setdefault(item.teacher_seen[image].network, item.teacher_seen[image])
    for item in chosen:
        seen.setdefault(item.entry.name, item.seen[image])
    first = chosen[0]
    return Example(image, first.classes[first.labels[image]], first.pictures[image], tuple(seen.values()))


def _large(image: Image.Image) -> Image.Image:
    return image.resize((CELL, CELL), Image.Resampling.BICUBIC)


def uri(picture: Image.Image) -> str:
    """Return a picture as a JPEG in a data URI."""
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=QUALITY, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"
