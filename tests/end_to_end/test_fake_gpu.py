"""What runs on a GPU, without one: torch's fake tensors have a device, a type and a shape, but no values.

An operation on tensors of two devices fails as on a GPU, and so does one that would wait for a value.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from dctkd_zoo import models
from dctkd_zoo.data.batch import Batch
from dctkd_zoo.device import fp32_inference
from dctkd_zoo.features import FeatureExtractor
from dctkd_zoo.losses import Term
from eval.metrics._cka import LinearCKA
from eval.run import per_image, protocol
from tests.dctkd_zoo import test_losses

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="the tests of a GPU run on a real one here")


@pytest.fixture(scope="module")
def fake() -> FakeTensorMode:
    """One for all tests: constants that are computed once must not be those of another."""
    return FakeTensorMode(allow_non_fake_inputs=True)


@pytest.fixture
def gpu(fake: FakeTensorMode) -> Iterator[None]:
    with fake:
        yield


def moved(tensor: Tensor) -> Tensor:
    return torch.empty(tensor.shape, dtype=tensor.dtype, device="cuda", requires_grad=tensor.requires_grad)


def move(module: nn.Module) -> None:
    for part in module.modules():
        for name, parameter in part.named_parameters(recurse=False):
            setattr(part, name, nn.Parameter(moved(parameter.data), parameter.requires_grad))
        for name, buffer in part.named_buffers(recurse=False):
            part.register_buffer(name, moved(buffer), name not in part._non_persistent_buffers_set)


def ready(name: str, options: dict[str, object]) -> Term:
    student, teacher, _ = test_losses.sides()
    return test_losses.ready(name, options, student, teacher).train()


@test_losses.every_term
def test_a_term_stays_on_the_device_of_its_batch(name, options, fake):
    term = ready(name, options)  # before: the set-up reads labels and shapes of bands on the CPU
    student, teacher, batch = test_losses.sides()
    with fake:
        move(term)
        sides = (test_losses.mapped(moved, side) for side in (student, teacher))
        value = term(*sides, Batch(*map(moved, batch[:3])))
    assert value.shape == (6,)
    assert value.device.type == "cuda"
    assert value.dtype == torch.float32


def test_a_batch_of_an_evaluation_stays_on_the_device(fake):
    networks = [FeatureExtractor(models.create(arch, 15).eval()) for arch in ("r18", "r50")]
    metrics = protocol.image_metrics("exact", teacher=True)
    with fake, fp32_inference():
        for network in networks:
            move(network)
        student, teacher = networks
        images, labels = torch.empty(4, 3, 64, 64, device="cuda"), torch.empty(4, dtype=torch.long, device="cuda")
        outputs = teacher(images)
        columns = per_image.measure(
            student,
            per_image.References(lambda _: outputs, partner=torch.empty(4, dtype=torch.long)),
            Batch(images, labels, labels),
            True,
            metrics,
            per_image.CKAMeter([LinearCKA() for _ in outputs.maps]),
        )
    assert {"top1", "agreement", "spectral.1", "chance.ssim.4"} <= columns.keys()
    assert all(len(values) == 4 and values.device.type == "cuda" for values in columns.values())


def test_a_tensor_left_on_the_cpu_is_noticed(gpu):
    with pytest.raises(RuntimeError, match="device"):
        torch.empty(3, device="cuda") + torch.empty(3)
