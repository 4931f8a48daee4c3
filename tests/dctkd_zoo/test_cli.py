"""`python -m dctkd_zoo`: what its commands print and how they end."""

import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from dctkd_zoo import registry
from dctkd_zoo.__main__ import main


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("DCTKD_ZOO_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("DCTKD_ZOO_DATA", raising=False)


def test_list_shows_what_matches(capsys):
    assert main(["list", "r18*ade20k"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:]] == registry.find("r18*ade20k")
    assert "r18_dctkd_ade20k" in registry.find("r18*ade20k")
    assert all("recipe only" in line for line in lines[1:])


def test_list_of_one_dataset(capsys):
    assert main(["list", "--dataset", "scene15"]) == 0
    names = [line.split()[0] for line in capsys.readouterr().out.splitlines()[1:]]
    assert names and {registry.get_entry(name).dataset for name in names} == {"scene15"}


def test_list_shows_the_reported_top1(capsys):
    assert main(["list", "r18_review*"]) == 0
    title, *lines = capsys.readouterr().out.splitlines()
    end = title.index("reported") + len("reported")
    assert {line.split()[0]: line[:end].split("  ")[-1].strip() for line in lines} == {
        "r18_review_ade20k": "44.56",
        "r18_review_scene15": "",
        "r18_review_kd_scene15": "",
    }


def test_list_says_when_nothing_matches(capsys):
    assert main(["list", "r999*"]) == 1
    assert "'r999*'" in capsys.readouterr().err


def test_list_pretrained_shows_nothing_that_cannot_be_loaded(capsys):
    main(["list", "--pretrained", "--dataset", "ade20k"])
    assert "recipe only" not in capsys.readouterr().out


def test_info_is_json_with_the_whole_recipe(capsys):
    assert main(["info", "r18_dctkd_kd_ade20k"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["recipe"]["epochs"] == 70
    assert facts["teacher"] == "r50_ade20k"
    assert facts["weights"] == {"ce": 0.1, "dctkd": 1.0, "kd": 1.0}
    assert facts["dataset"]["num_classes"] == 1055
    (figure,) = facts["reported"]
    assert (figure["metric"], figure["value"], figure["protocol"]) == ("top1", 54.25, "released")


@pytest.mark.parametrize(
    ("arguments", "message", "status"),
    [
        (["info", "r18_dctk_ade20k"], "did you mean r18_dctkd_ade20k", 2),
        (["list", "--dataset", "imagenet"], "unknown dataset 'imagenet'", 2),
        (["publish"], "give either entry names or --all", 2),
        (["verify"], "nothing to verify", 2),
        (["cards", "r18_ade20k", "--check"], "--check compares all committed cards", 2),
        (["data", "check", "mit67"], "python -m dctkd_zoo data fetch mit67", 1),
        (["data", "fetch", "scene15"], "figshare", 1),
    ],
)
def test_mistakes_end_with_a_message_and_a_status(arguments, message, status, capsys):
    assert main(arguments) == status
    assert message in capsys.readouterr().err


def test_data_check_finds_what_is_wrong(tmp_path, capsys):
    rng = np.random.default_rng(0)
    for name in ("train/bedroom/a", "train/kitchen/b", "test/bedroom/c"):
        path = tmp_path / "scene15" / f"{name}.png"
        path.parent.mkdir(parents=True)
        Image.fromarray(rng.integers(0, 255, (8, 8, 3), np.uint8)).save(path)
    (tmp_path / "scene15" / "test" / "bedroom" / "broken.png").write_bytes(b"no image")
    assert main(["data", "check", "scene15", "--data", str(tmp_path)]) == 1
    shown = capsys.readouterr().out
    assert "broken.png" in shown
    assert "1,500" in shown


def test_a_folder_that_cannot_be_made_is_an_error_and_no_traceback(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(["data", "fetch", "mit67", "--data", str(tmp_path / "file")]) == 1
    assert "error: " in capsys.readouterr().err


def test_a_reader_that_stops_early_is_no_error():
    command = f"{sys.executable} -m dctkd_zoo info r18_ade20k | head -n 1"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True)
    assert done.stdout == "{\n"
    assert done.stderr == ""


def test_names_may_stand_before_and_after_options():
    from dctkd_zoo.__main__ import parser as zoo
    from train.__main__ import parser as train

    assert train().parse_args(["a", "--seed", "1", "b", "c"]).names == ["a", "b", "c"]
    assert zoo().parse_args(["predict", "NAME", "--json", "one.jpg", "--top", "2", "two.jpg"]).names == [
        "NAME",
        "one.jpg",
        "two.jpg",
    ]
    for words in (["a", "--sede", "1"], ["predict", "x", "--jsno", "y"]):
        with pytest.raises(SystemExit) as stop:
            (zoo() if words[0] == "predict" else train()).parse_args(words)
        assert stop.value.code == 2
    with pytest.raises(SystemExit):
        zoo().parse_args(["init", "a", "b"])  # takes one folder
