"""train.optim, and the fields of a recipe for fine-tuning: what they change, and that runs repeat and resume."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
import timm
import torch
from rich.console import Console

from dctkd_zoo import models, registry, weights
from dctkd_zoo._io.hashing import sha256
from dctkd_zoo.errors import CatalogError, ZooError
from dctkd_zoo.features import run as run_network
from dctkd_zoo.objective import Objective
from dctkd_zoo.schedules import Cosine, MultiStep, Step
from dctkd_zoo.spec import Recipe
from tests import world as worlds
from train import checkpoint, loop, optim, run, setup
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
pytestmark = pytest.mark.usefixtures("home")


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


def network(name, **options):
    """A small network of timm in training mode."""
    torch.manual_seed(0)
    return timm.create_model(name, num_classes=3, **options)


def rates_and_decays(model, optimizer):
    """The learning rate's maximum and the weight decay of each parameter of a network, by name."""
    groups = {
        id(p): (group[optim.BASE], group["weight_decay"]) for group in optimizer.param_groups for p in group["params"]
    }
    assert len(groups) == sum(len(group["params"]) for group in optimizer.param_groups)
    return {name: groups[id(parameter)] for name, parameter in model.named_parameters()}


VIT = "test_vit"
TIMM: Any = timm.optim  # without the types, which do not name what it exports
ADAMW = replace(RECIPE, optimizer="adamw", lr=0.01)


@pytest.mark.parametrize("name", [VIT, "test_resnet", "resnet8_cifar", "levit_128s", "xcit_nano_12_p16_224"])
def test_adamw_decays_what_timm_s_own_grouping_decays(name):
    """LeViT excludes its attention biases, XCiT its position embedding by a pattern."""
    model = network(name)
    found = rates_and_decays(model, optim.optimizer(model, [], ADAMW))
    excluded = model.no_weight_decay() if hasattr(model, "no_weight_decay") else ()
    groups = TIMM.param_groups_weight_decay(model, ADAMW.weight_decay, no_weight_decay_list=excluded)
    expected = {id(p): group["weight_decay"] for group in groups for p in group["params"]}
    assert {n: decay for n, (_, decay) in found.items()} == {n: expected[id(p)] for n, p in model.named_parameters()}
    assert set(expected.values()) == {0.0, ADAMW.weight_decay}


def test_norms_biases_and_position_embeddings_are_not_decayed_and_sgd_decays_all():
    model = network(VIT)
    found = rates_and_decays(model, optim.optimizer(model, [], ADAMW))
    free = {name for name, (_, decay) in found.items() if decay == 0}
    assert {"pos_embed", "cls_token", "norm.weight", "blocks.0.attn.qkv.bias"} <= free
    assert "blocks.0.attn.qkv.weight" not in free and "head.weight" not in free
    assert {d for _, d in rates_and_decays(model, optim.optimizer(model, [], RECIPE)).values()} == {RECIPE.weight_decay}


def test_the_objective_s_own_matrices_are_decayed_and_its_vectors_are_not():
    extra = torch.nn.Linear(4, 4)
    groups = optim.optimizer(network(VIT), extra.parameters(), ADAMW).param_groups
    decays = {id(p): group["weight_decay"] for group in groups for p in group["params"]}
    assert (decays[id(extra.weight)], decays[id(extra.bias)]) == (ADAMW.weight_decay, 0.0)


@pytest.mark.parametrize("name", [VIT, "test_resnet", "resnet8_cifar"])
@pytest.mark.parametrize("kind", ["sgd", "adamw"])
def test_rates_fall_from_the_head_to_the_stem_as_in_timm(name, kind):
    model, recipe = network(name), replace(RECIPE, optimizer=kind, layer_decay=0.5)
    found = rates_and_decays(model, optim.optimizer(model, [], recipe))
    groups = TIMM.param_groups_layer_decay(model, recipe.weight_decay, layer_decay=0.5)
    expected = {id(p): group["lr_scale"] for group in groups for p in group["params"]}
    assert {n: rate for n, (rate, _) in found.items()} == {
        n: recipe.lr * expected[id(p)] for n, p in model.named_parameters()
    }
    scales = {rate / recipe.lr for rate, _ in found.values()}
    assert scales == {0.5**layer for layer in range(len(scales))} and len(scales) > 3
    head, stem = {VIT: ("head", "patch_embed.proj"), "test_resnet": ("fc", "conv1.0")}.get(name, ("fc", "conv1"))
    assert found[f"{head}.weight"][0] == recipe.lr and found[f"{stem}.weight"][0] == recipe.lr * min(scales)


