"""The catalog: every entry stands on its own, and the recipes are those of the released code."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from dctkd_zoo import catalog, discover, losses
from dctkd_zoo.catalog._paper import ALPHA, DCT2, entry, paper_weights
from dctkd_zoo.data import sources
from dctkd_zoo.losses import Term
from dctkd_zoo.models import ARCHS
from dctkd_zoo.spec import Cosine, Dataset, Entry, MultiStep, Recipe, Step

MODULES = {name: discover.load(catalog.__name__, name) for name in discover.modules(catalog.__name__)}
DATASETS: dict[str, Dataset] = {name: module.DATASET for name, module in MODULES.items()}
ALL: list[Entry] = [e for module in MODULES.values() for e in module.ENTRIES]
ENTRIES = {e.name: e for e in ALL}
TERMS = set(discover.modules(losses.__name__)) - {"term"}
SCENES = ("ade20k", "sun397", "mit67")
METHODS = ("kd", "at", "at_kd", "dctkd", "dctkd_kd")
RECIPE = Recipe(epochs=1, batch_size=1, lr=0.1, schedule=Step(1), resize=8, crop=8)

every_entry = pytest.mark.parametrize("e", ALL, ids=lambda e: e.name)


def pairs(dataset: str) -> set[tuple[str, str, str]]:
    """(teacher, student, terms) of a dataset's distilled entries, as architectures."""
    found = [e for e in ALL if e.dataset == dataset and e.teacher is not None]
    return {(ENTRIES[e.teacher or ""].arch, e.arch, "_".join(e.terms)) for e in found}


@pytest.mark.parametrize(
    "name",
    [
        "",
        "r18",
        "resnet18_ade20k",
        "r18_ade20k.",
        "r18_ade20k.a.b",
        "r18_ade20k.DCT2",
        "R18_ade20k",
        "r18__ade20k",
        "r18-dctkd-ade20k",
        "r18_dctkd_",
        "r18_Dctkd_ade20k",
        "r18_kd2_ade20k",
        "r18_ade20k\n",
    ],
)
def test_a_malformed_name_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="is not of the form"):
        Entry(name, RECIPE, {"ce": 1.0})


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("r18_kd_ade20k", {"weights": {"ce": 1.0}}, "weights are for"),
        ("r18_ade20k", {"weights": {"ce": 1.0, "kd": 1.0}}, "weights are for"),
        ("r18_ade20k", {"weights": {}}, "weights are for"),
        ("r18_ade20k", {"weights": {"ce": 1.0}, "options": {"dctkd": {}}}, "no such term"),
        ("r18_kd_ade20k", {"weights": {"ce": 0.1, "kd": 0.8}}, "need a teacher"),
    ],
)
def test_contradictions_are_refused(name: str, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Entry(name, RECIPE, **arguments)


def test_a_misspelt_field_is_refused() -> None:
    with pytest.raises(TypeError, match="techer"):
        entry("r18_kd_ade20k", recipe=RECIPE, techer="r50_ade20k")  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("change", "message"), [({"crop": 9}, "does not fit"), ({"pad": 1, "pad_mode": "wrap"}, "'wrap'")]
)
def test_an_impossible_recipe_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(RECIPE, **change)


def test_entry_fills_in_what_the_paper_says_and_yields_to_what_it_is_told() -> None:
    default = entry("r18_dctkd_ade20k.x", recipe=RECIPE, teacher="r50_ade20k")
    assert default.weights == {"ce": 1.0, "dctkd": 1.0}
    assert default.options == {"dctkd": {"transform": "dft_abs", "guided": True}}
    weights = {"ce": 1.0, "dctkd": 3.0}
    told = entry("r18_dctkd_ade20k", recipe=RECIPE, teacher="r50_ade20k", options=DCT2, weights=weights)
    assert told.weights == weights
    assert told.options == DCT2
    assert entry("r18_kd_ade20k", recipe=RECIPE, teacher="r50_ade20k").options == {}


