"""`dctkd-zoo` in folders whose own `train.py`, `eval.py` and `tests` must not be run in place of this project's."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dctkd_zoo import weights
from tests import world

SCRIPT = "import sys\nfrom dctkd_zoo.__main__ import main\nsys.exit(main())\n"  # as pip writes it
ZOO = ("-m", "dctkd_zoo")
FILES = ("train.py", "eval.py", "eval/__init__.py", "tests/__init__.py", "benchmarks.py")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A world with files of the user's that are called like this project's packages, and the script that pip makes."""
    path = world.make(tmp_path_factory.mktemp("hostile"))
    for name in FILES:
        (path / name).parent.mkdir(exist_ok=True)
        (path / name).write_text(f"raise SystemExit('the user\\'s {name} was run')\n")
    (path / "bin").mkdir()
    (path / "bin" / "dctkd-zoo").write_text(SCRIPT)
    return path


def run(folder: Path, *words: str, path: str = str(world.ROOT)) -> str:
    """Standard output of a Python command in the folder, which must succeed."""
    known = world.environment(folder, PYTHONPATH=path)
    done = subprocess.run(
        [sys.executable, *words], cwd=folder, env=known, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("program", [ZOO, ("bin/dctkd-zoo",)], ids=" ".join)
@pytest.mark.parametrize(
    "path", [str(world.ROOT), f".{os.pathsep}{world.ROOT}"], ids=["installed", "with PYTHONPATH=."]
)
@pytest.mark.parametrize("command", ["train", "eval", "compare"])
def test_the_commands_are_this_project_s(folder, program, path, command):
    called = "dctkd-zoo" if program != ZOO else "python -m dctkd_zoo"
    assert run(folder, *program, command, "--help", path=path).startswith(f"usage: {called} {command} [-h]")


def test_a_checkout_need_not_be_installed():
    known = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, *ZOO, "train", "--help"]
    done = subprocess.run(command, cwd=world.ROOT, env=known, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and done.stdout.startswith("usage: python -m dctkd_zoo train")


def test_jobs_of_a_launcher_and_what_eval_starts(folder):
    pytest.importorskip("submitit", reason="--launcher needs submitit")
    where = world.options(folder, folder / "jobs")
    run(folder, *ZOO, "train", "r8_stripes", *where, "--epochs", "1", "--launcher", "local")
    assert weights.is_complete(folder / "jobs" / "r8_stripes")
    shown = run(folder, *ZOO, "eval", "r8_stripes", *where, "--cost", "--json", "-")
    assert "the process that measures peak memory failed" not in shown


def test_ranks_of_torchrun(folder):
    command = world.torchrun(2, "dctkd_zoo", "train", *world.options(folder, folder / "ranks"), "r8_stripes")
    run(folder, *command[1:], "--epochs", "1")
    assert weights.is_complete(folder / "ranks" / "r8_stripes")
