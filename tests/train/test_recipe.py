"""Each later field of a recipe in whole runs: effect, resuming bit for bit, teacher cache, two ranks, what is said."""

from __future__ import annotations

import csv
import json
import math
import random
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file

from dctkd_zoo import registry, weights
from dctkd_zoo._io.hashing import sha256
from dctkd_zoo.data.load import for_recipe
from dctkd_zoo.errors import ZooError
from dctkd_zoo.weights.run_folder import BEST
from tests import world as worlds
from train import checkpoint, loop, run, setup
from train.config import TrainConfig

CATALOG = (
    worlds.CATALOG
    + """
from dctkd_zoo.spec import Ramp, Step

DATASET = replace(DATASET, unlabelled="more")
BASE = replace(RECIPE, epochs=2, schedule=Step(2))
ALL = dict(
    optimizer="adamw", lr=0.01, layer_decay=0.8, head_lr=0.02, clip_grad=0.5, warmup=1.0, augment="rand", erasing=0.5,
    mixup=0.4, cutmix=1.0, label_smoothing=0.1, ema=0.5, select="val",
)
FIELDS = {
    "plain": {}, "adamw": {"optimizer": "adamw", "lr": 0.01}, "lamb": {"optimizer": "lamb", "lr": 0.01},
    "layers": {"layer_decay": 0.5}, "warm": {"warmup": 1.0}, "clipped": {"clip_grad": 0.1},
    "rrc": {"augment": "rrc"}, "rand": {"augment": "rand"}, "erased": {"erasing": 0.9}, "mixup": {"mixup": 1.0},
    "cutmix": {"cutmix": 1.0}, "both": {"mixup": 1.0, "cutmix": 1.0}, "smooth": {"label_smoothing": 0.2},
    "ema": {"ema": 0.9}, "ramped": {"ramps": {"ce": Ramp(0.2, 1.0, 1.0)}}, "val": {"select": "val"},
    "few": {"limit": 7}, "all": ALL,
}
DISTILLED = {
    "plain": {}, "ramped": {"ramps": {"dctkd": Ramp(), "kd": Ramp(1.0, 0.0, 1.0)}}, "more": {"unlabelled": True},
    "blended": {"mixup": 1.0, "cutmix": 1.0}, "changed": {"augment": "rand", "erasing": 0.5},
    "all": {**ALL, "unlabelled": True, "ramps": {"dctkd": Ramp()}},
}
WEIGHTS = {"ce": 0.1, "dctkd": 1.0, "kd": 1.0}
LONG = replace(BASE, epochs=6, select="val")
CRD = dict(weights={"ce": 1.0, "crd": 0.1}, teacher="r14_stripes", options={"crd": {"count": 8}})
ENTRIES = (
    *ENTRIES,
    *(Entry(f"r8_stripes.{name}", replace(BASE, **fields), {"ce": 1.0}) for name, fields in FIELDS.items()),
    *(
        Entry(f"r8_dctkd_kd_stripes.{name}", replace(BASE, **fields), WEIGHTS, teacher="r14_stripes")
        for name, fields in DISTILLED.items()
    ),
    Entry("mbv2_stripes.short", replace(LARGER, epochs=1), {"ce": 1.0}),
    Entry("mbv2_stripes.drop", replace(LARGER, epochs=1, drop_path=0.5), {"ce": 1.0}),
    Entry("r8_stripes.long", LONG, {"ce": 1.0}),
    Entry("r8_stripes.longema", replace(LONG, ema=0.9), {"ce": 1.0}),
    Entry("r8_stripes.patient", replace(LONG, patience=2), {"ce": 1.0}),
    Entry("r8_stripes.seldom", replace(LONG, epochs=8, patience=1, test_every=2), {"ce": 1.0}),
    Entry("r8_stripes.released", replace(BASE, select="released"), {"ce": 1.0}),
    Entry("r8_stripes.more", replace(BASE, unlabelled=True), {"ce": 1.0}),
    *(
        Entry(f"r8_crd_stripes.{name}", replace(BASE, **fields), **CRD)
        for name, fields in {"mixup": {"mixup": 1.0}, "cutmix": {"cutmix": 1.0}, "more": {"unlabelled": True}}.items()
    ),
)
"""
)
FIELDS = (
    *("plain", "adamw", "lamb", "layers", "warm", "clipped", "rrc", "rand", "erased", "mixup", "cutmix", "both"),
    *("smooth", "ema", "ramped", "val", "few", "all"),
)
DISTILLED = ("plain", "ramped", "more", "blended", "changed", "all")
NAMES = (*(f"r8_stripes.{name}" for name in FIELDS), *(f"r8_dctkd_kd_stripes.{name}" for name in DISTILLED))
QUIET = Console(quiet=True)
pytestmark = pytest.mark.usefixtures("one_thread", "home")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    root = worlds.make(tmp_path_factory.mktemp("world"), CATALOG)
    rng = np.random.default_rng(5)
    (root / "data" / "more").mkdir()
    for number in range(20):
        worlds.stripes(number % 3, rng).save(root / "data" / "more" / f"{number}.png")
    return root


