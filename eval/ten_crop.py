"""A network's accuracy over ten crops of each image, as AlexNet's was told: no figure to compare with others here."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from dctkd_zoo.data.views import Views, Windows, centre_windows
from dctkd_zoo.device import exactly
from dctkd_zoo.features import Tapped, refuse_non_finite
from eval.table import BATCH_SIZE


def windows(views: Views) -> Iterator[Windows]:
    """The four corners and the centre of each image, and all of them mirrored."""
    centre = centre_windows(views.store, views.recipe)
    bottoms, rights = ((sides.cpu() - views.recipe.crop).long() for sides in (views.store.heights, views.store.widths))
    zero = torch.zeros_like(bottoms)
    places = [(zero, zero), (zero, rights), (bottoms, zero), (bottoms, rights), (centre.tops, centre.lefts)]
    for flip in (False, True):
        for tops, lefts in places:
            yield Windows(tops, lefts, torch.full_like(zero, flip, dtype=torch.bool))


def top1(student: Tapped, views: Views) -> float:
    """Share of the images, in percent, that the mean of the ten probabilities gets right."""
    total: Tensor | None = None
    labels = torch.empty(0)
    with exactly():
        for each in windows(views):
            batches = [
                (student(b.images).logits.softmax(1).cpu(), b.labels.cpu()) for b in views.walk(each, BATCH_SIZE)
            ]
            chances, labels = (torch.cat(parts) for parts in zip(*batches, strict=True))
            total = chances if total is None else total + chances
    assert total is not None
    refuse_non_finite(int((~total.isfinite().all(dim=1)).sum()), len(total), "ten crops: ")
    return 100 * (total.argmax(dim=1) == labels).double().mean().item()
