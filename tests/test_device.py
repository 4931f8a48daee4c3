"""dctkd_zoo.device."""

import pytest
import torch
from torch import nn

from dctkd_zoo import device

CPU = torch.device("cpu")


def test_choose():
    assert device.choose("cpu") == CPU
    assert device.choose().type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize("name", ["nonsense", "", "cuda:99", "hpu", "mps:7", "xla"])
def test_device_that_is_not_there(name):
    with pytest.raises(ValueError, match=f"device '{name}' cannot be used: ."):
        device.choose(name)


def test_precision_is_measured_once(monkeypatch):
    device.precision.cache_clear()
    found = device.precision(CPU)
    assert found in (torch.float32, torch.bfloat16)
    monkeypatch.setattr(device, "_timed", lambda work: pytest.fail("measured again"))
    assert device.precision(CPU) is found


@pytest.mark.parametrize(("bfloat16", "due"), [(0.5, torch.bfloat16), (5.0, torch.float32), (1.0, torch.float32)])
def test_precision_is_the_faster_one(monkeypatch, bfloat16, due):
    times = iter([bfloat16] * 6 + [1.0] * 6)
    monkeypatch.setattr(device, "_timed", lambda work: next(times))
    device.precision.cache_clear()
    assert device.precision(CPU) is due
    device.precision.cache_clear()


def test_autocast():
    a = torch.ones(4, 4)
    with device.autocast(CPU, torch.bfloat16):
        assert (a @ a).dtype == torch.bfloat16
    with device.autocast(CPU, torch.float32):
        assert (a @ a).dtype == torch.float32


def test_place():
    model = device.place(nn.Conv2d(3, 4, 3), CPU)
    assert isinstance(model, nn.Conv2d) and model.weight.is_contiguous(memory_format=torch.channels_last)


def test_describe():
    described = device.describe(CPU)
    assert described.startswith("cpu (") and f"{torch.get_num_threads()} threads" in described
