"""dctkd_zoo.device."""

from pathlib import Path
from typing import Any

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


@pytest.mark.parametrize(
    ("avx512", "amx", "due"),
    [(True, False, torch.bfloat16), (False, True, torch.bfloat16), (False, False, torch.float32)],
)
def test_precision_is_bfloat16_where_the_processor_has_it(monkeypatch, avx512, amx, due):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    assert device.precision(CPU) is due


def test_precision_is_what_the_kernel_says_of_the_processor():
    cpuinfo = Path("/proc/cpuinfo")
    if not cpuinfo.is_file():
        pytest.skip("no /proc/cpuinfo here")
    words = cpuinfo.read_text().split()
    native = "avx512_bf16" in words or "amx_tile" in words
    assert device.precision(CPU) is (torch.bfloat16 if native else torch.float32)


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


def test_float32_is_not_rounded_inside_and_all_is_as_before_outside():
    cudnn: Any = torch.backends.cudnn
    backends = (cudnn.conv, cudnn.rnn, torch.backends.cuda.matmul)

    def precisions():
        return [backend.fp32_precision for backend in backends]

    before = precisions()
    with device.full_float32():
        assert precisions() == ["ieee"] * 3
    with pytest.raises(KeyError), device.exactly():
        assert precisions() == ["ieee"] * 3 and torch.is_inference_mode_enabled()
        raise KeyError
    assert precisions() == before


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_a_gpus_convolutions_have_float32s_digits():
    a, w = torch.randn(4, 64, 32, 32), torch.randn(64, 64, 3, 3)
    with device.full_float32():
        found = torch.conv2d(a.cuda(), w.cuda()).cpu()
    torch.testing.assert_close(found, torch.conv2d(a, w), rtol=1e-4, atol=1e-3)
