"""The DCT loss term: speed against the released loss, and share of a training step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from benchmarks.fixtures import images, learners, released
from benchmarks.harness.measure import FASTER, MILLISECONDS, SHARE, Comparison
from benchmarks.harness.orders import Work
from benchmarks.harness.setting import Setting
from benchmarks.harness.sides import Timed
from dctkd_zoo.attention import activation_map
from dctkd_zoo.data.batch import Batch
from dctkd_zoo.device import amp_dtype, autocast
from dctkd_zoo.features import Output
from dctkd_zoo.losses.dctkd import spectral_distance
from dctkd_zoo.objective import Objective
from dctkd_zoo.spectrum import dct2
from train import compile

STUDENT, TEACHER = (64, 128, 256, 512), (256, 512, 1024, 2048)  # channels of ResNet-18 and ResNet-50
STRIDES = (4, 8, 16, 32)


@contextmanager
def term(setting: Setting) -> Iterator[Comparison]:
    """Compare forward and backward from the features of a training step, compiled as in a long run."""
    yield against_released(setting, "DCT term, in a run", dct_term(setting, setting.steps))


@contextmanager
def eager(setting: Setting) -> Iterator[Comparison]:
    """Compare the same without compilation, as in a short run."""
    yield against_released(setting, "DCT term, eager", dct_term(setting, steps=0))


def against_released(setting: Setting, what: str, ours: Work) -> Comparison:
    """Return the comparison with the released loss on the same features, which it gets contiguous and in float32."""
    student, teacher = ([plain(f) for f in features(setting, channels)] for channels in (STUDENT, TEACHER))
    require_grad(student)

    def theirs() -> None:
        torch.autograd.grad(released.distance(student, teacher).mean(), student)

    return Comparison(what, "released loss", Timed(ours), Timed(theirs), FASTER, MILLISECONDS, setting.rounds)


@contextmanager
def spectra(setting: Setting) -> Iterator[Comparison]:
    """Compare transforms and distances only, starting from activation maps."""
    student, teacher = ([activation_map(f) for f in features(setting, channels)] for channels in (STUDENT, TEACHER))
    require_grad(student)

    def ours() -> None:
        pairs = zip(student, teacher, strict=True)
        levels = torch.stack([spectral_distance(s, t, dct2) for s, t in pairs])
        torch.autograd.grad(levels.sum(dim=0).mean(), student)

    def theirs() -> None:
        torch.autograd.grad(released.distance_of_maps(student, teacher).mean(), student)

    yield Comparison("from maps on", "released, fft2", Timed(ours), Timed(theirs), FASTER, MILLISECONDS, setting.rounds)


@contextmanager
def share(setting: Setting) -> Iterator[Comparison]:
    """Measure the term as a share of the time of a whole training step."""
    views = images.views(setting)
    state, batch = learners.live_learner(views, learners.KD, setting.steps), next(views.train(0, 0))
    step = Timed(lambda: learners.step(state, batch))
    term = Timed(dct_term(setting, setting.steps))
    yield Comparison("DCT term", "whole step", term, step, SHARE, MILLISECONDS, setting.slow_rounds)


def dct_term(setting: Setting, steps: int) -> Work:
    """Return the term's forward and backward pass on the features of a step, as in a run of `steps` steps."""
    device = setting.device
    student, teacher = features(setting, STUDENT), features(setting, TEACHER)
    require_grad(student)
    logits = torch.zeros(setting.batch, images.CLASSES, device=device)
    labels = torch.zeros(setting.batch, dtype=torch.long, device=device)
    student_output, teacher_output = (Output(logits, tuple(maps), logits) for maps in (student, teacher))
    batch = Batch(logits, labels, labels)
    objective = Objective({"dctkd": 1.0}, {"dctkd": {"transform": "dct2", "guided": False}})
    term = compile.compile_objective(objective, steps, setting.batch)

    def work() -> None:
        with autocast(device, amp_dtype(device)):
            value = term(student_output, teacher_output, batch)["dctkd"]
        torch.autograd.grad(value, student)

    return work


def features(setting: Setting, channels: Sequence[int]) -> list[Tensor]:
    """Return random features like those of a step: non-negative, channels last, in the device's precision."""
    generator = torch.Generator().manual_seed(sum(channels))
    device, result = setting.device, []
    for count, stride in zip(channels, STRIDES, strict=True):
        side = -(-setting.crop // stride)
        values = torch.randn(setting.batch, count, side, side, generator=generator).relu()
        result.append(values.to(device, amp_dtype(device), memory_format=torch.channels_last))
    return result


def plain(features: Tensor) -> Tensor:
    """Return the same features as the released code has them: float32 and contiguous."""
    return features.float().contiguous()


def require_grad(tensors: Sequence[Tensor]) -> None:
    """Turn on gradients."""
    for tensor in tensors:
        tensor.requires_grad_()