@pytest.mark.parametrize("name", ["r18_foo_ade20k", "r18_kd_dctkd_ade20k", "r18_at_dctkd_ade20k", "r18_kd_kd_ade20k"])
def test_terms_the_paper_does_not_combine_need_weights_of_their_own(name: str) -> None:
    with pytest.raises(ValueError, match="no weights for the terms"):
        entry(name, recipe=RECIPE, teacher="r50_ade20k")


@pytest.mark.parametrize(
    ("terms", "expected"),
    [
        ((), {"ce": 1}),
        (("kd",), {"ce": 0.1, "kd": 0.8}),
        (("dctkd",), {"ce": 1, "dctkd": 1}),
        (("at",), {"ce": 1, "at": 1000}),
        (("dctkd", "kd"), {"ce": 0.1, "dctkd": 1, "kd": 1}),
        (("at", "kd"), {"ce": 0.1, "at": 1000, "kd": 1}),
    ],
)
def test_weights_are_those_of_the_release(terms: tuple[str, ...], expected: dict[str, float]) -> None:
    assert paper_weights(terms) == expected
    assert {tuple(e.weights.items()) for e in ALL if e.terms == terms} == {tuple(expected.items())}


def test_every_weight_of_the_release_is_of_a_term() -> None:
    assert set(ALPHA) <= TERMS


def test_names_are_unique() -> None:
    assert [name for name, count in Counter(e.name for e in ALL).items() if count > 1] == []


@pytest.mark.parametrize("module", MODULES)
def test_a_file_holds_the_dataset_it_is_named_after(module: str) -> None:
    assert DATASETS[module].name == module
    assert {e.dataset for e in MODULES[module].ENTRIES} == {module}
    assert DATASETS[module].source in discover.modules(sources.__name__)


@pytest.mark.parametrize("module", MODULES)
def test_grep_finds_every_name_where_it_is_defined(module: str) -> None:
    text = Path(MODULES[module].__file__ or "").read_text(encoding="utf-8")
    assert [e.name for e in MODULES[module].ENTRIES if text.count(f'entry("{e.name}", ') != 1] == []


@every_entry
def test_an_entry_names_things_that_exist(e: Entry) -> None:
    assert e.arch in ARCHS
    assert set(e.weights) <= TERMS
    assert list(e.terms) == sorted(e.terms, key=lambda term: term == "kd"), "a method stands before kd"


@every_entry
def test_a_teacher_fits(e: Entry) -> None:
    if e.teacher is None:
        return
    teacher = ENTRIES[e.teacher]
    assert teacher.dataset == e.dataset
    assert not teacher.terms
    assert (teacher.recipe.resize, teacher.recipe.crop) == (e.recipe.resize, e.recipe.crop)


@every_entry
def test_terms_accept_their_options(e: Entry) -> None:
    for term, options in e.options.items():
        discover.only(discover.load(losses.__name__, term), Term)(**options)  # type: ignore[type-abstract,unused-ignore]


@every_entry
def test_every_entry_can_be_compared_with_its_baseline(e: Entry) -> None:
    assert f"{e.arch}_{e.dataset}" in ENTRIES


@pytest.mark.parametrize("dataset", SCENES)
def test_the_grid_of_scenes(dataset: str) -> None:
    grid = {("r50", "r18"), ("r152", "r34"), ("r50", "mbv2")}
    assert pairs(dataset) == {(t, s, method) for t, s in grid for method in METHODS}
    variants = {e.name: e.options["dctkd"]["transform"] for e in ALL if e.dataset == dataset and e.variant}
    assert variants == {f"r18_dctkd_{dataset}.dct2": "dct2", f"r18_dctkd_{dataset}.signed": "dft_signed"}
    assert sum(e.dataset == dataset for e in ALL) == 2 + 3 + 3 * 5 + 2


def test_the_grid_of_cifar() -> None:
    grid = {("r56", "r20"), ("r110", "r20"), ("r110", "r32"), ("r32x4", "r8x4")}
    assert pairs("cifar100") == {(t, s, method) for t, s in grid for method in METHODS}
    assert {e.teacher for e in ALL if e.variant == "r110"} == {"r110_cifar100"}
    assert sum(e.dataset == "cifar100" for e in ALL) == 3 + 3 + 4 * 5


