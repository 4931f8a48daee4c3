"""train.loggers: what the tools' own readers find in real logs, and that logging changes no weight."""

from __future__ import annotations

import csv
import importlib.util
import json
import signal
import sqlite3
import struct
import subprocess
import sys
import time
import tomllib
from dataclasses import replace

import pytest
import torch
from rich.console import Console

from dctkd_zoo import discover, registry, weights
from dctkd_zoo._io.hashing import sha256
from tests import world as worlds
from train import bundle, checkpoint, launch, loggers, loop, run, setup
from train.__main__ import main, parser
from train.config import TrainConfig

accumulator = pytest.importorskip(
    "tensorboard.backend.event_processing.event_accumulator", reason="tensorboard is an extra: the [tensorboard] one"
)

CATALOG = (
    worlds.CATALOG
    + """
MANY = replace(RECIPE, epochs=3, batch_size=2)  # 24 steps an epoch, more than there are between two reports
ENTRIES = (
    *ENTRIES,
    Entry("r8_stripes.many", MANY, {"ce": 1.0}),
    Entry("r8_dctkd_kd_stripes.many", MANY, {"ce": 0.1, "dctkd": 1.0, "kd": 1.0}, teacher="r14_stripes"),
    Entry("r8_stripes.clipped", replace(RECIPE, epochs=2, clip_grad=0.1), {"ce": 1.0}),
)
"""
)
NAME, STEPS, EPOCHS = "r8_stripes.many", 24, 3


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return worlds.make(tmp_path_factory.mktemp("world"), CATALOG)


@pytest.fixture(scope="module", autouse=True)
def home(world):
    """The world's catalog beside the zoo's, and a cache of its own."""
    with worlds.included(world):
        yield


@pytest.fixture
def console(tmp_path):
    with (tmp_path / "console.txt").open("w") as file:
        yield Console(file=file, width=100)


def config(world, out, *names, **changes):
    plain = TrainConfig(world / "data", out, torch.device("cpu"), trained=out, precision="float32", loggers=names)
    return replace(plain, **changes)


def trained(world, out, console, *names, entry=NAME, **changes):
    """The folder of a finished run with these loggers."""
    return run.train(registry.get_entry(entry), config(world, out, *names, **changes), console)


def command(world, out, *arguments):
    return [*worlds.command(world, out, NAME), "--precision", "float32", *arguments]


def settings(world, folder):
    """Environment variables with which no tool writes elsewhere or sends anything."""
    own = {"TRACKIO_DIR": f"{folder}/trackio", "WANDB_DIR": f"{folder}", "WANDB_MODE": "offline", "HF_HUB_OFFLINE": "1"}
    return worlds.environment(world, **own)


