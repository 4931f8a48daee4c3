"""Predictions for image files: class probabilities and the activation maps of each level."""

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
from torch import Tensor, nn

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
    """A network on a device, with its class names and preprocessing.

    `transform` is the preprocessing its weights were evaluated with, from their `config.json`.
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
    """A network's output for the image `path`: probabilities (K,) float64 and an activation map (H, W) per level.

    `image` is the preprocessed image; `notes` say what may be unexpected about it.
    """

    path: Path
    probabilities: Tensor
    maps: tuple[Tensor, ...]
    image: Image.Image
    notes: tuple[str, ...]

    def top(self, count: int) -> list[tuple[int, float]]:
        """Return the `count` most likely classes and their probabilities; all of them if there are fewer."""
        values, labels = self.probabilities.topk(min(count, len(self.probabilities)))
        return list(zip(labels.tolist(), values.tolist(), strict=True))


@dataclass(frozen=True)
class Failure:
    """An image that could not be classified, and why."""

    path: Path
    reason: str


@dataclass(frozen=True)
class _Opened:
    """An image prepared for the network."""

    path: Path
    tensor: Tensor
    notes: tuple[str, ...]


def load(entry: Entry, device: torch.device, source: str | None = None) -> Predictor:
    """Load an entry with its own weights, or with those of a folder or `hf-hub:org/name@rev`.

    `WeightsNotFound` if there are none, or if they have another number of classes than the entry.
    """
    checkpoint = weights.find(entry) if source is None else weights.locate(source)
    model = models.load(entry.arch, checkpoint)
    expected, count = registry.get_dataset(entry.dataset).num_classes, int(model.num_classes)  # type: ignore[arg-type]
    if count != expected:
        raise WeightsNotFound(
            f"{entry.name} has {expected:,} classes, but the weights in {checkpoint.folder} have {count:,}"
        )
    return _predictor(entry.name, checkpoint, model, device)


def load_external(source: str, device: torch.device) -> Predictor:
    """Load a network that is no entry, from a folder in timm's format, `local-dir:PATH` or `hf-hub:org/name@rev`."""
    checkpoint = weights.locate(source)
    name = str(weights.read_config(checkpoint.folder).get("architecture", "network"))
    return _predictor(name, checkpoint, models.load_any(checkpoint), device)


def _predictor(name: str, checkpoint: Weights, model: nn.Module, device: torch.device) -> Predictor:
    config = resolve_model_data_config(model)
    network = FeatureExtractor(to_device(model, device)).eval()
    transform = create_transform(**config, is_training=False)
    classes = class_names(checkpoint, int(model.num_classes))  # type: ignore[arg-type]
    return Predictor(name, network, checkpoint, classes, transform, config["mean"], config["std"], device)


def class_names(checkpoint: Weights, count: int) -> tuple[str, ...]:
    """Return the names of the outputs, which networks from elsewhere often lack."""
    names = weights.read_config(checkpoint.folder).get("label_names")
    if not isinstance(names, list):
        return tuple(f"output {label}" for label in range(count))
    if len(names) != count:
        raise CorruptWeights(f"{checkpoint.folder / weights.CONFIG}: {len(names):,} label_names for {count:,} classes")
    return tuple(map(str, names))


def predict(predictor: Predictor, paths: Sequence[Path]) -> Iterator[Prediction | Failure]:
    """Yield a prediction for each image in order, or a `Failure` if it cannot be read or its output is not finite."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # Pillow releases the GIL while it decodes
        for start in range(0, len(paths), BATCH_SIZE):
            chunk = list(pool.map(lambda path: _open(predictor, path), paths[start : start + BATCH_SIZE]))
            predictions = _run(predictor, [item for item in chunk if isinstance(item, _Opened)])
            for item in chunk:
                yield item if isinstance(item, Failure) else next(predictions)


def _open(predictor: Predictor, path: Path) -> _Opened | Failure:
    try:
        picture = decode.read(path)
        return _Opened(path, predictor.transform(picture.image), picture.notes)
    except Exception as error:  # whatever goes wrong with one image, the others go on
        return Failure(path, _reason(path, error))


def _reason(path: Path, error: Exception) -> str:
    match error.__cause__:
        case OSError(strerror=str(reason)):
            return reason
        case _:
            return reason_of(error).removeprefix(f"{path}: ")


def _run(predictor: Predictor, opened: Sequence[_Opened]) -> Iterator[Prediction | Failure]:
    """Run one batch in float32, as in evaluation."""
    if not opened:
        return
    images = torch.stack([item.tensor for item in opened])
    with fp32_inference():
        output = predictor.network(images.to(predictor.device, memory_format=torch.channels_last))
        probabilities = output.logits.double().softmax(dim=1).cpu()
        maps = [activation_map(level).cpu() for level in output.maps]
        is_finite = finite(output.tensors()).tolist()
    for row, item in enumerate(opened):
        if not is_finite[row]:
            yield Failure(item.path, "the network's output is not finite")
            continue
        image = _pixels(item.tensor, predictor)
        yield Prediction(item.path, probabilities[row], tuple(level[row] for level in maps), image, item.notes)


def _pixels(tensor: Tensor, predictor: Predictor) -> Image.Image:
    """Convert a normalised tensor (3, H, W) back to an image."""
    mean, std = (torch.tensor(value).view(3, 1, 1) for value in (predictor.mean, predictor.std))
    values = (tensor * std + mean).mul(255).round().clamp(0, 255).byte()
    return Image.fromarray(values.permute(1, 2, 0).numpy())
