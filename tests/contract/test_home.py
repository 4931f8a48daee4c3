"""dctkd_zoo._io.paths: what is a checkout, and that no command changes an installed package."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from dctkd_zoo._io import paths

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The packages as pip puts them beside others."""
    path = tmp_path_factory.mktemp("lib") / "site-packages"
    left = shutil.ignore_patterns("__pycache__", "*.safetensors")
    for name in ("dctkd_zoo", "eval", "train"):
        shutil.copytree(ROOT / name, path / name, ignore=left)
    return path


@pytest.mark.parametrize(
    ("command", "way_on"),
    [
        ("eval r8_synthscenes --write", "--results FILE"),
        ("dctkd_zoo cards", "--folder DIR"),
        ("dctkd_zoo publish r18_ade20k --org acme", "--note FILE"),
        ("train.bundle r8_synthscenes --out nowhere", "--into DIR"),
        ("eval.pages.results_md", "in a checkout"),
    ],
)
def test_nothing_is_written_into_an_installed_package(installed, tmp_path, command, way_on):
    def there():
        return {path: path.stat().st_mtime_ns for path in installed.rglob("*") if "__pycache__" not in path.parts}

    before = there()
    known = {**os.environ, "PYTHONPATH": str(installed), "DCTKD_ZOO_HOME": str(tmp_path)}
    words = [sys.executable, "-P", "-B", "-m", *command.split()]
    done = subprocess.run(words, cwd=tmp_path, env=known, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    error = " ".join(done.stderr.split())
    assert "is part of the installed package, not of a checkout" in error and way_on in error
    assert there() == before


def test_a_checkout_is_told_by_its_name(tmp_path):
    assert paths.is_checkout(ROOT) and not paths.is_checkout(tmp_path)
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "another"\n')
    assert not paths.is_checkout(tmp_path)
    (tmp_path / "pyproject.toml").write_text("torn [")
    assert not paths.is_checkout(tmp_path)
    paths.refuse_installed(ROOT / "eval" / "results.csv", "")
    paths.refuse_installed(tmp_path / "results.csv", "")
