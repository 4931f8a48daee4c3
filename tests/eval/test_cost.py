"""eval.run.cost: arithmetic against counts by hand and known figures, memory against what it must at least be."""

import pytest
import timm
import torch
from torch import nn

from dctkd_zoo import models, registry, weights
from eval.run import cost

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def bundled() -> weights.Weights:
    return weights.find(registry.get_entry("r20_synthscenes"))


def test_multiply_accumulates_by_hand():
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 10 * 10, 7))
    assert cost.macs(model, torch.zeros(1, 3, 10, 10)) == 3 * 8 * 9 * 100 + 800 * 7
    assert cost.macs(model, torch.zeros(4, 3, 10, 10)) == 4 * (3 * 8 * 9 * 100 + 800 * 7)


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("resnet18", 1.81e9, 1.82e9),  # torchvision's and timm's tables: 1.81 and 1.82 GMACs
        ("vit_tiny_patch16_224", 1.25e9, 1.27e9),  # timm's: 1.26, of which attention's products are 0.18
        ("swin_tiny_patch4_window7_224", 4.4e9, 4.6e9),  # Liu et al. (2021): 4.5
        ("cait_xxs24_224", 2.5e9, 2.6e9),  # Touvron et al. (2021): 2.5
        ("sequencer2d_s", 8.3e9, 8.5e9),  # Tatsunami and Taki (2022): 8.4, of which 3.4 in LSTMs
    ],
)
def test_multiply_accumulates_of_known_networks(name, low, high):
    model = timm.create_model(name).eval()
    assert low < cost.macs(model, torch.zeros(1, 3, 224, 224)) < high


def test_attention_in_one_operation_is_counted_as_its_products():
    width, heads, tokens = 64, 4, 50
    model = nn.TransformerEncoderLayer(width, heads, 2 * width, batch_first=True).eval()
    expected = tokens * width * 4 * width + 2 * tokens * tokens * width + 2 * tokens * width * 2 * width
    assert cost.macs(model, torch.zeros(1, tokens, width)) == expected


def test_counting_leaves_the_network_as_it_was():
    model = timm.create_model("levit_128s").eval()
    images = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        before = model(images)
        cost.macs(model, images)
        assert torch.equal(model(images), before)


def test_every_run_is_timed_but_those_that_warm_up():
    seen: list[int] = []
    model = nn.Identity()
    model.register_forward_hook(lambda *_: seen.append(1))
    taken = cost.seconds(model, torch.zeros(1), runs=7, warm_up=3)
    assert len(taken) == 7 and len(seen) == 10 and min(taken) > 0


@pytest.mark.slow  # a fresh process imports timm
def test_everything_is_measured(bundled):
    result = cost.measure(bundled, 32, CPU, batch_size=128, runs=10, rounds=1)
    assert result.parameters == models.parameters(models.load_any(bundled))
    assert 40e6 < result.macs < 42e6  # He et al. (2016): ResNet-20 on 32 px
    assert 0 < result.latency_ms <= result.latency_p95_ms < 5000
    assert result.images_per_s > 0 and (result.crop, result.batch_size, result.runs) == (32, 128, 10)
    assert result.device.startswith("cpu") and result.peak_note == ""
    layer = 128 * 16 * 32 * 32 * 4 / 2**20  # MiB of one map of the first stage
    assert result.peak_mib is not None and 2 * layer < result.peak_mib < 12 * layer


def test_cost_is_timed_in_float32(bundled, monkeypatch):
    seen = []

    def seconds(*_: object) -> list[float]:
        seen.append(torch.backends.cudnn.allow_tf32)
        return [1.0]

    monkeypatch.setattr(cost, "seconds", seconds)
    assert torch.backends.cudnn.allow_tf32, "torch rounds to TF32 unless told otherwise"
    monkeypatch.setattr(cost, "PEAKS", {})
    cost.measure(bundled, 32, CPU)
    assert seen == [False, False] and torch.backends.cudnn.allow_tf32


def test_memory_that_cannot_be_measured_has_a_reason(bundled, monkeypatch, tmp_path):
    images = torch.zeros(1, 3, 8, 8)
    monkeypatch.setattr("sys.executable", "/bin/false")
    assert cost.cpu_peak(nn.Identity(), bundled.folder, images) == cost.Peak(
        None, "the process that measures peak memory failed: status 1"
    )
    monkeypatch.setattr(cost, "STATUS", tmp_path / "status")
    assert "only on Linux" in cost.cpu_peak(nn.Identity(), bundled.folder, images).note
    assert "of type meta" in cost.unknown_peak(nn.Identity(), bundled.folder, images.to("meta")).note


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_peak_memory_of_a_gpu_leaves_out_what_others_hold_there(bundled):
    device = torch.device("cuda")
    alone = cost.measure(bundled, 32, device, batch_size=64, runs=5, rounds=1)
    others = torch.zeros(2**28, device=device)
    among = cost.measure(bundled, 32, device, batch_size=64, runs=5, rounds=1)
    assert alone.peak_mib is not None and among.peak_mib == pytest.approx(alone.peak_mib, rel=0.05)
    assert alone.peak_mib > 64 * 16 * 32 * 32 * 4 / 2**20
    del others