def test_a_network_without_layers_has_no_layer_decay():
    class Plain(torch.nn.Linear):
        pass

    with pytest.raises(ZooError, match="layer_decay: Plain does not say which parameters are in which layer"):
        optim.optimizer(Plain(2, 2), [], replace(RECIPE, layer_decay=0.5))


@pytest.mark.parametrize("decay", [1.0, 0.5])
def test_the_head_has_its_own_rate_with_adamw_too_and_the_schedule_scales_all(decay):
    model, recipe = network(VIT), replace(ADAMW, head_lr=0.4, layer_decay=decay)
    optimizer = optim.optimizer(model, [], recipe)
    found = rates_and_decays(model, optimizer)
    assert {n: v for n, v in found.items() if n.startswith("head")} == {
        "head.weight": (0.4, 3e-4),
        "head.bias": (0.4, 0.0),
    }
    assert max(rate for n, (rate, _) in found.items() if not n.startswith("head")) <= recipe.lr
    for epoch in (0.5, 2.0, 3.5):
        assert optim.set_rate(optimizer, recipe, epoch) == recipe.lr * recipe.rate(epoch)
        for group in optimizer.param_groups:
            assert group["lr"] == group[optim.BASE] * recipe.rate(epoch)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("adamww", "timm has no optimizer 'adamww'; did you mean .*adamw"),
        ("qqqq", r"timm has no optimizer 'qqqq'; timm\.optim\.list_optimizers\(\) names all"),
        ("adahessian", "the optimizer 'adahessian' needs second derivatives"),
        ("lookahead_adam", "timm has no optimizer 'lookahead_adam'"),
        ("kron", "the optimizer 'kron' keeps its rng_state where a checkpoint cannot hold it"),
    ],
)
@pytest.mark.filterwarnings("ignore:It is highly recommended to have 'opt_einsum'")
def test_what_cannot_train_here_is_refused_by_name(name, message):
    with pytest.raises(ZooError, match=message):
        optim.optimizer(network(VIT), [], replace(RECIPE, optimizer=name))


LISTED: list[str] = TIMM.list_optimizers()
ELSEWHERE = ("bnb", "fused")  # need a GPU and another library
REFUSED = ("adahessian", "kron", "kronc", "kronw")
NAMES = sorted({name for name in LISTED if not name.startswith(ELSEWHERE)} - {*REFUSED})


@pytest.mark.skipif(torch.cuda.is_available(), reason="it may be there")
@pytest.mark.parametrize("name", [name for name in LISTED if name.startswith(ELSEWHERE)])
def test_an_optimizer_that_needs_a_gpu_or_another_library_says_so(name):
    with pytest.raises(ZooError, match=f"the optimizer '{name}' cannot be used here: .+"):
        optim.optimizer(network(VIT), [], replace(RECIPE, optimizer=name))


