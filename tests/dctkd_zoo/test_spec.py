"""dctkd_zoo.spec: the fields of a recipe that came later, and what is written of it."""

import json
from dataclasses import asdict, fields, replace
from typing import Any

import pytest

from dctkd_zoo.schedules import Cosine, Ramp, Step
from dctkd_zoo.spec import Entry, Recipe

RECIPE = Recipe(epochs=2, batch_size=8, lr=0.1, schedule=Cosine(0.1), resize=20, crop=16)
LATER: dict[str, Any] = {
    "augment": "rrc",
    "rrc_scale": (0.35, 1.0),
    "label_smoothing": 0.1,
    "head_lr": 0.2,
    "optimizer": "adamw",
    "layer_decay": 0.75,
    "drop_path": 0.1,
    "warmup": 1.5,
    "clip_grad": 1.0,
    "erasing": 0.25,
    "mixup": 0.2,
    "cutmix": 1.0,
    "ema": 0.99,
    "ramps": {"ce": Ramp(1.0, 0.0, 1.0), "kd": Ramp()},
    "select": "val",
    "patience": 3,
    "limit": 5,
    "precision": "float32",
    "unlabelled": True,
}
WEIGHTS = {"ce": 0.1, "kd": 1.0}
PLAIN = replace(RECIPE, schedule=Step(2))  # without a warm-up of its own


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"augment": "randaugment"}, "augment 'randaugment' is none of 'crop_flip', 'rrc', 'rand'"),
        ({"augment": ""}, "augment '' is none of"),
        ({"rrc_scale": (0.0, 1.0)}, r"rrc_scale \(0\.0, 1\.0\) is not a range of fractions"),
        ({"rrc_scale": (-0.5, 1.0)}, r"rrc_scale \(-0\.5, 1\.0\) is not"),
        ({"rrc_scale": (0.6, 0.5)}, r"rrc_scale \(0\.6, 0\.5\) is not"),
        ({"rrc_scale": (0.5, 1.5)}, r"rrc_scale \(0\.5, 1\.5\) is not"),
        ({"label_smoothing": 1.0}, r"label_smoothing 1\.0 is not in \[0, 1\)"),
        ({"label_smoothing": -0.1}, r"label_smoothing -0\.1 is not in"),
        ({"head_lr": -0.01}, r"head_lr -0\.01 is negative"),
        ({"warmup": -1.0}, r"warmup -1\.0 is negative"),
        ({"clip_grad": -1.0}, r"clip_grad -1\.0 is negative"),
        ({"mixup": -0.2}, r"mixup -0\.2 is negative"),
        ({"cutmix": -0.2}, r"cutmix -0\.2 is negative"),
        ({"patience": -1}, "patience -1 is negative"),
        ({"limit": -1}, "limit -1 is negative"),
        ({"precision": "float16"}, "precision 'float16' is none of"),
        ({"ema": 1.0}, r"ema 1\.0 is not in \[0, 1\)"),
        ({"ema": -0.1}, r"ema -0\.1 is not in"),
        ({"drop_path": 1.0}, r"drop_path 1\.0 is not in"),
        ({"layer_decay": 0.0}, r"layer_decay 0\.0 is not in \(0, 1\]"),
        ({"layer_decay": 1.1}, r"layer_decay 1\.1 is not in"),
        ({"erasing": 1.1}, r"erasing 1\.1 is not a probability"),
        ({"erasing": -0.1}, r"erasing -0\.1 is not"),
        ({"select": "best"}, "select 'best' is none of 'last', 'val', 'released'"),
        ({"patience": 3}, "patience 3 needs select='val', not 'last'"),
        ({"patience": 3, "select": "released"}, "patience 3 needs select='val', not 'released'"),
        ({"warmup": 1.0}, r"warmup 1\.0 is in addition to that of Cosine\(warmup=0\.1\): use one of them"),
    ],
)
def test_what_no_training_could_do_is_refused_with_its_value(change, message):
    with pytest.raises(ValueError, match=message):
        replace(RECIPE, **change)


@pytest.mark.parametrize(
    "change",
    [
        {"augment": 1},
        {"rrc_scale": (0.5,)},
        {"rrc_scale": (0.5, 0.6, 0.7)},
        {"rrc_scale": 0.5},
        {"rrc_scale": (float("nan"), 1.0)},
        {"label_smoothing": "0.1"},
        {"label_smoothing": None},
        {"label_smoothing": float("nan")},
        {"head_lr": "0.1"},
        {"head_lr": float("nan")},
        {"head_lr": float("inf")},
        {"optimizer": None},
        {"layer_decay": "0.5"},
        {"drop_path": None},
        {"warmup": float("nan")},
        {"clip_grad": float("inf")},
        {"erasing": True},
        {"mixup": "1"},
        {"cutmix": (1.0,)},
        {"ema": float("nan")},
        {"ramps": {"ce": 0.5}},
        {"ramps": Ramp()},
        {"ramps": {1: Ramp()}},
        {"select": None},
        {"patience": 1.5},
        {"unlabelled": 1},
    ],
)
def test_values_of_another_type_and_numbers_that_are_none_are_refused(change):
    (name,) = change
    with pytest.raises((TypeError, ValueError), match=name):
        replace(RECIPE, **change)