def where(world, out, **changes):
    config = TrainConfig(world / "data", out, torch.device("cpu"), trained=world / "out", precision="float32")
    return replace(config, **changes)


def trained(world, name, out, console=QUIET, **changes):
    """The folder of a finished run."""
    return run.train(registry.get_entry(name), where(world, out, **changes), console)


def built(world, name, **changes):
    """The data and the state of an entry's run before its first step."""
    config, entry = where(world, world / "nowhere", **changes), registry.get_entry(name)
    data = setup.prepare(entry, config)
    return data, setup.build(entry, data, config, QUIET)


@pytest.fixture(scope="module")
def whole(world):
    """The folder of an entry's run that nothing interrupted; each is trained once, the teacher first."""
    trained(world, "r14_stripes", world / "out")
    return lambda name: trained(world, name, world / "out")


def digest(folder):
    return sha256(folder / weights.WEIGHTS)


def log(folder):
    return list(csv.DictReader((folder / "train_log.csv").read_text().splitlines()))


class TestEffect:
    def test_each_field_changes_the_weights(self, whole):
        for kind, names in (("r8_stripes", FIELDS), ("r8_dctkd_kd_stripes", DISTILLED)):
            assert len({digest(whole(f"{kind}.{name}")) for name in names}) == len(names)

    def test_stochastic_depth_changes_the_weights_and_not_what_timm_loads(self, world, tmp_path):
        plain, dropped = (trained(world, f"mbv2_stripes.{name}", tmp_path) for name in ("short", "drop"))
        assert digest(plain) != digest(dropped)
        assert (plain / "config.json").read_text() == (dropped / "config.json").read_text().replace(".drop", ".short")

    @pytest.mark.parametrize("name", NAMES)
    def test_the_fields_are_in_the_recorded_recipe(self, whole, name):
        recorded = json.loads((whole(name) / "recipe.json").read_text())["recipe"]
        assert recorded == json.loads(json.dumps(registry.get_entry(name).recipe.to_dict()))

    def test_warm_up_and_ramps_are_in_the_log(self, whole):
        warm, plain = (log(whole(f"r8_stripes.{name}")) for name in ("warm", "plain"))
        assert float(warm[0]["lr"]) == pytest.approx(0.05 * 2 / 3) and float(warm[1]["lr"]) == 0.05
        assert [float(row["lr"]) for row in plain] == [0.05, 0.05]
        assert float(log(whole("r8_stripes.ramped"))[0]["ce"]) < 0.6 * float(plain[0]["ce"])

    def test_unlabelled_images_are_in_the_epochs(self, world):
        data, state = built(world, "r8_dctkd_kd_stripes.more")
        assert len(data.train.labels) == 48 + 20 and len(data.judge.labels) == 24
        assert state.objective.some_unlabelled
        assert any((batch.labels < 0).any() for batch in data.train.train(0, 0))


