"""The catalog: every entry stands on its own, recipes and reported figures are those of the released code."""

from __future__ import annotations

import csv
import dataclasses
import json
import re
import runpy
from collections import Counter
from collections.abc import Iterable
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from dctkd_zoo import catalog, discover, losses, registry, weights
from dctkd_zoo.catalog import _recipes
from dctkd_zoo.catalog._archs import ARCHS
from dctkd_zoo.catalog._recipes import ALPHA, CORRECTED, TUNED, entry, paper_weights
from dctkd_zoo.data import sources
from dctkd_zoo.losses import Term
from dctkd_zoo.objective import Objective
from dctkd_zoo.schedules import Cosine, MultiStep, Step
from dctkd_zoo.spec import Dataset, Entry, Recipe
from eval.run import results_csv
from eval.run.protocol import PROTOCOLS
from train.__main__ import main as train

FILES = {name: discover.load(catalog.__name__, name) for name in discover.modules(catalog.__name__)}
MODULES = {name: module for name, module in FILES.items() if hasattr(module, "DATASET")}  # others have ARCHS alone
DATASETS: dict[str, Dataset] = {name: module.DATASET for name, module in MODULES.items()}
ALL: list[Entry] = [e for module in MODULES.values() for e in getattr(module, "ENTRIES", ())]
ENTRIES = {e.name: e for e in ALL}
GRIDS = sorted((Path(__file__).parents[2] / "examples" / "catalogs").glob("*.py"))
EVERY: list[Entry] = [*ALL, *(e for path in GRIDS for e in runpy.run_path(str(path))["ENTRIES"])]
NAMED = {e.name: e for e in EVERY}
TERMS = set(discover.modules(losses.__name__)) - {"term"}
SCENES = ("ade20k", "sun397", "mit67")
PATIENT = {"patient", "unlabelled"}  # variants that learn from the teacher alone
SMALL = (
    "scene15",
    "synthscenes",
    "miniplaces12k",
)  # of which nothing was reported, so that nothing released is to be repeated
LATER = {"cat": 1, "dist": 1, "dkd": 1, "fft": 2000, "sp": 3000, "wavelet": 10}  # and `e2kd`, which reads no labels
VARIED = {"energy", "bands", "class"}  # of `dctkd`
MAIN = {"at": 1000, "pkt": 30000, "vid": 1, "crd": 0.8, "ckd": 400, "review": 1, "dctkd": 1}
DEV = {"at": 1100, "pkt": 54000, "vid": 1.5, "crd": 1.4, "review": 1.8}
ABLATION = {"a0p1": 0.1, "a0p2": 0.2, "a0p3": 0.3, "a0p4": 0.4, "a0p5": 0.5, "a0p6": 0.6, "a0p7": 0.7, "a0p8": 0.8}
ABLATION |= {"a0p9": 0.9, "a1p5": 1.5, "a2": 2, "a3": 3, "a5": 5}
RECIPE = Recipe(epochs=1, batch_size=1, lr=0.1, schedule=Step(1), resize=8, crop=8)


def with_kd(methods: Iterable[str]) -> set[str]:
    """Each method alone and with `kd`."""
    return {terms for method in methods for terms in (method, f"{method}_kd")}


GRID = {"kd"} | with_kd(MAIN)


def distilled(dataset: str, variant: str = "") -> set[tuple[str, str]]:
    """(teacher>student, terms) of a dataset's distilled entries of a variant, as architectures."""
    result = [e for e in EVERY if (e.dataset, e.variant) == (dataset, variant) and e.teacher is not None]
    return {(f"{NAMED[e.teacher or ''].arch}>{e.arch}", "_".join(e.terms)) for e in result}


def undistilled(dataset: str, variant: str = "") -> set[str]:
    """Architectures of a dataset's teachers and baselines of a variant."""
    return {e.arch for e in EVERY if (e.dataset, e.variant) == (dataset, variant) and e.teacher is None}


