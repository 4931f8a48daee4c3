"""Code blocks of the documentation: Python is run, cheap commands are run, all other commands are parsed."""

from __future__ import annotations

import argparse
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import benchmarks.__main__
import benchmarks.growth
import dctkd_zoo.__main__
import eval.__main__
import eval.compare
import train.__main__
from dctkd_zoo import registry
from dctkd_zoo.cli.shell import MODULES
from dctkd_zoo.errors import ZooError

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted((ROOT / "docs").glob("*.md"))
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)

PLACEHOLDERS = {"NAME", "DIR", "ORG", "BASELINE", "OTHER"}
PARSERS: dict[str, Callable[[], argparse.ArgumentParser]] = {
    "benchmarks": benchmarks.__main__.parser,
    "benchmarks.growth": benchmarks.growth.parser,
    "dctkd_zoo": dctkd_zoo.__main__.parser,
    "eval": eval.__main__.parser,
    "eval compare": eval.compare.parser,
    "train": train.__main__.parser,
}
WITHOUT_OPTIONS = {"benchmarks.report", "eval.pages.readme", "eval.pages.results_md"}  # take at most --check
PROGRAMS = {".", "cd", "git", "hf", "pip"}  # not ours
# Commands that need nothing but the repository. The report is made of a few images; `compare` takes all test images.
RUN = ("list", "info", "predict", "eval --from-results")
LIMIT = 48
RUN_SLOWLY = ("compare r20", "eval r56_synthscenes", "cards --check")


class Block(NamedTuple):
    """A fenced block of a page."""

    page: str
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks() -> Iterator[Block]:
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for match in BLOCK.finditer(text):
            yield Block(page.name, text.count("\n", 0, match.start()) + 1, match[1], match[2])


def commands(block: Block) -> Iterator[str]:
    """The commands of a block; one with prompts also shows output, which is left out."""
    lines = block.text.replace("\\\n", " ").splitlines()
    prompted = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
    for line in prompted or lines:
        yield from (part.strip() for part in line.split("&&") if part.strip())


BLOCKS = [*blocks()]
PYTHON = [block for block in BLOCKS if block.language == "python"]
COMMANDS = [
    pytest.param(command, id=f"{block}-{command[:60]}")
    for block in BLOCKS
    if block.language == "" and re.match(r"(\$ )?(dctkd-zoo|python|make|torchrun|git|hf|pip) ", block.text)
    for command in commands(block)
]


def module_and_arguments(command: str) -> tuple[str, list[str]]:
    """`dctkd-zoo compare A B`, `python -m eval compare A B` -> ("eval compare", ["A", "B"])."""
    module, *arguments = module_words(command)
    if module == "dctkd_zoo" and arguments[0] in MODULES:
        module, *arguments = MODULES[arguments[0]], *arguments[1:]
    return ("eval compare", arguments[1:]) if arguments[:1] == ["compare"] else (module, arguments)


def module_words(command: str) -> list[str]:
    """What follows `python -m`: `dctkd-zoo list` -> ["dctkd_zoo", "list"]."""
    words = shlex.split(command, comments=True)
    return ["dctkd_zoo", *words[1:]] if words[0] == "dctkd-zoo" else words[words.index("-m") + 1 :]


def runs(prefixes: tuple[str, ...]) -> list[str]:
    meant = [param.values[0] for param in COMMANDS]
    return sorted({str(c) for c in meant if str(c).startswith(tuple(f"dctkd-zoo {prefix}" for prefix in prefixes))})


def call(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a command in `folder`, with this interpreter and the packages and files of the repository."""
    script = "import runpy, sys; sys.path.insert(0, sys.argv.pop(1)); sys.argv.pop(0)\n"
    script += "runpy.run_module(sys.argv[0], run_name='__main__', alter_sys=True)"
    return subprocess.run(
        [sys.executable, "-c", script, str(ROOT), *module_words(command)],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty folder with the examples and the image that the documentation uses."""
    monkeypatch.setenv("DCTKD_ZOO_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    for block in PYTHON:
        if "scene.png" in block.text:
            exec(compile(block.text, str(block), "exec"), {})
    return tmp_path


@pytest.mark.parametrize("block", PYTHON, ids=str)
def test_python_runs(block, folder):
    exec(compile(block.text, str(block), "exec"), {"__name__": "block"})


def check(command: str) -> None:
    """Raise where a command of this project has an unknown option, entry or dataset."""
    module, arguments = module_and_arguments(command)
    if module in WITHOUT_OPTIONS:
        assert arguments in ([], ["--check"]), command
        return
    options = vars(PARSERS[module]().parse_args(arguments))
    catalog = options.get("catalog")
    if catalog and (ROOT / catalog).exists():
        registry.include(ROOT / catalog)
    if options.get("dataset"):
        registry.get_dataset(options["dataset"])
    if module == "dctkd_zoo" and arguments[0] == "data":
        registry.get_dataset(*options.pop("names"))
    for name in options.get("names", ()) if arguments[:1] != ["predict"] else ():
        if name not in PLACEHOLDERS and "myscenes" not in name and not name.endswith(".py"):
            assert registry.resolve([name]), command


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_is_understood(command, fresh_registry):
    words = shlex.split(command, comments=True)
    if words[0] == "make":
        targets = re.findall(r"^([\w./$()-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.M)
        assert words[1] in {target.replace("$(INSTALLED)", ".venv/.installed") for target in targets}
    elif words[0] == "dctkd-zoo" or "-m" in words:
        check(command)
    else:
        assert words[0] in PROGRAMS, command


@pytest.mark.parametrize("wrong", ["train r18_no_such --dry-run", "eval --alll", "dctkd_zoo data fetch ade2k"])
def test_a_wrong_command_is_found(wrong, fresh_registry):
    with pytest.raises((SystemExit, ZooError)):
        check(f"python -m {wrong}")


@pytest.mark.parametrize("command", runs(RUN) + [c for c in runs(("train",)) if "--dry-run" in c])
def test_a_quick_command_runs(command, folder):
    done = call(command, folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout or (folder / "report" / "index.html").exists()


@pytest.mark.slow
@pytest.mark.parametrize("command", runs(RUN_SLOWLY))
def test_a_slow_command_runs(command, folder):
    done = call(f"{command} --limit {LIMIT}" if "--report" in command else command, folder)
    assert done.returncode == 0, done.stderr


def test_there_is_something_to_run():
    assert len(PYTHON) >= 4 and len(COMMANDS) > 30
    assert len(runs(RUN)) >= 4 and len(runs(RUN_SLOWLY)) == 3
    assert any("--dry-run" in command for command in runs(("train",)))
