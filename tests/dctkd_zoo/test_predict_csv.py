"""`python -m dctkd_zoo predict --csv`: a row per image in a file, and a summary of them on the terminal."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from dctkd_zoo import prediction
from dctkd_zoo.__main__ import main
from dctkd_zoo._io import csv_rows
from dctkd_zoo.cli.predict import OVERLAY
from tests.dctkd_zoo.test_predict import CLASSES, NAME, noise, saved, told


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("DCTKD_ZOO_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)


def csv_of(path: str | Path) -> pd.DataFrame:
    return pd.read_csv(path, keep_default_na=False)


def class_folders(root: str, count: int = 2) -> list[str]:
    """Noise in subfolders that are named like the first classes."""
    return [
        saved(f"{root}/{name}/{number}.png", noise(seed=10 * label + number))
        for label, name in enumerate(CLASSES[:3])
        for number in range(count)
    ]


def test_a_table_has_what_the_json_has(capsys):
    turned = Image.Exif()
    turned[0x0112] = 6
    paths = [
        saved('in/a/ü, "1".png'),
        saved("in/b.jpg", noise(seed=1), exif=turned),
        saved("in/z/z/c.png", noise(seed=2)),
    ]
    facts = told(capsys, NAME, "in")
    assert main(["predict", NAME, "in", "--csv", "out/all.csv", "--device", "cpu"]) == 0
    table = csv_of("out/all.csv")
    others = [f"{name}_{rank}" for rank in range(2, 6) for name in ("class", "probability")]
    assert [*table] == ["path", "label", "class", "probability", *others, "notes"]
    assert table["path"].tolist() == paths
    rows = [row for _, row in csv_rows.read(Path("out/all.csv"), (), "")]  # pandas 2 rounds what it reads
    for row, image in zip(rows, facts["images"], strict=True):
        best, *others = image["classes"]
        assert (int(row["label"]), row["class"]) == (best["label"], best["class"])
        assert float(row["probability"]) == best["probability"]
        for rank, item in enumerate(others, start=2):
            assert (row[f"class_{rank}"], float(row[f"probability_{rank}"])) == (item["class"], item["probability"])
        assert row["notes"] == "; ".join(image["notes"])
    assert {path.name for path in Path("out").iterdir()} == {"all.csv"}
    assert main(["predict", NAME, "in", "--csv", "one.csv", "--top", "1"]) == 0
    assert [*csv_of("one.csv")] == ["path", "label", "class", "probability", "notes"]


def test_a_table_on_standard_output_is_all_there_is(capsys):
    assert (
        main(["predict", NAME, saved("a.png"), saved("b.png", noise(seed=1)), "--csv", "one.csv", "--device", "cpu"])
        == 0
    )
    capsys.readouterr()
    assert main(["predict", NAME, "a.png", "b.png", "--csv", "-", "--device", "cpu"]) == 0
    shown = capsys.readouterr()
    assert shown.out == Path("one.csv").read_text()
    assert "2 images" in shown.err and "written" not in shown.err


def test_the_summary_counts_classes_failures_notes_and_other_files(capsys):
    turned = Image.Exif()
    turned[0x0112] = 6
    for number in range(5):
        saved(f"in/x/{number}.png", noise(seed=number))
    saved("in/turned.png", exif=turned)
    Path("in/cut.png").write_bytes(Path("in/turned.png").read_bytes()[:200])
    for other in ("notes.txt", "x/b.pdf", f"x/0{OVERLAY}", ".hidden"):
        Path("in", other).write_text("words")
    assert main(["predict", NAME, "in", "--csv", "all.csv"]) == 1
    shown = capsys.readouterr()
    table = csv_of("all.csv")
    lines = shown.out.splitlines()
    for name, group in table.groupby("class"):
        mean = group["probability"].mean()
        row = next(line.split() for line in lines if line.startswith(f"{name} "))
        assert row == [name, str(len(group)), f"{100 * mean:.1f}", "%"]
    assert "6 images, 1 failed, 2 other files skipped" in lines
    assert "note: 1 image read without applying the EXIF orientation, as in evaluation" in lines
    assert lines[-1] == "written: all.csv" and "accuracy" not in shown.out
    assert shown.err.startswith("error: in/cut.png: ") and len(table) == 6


def test_folders_named_like_classes_have_an_accuracy(capsys):
    paths = class_folders("in")
    assert main(["predict", NAME, "in", "--csv", "all.csv"]) == 0
    table = csv_of("all.csv")
    assert table["path"].tolist() == sorted(paths)
    right = sum(Path(path).parent.name == name for path, name in zip(table["path"], table["class"], strict=True))
    assert f"accuracy: {100 * right / 6:.1f} % ({right} of 6), by the names of the folders" in capsys.readouterr().out
    # Sorted by what was predicted, all of them are right.
    for path, name in zip(table["path"], table["class"], strict=True):
        Path("sorted", name).mkdir(parents=True, exist_ok=True)
        shutil.copy(path, Path("sorted", name, path.replace("/", "-")))
    assert main(["predict", NAME, "sorted", "--csv", "all.csv"]) == 0
    assert "accuracy: 100.0 % (6 of 6), by the names of the folders" in capsys.readouterr().out


def test_folders_of_which_some_are_no_class_have_none(capsys):
    class_folders("in")
    saved("in/elsewhere/a.png")
    assert main(["predict", NAME, "in", "--csv", "all.csv"]) == 0
    shown = capsys.readouterr().out
    assert (
        "note: no accuracy, since the folder elsewhere is not named like a class" in shown and "accuracy:" not in shown
    )


@pytest.mark.parametrize("content", [None, b"no image"])
def test_without_an_image_no_table_is_written(capsys, content):
    Path("in").mkdir()
    if content:
        Path("in/a.png").write_bytes(content)
    Path("all.csv").write_text("before")
    assert main(["predict", NAME, "in", "--csv", "all.csv"]) == 1
    errors = capsys.readouterr().err
    assert "error: no image could be classified, so no table was written" in errors
    assert ("in/a.png: not an image" if content else "in: no image in this folder") in errors
    assert Path("all.csv").read_text() == "before"


def test_a_table_that_is_stopped_is_not_written(monkeypatch, capsys, tmp_path):
    def stopping(predictor, paths, maps, real=prediction.predict_files):
        yield from real(predictor, paths[:1], maps)
        raise KeyboardInterrupt

    monkeypatch.setattr(prediction, "predict_files", stopping)
    assert main(["predict", NAME, saved("a.png"), saved("b.png"), "--csv", "all.csv"]) == 130
    assert {path.name for path in tmp_path.iterdir()} == {"a.png", "b.png"}


def test_rows_are_written_while_images_are_read(monkeypatch, capsys):
    """So that memory does not grow with their number: the rows of a batch are out before the next one is opened."""
    monkeypatch.setattr(prediction, "BATCH_SIZE", 2)
    seen = []

    def watching(predictor, opened, maps, real=prediction._run):
        seen.append(capsys.readouterr().out.count("\n"))
        return real(predictor, opened, maps)

    monkeypatch.setattr(prediction, "_run", watching)
    assert main(["predict", NAME, *(saved(f"{number}.png") for number in range(6)), "--csv", "-"]) == 0
    assert seen == [0, 3, 2]


def test_a_table_has_one_place_and_one_form(capsys):
    Path("folder").mkdir()
    assert main(["predict", NAME, saved("a.png"), "--csv", "folder"]) == 1
    assert "--csv folder is a folder: name a file" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        main(["predict", NAME, "a.png", "--csv", "a.csv", "--json"])


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_a_table_of_names_that_utf_8_or_a_spreadsheet_cannot_take(capsys):
    names = ["=1+1.png", 'a\n,"b.png', "厨房.png", "\udcff.png"]
    for number, name in enumerate(names):
        Path(saved(f"{number}.png")).rename(name)
    assert main(["predict", NAME, *names, "--csv", "all.csv"]) == 0
    assert csv_of("all.csv")["path"].tolist() == ["'=1+1.png", *names[1:3], "\\udcff.png"]
    rows = csv_rows.read(Path("all.csv"), ("path", "class"), "")
    assert [row["path"] for _, row in rows] == [*names[:3], "\\udcff.png"]
