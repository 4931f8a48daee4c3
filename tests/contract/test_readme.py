"""README.md: its length, links, and that every block of code runs."""

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from dctkd_zoo.__main__ import main as zoo
from dctkd_zoo.__main__ import parser as zoo_parser
from eval.__main__ import parser as eval_parser
from eval.compare import parser as compare_parser
from train.__main__ import parser as train_parser

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", README, flags=re.M | re.S)
PYTHON = [code for language, code in BLOCKS if language == "python"]
CONSOLE = [code for language, code in BLOCKS if language == "console"]
# In a line of a block, or in a sentence.
COMMANDS = re.findall(r"^\s*\$? ?((?:python -m|dctkd-zoo) .*)$|`((?:python -m|dctkd-zoo) [^`]+)`", README, flags=re.M)
PARSERS: dict[str, Callable[[], object]] = {
    "compare": compare_parser,
    "dctkd_zoo": zoo_parser,
    "eval": eval_parser,
    "train": train_parser,
}


def test_it_is_short():
    assert len(README.splitlines()) <= 200
    assert len(README.encode()) <= 11_000


def test_every_block_says_its_language_and_every_language_is_tested():
    assert {language for language, _ in BLOCKS} == {"bash", "console", "python"}
    assert len(PYTHON) == 2 and len(CONSOLE) == 2


def test_links_and_pictures_are_there():
    targets = re.findall(r"\]\(([^)#]+)\)", README)
    local = [target for target in targets if "://" not in target]
    assert len(local) > 10
    assert [target for target in local if not (ROOT / target).exists()] == []


@pytest.mark.parametrize("code", PYTHON)
def test_python_runs_as_it_stands(code, tmp_path):
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=None, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("block", CONSOLE)
def test_a_command_prints_what_is_shown(block, tmp_path, monkeypatch, capsys, request):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    if "photos" in block:  # six classes of MiniPlaces, where they are
        images = request.getfixturevalue("shared") / "data" / "miniplaces12k" / "images" / "train" / "b"
        for name in ("bakery", "bamboo_forest", "bar", "baseball_field", "bathroom", "bedroom"):
            shutil.copytree(images / name, tmp_path / "photos" / name)
    monkeypatch.setattr(sys, "argv", [block.split()[1]])  # what it is called by, which it prints
    command, expected = re.sub(r"\$ (python -m dctkd_zoo|dctkd-zoo) ", "", block).split("\n", 1)
    assert zoo(command.split()) == 0
    printed, shown = (re.findall(r"[\w.…/<]+", words) for words in (capsys.readouterr().out, expected))
    assert len(printed) == len(shown)
    for one, other in zip(printed, shown, strict=True):
        numbers = re.fullmatch(r"\d+\.\d", one) and re.fullmatch(r"\d+\.\d", other)
        assert abs(float(one) - float(other)) < 0.3 if numbers else one == other  # another CPU rounds otherwise


@pytest.mark.parametrize("line", sorted({block or inline for block, inline in COMMANDS}))
def test_the_flags_of_a_command_are_there(line):
    line = line.partition("  #")[0].replace("'", "").replace("dctkd-zoo", "dctkd_zoo").removeprefix("python -m ")
    package, *arguments = line.removeprefix("dctkd_zoo ").split() if line.split()[1] in PARSERS else line.split()
    PARSERS[package]().parse_args(arguments)  # type: ignore[attr-defined]
