"""What is killed, full, damaged or doubled: real processes, signals and disks, and the right result in the end.

`make soak` runs the long form, a hundred runs that are killed in place of a few.
"""

import csv
import json
import math
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from rich.console import Console

from dctkd_zoo import errors, registry
from eval.run import results_csv
from tests import world
from train import checkpoint, loop, run
from train.config import TrainConfig

pytestmark = pytest.mark.slow
NAMES = ("r14_stripes", "r8_crd_stripes", "mbv2_stripes")  # momentum; banks and draws; dropout
FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1")


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return world.make(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def out(home):
    """Runs that nothing disturbed."""
    done = world.run(world.command(home, home / "out", *NAMES), home)
    assert done.returncode == 0, done.stderr
    return home / "out"


@pytest.fixture
def entries(home, monkeypatch):
    """The world's entries in this process."""
    monkeypatch.setenv("DCTKD_ZOO_HOME", f"{home}/home")
    monkeypatch.setattr(registry, "_MODULES", [])
    registry._bundled_and_included.cache_clear()
    registry.include(home / "catalog.py")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as the runs of `out`
    yield
    torch.set_num_threads(threads)
    registry._bundled_and_included.cache_clear()


class Killed(BaseException):
    """In place of a kill."""


def log(folder):
    rows = csv.DictReader((folder / "train_log.csv").read_text().splitlines())
    return [{name: value for name, value in row.items() if name != "images_per_s"} for row in rows]


def steps(name):
    recipe = registry.get_entry(name).recipe
    return recipe.epochs * -(-48 // recipe.batch_size)


@pytest.mark.parametrize("name", NAMES)
def test_stopped_after_any_step_a_run_ends_with_the_same_weights(name, home, out, entries, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "EVERY", -1.0)  # the state is written after every step
    last = steps(name)
    after = range(1, last + 1) if world.SOAK else random.Random(name).sample(range(1, last + 1), 4)
    limited = world.StepLimit(loop.step, Killed)
    monkeypatch.setattr(loop, "step", limited)
    quiet = Console(quiet=True)
    for limit in after:
        folder, limited.left = tmp_path / str(limit), limit
        where = TrainConfig(home / "data", folder, torch.device("cpu"), resume=True, trained=out)
        try:
            run.train(registry.get_entry(name), where, quiet)
        except Killed:
            assert checkpoint.read(folder / name / checkpoint.STATE).progress.epoch * 48 < 48 * 4
            limited.left = math.inf
            run.train(registry.get_entry(name), where, quiet)
        assert world.same(folder / name, out / name), f"killed after step {limit} of {last}"
        assert log(folder / name) == log(out / name)


def interrupted(command, home, rng, most):
    """Run a command again and again, each time killed or told to end at some moment, until it ends by itself."""
    for attempt in range(1, 4):
        process = subprocess.Popen(
            command, cwd=world.ROOT, env=world.environment(home), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        try:
            _, error = process.communicate(timeout=rng.uniform(0.5, most) if attempt < 3 else None)
        except subprocess.TimeoutExpired:
            process.send_signal(rng.choice([signal.SIGKILL, signal.SIGTERM, signal.SIGINT]))
            _, error = process.communicate(timeout=600)
        if process.returncode == 0:
            return attempt - 1
        assert process.returncode in (-signal.SIGKILL, -signal.SIGTERM, -signal.SIGINT, 130, 143), error.decode()
    raise AssertionError("never ended")


def test_killed_at_random_moments_training_ends_with_the_same_weights(home, out, tmp_path):
    rng, kills = random.Random(1), 0
    for number in range(100 if world.SOAK else 1):
        name = NAMES[number % len(NAMES)]
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "r14_stripes").symlink_to(out / "r14_stripes") if name == "r8_crd_stripes" else None
        kills += interrupted([*world.command(home, folder, name), "--resume"], home, rng, 6)
        assert world.same(folder / name, out / name)
        assert log(folder / name) == log(out / name)
    print(f"training: {number + 1} runs, {kills} times killed or told to end, all with the weights of an undisturbed")


def test_killed_at_random_moments_an_evaluation_ends_with_the_same_rows(home, out, tmp_path):
    def evaluate(number, folder):
        file = tmp_path / f"{number}.json"
        names = ("r14_stripes", "r8_crd_stripes")
        return [sys.executable, "-m", "eval", *world.options(home, out), *names, "--json", str(file)], file

    command, whole = evaluate("whole", home)
    assert world.run(command, home, DCTKD_ZOO_HOME=str(tmp_path / "first")).returncode == 0
    rng, kills = random.Random(2), 0
    for number in range(100 if world.SOAK else 1):
        path = tmp_path / f"home{number}"
        command, file = evaluate(number, path)
        kills += interrupted(["env", f"DCTKD_ZOO_HOME={path}", *command], home, rng, 6)
        assert rows(file) == rows(whole)
    print(f"evaluation: {number + 1} runs, {kills} times killed or told to end, all with the rows of an undisturbed")


def rows(file):
    entries = json.loads(file.read_text())["entries"]
    return [{k: v for k, v in entry["row"].items() if k != "date"} for entry in entries]


def begun(command, home, folder, **more):
    """A run that has written its first state."""
    process = subprocess.Popen(
        command, cwd=world.ROOT, env=world.environment(home, **more), stderr=subprocess.PIPE, text=True
    )
    end = time.monotonic() + 120
    while not checkpoint.begun(folder) and process.poll() is None:
        assert time.monotonic() < end
        time.sleep(0.01)
    return process


def test_an_interrupted_run_ends_in_seconds_and_says_how_to_go_on(home, out, tmp_path):
    command = world.command(home, tmp_path, "r14_stripes")
    process = begun(command, home, tmp_path / "r14_stripes")
    asked = time.monotonic()
    process.send_signal(signal.SIGINT)
    error = process.communicate(timeout=30)[1]
    assert time.monotonic() - asked < 10
    assert process.returncode == 130
    assert re.search("stopped by SIGINT after (step|epoch)", error) and "--resume" in error
    assert "Traceback" not in error
    assert world.run([*command, "--resume"], home).returncode == 0
    assert world.same(tmp_path / "r14_stripes", out / "r14_stripes")


def test_a_second_run_in_one_folder_is_refused(home, out, tmp_path):
    command = world.command(home, tmp_path, "r14_stripes")
    first = begun(command, home, tmp_path / "r14_stripes")
    first.send_signal(signal.SIGSTOP)  # it holds the folder for as long as that takes
    second = world.run([*command, "--resume"], home)
    first.send_signal(signal.SIGCONT)
    first.communicate(timeout=120)
    assert second.returncode == 1
    assert "is being written by another process" in second.stderr
    assert first.returncode == 0
    assert world.same(tmp_path / "r14_stripes", out / "r14_stripes")


@pytest.fixture
def stopped(home, out, entries, tmp_path, monkeypatch):
    """The folder of a run that was killed in its third epoch, and how it goes on."""
    folder = tmp_path / "out" / "r14_stripes"
    where = TrainConfig(home / "data", folder.parent, torch.device("cpu"), resume=True, trained=out)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(loop, "step", world.StepLimit(loop.step, Killed, left=8))
        run.train(registry.get_entry("r14_stripes"), where, Console(quiet=True))
    return folder, lambda: run.train(registry.get_entry("r14_stripes"), where, Console(quiet=True))


def damages(data, count, seed):
    """The bytes cut somewhere, and with a bit flipped somewhere, so many times each."""
    rng = random.Random(seed)
    for _ in range(count):
        yield data[: rng.randrange(len(data))]
        position = rng.randrange(len(data))
        yield data[:position] + bytes([data[position] ^ 1 << rng.randrange(8)]) + data[position + 1 :]


def test_a_damaged_checkpoint_is_never_trained_on(stopped):
    path = stopped[0] / checkpoint.STATE
    for damaged in damages(path.read_bytes(), 500 if world.SOAK else 20, seed=3):
        path.write_bytes(damaged)
        with pytest.raises(errors.CorruptWeights, match="delete it to start over"):
            checkpoint.read(path)


def test_a_run_goes_on_from_the_state_before_a_damaged_one(stopped, out, caplog):
    folder, go_on = stopped
    path = folder / checkpoint.STATE
    for damaged in damages(path.read_bytes(), 1, seed=4):
        path.write_bytes(damaged)
    go_on()
    assert f"{path} is not a checkpoint or is damaged" in caplog.text
    assert f"resuming from {checkpoint.PREVIOUS}" in caplog.text
    assert world.same(folder, out / "r14_stripes")


def test_a_run_with_no_whole_state_is_refused(stopped):
    folder, go_on = stopped
    for name in (checkpoint.STATE, checkpoint.PREVIOUS):
        (folder / name).write_bytes(b"torn")
    with pytest.raises(errors.CorruptWeights, match="delete it to start over"):
        go_on()


def test_a_full_disk_costs_no_state(home, out, tmp_path):
    disk = tmp_path / "disk"
    command = world.command(home, disk, "r14_stripes")
    with world.mounted(disk, "3m"):  # room for one state and the best weights, 2.1 MB, and not for two
        full = world.run(command, home)
        assert full.returncode == 1
        assert "No space left on device" in full.stderr and "Traceback" not in full.stderr, full.stderr
        assert not list(disk.rglob("*.tmp")) and checkpoint.read(disk / "r14_stripes" / checkpoint.STATE)
        world.remount(disk, "size=64m")
        done = world.run([*command, "--resume"], home)
        assert done.returncode == 0, done.stderr
        assert world.same(disk / "r14_stripes", out / "r14_stripes")


def test_results_on_a_full_disk_keep_their_rows(tmp_path):
    row = {"name": "r8_animals", "dataset": "animals", "protocol": "exact", "seed": "0", "n": "4", "top1": "50.0"}
    with world.mounted(tmp_path / "disk", "64k"):
        path = tmp_path / "disk" / "results.csv"
        results_csv.write([row], path)
        (tmp_path / "disk" / "rest").write_bytes(bytes(56 << 10))
        before = path.read_bytes()
        with pytest.raises(OSError, match="No space left"):
            results_csv.write([{**row, "note": "x" * 20_000}], path)
        assert path.read_bytes() == before
        assert {item.name for item in path.parent.iterdir()} <= {"results.csv", "rest", ".results.csv.lock"}


def test_a_full_or_read_only_cache_costs_time_and_no_result(home, out, tmp_path):
    command = [sys.executable, "-m", "eval", *world.options(home, out), "r14_stripes", "--json", str(tmp_path / "a")]
    cache = tmp_path / "cache"
    with world.mounted(cache, "64m"):
        assert world.run(command, home, DCTKD_ZOO_HOME=str(cache)).returncode == 0
        before = rows(tmp_path / "a")
        world.remount(cache, "ro")
        done = world.run([*command, "--fresh"], home, DCTKD_ZOO_HOME=str(cache))
        assert done.returncode == 0, done.stderr
        assert "the measurement could not be cached" in done.stderr
        assert rows(tmp_path / "a") == before


def test_a_read_only_folder_is_named(home, tmp_path):
    with world.mounted(tmp_path / "disk", "1m"):
        world.remount(tmp_path / "disk", "ro")
        done = world.run(world.command(home, tmp_path / "disk", "r14_stripes"), home)
        assert done.returncode == 1
        assert "Read-only file system" in done.stderr and str(tmp_path / "disk") in done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.skipif(not FAKETIME.exists(), reason="libfaketime, which sets the clock of a process, is not installed")
def test_a_clock_that_jumps_changes_nothing(home, out, tmp_path):
    clock = tmp_path / "clock"
    clock.write_text("+0d")
    more = {"LD_PRELOAD": str(FAKETIME), "FAKETIME_TIMESTAMP_FILE": str(clock), "FAKETIME_NO_CACHE": "1"}
    command = world.command(home, tmp_path, "r14_stripes")
    process = begun(command, home, tmp_path / "r14_stripes", **more, FAKETIME_DONT_FAKE_MONOTONIC="1")
    clock.write_text("-400d")
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    clock.write_text("+4000d")
    done = world.run([*command, "--resume"], home, **more, FAKETIME_DONT_FAKE_MONOTONIC="1")
    assert done.returncode == 0, done.stderr
    assert world.same(tmp_path / "r14_stripes", out / "r14_stripes")