def steps(count, model, extra, optimizer):
    """Train on the same few images."""
    generator = torch.Generator().manual_seed(1)
    images, labels = torch.randn(8, 3, 16, 16, generator=generator), torch.arange(8) % 3
    images = images.contiguous(memory_format=torch.channels_last)
    for _ in range(count):
        optimizer.zero_grad(set_to_none=True)
        loss = torch.nn.functional.cross_entropy(model(images), labels) + extra(images[:, 0, 0, :4]).square().mean()
        loss.backward()
        optimizer.step()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_every_optimizer_of_timm_goes_on_from_a_checkpoint_bit_for_bit(name, tmp_path):
    def fresh():
        torch.manual_seed(0)
        model, extra = models.create("r8", 3).to(memory_format=torch.channels_last), torch.nn.Linear(4, 4)
        recipe = replace(RECIPE, optimizer=name, lr=0.01, head_lr=0.02, layer_decay=0.9)
        return model, extra, optim.optimizer(model, extra.parameters(), recipe)

    whole, resumed = fresh(), fresh()
    begun = [tensor.clone() for tensor in whole[0].parameters()]
    steps(3, *whole)
    checkpoint.save(tmp_path, checkpoint.Progress({}), *whole)
    steps(2, *whole)
    checkpoint.restore(checkpoint.load(tmp_path), *resumed)
    steps(2, *resumed)
    for one, other in zip(whole[:2], resumed[:2], strict=True):
        assert all(
            torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True)
        )
    assert not all(torch.equal(a, b) for a, b in zip(begun, whole[0].parameters(), strict=True))
    assert all(tensor.isfinite().all() for tensor in whole[0].parameters())
    assert whole[2].state_dict().keys() == resumed[2].state_dict().keys()


def test_averaged_weights_are_those_of_a_hand_written_average(tmp_path):
    recipe, model = replace(RECIPE, ema=0.6), models.create("r8", 3)
    reference: dict[str, torch.Tensor] = {}
    average = optim.averaged(model, recipe)
    sgd, decays = optim.optimizer(model, [], recipe), []
    assert average is not None and optim.averaged(model, RECIPE) is None
    for step in range(8):
        steps(1, model, torch.nn.Linear(4, 4), sgd)
        average.update(model, step + 1)
        decay = min(0.6, 1 - (1 + step) ** (-2 / 3))
        decays.append(decay)
        now = {name: value.clone().double() for name, value in model.state_dict().items()}
        reference = {n: decay * reference.get(n, 0) + (1 - decay) * now[n] for n in now}
    assert decays[0] == 0 and 0 < decays[1] < decays[2] < decays[-1] == 0.6
    for name, value in average.module.state_dict().items():
        if value.is_floating_point():
            torch.testing.assert_close(value, reference[name].float(), rtol=1e-4, atol=1e-5)
        else:
            assert value == model.state_dict()[name]
    extra = torch.nn.Module()
    checkpoint.save(tmp_path, checkpoint.Progress({}), model, extra, sgd, average)
    other = models.create("r8", 3)
    restored = optim.averaged(other, recipe)
    checkpoint.restore(checkpoint.load(tmp_path), other, extra, optim.optimizer(other, [], recipe), restored)
    assert restored is not None
    pairs = zip(average.module.state_dict().values(), restored.module.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("schedule", [Step(2, 0.1), Cosine(0), MultiStep((1, 3))])
def test_warm_up_is_linear_over_its_epochs_and_then_leaves_the_schedule(schedule):
    recipe = replace(RECIPE, schedule=schedule, warmup=1.5)
    for epoch, factor in ((0.0, 0.0), (0.375, 0.25), (0.75, 0.5), (1.5, 1.0), (2.5, 1.0), (4.0, 1.0)):
        assert recipe.rate(epoch) == pytest.approx(factor * schedule.factor(epoch, 4))


@pytest.mark.parametrize("arch", ["cnx", "r18", "vit"])
def test_stochastic_depth_acts_in_training_alone(arch):
    plain, dropping = (models.create(arch, 3, 32, rate) for rate in (0.0, 0.9))
    assert plain.state_dict().keys() == dropping.state_dict().keys()
    dropping.load_state_dict(plain.state_dict())
    images = torch.randn(4, 3, 32, 32)
    assert torch.equal(plain.eval()(images), dropping.eval()(images))
    one, other = (run_network(model.train(), images).maps[-1] for model in (plain, dropping))
    assert not torch.allclose(one, other)


def test_a_network_without_stochastic_depth_is_named():
    with pytest.raises(CatalogError, match=r"r8: timm cannot build 'resnet8_cifar' with .'drop_path_rate': 0.1"):
        models.create("r8", 3, 32, 0.1)
