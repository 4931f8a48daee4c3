"""Predictions for images of any kind: class probabilities and the activation maps of each level."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from PIL import Image
from torch import Tensor, nn

from dctkd_zoo.data import image_input
from dctkd_zoo.data.image_input import Item, OneImage
from dctkd_zoo.device import fp32_inference
from dctkd_zoo.errors import InvalidImage, NonFiniteAnswers, reason_of
from dctkd_zoo.features import finite
from dctkd_zoo.predictor import Predictor, load, load_external, load_predictor

if TYPE_CHECKING:
    import pandas as pd

BATCH_SIZE = 64  # as in evaluation


class ClassProbability(NamedTuple):
    """A class by number and name, and its probability."""

    label: int
    class_name: str
    probability: float


@dataclass(frozen=True, repr=False)
class Prediction:
    """A network's output for one image: the probabilities (K,) float64 of `classes`.

    `path` is the image's file, None for an image in memory; `notes` say what may be unexpected about how it was read.
    On request, `maps` has an activation map (H, W) per level, and `image` is the preprocessed image below them.
    """

    path: Path | None
    classes: tuple[str, ...]
    probabilities: Tensor
    notes: tuple[str, ...]
    maps: tuple[Tensor, ...] = ()
    image: Image.Image | None = None

    @property
    def label(self) -> int:
        """The number of the most likely class."""
        return self.top(1)[0].label

    @property
    def class_name(self) -> str:
        """The name of the most likely class."""
        return self.top(1)[0].class_name

    @property
    def probability(self) -> float:
        """The probability of the most likely class."""
        return self.top(1)[0].probability

    def top(self, count: int) -> list[ClassProbability]:
        """Return the `count` most likely classes with their probabilities; all of them if there are fewer."""
        values, labels = self.probabilities.topk(min(count, len(self.probabilities)))
        return [
            ClassProbability(label, self.classes[label], value)
            for label, value in zip(labels.tolist(), values.tolist(), strict=True)
        ]

    def __repr__(self) -> str:
        return f"Prediction({self.class_name!r}, {self.probability:.4f}{f', {str(self.path)!r}' if self.path else ''})"


class Predictions(tuple[Prediction, ...]):
    """Predictions of one network, in the order of the images."""

    __slots__ = ()

    @property
    def class_names(self) -> list[str]:
        """The most likely class of each image."""
        return [prediction.class_name for prediction in self]

    @property
    def probabilities(self) -> Tensor:
        """The probabilities (N, K) of all classes, float64."""
        return torch.stack([prediction.probabilities for prediction in self])

    def to_pandas(self, top: int = 5) -> pd.DataFrame:
        """Return a table with a row per image and the columns of `dctkd-zoo predict --csv`."""
        import pandas as pd

        columns = table_columns(min(top, len(self[0].classes)))
        return pd.DataFrame([table_row(prediction, top) for prediction in self], columns=list(columns))


def table_columns(top: int) -> tuple[str, ...]:
    """Return the columns of a table of predictions with the `top` most likely classes."""
    others = [f"{name}_{rank}" for rank in range(2, top + 1) for name in ("class", "probability")]
    return ("path", "label", "class", "probability", *others, "notes")


def table_row(prediction: Prediction, top: int) -> dict[str, Any]:
    """Return a prediction's cells by the names of `table_columns`; notes are separated by semicolons."""
    best, *others = prediction.top(top)
    row: dict[str, Any] = {"path": str(prediction.path or ""), "label": best.label}
    row |= {"class": best.class_name, "probability": best.probability, "notes": "; ".join(prediction.notes)}
    for rank, item in enumerate(others, start=2):
        row |= {f"class_{rank}": item.class_name, f"probability_{rank}": item.probability}
    return row


@dataclass(frozen=True)
class Failure:
    """An image that could not be classified, and why."""

    path: Path
    reason: str


@dataclass(frozen=True)
class _Opened:
    """An image prepared for the network."""

    path: Path | None
    tensor: Tensor
    notes: tuple[str, ...]