def finish(line, world, folder):
    done = subprocess.run(line, env=settings(world, folder), cwd=worlds.ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """As many threads in this process as in those that the tests start: their number changes how sums are rounded."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def plain(world):
    """A run without loggers."""
    with (world / "plain.txt").open("w") as file:
        return trained(world, world / "plain", Console(file=file))


@pytest.fixture(scope="module")
def logged(world):
    """The same run with two of them, as a command."""
    finish(command(world, world / "logged", "--log", "tensorboard,trackio"), world, world)
    return world / "logged" / NAME


def rows(folder):
    return list(csv.DictReader((folder / "train_log.csv").read_text().splitlines()))


def tensorboard_log(folder):
    """Name -> step -> value, by TensorBoard's own reader; each step at most once."""
    events = accumulator.EventAccumulator(str(folder / "tensorboard"), {accumulator.SCALARS: 0}).Reload()
    result: dict[str, dict[int, float]] = {}
    for name in events.Tags()[accumulator.SCALARS]:
        values = [(event.step, event.value) for event in events.Scalars(name)]
        result[name] = dict(values)
        assert [*result[name]] == sorted(step for step, _ in values)
    return result


def trackio_logs(folder):
    """For each run of trackio's database: name -> step -> value; each step at most once."""
    with sqlite3.connect(folder / "trackio" / "dctkd_zoo.db") as database:
        found = database.execute("select run_id, step, metrics from metrics order by id").fetchall()
    result: dict[str, dict[str, dict[int, float]]] = {}
    for run_id, step, metrics in found:
        for name, value in json.loads(metrics).items():
            values = result.setdefault(run_id, {}).setdefault(name, {})
            assert step not in values
            values[step] = value
    return [*result.values()]


def trackio_log(folder):
    (result,) = trackio_logs(folder)
    return result


def check_epochs(log, folder, columns=None):
    """Whether a log holds the rows of train_log.csv, each once and in its place, and nothing else by epoch."""
    expected = rows(folder)
    assert log["epoch"] == {STEPS * number: number for number in range(1, EPOCHS + 1)}
    names = {name for name in expected[0] if name != "epoch"}
    assert {name for name in log if name.startswith("epoch/")} == {f"epoch/{name}" for name in names}
    for name in names:
        values = [float(row[name]) for row in expected if row[name]]
        assert [*log[f"epoch/{name}"].values()] == pytest.approx(values, rel=1e-5), name


def check_steps(log, folder):
    """Whether the values within an epoch are at the reports, have its means, and the recipe's learning rates."""
    at = [STEPS * epoch + step for epoch in range(EPOCHS) for step in (1, 21, 24)]
    assert [*log["step/ce"]] == [*log["step/grad_norm"]] == [*log["step/lr"]] == at
    recipe = registry.get_entry(NAME).recipe
    rates = [recipe.lr * recipe.rate((step - 1) / STEPS) for step in at]
    assert [*log["step/lr"].values()] == pytest.approx(rates)
    for name in ("ce", "grad_norm"):
        values = torch.tensor([*log[f"step/{name}"].values()]).reshape(EPOCHS, 3)
        means = (values * torch.tensor([1, 20, 3])).sum(dim=1) / STEPS
        assert means.tolist() == pytest.approx([float(row[name]) for row in rows(folder)], rel=1e-5)


def without_speed(log):
    return {name: values for name, values in log.items() if name != "epoch/images_per_s"}


def test_logging_changes_no_weight_and_no_value(plain, logged):
    assert sha256(plain / weights.WEIGHTS) == sha256(logged / weights.WEIGHTS)
    before, after = rows(plain), rows(logged)
    assert {*after[0]} - {*before[0]} == {"grad_norm"}
    for name in {*before[0]} - {"images_per_s"}:
        assert [row[name] for row in before] == [row[name] for row in after]
    assert all(float(row["grad_norm"]) > 0 for row in after)


@pytest.mark.parametrize("read", [lambda folder: tensorboard_log(folder / "logged" / NAME), trackio_log])
def test_a_log_holds_what_train_log_csv_holds_and_the_steps_between(world, logged, read):
    log = read(world)
    check_epochs(log, logged)
    check_steps(log, logged)


def test_terms_of_a_distilled_network_are_logged_by_name(world, tmp_path, console):
    trained(world, tmp_path, console, entry="r14_stripes")
    folder = trained(world, tmp_path, console, "tensorboard", entry="r8_dctkd_kd_stripes.many")
    log = tensorboard_log(folder)
    check_epochs(log, folder)
    assert {"ce", "dctkd", "kd", "grad_norm", "lr"} == {
        name.removeprefix("step/") for name in log if name.startswith("step/")
    }


def test_what_a_run_is_is_in_its_log(world, logged):
    events = accumulator.EventAccumulator(str(logged / "tensorboard"), {accumulator.TENSORS: 0}).Reload()
    (event,) = events.Tensors("run/text_summary")
    assert '"batch_size": 2' in event.tensor_proto.string_val[0].decode()
    with sqlite3.connect(world / "trackio" / "dctkd_zoo.db") as database:
        ((name, facts),) = database.execute("select run_name, config from configs").fetchall()
    assert name == NAME and json.loads(facts)["recipe"]["batch_size"] == 2


def test_the_files_of_a_run_are_the_same_ones_beside_a_log(plain, logged, tmp_path):
    assert {path.name for path in logged.iterdir()} - {path.name for path in plain.iterdir()} == {"tensorboard"}
    assert weights.is_complete(logged)
    assert weights.from_folder(logged, "given folder").sha256 == sha256(logged / weights.WEIGHTS)
    copied = bundle.bundle(logged, tmp_path / NAME)
    assert {path.name for path in copied.iterdir()} == {weights.WEIGHTS, weights.HASHES, *bundle.COPIED}


def test_the_norm_is_that_of_the_update_by_plain_gradient_descent(world, tmp_path, console):
    entry = registry.get_entry(NAME)
    plain = replace(entry, recipe=replace(entry.recipe, momentum=0.0, weight_decay=0.0))
    told = config(world, tmp_path, "tensorboard")
    data = setup.prepare(plain, told)
    state = replace(setup.build(plain, data, told, console), measures_norm=True)
    state.student.train()
    batch = next(data.train.train(0, 0))
    before = [p.detach().clone() for p in state.student.parameters()]
    norm = loop.step(state, batch, None)["grad_norm"]
    moved = [(old - new).flatten().double() for old, new in zip(before, state.student.parameters(), strict=True)]
    assert float(norm) == pytest.approx(float(torch.cat(moved).norm().detach()) / entry.recipe.lr, rel=1e-3)


def test_a_clipped_run_has_the_same_norms_and_weights_with_a_logger(world, tmp_path, console):
    one, two = (
        trained(world, tmp_path / "-".join(["out", *names]), console, *names, entry="r8_stripes.clipped")
        for names in ((), ("tensorboard",))
    )
    assert sha256(one / weights.WEIGHTS) == sha256(two / weights.WEIGHTS)
    assert [row["grad_norm"] for row in rows(one)] == [row["grad_norm"] for row in rows(two)]


class Stop(Exception):
    """Raised in the middle of a run."""


def stopped(world, out, console, monkeypatch, steps, *names):
    """A run that breaks off in the step after so many."""
    done, step = [], loop.step

    def broken(*told):
        done.append(1)
        if len(done) > steps:
            raise Stop
        return step(*told)

    with monkeypatch.context() as patch, pytest.raises(Stop):
        patch.setattr(loop, "step", broken)
        trained(world, out, console, *names)
    return out / NAME


@pytest.mark.parametrize("steps", [STEPS + 22, 2 * STEPS, 2 * STEPS + 1], ids=["after a report", "between", "in one"])
def test_a_resumed_run_goes_on_in_the_log_as_if_it_had_not_stopped(
    world, tmp_path, logged, console, monkeypatch, steps
):
    folder = stopped(world, tmp_path, console, monkeypatch, steps, "tensorboard")
    (file,) = (folder / "tensorboard").iterdir()
    with file.open("ab") as log:
        log.write(b"\x18\0\0\0\0\0\0\0half a record, as after SIGKILL")
    trained(world, tmp_path, console, "tensorboard", resume=True)
    assert without_speed(tensorboard_log(folder)) == without_speed(tensorboard_log(logged))
    check_epochs(tensorboard_log(folder), folder)


def test_a_run_stopped_within_an_epoch_logs_all_steps_once(world, tmp_path, logged, console, monkeypatch):
    monkeypatch.setattr(checkpoint, "EVERY", 0.0)  # a checkpoint after each step
    folder = stopped(world, tmp_path, console, monkeypatch, STEPS + 22, "tensorboard")
    assert checkpoint.load(folder).progress.step == 22
    trained(world, tmp_path, console, "tensorboard", resume=True)
    log, whole = tensorboard_log(folder), tensorboard_log(logged)
    check_epochs(log, folder)
    assert {name: [*values] for name, values in log.items()} == {name: [*values] for name, values in whole.items()}
    assert log["step/lr"] == whole["step/lr"]
    assert sha256(folder / weights.WEIGHTS) == sha256(logged / weights.WEIGHTS)


def test_a_logger_that_joins_a_resumed_run_is_told_the_epochs_before(world, tmp_path, console, monkeypatch):
    folder = stopped(world, tmp_path, console, monkeypatch, 2 * STEPS + 5)
    trained(world, tmp_path, console, "tensorboard", resume=True)
    check_epochs(tensorboard_log(folder), folder)
    assert "grad_norm" not in rows(folder)[0]  # an epoch without it was there before


def test_a_run_resumed_without_its_logger_has_the_norm_of_all_epochs(world, tmp_path, logged, console, monkeypatch):
    folder = stopped(world, tmp_path, console, monkeypatch, STEPS + 5, "tensorboard")
    trained(world, tmp_path, console, resume=True)
    assert [row["grad_norm"] for row in rows(folder)] == [row["grad_norm"] for row in rows(logged)]
    assert [*tensorboard_log(folder)["epoch"].values()] == [1]


def test_a_run_that_begins_again_in_the_same_folder_has_a_log_of_its_own(world, tmp_path, console, monkeypatch):
    folder = stopped(world, tmp_path, console, monkeypatch, STEPS - 1, "tensorboard")
    assert not checkpoint.begun(folder)
    trained(world, tmp_path, console, "tensorboard")
    check_epochs(tensorboard_log(folder), folder)
    check_steps(tensorboard_log(folder), folder)


def killed(line, world, folder, state):
    """Run a command until it has written a checkpoint, and kill it."""
    process = subprocess.Popen(line, env=settings(world, folder), cwd=worlds.ROOT, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 300
    while not state.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert state.exists()


def test_logs_of_a_killed_run_have_every_epoch_once_and_a_second_run_of_the_name_is_another(world, tmp_path, logged):
    line = command(world, tmp_path, "--log", "tensorboard", "--log", "trackio")
    killed(line, world, tmp_path, tmp_path / NAME / checkpoint.STATE)
    finish([*line, "--resume"], world, tmp_path)
    for log in (tensorboard_log(tmp_path / NAME), trackio_log(tmp_path)):
        check_epochs(log, tmp_path / NAME)
    check_steps(tensorboard_log(tmp_path / NAME), tmp_path / NAME)  # trackio may lose its last half second
    finish(command(world, tmp_path / "again", "--log", "trackio"), world, tmp_path)
    _, second = trackio_logs(tmp_path)
    check_epochs(second, tmp_path / "again" / NAME)
    check_steps(second, tmp_path / "again" / NAME)


def test_one_of_two_ranks_logs(world, tmp_path, logged):
    own = [*worlds.options(world, tmp_path), "--precision", "float32", "--logger", "tensorboard"]
    finish(worlds.torchrun(2, "train", NAME, *own), world, tmp_path)
    assert len([*(tmp_path / NAME / "tensorboard").iterdir()]) == 1
    log = tensorboard_log(tmp_path / NAME)
    check_epochs(log, tmp_path / NAME)
    whole = tensorboard_log(logged)
    assert log["step/grad_norm"][1] == pytest.approx(whole["step/grad_norm"][1], rel=1e-3)


def wandb_log(folder):
    """Name -> step -> value of the last run in `folder`, and its exit codes, from the file that is synced."""
    from wandb.proto.wandb_internal_pb2 import Record

    (path,) = sorted(folder.glob("wandb/offline-run-*/*.wandb"))[-1:]
    result: dict[str, dict[int, float]] = {}
    exits: list[int] = []
    for data in leveldb_records(path.read_bytes()):
        record = Record.FromString(data)
        items = {(item.key or "/".join(item.nested_key)): json.loads(item.value_json) for item in record.history.item}
        for name in {*items} - {"_step", "_runtime", "_timestamp"}:
            values = result.setdefault(name, {})
            assert items["_step"] not in values
            values[items["_step"]] = items[name]
        exits += [record.exit.exit_code] if record.HasField("exit") else []
    return result, exits


def leveldb_records(data):
    """The records of a log in LevelDB's format, in blocks of 32 KiB, after a header of 7 bytes."""
    position, parts = 7, []
    while position + 7 <= len(data):
        if (left := 32768 - position % 32768) < 7:  # too little for the head of a part
            position += left
            continue
        size, kind = struct.unpack_from("<HB", data, position + 4)  # after a checksum
        parts.append(data[position + 7 : position + 7 + size])
        position += 7 + size
        if kind in (1, 4):  # a whole record, or the last part of one
            yield b"".join(parts)
            parts = []


def test_weights_and_biases_writes_each_epoch_once_into_a_resumed_run(world, tmp_path, plain, console, monkeypatch):
    pytest.importorskip("wandb", reason="an extra of 60 MB that the tests do not install: the [wandb] one")
    line = command(world, tmp_path, "--log", "wandb")
    killed(line, world, tmp_path, tmp_path / NAME / checkpoint.STATE)
    finish([*line, "--resume"], world, tmp_path)
    log, exits = wandb_log(tmp_path)
    check_epochs(log, tmp_path / NAME)
    assert exits == [0]
    assert len({path.name for path in tmp_path.glob("wandb/offline-run-*/*.wandb")}) == 1  # one id
    assert sha256(tmp_path / NAME / weights.WEIGHTS) == sha256(plain / weights.WEIGHTS)


def test_an_unknown_logger_is_suggested(capsys):
    with pytest.raises(SystemExit, match="2"):
        main([NAME, "--log", "tensorbord"])
    assert "Did you mean 'tensorboard'? Available: tensorboard, trackio, wandb" in capsys.readouterr().err


def test_a_logger_without_its_package_is_refused_before_anything_is_read(world, tmp_path, capsys, monkeypatch):
    monkeypatch.delitem(sys.modules, "train.loggers.wandb", raising=False)
    if importlib.util.find_spec("wandb"):
        monkeypatch.setitem(sys.modules, "wandb", None)
    for more in ([], ["--launcher", "local"]):
        assert main([NAME, *worlds.options(world, tmp_path), "--log", "wandb", *more]) == 1
        assert "pip install 'dctkd-zoo[wandb]'" in capsys.readouterr().err
    assert not any((tmp_path / name).exists() for name in (NAME, "jobs"))


def test_every_logger_has_an_extra_of_its_name_and_is_found_by_its_file():
    extras = tomllib.loads((worlds.ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert {*discover.modules("train.loggers")} <= {*extras}
    assert issubclass(loggers.load("tensorboard"), loggers.Logger)


def test_jobs_of_a_launcher_are_given_the_loggers(world, tmp_path):
    given = ["--log", "tensorboard,trackio", "--log", "wandb"]
    options = parser().parse_args([NAME, *worlds.options(world, tmp_path), *given])
    line = launch.arguments(registry.get_entry(NAME), options)
    assert parser().parse_args(line).logger == options.logger == ["tensorboard", "trackio", "wandb"]
    assert "--logger" not in launch.arguments(registry.get_entry(NAME), parser().parse_args([NAME]))


def test_an_error_of_a_run_is_one_of_the_log(world, tmp_path, console, monkeypatch):
    closed, kind = [], loggers.load("tensorboard")
    close = kind.close

    def noted(logger, succeeded):
        closed.append(succeeded)
        close(logger, succeeded)

    monkeypatch.setattr(kind, "close", noted)
    stopped(world, tmp_path, console, monkeypatch, 3, "tensorboard")
    trained(world, tmp_path, console, "tensorboard")
    assert closed == [False, True]