def test_the_small_sets() -> None:
    assert pairs("scene15") == {("r50", "r18", method) for method in ("kd", "at", "dctkd", "dctkd_kd")}
    r20 = {("r56", "r20", method) for method in METHODS}
    assert pairs("synthscenes") == r20 | {("r56", "r8", "dctkd")}


def test_sizes_of_the_datasets() -> None:
    assert {name: (d.num_classes, d.train, d.test) for name, d in DATASETS.items()} == {
        "ade20k": (1055, 20_210, 2_000),
        "sun397": (397, 19_850, 19_850),
        "mit67": (67, 5_360, 1_340),
        "cifar100": (100, 50_000, 10_000),
        "scene15": (15, 1_500, 2_985),
        "synthscenes": (12, 6_000, 1_200),
    }


@pytest.mark.parametrize("dataset", SCENES)
def test_recipes_of_scenes(dataset: str) -> None:
    for e in (e for e in ALL if e.dataset == dataset):
        teaches = e.arch in ("r50", "r152")
        recipe = e.recipe
        assert (recipe.epochs, recipe.schedule) == (70, Step(25, 0.1))
        assert (recipe.momentum, recipe.weight_decay, recipe.nesterov) == (0.9, 1e-4, False)
        assert (recipe.resize, recipe.crop, recipe.pad, recipe.flip) == (256, 224, 0, True)
        assert recipe.lr == (0.01 if teaches else 0.1)
        assert recipe.pretrained == ("tv_in1k" if teaches else None)
        assert recipe.batch_size == (55 if e.arch == "r152" else 128)
    assert DATASETS[dataset].mean == (0.43216, 0.394666, 0.37645)
    assert DATASETS[dataset].std == (0.22803, 0.22145, 0.216989)


def test_recipe_of_cifar() -> None:
    (recipe,) = {e.recipe for e in ALL if e.dataset == "cifar100"}
    assert (recipe.epochs, recipe.batch_size, recipe.lr, recipe.weight_decay) == (240, 128, 0.05, 5e-4)
    assert recipe.schedule == MultiStep((150, 180, 210), 0.1)
    assert (recipe.resize, recipe.crop, recipe.pad, recipe.pad_mode) == (32, 32, 4, "constant")


@pytest.mark.parametrize("dataset", ["scene15", "synthscenes"])
def test_the_small_sets_start_from_scratch(dataset: str) -> None:
    recipes = [e.recipe for e in ALL if e.dataset == dataset]
    assert {r.pretrained for r in recipes} == {None}
    assert all(isinstance(r.schedule, Cosine) for r in recipes)


def test_the_prediction_guide_is_on_for_scenes_and_off_for_cifar() -> None:
    guided = {(e.dataset, e.options["dctkd"]["guided"]) for e in ALL if "dctkd" in e.terms}
    assert guided == {(name, name != "cifar100") for name in DATASETS}


def test_the_paper_s_entries_use_the_transform_behind_the_reported_tables() -> None:
    paper = [e for e in ALL if e.dataset in (*SCENES, "cifar100") and e.variant in ("", "r110") and "dctkd" in e.terms]
    assert {e.options["dctkd"]["transform"] for e in paper} == {"dft_abs"}


def test_rates_over_a_run() -> None:
    assert [Step(25, 0.1).factor(epoch, 70) for epoch in (0, 24.99, 25, 50, 69)] == pytest.approx(
        [1, 1, 0.1, 0.01, 0.01]
    )
    milestones = MultiStep((150, 180, 210))
    assert [milestones.factor(epoch, 240) for epoch in (149.9, 150, 180, 239)] == pytest.approx([1, 0.1, 0.01, 0.001])
    assert [Cosine(0.2).factor(epoch, 20) for epoch in (0, 2, 4, 12, 20)] == pytest.approx([0, 0.5, 1, 0.5, 0])
