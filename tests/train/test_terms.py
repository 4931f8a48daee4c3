"""Every term of the zoo, alone and with `kd`, trained for two epochs by the command on images of synthscenes."""

from __future__ import annotations

import csv
import math
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from dctkd_zoo import losses, registry, weights
from dctkd_zoo.catalog._recipes import CORRECTED, WEIGHTS, paper_weights
from dctkd_zoo.data import load
from dctkd_zoo.schedules import Cosine
from dctkd_zoo.spec import Dataset, Entry, Recipe
from train.__main__ import main

METHODS = sorted(set(losses.names()) - {"ce"})
COMBINATIONS = [*METHODS, *(f"{method}_kd" for method in METHODS if method != "kd")]
EVERY = 20  # of the images of synthscenes, for the sake of time


DATASET = Dataset(
    name="fewscenes",
    title="Some of synthscenes",
    source="folders",
    num_classes=12,
    train=300,
    test=60,
    mean=(0.5, 0.5, 0.5),
    std=(0.25, 0.25, 0.25),
)
TEACHER = f"local-dir:{weights.BUNDLED / 'r56_synthscenes'}"
# A low rate: the weights of the paper are large, and its teachers' features are smaller than those of this one.
RECIPE = Recipe(epochs=2, batch_size=32, lr=0.02, schedule=Cosine(0.25), resize=40, crop=40, test_every=3)
# In its first epoch crd compares with random vectors, of which real embeddings take the place: its loss rises first.
LONGER = replace(RECIPE, epochs=3)


def entry(terms: str) -> Entry:
    """A distilled r8 with the paper's weights, and with its authors' of a term that the paper does not have."""
    names = tuple(terms.split("_"))
    options = {name: CORRECTED[name] for name in names if name in CORRECTED}
    recipe = LONGER if "crd" in names else RECIPE
    return Entry(f"r8_{terms}_fewscenes", recipe, paper_weights(names, WEIGHTS), TEACHER, options)


ENTRIES = tuple(entry(terms) for terms in COMBINATIONS)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Folders of images drawn by synthscenes, and the entries above in the registry."""
    root = tmp_path_factory.mktemp("world")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DCTKD_ZOO_HOME", str(root / "home"))
        patch.setattr(registry, "_MODULES", [])
        registry._bundled_and_included.cache_clear()
        for name, split in load.read(registry.get_dataset("synthscenes")).items():
            for index in range(0, len(split), EVERY):
                path = root / "data" / "fewscenes" / name / split.classes[split.labels[index]] / f"{index:04d}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                split.images.load(index).save(path)
        registry._modules().append(sys.modules[__name__])
        registry._bundled_and_included.cache_clear()
        yield root
    registry._bundled_and_included.cache_clear()


def log(folder: Path) -> list[dict[str, float]]:
    with (folder / "train_log.csv").open(newline="") as file:
        return [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(file)]


@pytest.mark.parametrize("terms", COMBINATIONS)
def test_two_epochs_of_every_combination_end_with_a_smaller_loss(world, tmp_path, terms):
    name = f"r8_{terms}_fewscenes"
    assert main([name, "--data", str(world / "data"), "--out", str(tmp_path), "--device", "cpu"]) == 0
    *_, before, last = log(tmp_path / name)
    columns = ["ce", *terms.split("_")]
    assert all(math.isfinite(row[column]) for row in (before, last) for column in columns)
    assert sum(last[column] for column in columns) < sum(before[column] for column in columns)
    assert weights.is_complete(tmp_path / name)
