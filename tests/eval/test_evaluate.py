"""Evaluation end to end: small networks, exported as training exports them, on a data set of a few images."""

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pandas as pd
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from dctkd_zoo import features, models, registry, teacher_cache, teachers, weights
from dctkd_zoo._io import hashing
from dctkd_zoo.data import split as content
from dctkd_zoo.data.sources.synthscenes import CLASSES
from dctkd_zoo.errors import DatasetError, DatasetMissing, NonFiniteAnswers, TeacherMismatch, WeightsNotFound
from dctkd_zoo.models import export
from eval.__main__ import main
from eval.metrics import _base
from eval.metrics._base import LevelMetric
from eval.run import attempt, config, evaluation, faithfulness, protocol, result_row, results_csv, sanity, setup
from eval.run import cache as kept
from eval.run.attempt import Status
from eval.stats import intervals, skill

ANIMALS = ("ant", "bee", "cat")
PER_CLASS = 30
CATALOG = """
from dctkd_zoo.spec import Dataset, Entry, Recipe, Step
DATASET = Dataset(name="animals", title="Animals", source="folders", num_classes=3, train=3, test=90,
    mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25), license="none", url="none")
RECIPE = Recipe(epochs=1, batch_size=8, lr=0.1, schedule=Step(1), resize=18, crop=16)
ENTRIES = (
    Entry("r14_animals", RECIPE, {"ce": 1.0}),
    Entry("r8_animals", RECIPE, {"ce": 1.0}),
    Entry("r8_kd_animals", RECIPE, {"ce": 0.1, "kd": 0.8}, teacher="r14_animals"),
    Entry("r20_animals", RECIPE, {"ce": 1.0}),
)
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A data set, a catalog file and exported networks; `r20_animals` has no weights."""
    folder: Path = tmp_path_factory.mktemp("eval")
    generator = np.random.default_rng(0)
    for part, count in (("train", 1), ("test", PER_CLASS)):
        for name in ANIMALS:
            path = folder / "data" / "animals" / part / name
            path.mkdir(parents=True)
            for index in range(count):
                pixels = generator.integers(0, 256, (20, 24, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(path / f"{index:02}.png")
    (folder / "animals.py").write_text(CATALOG)
    return folder


@pytest.fixture(autouse=True)
def zoo(home, monkeypatch):
    """The zoo with the animals in it, for the time of a test."""
    monkeypatch.setenv("DCTKD_ZOO_HOME", str(home / "cache"))
    monkeypatch.setattr(registry, "_MODULES", list(registry._modules()))
    registry.include(home / "animals.py")
    setup.test_split.cache_clear()
    for name in ("r14_animals", "r8_animals", "r8_kd_animals"):
        if not weights.is_complete(home / "out" / name):
            export_untrained(name, home / "out", ANIMALS)
    yield
    registry._bundled_and_included.cache_clear()


def export_untrained(name: str, out: Path, classes: tuple[str, ...]) -> Path:
    """An untrained network in the folder that training would have left."""
    entry = registry.get_entry(name)
    torch.manual_seed(len(name))
    model = models.create(entry.arch, len(classes)).eval()
    folder = out / name
    folder.mkdir(parents=True, exist_ok=True)
    export.write(model, entry, registry.get_dataset(entry.dataset), classes, folder)
    (folder / "recipe.json").write_text(json.dumps({"recipe": {"seed": 7}}))
    (folder / "environment.json").write_text(json.dumps({"device": "one NVIDIA H200"}))
    return folder


def where(home: Path, **changes: object) -> config.EvalConfig:
    known = {"data": home / "data", "device": torch.device("cpu"), "trained": home / "out", "fresh": True}
    return config.EvalConfig(**{**known, **changes})  # type: ignore[arg-type]


def test_a_student_is_measured_against_its_teacher(home):
    done: list[tuple[int, int]] = []
    result = evaluation.evaluate(
        registry.get_entry("r8_kd_animals"), where(home), lambda images, total: done.append((images, total))
    )
    names = [name for name in protocol.PROTOCOLS["exact"].metrics if isinstance(_base.load([name])[0], LevelMetric)]
    levels = [f"{name}.{k}" for name in names for k in ((1,) if name == "class_map" else (1, 2, 3))]
    levels += [f"chance.{name}" for name in levels]
    known = ["id", "label", "prediction", "confidence", "teacher_prediction", "top1", "top5", "nll"]
    known += ["agreement", "agreement5", "kl"]
    assert len(names) == 5 and sorted(result.table.columns) == sorted([*known, *levels])
    assert done[-3:] == [(0, 90), (64, 90), (90, 90)]
    assert result.table["id"][0] == "test/ant/00.png" and result.table["id"].is_unique
    assert result.table["label"].tolist() == [label for label in range(3) for _ in range(PER_CLASS)]
    assert np.isfinite(result.table.drop(columns="id").to_numpy(float)).all()
    assert result.figures["top1"] == pytest.approx(100 * (result.table.label == result.table.prediction).mean())
    assert result.figures["top5"] == result.figures["agreement5"] == 100
    shared = result.table[result.table.teacher_prediction != result.table.label]
    expected = 100 * (shared.prediction == shared.teacher_prediction).mean()
    assert result.figures["agreement_wrong"] == pytest.approx(expected)
    assert result.teacher == "r14_animals"


def test_class_maps_are_compared_only_of_networks_that_have_them(home):
    networks = [features.FeatureExtractor(models.create(arch, 3, 64).eval()) for arch in ("r8", "r14", "cnx")]
    small, large, other = networks
    images = torch.randn(2, 3, 64, 64)
    assert setup.enable_class_maps((small, large), images)
    assert small(images).class_maps is not None and large(images).class_maps is not None
    assert not setup.enable_class_maps((small, other), images)
    assert small(images).class_maps is None and other(images).class_maps is None
    having, lacking = (protocol.image_metrics("exact", True, answer) for answer in (True, False))
    assert {metric.name for metric in having} - {metric.name for metric in lacking} == {"class_map"}


def test_the_figures_are_those_of_the_plain_network_on_the_plain_images(home):
    result = evaluation.evaluate(registry.get_entry("r8_animals"), where(home))
    model = models.load("r8", result.weights)
    transform = models.create_transform("r8_animals")
    images = [Image.open(home / "data" / "animals" / name) for name in result.table["id"]]
    with torch.no_grad():
        confidence, prediction = model(torch.stack([transform(image) for image in images])).softmax(1).max(1)
    assert prediction.tolist() == result.table["prediction"].tolist()
    assert confidence.numpy() == pytest.approx(result.table["confidence"].to_numpy(), abs=1e-5)


def test_a_baseline_is_compared_with_the_teacher_of_its_siblings_and_a_teacher_with_none(home):
    assert "ssim.1" in evaluation.evaluate(registry.get_entry("r8_animals"), where(home)).table
    teacher = evaluation.evaluate(registry.get_entry("r14_animals"), where(home))
    assert teacher.teacher is None and "ssim.1" not in teacher.table and "agreement" not in teacher.figures
    assert setup.reference(registry.get_entry("r18_ade20k")) == "r50_ade20k"


def test_any_network_can_be_compared_with_any_other(home, monkeypatch, tmp_path):
    """Also a teacher with itself, and a student with its baseline; each is a measurement of its own in the cache."""
    monkeypatch.setenv("DCTKD_ZOO_HOME", str(tmp_path))
    entry, teacher = registry.get_entry("r8_kd_animals"), registry.get_entry("r14_animals")
    own, other = (evaluation.evaluate(entry, where(home, fresh=False, teacher=name)) for name in (None, "r8_animals"))
    assert (own.teacher, other.teacher) == ("r14_animals", "r8_animals")
    baseline = evaluation.evaluate(registry.get_entry("r8_animals"), where(home)).table
    assert other.table["teacher_prediction"].tolist() == baseline["prediction"].tolist()
    assert own.table["top1"].equals(other.table["top1"]) and not own.table["ssim.3"].equals(other.table["ssim.3"])
    assert result_row.row(other)["teacher"] == "r8_animals" and result_row.row(other)["note"] is None
    monkeypatch.setattr(evaluation, "_measure", lambda *given: pytest.fail("measured again"))
    for name, expected in ((None, own), ("r14_animals", own), ("r8_animals", other)):
        again = evaluation.evaluate(entry, where(home, fresh=False, teacher=name))
        assert again.table["kl"].to_numpy() == pytest.approx(expected.table["kl"].to_numpy(), abs=0)
    monkeypatch.undo()
    itself = evaluation.evaluate(teacher, where(home, teacher="r14_animals"))
    assert itself.figures["agreement"] == 100 and itself.figures["kl"] == pytest.approx(0, abs=1e-5)
    assert itself.figures["agreement_wrong"] == 100 and itself.figures["skill.ssim"] == pytest.approx(1, abs=1e-5)


def test_a_network_outside_the_catalog_can_be_the_chosen_teacher(home, tmp_path):
    shutil.copytree(home / "out" / "r14_animals", tmp_path / "other")
    name = f"local-dir:{tmp_path / 'other'}"
    result, expected = (
        evaluation.evaluate(registry.get_entry("r8_animals"), where(home, teacher=item)).table
        for item in (name, "r14_animals")
    )
    pd.testing.assert_frame_equal(result, expected)


@pytest.mark.parametrize(
    ("classes", "said"), [(("ant", "cat", "bee"), "output 1 is 'cat', but 'bee'"), (("ant", "bee"), "has 2 classes")]
)
def test_a_chosen_teacher_of_other_classes_is_refused_by_both_names(home, tmp_path, classes, said, capsys):
    name = f"local-dir:{export_untrained('r14_animals', tmp_path, classes)}"
    expected = f"r8_animals cannot be compared with {name}: teacher {name}"
    with pytest.raises(TeacherMismatch, match=said) as refused:
        evaluation.evaluate(registry.get_entry("r8_animals"), where(home, teacher=name))
    assert str(refused.value).startswith(expected)
    assert main(["compare", "r8_animals", "r14_animals", "--teacher", name, *places(home)]) == 1
    assert f"error: {expected}" in capsys.readouterr().err


def test_compare_with_a_chosen_teacher_aligns_what_has_none(home, tmp_path, capsys):
    path = tmp_path / "x.json"
    command = ["compare", "r14_animals", "r8_animals", "--json", str(path), *places(home)]
    assert main(command) == 0
    assert "A has no teacher, so agreement and alignment are not compared: --teacher T" in " ".join(
        capsys.readouterr().out.split()
    )
    assert main([*command, "--teacher", "r8_kd_animals"]) == 0
    (result,) = json.loads(path.read_text())
    assert (result["teacher_a"], result["teacher_b"], result["note"]) == ("r8_kd_animals", "r8_kd_animals", "")
    families = {item["figure"]: item["family"] for item in result["differences"]}
    assert {families[name] for name in ("agreement", "agreement_wrong", "kl", "skill.ssim")} == {"alignment"}
    assert "Agreement and alignment are with r8_kd_animals." in capsys.readouterr().out


def test_the_table_and_the_records_say_which_teacher_was_chosen(home, tmp_path, capsys):
    path, page = tmp_path / "x.json", tmp_path / "page"
    names = ["r14_animals", "r8_animals", "r8_kd_animals", "--teacher", "r8_animals"]
    assert evaluate(home, *names, "--json", str(path), "--report", str(page), "--no-images") == 0
    rows = {entry["name"]: entry["row"] for entry in json.loads(path.read_text())["entries"]}
    assert {row["teacher"] for row in rows.values()} == {"r8_animals"} and "skill.ssim" in rows["r14_animals"]
    assert "against r8_animals." in " ".join(capsys.readouterr().out.split())
    text = " ".join((page / "index.html").read_text(encoding="utf-8").split())
    assert 'Agreement and alignment of all entries are with <span class="mono">r8_animals</span>.' in text
    assert text.count('Its maps are compared with those of <span class="mono">r8_animals</span>.') == 3
    assert '<span class="dim">teacher, ' in text and '<span class="dim">baseline, ' in text


def test_rows_of_results_are_measured_against_an_entrys_own_teacher(home, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(results_csv, "RESULTS", tmp_path / "results.csv")
    for name in ("r8_kd_animals", "r14_animals"):
        with pytest.raises(SystemExit, match="2"):
            evaluate(home, name, "--write", "--teacher", "r8_animals")
        own = registry.get_entry(name).teacher or "none"
        expected = f"{name} has one row, measured against {own}, not against r8_animals; leave out --teacher"
        assert expected in " ".join(capsys.readouterr().err.split())
    assert not results_csv.RESULTS.exists()
    assert evaluate(home, "r8_animals", "r8_kd_animals", "--write", "--teacher", "r14_animals") == 0
    assert [row["teacher"] for row in results_csv.read(results_csv.RESULTS)] == ["r14_animals"] * 2


def test_a_chosen_teacher_that_is_not_there_is_told_before_anything_is_measured(home, monkeypatch, capsys):
    monkeypatch.setattr("eval.run.attempt.evaluate", lambda *given: pytest.fail("measured"))
    assert evaluate(home, "r8_animals", "--teacher", "r20_animals") == 1
    assert "error: no weights for r20_animals" in capsys.readouterr().err
    assert main(["compare", "r8_animals", "r14_animals", "--teacher", "r20_animals", *places(home)]) == 1
    assert "error: no weights for r20_animals" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        evaluate(home, "r8_animals", "--teacher", "r14_animal")
    assert "did you mean r14_animals" in capsys.readouterr().err


def test_the_sanity_check_replaces_weights_from_the_head_to_the_stem(home, tmp_path, capsys):
    entry = registry.get_entry("r8_kd_animals")
    result = evaluation.evaluate(entry, where(home, sanity=True))
    parts = ["nothing", "head", "stage 3", "stage 2", "stage 1", "stem"]
    assert [step.part for step in result.sanity] == parts
    trained, head, *_, last = (step.figures for step in result.sanity)
    assert trained == {name: result.figures[name] for name in trained} and "agreement" in trained
    skills = [name for name in trained if name.startswith("skill.")]
    assert {"skill.ssim", "skill.cka"} <= {*skills} and not any("energy" in name for name in skills)
    assert "skill.class_map" in skills and head["skill.class_map"] != pytest.approx(
        trained["skill.class_map"], abs=1e-5
    )
    skills.remove("skill.class_map")  # the only one that the head has a part in
    assert [head[name] for name in skills] == pytest.approx([trained[name] for name in skills], abs=1e-5)
    assert head["agreement"] != trained["agreement"]
    # With all of it replaced, it is the untrained network, whatever the trained one was.
    fresh = tmp_path / "out" / "r8_kd_animals"
    shutil.copytree(home / "out" / "r8_kd_animals", fresh)
    save_file(sanity.untrained(result.weights, 0).state_dict(), fresh / weights.WEIGHTS)
    weights.write_hashes(fresh)
    shutil.copytree(home / "out" / "r14_animals", tmp_path / "out" / "r14_animals")
    untrained = evaluation.evaluate(entry, where(home, trained=tmp_path / "out"))
    assert last == pytest.approx({name: untrained.figures[name] for name in last}, abs=1e-5)
    assert not evaluation.evaluate(entry, where(home)).sanity


@pytest.mark.parametrize("name", ["resnet18", "mobilenetv2_100", "efficientnet_lite0", "vit_tiny_patch16_224"])
def test_each_tensor_of_a_network_is_in_one_part(name):
    model = timm.create_model(name, num_classes=3)
    parts = [*sanity.parts(model)]
    assert [part for part, _ in parts][:1] == ["head"] and parts[-1][0] == "stem"
    assert [part for part, _ in parts[1:-1]] == [f"stage {n}" for n in range(len(parts) - 2, 0, -1)]
    assert sorted(tensor for _, names in parts for tensor in names) == sorted(model.state_dict())
    head = dict(parts)["head"]
    classifier = timm.get_pretrained_cfg_value(name, "classifier")
    assert {f"{classifier}.weight", f"{classifier}.bias"} <= {*head}


def test_a_part_that_makes_outputs_infinite_has_no_figures(home):
    entry = registry.get_entry("r8_kd_animals")
    network = setup.load_network(entry, weights.find(entry, home / "out"), ANIMALS, torch.device("cpu"))

    def measure(network: features.FeatureExtractor) -> dict[str, float]:
        raise NonFiniteAnswers("outputs are not finite")

    first, *others = sanity.cascade(network, weights.find(entry, home / "out"), {"agreement": 50.0}, measure)
    assert first.figures == {"agreement": 50.0} and len(others) == 5
    assert all(np.isnan(step.figures["agreement"]) for step in others)


def test_insertion_and_deletion_are_shown_and_recorded(home, tmp_path, capsys):
    path, page = tmp_path / "x.json", tmp_path / "page"
    names = ["r8_kd_animals", "r14_animals", "--faithfulness", "--limit", "30"]
    assert evaluate(home, *names, "--json", str(path), "--report", str(page), "--no-images") == 0
    records = {record["name"]: record for record in json.loads(path.read_text())["entries"]}
    assert records["r14_animals"]["faithfulness"] == []
    rows = records["r8_kd_animals"]["faithfulness"]
    assert [(row["maps"], row["other"]) for row in rows] == [
        (maps, other) for maps in faithfulness.MAPS for other in ("the teacher's map", "a random order")
    ]
    shown = capsys.readouterr().out
    assert "r8_kd_animals: insertion and deletion" in shown
    for row in rows:
        mean, low, high = row["insertion"]
        assert low <= mean <= high and abs(mean) <= 1
        assert faithfulness.text(row["insertion"]) in shown
    text = (page / "index.html").read_text(encoding="utf-8")
    assert text.count("<summary>Insertion and deletion</summary>") == 1 and faithfulness.CAPTION in text
    again = tmp_path / "again.json"
    assert evaluate(home, *names, "--json", str(again)) == 0
    assert json.loads(again.read_text())["entries"] == json.loads(path.read_text())["entries"], "the same every time"


def test_the_sanity_check_is_shown_and_recorded(home, tmp_path, capsys):
    path, page = tmp_path / "x.json", tmp_path / "page"
    names = ["r8_kd_animals", "r14_animals", "--sanity", "--limit", "30"]
    assert evaluate(home, *names, "--json", str(path), "--report", str(page), "--no-images") == 0
    student, teacher = json.loads(path.read_text())["entries"][::-1]
    if student["name"] != "r8_kd_animals":
        student, teacher = teacher, student
    assert [step["untrained"] for step in student["sanity"]][:2] == ["nothing", "head"] and teacher["sanity"] == []
    shown = capsys.readouterr().out
    assert "r8_kd_animals: sanity check" in shown and "r14_animals: sanity check" not in shown
    line = next(line for line in shown.splitlines() if line.startswith("stage 3"))
    assert f"{student['sanity'][2]['agreement']:.2f}" in line
    assert shown.count(sanity.CAPTION) == 1
    text = (page / "index.html").read_text(encoding="utf-8")
    assert text.count("<summary>Sanity check</summary>") == 1 and sanity.CAPTION in text
    with pytest.raises(SystemExit, match="2"):
        evaluate(home, "r8_kd_animals", "--sanity", "--protocol", "released")


def test_the_batches_do_not_change_the_figures(home, monkeypatch):
    entry = registry.get_entry("r8_kd_animals")
    whole = evaluation.evaluate(entry, where(home))
    monkeypatch.setattr("eval.run.per_image.BATCH_SIZE", 7)
    parts = evaluation.evaluate(entry, where(home))
    pd.testing.assert_frame_equal(whole.table, parts.table, rtol=1e-4, atol=1e-4)


def test_a_student_runs_once_per_batch_and_its_teacher_once_for_all_its_students(home, monkeypatch):
    monkeypatch.setenv("DCTKD_ZOO_HOME", str(home / "another"))  # where no teacher was run yet
    runs = []

    def counted(model: nn.Module, images: Tensor, *rest: bool) -> features.Output:
        runs.append(len(images))
        return plain(model, images, *rest)

    plain = features.run
    monkeypatch.setattr(features, "run", counted)
    evaluation.evaluate(registry.get_entry("r8_kd_animals"), where(home))
    checks = [evaluation.CHECKED] * 2  # whether both networks have class maps
    assert sum(runs) == 2 * 90 + sum(checks)
    assert runs[-2:] == [64, 26]
    runs.clear()
    evaluation.evaluate(registry.get_entry("r8_animals"), where(home))
    assert runs == [*checks, 64, 26]


def test_what_was_measured_is_not_measured_again_unless_something_changed(home, monkeypatch, tmp_path):
    monkeypatch.setenv("DCTKD_ZOO_HOME", str(tmp_path))
    entry = registry.get_entry("r8_kd_animals")
    first = evaluation.evaluate(entry, where(home, fresh=False))
    monkeypatch.setattr(features, "run", lambda *given: pytest.fail("run again"))
    again = evaluation.evaluate(entry, where(home, fresh=False))
    pd.testing.assert_frame_equal(first.table, again.table, check_dtype=False)
    assert again.figures == pytest.approx(first.figures, nan_ok=True) and again.date == first.date
    assert again.intervals == first.intervals
    (path,) = (tmp_path / "tables").iterdir()
    path.write_bytes(path.read_bytes()[:-100])
    assert kept.read(path) is None
    with pytest.raises(pytest.fail.Exception):
        evaluation.evaluate(entry, where(home, fresh=False))
    for changes in ({"limit": 9}, {"protocol": "released"}, {"fresh": True}):
        with pytest.raises(pytest.fail.Exception):
            evaluation.evaluate(entry, where(home, **{"fresh": False, **changes}))


def test_fresh_reaches_what_the_cache_holds_of_the_teacher(home, monkeypatch, tmp_path):
    """Once for all the students that are measured by one process."""
    monkeypatch.setenv("DCTKD_ZOO_HOME", str(tmp_path))
    runs = []
    plain = features.run

    def counted(model, images, *rest):
        runs.append(len(images))
        return plain(model, images, *rest)

    monkeypatch.setattr(features, "run", counted)
    for name, fresh, expected in (
        ("r8_kd_animals", False, 2 * 90),
        ("r8_animals", False, 90),
        ("r8_kd_animals", True, 2 * 90),
        ("r8_animals", True, 90),
    ):
        runs.clear()
        evaluation.evaluate(registry.get_entry(name), where(home, fresh=fresh))
        assert sum(runs) == expected + 2 * evaluation.CHECKED, (name, fresh)


def outside(home: Path, tmp_path: Path) -> Path:
    """The teacher's network in a folder of its own, and a student of it in the registry."""
    folder = tmp_path / "teacher"
    shutil.copytree(home / "out" / "r14_animals", folder)
    shutil.copytree(home / "out" / "r8_kd_animals", tmp_path / "out" / "r8_kd_animals.own")
    (folder / "SHA256SUMS").unlink()
    (tmp_path / "own.py").write_text(
        "from dataclasses import replace\nfrom dctkd_zoo import registry\n"
        "KNOWN = registry.get_entry('r8_kd_animals')\n"
        f"ENTRIES = (replace(KNOWN, name='r8_kd_animals.own', teacher='local-dir:{folder}'),)\n"
    )
    registry.include(tmp_path / "own.py")
    return folder


@pytest.mark.parametrize("field", ["mean", "std", "input_size"])
def test_a_corrected_config_of_the_teacher_is_measured_anew(home, monkeypatch, tmp_path, field):
    monkeypatch.setenv("DCTKD_ZOO_HOME", str(tmp_path / "cache"))
    folder = outside(home, tmp_path)
    right = (folder / "config.json").read_text()
    wrong = json.loads(right)
    wrong["pretrained_cfg"][field] = {"mean": [2.0] * 3, "std": [1.0, 0.25, 0.25], "input_size": [3, 24, 24]}[field]

    def measured(config: str, cache: str = "cache") -> pd.DataFrame:
        monkeypatch.setenv("DCTKD_ZOO_HOME", str(tmp_path / cache))
        (folder / "config.json").write_text(config)
        there = where(home, trained=tmp_path / "out", fresh=False)
        return evaluation.evaluate(registry.get_entry("r8_kd_animals.own"), there).table

    before, after, empty = measured(json.dumps(wrong)), measured(right), measured(right, "empty")
    pd.testing.assert_frame_equal(after, empty)
    assert not before["pearson.3"].equals(after["pearson.3"])


def test_other_objects_in_the_same_images_are_measured_anew(home, monkeypatch, tmp_path):
    """The digest that recorded figures name is of the images alone, whatever the masks."""
    monkeypatch.setenv("DCTKD_ZOO_HOME", str(tmp_path))
    split, dataset = setup.test_split, registry.get_dataset("animals")
    left = np.zeros((90, 20, 24), np.uint8)
    left[:, :, :12] = 1
    results = []
    for masks in (left, left[:, :, ::-1].copy(), left):
        monkeypatch.setattr(
            evaluation, "test_split", lambda *told, masks=masks: replace(split(*told), outlines=lambda: masks)
        )
        results.append(evaluation.evaluate(registry.get_entry("r14_animals"), where(home, fresh=False)))
    first, mirrored, again = results
    assert first.digest == mirrored.digest == content.digest(split(dataset, home / "data", None))
    assert first.date == again.date and first.table["energy.1"].equals(again.table["energy.1"])
    assert (first.table["energy.1"] + mirrored.table["energy.1"]).to_numpy() == pytest.approx(1, abs=1e-5)


def masked(monkeypatch: pytest.MonkeyPatch, masks: np.ndarray) -> None:
    """Make the test images of the animals show objects."""
    split = setup.test_split
    monkeypatch.setattr(evaluation, "test_split", lambda *told: replace(split(*told[:3]), outlines=lambda: masks))


def some_objects() -> tuple[Any, Any]:
    """Masks of 90 images, of which every third shows nothing and every fourth two objects; and which show any."""
    masks = np.zeros((90, 20, 24), np.uint8)
    masks[:, 2:9, 3:12] = 1
    masks[::4, 10:18, 12:20] = 2
    masks[::3] = 0
    return masks, (masks > 0).any(axis=(1, 2))


def test_images_without_objects_spoil_no_mean_no_interval_and_no_skill(home, monkeypatch, tmp_path):
    monkeypatch.setenv("DCTKD_ZOO_HOME", str(tmp_path))
    masks, shown = some_objects()
    masked(monkeypatch, masks)
    result = evaluation.evaluate(registry.get_entry("r8_kd_animals"), where(home, protocol="objects"))
    assert shown.sum() == 60 and result.table["top1"].notna().all()
    for name in ("energy", "pointing", "attended", "rank_accuracy", "auc"):
        for who in ("", "teacher_"):
            column = result.table[f"{who}{name}.1"].astype(float)
            assert (column.notna() == shown).all()
            assert result.figures[f"{who}{name}.1"] == pytest.approx(column[shown].mean())
            chance = result.table[f"chance.{who}{name}.1"].astype(float)  # on the objects of the partner
            assert chance.notna().sum() == 60 and not (chance.notna() == shown).all()
            best = skill.best(name, result.figures["objects_in_view"])
            expected = (column.mean() - chance.mean()) / (best - chance.mean())
            assert result.figures[f"skill.{who}{name}.1"] == pytest.approx(expected)
            for figure in (f"{who}{name}", f"{who}{name}.1", f"skill.{who}{name}", f"skill.{who}{name}.1"):
                low, high = result.intervals[figure]
                assert low <= result.figures[figure] <= high and np.isfinite([low, high]).all()
    in_view = result.table["objects_in_view"]
    assert set(in_view[shown]) == {1, 2} and in_view[~shown].isna().all()
    assert result.figures["objects_in_view"] == pytest.approx(in_view[shown].mean())
    assert all(np.isfinite(value) for value in result.figures.values())
    row = result_row.row(result)
    assert row["n"] == 90 and row["protocol"] == "objects"
    assert row["energy"] == pytest.approx(result.figures["energy"], abs=1e-6)


def test_a_dataset_that_shows_no_object_at_all_still_has_its_other_figures(home, monkeypatch, tmp_path):
    monkeypatch.setenv("DCTKD_ZOO_HOME", str(tmp_path))
    plain = evaluation.evaluate(registry.get_entry("r8_kd_animals"), where(home))
    masked(monkeypatch, np.zeros((90, 20, 24), np.uint8))
    result = evaluation.evaluate(registry.get_entry("r8_kd_animals"), where(home))
    assert np.isnan(result.figures["energy"]) and np.isnan(result.figures["skill.attended"])
    assert {name: result.figures[name] for name in plain.figures} == pytest.approx(dict(plain.figures), nan_ok=True)


def test_outlines_are_asked_for_where_a_dataset_has_none(home, capsys):
    with pytest.raises(DatasetError, match=r"^animals has no images with outlines of objects$"):
        evaluation.evaluate(registry.get_entry("r8_animals"), where(home, protocol="objects"))
    assert evaluate(home, "r8_animals", "--protocol", "objects") == 1
    assert "r8_animals failed: animals has no images with outlines of objects" in capsys.readouterr().out


@pytest.mark.slow  # generates synthscenes
def test_the_test_set_of_synthscenes_has_outlines_so_both_protocols_measure_it_alike(tmp_path, monkeypatch):
    monkeypatch.setenv("DCTKD_ZOO_HOME", str(tmp_path))
    entry = registry.get_entry("r20_dctkd_synthscenes")
    exact, objects = (
        evaluation.evaluate(
            entry,
            config.EvalConfig(None, torch.device("cpu"), protocol=name, limit=48, fresh=True),
        )
        for name in ("exact", "objects")
    )
    assert exact.weights.origin == "bundled" and len(exact.table) == 48
    pd.testing.assert_frame_equal(exact.table, objects.table)
    np.testing.assert_equal((objects.figures, objects.intervals), (exact.figures, exact.intervals))
    assert {"energy", "pointing", "skill.attended", "skill.rank_accuracy", "objects_in_view"} <= objects.figures.keys()
    assert objects.figures["objects_in_view"] == 3
    known = protocol.figures(exact.table, "released", 12)
    assert not {"energy", "objects_in_view", "skill.energy"} & known.keys()


@pytest.mark.parametrize("file", ["data/sources/synthscenes.py", "losses/dctkd.py", "features.py"])
def test_the_code_of_the_library_is_a_part_of_what_tables_are_found_by(home, monkeypatch, tmp_path, file):
    """Also that of the sources, which draw masks."""
    shutil.copytree(kept.LIBRARY, tmp_path / "dctkd_zoo", ignore=shutil.ignore_patterns("bundled", "__pycache__"))
    monkeypatch.setattr(kept, "LIBRARY", tmp_path / "dctkd_zoo")
    monkeypatch.setattr(teacher_cache, "__file__", str(tmp_path / "dctkd_zoo" / "teacher_cache.py"))

    def place() -> Path:
        kept.code_hash.cache_clear()
        teacher_cache.made_by.cache_clear()
        return kept.cache_path({}, tmp_path)

    before = place()
    with (tmp_path / "dctkd_zoo" / file).open("a") as source:
        source.write("# changed\n")
    assert place() != before
    monkeypatch.undo()
    assert place() == before


def test_intervals_are_computed_once_for_each_measurement(home, monkeypatch, tmp_path):
    monkeypatch.setenv("DCTKD_ZOO_HOME", str(tmp_path / "cache"))
    entry, config_ = registry.get_entry("r8_kd_animals"), where(home, fresh=False)
    first = evaluation.evaluate(entry, config_)
    (path,) = (tmp_path / "cache" / "intervals").glob("*.json")

    def again() -> NoReturn:
        raise AssertionError("computed again")

    with monkeypatch.context() as patch:
        patch.setattr(intervals, "bootstrapped", lambda *_: again())
        np.testing.assert_equal(evaluation.evaluate(entry, config_).intervals, first.intervals)
    path.write_text(path.read_text().replace("top1", "top2"))  # damaged
    np.testing.assert_equal(evaluation.evaluate(entry, config_).intervals, first.intervals)
    assert '"top1"' in path.read_text()
    evaluation.evaluate(entry, where(home, fresh=False, limit=30))  # another measurement
    assert len([*path.parent.glob("*.json")]) == 2


def test_a_kept_result_is_shown_without_importing_timm_or_torchvision(tmp_path):
    """They take more time than all the rest: torchvision imports torch's compiler."""
    command = (
        "import sys; from eval.__main__ import main; assert main(['r20_dctkd_synthscenes', '--limit', '12']) == 0; "
        "print(sorted({'timm', 'torchvision'} & sys.modules.keys()))"
    )
    environment = {**os.environ, "DCTKD_ZOO_HOME": str(tmp_path), "OMP_NUM_THREADS": "1"}
    shown = []
    for imported in ("['timm', 'torchvision']", "[]"):
        done = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stderr
        *table, last = done.stdout.splitlines()
        assert last == imported
        shown.append(table)
    assert shown[0] == shown[1]


def spoilt(home: Path, name: str, out: Path, value: float = float("nan")) -> Path:
    """The networks in `out`, where a bias of the head of one of them is no finite number."""
    shutil.copytree(home / "out", out, ignore=shutil.ignore_patterns("*seed*"))
    tensors = load_file(out / name / weights.WEIGHTS)
    tensors["fc.bias"][1] = value
    save_file(tensors, out / name / weights.WEIGHTS)
    weights.write_hashes(out / name)
    return out


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize(("name", "who"), [("r8_kd_animals", ""), ("r14_animals", "teacher r14_animals: ")])
def test_a_network_whose_answers_are_no_numbers_fails(home, monkeypatch, tmp_path, value, name, who, capsys):
    """So does an entry that is compared with one. Nothing of it is written, nothing is kept."""
    monkeypatch.setenv("DCTKD_ZOO_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(results_csv, "RESULTS", tmp_path / "results.csv")
    meta = ["--json", str(tmp_path / "r.json"), "--write"]
    assert evaluate(home, "r8_kd_animals", "--out", str(spoilt(home, name, tmp_path / "out", value)), *meta) == 1
    (entry,) = json.loads((tmp_path / "r.json").read_text())["entries"]
    assert entry["status"] == "failed" and entry["row"] is None
    assert entry["reason"].startswith(f"{who}outputs are not finite for 90 of 90 images")
    assert not results_csv.RESULTS.exists() and not list((tmp_path / "cache").rglob("*.npz"))


def test_images_without_an_answer_are_counted(home, monkeypatch, tmp_path):
    """A network that fails on some images alone, and would be right on them: class 0 is the first of none."""
    monkeypatch.setenv("DCTKD_ZOO_HOME", str(tmp_path))
    plain = features.run

    def fails(model: nn.Module, images: Tensor, *rest: bool) -> features.Output:
        output = plain(model, images, *rest)
        output.logits[:2] = float("nan")
        return output

    monkeypatch.setattr(features, "run", fails)
    with pytest.raises(NonFiniteAnswers, match="for 4 of 90 images"):  # of two batches
        evaluation.evaluate(registry.get_entry("r14_animals"), where(home))


def test_a_baseline_in_a_folder_of_its_own_is_compared_with_its_own_runs_teacher_or_none(home, monkeypatch, tmp_path):
    """Not with the one that another run left in the cache."""
    monkeypatch.setenv("DCTKD_ZOO_HOME", str(tmp_path / "cache"))
    default, own = tmp_path / "cache" / "checkpoints", tmp_path / "own"
    for name in ("r8_animals", "r14_animals"):
        shutil.copytree(home / "out" / name, default / name)
    shutil.copytree(home / "out" / "r8_animals", own / "r8_animals")
    baseline = registry.get_entry("r8_animals")
    alone = evaluation.evaluate(baseline, where(home, trained=own))
    assert alone.teacher_weights is None and "agreement" not in alone.figures
    assert alone.note == "not compared with r14_animals: it has not been trained in this folder of runs (--out) yet"
    assert setup.load_teacher(baseline, ANIMALS, where(home, trained=own)) is None
    for folder in (None, default):
        assert "agreement" in evaluation.evaluate(baseline, where(home, trained=folder)).figures
    shutil.copytree(home / "out" / "r14_animals", own / "r14_animals")
    assert evaluation.evaluate(baseline, where(home, trained=own)).teacher_weights.folder == own / "r14_animals"  # type: ignore[union-attr]


def test_images_seen_otherwise_are_another_measurement(home, monkeypatch, tmp_path):
    monkeypatch.setenv("DCTKD_ZOO_HOME", str(tmp_path))
    entry = registry.get_entry("r8_animals")
    dataset = registry.get_dataset("animals")
    shutil.copytree(home / "out" / "r8_animals", tmp_path / "r8_animals")
    config = json.loads((tmp_path / "r8_animals" / "config.json").read_text())
    del config["pretrained_cfg"]["mean"]  # or other than that is refused
    (tmp_path / "r8_animals" / "config.json").write_text(json.dumps(config))
    weights.write_hashes(tmp_path / "r8_animals")
    there = where(home, trained=tmp_path, fresh=False)
    first = evaluation.evaluate(entry, there)
    monkeypatch.setattr(registry, "get_dataset", lambda name: replace(dataset, mean=(0.1, 0.2, 0.3)))
    other = evaluation.evaluate(entry, there)
    assert not first.table["confidence"].equals(other.table["confidence"])


def test_chance_is_the_score_of_maps_of_two_images(home):
    result = evaluation.evaluate(registry.get_entry("r8_animals"), where(home))
    partner = skill.others(torch.arange(90)).tolist()
    assert sorted(partner) == list(range(90)) and not any(a == b for a, b in enumerate(partner))
    student = setup.load_network(result.entry, result.weights, ANIMALS, torch.device("cpu"))
    teacher = models.load("r14", weights.from_folder(home / "out" / "r14_animals", ""))
    transform = models.create_transform("r8_animals")
    images = torch.stack([transform(Image.open(home / "data" / "animals" / name)) for name in result.table["id"]])
    with torch.no_grad():
        ours, theirs = features.run(student.model, images), features.run(teacher, images)
    others = theirs._replace(logits=theirs.logits[partner], maps=tuple(m[partner] for m in theirs.maps))
    (pearson,) = _base.load(["pearson"])
    assert isinstance(pearson, LevelMetric)
    expected = pearson(ours, others, None)  # type: ignore[arg-type]
    assert result.table[[f"chance.pearson.{k}" for k in (1, 2, 3)]].to_numpy() == pytest.approx(
        expected.numpy(), abs=1e-4
    )
    assert result.figures["skill.pearson.1"] == pytest.approx(
        (result.figures["pearson.1"] - expected[:, 0].mean().item()) / (1 - expected[:, 0].mean().item()), abs=1e-4
    )


def test_shuffled_pairs_score_the_level_of_chance_and_equal_maps_the_best():
    """Maps that share a strong centre, as scenes do: whatever the ring, another image's map scores the same."""
    torch.manual_seed(0)
    y, x = torch.meshgrid(torch.linspace(-1, 1, 12), torch.linspace(-1, 1, 12), indexing="ij")
    bump = torch.exp(-2 * (x * x + y * y))
    own = torch.rand(400, 12, 12)
    student, teacher = bump + own + 0.3 * torch.rand(400, 12, 12), bump + own + 0.3 * torch.rand(400, 12, 12)
    for name in ("ssim", "pearson", "iou", "spectral"):
        (score,) = _base.load([name])
        assert isinstance(score, LevelMetric)
        rings = [score.compare(student, teacher[skill.others(torch.arange(400), seed)]) for seed in range(21)]
        first, *others = (ring.double().mean().item() for ring in rings)
        reach = 1.96 * rings[0].double().std().item() * (2 / 400) ** 0.5  # both means are of 400 pairs
        assert sum(abs(other - first) < reach for other in others) >= 17, name
        assert abs(score.compare(student, teacher).mean() - first) > 3 * reach, name
        assert score.compare(teacher, teacher).mean().item() == pytest.approx(score.best, abs=1e-5), name


def test_an_evaluation_that_is_killed_goes_on_with_what_is_missing(home, tmp_path):
    """The real thing: SIGKILL once the first entry is measured, then the same command; nothing is measured twice."""
    names = ["r14_animals", "r8_animals", "r8_kd_animals"]
    command = [sys.executable, "-m", "eval", *names, "--catalog", str(home / "animals.py")]
    command += ["--data", str(home / "data"), "--out", str(home / "out"), "--device", "cpu", "--json"]

    def environment(place: str) -> dict[str, str]:
        return {**os.environ, "OMP_NUM_THREADS": "1", "DCTKD_ZOO_HOME": str(tmp_path / place)}

    def rows(place: str) -> list[dict[str, Any]]:
        path = tmp_path / f"{place}.json"
        subprocess.run([*command, str(path)], env=environment(place), check=True, capture_output=True)
        return [{**entry["row"], "date": None} for entry in json.loads(path.read_text())["entries"]]

    tables = tmp_path / "killed" / "tables"
    process = subprocess.Popen([*command, str(tmp_path / "none.json")], env=environment("killed"))
    deadline = time.monotonic() + 120
    while not list(tables.glob("[!.]*.npz")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "none.json").exists()
    done = {path: path.stat().st_mtime_ns for path in tables.glob("[!.]*.npz")}
    assert 1 <= len(done) < 3
    assert rows("killed") == rows("whole")
    assert done.items() <= {path: path.stat().st_mtime_ns for path in tables.glob("*.npz")}.items()
    assert len(list(tables.glob("[!.]*.npz"))) == 3


def test_costs_are_measured_when_asked_for(home):
    result = evaluation.evaluate(registry.get_entry("r8_animals"), where(home, cost=True))
    meta = result_row.row(result)
    assert meta["macs"] > 1e5 and meta["latency_p95_ms"] >= meta["latency_ms"] > 0


def test_subsets_are_those_of_the_teacher(home):
    result = evaluation.evaluate(registry.get_entry("r8_kd_animals"), where(home))
    meta = result_row.record(attempt.Outcome(result.entry, Status.EVALUATED, result))["subsets"]
    right = result.table["teacher_prediction"] == result.table["label"]
    assert meta["teacher right"]["n"] == right.sum()
    assert meta["teacher right"]["ssim.1"] == pytest.approx(result.table["ssim.1"][right].mean())
    assert meta["both right"]["top1"] == 100


def test_a_limit_takes_images_from_all_over_the_test_set(home):
    table = evaluation.evaluate(registry.get_entry("r8_animals"), where(home, limit=9)).table
    assert table["label"].tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert len(evaluation.evaluate(registry.get_entry("r8_animals"), where(home, limit=1000)).table) == 90


def test_images_that_do_not_decode_are_counted(home, tmp_path):
    data = tmp_path / "data"
    for path in sorted((home / "data").rglob("*.png")):
        copy = data / path.relative_to(home / "data")
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(b"not an image" if path.name == "03.png" else path.read_bytes())
    result = evaluation.evaluate(registry.get_entry("r8_animals"), where(home, data=data))
    found = result_row.record(attempt.Outcome(result.entry, Status.EVALUATED, result))
    assert found["row"]["n"] == 87 and found["row"]["failed"] == 3
    assert len(found["undecodable"]) == 3 and "test/ant/03.png" in found["undecodable"][0]
    assert "test/ant/03.png" not in set(result.table["id"])
    assert (result.table["label"] == result.table["id"].map(lambda name: ANIMALS.index(name.split("/")[1]))).all()


def test_a_network_with_its_classes_in_another_order_is_refused(home, tmp_path):
    export_untrained("r8_animals", tmp_path, ("ant", "cat", "bee"))
    with pytest.raises(DatasetError, match="output 1 means 'cat', in the data class 1 is 'bee'"):
        evaluation.evaluate(registry.get_entry("r8_animals"), where(home, trained=tmp_path))


def test_a_network_of_other_classes_is_refused(home, tmp_path):
    result = weights.from_folder(export_untrained("r8_animals", tmp_path, ("ant", "bee")), "here")
    with pytest.raises(DatasetError, match="2 classes, the data has 3"):
        evaluation.evaluate(registry.get_entry("r8_animals"), where(home), found=result)


def test_missing_weights_are_found_out_before_data_is_read(tmp_path):
    nowhere = config.EvalConfig(tmp_path / "none", torch.device("cpu"), tmp_path)
    with pytest.raises(WeightsNotFound, match="python -m train r20_animals"):
        evaluation.evaluate(registry.get_entry("r20_animals"), nowhere)


def test_missing_data_names_the_command_that_fetches_it(home, tmp_path):
    with pytest.raises(DatasetMissing, match="It cannot be fetched automatically: get it from"):
        evaluation.evaluate(registry.get_entry("r8_animals"), where(home, data=tmp_path))


def test_without_the_teachers_weights_the_rest_is_measured(home, tmp_path):
    export_untrained("r8_kd_animals", tmp_path, ANIMALS)
    result = evaluation.evaluate(registry.get_entry("r8_kd_animals"), where(home, trained=tmp_path))
    assert "ssim" not in result.figures and np.isfinite(result.figures["nll"])
    row = result_row.row(result)
    assert row["teacher"] == "r14_animals" and row["teacher_sha256"] is None
    assert "python -m train r14_animals" in row["note"]


def test_a_student_of_another_teacher_than_that_which_lies_there_now_is_told(home, tmp_path):
    for name in ("r8_kd_animals", "r14_animals"):
        shutil.copytree(home / "out" / name, tmp_path / name)
    path = where(home, trained=tmp_path)
    meta = {"teacher_sha256": hashing.sha256(tmp_path / "r14_animals" / weights.WEIGHTS)}
    (tmp_path / "r8_kd_animals" / "environment.json").write_text(json.dumps(meta))
    assert result_row.row(evaluation.evaluate(registry.get_entry("r8_kd_animals"), path))["note"] is None
    (tmp_path / "r8_kd_animals" / "environment.json").write_text(json.dumps({"teacher_sha256": "ab" * 32}))
    note = result_row.row(evaluation.evaluate(registry.get_entry("r8_kd_animals"), path))["note"]
    assert note == "trained with other weights of r14_animals (abababababab) than those it is compared with"
    for config_hash, expected in (
        (hashing.sha256(tmp_path / "r14_animals" / weights.CONFIG), None),
        ("cd" * 32, "cdcdcdcdcdcd"),
    ):
        meta["teacher_config_sha256"] = config_hash
        (tmp_path / "r8_kd_animals" / "environment.json").write_text(json.dumps(meta))
        note = result_row.row(evaluation.evaluate(registry.get_entry("r8_kd_animals"), path))["note"]
        assert note == (
            expected
            and f"trained with another config.json of r14_animals ({expected}) than the one it is compared with"
        )


def test_a_row_says_what_was_measured_on_what(home):
    row = result_row.row(
        evaluation.evaluate(registry.get_entry("r8_kd_animals"), where(home, protocol="released", limit=12))
    )
    assert row["seed"] == 7 and row["n"] == row["limit"] == 12 and row["protocol"] == "released"
    assert row["weights_sha256"] == hashing.sha256(home / "out" / "r8_kd_animals" / weights.WEIGHTS)
    assert row["teacher_sha256"] == hashing.sha256(home / "out" / "r14_animals" / weights.WEIGHTS)
    assert row["weights_origin"] == "trained here" and row["precision"] == "float32"
    assert row["trained_on"] == "one NVIDIA H200"
    assert len(row["dataset_digest"]) == 64 and row["torch"] == torch.__version__
    assert {"top1", "top5", "mca_all", "nll", "ssim_zeropad", "ssim_zeropad.3"} <= set(row)
    assert str(home) not in results_csv.as_json(row)


def evaluate(home: Path, *arguments: str) -> int:
    return main([*places(home), *arguments])


def places(home: Path) -> list[str]:
    return ["--data", str(home / "data"), "--out", str(home / "out"), "--device", "cpu"]


def test_a_model_that_fails_leaves_its_reason_and_the_rest_go_on(home, tmp_path, monkeypatch, capsys):
    plain = models.load

    def load(arch, found):
        if found.folder.name == "r8_animals":
            raise RuntimeError("out of luck")
        return plain(arch, found)

    monkeypatch.setattr(models, "load", load)
    path = tmp_path / "new" / "results.json"
    assert evaluate(home, "*_animals", "--fresh", "--json", str(path)) == 1
    entries = {entry["name"]: entry for entry in json.loads(path.read_text())["entries"]}
    assert {name: entry["status"] for name, entry in entries.items()} == {
        "r8_animals": "failed",
        "r8_kd_animals": "evaluated",
        "r14_animals": "evaluated",
        "r20_animals": "no weights",
    }
    assert entries["r8_animals"]["reason"] == "RuntimeError: out of luck" and entries["r8_animals"]["row"] is None
    assert entries["r8_kd_animals"]["row"]["top5"] == 100
    shown = capsys.readouterr().out
    assert "r8_animals failed: RuntimeError: out of luck" in shown and "r8_kd_animals" in shown


def test_what_is_named_and_not_there_is_listed_and_exits_with_1(home, tmp_path, capsys):
    assert evaluate(home, "r20_animals", "r18_at*ade20k") == 1
    shown = " ".join(capsys.readouterr().out.split())
    assert "python -m train r20_animals" in shown
    assert "r18_at_ade20k, r18_at_kd_ade20k have no weights: python -m train NAME" in shown
    assert evaluate(home, "r8_*animals", "--data", str(tmp_path)) == 1
    assert "It cannot be fetched automatically: get it from" in " ".join(capsys.readouterr().out.split())


def test_json_on_standard_output_is_all_that_stands_there(home, capsys):
    assert evaluate(home, "r14_animals", "--json", "-") == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out)["entries"][0]["row"]["name"] == "r14_animals"
    assert "r14_animals" in printed.err


def test_write_puts_rows_into_the_results_file(home, tmp_path, monkeypatch):
    monkeypatch.setattr(results_csv, "RESULTS", tmp_path / "results.csv")
    assert evaluate(home, "r8_animals") == 0
    assert not results_csv.RESULTS.exists()
    assert evaluate(home, "r8_animals", "r20_animals", "--write") == 1
    assert evaluate(home, "r8_animals", "--protocol", "released", "--write") == 0
    rows = results_csv.read(results_csv.RESULTS)
    assert [(row["name"], row["protocol"], row["seed"]) for row in rows] == [
        ("r8_animals", "exact", "7"),
        ("r8_animals", "released", "7"),
    ]
    assert float(rows[0]["ssim"]) == pytest.approx(np.mean([float(rows[0][f"ssim.{level}"]) for level in (1, 2, 3)]))
    assert rows[1]["ssim"] == ""


def test_write_refuses_a_row_that_images_are_missing_from(home, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(results_csv, "RESULTS", tmp_path / "results.csv")
    copy = tmp_path / "copy"
    shutil.copytree(home / "data", copy)
    (copy / "animals/test/ant/03.png").write_bytes(b"not an image")
    assert evaluate(home, "r8_animals", "--data", str(copy)) == 0, "measured, with what does not decode named"
    assert evaluate(home, "r8_animals", "--data", str(copy), "--write") == 1
    assert "error: r8_animals: not written: 1 test images do not decode" in capsys.readouterr().err
    assert not results_csv.RESULTS.exists()


def test_what_was_measured_without_some_images_is_not_what_is_measured_with_them(home, tmp_path):
    """Of the same bytes, another Pillow may decode more."""
    views = setup.open_views(
        registry.get_entry("r8_animals"),
        setup.test_split(registry.get_dataset("animals"), home / "data", None),
        torch.device("cpu"),
    )
    heights = views.store.heights.clone()
    heights[3] = 0
    assert replace(views, store=replace(views.store, heights=heights)).cache_key() != views.cache_key()


def test_another_seed_is_another_network(home, capsys):
    folder = export_untrained("r8_animals", home / "elsewhere", ANIMALS)
    shutil.rmtree(home / "out" / "r8_animals-seed3", ignore_errors=True)
    assert evaluate(home, "r8_animals", "--seed", "3") == 1
    assert "python -m train r8_animals --seed 3" in " ".join(capsys.readouterr().out.split())
    shutil.copytree(folder, home / "out" / "r8_animals-seed3")
    (home / "out" / "r8_animals-seed3" / "recipe.json").write_text(json.dumps({"recipe": {"seed": 3}}))
    assert evaluate(home, "r8_animals", "--seed", "3", "--json", "-") == 0
    assert json.loads(capsys.readouterr().out)["entries"][0]["row"]["seed"] == 3
    shutil.rmtree(home / "out" / "r8_animals-seed3")


def test_a_catalog_file_of_the_users_own(home, monkeypatch, capsys):
    monkeypatch.setattr(registry, "_MODULES", [])
    registry._bundled_and_included.cache_clear()
    assert evaluate(home, "r8_animals", "--catalog", str(home / "animals.py")) == 0
    assert "r8_animals" in capsys.readouterr().out


def test_ctrl_c_ends_it_without_a_traceback(home, monkeypatch, capsys):
    def stop(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("eval.run.attempt.evaluate", stop)
    assert evaluate(home, "r8_animals") == 130
    assert capsys.readouterr().err == "stopped\n"


def test_what_was_measured_before_ctrl_c_is_kept_and_shown(home, tmp_path, monkeypatch, capsys):
    def measure(entry, *arguments: object, real=evaluation.evaluate):
        if entry.name == "r8_kd_animals":
            raise KeyboardInterrupt
        return real(entry, *arguments)

    monkeypatch.setattr("eval.run.attempt.evaluate", measure)
    path, page = tmp_path / "x.json", tmp_path / "report"
    assert evaluate(home, "r8_animals", "r8_kd_animals", "--json", str(path), "--report", str(page)) == 130
    assert [entry["name"] for entry in json.loads(path.read_text())["entries"]] == ["r8_animals"]
    assert (page / "index.html").is_file()
    shown = capsys.readouterr()
    assert shown.err == "stopped\n" and "r8_animals" in shown.out


def test_a_row_that_cannot_be_written_costs_nothing_that_was_asked_for(home, tmp_path, monkeypatch, capsys):
    (tmp_path / "results.csv").write_text("torn")
    monkeypatch.setattr(results_csv, "RESULTS", tmp_path / "results.csv")
    path = tmp_path / "x.json"
    assert evaluate(home, "r8_animals", "--json", str(path), "--write") == 1
    assert [entry["status"] for entry in json.loads(path.read_text())["entries"]] == ["evaluated"]
    shown = capsys.readouterr()
    assert "results.csv, line 1" in shown.err and "r8_animals" in shown.out


def test_of_two_files_the_one_that_can_be_written_is(home, tmp_path, capsys):
    (tmp_path / "file").write_text("in the way")
    page = tmp_path / "report"
    json_path = str(tmp_path / "file" / "x.json")
    assert evaluate(home, "r8_animals", "--json", json_path, "--report", str(page)) == 1
    assert (page / "index.html").is_file()
    shown = capsys.readouterr()
    assert shown.err.startswith(f"error: --json {json_path}: ") and "r8_animals" in shown.out


def test_files_are_written_where_the_stream_lacks_characters(home, tmp_path, monkeypatch):
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    path = tmp_path / "x.json"
    assert evaluate(home, "r8_animals", "r20_animals", "--json", str(path)) == 1
    assert len(json.loads(path.read_text())["entries"]) == 2
    compared = ["compare", "r8_animals", "r14_animals", "--json", str(path), *places(home)]
    assert main(compared) == 0 and [item["b"] for item in json.loads(path.read_text())] == ["r14_animals"]


def test_compare_tells_which_entry_fails_and_compares_the_others(home, tmp_path, capsys):
    path = tmp_path / "x.json"
    names = ["r8_animals", "r20_animals", "r14_animals"]
    assert main(["compare", *names, "--json", str(path), *places(home)]) == 1
    assert [(item["a"], item["b"]) for item in json.loads(path.read_text())] == [("r8_animals", "r14_animals")]
    shown = capsys.readouterr()
    assert "error: no weights for r20_animals" in shown.err and "B r14_animals: 90 test images" in shown.out


def test_a_file_that_cannot_be_written_is_an_error(home, tmp_path, capsys):
    (tmp_path / "file").write_text("in the way")
    assert evaluate(home, "r20_animals", "--json", str(tmp_path / "file" / "x.json")) == 1
    assert capsys.readouterr().err.startswith("error: ")


@pytest.mark.slow  # generates synthscenes
def test_a_network_of_the_zoo_itself_on_64_images(tmp_path, capsys):
    export_untrained("r8_synthscenes", tmp_path, CLASSES)
    path = tmp_path / "results.json"
    assert (
        main(["r8_synthscenes", "--limit", "64", "--out", str(tmp_path), "--json", str(path), "--device", "cpu"]) == 0
    )
    (entry,) = json.loads(path.read_text())["entries"]
    assert entry["status"] == "evaluated" and entry["undecodable"] == []
    row = entry["row"]
    assert row["n"] == row["limit"] == 64 and row["teacher"] == "r56_synthscenes" and row["seed"] == 7
    assert 0 <= row["top1"] < 40 and 1 < row["nll"] < 10
    assert "synthscenes: 64 test images, protocol exact" in capsys.readouterr().out


@pytest.mark.parametrize("field", ["mean", "std", "input_size", "crop_pct"])
def test_a_network_of_other_images_than_the_catalog_tells_is_refused(home, tmp_path, field):
    folder = tmp_path / "r8_animals"
    shutil.copytree(home / "out" / "r8_animals", folder)
    config = json.loads((folder / "config.json").read_text())
    other = {"mean": [0.5, 0.5, 0.4], "std": [0.2, 0.2, 0.2], "input_size": [3, 32, 32], "crop_pct": 0.5}
    config["pretrained_cfg"][field] = other[field]
    (folder / "config.json").write_text(json.dumps(config))
    weights.write_hashes(folder)
    with pytest.raises(DatasetError, match=f"r8_animals: {field} is .* in the config.json of its weights"):
        evaluation.evaluate(registry.get_entry("r8_animals"), where(home, trained=tmp_path))


def test_a_teacher_of_the_catalog_sees_images_normalised_as_it_was_trained(home):
    expected = registry.get_dataset("animals")
    other = replace(expected, mean=(0.4, 0.4, 0.4), std=(0.2, 0.2, 0.2))
    images = torch.rand(2, 3, 16, 16)
    as_due, as_other = (
        (images - torch.tensor(item.mean).view(3, 1, 1)) / torch.tensor(item.std).view(3, 1, 1)
        for item in (expected, other)
    )
    same, moved = (
        teachers.load("r14_animals", item, ANIMALS, torch.device("cpu"), home / "out").network
        for item in (expected, other)
    )
    plain = features.FeatureExtractor(models.load("r14", weights.from_folder(home / "out" / "r14_animals", "")))
    with torch.no_grad():
        assert torch.equal(as_due * same.scale + same.shift, as_due)  # type: ignore[operator]  # bit for bit
        assert torch.allclose(moved(as_other).logits, plain(as_due).logits, atol=1e-5)
