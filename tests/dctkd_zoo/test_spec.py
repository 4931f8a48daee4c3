"""dctkd_zoo.spec: the fields of a recipe that came later, and what is written of it."""

import json
from dataclasses import asdict, replace
from typing import Any

import pytest

from dctkd_zoo.schedules import Cosine
from dctkd_zoo.spec import Entry, Recipe

RECIPE = Recipe(epochs=2, batch_size=8, lr=0.1, schedule=Cosine(0.1), resize=20, crop=16)
LATER: dict[str, Any] = {"augment": "rrc", "rrc_scale": (0.35, 1.0), "label_smoothing": 0.1, "head_lr": 0.2}


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
    ],
)
def test_values_of_another_type_and_numbers_that_are_none_are_refused(change):
    (name,) = change
    with pytest.raises((TypeError, ValueError), match=name):
        replace(RECIPE, **change)


@pytest.mark.parametrize(
    "change",
    [{"rrc_scale": (1.0, 1.0)}, {"rrc_scale": (0.5, 0.5)}, {"label_smoothing": 0.999}, {"head_lr": 0.0}, {"lr": 0.0}],
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
    changed = replace(RECIPE, **{name: LATER[name]})
    written = Entry("r8_stripes", changed, {"ce": 1.0}).to_dict()["recipe"]
    assert LATER.keys() & written.keys() == {name}
    assert written[name] == json.loads(json.dumps(LATER[name]))
    back = replace(changed, **{name: getattr(RECIPE, name)})
    assert Entry("r8_stripes", back, {"ce": 1.0}).to_dict() == Entry("r8_stripes", RECIPE, {"ce": 1.0}).to_dict()


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
