"""dctkd_zoo.device."""

import subprocess
import sys
from pathlib import Path

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
    ("avx512", "amx", "expected"),
    [(True, False, torch.bfloat16), (False, True, torch.bfloat16), (False, False, torch.float32)],
)
def test_precision_is_bfloat16_where_the_processor_has_it(monkeypatch, avx512, amx, expected):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    assert device.amp_dtype(CPU) is expected


def test_precision_is_what_the_kernel_says_of_the_processor():
    cpuinfo = Path("/proc/cpuinfo")
    if not cpuinfo.is_file():
        pytest.skip("no /proc/cpuinfo here")
    words = cpuinfo.read_text().split()
    native = "avx512_bf16" in words or "amx_tile" in words
    assert device.amp_dtype(CPU) is (torch.bfloat16 if native else torch.float32)


def test_autocast():
    a = torch.ones(4, 4)
    with device.autocast(CPU, torch.bfloat16):
        assert (a @ a).dtype == torch.bfloat16
    with device.autocast(CPU, torch.float32):
        assert (a @ a).dtype == torch.float32


def test_place():
    model = device.to_device(nn.Conv2d(3, 4, 3), CPU)
    assert isinstance(model, nn.Conv2d) and model.weight.is_contiguous(memory_format=torch.channels_last)


def test_describe():
    described = device.describe(CPU)
    assert described.startswith("cpu (") and f"{torch.get_num_threads()} threads" in described


ROUNDING = """
import torch
from dctkd_zoo import device

def settings():
    found = {}
    for name in ("cudnn.conv", "cudnn.rnn", "cuda.matmul", "mkldnn.conv", "mkldnn.rnn", "mkldnn.matmul"):
        place = torch.backends
        for part in name.split("."):
            place = getattr(place, part)
        found[name] = place.fp32_precision
    return found

a, b = torch.randn(2, 256, 256, generator=torch.Generator().manual_seed(0))
due = a @ b
SETTING
before, rounded = settings(), a @ b
with device.full_float32(), device.exactly():
    assert set(settings().values()) == {"ieee"}, settings()
    assert torch.is_inference_mode_enabled()
    assert torch.backends.cudnn.allow_tf32 is False and torch.get_float32_matmul_precision() == "highest"
    assert torch.equal(a @ b, due)
assert settings() == before, settings()
assert torch.equal(a @ b, rounded)
"""


@pytest.mark.parametrize(
    "setting",
    [
        "torch.backends.cudnn.allow_tf32 = True",
        "torch.backends.cuda.matmul.allow_tf32 = True",
        "torch.set_float32_matmul_precision('medium')",
        "torch.backends.fp32_precision = 'tf32'",
        "torch.backends.cudnn.conv.fp32_precision = 'ieee'",
        "torch.backends.mkldnn.matmul.fp32_precision = 'bf16'",
    ],
)
def test_float32_is_float32_whatever_torch_was_told(setting):
    """In a process of its own: what torch was told stays."""
    code = ROUNDING.replace("SETTING", setting)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_a_gpus_convolutions_have_float32s_digits():
    a, w = torch.randn(4, 64, 32, 32), torch.randn(64, 64, 3, 3)
    with device.full_float32():
        result = torch.conv2d(a.cuda(), w.cuda()).cpu()
    torch.testing.assert_close(result, torch.conv2d(a, w), rtol=1e-4, atol=1e-3)
