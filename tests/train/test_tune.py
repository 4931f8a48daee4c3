"""Weights of terms tried on held-out images, through the command."""

import json

import pytest

from dctkd_zoo import registry
from dctkd_zoo.__main__ import main
from tests import world as worlds
from train import tune
from train.__main__ import main as train


def test_as_many_weights_of_each_term_around_that_of_the_entry():
    entry = registry.get_entry("r20_dctkd_kd_synthscenes")
    for tries, factors in ((1, [1]), (2, [1 / 2, 2]), (3, [1 / 4, 1, 4])):
        trials = tune.trials(entry, tries)
        for term in ("dctkd", "kd"):
            mine = [trial for trial in trials if trial.term == term]
            assert [trial.weight for trial in mine] == [entry.weights[term] * factor for factor in factors]
            for trial in mine:
                assert trial.entry.weights == {**entry.weights, term: trial.weight}
        assert len(trials) == 2 * tries and len({trial.name for trial in trials}) == len(trials)
    recipe = tune.trials(entry, 1, epochs=3)[0].entry.recipe
    assert (recipe.select, recipe.epochs) == ("val", 3)


@pytest.fixture
def world(tmp_path, monkeypatch, fresh_registry):
    home = worlds.make(tmp_path / "world")
    monkeypatch.setenv("DCTKD_ZOO_HOME", str(home))
    assert train(["r14_stripes", *worlds.options(home, home / "out")]) == 0
    return home


def test_the_table_has_every_trial_and_a_second_call_trains_nothing(world, capsys):
    capsys.readouterr()
    command = ["tune", "r8_dctkd_kd_stripes", "--tries", "2", "--epochs", "2", *worlds.options(world, world / "out")]
    assert main(command) == 0
    first = capsys.readouterr().out
    assert first.count("val_top1") == 8 and "test_top1" not in first
    table = first[first.rindex("val top-1") :]
    assert table.count("r8_dctkd_kd_stripes") == 4 and "test set was not used" in " ".join(table.split())
    files = sorted((world / "out" / "tune").glob("*/tuned.json"))
    assert len(files) == 4 and not [*(world / "out" / "tune").glob("*/*.safetensors")]
    for path in files:
        found = json.loads(path.read_text())
        assert found["trial"]["recipe"]["select"] == "val" and f"{found['top1']:.2f}" in table
    assert main(command) == 0
    again = capsys.readouterr().out
    assert "epoch 1/2" not in again and again.endswith(table)


def test_an_entry_without_a_teacher_has_nothing_to_try(world, capsys):
    assert main(["tune", "r14_stripes", *worlds.options(world, world / "out")]) == 1
    assert "no distillation term" in capsys.readouterr().err