@pytest.mark.parametrize("name", NAMES)
def test_killed_after_any_step_a_run_ends_with_the_same_weights(name, world, whole, tmp_path, monkeypatch):
    expected = whole(name)
    monkeypatch.setattr(checkpoint, "EVERY", -1.0)  # a checkpoint after every step
    entry = registry.get_entry(name)
    splits = for_recipe(registry.get_dataset("stripes"), entry.recipe, world / "data")
    total = 2 * -(-len(splits["train"]) // 16)
    few = random.Random(name).sample(range(total + 1), 3 if name.endswith(".all") else 1)
    after = range(total + 1) if worlds.SOAK else few
    limited = worlds.StepLimit(loop.step, KeyboardInterrupt)
    monkeypatch.setattr(loop, "step", limited)
    for limit in after:
        folder, limited.left = tmp_path / str(limit), limit
        try:
            trained(world, name, folder, resume=True)
        except KeyboardInterrupt:
            limited.left = math.inf
            trained(world, name, folder, resume=True)
        assert limited.left in (limit - total, math.inf)
        assert digest(folder / name) == digest(expected), f"killed after step {limit} of {total}"
        without_speed = [
            [{k: v for k, v in row.items() if k != "images_per_s"} for row in log(path)]
            for path in (folder / name, expected)
        ]
        assert without_speed[0] == without_speed[1]


class TestSelection:
    @pytest.fixture
    def judged(self, monkeypatch):
        """Accuracies on val by epoch that a run is told, and the weights that were judged."""
        told, seen, real = [30.0, 80.0, 50.0, 80.0, 70.0, 60.0], [], loop.top1

        def scripted(network, views, *rest, **more):
            real(network, views, *rest, **more)
            seen.append(({n: t.clone() for n, t in network.model.state_dict().items()}, len(views.labels)))
            return told[len(seen) - 1]

        monkeypatch.setattr(loop, "top1", scripted)
        return seen

    @pytest.mark.parametrize("name", ["r8_stripes.long", "r8_stripes.longema"])
    def test_the_result_is_the_first_best_epoch_on_val(self, name, world, tmp_path, judged):
        folder = trained(world, name, tmp_path)
        exported, best = (load_file(folder / file) for file in (weights.WEIGHTS, BEST))
        assert len(judged) == 6 and {count for _, count in judged} == {6}
        for item, (network, _) in enumerate(judged):
            assert all(torch.equal(exported[n], network[n]) for n in exported) == (item == 1)
        assert all(torch.equal(best[n], exported[n]) for n in exported)

    def test_the_files_say_what_it_was_chosen_on(self, world, whole):
        for name, selected in (("val", "best epoch on val"), ("plain", "last epoch")):
            folder = whole(f"r8_stripes.{name}")
            results = json.loads((folder / "results.json").read_text())
            assert results["selected"] == selected and results["n"] == 24
            rows = log(folder)
            column = "val_top1" if name == "val" else "test_top1"
            assert {"val_top1", "test_top1"} & rows[0].keys() == {column} and all(row[column] for row in rows)
            recipe = json.loads((folder / "recipe.json").read_text())["recipe"]
            assert recipe.get("select", "last") == ("val" if name == "val" else "last")
            assert (folder / BEST).exists() == (name == "val")

    def test_the_test_images_are_not_read_before_the_end(self, world):
        data, _ = built(world, "r8_stripes.val")
        assert (data.judge_name, len(data.train.labels), len(data.judge.labels)) == ("val", 42, 6)
        assert data.judge.labels.bincount().tolist() == [2, 2, 2]
        ids = {
            part: for_recipe(data.dataset, registry.get_entry("r8_stripes.val").recipe, world / "data")[part].ids
            for part in ("train", "val")
        }
        assert not set(ids["train"]) & set(ids["val"])
        assert all(name.startswith("train/") for part in ids.values() for name in part)

    @pytest.mark.parametrize(("name", "epochs"), [("patient", 4), ("seldom", 6)])
    def test_patience_ends_a_run_at_a_judged_epoch(self, name, epochs, world, tmp_path, judged):
        """Of `patient` epoch 2 is the best and two more are no better; of `seldom` every other epoch of 8 is judged."""
        folder = trained(world, f"r8_stripes.{name}", tmp_path)
        rows = log(folder)
        assert len(rows) == epochs and rows[-1]["val_top1"]
        assert json.loads((folder / "results.json").read_text())["best_epoch"] == (2 if name == "patient" else 4)
        assert not checkpoint.begun(folder)

    def test_a_run_out_of_patience_that_is_killed_before_its_results_trains_no_further(
        self, world, tmp_path, judged, monkeypatch
    ):
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(run, "write_results", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
            trained(world, "r8_stripes.patient", tmp_path)
        steps = len(judged)
        folder = trained(world, "r8_stripes.patient", tmp_path, resume=True)
        assert len(judged) == steps and len(log(folder)) == 4

    @pytest.mark.parametrize("terminal", [True, False])
    def test_the_display_says_which_images(self, world, tmp_path, terminal):
        for name, on, other in (
            ("val", "val", "test_top1"),
            ("released", "test", "val_top1"),
            ("plain", "test", "val_top1"),
        ):
            with (tmp_path / "console.txt").open("w") as file:
                console = Console(file=file, width=160, force_terminal=terminal, color_system=None)
                trained(world, f"r8_stripes.{name}", tmp_path, console)
            text = (tmp_path / "console.txt").read_text()
            assert f"{on}_top1" in text and other not in text
            assert (f"% on {on} in the last epoch, best" in text) == (name != "plain")
            assert f"% on {on} in the last epoch" in text
            assert ("whose weights are the result" in text) == (name == "val")
            assert ("(chosen on the test set: not the result)" in text) == (name == "released")
            if terminal:
                assert (f"% on {on} (epoch" in text) == (name != "plain")
                assert re.search(r"\n +2 +[\d.]+ ", text)  # the last epoch is in the table
            else:
                assert f"epoch 2/2  {on}_top1 " in text


class TestStep:
    def test_the_norm_in_the_log_is_that_before_clipping_and_the_gradient_is_clipped(self, world, whole):
        data, state = built(world, "r8_stripes.clipped")
        _, plain = built(world, "r8_stripes.plain")
        batch = next(iter(data.train.train(0, 0)))
        for each in (state, plain):
            each.student.train()
        values, free = (loop.step(each, batch, None) for each in (state, plain))

        def norm(each):
            return torch.stack([p.grad.norm() for p in each.student.parameters()]).norm()

        torch.testing.assert_close(values["grad_norm"], norm(plain))
        assert "grad_norm" not in free and norm(plain) > 0.1
        torch.testing.assert_close(norm(state), torch.tensor(0.1), rtol=1e-4, atol=0)
        assert all(float(row["grad_norm"]) > 0.1 for row in log(whole("r8_stripes.clipped")))

    def test_a_gradient_below_the_maximum_stays_as_it_is(self, world):
        (data, plain), (_, state) = (built(world, "r8_stripes.plain") for _ in range(2))
        state = replace(state, recipe=replace(state.recipe, clip_grad=1e6))
        batch = next(iter(data.train.train(0, 0)))
        for each in (state, plain):
            each.student.train()
            loop.step(each, batch, None)
        pairs = zip(state.student.parameters(), plain.student.parameters(), strict=True)
        assert all(torch.equal(one, other) for one, other in pairs)

    @pytest.mark.parametrize(("epoch", "step", "dctkd", "kd"), [(0, 0, 0, 1), (0, 1, 1, 5 / 6), (1, 2, 1, 1 / 6)])
    def test_ramps_scale_their_terms_by_the_position_in_the_run(self, world, whole, epoch, step, dctkd, kd):
        """The term dctkd is warmed up over the first fifth of an epoch, kd fades out over both."""
        data, state = built(world, "r8_dctkd_kd_stripes.ramped")
        batch = next(iter(data.train.train(0, 0)))
        _, teach = state.teacher.epoch(0)
        key = loop.StepKey(0, epoch, step, 3)
        plain = loop.forward(replace(state, recipe=replace(state.recipe, ramps={})), batch, teach, 1, key)
        values = loop.forward(state, batch, teach, 1, key)
        assert values["ce"] == plain["ce"]
        torch.testing.assert_close(values["dctkd"], dctkd * plain["dctkd"])
        torch.testing.assert_close(values["kd"], kd * plain["kd"])

    def test_the_average_follows_the_network_step_by_step(self, world):
        data, state = built(world, "r8_stripes.ema")
        assert state.average is not None
        expected = {name: value.clone() for name, value in state.student.model.state_dict().items()}
        state.student.train()
        for number, batch in enumerate(data.train.train(0, 0)):
            loop.step(state, batch, None, key=loop.StepKey(0, 2, number, 3))
            decay = min(0.9, 1 - (1 + 6 + number) ** (-2 / 3))  # of the 7th to 9th step
            for name, value in state.student.model.state_dict().items():
                if value.is_floating_point():
                    expected[name] = decay * expected[name] + (1 - decay) * value
        result = state.result.model.state_dict()
        for name, value in expected.items():
            if value.is_floating_point():
                torch.testing.assert_close(result[name], value, rtol=1e-4, atol=1e-5)

    def test_what_is_exported_is_the_average(self, world, tmp_path, monkeypatch):
        states, epoch = [], loop.epoch

        def kept(state, *rest):
            states.append(state)
            return epoch(state, *rest)

        monkeypatch.setattr(loop, "epoch", kept)
        exported = load_file(trained(world, "r8_stripes.ema", tmp_path) / weights.WEIGHTS)
        average, last = (part.state_dict() for part in (states[-1].average.module, states[-1].student.model))
        assert all(torch.equal(exported[name], average[name]) for name in exported)
        assert not torch.equal(exported["conv1.weight"], last["conv1.weight"])


class TestTeacherCache:
    @pytest.mark.parametrize("name", [f"r8_dctkd_kd_stripes.{kind}" for kind in ("ramped", "more", "changed")])
    def test_a_cached_teacher_sees_what_the_student_sees(self, name, world, whole):
        data, cached = built(world, name, teacher_cache=2)
        _, online = built(world, name)
        _, run_teacher = online.teacher.epoch(1)
        windows, read = cached.teacher.epoch(1)
        for batch in data.train.train(0, 1, windows):
            one, other = read(batch), run_teacher(batch)
            torch.testing.assert_close(one.logits, other.logits, rtol=1e-2, atol=1e-2)
            for a, b in zip(one.maps, other.maps, strict=True):
                torch.testing.assert_close(a, b, rtol=1e-2, atol=1e-2)

    @pytest.mark.parametrize("kind", ["ramped", "more", "changed"])
    def test_a_run_with_cached_views_resumes_to_the_same_weights(self, kind, world, whole, tmp_path, monkeypatch):
        name, forward, count = f"r8_dctkd_kd_stripes.{kind}", loop.forward, []
        online = digest(whole(name))
        cached = digest(trained(world, name, tmp_path / "whole", teacher_cache=1))

        def stopping(*arguments):
            count.append(1)
            if len(count) == 5:
                raise KeyboardInterrupt
            return forward(*arguments)

        monkeypatch.setattr(checkpoint, "EVERY", -1.0)
        monkeypatch.setattr(loop, "forward", stopping)
        with pytest.raises(KeyboardInterrupt):
            trained(world, name, tmp_path / "part", teacher_cache=1)
        assert digest(trained(world, name, tmp_path / "part", teacher_cache=1, resume=True)) == cached != online

    @pytest.mark.parametrize(("kind", "names"), [("blended", "mixup and cutmix"), ("all", "mixup and cutmix")])
    def test_blended_images_are_refused_by_name_before_anything_is_computed(self, kind, names, world, whole, tmp_path):
        with pytest.raises(ZooError, match=f"^{names}: a teacher cache holds no outputs for blended images"):
            trained(world, f"r8_dctkd_kd_stripes.{kind}", tmp_path, teacher_cache=1)
        assert not (tmp_path / f"r8_dctkd_kd_stripes.{kind}" / "recipe.json").exists()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("r8_crd_stripes.mixup", "crd: compares training images by their label and identity, not with mixup"),
        ("r8_crd_stripes.cutmix", "crd: compares training images by their label and identity, not with cutmix"),
        ("r8_crd_stripes.more", "crd: compares .* not with unlabelled images"),
        ("r8_stripes.more", "r8_stripes.more: all of its terms need labels, so unlabelled images would not be used"),
    ],
)
def test_combinations_that_make_no_sense_are_refused_by_name(name, message, world, tmp_path):
    with pytest.raises(ZooError, match=message):
        trained(world, name, tmp_path)


def test_two_ranks_train_the_network_of_one_process_with_all_fields(world, whole, tmp_path):
    names = ["r8_stripes.all", "r8_dctkd_kd_stripes.all"]
    arguments = [*worlds.options(world, tmp_path), "--precision", "float32"]
    shutil.copytree(whole("r14_stripes"), tmp_path / "r14_stripes")
    done = worlds.run(worlds.torchrun(2, "train", *arguments, *names), world)
    assert done.returncode == 0, done.stderr
    for name in names:
        one, two = log(whole(name)), log(tmp_path / name)
        for a, b in zip(one, two, strict=True):
            for column in a.keys() - {"images_per_s", "val_top1"}:
                assert float(a[column]) == pytest.approx(float(b[column]), rel=0.02, abs=1e-3), (name, column)
