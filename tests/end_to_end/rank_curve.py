"""Train a small network on the batches of one process or of several ranks, and write the losses of each step.

`python -m tests.end_to_end.rank_curve FILE TERM...`, alone or under torchrun; tests compare what both write.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from dctkd_zoo import distributed, models
from dctkd_zoo.data.batch import UNLABELLED, Batch
from dctkd_zoo.data.loader import ImageLoader
from dctkd_zoo.data.pixel_cache import open_pixel_cache
from dctkd_zoo.data.split import Arrays, Split
from dctkd_zoo.features import FeatureExtractor
from dctkd_zoo.objective import Objective
from dctkd_zoo.schedules import Cosine, Ramp, Step
from dctkd_zoo.spec import Dataset, Recipe
from dctkd_zoo.sync_batchnorm import accept_single_values, to_sync_batchnorm
from tests.world import SOAK
from train import loop, teacher_source
from train.optim import averaged, optimizer

CPU = torch.device("cpu")
CLASSES, BATCH, EPOCHS = 3, 8, 6
IMAGES = 8 * BATCH + 1  # so that the last batch has fewer images than ranks
# In float32 rounding grows with the rate, in one process as in two; float64 shows that the arithmetic is the same.
RATES = {torch.float32: 3e-5, torch.float64: 2e-2}
LENGTHS = {torch.float32: EPOCHS, torch.float64: EPOCHS if SOAK else 3}
STARTS = {torch.float32: 0, torch.float64: 8}  # as a run resumed there: its first batch is that of one image
RECIPE = Recipe(EPOCHS, BATCH, lr=0.0, schedule=Cosine(0.2), resize=26, crop=24, weight_decay=5e-4)
OPTIONS = {"crd": {"count": 32}}
# Correlations of the nearly equal predictions of an untrained network have large gradients, and so has their rounding.
WEIGHTS = {"at": 100.0, "ckd": 1.0, "dist": 0.1, "fft": 100.0, "sp": 100.0}
VECTORS = " of vectors"
FIELDS: dict[str, dict[str, Any]] = {  # of the recipe, by what follows a term's name
    "blended": {"mixup": 0.4, "cutmix": 1.0},
    "unlabelled": {"unlabelled": True},
    "clipped": {"clip_grad": 0.3, "warmup": 1.0, "schedule": Step(2), "ema": 0.9, "ramps": {"ce": Ramp(1.0, 0.5, 1.0)}},
}


def views(cache: Path) -> ImageLoader:
    """Noise whose brightness tells the class, so that there is something to learn."""
    rng = np.random.default_rng(0)
    labels = rng.integers(CLASSES, size=IMAGES)
    pixels = rng.integers(0, 128, (IMAGES, 26, 28, 3)) + 20 * labels[:, None, None, None]
    images = Arrays(pixels.astype(np.uint8))
    split = Split(tuple("abc"), tuple(map(str, range(IMAGES))), labels, images)
    dataset = Dataset("noise", "Noise", "folders", CLASSES, IMAGES, 0)
    return ImageLoader(open_pixel_cache(split, RECIPE, cache), torch.from_numpy(labels), RECIPE, dataset, CPU)


def curve(name: str, seen: ImageLoader, dtype: torch.dtype) -> list[float]:
    """The loss at each step, the mean over all ranks, of cross-entropy and a term, `dctkd` or `dctkd+correct`.

    Of `VECTORS` the student normalises its pooled vector too, as LeViT does. `dctkd blended` is by other `FIELDS` of
    the recipe; every third image is unlabelled if it has such. With averaged weights, their norm is the last value.
    """
    called, _, kind = name.partition(" ")
    term, _, reduction = called.partition("+")
    recipe = replace(RECIPE, lr=RATES[dtype], **FIELDS.get(kind, {}))
    labels = torch.where(torch.arange(IMAGES) % 3 == 0, UNLABELLED, seen.labels) if recipe.unlabelled else seen.labels
    seen = replace(seen, recipe=recipe, labels=labels)
    torch.manual_seed(0)
    teacher = FeatureExtractor(models.create("r14", CLASSES).eval().requires_grad_(False)).to(dtype)
    network: Any = models.create("r8", CLASSES)
    if name.endswith(VECTORS):
        network.fc = nn.Sequential(nn.BatchNorm1d(network.num_features, affine=False), network.fc)
    student = FeatureExtractor(network).to(dtype)
    objective = Objective(
        {"ce": 1.0} | ({term: WEIGHTS.get(term, 1.0)} if term != "ce" else {}), _options(term, reduction)
    )
    images = next(seen.test(BATCH)).images.to(dtype)
    student.eval()
    objective.enable_class_maps((student, teacher), images)
    with torch.no_grad():
        objective.setup(student(images), teacher(images), seen.labels)
    objective.to(dtype)
    for module in (student, objective):
        to_sync_batchnorm(module, CPU)
    accept_single_values(student)
    sgd = optimizer(student.model, objective.parameters(), recipe)
    live = teacher_source.OnlineTeacher(teacher, torch.float32)
    average = averaged(student.model, recipe)
    learner = loop.TrainState(student, live, objective, objective, sgd, recipe, torch.float32, average=average)
    values: list[float] = []
    step = loop.step

    def kept(learner: loop.TrainState, batch: Batch, *rest: object) -> dict[str, torch.Tensor]:
        losses = step(learner, batch._replace(images=batch.images.to(dtype)), *rest)  # type: ignore[arg-type]
        values.append(distributed.all_reduce_mean(torch.stack(list(losses.values())).sum()).item())
        return losses

    loop.step = kept  # type: ignore[assignment]
    try:
        for number in range(LENGTHS[dtype]):
            meter = loop.Meter(number + 1, steps=0 if number else STARTS[dtype])
            loop.epoch(learner, seen, 0, number, lambda done, losses: None, meter)
    finally:
        loop.step = step
    if average is not None:
        values.append(nn.utils.parameters_to_vector(average.module.parameters()).norm().item())
    return values


def _options(term: str, reduction: str) -> dict[str, dict[str, Any]]:
    return {term: OPTIONS.get(term, {}) | ({"reduction": reduction} if reduction else {})}


def main() -> None:
    """Write the curves of some terms, by the rank that leads."""
    file, *terms = sys.argv[1:]
    torch.set_num_threads(1)
    with distributed.process_group(CPU):
        seen = views(Path(file).parent / "cache")
        result = {f"{term} {dtype}": curve(term, seen, dtype) for dtype in RATES for term in terms}
        if distributed.is_primary():
            Path(file).write_text(json.dumps(result))


if __name__ == "__main__":
    main()
