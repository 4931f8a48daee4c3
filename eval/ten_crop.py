"""A network's accuracy over ten crops of each image, as AlexNet's was told: no figure to compare with others here."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from dctkd_zoo.data.loader import CropParams, ImageLoader, centre_crops
from dctkd_zoo.device import fp32_inference
from dctkd_zoo.features import FeatureExtractor, refuse_non_finite
from eval.run.per_image import BATCH_SIZE


def windows(views: ImageLoader) -> Iterator[CropParams]:
    """The four corners and the centre of each image, and all of them mirrored."""
    centre = centre_crops(views.store, views.recipe)
    bottoms, rights = ((sides.cpu() - views.recipe.crop).long() for sides in (views.store.heights, views.store.widths))
    zero = torch.zeros_like(bottoms)
    places = [(zero, zero), (zero, rights), (bottoms, zero), (bottoms, rights), (centre.tops, centre.lefts)]
    for flip in (False, True):
        for tops, lefts in places:
            yield CropParams(tops, lefts, torch.full_like(zero, flip, dtype=torch.bool))


def top1(student: FeatureExtractor, views: ImageLoader) -> float:
    """Share of the images, in percent, that the mean of the ten probabilities gets right."""
    total: Tensor | None = None
    labels = torch.empty(0)
    with fp32_inference():
        for item in windows(views):
            batches = [
                (student(b.images).logits.softmax(1).cpu(), b.labels.cpu())
                for b in views.iter_ordered(item, BATCH_SIZE)
            ]
            chances, labels = (torch.cat(parts) for parts in zip(*batches, strict=True))
            total = chances if total is None else total + chances
    assert total is not None
    refuse_non_finite(int((~total.isfinite().all(dim=1)).sum()), len(total), "ten crops: ")
    return 100 * (total.argmax(dim=1) == labels).double().mean().item()
