"""Training as the released code does it, in own words: what the training of this project is compared with.

A loader decodes JPEG files anew each epoch; networks, features and loss are float32 and contiguous; the
teacher runs each step; the spectra are FFTs (docs/method.md, D-2).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from benchmarks import images
from benchmarks.learners import STUDENT, TEACHER
from benchmarks.orders import Work
from benchmarks.setting import Setting
from dctkd_zoo import models
from dctkd_zoo.features import run


class Jpegs(Dataset[tuple[Tensor, int]]):
    """Image files with labels, decoded and transformed one by one."""

    def __init__(self, paths: Sequence[Path], labels: Sequence[int], transform: Callable[[Image.Image], Tensor]):
        self.paths, self.labels, self.transform = paths, labels, transform

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.open(self.paths[index]).convert("RGB")), self.labels[index]


def loader(setting: Setting) -> DataLoader[tuple[Tensor, int]]:
    """Shuffled batches, made by a process per core; these stay alive, so that a short epoch does not pay for them."""
    split, data = images.split(setting, setting.images), images.dataset()
    transform = transforms.Compose(
        [
            transforms.Resize(setting.resize),
            transforms.RandomCrop(setting.crop),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize(data.mean, data.std),
        ]
    )
    root = images.root(split)
    jpegs = Jpegs([root / name for name in split.ids], split.labels.tolist(), transform)
    workers, pinned = os.cpu_count() or 1, torch.cuda.is_available()
    return DataLoader(
        jpegs, setting.batch, shuffle=True, num_workers=workers, pin_memory=pinned, persistent_workers=True
    )


def spread(values: Tensor) -> Tensor:
    """Each map (B, H, W) on [0, 1]."""
    flat = values.flatten(1)
    low, high = flat.min(dim=1).values[:, None, None], flat.max(dim=1).values[:, None, None]
    return (values - low) / (high - low)


def spectrum(maps: Tensor) -> Tensor:
    """Activation maps (B, H, W) to the real part of their Fourier transform, on [0, 1]."""
    free = maps - maps.mean(dim=(1, 2), keepdim=True)
    return spread(torch.fft.fft2(free).real)


def distance_of_maps(student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
    """L2 norm of the difference of the spectra of maps (B, H, W), summed over the levels -> (B,)."""
    levels = [
        torch.norm((spectrum(ours) - spectrum(theirs)).flatten(1), dim=1)
        for ours, theirs in zip(student, teacher, strict=True)
    ]
    return torch.stack(levels).sum(dim=0)


def activation(features: Tensor) -> Tensor:
    """Mean of the squared features (B, C, H, W) over the channels, on [0, 1] -> (B, H, W)."""
    return spread(features.pow(2).mean(dim=1))


def distance(student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
    """The loss per image of features (B, C, H, W) -> (B,)."""
    return distance_of_maps([activation(f) for f in student], [activation(f) for f in teacher])


def stepper(setting: Setting) -> Callable[[Tensor, Tensor], float]:
    """Networks and optimizer; each call trains on one batch of pixels and labels and returns the loss."""
    torch.manual_seed(0)
    teacher = models.create(TEACHER, images.CLASSES).eval().to(setting.device)
    student = models.create(STUDENT, images.CLASSES).train().to(setting.device)
    recipe = images.recipe(setting)
    sgd = torch.optim.SGD(student.parameters(), recipe.lr, recipe.momentum, weight_decay=recipe.weight_decay)

    def step(pixels: Tensor, labels: Tensor) -> float:
        with torch.no_grad():
            theirs = run(teacher, pixels)
        ours = run(student, pixels)
        right = theirs.logits.argmax(dim=1) == labels
        loss = F.cross_entropy(ours.logits, labels) + (distance(ours.maps, theirs.maps) * right).mean()
        sgd.zero_grad()
        loss.backward()
        sgd.step()
        return loss.item()

    return step


def epochs(setting: Setting) -> Work:
    """Networks and data; each call trains on all images once."""
    where, step, batches = setting.device, stepper(setting), loader(setting)

    def epoch() -> None:
        for pixels, labels in batches:
            step(pixels.to(where), labels.to(where))

    return epoch
