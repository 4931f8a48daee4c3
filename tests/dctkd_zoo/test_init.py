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


def forget() -> None:
    """As in a new process."""
    registry._MODULES.clear()
    registry._bundled_and_included.cache_clear()


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
    assert "python -m train myphotos.py" in said and "licence" in said
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
    forget()
    monkeypatch.chdir("/")
    for command in (["info", "r8_dctkd_photos"], ["list", "*_photos"]):
        capsys.readouterr()
        assert main(command) == 0
        assert "r14_photos" in capsys.readouterr().out
    image = tmp_path / "photos" / "a" / "00.png"
    assert main(["predict", "r14_photos", str(image)]) == 0
    (tmp_path / "photos.py").unlink()
    forget()
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


def test_test_images_that_are_also_in_the_training_set_are_said_and_left_out(tmp_path, capsys):
    folder = draw(tmp_path / "photos" / "train", {"a": 10, "b": 10})
    draw(tmp_path / "photos" / "test", {"a": 4, "b": 4}, size=(36, 40))
    shutil.copy(folder / "a" / "07.png", tmp_path / "photos" / "test" / "a" / "copy.png")
    assert main(["init", "photos", *SMALL]) == 0
    assert "copy.png = train/a/07.png" in " ".join(capsys.readouterr().out.split())
    registry.include(Path("photos.py"))
    splits = load.load(registry.get_dataset("photos"))
    assert {name: len(split) for name, split in splits.items()} == {"train": 20, "test": 8}


def test_files_that_are_not_read_are_said(tmp_path, capsys):
    folder = draw(tmp_path / "photos", {"a": 5, "b": 5})
    for name in ("a/notes.txt", "b/more.HEIC", "b/other.heic", "stray.jpg", "a/.hidden.png"):
        (folder / name).write_text("no image")
    for name in ("summer", "winter"):
        draw(folder / "c" / name, {"x": 3})
    assert main(["init", "photos", *SMALL]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "not read, because in no class's folder: stray.jpg" in said
    assert "not read, because not images by their suffix: .heic (2), .txt (1)" in said
    assert "several folders: c (2 folders)" in said and ".hidden" not in said


def test_a_class_without_images_is_said_and_the_others_are_trained(tmp_path, capsys):
    folder = draw(tmp_path / "photos", {"a": 30, "b": 30})
    (folder / "empty").mkdir()
    assert main(["init", "photos", *SMALL]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "classes without an image in train" in said and "empty" in said
    assert main(["train", "photos.py", "r8_photos", "--epochs", "1", "--out", "runs", "--device", "cpu"]) == 0


def test_four_images_are_trained_without_choosing_an_epoch(tmp_path):
    draw(tmp_path / "photos", {"a": 2, "b": 2})
    assert main(["init", "photos", *SMALL]) == 0
    recipe = registry.get_entry(registry.include(Path("photos.py"))[0]).recipe
    assert recipe.select == "last"
    forget()
    assert main(["train", "photos.py", "r14_photos", "--epochs", "1", "--out", "runs", "--device", "cpu"]) == 0


def test_a_folder_with_only_a_training_part_is_split(tmp_path, capsys):
    draw(tmp_path / "photos" / "train", {"a": 10, "b": 10})
    assert main(["init", "photos", *SMALL]) == 0
    assert "16 train, 4 test" in capsys.readouterr().out
    registry.include(Path("photos.py"))
    assert registry.get_dataset("photos").folder == str(tmp_path / "photos" / "train")


def test_a_class_may_be_called_train(tmp_path, capsys):
    draw(tmp_path / "vehicles", {"car": 5, "train": 5})
    assert main(["init", "vehicles", *SMALL]) == 0
    assert "2 classes, 8 train, 2 test" in capsys.readouterr().out


def test_an_unreadable_folder_is_an_error(tmp_path, capsys):
    folder = draw(tmp_path / "photos", {"a": 5, "b": 5})
    (folder / "c").symlink_to(folder / "c")
    (folder / "a" / "d").symlink_to(folder)
    assert main(["init", "photos", *SMALL]) == 1
    assert "a link back to a folder that contains it" in capsys.readouterr().err


def test_a_name_that_another_folder_has_is_not_taken_again(tmp_path, monkeypatch):
    for place in ("one", "two"):
        draw(tmp_path / place / "photos", {"a": 5, "b": 5})
    monkeypatch.chdir(tmp_path / "one")
    assert main(["init", "photos", *SMALL]) == 0
    assert main(["train", "photos.py", "r8_photos", "--epochs", "1", "--device", "cpu"]) == 0
    forget()
    Path("photos.py").rename("before.py")
    assert starter.dataset_name(Path("photos")) == "photos", "the same file"
    monkeypatch.chdir(tmp_path / "two")
    assert main(["init", "photos", *SMALL]) == 0
    assert [path.name for path in Path().glob("*.py")] == ["photos2.py"]


@pytest.mark.parametrize("name", ['say "hi"', "back\\slash", "new\nline", "日本", "a'b", "🏔"])
def test_any_name_of_a_folder_makes_a_file_that_can_be_read(tmp_path, name):
    draw(tmp_path / name, {"a": 5, name: 5})
    assert main(["init", name, *SMALL, "--out", "own.py"]) == 0
    registry.include(Path("own.py"))
    (dataset,) = (item for item in registry.datasets().values() if item.title == name)
    assert set(load.load(dataset)["train"].classes) == {"a", name}


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
        (lambda: Path("photos").mkdir(), ["init", "photos"], "there is no folder in it"),
        (lambda: draw(Path("photos"), {"a": 0, "b": 0}), ["init", "photos"], "there are no images"),
        (lambda: draw(Path("p"), {"a": 1, "b": 1}), ["init", "p"], "no image is left for test"),
        (
            lambda: draw(Path("p"), {"training": 1, "Validation": 1}),
            ["init", "p"],
            "call the folders Validation, training",
        ),
        (
            lambda: [draw(Path("p") / n, {"a": 4, "b": 4}) for n in ("train", "test")],
            ["init", "p"],
            "all 8 test images",
        ),
        (
            lambda: (draw(Path("p/train"), {"a": 4, "b": 4}), draw(Path("p/test"), {"c": 4})),
            ["init", "p"],
            "of classes that",
        ),
        (lambda: draw(Path("p"), {"a": 4, "b": 4}), ["init", "p", "--teacher", "resnet99"], "'resnet99' is neither"),
        (lambda: draw(Path("p"), {"a": 4, "b": 4}), ["init", "p", "--student", "el2"], "teacher and student are both"),
    ],
)
def test_what_cannot_be_done_is_said(prepare, arguments, message, capsys):
    prepare()
    assert main(arguments) == (2 if arguments[2:] else 1)  # wrong options, or images that cannot be trained on
    assert message in capsys.readouterr().err


def test_a_catalog_is_a_python_file(tmp_path, capsys):
    draw(tmp_path / "photos", {"a": 4, "b": 4})
    assert main(["init", "photos", "--out", "p.txt"]) == 2
    assert "a catalog is a Python file" in capsys.readouterr().err


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
        assert main(arguments) == 2
        assert "one catalog file at a time" in capsys.readouterr().err
