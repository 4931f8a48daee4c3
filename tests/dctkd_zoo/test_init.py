"""`init`, and what follows from it: a folder that nobody prepared becomes a teacher, a baseline and two students."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dctkd_zoo import registry, starter
from dctkd_zoo.__main__ import main
from dctkd_zoo.data import load
from tests import world as worlds

# Networks that train in seconds.
SMALL = ("--teacher", "r14", "--student", "r8")


@pytest.fixture(autouse=True)
def alone(tmp_path, monkeypatch, fresh_registry):
    monkeypatch.setenv("DCTKD_ZOO_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)


def draw(folder: Path, counts: dict[str, int], size=(40, 48)) -> Path:
    """So many striped images of each class, none like another."""
    rng = np.random.default_rng(0)
    for kind, (name, count) in enumerate(counts.items()):
        (folder / name).mkdir(parents=True)
        for number in range(count):
            worlds.stripes(kind % 3, rng, size=size).save(folder / name / f"{number:02d}.png")
    return folder


def test_three_commands_from_a_folder_to_a_report(tmp_path, capsys):
    draw(tmp_path / "My Photos", {"a b": 30, "ö": 30, "7": 30})
    assert main(["init", "My Photos", *SMALL]) == 0
    said = capsys.readouterr().out
    assert "myphotos: 3 classes, 72 train, 18 test images of about 40 px" in said
    assert "dctkd-zoo train myphotos.py" in said and "licence" in said
    text = (tmp_path / "myphotos.py").read_text()
    assert len(text.splitlines()) <= 30 and "import" in text and "#" in text

    out = ["--out", "runs", "--device", "cpu"]
    assert main(["train", "myphotos.py", "--epochs", "8", "--lr", "0.05", "--batch-size", "8", *out]) == 0
    names = ["r14_myphotos", "r8_myphotos", "r8_dctkd_myphotos", "r8_dctkd_kd_myphotos"]
    assert sorted(path.name for path in Path("runs").glob("[!.]*")) == sorted(names)
    recipe = json.loads(Path("runs/r8_myphotos/recipe.json").read_text())
    assert recipe["command"].startswith("python -m train r8_myphotos --epochs 8 --lr 0.05 --batch-size 8")
    assert (recipe["recipe"]["epochs"], recipe["recipe"]["select"]) == (8, "val")
    assert str(tmp_path) not in json.dumps(recipe)

    capsys.readouterr()
    assert main(["eval", "myphotos.py", "--report", "report", *out]) == 0
    board = capsys.readouterr().out
    assert all(name in board for name in names) and "18 test images" in board
    assert Path("report/index.html").is_file()


def test_later_commands_know_the_entries_without_the_file(tmp_path, capsys, monkeypatch):
    draw(tmp_path / "photos", {"a": 12, "b": 12})
    assert main(["init", "photos", *SMALL]) == 0
    assert main(["train", "photos.py", "r14_photos", "--epochs", "1", "--device", "cpu"]) == 0
    registry._MODULES.clear()  # as in a new process
    registry._bundled_and_included.cache_clear()
    monkeypatch.chdir("/")
    for command in (["info", "r8_dctkd_photos"], ["list", "*_photos"]):
        capsys.readouterr()
        assert main(command) == 0
        assert "r14_photos" in capsys.readouterr().out
    image = tmp_path / "photos" / "a" / "00.png"
    assert main(["predict", "r14_photos", str(image)]) == 0
    (tmp_path / "photos.py").unlink()
    registry._MODULES.clear()
    registry._bundled_and_included.cache_clear()
    assert main(["info", "r14_photos"]) == 1
    assert "photos.py, which is gone" in capsys.readouterr().err


def test_a_folder_with_parts_is_taken_as_it_is(tmp_path, capsys):
    for part, count in (("train", 8), ("val", 3), ("test", 4)):
        draw(tmp_path / "own" / part, {"a": count, "b": count}, size=(24 + count, 30))
    assert main(["init", "own", *SMALL]) == 0
    said = capsys.readouterr().out
    assert "16 train, 6 val, 8 test" in said and "hardly enough to learn from: a (8), b (8)" in said
    assert "one folder" not in said
    names = registry.include(Path("own.py"))
    dataset, recipe = registry.get_dataset("own"), registry.get_entry(names[0]).recipe
    splits = load.for_recipe(dataset, recipe)
    assert {name: len(split) for name, split in splits.items()} == {"train": 16, "val": 6, "test": 8}


def test_one_folder_is_split_alike_wherever_it_lies(tmp_path):
    ids = []
    for place in ("one", "two"):
        draw(tmp_path / place / "photos", {"a": 20, "b": 11})
        dataset = starter.scan(tmp_path / place / "photos", "photos").dataset
        splits = load.load(dataset)
        assert [len(split) for split in splits.values()] == [24, 7]
        assert not set(splits["train"].ids) & set(splits["test"].ids)
        ids.append(splits["test"].ids)
    assert ids[0] == ids[1]


def test_it_warns_of_what_will_hurt(tmp_path, capsys):
    folder = draw(tmp_path / "photos", {"many": 40, "few": 3})
    (folder / "many" / "notes.txt").write_text("no image")
    assert main(["init", "photos", *SMALL]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "few (2)" in said and "uneven classes, from 2 to 32 training images" in said


def test_the_same_image_in_train_and_test_is_said(tmp_path, capsys):
    for part in ("train", "test"):
        draw(tmp_path / "photos" / part, {"a": 4, "b": 4})
    assert main(["init", "photos", *SMALL]) == 0
    assert "8" in capsys.readouterr().out.partition("test images")[2]


def test_broken_images_are_named_and_nothing_is_written(tmp_path, capsys):
    folder = draw(tmp_path / "photos", {"a": 6, "b": 6})
    (folder / "a" / "00.png").write_bytes(b"no png")
    assert main(["init", "photos", *SMALL]) == 1
    captured = capsys.readouterr()
    assert "00.png" in captured.out and "photos.py was not written" in captured.err
    assert not Path("photos.py").exists()


@pytest.mark.parametrize(
    ("prepare", "arguments", "message"),
    [
        (lambda: None, ["init", "nowhere"], "there is no such folder"),
        (lambda: draw(Path("photos"), {"a": 4}), ["init", "photos"], "1 class: put at least two folders"),
        (lambda: Path("photos").mkdir(), ["init", "photos"], "there are no images"),
        (lambda: draw(Path("p"), {"a": 4, "b": 4}), ["init", "p", "--teacher", "resnet99"], "'resnet99' is neither"),
        (lambda: draw(Path("p"), {"a": 4, "b": 4}), ["init", "p", "--out", "p.txt"], "a catalog is a Python file"),
        (lambda: draw(Path("p"), {"a": 4, "b": 4}), ["init", "p", "--student", "el2"], "teacher and student are both"),
    ],
)
def test_what_cannot_be_done_is_said(prepare, arguments, message, capsys):
    prepare()
    assert main(arguments) == 1
    assert message in capsys.readouterr().err


def test_a_file_that_is_there_is_kept(tmp_path, capsys):
    draw(tmp_path / "photos", {"a": 4, "b": 4})
    Path("photos.py").write_text("mine")
    assert main(["init", "photos", *SMALL]) == 1
    assert "is there already" in capsys.readouterr().err and Path("photos.py").read_text() == "mine"


def test_any_network_of_timm_gets_a_short_name(tmp_path):
    draw(tmp_path / "photos", {"a": 5, "b": 5}, size=(64, 64))
    assert main(["init", "photos", "--teacher", "convnext_pico", "--student", "mobilenetv3_small_050"]) == 0
    names = registry.include(Path("photos.py"))
    assert names[0] == "convnextpico_photos"
    archs = registry.archs()
    assert archs["convnextpico"].timm_name == "convnext_pico"
    teacher, student = (registry.get_entry(names[i]).recipe for i in (0, 1))
    assert (teacher.optimizer, student.optimizer) == ("adamw", "sgd")
    assert (teacher.resize, teacher.crop) == (72, 64)


@pytest.mark.parametrize(("side", "crop"), [(30, 32), (64, 64), (130, 112), (400, 224)])
def test_the_geometry_follows_the_images(tmp_path, side, crop):
    for kind in ("a", "b"):
        (tmp_path / "photos" / kind).mkdir(parents=True)
        for number in range(3):
            noise = np.random.default_rng([ord(kind), number]).integers(256, size=(side, side + 9, 3), dtype=np.uint8)
            Image.fromarray(noise).save(tmp_path / "photos" / kind / f"{number}.png")
    found = starter.scan(tmp_path / "photos", "photos")
    assert found.side == side and starter.plan(found, "r14", "r8").teaching.crop == crop


def test_names_are_those_of_datasets():
    names = {"My Photos": "myphotos", "2024 été": "ete", "scene15": "myscene15", "---": "images"}
    assert {folder: starter.dataset_name(Path(folder)) for folder in names} == names


def test_a_catalog_given_twice_is_refused(tmp_path, capsys):
    draw(tmp_path / "photos", {"a": 4, "b": 4})
    assert main(["init", "photos", *SMALL]) == 0
    shutil.copy("photos.py", "other.py")
    for arguments in (["train", "photos.py", "other.py"], ["train", "photos.py", "--catalog", "other.py"]):
        assert main(arguments) == 1
        assert "one catalog file at a time" in capsys.readouterr().err
