"""The number format of training: given, as before, or measured."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console

from dctkd_zoo import registry
from dctkd_zoo.data.batch import Batch
from dctkd_zoo.device import amp_dtype
from train import checkpoint, precision, run
from train.config import TrainConfig

CPU = torch.device("cpu")
NATIVE = amp_dtype(CPU) == torch.bfloat16
CONFIG = TrainConfig(None, Path("nowhere"), CPU)


def batch(side, count=precision.IMAGES):
    images = torch.randn(count, 3, side, side).to(memory_format=torch.channels_last)
    return Batch(images, torch.arange(count) % 5, torch.arange(count))


def choose(name, images=1_000_000, folder=Path("nowhere"), config=CONFIG):
    with Path("/dev/null").open("w") as null:
        entry = registry.get_entry(name)
        entry = replace(entry, recipe=replace(entry.recipe, precision=""))  # left open
        return precision.chosen(entry, batch(64), images, config, folder, Console(file=null))


def test_what_is_given_holds():
    for name in ("float32", "bfloat16"):
        assert choose("el0_scene15.px224", config=replace(CONFIG, precision=name)) == name


def test_a_short_run_is_not_measured(monkeypatch):
    monkeypatch.setattr(precision, "speed_of_float32", lambda *_: pytest.fail("measured"))
    assert choose("el0_scene15.px224", images=1_000) is None


@pytest.mark.skipif(not NATIVE, reason="this processor has no instructions for bfloat16: float32 is the only choice")
def test_depthwise_networks_train_in_float32_and_dense_ones_do_not():
    """Measured here: EfficientNet-Lite0 is half as fast again in float32, ResNet-18 half as fast."""
    assert choose("el0_scene15.px224") == "float32"
    assert choose("r18_scene15") is None


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
        config = replace(CONFIG, resume=True)
        assert choose("el0_scene15.px224", folder=tmp_path, config=config) == expected


def test_a_recipe_that_names_one_is_trained_in_it_unless_told_otherwise():
    entry = registry.get_entry("el0_scene15.px224")
    assert entry.recipe.precision == "float32"

    def chosen(config):
        return precision.chosen(entry, batch(32, 2), 10, config, Path("nowhere"), Console(quiet=True))

    assert chosen(CONFIG) == "float32"
    assert chosen(replace(CONFIG, precision="bfloat16")) == "bfloat16"
    assert run.command(entry, CONFIG) == run.command(entry, replace(CONFIG, precision="float32"))
    assert run.command(entry, replace(CONFIG, precision="bfloat16")).endswith("--precision bfloat16")
