"""Catalog files among the names of a command, those that are remembered, and networks of another recipe than theirs."""

import json
import os
import shutil
from pathlib import Path

import pytest

from dctkd_zoo import registry, weights
from dctkd_zoo.__main__ import main
from dctkd_zoo._io import json_file
from dctkd_zoo.catalog import _remembered
from dctkd_zoo.data import load
from eval.run import results_csv
from tests.world import draw
from train import bundle

CATALOG = """
from dctkd_zoo.spec import Cosine, Dataset, Entry, Recipe

DATASET = Dataset("stripes", "Stripes", source="folders", folder="images", num_classes=3)
RECIPE = Recipe(epochs=12, batch_size=16, lr=0.05, schedule=Cosine(0.2), resize=20, pad=2, crop=16)
ENTRIES = (
    Entry("r14_stripes", RECIPE, {"ce": 1.0}),
    Entry("r8_stripes", RECIPE, {"ce": 1.0}),
    Entry("r8_dctkd_stripes", RECIPE, {"ce": 1.0, "dctkd": 1.0}, teacher="r14_stripes"),
)
"""
OTHER = """
from dctkd_zoo.spec import Cosine, Entry, Recipe

RECIPE = Recipe(epochs=3, batch_size=16, lr=0.05, schedule=Cosine(0.2), resize=20, pad=2, crop=16)
ENTRIES = (Entry("r8_synthscenes.own", RECIPE, {"ce": 1.0}), Entry("r8_scene15.own", RECIPE, {"ce": 1.0}))
"""
RUN = "from pathlib import Path\n\nPath({mark!r}).touch()\n"


def forget():
    """As a new process: only the zoo's own catalog is there."""
    registry._MODULES.clear()
    registry._bundled_and_included.cache_clear()