@pytest.mark.parametrize(
    "change",
    [
        {"rrc_scale": (1.0, 1.0)},
        {"rrc_scale": (0.5, 0.5)},
        {"label_smoothing": 0.999},
        {"head_lr": 0.0},
        {"lr": 0.0},
        {"erasing": 1.0},
        {"layer_decay": 1.0},
        {"drop_path": 0.0},
        {"ema": 0.99999},
    ],
)
def test_the_ends_of_the_ranges_are_allowed(change):
    (name,) = change
    assert getattr(replace(RECIPE, **change), name) == change[name]


def test_a_recipe_at_the_defaults_is_written_as_before_the_fields_came():
    written = Entry("r8_stripes", RECIPE, {"ce": 1.0}).to_dict()["recipe"]
    assert not LATER.keys() & written.keys()
    before = asdict(RECIPE)
    for name in LATER:
        del before[name]
    assert written == json.loads(json.dumps({**before, "schedule": {**before["schedule"], "kind": "Cosine"}}))
    assert len(written) == len(before) == 15


@pytest.mark.parametrize("name", LATER)
def test_a_field_that_was_changed_is_written(name):
    plain = replace(PLAIN, select="val") if name == "patience" else PLAIN
    changed, entry = replace(plain, **{name: LATER[name]}), Entry("r8_kd_stripes", plain, WEIGHTS, "r14_stripes")
    written, before = replace(entry, recipe=changed).to_dict()["recipe"], entry.to_dict()["recipe"]
    assert written.keys() - before.keys() == {name}
    assert written[name] == as_json(LATER[name])
    assert replace(entry, recipe=replace(changed, **{name: getattr(plain, name)})).to_dict() == entry.to_dict()


def as_json(value: Any) -> Any:
    """A field's value as JSON gives it back."""
    if isinstance(value, dict):
        value = {name: asdict(ramp) for name, ramp in value.items()}
    return json.loads(json.dumps(value))


def test_a_recipe_of_every_later_field_is_written_whole_and_gives_itself_back():
    recipe = replace(PLAIN, **LATER)
    written = json.loads(json.dumps(recipe.to_dict()))
    assert written.keys() == {field.name for field in fields(Recipe)}
    assert all(written[name] == as_json(value) for name, value in LATER.items())
    assert {field.name for field in fields(Recipe) if "later" in field.metadata} == LATER.keys()
    kind = written["schedule"].pop("kind")
    ramps = {name: Ramp(**ramp) for name, ramp in written["ramps"].items()}
    own = {"schedule": {"Step": Step}[kind](**written["schedule"]), "ramps": ramps, "rrc_scale": (0.35, 1.0)}
    assert Recipe(**{**written, **own}) == recipe


def test_recipes_are_hashed_and_equal_ones_alike():
    recipe, again = (replace(PLAIN, **LATER) for _ in range(2))
    assert recipe == again and hash(recipe) == hash(again) and len({recipe, again, PLAIN, RECIPE}) == 3
    for name in LATER:
        other = replace(recipe, **{name: getattr(PLAIN, name), **({"patience": 0} if name == "select" else {})})
        assert other != recipe


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ((-0.1, 1.0, 0.5), r"start -0\.1 or end 1\.0 is negative"),
        ((0.0, -1.0, 0.5), r"end -1\.0 is negative"),
        ((0.0, 1.0, 0.0), r"over 0\.0 is not a fraction of the run in \(0, 1\]"),
        ((0.0, 1.0, 1.5), r"over 1\.5 is not a fraction"),
    ],
)
def test_a_ramp_names_what_it_cannot_do(values, message):
    with pytest.raises(ValueError, match=message):
        Ramp(*values)


def test_a_ramp_is_linear_and_then_stays():
    ramp = Ramp(2.0, 0.5, over=0.25)
    assert [ramp.factor(epoch, 40) for epoch in (0, 5, 10, 10.5, 40)] == [2.0, 1.25, 0.5, 0.5, 0.5]
    assert Ramp(1, 0, over=1).factor(30, 40) == 0.25


def test_ramps_are_of_the_entry_s_terms():
    with pytest.raises(ValueError, match=r"r8_stripes: ramps for \['kd'\], not among its terms"):
        Entry("r8_stripes", replace(RECIPE, ramps={"kd": Ramp()}), {"ce": 1.0})


def test_the_smoothing_is_an_option_of_the_cross_entropy_alone():
    options = {"kd": {"temperature": 2.0}}
    plain = Entry("r8_kd_stripes", RECIPE, {"ce": 0.1, "kd": 0.8}, "r14_stripes", options)
    assert plain.loss_options == options
    smooth = replace(plain, recipe=replace(RECIPE, label_smoothing=0.1))
    assert smooth.loss_options == {**options, "ce": {"label_smoothing": 0.1}}
    assert smooth.options == options  # which are those that the catalog states


def test_an_option_of_the_term_comes_before_the_smoothing_of_the_recipe():
    smooth = replace(RECIPE, label_smoothing=0.1)
    own = Entry("r8_stripes", smooth, {"ce": 1.0}, options={"ce": {"label_smoothing": 0.3}})
    assert own.loss_options == {"ce": {"label_smoothing": 0.3}}
