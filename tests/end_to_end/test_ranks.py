"""Several processes as torchrun starts them: the same curve, the same table, and a rank that dies."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest
import torch

from dctkd_zoo import distributed, losses
from tests import world
from tests.end_to_end import rank_curve
from train import checkpoint

pytestmark = pytest.mark.slow
TERMS = (*sorted(losses.names()), "dctkd+correct")
NORMED = f"ce{rank_curve.VECTORS}"
FIELDS = (
    "ce blended",
    "dctkd blended",
    "dkd blended",
    "dctkd+correct unlabelled",
    "dkd unlabelled",
    "kd unlabelled",
    "ce clipped",
)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return world.make(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def trained(home):
    """Teacher and student, trained by one process."""
    done = world.run(world.command(home, home / "out", "r14_stripes", "r8_dctkd_kd_stripes"), home)
    assert done.returncode == 0, done.stderr
    return home / "out"


@pytest.fixture(scope="module")
def curves(tmp_path_factory):
    """The losses of every step, by term and precision, of one process and of two."""
    folder = tmp_path_factory.mktemp("curves")
    rank_curve.views(folder / "cache")  # made once
    result = []
    for name, command in (("one", [sys.executable, "-m", "tests.end_to_end.rank_curve"]), ("two", [])):
        command = command or world.torchrun(2, "tests.end_to_end.rank_curve")
        done = world.run([*command, str(folder / f"{name}.json"), *TERMS, NORMED, *FIELDS], folder)
        assert done.returncode == 0, done.stderr
        result.append(json.loads((folder / f"{name}.json").read_text()))
    return result


@pytest.mark.parametrize("term", TERMS)
@pytest.mark.parametrize("dtype, allowed", [(torch.float32, 1e-5), (torch.float64, 1e-12)])
def test_two_ranks_have_the_curve_of_one_process(curves, term, dtype, allowed):
    one, two = (torch.tensor(result[f"{term} {dtype}"], dtype=torch.float64) for result in curves)
    assert len(one) == 9 * rank_curve.LENGTHS[dtype] - rank_curve.STARTS[dtype]
    assert one.std() > 0.01  # something is learnt, or at least seen
    assert ((one - two).abs() / one.abs()).max() < allowed


@pytest.mark.parametrize("name", FIELDS)
def test_two_ranks_have_the_curve_of_one_process_with_other_fields_of_a_recipe(curves, name):
    """Images blended with those of the other rank, images without a label, clipping, ramps and averaged weights."""
    one, two = (torch.tensor(result[f"{name} {torch.float64}"], dtype=torch.float64) for result in curves)
    assert one.std() > 0.01 and ((one - two).abs() / one.abs().clamp(min=1e-3)).max() < 1e-12
    plain = curves[0][f"{name.partition(' ')[0]} {torch.float64}"]
    assert not torch.allclose(one[:5], torch.tensor(plain[:5], dtype=torch.float64))


def test_two_ranks_normalise_vectors_over_the_whole_batch(curves):
    one, two = (torch.tensor(result[f"{NORMED} {torch.float64}"], dtype=torch.float64) for result in curves)
    assert one.std() > 0.01
    assert ((one - two).abs() / one.abs()).max() < 1e-12


def test_a_process_of_its_own_is_rank_0_of_1():
    rows = torch.arange(6.0).view(3, 2)
    assert (distributed.world_size(), distributed.rank(), distributed.is_primary()) == (1, 0, True)
    assert distributed.all_gather_with_grad(rows) is rows
    assert torch.equal(distributed.local_slice(rows), rows)
    assert torch.equal(distributed.local_rows(rows, 3), rows)
    assert distributed.any_rank(True, False) == (True, False)
    assert list(distributed.shard("abc")) == [("a", True), ("b", True), ("c", True)]


@pytest.mark.parametrize("size", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("count", [1, 2, 7, 8, 9])
def test_every_item_is_one_ranks_own(monkeypatch, size, count):
    monkeypatch.setattr(distributed, "_size", size)
    own, rounds, shares = [], set(), []
    for rank in range(size):
        monkeypatch.setattr(distributed, "_rank", rank)
        turns = list(distributed.shard(range(count)))
        rounds.add(len(turns))
        own += [item for item, mine in turns if mine]
        shares.append(distributed.local_slice(torch.arange(count)))
    assert sorted(own) == list(range(count))
    assert len(rounds) == 1  # all take part in each
    if count >= size:
        assert torch.cat(shares).tolist() == list(range(count))
        assert max(map(len, shares)) - min(map(len, shares)) <= 1
    else:
        assert all(len(share) == count for share in shares)


def rows(path):
    table = json.loads(path.read_text())["entries"]
    return [{k: v for k, v in entry["row"].items() if k != "date"} for entry in table]


def test_two_ranks_evaluate_to_the_same_table(home, trained, tmp_path):
    names = ["r14_stripes", "r8_dctkd_kd_stripes"]
    result = []
    for count in (1, 2, 3):  # 24 images are one batch: of three ranks two have none
        there = [*world.options(home, trained), *names, "--fresh", "--json", str(tmp_path / f"{count}.json")]
        command = world.torchrun(count, "eval", *there)
        done = world.run(command, home, DCTKD_ZOO_HOME=str(tmp_path / f"home{count}"))
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("r8_dctkd_kd_stripes") == 1  # one of them shows it
        result.append(rows(tmp_path / f"{count}.json"))
    assert len(result[0]) == 2 and result[0][0]["n"] == 24
    assert result[0] == result[1] == result[2]


def test_two_ranks_train_the_network_of_one_process(home, trained, tmp_path):
    command = world.torchrun(2, "train", *world.options(home, tmp_path), "r14_stripes", "r8_dctkd_kd_stripes")
    done = world.run(command, home)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("epoch 4/4") == 2  # one of them speaks
    for name in ("r14_stripes", "r8_dctkd_kd_stripes"):
        one, two = (json.loads((out / name / "results.json").read_text()) for out in (trained, tmp_path))
        assert two["n"] == 24 and abs(two["top1"] - one["top1"]) < 20
        assert (tmp_path / name / "SHA256SUMS").exists()


def children(pid):
    done = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True, check=False)
    return [int(line) for line in done.stdout.split()]


def wait_for(condition, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.01)


@pytest.mark.parametrize("restarts, status", [(1, 0), (0, 1)])
def test_a_rank_that_dies_is_replaced_or_ends_the_run(home, trained, tmp_path, restarts, status):
    whole = world.torchrun(2, "train", *world.options(home, tmp_path / "whole"), "r8_stripes")
    command = world.torchrun(2, "train", *world.options(home, tmp_path / "out"), "r8_stripes", restarts=restarts)
    process = subprocess.Popen(command, cwd=world.ROOT, env=world.environment(home), stderr=subprocess.PIPE, text=True)
    wait_for(lambda: checkpoint.begun(tmp_path / "out" / "r8_stripes") or process.poll() is not None)
    os.kill(children(process.pid)[-1], signal.SIGKILL)
    error = process.communicate(timeout=120)[1]
    assert process.returncode == status, error
    if restarts:
        assert world.run(whole, home).returncode == 0
        assert world.same(tmp_path / "whole" / "r8_stripes", tmp_path / "out" / "r8_stripes")
    else:
        assert "another rank has stopped; continue with --resume" in error
        again = world.run([*command, "--resume"], home)
        assert again.returncode == 0, again.stderr


def test_a_signal_stops_all_ranks_at_one_step(home, trained, tmp_path):
    command = world.torchrun(2, "train", *world.options(home, tmp_path), "r8_stripes")
    process = subprocess.Popen(command, cwd=world.ROOT, env=world.environment(home), stderr=subprocess.PIPE, text=True)
    wait_for(lambda: checkpoint.begun(tmp_path / "r8_stripes") or process.poll() is not None)
    os.kill(children(process.pid)[0], signal.SIGTERM)
    error = process.communicate(timeout=60)[1]
    assert re.search("stopped by SIGTERM after (step|epoch)", error), error
    assert "because another rank was stopped" in error
    assert world.run([*command, "--resume"], home).returncode == 0