@pytest.fixture
def world(tmp_path, monkeypatch, fresh_registry):
    """Images and a catalog file beside them, in the current folder, and a cache of its own."""
    monkeypatch.setenv("DCTKD_ZOO_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    draw(tmp_path / "images")
    (tmp_path / "my.py").write_text(CATALOG)
    return tmp_path


def train(*arguments: str) -> int:
    try:
        return main(["train", *arguments, "--device", "cpu"])
    finally:
        forget()


def test_every_command_takes_a_catalog_file_among_its_names(world, capsys):
    assert main(["list", "my.py"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()[1:]] == [
        "r14_stripes",
        "r8_stripes",
        "r8_dctkd_stripes",
    ]
    forget()
    assert main(["info", "my.py", "r8_stripes"]) == 0
    assert json.loads(capsys.readouterr().out)["dataset"]["folder"] == str(world / "images")
    forget()
    assert main(["info", "my.py"]) == 0
    assert [facts["name"] for facts in json.loads(capsys.readouterr().out)][2] == "r8_dctkd_stripes"
    forget()
    assert main(["data", "check", "my.py"]) == 0
    assert "48 train, 24 test" in capsys.readouterr().out
    forget()
    assert main(["cards", "my.py", "r8_stripes"]) == 0
    assert "r8_stripes" in capsys.readouterr().out
    forget()
    assert main(["train", "my.py", "r8_dctkd_stripes", "r14_stripes", "--dry-run"]) == 0
    assert "2 jobs" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message", "status"),
    [
        (["train", "nowhere.py"], "nowhere.py: no such Python file", 1),
        (["train", "empty.py"], "empty.py has no entries", 1),
        (["train", "my.py", "--catalog", "my.py"], "one catalog file at a time", 2),
        (["train", "my.py", "r8_strips"], "did you mean r8_stripes", 2),
        (["eval", "nowhere.py"], "nowhere.py: no such Python file", 1),
        (["eval", "compare", "my.py", "r8_strips", "r14_stripes"], "unknown entry 'r8_strips'", 2),
        (["predict", "my.py", "images/test/down/00.png"], "name one of the entries of my.py", 2),
        (["predict", "my.py", "r8_stripes"], "no images", 2),
        (["predict", "my.py"], "no images", 2),
        (["data", "check", "other.py"], "one dataset at a time: scene15, synthscenes", 2),
        (["train", "my.py", "--epochs", "0"], "'0' is not a whole number of at least 1", 2),
        (["train", "my.py", "--lr", "nan"], "'nan' is not a learning rate", 2),
        (["train", "my.py", "--limit", "-3"], "--limit", 2),
    ],
)
def test_what_cannot_be_meant_is_said(world, capsys, arguments, message, status):
    (world / "other.py").write_text(OTHER)
    (world / "empty.py").write_text("ENTRIES = ()\n")
    try:
        assert main(arguments) == status
    except SystemExit as stop:
        assert stop.code == status
    assert message in capsys.readouterr().err


def test_the_folder_of_a_dataset_is_relative_to_its_file(world, monkeypatch):
    (world / "unlabelled").mkdir()
    (world / "my.py").write_text(CATALOG.replace('folder="images"', 'folder="images", unlabelled="unlabelled"'))
    (world / "elsewhere").mkdir()
    monkeypatch.chdir(world / "elsewhere")
    registry.include(Path("../my.py"))
    dataset = registry.get_dataset("stripes")
    assert (dataset.folder, dataset.unlabelled) == (str(world / "images"), str(world / "unlabelled"))
    assert len(load.load(dataset, data=world / "not looked at")["train"]) == 48


def test_a_missing_folder_is_named(world, capsys):
    shutil.rmtree(world / "images")
    assert main(["data", "check", "my.py"]) == 1
    said = capsys.readouterr().err
    assert f"put it into {world / 'images'}" in said and "unknown" not in said


def test_of_two_folders_of_runs_the_one_that_is_given_decides(world, capsys):
    (world / "two").mkdir()
    (world / "two" / "my.py").write_text(CATALOG.replace('folder="images"', 'folder="../images"').replace("12", "13"))
    assert train("my.py", "r8_stripes", "--epochs", "1", "--out", "one_runs") == 0
    assert train("two/my.py", "r8_stripes", "--epochs", "1", "--out", "two_runs") == 0
    for out, epochs in (("one_runs", 12), ("two_runs", 13)):
        options = type("Options", (), {"out": Path(out), "names": [], "catalog": None})()
        from dctkd_zoo import user_catalog

        user_catalog.open_catalog(options)
        assert registry.get_entry("r8_stripes").recipe.epochs == epochs
        forget()
    capsys.readouterr()
    assert main(["eval", "r8_stripes", "--out", "one_runs", "--device", "cpu"]) == 0
    assert "epochs 1 instead of 12" in " ".join(capsys.readouterr().out.split())


def test_a_file_that_changed_or_is_gone_is_named(world, capsys):
    _remembered.remember(["r14_stripes", "r8_gone"], world / "my.py", world / "runs")
    assert main(["info", "r8_gone"]) == 1
    assert f"r8_gone was trained with the catalog {world / 'my.py'}, which no longer has it" in capsys.readouterr().err
    forget()
    (world / "my.py").unlink()
    assert main(["info", "r14_stripes"]) == 1
    assert "my.py, which is gone: put it back" in capsys.readouterr().err
    assert main(["list", "*_strip*"]) == 1
    assert "which is gone" in capsys.readouterr().err


def test_two_processes_remember_both(world):
    _remembered.remember(["a_x"], world / "my.py", world / "runs")
    _remembered.remember(["b_x"], world / "other.py", world / "runs")
    _remembered.remember(["a_y"], world / "my.py", world / "more")
    assert {name: path.name for name, path in _remembered.files().items()} == {
        "a_x": "my.py",
        "b_x": "other.py",
        "a_y": "my.py",
    }


@pytest.fixture
def hostile(world):
    """A cache folder from elsewhere that says which file is to be run for a name, and that file."""
    path = world / "home" / "evil.py"
    path.parent.mkdir(exist_ok=True)
    path.write_text(RUN.format(mark=str(world / "was run")) + CATALOG)
    return path


def refused(world: Path) -> bool:
    """Whether a lookup of the name ran nothing."""
    main(["info", "r8_stripes"])
    main(["list", "r8_str*"])
    main(["predict", "r8_stripes", "images/test/down/00.png"])
    return not (world / "was run").exists()


def test_a_folder_of_runs_from_elsewhere_runs_no_code(world, hostile):
    folder = world / "home" / "checkpoints" / "r8_stripes"
    folder.mkdir(parents=True)
    for name in ("recipe.json", "catalogs.json", "environment.json"):
        (folder / name).write_text(json.dumps({"catalog": str(hostile), "command": f"train {hostile}"}))
    assert refused(world)
    main(["predict", f"local-dir:{folder}", "images/test/down/00.png"])
    assert not (world / "was run").exists()


def test_a_cache_folder_from_elsewhere_runs_no_code(world, hostile):
    content = {"home": "/home/ada/.cache/dctkd_zoo", "runs": {"/out": {"r8_stripes": str(world / "my.py")}}}
    json_file.write_sealed(world / "home" / "catalogs.json", content)
    (world / "my.py").write_text(hostile.read_text())
    assert refused(world)


def test_a_file_inside_of_the_cache_folder_is_no_catalog(world, hostile):
    _remembered.remember(["r8_stripes"], hostile, world / "runs")
    assert refused(world)


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="files have no owner here")
def test_what_another_user_recorded_is_not_run(world, hostile, monkeypatch):
    (world / "my.py").write_text(hostile.read_text())
    _remembered.remember(["r8_stripes"], world / "my.py", world / "runs")
    own = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: own + 1)
    assert refused(world)
    monkeypatch.setattr(os, "getuid", lambda: own)
    assert not refused(world)


