"""The fast training step against a plain one: neither layout nor fused passes change the losses."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dctkd_zoo import models
from dctkd_zoo.data.batch import Batch
from dctkd_zoo.device import to_device
from dctkd_zoo.features import FeatureExtractor
from dctkd_zoo.objective import Objective
from dctkd_zoo.schedules import Cosine
from dctkd_zoo.spec import Recipe
from train import loop, teacher_source
from train.optim import optimizer

STEPS = 20
RECIPE = Recipe(epochs=1, batch_size=16, lr=0.05, schedule=Cosine(), resize=32, crop=32, weight_decay=1e-4)
CPU = torch.device("cpu")


def networks() -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    return models.create("r14", 5).eval().requires_grad_(False), models.create("r8", 5)


def batches() -> list[Batch]:
    generator = torch.Generator().manual_seed(1)
    return [
        Batch(
            torch.randn(16, 3, 32, 32, generator=generator),
            torch.randint(5, (16,), generator=generator),
            torch.arange(16),
        )
        for _ in range(STEPS)
    ]


def dct(size: int) -> Tensor:
    n = torch.arange(size)
    matrix: Tensor = torch.cos(torch.pi * n[:, None] * (2 * n + 1) / (2 * size)) * (2 / size) ** 0.5
    matrix[0] /= 2**0.5
    return matrix


def plain_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """The DCT loss of one level by its formula."""
    spectra = []
    for features in (student, teacher):
        maps = features.pow(2).mean(1)
        maps = maps - maps.mean((1, 2), keepdim=True)
        matrix = dct(maps.shape[1])
        spectrum = matrix @ maps @ matrix.T
        low, high = spectrum.amin((1, 2), keepdim=True), spectrum.amax((1, 2), keepdim=True)
        spectra.append((spectrum - low) / (high - low))
    distance: Tensor = (spectra[0] - spectra[1]).pow(2).sum((1, 2)).sqrt()
    return distance


def plain_losses(rate: float) -> list[float]:
    """Contiguous networks, the terms written out, torch's SGD."""
    teacher, student = networks()
    sgd = torch.optim.SGD(student.parameters(), lr=rate, momentum=0.9, weight_decay=1e-4)
    values = []
    for batch in batches():
        with torch.no_grad():
            deep, guides = teacher.forward_intermediates(batch.images)  # type: ignore[operator]
            taught = teacher.forward_head(deep)  # type: ignore[operator]
        deep, maps = student.forward_intermediates(batch.images)  # type: ignore[operator]
        logits = student.forward_head(deep)  # type: ignore[operator]
        right = taught.argmax(1) == batch.labels
        distance = sum(plain_distance(s, t) for s, t in zip(maps, guides, strict=True))
        assert isinstance(distance, Tensor)
        soft = F.kl_div(F.log_softmax(logits / 4, 1), F.softmax(taught / 4, 1), reduction="batchmean") * 16
        loss = 0.1 * F.cross_entropy(logits, batch.labels) + (distance * right).mean() + soft
        sgd.zero_grad()
        loss.backward()
        sgd.step()
        values.append(loss.item())
    return values


def fast_losses(rate: float) -> list[float]:
    """The zoo's own step."""
    teacher, student = (to_device(network, CPU) for network in networks())
    objective = Objective({"ce": 0.1, "dctkd": 1.0, "kd": 1.0}, {"dctkd": {"transform": "dct2", "guided": True}})
    online = teacher_source.OnlineTeacher(FeatureExtractor(teacher), torch.float32, features=False)
    recipe = replace(RECIPE, lr=rate)
    sgd = optimizer(student, (), recipe)
    state = loop.TrainState(FeatureExtractor(student), online, objective, objective, sgd, recipe, torch.float32)
    return [sum(value.item() for value in loop.step(state, batch, online.run).values()) for batch in batches()]


@pytest.mark.parametrize(
    ("dtype", "rate", "tolerance"),
    [
        (torch.float32, 0.001, 1e-4),
        (torch.float64, 0.05, 1e-10),  # at this rate a rounding in float32 grows tenfold a step
    ],
)
def test_twenty_losses_are_those_of_the_plain_step(dtype, rate, tolerance):
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        plain, fast = torch.tensor(plain_losses(rate)), torch.tensor(fast_losses(rate))
    finally:
        torch.set_default_dtype(before)
    torch.testing.assert_close(fast, plain, rtol=tolerance, atol=0)
    assert not torch.allclose(plain[1:], plain[:-1], rtol=0.01)