@pytest.mark.parametrize(
    "name",
    [
        "",
        "r18",
        "18_ade20k",
        "r18_ade20k.",
        "r18_ade20k.a.b",
        "r18_ade20k.DCT2",
        "R18_ade20k",
        "r18__ade20k",
        "r18-dctkd-ade20k",
        "r18_dctkd_",
        "r18_Dctkd_ade20k",
        "r18_2kd_ade20k",
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
        ("r18_ade20k", {"weights": {"ce": 1.0}, "options": {"dctkd": {}}}, "not among its terms"),
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
    default = entry("r18_dctkd_ade20k.x", RECIPE, "r50_ade20k")
    assert default.weights == {"ce": 1.0, "dctkd": 1.0}
    assert default.options == {"dctkd": {"transform": "dft_abs", "guided": True}}
    meta = entry("r18_dctkd_ade20k.x", RECIPE, "r50_ade20k", options=CORRECTED, alpha={"dctkd": 3.0})
    assert meta.weights == {"ce": 1.0, "dctkd": 3.0}
    assert meta.options == {"dctkd": {"transform": "dct2", "guided": True}}
    assert entry("r18_kd_ade20k", RECIPE, "r50_ade20k").options == {}
    assert entry("r18_crd_kd_ade20k", RECIPE, "r50_ade20k").options == {"crd": {"negatives": "released"}}


@pytest.mark.parametrize("name", ["r18_foo_ade20k", "r18_kd_dctkd_ade20k", "r18_at_dctkd_ade20k", "r18_kd_kd_ade20k"])
def test_terms_the_paper_does_not_combine_need_weights_of_their_own(name: str) -> None:
    with pytest.raises(ValueError, match="no weights for the terms"):
        entry(name, recipe=RECIPE, teacher="r50_ade20k")


@pytest.mark.parametrize("terms", ["kd", "ckd", "dctkd_kd"])
def test_terms_that_were_not_tuned_have_no_tuned_weights(terms: str) -> None:
    with pytest.raises(ValueError, match="no weights for the terms"):
        entry(f"r18_{terms}_ade20k.tuned", RECIPE, "r50_ade20k", alpha=TUNED)


def weights_of(terms: tuple[str, ...], tuned: bool = False) -> set[tuple[tuple[str, float], ...]]:
    """The different weights of the paper's entries with these terms, without the ablation of them."""
    others = ABLATION.keys() | {"mdistiller", "std"}
    result = [e for e in EVERY if e.dataset not in SMALL and e.terms == terms and e.variant not in others]
    return {tuple(e.weights.items()) for e in result if (e.variant == "tuned") == tuned}


@pytest.mark.parametrize(("terms", "expected"), [((), {"ce": 1}), (("kd",), {"ce": 0.1, "kd": 0.8})])
def test_weights_without_a_method(terms: tuple[str, ...], expected: dict[str, float]) -> None:
    assert paper_weights(terms, ALPHA) == expected
    assert weights_of(terms) == {tuple(expected.items())}


@pytest.mark.parametrize(("method", "alpha"), MAIN.items())
def test_weights_are_those_of_the_main_branch(method: str, alpha: float) -> None:
    assert weights_of((method,)) == {(("ce", 1), (method, alpha))}
    assert weights_of((method, "kd")) == {(("ce", 0.1), (method, alpha), ("kd", 1))}


@pytest.mark.parametrize("method", MAIN)
def test_tuned_weights_are_those_of_the_dev_branch(method: str) -> None:
    tuned = [DEV[method]] if method in DEV else []
    assert weights_of((method,), tuned=True) == {(("ce", 1), (method, alpha)) for alpha in tuned}
    assert weights_of((method, "kd"), tuned=True) == {(("ce", 0.1), (method, alpha), ("kd", 1)) for alpha in tuned}


def test_some_terms_weigh_less_on_synthscenes_where_they_would_diverge_or_were_tuned() -> None:
    other = {
        "r20_ckd_synthscenes": 4,
        "r20_ckd_kd_synthscenes": 4,
        "r20_dkd_synthscenes": 0.25,
        "r20_sp_synthscenes": 750,
        "r20_kd_synthscenes.std": 2.25,
        "r20_dctkd_synthscenes.class": 0.25,
    }
    assert {name: ENTRIES[name].weights[ENTRIES[name].terms[0]] for name in other} == other
    same = [e for e in EVERY if e.dataset in SMALL and e.name not in other and not unsupervised(e)]
    for e in (e for e in same if e.variant not in {"std", "bands"}):
        assert e.weights == paper_weights(e.terms, ALPHA | LATER)
    assert {tuple(e.weights.items()) for e in same if e.variant == "std"} == {(("ce", 0.1), ("kd", 9))}
    assert {tuple(e.weights.items()) for e in same if e.variant == "bands"} == {(("ce", 1), ("dctkd", 10))}


def unsupervised(e: Entry) -> bool:
    return e.variant in PATIENT or "e2kd" in e.terms


def test_without_supervision_no_term_reads_labels() -> None:
    for e in filter(unsupervised, EVERY):
        assert e.weights == {"ce": 0, **dict.fromkeys(e.terms, 1)}
        terms = Objective(e.weights, e.loss_options).terms
        assert [name for name, term in terms.items() if term.needs_labels] == ["ce"]
    patient = [e for e in EVERY if e.variant in PATIENT]
    assert {e.variant for e in patient} == PATIENT
    for e in patient:
        assert e.recipe.augment == "rrc" and e.recipe.mixup == 1 and "kd" in e.terms
        assert e.recipe.unlabelled == (e.variant == "unlabelled")
    few, many = (ENTRIES[f"r18_kd_scene15.{variant}"].recipe for variant in ("patient", "unlabelled"))
    seen, unlabelled = few.epochs * (DATASETS["scene15"].train or 0), many.epochs * (1_500 + 12_000)
    assert unlabelled == pytest.approx(seen, rel=0.06)


def test_weights_of_the_ablation() -> None:
    result = {e.name: e.weights for e in ALL if e.variant in ABLATION}
    assert result == {f"r18_dctkd_ade20k.{name}": {"ce": 1, "dctkd": alpha} for name, alpha in ABLATION.items()}
    assert len(result) == 13


def test_every_weight_of_the_release_is_of_a_term() -> None:
    assert set(TUNED) <= set(ALPHA) <= TERMS


@pytest.mark.parametrize(("dataset", "variant"), sorted({(e.dataset, e.variant) for e in EVERY}))
def test_options_follow_from_dataset_and_variant(dataset: str, variant: str) -> None:
    """The transform behind the reported tables, and the released rivals, where the paper has figures."""
    transforms = {"dct2": "dct2", "signed": "dft_signed", "abs": "dft_abs", "l2": "l2_minmax", "raw": "dct2_raw"}
    transform = transforms.get(variant, "dct2" if dataset in SMALL else "dft_abs")
    expected: dict[str, Any] = {"dctkd": {"transform": transform, "guided": dataset != "cifar100"}}
    if variant.startswith("low"):
        expected["dctkd"]["keep"] = int(variant.removeprefix("low"))
    expected["dctkd"] |= {
        "energy": {"transform": "dct2_energy"},
        "bands": {"transform": "dct2_energy", "bands": "learned"},
        "class": {"maps": "class"},
    }.get(variant, {})
    if variant == "std":
        expected["kd"] = {"standardise": True, "temperature": 2.0}
    if dataset in SCENES and variant != "corrected":
        expected |= {"vid": {"levels": "released"}, "ckd": {"levels": "released"}, "crd": {"negatives": "released"}}
    for e in (e for e in EVERY if (e.dataset, e.variant) == (dataset, variant)):
        if variant in PATIENT:
            expected["dctkd"]["guided"] = False
        few = {"dkd": {"beta": 2.0}} if variant == "mdistiller" and e.arch != "r8x4" else {}
        known = expected | few
        assert e.options == {term: known[term] for term in e.terms if term in known}, e.name


def test_names_are_unique() -> None:
    assert [name for name, count in Counter(e.name for e in EVERY).items() if count > 1] == []


def entries_of(module: str) -> tuple[Entry, ...]:
    return getattr(MODULES[module], "ENTRIES", ())


@pytest.mark.parametrize("module", MODULES)
def test_a_file_holds_the_dataset_it_is_named_after(module: str) -> None:
    assert DATASETS[module].name == module
    assert {e.dataset for e in entries_of(module)} <= {module}
    assert DATASETS[module].source.partition("/")[0] in discover.modules(sources.__name__)


@pytest.mark.parametrize("module", MODULES)
def test_grep_finds_every_name_where_it_is_defined(module: str) -> None:
    text = Path(MODULES[module].__file__ or "").read_text(encoding="utf-8")
    assert [e.name for e in entries_of(module) if text.count(f'("{e.name}"') != 1] == []


def test_an_entry_is_there_for_its_weights_a_measurement_or_a_reported_figure() -> None:
    """Or because such an entry needs it, as a teacher or a start."""
    wanted = {*weights.published(), *(row["name"] for row in results_csv.read(results_csv.RESULTS))}
    wanted |= {folder.name for folder in weights.BUNDLED.iterdir()} | {e.name for e in ALL if e.reported}
    wanted |= {name for kept in [*wanted] for name in registry.ancestors(kept, ENTRIES)}
    study = {e.name for e in ALL if e.dataset in ("scene15", "miniplaces12k")}  # to be trained under one teacher
    study |= {e.name for e in ALL if e.variant in PATIENT}
    study |= {registry.baseline(e) or "" for e in ALL if e.reported}
    assert wanted <= {e.name for e in ALL} <= wanted | study


def test_entries_name_things_that_exist() -> None:
    assert {e.arch for e in EVERY} <= set(ARCHS)
    assert {term for e in EVERY for term in e.weights} <= TERMS
    for terms in {e.terms for e in EVERY}:
        assert list(terms) == sorted(terms, key=lambda term: term == "kd"), "a method stands before kd"


def test_a_teacher_fits() -> None:
    for e, teacher in ((e, NAMED[e.teacher]) for e in EVERY if e.teacher):
        assert teacher.dataset == e.dataset, e.name
        assert not teacher.terms, e.name
        shares = [r.crop / (r.resize + 2 * r.pad) for r in (teacher.recipe, e.recipe)]
        assert shares[0] == pytest.approx(shares[1], abs=0.01), e.name  # they see as much of an image
        assert (teacher.recipe.crop == e.recipe.crop) == (e.dataset != "miniplaces12k"), e.name


@pytest.mark.parametrize("term", sorted({term for e in EVERY for term in e.options}))
def test_a_term_accepts_its_options(term: str) -> None:
    for options in {json.dumps(e.options[term]) for e in EVERY if term in e.options}:
        discover.only(discover.load(losses.__name__, term), Term)(**json.loads(options))  # type: ignore[type-abstract,unused-ignore]


@pytest.mark.usefixtures("fresh_registry")
@pytest.mark.parametrize("path", GRIDS, ids=lambda path: path.stem)
def test_a_grid_is_a_catalog_file_whose_trainings_can_be_planned(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    grid = runpy.run_path(str(path))["ENTRIES"]
    one_per_variant = {e.variant: e.name for e in grid}.values()
    names = list(dict.fromkeys(n for name in one_per_variant for n in registry.ancestors(name, NAMED)[::-1]))
    assert train([*names, "--catalog", str(path), "--dry-run", "--device", "cpu", "--out", str(tmp_path)]) == 0
    plan = capsys.readouterr().out
    assert all(name in plan for name in names)
    assert {name: e for name, e in registry.entries().items() if name not in ENTRIES} == {e.name: e for e in grid}


@pytest.mark.usefixtures("fresh_registry")
def test_every_entry_can_be_compared_with_its_baseline() -> None:
    for path in GRIDS:
        registry.include(path)
    for e in EVERY:
        base = NAMED[registry.baseline(e) or ""]
        assert (base.arch, base.dataset, base.terms) == (e.arch, e.dataset, ()), e.name
        if e.variant not in PATIENT:
            assert base.recipe.epochs == e.recipe.epochs, "as long a training"
    assert registry.baseline(ENTRIES["r20_kd_synthscenes.patient"]) == "r20_synthscenes.long"


@pytest.mark.parametrize("dataset", SCENES)
def test_the_grid_of_scenes(dataset: str) -> None:
    methods = {
        "": GRID,
        "tuned": with_kd(DEV),
        "corrected": with_kd(["vid", "crd", "ckd"]),
        "dct2": with_kd(["dctkd"]),
    }
    for variant, terms in methods.items():
        assert distilled(dataset, variant) == set(product(("r50>r18", "r152>r34", "r50>mbv2"), terms))
    single = ["signed", *(["l2", "raw", *ABLATION] if dataset == "ade20k" else [])]
    for variant in single:
        assert distilled(dataset, variant) == {("r50>r18", "dctkd")}
    assert undistilled(dataset) == {"r50", "r152", "r18", "r34", "mbv2"}
    assert sum(e.dataset == dataset for e in EVERY) == 5 + 3 * sum(map(len, methods.values())) + len(single)


def test_the_grid_of_cifar() -> None:
    assert distilled("cifar100") == set(product(("r56>r20", "r110>r32", "r32x4>r8x4"), GRID))
    assert distilled("cifar100", "r110") == set(product(["r110>r20"], GRID))
    assert undistilled("cifar100") == {"r56", "r110", "r32x4", "r20", "r32", "r8x4"}
    pairs = ("r56>r20", "r110>r32", "r32x4>r8x4")
    assert distilled("cifar100", "mdistiller") == set(product(pairs, ("kd", "dkd")))
    assert distilled("cifar100", "std") == set(product(pairs, ["kd"]))
    assert undistilled("cifar100", "mdistiller") == undistilled("cifar100")
    assert sum(e.dataset == "cifar100" for e in EVERY) == 6 + 4 * 15 + 6 + 9


def test_the_small_sets() -> None:
    later = {*LATER, "e2kd"}
    assert distilled("scene15") == set(product(("el2>r18", "el2>mbv2"), GRID | later))
    assert distilled("synthscenes") == {*product(["r56>r20"], GRID | later), ("r56>r8", "dctkd")}
    for variant, terms in {"std": "kd", **dict.fromkeys(VARIED, "dctkd")}.items():
        assert distilled("scene15", variant) == {("el2>r18", terms), ("el2>mbv2", terms)}
        assert distilled("miniplaces12k", variant) == {("el2>r18", terms), ("el2>mbv2", terms)}
        assert distilled("synthscenes", variant) == {("r56>r20", terms)}
    for variant in ("signed", "abs"):
        assert distilled("scene15", variant) == {("el2>r18", "dctkd"), ("el2>mbv2", "dctkd")}
        assert distilled("synthscenes", variant) == {("r56>r20", "dctkd")}
    for variant in ("low2", "low4"):
        assert distilled("scene15", variant) == {("el2>r18", "dctkd")}
        assert distilled("synthscenes", variant) == {("r56>r20", "dctkd")}
    assert distilled("synthscenes", "long") == {("r56>r20", "at"), ("r56>r20", "dctkd"), ("r56>r8", "dctkd")}
    assert undistilled("synthscenes", "long") == {"r20", "r8"}
    long = {ENTRIES[name].recipe for name in registry.find("*_synthscenes.long")}
    assert long == {ENTRIES["r56_synthscenes"].recipe}, "as the teacher"
    assert distilled("scene15", "long") == {("el2>r18", "dctkd")} and undistilled("scene15", "long") == {"r18"}
    longer, short = (ENTRIES[f"r18_scene15{variant}"].recipe for variant in (".long", ""))
    assert longer == dataclasses.replace(short, epochs=2 * short.epochs)
    assert undistilled("scene15") == {"el2", "r18", "mbv2"} and undistilled("scene15", "px224") == {"el0"}
    few = {"kd", *with_kd(("at", "dctkd"))}
    class_maps = set(product(("el2>r18", "el2>mbv2"), later))
    assert distilled("miniplaces12k") == set(product(("el2>r18", "el2>mbv2", "el2>mnv4"), few)) | class_maps
    assert undistilled("miniplaces12k") == {"el2", "el0", "r18", "mbv2", "mnv4"}
    assert undistilled("synthscenes") == {"r56", "r20", "r8"}
    assert distilled("synthscenes", "patient") == {("r56>r20", "kd"), ("r56>r20", "dctkd_kd")}
    for variant in ("patient", "unlabelled"):
        assert distilled("scene15", variant) == {("el2>r18", "kd"), ("el2>r18", "dctkd_kd")}
    assert Counter(e.dataset for e in EVERY if e.dataset in SMALL) == {
        "scene15": 3 + 30 + 6 + 2 + 1 + 4 + 2 * 11,
        "synthscenes": 3 + 16 + 4 + 5 + 2 + 11,
        "miniplaces12k": 5 + 15 + 2 * 11,
    }


def test_sizes_of_the_datasets() -> None:
    sizes = {name: (d.num_classes, d.train, d.test) for name, d in DATASETS.items()}
    assert (
        sizes.items()
        >= {
            "ade20k": (1055, 20_210, 2_000),
            "sun397": (397, 19_850, 19_850),
            "mit67": (67, 5_360, 1_340),
            "cifar100": (100, 50_000, 10_000),
            "scene15": (15, 1_500, 2_985),
            "synthscenes": (12, 6_000, 1_200),
            "miniplaces": (100, 100_000, 10_000),
            "miniplaces12k": (100, 12_000, 10_000),
        }.items()
    )


@pytest.mark.parametrize("dataset", SCENES)
def test_recipes_of_scenes(dataset: str) -> None:
    for e in (e for e in EVERY if e.dataset == dataset):
        teaches = e.arch in ("r50", "r152")
        recipe = e.recipe
        assert (recipe.epochs, recipe.schedule) == (70, Step(25, 0.1))
        assert (recipe.momentum, recipe.weight_decay, recipe.nesterov) == (0.9, 1e-4, False)
        assert (recipe.resize, recipe.crop, recipe.pad, recipe.flip) == (256, 224, 0, True)
        assert recipe.lr == (0.01 if teaches else 0.1)
        assert recipe.pretrained == ("tv_in1k" if teaches else None)
        review = "review" in e.terms and dataset != "ade20k"
        assert recipe.batch_size == (55 if e.arch == "r152" else 60 if review else 128)
    assert DATASETS[dataset].mean == (0.43216, 0.394666, 0.37645)
    assert DATASETS[dataset].std == (0.22803, 0.22145, 0.216989)


def test_recipe_of_cifar() -> None:
    later = {"mdistiller", "std"}
    for e in (e for e in EVERY if e.dataset == "cifar100"):
        recipe = e.recipe
        assert (recipe.epochs, recipe.lr, recipe.weight_decay) == (240, 0.05, 5e-4)
        assert recipe.batch_size == (64 if e.variant in later else 128)
        assert recipe.schedule == MultiStep((150, 180, 210), 0.1)
        assert (recipe.resize, recipe.crop, recipe.pad, recipe.pad_mode) == (32, 32, 4, "constant")


def test_dkd_is_warmed_up_as_by_its_authors() -> None:
    for e in EVERY:
        assert {term: ramp.factor(10, 240) for term, ramp in e.recipe.ramps.items()} == (
            {"dkd": pytest.approx(0.5)} if "dkd" in e.terms else {}
        )


@pytest.mark.parametrize(
    ("dataset", "expected"),
    [
        ("scene15", {"el2_scene15", "el0_scene15.px224"}),
        ("miniplaces12k", {"el2_miniplaces12k", "el0_miniplaces12k"}),
        ("synthscenes", set()),
    ],
)
def test_of_the_small_sets_only_teachers_and_classifiers_for_photographs_start_from_imagenet(
    dataset: str, expected: set[str]
) -> None:
    entries = [e for e in EVERY if e.dataset == dataset]
    assert {e.name: e.recipe.pretrained for e in entries if e.recipe.pretrained} == dict.fromkeys(expected, "in1k")
    assert all(e.start is None for e in entries)
    assert all(isinstance(e.recipe.schedule, Cosine) for e in entries)
    fine_tuned = {e.name for e in entries if e.recipe.head_lr is not None}
    assert fine_tuned == expected
    assert expected >= {e.name for e in entries if e.recipe.augment == "rrc" and e.variant not in PATIENT}
    assert {e.name for e in entries if e.recipe.label_smoothing} == expected


def test_the_rates_of_scene15_are_among_those_that_were_tried() -> None:
    tried = runpy.run_path(str(Path(__file__).parents[2] / "docs" / "tuning.py"))
    for arch, rates in tried["STUDENTS"].items():
        assert ENTRIES[f"{arch}_scene15"].recipe.lr in rates
    varied: dict[str, Any] = dict.fromkeys(("epochs", "lr", "test_every"), 1)
    teacher = ENTRIES["el2_scene15"].recipe
    assert teacher in [dataclasses.replace(r, test_every=teacher.test_every) for r in tried["TEACHERS"].values()]
    for one in tried["ENTRIES"]:
        assert one.dataset == "scene15dev" and one.teacher is None
        if one.arch in tried["STUDENTS"]:
            final = ENTRIES[f"{one.arch}_scene15"].recipe
            assert dataclasses.replace(one.recipe, **varied) == dataclasses.replace(final, **varied)


def test_no_network_behind_an_entry_saw_images_of_its_test_set() -> None:
    for e in EVERY:
        for name in registry.ancestors(e.name, NAMED)[1:]:
            assert e.dataset not in DATASETS[NAMED[name].dataset].overlaps, (e.name, name)
    for name, dataset in DATASETS.items():
        assert set(dataset.overlaps) <= DATASETS.keys() - {name}
    assert DATASETS["miniplaces"].overlaps == DATASETS["miniplaces12k"].overlaps == ("scene15",)


@pytest.mark.parametrize("folder", sorted(weights.BUNDLED.iterdir()), ids=lambda folder: folder.name)
def test_bundled_networks_are_trained_as_their_entries_say(folder: Path) -> None:
    meta = json.loads((folder / "recipe.json").read_text(encoding="utf-8"))
    facts = ENTRIES[folder.name].to_dict()
    assert {name: meta[name] for name in facts} == facts


def test_rates_over_a_run() -> None:
    assert [Step(25, 0.1).factor(epoch, 70) for epoch in (0, 24.99, 25, 50, 69)] == pytest.approx(
        [1, 1, 0.1, 0.01, 0.01]
    )
    milestones = MultiStep((150, 180, 210))
    assert [milestones.factor(epoch, 240) for epoch in (149.9, 150, 180, 239)] == pytest.approx([1, 0.1, 0.01, 0.001])
    assert [Cosine(0.2).factor(epoch, 20) for epoch in (0, 2, 4, 12, 20)] == pytest.approx([0, 0.5, 1, 0.5, 0])


def reported_rows() -> list[dict[str, str]]:
    """The rows of `reported.csv`."""
    path = Path(_recipes.__file__).with_name("reported.csv")
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_reported_figures_are_those_of_the_authors(shared: Path) -> None:
    """Against the list made when their repository was read, whose rows are named after its tables."""
    archs = {"ResNet-18": "r18", "ResNet-34": "r34", "ResNet-50": "r50", "ResNet-152": "r152", "MobileNetV2": "mbv2"}
    metrics = {"Top@1": "top1", "Top@5": "top5", "MCA(/1055)": "mca_all"}

    def name(row: dict[str, str]) -> str:
        dataset = row["dataset"].lower()
        if row["method"] == "Teacher":
            return f"{archs[row['teacher']]}_{dataset}"
        methods, _, alpha = row["method"].rstrip(")").partition(" (alpha=")
        terms = [] if methods == "Baseline" else methods.lower().replace("dct", "dctkd").split(" + ")
        variant = "" if alpha in ("", "1") else f".a{alpha.replace('.', 'p')}"
        return "_".join([archs[row["student"]], *terms, dataset]) + variant

    ours = [row for row in reported_rows() if not row["entry"].partition(".")[0].endswith("_cifar100")]
    with (shared / "reported_results.csv").open(newline="", encoding="utf-8") as file:
        teacher = [row for row in csv.DictReader(file) if not row["source"].startswith("CONTEXT ONLY")]
    expected = [(name(row), metrics[row["metric"]], row["value"]) for row in teacher]
    assert [(row["entry"], row["metric"], row["value"]) for row in ours] == expected
    assert len(expected) == 174
    assert sum("README.md" in row["source"] for row in teacher) == 123, "the cells of METHOD.md 5.1 to 5.3"
    for (entry_name, metric, value), row in zip(expected, teacher, strict=True):
        source = row["source"].partition(" ")[0].replace("(dev)", "")
        figures = [(f.metric, f"{f.value:.2f}", f.source) for f in ENTRIES[entry_name].reported]
        assert (metric, value, source) in figures


def test_every_reported_row_is_a_figure_of_its_entry() -> None:
    rows = reported_rows()
    assert {row["entry"] for row in rows} <= set(ENTRIES)
    assert sum(len(e.reported) for e in ALL) == len(rows) == 174 + 9


def test_a_reported_figure_can_be_compared_and_looked_up() -> None:
    for figure in {figure for e in ALL for figure in e.reported}:
        assert figure.metric in PROTOCOLS[figure.protocol].metrics
        assert 0 < figure.value < 100
        assert re.fullmatch(r"[\w-]+@[0-9a-f]{7}:[\w.]+", figure.source)


@pytest.mark.parametrize(
    ("terms", "figures"),
    [
        ("kd_cifar100.mdistiller", (70.66, 73.08, 73.33)),
        ("dkd_cifar100.mdistiller", (71.97, 74.11, 76.32)),
        ("kd_cifar100.std", (71.43, 74.17, 76.62)),
    ],
)
def test_figures_of_later_methods_are_those_of_their_repositories(terms: str, figures: tuple[float, ...]) -> None:
    """Read in the tables of megvii-research/mdistiller and sunshangquan/logit-standardization-KD."""
    for arch, value in zip(("r20", "r32", "r8x4"), figures, strict=True):
        (figure,) = ENTRIES[f"{arch}_{terms}"].reported
        assert (figure.metric, figure.value) == ("top1", value)


def test_a_suspect_figure_is_called_so() -> None:
    first, second = ENTRIES["r50_sun397"].reported
    assert (first.value, second.value) == (61.69, 51.59)
    assert "suspect" in second.note and "suspect" not in first.note


def test_what_was_reported_is_no_fact_of_training() -> None:
    e = ENTRIES["r18_dctkd_ade20k"]
    assert e.reported
    assert e.to_dict() == dataclasses.replace(e, reported=()).to_dict()
    assert set(e.to_dict()) == {"name", "recipe", "weights", "teacher", "options"}
