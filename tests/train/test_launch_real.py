"""`python -m train --all --launcher local`: killed, resumed, and the weights that come of it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from dctkd_zoo import weights
from tests.train.test_launch import processes
from tests.world import make

pytestmark = pytest.mark.slow

CATALOG = """
from dctkd_zoo.spec import Cosine, Dataset, Entry, Recipe

DATASET = Dataset(
    name="stripes", title="Stripes", source="folders", num_classes=3, train=48, test=24,
    mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25), license="none", url="none",
)
RECIPE = Recipe(epochs=8, batch_size=16, lr=0.05, schedule=Cosine(0.2), resize=20, pad=2, crop=16)
ENTRIES = (  # those of synthscenes that are bundled, small
    Entry("r8_dctkd_kd_stripes", RECIPE, {"ce": 0.1, "dctkd": 1.0, "kd": 1.0}, teacher="r14_stripes"),
    Entry("r8_kd_stripes", RECIPE, {"ce": 0.1, "kd": 1.0}, teacher="r14_stripes"),
    Entry("r8_at_stripes", RECIPE, {"ce": 0.1, "at": 1.0}, teacher="r14_stripes"),
    Entry("r8_dctkd_stripes", RECIPE, {"ce": 0.1, "dctkd": 1.0}, teacher="r14_stripes"),
    Entry("r8_stripes", RECIPE, {"ce": 1.0}),
    Entry("r14_stripes", RECIPE, {"ce": 1.0}),
)
"""
STUDENTS = {"r8_dctkd_kd_stripes", "r8_kd_stripes", "r8_at_stripes", "r8_dctkd_stripes"}
NAMES = {"r14_stripes", "r8_stripes", *STUDENTS}
EPOCHS = 8


@pytest.fixture
def world(tmp_path, monkeypatch):
    """A folder with images and a catalog file; what still trains there at the end is killed."""
    make(tmp_path, CATALOG)
    monkeypatch.setenv("DCTKD_ZOO_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    yield tmp_path
    for pid in processes(tmp_path):
        os.kill(pid, signal.SIGKILL)


def command(world: Path, out: str) -> list[str]:
    where = ["--catalog", str(world / "catalog.py"), "--data", str(world / "data"), "--out", str(world / out)]
    return [sys.executable, "-m", "train", "*_stripes", *where, "--device", "cpu"]


def until(holds: Callable[[], object]) -> None:
    deadline = time.monotonic() + 300
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def trainer(out: Path, name: str) -> int | None:
    """The process that trains a run, not the launcher's or submitit's."""
    result = [pid for pid, words in processes(out).items() if name in words and "--resume" in words]
    return result[0] if result else None


def epochs(out: Path, name: str) -> int:
    log = out / name / "train_log.csv"
    return len(log.read_text().splitlines()) - 1 if log.is_file() else 0


def killed(out: Path, name: str) -> None:
    """Kill a run when it has done an epoch, and some more to do."""
    until(lambda: 0 < epochs(out, name) < EPOCHS)
    pid = trainer(out, name)
    assert pid is not None
    os.kill(pid, signal.SIGKILL)


def test_all_entries_killed_and_resumed_end_as_if_they_had_not_been(world):
    """A teacher and a launcher killed with SIGKILL, a launcher interrupted; then the same command once more."""
    out, launch = world / "out", [*command(world, "out"), "--launcher", "local"]
    with subprocess.Popen(launch, stdout=subprocess.PIPE, text=True) as first:
        killed(out, "r14_stripes")  # the launcher starts it again
        until(lambda: any(epochs(out, name) for name in STUDENTS))
        first.kill()  # its job goes on
    assert weights.is_complete(out / "r14_stripes")
    with subprocess.Popen(launch, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as second:
        until(lambda: sum(epochs(out, name) > 0 for name in STUDENTS) > 1)
        second.send_signal(signal.SIGINT)
        said, meta = second.communicate()
    assert "r14_stripes: done: before" in said
    assert second.returncode in (0, 130) and ("run the same command again" in meta or not second.returncode)
    assert not any(trainer(out, name) for name in NAMES)
    third = subprocess.run(launch, capture_output=True, text=True)
    assert third.returncode == 0, third.stdout + third.stderr
    assert {name for name in NAMES if f"{name}: done" in third.stdout} == NAMES
    undisturbed = subprocess.run(command(world, "plain"), capture_output=True, text=True)
    assert undisturbed.returncode == 0, undisturbed.stderr
    for name in NAMES:
        one, other = (load_file(world / folder / name / "model.safetensors") for folder in ("out", "plain"))
        assert all(torch.equal(one[key], other[key]) for key in other)
        assert epochs(out, name) == EPOCHS


def test_the_plan_s_hours_are_those_of_the_run_s_log(world):
    assert subprocess.run([*command(world, "out")[:3], "r14_stripes", *command(world, "out")[4:]]).returncode == 0
    log = (world / "out" / "r14_stripes" / "train_log.csv").read_text().splitlines()
    column = log[0].split(",").index("images_per_s")
    seconds = sum(48 / float(row.split(",")[column]) for row in log[1:])
    plan = subprocess.run([*command(world, "out"), "--dry-run", "--seed", "0,1"], capture_output=True, text=True)
    (row,) = (line for line in plan.stdout.splitlines() if "r14_stripes-seed1" in line)
    assert float(row.split()[4]) == pytest.approx(seconds / 3600, rel=0.01)
    assert "measured here, cpu" in plan.stdout
