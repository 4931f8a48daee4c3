"""train.optim, and the three fields of a recipe for fine-tuning: what they change, and that runs repeat and resume."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from rich.console import Console

from dctkd_zoo import models, registry, weights
from dctkd_zoo._io.hashing import sha256
from dctkd_zoo.objective import Objective
from dctkd_zoo.schedules import Cosine, Step
from dctkd_zoo.spec import Recipe
from tests import world as worlds
from train import loop, optim, run, setup
from train.config import TrainConfig

RECIPE = Recipe(epochs=4, batch_size=8, lr=0.05, schedule=Cosine(0.25), resize=20, crop=16, weight_decay=3e-4)
CATALOG = (
    worlds.CATALOG
    + """
BASE = replace(RECIPE, epochs=2)
FINE = replace(BASE, head_lr=0.2, label_smoothing=0.1, augment="rrc", rrc_scale=(0.35, 1.0))
KD = dict(weights={"ce": 1.0, "kd": 1.0}, teacher="r14_stripes")
VID = dict(weights={"ce": 1.0, "vid": 1.0}, teacher="r14_stripes")
ENTRIES = (
    *ENTRIES,
    Entry("r8_stripes.base", BASE, {"ce": 1.0}),
    Entry("r8_stripes.headlr", replace(BASE, head_lr=0.2), {"ce": 1.0}),
    Entry("r8_stripes.samelr", replace(BASE, head_lr=BASE.lr), {"ce": 1.0}),
    Entry("r8_stripes.smooth", replace(BASE, label_smoothing=0.1), {"ce": 1.0}),
    Entry("r8_stripes.rrc", replace(BASE, augment="rrc"), {"ce": 1.0}),
    Entry("r8_stripes.rrclarge", replace(BASE, augment="rrc", rrc_scale=(0.35, 1.0)), {"ce": 1.0}),
    Entry("r8_stripes.fine", FINE, {"ce": 1.0}),
    Entry("r8_kd_stripes.fine", FINE, **KD),
    Entry("r8_vid_stripes.fine", FINE, **VID),
)
"""
)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return worlds.make(tmp_path_factory.mktemp("world"), CATALOG)


@pytest.fixture(scope="module", autouse=True)
def home(world):
    """The world's catalog beside the zoo's, and a cache of its own."""
    with worlds.included(world):
        yield


@pytest.fixture
def console(tmp_path):
    with (tmp_path / "console.txt").open("w") as file:
        yield Console(file=file, width=100)


def trained(world, name, out, console, **changes):
    """The folder of a finished run."""
    told = TrainConfig(world / "data", out, torch.device("cpu"), trained=world / "out", precision="float32")
    return run.train(registry.get_entry(name), replace(told, **changes), console)


def digest(folder):
    return sha256(folder / weights.WEIGHTS)


@pytest.fixture(scope="module")
def out(world):
    """Each of the entries without a teacher trained once, and the teacher of the others."""
    with (world / "console.txt").open("w") as file:
        for name in ("r14_stripes", *(f"r8_stripes.{kind}" for kind in KINDS)):
            trained(world, name, world / "out", Console(file=file))
    return world / "out"


KINDS = ("base", "headlr", "samelr", "smooth", "rrc", "rrclarge", "fine")


def parts(recipe):
    """A network, its head, and SGD over it and an objective that learns."""
    torch.manual_seed(0)
    model = models.create("r8", 3)
    other = torch.nn.Linear(4, 4)
    every = [*model.parameters(), *other.parameters()]
    return every, list(model.fc.parameters()), optim.optimizer(model, other.parameters(), recipe)  # type: ignore[union-attr]


def test_without_a_rate_of_its_own_the_head_is_in_the_only_group():
    every, _, sgd = parts(RECIPE)
    (group,) = sgd.param_groups
    assert [id(p) for p in group["params"]] == [id(p) for p in every]
    assert optim.set_rate(sgd, RECIPE, 1.0) == group["lr"] == RECIPE.lr
    plain = torch.optim.SGD(every, lr=RECIPE.lr, momentum=0.9, weight_decay=3e-4)
    own = ("params", optim.BASE)
    assert {k: v for k, v in plain.param_groups[0].items() if k not in own} == {
        k: v for k, v in group.items() if k not in own
    }


def test_with_one_every_parameter_is_in_exactly_one_of_two_groups():
    every, head, sgd = parts(replace(RECIPE, head_lr=0.4))
    first, second = ([id(p) for p in group["params"]] for group in sgd.param_groups)
    assert second == [id(p) for p in head] and len(head) == 2
    assert first == [id(p) for p in every if id(p) not in second]
    assert len({*first, *second}) == len(first) + len(second) == len(every)
    for group in sgd.param_groups:
        assert (group["momentum"], group["nesterov"], group["weight_decay"]) == (0.9, False, 3e-4)


@pytest.mark.parametrize("schedule", [Cosine(0.25), Cosine(), Step(2, 0.1)])
@pytest.mark.parametrize("head_lr", [0.4, 0.0, 0.05])
def test_the_schedule_scales_both_rates(schedule, head_lr):
    recipe = replace(RECIPE, schedule=schedule, head_lr=head_lr)
    _, _, sgd = parts(recipe)
    for epoch in (0.0, 0.5, 1.0, 2.5, 3.999):
        factor = schedule.factor(epoch, 4)
        assert optim.set_rate(sgd, recipe, epoch) == recipe.lr * factor
        assert [group["lr"] for group in sgd.param_groups] == [recipe.lr * factor, head_lr * factor]


@pytest.mark.parametrize("name", ["r8_stripes.fine", "r8_vid_stripes.fine"])
def test_a_run_s_optimizer_has_the_classifier_apart_and_what_the_objective_learns_with_the_body(
    world, out, name, console
):
    entry = registry.get_entry(name)
    told = TrainConfig(world / "data", out, torch.device("cpu"), trained=out, precision="float32")
    learner = setup.build(entry, setup.prepare(entry, told), told, console)
    model, objective = learner.student.model, learner.objective
    body, head = ([id(p) for p in group["params"]] for group in learner.optimizer.param_groups)
    assert head == [id(p) for p in model.get_classifier().parameters()]  # type: ignore[operator]
    own = [id(p) for p in getattr(objective, "_orig_mod", objective).parameters()]
    assert sorted([*body, *head]) == sorted([*(id(p) for p in model.parameters()), *own])
    assert len({*body, *head}) == len(body) + len(head)
    assert bool(own) is ("vid" in name) and not {*own} & {*head}


def test_the_objective_of_an_entry_smooths_its_labels():
    entry = registry.get_entry("r8_stripes.fine")
    (term,) = [m for m in Objective(entry.weights, entry.loss_options).modules() if hasattr(m, "label_smoothing")]
    assert term.label_smoothing == 0.1


def test_each_field_changes_the_weights_and_a_head_at_the_body_s_rate_does_not(out):
    digests = {kind: digest(out / f"r8_stripes.{kind}") for kind in KINDS}
    assert digests["samelr"] == digests["base"]
    assert len(set(digests.values())) == len(KINDS) - 1


def test_rows_name_the_rate_of_the_body(out):
    rows = {kind: (out / f"r8_stripes.{kind}" / "train_log.csv").read_text().splitlines() for kind in KINDS}
    rates = {kind: [line.split(",")[lines[0].split(",").index("lr")] for line in lines] for kind, lines in rows.items()}
    assert rates["headlr"] == rates["base"]


def test_what_was_changed_is_in_the_recorded_recipe_and_nothing_else(out):
    recorded = json.loads((out / "r8_stripes.fine" / "recipe.json").read_text())["recipe"]
    assert recorded["augment"] == "rrc" and recorded["rrc_scale"] == [0.35, 1.0]
    assert recorded["label_smoothing"] == 0.1 and recorded["head_lr"] == 0.2
    base = json.loads((out / "r8_stripes.base" / "recipe.json").read_text())["recipe"]
    assert not {"augment", "rrc_scale", "label_smoothing", "head_lr"} & base.keys()


class Stop(Exception):
    """Raised in the middle of a run."""


@pytest.mark.parametrize("moment", ["after an epoch", "within one"])
def test_a_run_that_stops_and_goes_on_has_the_bytes_of_one_that_did_not(
    world, out, tmp_path, console, monkeypatch, moment
):
    steps, whole, forward = [], loop.epoch, loop.forward

    def between(learner, views, seed, number, *rest):
        if number == 1:
            raise Stop
        return whole(learner, views, seed, number, *rest)

    def within(*told):
        steps.append(1)
        if len(steps) == 5:  # of 3 an epoch
            raise Stop
        return forward(*told)

    with monkeypatch.context() as patch, pytest.raises(Stop):
        patch.setattr(loop, *(("epoch", between) if moment == "after an epoch" else ("forward", within)))
        trained(world, "r8_stripes.fine", tmp_path, console)
    assert not weights.is_complete(tmp_path / "r8_stripes.fine")
    folder = trained(world, "r8_stripes.fine", tmp_path, console, resume=True)
    assert digest(folder) == digest(out / "r8_stripes.fine")


def test_the_same_command_gives_the_same_bytes(world, out, tmp_path, console):
    assert digest(trained(world, "r8_stripes.fine", tmp_path, console)) == digest(out / "r8_stripes.fine")


@pytest.mark.parametrize("change", [{"head_lr": 0.1}, {"label_smoothing": 0.2}, {"rrc_scale": (0.2, 1.0)}])
def test_a_run_of_other_fields_does_not_pass_for_the_entry(world, out, console, change):
    entry = registry.get_entry("r8_stripes.fine")
    other = replace(entry, recipe=replace(entry.recipe, **change))
    told = TrainConfig(world / "data", out, torch.device("cpu"), trained=out, precision="float32")
    with pytest.raises(Exception, match="was trained with another recipe"):
        run.train(other, told, console)


def test_a_cached_teacher_sees_the_resized_crops_too(world, out, tmp_path, console):
    one, two = (
        trained(world, "r8_kd_stripes.fine", tmp_path / name, console, trained=out, teacher_cache=2) for name in "ab"
    )
    assert digest(one) == digest(two)
    assert json.loads((one / "environment.json").read_text())["teacher_cache"] == 2


def test_precision_is_in_the_command_only_if_it_was_chosen(world, out, tmp_path, console):
    fine = json.loads((out / "r8_stripes.fine" / "recipe.json").read_text())
    assert fine["command"] == "python -m train r8_stripes.fine --precision float32"
    plain = trained(world, "r8_stripes.base", tmp_path, console, precision=None)
    assert json.loads((plain / "recipe.json").read_text())["command"] == "python -m train r8_stripes.base"
    half = TrainConfig(None, tmp_path, torch.device("cpu"), precision="bfloat16")
    assert half.dtype is torch.bfloat16 and replace(half, precision="float32").dtype is torch.float32
