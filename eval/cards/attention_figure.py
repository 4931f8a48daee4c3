"""Attention figure of a model card: activation maps of teacher and student over test images."""

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
from dctkd_zoo.attention import activation_map
from dctkd_zoo.attention_grid import INK, Row, grid, overlay
from dctkd_zoo.data.loader import centre_crops, crop, derive_seed
from dctkd_zoo.device import fp32_inference
from dctkd_zoo.features import Output
from dctkd_zoo.spec import Entry
from eval.run.config import EvalConfig
from eval.run.setup import load_network, load_teacher, open_views, test_split

CELL = 112  # px
WRONG = (180, 35, 24)
LARGEST = 150_000  # bytes


@dataclass(frozen=True)
class Seen:
    """A network's answer to the images: its name in the picture, logits (B, K), activation maps (B, H, W) by level."""

    role: str
    logits: Tensor
    maps: tuple[Tensor, ...]


@dataclass(frozen=True)
class Panel:
    """What the picture shows: images as the networks see them, their labels, and what each network makes of them."""

    images: tuple[Image.Image, ...]
    labels: tuple[int, ...]
    classes: tuple[str, ...]
    seen: tuple[Seen, ...]


def attention_figure(entry: Entry, config: EvalConfig, count: int = 3, seed: int = 0) -> Image.Image:
    """A row for each of `count` test images, drawn by `seed`; columns: the image, then each level's maps.

    The teacher's map is left of the student's; the teacher of a baseline is `eval.run.setup.reference`. Without a
    teacher, or where its weights cannot be had, the entry's maps are drawn alone. `WeightsNotFound` and
    `DatasetMissing` where the entry cannot be run here.
    """
    return draw(look(entry, config, count, seed))


def write(entry: Entry, config: EvalConfig, path: Path) -> None:
    """Draw an entry's attention into a PNG of at most `LARGEST` bytes, in as many colours as that allows."""
    atomic.write_bytes(path, compressed(attention_figure(entry, config)))


def compressed(picture: Image.Image) -> bytes:
    """A picture as PNG in 256 colours, or in half as many and so on where the file is larger than `LARGEST`."""
    data = b""
    for number in (256, 128, 64, 32, 16):
        palette = picture.quantize(number, Image.Quantize.MAXCOVERAGE)
        kept = io.BytesIO()
        picture.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG).save(kept, "PNG", optimize=True)
        data = kept.getvalue()
        if len(data) <= LARGEST:
            break
    return data


def look(entry: Entry, config: EvalConfig, count: int, seed: int) -> Panel:
    """Run an entry, and its teacher if there is one, on test images drawn by `seed`."""
    result = weights.find(entry, config.trained)  # first, for it reads no data where there are none
    split = test_split(registry.get_dataset(entry.dataset), config.data, config.limit)
    views = open_views(entry, split, config.device)
    windows = centre_crops(views.store, entry.recipe)
    ids = drawn(views.store.heights, count, seed)
    batch = views.batch(ids, windows)
    with fp32_inference():
        student = load_network(entry, result, split.classes, config.device)(batch.images)
        taught = load_teacher(entry, split.classes, config)
        teacher = taught.network(batch.images) if taught else None
    seen = crop(views.store, ids, windows, entry.recipe.crop).cpu().numpy()
    images = tuple(Image.fromarray(pixels) for pixels in seen)
    return Panel(images, tuple(batch.labels.tolist()), split.classes, _roles(entry, student, teacher))


def drawn(heights: Tensor, count: int, seed: int) -> Tensor:
    """Positions of `count` images, of those that decoded, in random order."""
    decoded = torch.nonzero(heights.cpu()).flatten()
    generator = torch.Generator().manual_seed(derive_seed(seed, "figure"))
    return decoded[torch.randperm(len(decoded), generator=generator)[:count]]


def _roles(entry: Entry, student: Output, teacher: Output | None) -> tuple[Seen, ...]:
    """Who stands beside whom; a baseline, which nobody taught, stands beside its siblings' teacher."""
    if teacher is None:
        return (_seen("", student),)
    theirs, ours = ("teacher", "student") if entry.teacher else ("reference", "baseline")
    return _seen(theirs, teacher), _seen(ours, student)


def _seen(role: str, output: Output) -> Seen:
    return Seen(role, output.logits.cpu(), tuple(activation_map(level).cpu() for level in output.maps))


def draw(panel: Panel) -> Image.Image:
    """Draw a panel."""
    columns = _columns(panel.seen)
    rows = []
    for row, image in enumerate(panel.images):
        large = image.resize((CELL, CELL), Image.Resampling.BICUBIC)
        panels = [large, *(overlay(large, seen.maps[index][row]) for _, seen, index in columns)]
        rows.append(Row(panels, [(words, INK if right else WRONG) for words, right in answers(panel, row)]))
    return grid(rows, ["image", *(f"level {level}\n{seen.role}".strip() for level, seen, _ in columns)])


def _columns(seen: Sequence[Seen]) -> list[tuple[int, Seen, int]]:
    """Level from 1 on, network, and which of its maps that is: counted from the deepest, as they are compared."""
    count = min(len(item.maps) for item in seen)
    return [(level, item, len(item.maps) - count + level - 1) for level in range(1, count + 1) for item in seen]


def answers(panel: Panel, row: int) -> list[tuple[str, bool]]:
    """What is said over a row, part by part, and whether it is right: the class, then each network's best guess."""
    label = panel.labels[row]
    parts = [(panel.classes[label], True)]
    for item in panel.seen:
        share, guess = item.logits[row].softmax(dim=0).max(dim=0)
        right = int(guess) == label
        verdict = "right" if right else panel.classes[int(guess)]
        parts.append((f"{item.role or 'answer'}: {verdict}, {share:.0%}", right))
    return parts
