"""The scripts under examples/, run as a reader would run them, and what they print."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import timm
import torch
from PIL import Image

import dctkd_zoo.models  # noqa: F401  timm does not have the CIFAR ResNets

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
README = (ROOT / "README.md").read_text(encoding="utf-8")


def shown(name: str, folder: Path, *arguments: str) -> list[str]:
    """The lines that an example prints, run in `folder`."""
    paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    done = subprocess.run(
        [sys.executable, ROOT / "examples" / name, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": paths, "DCTKD_ZOO_HOME": str(folder / "home"), "COLUMNS": "120"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def percents(line: str) -> list[float]:
    return [float(number) for number in re.findall(r"([\d.]+)%", line)]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_short_says_what_it_shows_and_is_in_the_readme(path):
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) < 60
    words = ast.get_docstring(ast.parse(text))
    assert words is not None
    assert f"python examples/{path.name}" in words
    assert "Prints" in words
    assert f"examples/{path.name}" in README


@pytest.mark.slow
def test_use_a_model(tmp_path):
    first, *answers, area, one, two, three = shown("use_a_model.py", tmp_path, "--out", "maps", "--per-class", "3")
    assert first.startswith("r20_dctkd_synthscenes: ")
    assert first.endswith(" of 36 images")
    assert percents(first)[0] > 60
    assert len(answers) == 4
    assert all(0 < percents(line)[0] <= 100 for line in answers)
    covered = percents(area)[0]
    assert 5 < covered < 20
    assert all(1.5 * covered < percents(line)[0] < 60 for line in (one, two, three))
    for number in range(4):
        with Image.open(tmp_path / "maps" / f"{number}.png") as picture:
            assert picture.width > 4 * 200
            assert 200 < picture.height < 350


@pytest.mark.slow
def test_compare_two_students(tmp_path):
    first, *lines = shown("compare_two_students.py", tmp_path, "--per-class", "5")
    assert "60 images, against r56_synthscenes" in first
    assert len(lines) == 10
    assert (lines[0], lines[5]) == ("r20_kd_synthscenes", "r20_dctkd_synthscenes")
    logits, attention = (
        {line.split()[0]: [float(value) for value in line.split()[1:]] for line in lines[start : start + 4]}
        for start in (1, 6)
    )
    assert [*logits] == [*attention] == ["top1", "agreement", "ssim", "pearson"]
    for name in ("top1", "agreement"):
        assert 50 < logits[name][0] < attention[name][0] <= 100
    for name in ("ssim", "pearson"):
        assert len(logits[name]) == len(attention[name]) == 3
        assert all(0 < low < high < 1 for low, high in zip(logits[name], attention[name], strict=True))


@pytest.mark.slow
def test_distil_your_own_folder(tmp_path):
    lines = shown("distil_your_own_folder.py", tmp_path, "--work", "zoo", "--epochs", "3")
    assert sum(line.startswith("epoch ") for line in lines) == 9
    (heading,) = (line.split() for line in lines if line.startswith("entry "))
    rows = {cells[0]: dict(zip(heading, cells, strict=False)) for cells in map(str.split, lines) if len(cells) > 9}
    table = {name: row for name, row in rows.items() if name.endswith("_myscenes")}
    assert table.keys() == {"r20_myscenes", "r8_myscenes", "r8_dctkd_myscenes"}
    assert all(33 < float(row["top-1"]) <= 100 for row in table.values())
    for name in ("SSIM", "skill"):
        assert float(table["r8_dctkd_myscenes"][name]) > float(table["r8_myscenes"][name]) + 0.1
    model = timm.create_model(f"local-dir:{tmp_path / 'zoo' / 'out' / 'r8_dctkd_myscenes'}", pretrained=True)
    assert model.num_classes == 3


def losses_of(line: str) -> dict[str, float]:
    """`step 1: loss 9.6 ce 2.7 dctkd 6.9` -> the numbers by their names."""
    words = line.rpartition(": ")[2].split()
    return dict(zip(words[::2], map(float, words[1::2]), strict=True))


def check_sum(losses: dict[str, float]) -> None:
    assert [*losses] == ["loss", "ce", "dctkd"]
    assert 0 < losses["ce"] < 10 and losses["dctkd"] > 0
    assert losses["loss"] == pytest.approx(losses["ce"] + losses["dctkd"], abs=0.002)


@pytest.mark.slow
def test_train_with_timm(tmp_path):
    *lines, keys = shown("train_with_timm.py", tmp_path, "--steps", "3")
    assert [line.partition(":")[0] for line in lines] == ["step 1", "step 2", "step 3"]
    for line in lines:
        check_sum(losses_of(line))
    state = torch.load(tmp_path / "timm_run" / "last.pth.tar", weights_only=True)
    assert [*sorted(state)] == keys.split()
    student = timm.create_model("resnet20_cifar", num_classes=12)
    for name in ("state_dict", "state_dict_ema"):
        student.load_state_dict(state[name])


@pytest.mark.slow
def test_lightning_module(tmp_path):
    pytest.importorskip("lightning", reason="the example is of an optional package: pip install lightning")
    for steps, resume in (("2", ()), ("3", ("--resume", "student.ckpt"))):
        check_sum(losses_of(shown("lightning_module.py", tmp_path, "--steps", steps, *resume)[-1]))
        checkpoint = torch.load(tmp_path / "student.ckpt", weights_only=True)
        assert checkpoint["global_step"] == int(steps)
        prefix = "task.trainable_module.student."
        state = {name.removeprefix(prefix): value for name, value in checkpoint["state_dict"].items()}
        timm.create_model("resnet20_cifar", num_classes=12).load_state_dict(state)