@pytest.mark.parametrize("damaged", ["", "{}", "[]", "\x00", '{"sha256": "0", "content": {}}'])
def test_a_damaged_record_is_as_good_as_none(world, damaged, capsys):
    (world / "home").mkdir()
    (world / "home" / "catalogs.json").write_text(damaged)
    assert refused(world)
    capsys.readouterr()
    assert main(["info", "r8_stripes"]) == 2
    assert "unknown entry 'r8_stripes'" in capsys.readouterr().err
    _remembered.remember(["r8_stripes"], world / "my.py", world / "runs")
    assert main(["info", "r8_stripes"]) == 0


@pytest.mark.parametrize("content", [[], 5, {"r8_stripes": "my.py"}, {"runs": []}, {"runs": {"o": {"r8_stripes": 1}}}])
def test_what_another_version_recorded_is_as_good_as_none(world, content, capsys):
    filled = {"home": str(world / "home"), **content} if isinstance(content, dict) and "runs" in content else content
    json_file.write_sealed(world / "home" / "catalogs.json", filled)
    assert main(["info", "r8_stripes"]) == 2
    assert "unknown entry 'r8_stripes'" in capsys.readouterr().err


def test_a_try_does_not_pass_for_the_entry(world, capsys, monkeypatch):
    out = ["--out", "runs"]
    assert train("my.py", "--epochs", "6", "--limit", "10", "--lr", "0.06", *out) == 0
    said = " ".join(capsys.readouterr().out.split())
    changes = "epochs 6 instead of 12, limit 10 instead of 0, lr 0.06 instead of 0.05"
    assert f"teacher r14_stripes was trained with another recipe than the catalog's: {changes}" in said
    assert "eval my.py --report report --out runs" in said and str(world) not in said.partition("next:")[2][:60]
    facts = json.loads(Path("runs/r8_stripes/recipe.json").read_text())
    assert facts["command"].startswith("python -m train r8_stripes --epochs 6 --lr 0.06 --limit 10")
    assert [facts["recipe"][name] for name in ("epochs", "lr", "limit")] == [6, 0.06, 10]
    assert str(world) not in json.dumps(facts)

    assert train("my.py", "r8_stripes", *out) == 1
    assert "was trained with another recipe" in capsys.readouterr().err
    results = world / "results.csv"
    assert main(["eval", "my.py", "--write", "--results", "results.csv", *out, "--device", "cpu"]) == 1
    captured = capsys.readouterr()
    assert f"r8_stripes: not written: trained with another recipe: {changes}" in captured.err
    assert "another recipe: epochs 6" in " ".join(captured.out.split())
    assert not results.exists()
    assert bundle.main(["r8_stripes", "--out", "runs", "--into", "bundled"]) == 1
    assert "was trained with another recipe than the catalog's" in capsys.readouterr().err
    assert main(["publish", "r8_stripes", "--dry-run", "--license", "mit", *out, "--device", "cpu"]) == 1
    assert "trained with another recipe" in " ".join(capsys.readouterr().out.split())


def test_a_student_whose_teacher_was_a_try_is_not_written(world, capsys):
    out = ["--out", "runs"]
    assert train("my.py", "r14_stripes", "--epochs", "6", *out) == 0
    assert train("my.py", "r8_dctkd_stripes", *out) == 0
    results = ["--write", "--results", "results.csv", *out, "--device", "cpu"]
    assert main(["eval", "r8_dctkd_stripes", *results]) == 1
    assert (
        "not written: teacher r14_stripes trained with another recipe: epochs 6 instead of 12"
        in capsys.readouterr().err
    )
    assert not (world / "results.csv").exists()


def test_the_dataset_of_a_remembered_catalog_is_known(world, capsys):
    _remembered.remember(["r8_stripes"], world / "my.py", world / "runs")
    assert main(["data", "check", "stripes"]) == 0
    assert "48 train, 24 test" in capsys.readouterr().out


def test_what_was_trained_as_the_catalog_says_is_written(world, capsys):
    assert train("my.py", "r8_stripes", "--out", "runs") == 0
    results = ["--write", "--results", "results.csv", "--out", "runs", "--device", "cpu"]
    assert main(["eval", "r8_stripes", *results]) == 0
    (row,) = results_csv.read(world / "results.csv")
    assert row["name"] == "r8_stripes" and "recipe" not in (row["note"] or "")
    assert weights.is_complete(world / "runs" / "r8_stripes")