def predict(
    images: OneImage | Iterable[OneImage],
    model: str | os.PathLike[str] | nn.Module | Predictor,
    *,
    device: str | torch.device | None = None,
    batch_size: int = BATCH_SIZE,
    maps: bool = False,
) -> Predictions:
    """Classify images of any kind; return a `Prediction` for each, also for a single one, in their order.

    Args:
        images: one image, a batch, or any iterable of both, which is read a batch at a time. An image is a path, the
            bytes of an image file, a PIL image, an array (H, W, 3) or a tensor (3, H, W); a batch is an array
            (N, H, W, 3) or a tensor (N, 3, H, W). Arrays and tensors are RGB, uint8 or floats from 0 to 1, which are
            multiplied by 255 and rounded to nearest; they must not be resized or normalised before.
        model: an entry's name, a folder of weights, `hf-hub:ORG/NAME`, a timm module, or what `load_predictor`
            returned, which saves loading the network each time.
        device: as in `load_predictor`.
        batch_size: images per forward pass. Probabilities depend on the batch in their last digits; with the same
            images in the same batches they are those of `dctkd-zoo predict`, bit for bit.
        maps: also keep the activation maps and the preprocessed image, about 200 kB per image of 224 px.

    Raises:
        InvalidImage: a `ValueError` that names the first image that cannot be classified, or says that there is none.
        NonFiniteAnswers: the network's output for an image is NaN or infinite.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size} but should be 1 or more")
    outcomes = _outcomes(load_predictor(model, device), image_input.items(images), batch_size, maps)
    results = Predictions(_or_raise(item, outcome) for item, outcome in outcomes)
    if not results:
        raise InvalidImage(f"images is empty: give at least one: {image_input.ACCEPTED}")
    return results


def _or_raise(item: Item, outcome: Prediction | Exception) -> Prediction:
    match outcome:
        case NonFiniteAnswers():
            raise NonFiniteAnswers(f"{item.name}: {outcome}")
        case Exception():
            raise InvalidImage(f"{item.name}: {reason_of(outcome)}") from outcome
    return outcome


def predict_files(predictor: Predictor, paths: Iterable[Path], maps: bool = True) -> Iterator[Prediction | Failure]:
    """Yield a prediction for each image in order, or a `Failure` if it cannot be read or its output is not finite."""
    for item, outcome in _outcomes(predictor, (Item(str(path), path) for path in paths), BATCH_SIZE, maps):
        if isinstance(outcome, Exception):
            yield Failure(Path(item.name), _reason(item.name, outcome))
        else:
            yield outcome


def _reason(name: str, error: Exception) -> str:
    match error.__cause__:
        case OSError(strerror=str(reason)):
            return reason
        case _:
            return reason_of(error).removeprefix(f"{name}: ")


def _outcomes(
    predictor: Predictor, items: Iterable[Item], batch_size: int, maps: bool
) -> Iterator[tuple[Item, Prediction | Exception]]:
    """Yield each image with its prediction, or with the error that it had; at most a batch is in memory."""
    waiting = iter(items)
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # Pillow releases the GIL while it decodes
        while batch := list(islice(waiting, batch_size)):
            opened = list(pool.map(partial(_open, predictor), batch))
            outcomes = _run(predictor, [result for result in opened if isinstance(result, _Opened)], maps)
            for item, result in zip(batch, opened, strict=True):
                yield item, result if isinstance(result, Exception) else next(outcomes)


def _open(predictor: Predictor, item: Item) -> _Opened | Exception:
    try:
        picture = image_input.picture(item)
        return _Opened(item.path, predictor.transform(picture.image), picture.notes)
    except Exception as error:  # whatever goes wrong with one image, the others go on
        return error


def _run(predictor: Predictor, opened: Sequence[_Opened], with_maps: bool) -> Iterator[Prediction | Exception]:
    """Run one batch in float32, as in evaluation."""
    if not opened:
        return
    images = torch.stack([item.tensor for item in opened])
    with fp32_inference():
        output = predictor.network(images.to(predictor.device, memory_format=torch.channels_last))
        probabilities = output.logits.double().softmax(dim=1).cpu()
        maps = [level.cpu() for level in output.activation_maps()] if with_maps else []
        is_finite = finite(output.tensors()).tolist()
    for row, item in enumerate(opened):
        if not is_finite[row]:
            yield NonFiniteAnswers("the network's output is not finite")
            continue
        image = _pixels(item.tensor, predictor) if with_maps else None
        levels = tuple(level[row] for level in maps)
        yield Prediction(item.path, predictor.classes, probabilities[row], item.notes, levels, image)


def _pixels(tensor: Tensor, predictor: Predictor) -> Image.Image:
    """Convert a normalised tensor (3, H, W) back to an image."""
    mean, std = (torch.tensor(value).view(3, 1, 1) for value in (predictor.mean, predictor.std))
    values = (tensor * std + mean).mul(255).round().clamp(0, 255).byte()
    return Image.fromarray(values.permute(1, 2, 0).numpy())


# In version 0.1 `dctkd_zoo.predict` was a module: until 0.2 the function has the names that were in it (see `_moved`).
vars(predict).update(
    Failure=Failure,
    Prediction=Prediction,
    Predictor=Predictor,
    load=load,
    load_external=load_external,
    predict=predict_files,
)
