"""The number format of training: given, as before, or measured."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console

from dctkd_zoo import registry
from dctkd_zoo._io import json_file
from dctkd_zoo.data.batch import Batch
from dctkd_zoo.device import amp_dtype
from train import checkpoint, precision, run
from train.config import TrainConfig

CPU = torch.device("cpu")
NATIVE = amp_dtype(CPU) == torch.bfloat16
CONFIG = TrainConfig(None, Path("nowhere"), CPU)


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """Where measurements are kept."""
    monkeypatch.setenv("DCTKD_ZOO_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def batch(side, count=precision.IMAGES):
    images = torch.randn(count, 3, side, side).to(memory_format=torch.channels_last)
    return Batch(images, torch.arange(count) % 5, torch.arange(count))


def choose(name, images=1_000_000, config=CONFIG, resumed=None):
    with Path("/dev/null").open("w") as null:
        entry = registry.get_entry(name)
        entry = replace(entry, recipe=replace(entry.recipe, precision=""))  # left open
        return precision.chosen(entry, batch(64), images, config, Console(file=null), resumed)


def test_what_is_given_holds():
    for name in ("float32", "bfloat16"):
        assert choose("el0_scene15.px224", config=replace(CONFIG, precision=name)) == name


def test_a_short_run_is_not_measured(monkeypatch):
    monkeypatch.setattr(precision, "speed_of_float32", lambda *_: pytest.fail("measured"))
    assert choose("el0_scene15.px224", images=1_000) is None


@pytest.mark.skipif(not NATIVE, reason="this processor has no instructions for bfloat16: float32 is the only choice")
@pytest.mark.parametrize(("ratio", "expected"), [(1.57, "float32"), (1.11, "float32"), (1.1, None), (0.5, None)])
def test_float32_is_chosen_where_it_is_measured_to_be_faster(ratio, expected, monkeypatch):
    """Here 1.57 was measured for EfficientNet-Lite0 at 112 px and 0.5 for ResNet-18; a test cannot time it."""
    measured = []

    def measure(entry, *_):
        measured.append(entry.name)
        return ratio

    monkeypatch.setattr(precision, "speed_of_float32", measure)
    assert choose("r18_scene15") == expected and measured == ["r18_scene15"]


def test_a_measurement_is_kept_for_the_same_network_and_images(home, monkeypatch):
    measured = []

    def measure(entry, *_):
        measured.append(entry.arch)
        return 1.5

    monkeypatch.setattr(precision, "speed_of_float32", measure)
    entry, other = registry.get_entry("r18_scene15"), registry.get_entry("mbv2_scene15")
    for _ in range(2):
        assert precision.kept(entry, batch(64), CONFIG) == 1.5
    assert measured == ["r18"]
    precision.kept(entry, batch(96), CONFIG), precision.kept(other, batch(64), CONFIG)
    assert measured == ["r18", "r18", "mbv2"]
    for path in home.rglob("*.json"):
        path.write_text("damaged")
    assert precision.kept(entry, batch(64), CONFIG) == 1.5 and len(measured) == 4
    assert precision.kept(entry, batch(64), CONFIG) == 1.5 and len(measured) == 4
    monkeypatch.setattr(json_file, "write_sealed", lambda *_: Path("/nowhere").stat())  # a full disk
    precision.kept(other, batch(32), CONFIG)


def test_measuring_leaves_the_random_state_alone():
    images = batch(32)
    before = torch.get_rng_state()
    assert precision.speed_of_float32(registry.get_entry("r18_scene15"), images, CONFIG) > 0
    assert torch.equal(torch.get_rng_state(), before)


def test_a_resumed_run_goes_on_as_it_began(tmp_path):
    network = torch.nn.Linear(2, 2)
    sgd = torch.optim.SGD(network.parameters(), lr=0.1)
    default, other = ("bfloat16", "float32") if NATIVE else ("float32", "bfloat16")
    for name, expected in ((default, None), (other, other)):
        progress = checkpoint.Progress({"precision": f"torch.{name}"})
        checkpoint.save(tmp_path, progress, network, torch.nn.Module(), sgd)
        assert choose("el0_scene15.px224", resumed=checkpoint.load(tmp_path).progress) == expected


def test_a_recipe_that_names_one_is_trained_in_it_unless_told_otherwise():
    entry = registry.get_entry("el0_scene15.px224")
    assert entry.recipe.precision == "float32"

    def chosen(config):
        return precision.chosen(entry, batch(32, 2), 10, config, Console(quiet=True))

    assert chosen(CONFIG) == "float32"
    assert chosen(replace(CONFIG, precision="bfloat16")) == "bfloat16"
    assert run.command(entry, CONFIG) == run.command(entry, replace(CONFIG, precision="float32"))
    assert run.command(entry, replace(CONFIG, precision="bfloat16")).endswith("--precision bfloat16")
