"""Attention figure of a model card: test images overlaid with the activation maps of teacher and student."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from dctkd_zoo import registry, weights
from dctkd_zoo._io import atomic
from dctkd_zoo.attention_grid import INK, Row, grid, overlay
from dctkd_zoo.data.loader import centre_crops, crop, derive_seed
from dctkd_zoo.device import fp32_inference
from dctkd_zoo.features import Output
from dctkd_zoo.spec import Entry
from eval.run.config import EvalConfig
from eval.run.setup import load_network, load_teacher, open_views, test_split

CELL = 112  # px
IMAGES = 3
WRONG = (180, 35, 24)
LARGEST = 150_000  # bytes


@dataclass(frozen=True)
class Seen:
    """A network's outputs for the images: logits (B, K) and activation maps (B, H, W) by level, with its role."""

    role: str
    logits: Tensor
    maps: tuple[Tensor, ...]


@dataclass(frozen=True)
class Panel:
    """What the figure shows: images as the networks see them, their labels, and the outputs of each network."""

    images: tuple[Image.Image, ...]
    labels: tuple[int, ...]
    classes: tuple[str, ...]
    seen: tuple[Seen, ...]


def attention_figure(entry: Entry, config: EvalConfig, count: int = IMAGES, seed: int = 0) -> Image.Image:
    """Return the figure: a row for each of `count` random test images; columns: the image, then the maps by level.

    The teacher's map is left of the student's; for a baseline it is that of `eval.run.setup.reference`. Without a
    teacher, or if its weights are not available, only the entry's maps are drawn. Raises `WeightsNotFound` or
    `DatasetMissing` if the entry cannot be run here.
    """
    return draw(look(entry, config, count, seed))


def write(entry: Entry, config: EvalConfig, path: Path, example: Path) -> None:
    """Write an entry's attention figure as a PNG of at most `LARGEST` bytes, in as many colours as that allows.

    `example` becomes the first of its images, as the networks see it, for people to try the network on.
    """
    panel = look(entry, config, IMAGES, seed=0)
    atomic.write_bytes(path, compressed(draw(panel)))
    file = io.BytesIO()
    panel.images[0].save(file, "PNG", optimize=True)
    atomic.write_bytes(example, file.getvalue())


def compressed(picture: Image.Image) -> bytes:
    """Return a picture as PNG in 256 colours, or in half as many and so on until it has at most `LARGEST` bytes."""
    data = b""
    for number in (256, 128, 64, 32, 16):
        palette = picture.quantize(number, Image.Quantize.MAXCOVERAGE)
        file = io.BytesIO()
        picture.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG).save(file, "PNG", optimize=True)
        data = file.getvalue()
        if len(data) <= LARGEST:
            break
    return data


def look(entry: Entry, config: EvalConfig, count: int, seed: int) -> Panel:
    """Run an entry, and its teacher if it has one, on test images drawn at random with `seed`."""
    found = weights.find(entry, config.trained)  # first, so that no data is read if there are no weights
    split = test_split(registry.get_dataset(entry.dataset), config.data, config.limit)
    views = open_views(entry, split, config.device)
    windows = centre_crops(views.store, entry.recipe)
    ids = drawn(views.store.heights, count, seed)
    batch = views.batch(ids, windows)
    with fp32_inference():
        student = load_network(entry, found, split.classes, config.device)(batch.images)
        teacher = load_teacher(entry, split.classes, config)
        teacher_output = teacher.network(batch.images) if teacher else None
    crops = crop(views.store, ids, windows, entry.recipe.crop).cpu().numpy()
    images = tuple(Image.fromarray(pixels) for pixels in crops)
    return Panel(images, tuple(batch.labels.tolist()), split.classes, _roles(entry, student, teacher_output))


def drawn(heights: Tensor, count: int, seed: int) -> Tensor:
    """Return the positions of `count` random images, of those that decoded."""
    decoded = torch.nonzero(heights.cpu()).flatten()
    generator = torch.Generator().manual_seed(derive_seed(seed, "figure"))
    return decoded[torch.randperm(len(decoded), generator=generator)[:count]]


def _roles(entry: Entry, student: Output, teacher: Output | None) -> tuple[Seen, ...]:
    """Return the networks to draw; a baseline is drawn next to the teacher of the students of its architecture."""
    if teacher is None:
        return (_seen("", student),)
    roles = ("teacher", "student") if entry.teacher else ("reference", "baseline")
    return _seen(roles[0], teacher), _seen(roles[1], student)


def _seen(role: str, output: Output) -> Seen:
    return Seen(role, output.logits.cpu(), tuple(level.cpu() for level in output.activation_maps()))


def draw(panel: Panel) -> Image.Image:
    """Draw a panel."""
    columns = _columns(panel.seen)
    rows = []
    for row, image in enumerate(panel.images):
        large = image.resize((CELL, CELL), Image.Resampling.BICUBIC)
        panels = [large, *(overlay(large, seen.maps[index][row]) for _, seen, index in columns)]
        rows.append(Row(panels, [(text, INK if right else WRONG) for text, right in answers(panel, row)]))
    return grid(rows, ["image", *(f"level {level}\n{seen.role}".strip() for level, seen, _ in columns)])


def _columns(seen: Sequence[Seen]) -> list[tuple[int, Seen, int]]:
    """Return the columns of maps: level (from 1), network, index of its map; levels are paired from the deepest."""
    count = min(len(item.maps) for item in seen)
    return [(level, item, len(item.maps) - count + level - 1) for level in range(1, count + 1) for item in seen]


def answers(panel: Panel, row: int) -> list[tuple[str, bool]]:
    """Return the heading of a row in parts: the true class, then each network's prediction and whether it is right."""
    label = panel.labels[row]
    parts = [(panel.classes[label], True)]
    for item in panel.seen:
        confidence, prediction = item.logits[row].softmax(dim=0).max(dim=0)
        right = int(prediction) == label
        verdict = "right" if right else panel.classes[int(prediction)]
        parts.append((f"{item.role or 'prediction'}: {verdict}, {confidence:.0%}", right))
    return parts
