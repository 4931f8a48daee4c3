"""Images in files to what a network says of each: a probability per class, and where it looked, level by level."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from timm.data.config import resolve_model_data_config
from timm.data.transforms_factory import create_transform
from torch import Tensor

from dctkd_zoo import models, registry, weights
from dctkd_zoo.attention import activation_map
from dctkd_zoo.data import decode
from dctkd_zoo.device import fp32_inference, to_device
from dctkd_zoo.errors import CorruptWeights, WeightsNotFound, reason_of
from dctkd_zoo.features import FeatureExtractor, finite
from dctkd_zoo.spec import Entry
from dctkd_zoo.weights import Weights

BATCH_SIZE = 64  # as in evaluation


@dataclass(frozen=True)
class Predictor:
    """A network on a device, the names of its outputs, and how images are prepared for it.

    That is how its weights were evaluated: `transform` is the one that their `config.json` tells.
    """

    name: str
    network: FeatureExtractor
    weights: Weights
    classes: tuple[str, ...]
    transform: Callable[[Image.Image], Tensor]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    device: torch.device


@dataclass(frozen=True)
class Prediction:
    """What a network makes of the image `path`: probabilities (K,) float64, activation maps (H, W) by level.

    `image` is what the network sees of it; `notes` say what a user might not expect of that.
    """

    path: Path
    probabilities: Tensor
    maps: tuple[Tensor, ...]
    image: Image.Image
    notes: tuple[str, ...]

    def top(self, count: int) -> list[tuple[int, float]]:
        """The `count` likeliest classes and their probabilities; all, where there are fewer."""
        values, labels = self.probabilities.topk(min(count, len(self.probabilities)))
        return list(zip(labels.tolist(), values.tolist(), strict=True))


@dataclass(frozen=True)
class Failure:
    """An image of which nothing can be said, and why."""

    path: Path
    reason: str


@dataclass(frozen=True)
class _Opened:
    """An image as the network takes it."""

    path: Path
    tensor: Tensor
    notes: tuple[str, ...]


def load(entry: Entry, device: torch.device, source: str | None = None) -> Predictor:
    """An entry with its own weights, or those of a folder or `hf-hub:org/name@rev`.

    `WeightsNotFound` where there are none, or they tell another number of classes than the entry.
    """
    result = weights.find(entry) if source is None else weights.locate(source)
    model = models.load(entry.arch, result)
    expected, count = registry.get_dataset(entry.dataset).num_classes, int(model.num_classes)  # type: ignore[arg-type]
    if count != expected:
        raise WeightsNotFound(
            f"{entry.name} tells {expected:,} classes, {result.folder} {count:,}: they are not its weights"
        )
    meta = resolve_model_data_config(model)
    network = FeatureExtractor(to_device(model, device)).eval()
    transform = create_transform(**meta, is_training=False)
    return Predictor(entry.name, network, result, _classes(result, count), transform, meta["mean"], meta["std"], device)


def _classes(found: Weights, count: int) -> tuple[str, ...]:
    """What the outputs are called; networks of others often do not say."""
    meta = weights.read_config(found.folder).get("label_names")
    if not isinstance(meta, list):
        return tuple(f"output {label}" for label in range(count))
    if len(meta) != count:
        raise CorruptWeights(f"{found.folder / weights.CONFIG}: {len(meta):,} label_names for {count:,} classes")
    return tuple(map(str, meta))


def predict(predictor: Predictor, paths: Sequence[Path]) -> Iterator[Prediction | Failure]:
    """What the network says of each image, in order; what cannot be read or answered is a `Failure`."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # Pillow lets go of the interpreter while it decodes
        for start in range(0, len(paths), BATCH_SIZE):
            chunk = list(pool.map(lambda path: _open(predictor, path), paths[start : start + BATCH_SIZE]))
            answers = _run(predictor, [item for item in chunk if isinstance(item, _Opened)])
            for item in chunk:
                yield item if isinstance(item, Failure) else next(answers)


def _open(predictor: Predictor, path: Path) -> _Opened | Failure:
    try:
        seen = decode.read(path)
        return _Opened(path, predictor.transform(seen.image), seen.notes)
    except Exception as error:  # whatever its bytes or its shape lead to, the other images go on
        return Failure(path, _reason(path, error))


def _reason(path: Path, error: Exception) -> str:
    match error.__cause__:
        case OSError(strerror=str(words)):
            return words
        case _:
            return reason_of(error).removeprefix(f"{path}: ")


def _run(predictor: Predictor, opened: Sequence[_Opened]) -> Iterator[Prediction | Failure]:
    """One pass for all, in float32 as evaluation computes."""
    if not opened:
        return
    images = torch.stack([item.tensor for item in opened])
    with fp32_inference():
        output = predictor.network(images.to(predictor.device, memory_format=torch.channels_last))
        probabilities = output.logits.double().softmax(dim=1).cpu()
        maps = [activation_map(level).cpu() for level in output.maps]
        answered = finite(output.tensors()).tolist()
    for row, item in enumerate(opened):
        if not answered[row]:
            yield Failure(item.path, "the network's answer is not a finite number")
            continue
        seen = _pixels(item.tensor, predictor)
        yield Prediction(item.path, probabilities[row], tuple(level[row] for level in maps), seen, item.notes)


def _pixels(tensor: Tensor, predictor: Predictor) -> Image.Image:
    """A normalised image (3, H, W) back to the picture it was."""
    mean, std = (torch.tensor(value).view(3, 1, 1) for value in (predictor.mean, predictor.std))
    values = (tensor * std + mean).mul(255).round().clamp(0, 255).byte()
    return Image.fromarray(values.permute(1, 2, 0).numpy())
