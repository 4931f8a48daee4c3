"""`python -m train` on a small folder of real files: the run folder, resuming, and what it refuses."""

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from scipy.stats import binomtest

from dctkd_zoo import errors, models, registry, teachers, weights
from dctkd_zoo._io import hashing
from dctkd_zoo.models import export
from dctkd_zoo.schedules import Cosine
from dctkd_zoo.spec import Entry, Recipe
from tests.world import CLASSES
from train import checkpoint, loop, run
from train.__main__ import main
from train.config import TrainConfig

pytestmark = pytest.mark.usefixtures("home")


@pytest.fixture(scope="module")
def out(world):
    """The runs of teacher and student, trained once by the command."""
    folder = world / "out"
    arguments = ["--data", str(world / "data"), "--out", str(folder), "--device", "cpu"]
    assert main(["r8_dctkd_kd_stripes", "r14_stripes", *arguments]) == 0
    return folder


def log_rows(folder):
    return list(csv.DictReader((folder / "train_log.csv").read_text().splitlines()))


def where(world, out, **changes):
    return replace(TrainConfig(world / "data", out, torch.device("cpu"), trained=out), **changes)


def test_a_run_leaves_a_folder_that_timm_loads(out):
    folder = out / "r8_dctkd_kd_stripes"
    names = {path.name for path in folder.iterdir()}
    files = {"config.json", "model.safetensors", "recipe.json", "train_log.csv", "environment.json"}
    assert names >= files | {"SHA256SUMS"}
    assert not names & {
        checkpoint.STATE,
        "best.safetensors",
    }  # nothing was chosen, and the state of a finished run is of no use
    assert weights.is_complete(folder)
    plain = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    student = models.create_model("r8_dctkd_kd_stripes", pretrained=str(folder))
    images = torch.randn(2, 3, 16, 16)
    assert torch.equal(plain(images), student(images))
    config = json.loads((folder / "config.json").read_text())
    assert config["label_names"] == ["across", "down", "slanted"]


def test_the_log_has_a_row_per_epoch_with_every_term(out):
    rows = log_rows(out / "r8_dctkd_kd_stripes")
    assert [row["epoch"] for row in rows] == ["1", "2", "3", "4"]
    assert {"lr", "ce", "dctkd", "kd", "test_top1", "images_per_s"} <= set(rows[0])
    assert float(rows[-1]["kd"]) < float(rows[0]["kd"])


def test_recipe_and_environment_say_how_to_repeat_it(out):
    recipe = json.loads((out / "r8_dctkd_kd_stripes" / "recipe.json").read_text())
    assert recipe["recipe"]["epochs"] == 4
    assert recipe["teacher"] == "r14_stripes"
    environment = json.loads((out / "r8_dctkd_kd_stripes" / "environment.json").read_text())
    assert environment["torch"].partition("+")[0] == torch.__version__.partition("+")[0]
    assert environment["teacher_sha256"] == hashing.sha256(out / "r14_stripes" / "model.safetensors")


def test_the_same_seed_gives_the_same_weights(world, tmp_path, out, console):
    folder = run.train(registry.get_entry("r14_stripes"), where(world, tmp_path), console)
    again, before = (load_file(path / "model.safetensors") for path in (folder, out / "r14_stripes"))
    assert all(torch.equal(again[name], before[name]) for name in before)


def test_another_seed_gives_other_weights_in_a_folder_of_its_own(world, tmp_path, out, console):
    entry = registry.get_entry("r8_stripes").with_seed(1)
    folder = run.train(entry, where(world, tmp_path), console)
    assert folder.name == "r8_stripes-seed1"


def test_a_finished_run_is_left_alone(world, out, console):
    before = (out / "r14_stripes" / "model.safetensors").stat().st_mtime_ns
    run.train(registry.get_entry("r14_stripes"), where(world, out), console)
    assert (out / "r14_stripes" / "model.safetensors").stat().st_mtime_ns == before


class Stop(Exception):
    """Raised in the middle of a run."""


def interrupted(monkeypatch, epochs):
    """Make the run stop in the epoch after `epochs`."""
    whole = loop.epoch

    def broken(learner, views, seed, number, *rest):
        if number == epochs:
            raise Stop
        return whole(learner, views, seed, number, *rest)

    monkeypatch.setattr(loop, "epoch", broken)


def test_resuming_gives_the_weights_of_an_uninterrupted_run(world, tmp_path, out, console, monkeypatch):
    entry = registry.get_entry("r14_stripes")
    with monkeypatch.context() as patch, pytest.raises(Stop):
        interrupted(patch, 2)
        run.train(entry, where(world, tmp_path), console)
    assert not weights.is_complete(tmp_path / entry.name)
    with pytest.raises(errors.ZooError, match="--resume"):
        run.train(entry, where(world, tmp_path), console)
    folder = run.train(entry, where(world, tmp_path, resume=True), console)
    whole, resumed = (load_file(path / "model.safetensors") for path in (out / "r14_stripes", folder))
    assert all(torch.equal(resumed[name], whole[name]) for name in whole)
    assert len(log_rows(folder)) == 4


def test_a_run_killed_before_its_results_goes_on_to_them(world, tmp_path, out, console, monkeypatch):
    entry = registry.get_entry("r14_stripes")
    with monkeypatch.context() as patch, pytest.raises(Stop):
        patch.setattr(run, "write_results", lambda *_: (_ for _ in ()).throw(Stop))
        run.train(entry, where(world, tmp_path), console)
    assert weights.is_complete(tmp_path / entry.name)
    folder = run.train(entry, where(world, tmp_path, resume=True), console)
    results = json.loads((folder / "results.json").read_text())
    assert results["n"] == 24
    assert results["weights_sha256"] == hashing.sha256(out / entry.name / "model.safetensors")


def test_a_checkpoint_of_another_recipe_is_refused(world, tmp_path, console, monkeypatch):
    entry = registry.get_entry("r8_stripes")
    with monkeypatch.context() as patch, pytest.raises(Stop):
        interrupted(patch, 1)
        run.train(entry, where(world, tmp_path), console)
    other = replace(entry, recipe=replace(entry.recipe, lr=0.01))
    with pytest.raises(errors.ZooError, match="used another recipe"):
        run.train(other, where(world, tmp_path, resume=True), console)


def test_a_damaged_checkpoint_is_named(world, tmp_path, console):
    folder = tmp_path / "r8_stripes"
    folder.mkdir()
    (folder / checkpoint.STATE).write_bytes(b"\x10\0\0\0\0\0\0\0 not a header at all")
    with pytest.raises(errors.CorruptWeights, match="delete it to start over"):
        run.train(registry.get_entry("r8_stripes"), where(world, tmp_path, resume=True), console)


def test_a_killed_run_resumes_to_the_end(world, tmp_path):
    """The real thing: SIGKILL while the process trains, then the same command with --resume."""
    command = [sys.executable, "-m", "train", "r8_stripes", "--data", str(world / "data"), "--out", str(tmp_path)]
    command += ["--catalog", str(world / "catalog.py"), "--device", "cpu"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    state = tmp_path / "r8_stripes" / checkpoint.STATE
    deadline = time.monotonic() + 120
    while not state.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert weights.is_complete(tmp_path / "r8_stripes") or state.exists()
    done = subprocess.run([*command, "--resume"], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert weights.is_complete(tmp_path / "r8_stripes")
    assert len(log_rows(tmp_path / "r8_stripes")) == 4


def test_a_network_of_another_recipe_does_not_pass_for_the_entry(world, tmp_path, out, console):
    entry = registry.get_entry("r14_stripes")
    other = replace(entry, recipe=replace(entry.recipe, lr=0.01))
    with pytest.raises(errors.ZooError, match="was trained with another recipe"):
        run.train(other, where(world, out), console)


def test_one_entry_that_fails_does_not_stop_the_others(world, tmp_path, capsys):
    arguments = ["--data", str(world / "data"), "--out", str(tmp_path), "--device", "cpu"]
    assert main(["mbv2_ade20k", "r8_stripes", *arguments]) == 1
    assert "mbv2_ade20k" in capsys.readouterr().err
    assert weights.is_complete(tmp_path / "r8_stripes")


def test_the_bundled_networks_are_of_the_recipes_in_the_catalog():
    bundled = [folder for folder in sorted(weights.BUNDLED.iterdir()) if folder.is_dir()]
    assert len(bundled) >= 6
    for folder in bundled:
        views = json.loads((folder / "environment.json").read_text()).get("teacher_cache")
        where = TrainConfig(None, Path(), torch.device("cpu"), teacher_cache=views)
        run.refuse_other_recipe(registry.get_entry(folder.name), folder, where)


def test_a_term_that_is_not_finite_stops_the_run_and_keeps_the_checkpoint(world, tmp_path, console, monkeypatch):
    real, steps = loop.forward, []

    def poisoned(learner, batch, *rest):
        steps.append(batch)
        losses = real(learner, batch, *rest)
        return {name: value * (float("nan") if len(steps) == 5 else 1) for name, value in losses.items()}

    monkeypatch.setattr(loop, "forward", poisoned)
    entry = registry.get_entry("r8_stripes")
    with pytest.raises(errors.NonFiniteLoss, match="'ce' is nan at step 2 of epoch 2"):
        run.train(entry, where(world, tmp_path), console)
    assert len(log_rows(tmp_path / entry.name)) == 1
    assert (tmp_path / entry.name / checkpoint.STATE).exists()


def test_a_teacher_at_chance_is_refused(world, tmp_path, console):
    registry_teacher = registry.get_entry("r14_stripes")
    folder = tmp_path / "r14_stripes"
    folder.mkdir()
    torch.manual_seed(0)
    untrained = models.create("r14", 3)
    torch.nn.init.zeros_(untrained.get_parameter("fc.weight"))
    dataset = registry.get_dataset("stripes")
    export.write(untrained, registry_teacher, dataset, ("across", "down", "slanted"), folder)
    with pytest.raises(errors.TeacherMismatch, match=r"33\.33 % top-1, no better than chance"):
        run.train(registry.get_entry("r8_dctkd_kd_stripes"), where(world, tmp_path), console)


def test_a_missing_teacher_is_asked_for(world, tmp_path, capsys):
    arguments = ["--data", str(world / "data"), "--out", str(tmp_path), "--device", "cpu"]
    assert main(["r8_dctkd_kd_stripes", *arguments]) == 1
    assert "python -m train r14_stripes" in capsys.readouterr().err


def test_images_that_do_not_decode_stop_training_before_the_first_epoch(world, tmp_path, console, monkeypatch):
    monkeypatch.setenv("DCTKD_ZOO_HOME", str(tmp_path / "home"))
    broken = world / "data" / "stripes" / "train" / "across" / "03.png"
    content = broken.read_bytes()
    broken.write_bytes(content[:60])
    try:
        with pytest.raises(errors.DatasetError, match=r"train/across/03\.png"):
            run.train(registry.get_entry("r8_stripes"), where(world, tmp_path), console)
    finally:
        broken.write_bytes(content)
    assert not (tmp_path / "r8_stripes").exists()


def test_a_failed_write_leaves_the_previous_checkpoint_whole(tmp_path, monkeypatch):
    entry = Entry("r8_stripes", Recipe(4, 16, 0.1, Cosine(), resize=16, crop=16), {"ce": 1.0})
    student = models.create(entry.arch, 3)
    optimizer = torch.optim.SGD(student.parameters(), lr=0.1, momentum=0.9)
    path = tmp_path / checkpoint.STATE
    checkpoint.save(tmp_path, checkpoint.Progress({"a": 1}, epoch=1), student, torch.nn.Module(), optimizer)
    before = path.read_bytes()

    def full(tensors, file, metadata=None):
        Path(file).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(OSError, match="No space"):
        checkpoint.save(tmp_path, checkpoint.Progress({"a": 1}, epoch=2), student, torch.nn.Module(), optimizer)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_unknown_names_and_missing_data_end_with_a_message(world, tmp_path, capsys):
    assert main(["r14_stripe"]) == 2
    assert "did you mean r14_stripes" in capsys.readouterr().err
    assert main(["r14_stripes", "--data", str(tmp_path), "--out", str(tmp_path), "--device", "cpu"]) == 1
    assert str(tmp_path / "stripes") in capsys.readouterr().err


def test_a_run_on_bfloat16_trains_too(world, tmp_path, console):
    folder = run.train(registry.get_entry("r8_stripes"), where(world, tmp_path, precision="bfloat16"), console)
    saved = load_file(folder / "model.safetensors")
    assert all(t.dtype == torch.float32 for name, t in saved.items() if name.endswith("weight"))


def test_the_meter_averages_what_it_is_given():
    meter = loop.Meter(epoch=7)
    for value in (1.0, 2.0, 6.0):
        meter.add({"ce": torch.tensor(value), "kd": torch.tensor(2 * value)})
    assert meter.flush() == {"ce": 3.0, "kd": 6.0}
    meter.add({"ce": torch.tensor(float("inf")), "kd": torch.tensor(0.0)})
    with pytest.raises(errors.NonFiniteLoss, match="'ce' is inf at step 4 of epoch 7"):
        meter.flush()


def test_the_flags_say_where_and_never_what():
    from train.__main__ import parser

    flags = {option for action in parser()._actions for option in action.option_strings}
    assert flags == {
        "-h",
        "--help",
        "--version",
        "--all",
        "--log",
        "--epochs",  # these four for a first try, recorded as another recipe
        "--lr",
        "--batch-size",
        "--limit",
        "--data",
        "--device",
        "--out",
        "--seed",
        "--resume",
        "--catalog",
        "--teacher-cache",
        "--precision",
        "--logger",
        "--launcher",
        "--jobs",
        "--slurm",
        "--dry-run",
    }


def test_a_store_is_shared_by_all_entries_of_a_geometry(world, out):
    assert len(list((world / "home" / "stores").iterdir())) == 2  # train and test, for all runs above


def test_a_damaged_recipe_is_named(world, tmp_path, out, console):
    folder = tmp_path / "r14_stripes"
    shutil.copytree(out / "r14_stripes", folder)
    (folder / "recipe.json").write_text('{"command": ')
    with pytest.raises(errors.CorruptFile, match=r"recipe\.json"):
        run.train(registry.get_entry("r14_stripes"), where(world, tmp_path), console)


FAILING = """
from dctkd_zoo.spec import Arch, Cosine, Entry, Recipe
ARCHS = {
    "coat": Arch("coat_tiny"), "vim": Arch("efficientvim_m1"), "hr": Arch("hrnet_w18_small"),
    "mnv4s": Arch("mobilenetv4_conv_small_035"),
}
SMALL = dict(epochs=1, batch_size=47, lr=0.01, schedule=Cosine())  # of 48 images the last batch is one
ENTRIES = (
    Entry("coat_stripes", Recipe(resize=72, crop=64, **SMALL), {"ce": 1}),
    Entry("vim_stripes", Recipe(resize=72, crop=64, **SMALL), {"ce": 1}),
    Entry("hr_stripes", Recipe(resize=110, crop=100, **SMALL), {"ce": 1}),
    Entry("mnv4s_stripes", Recipe(resize=72, crop=64, **SMALL), {"ce": 1}),
    Entry("r8_stripes.small", Recipe(resize=36, crop=32, **SMALL), {"ce": 1}),
)
"""


@pytest.mark.slow
def test_networks_that_cannot_be_used_are_one_error_each_and_the_others_are_trained(world, tmp_path, capsys):
    names = ["coat_stripes", "vim_stripes", "hr_stripes", "mnv4s_stripes", "r8_stripes.small"]
    (tmp_path / "failing.py").write_text(FAILING)
    arguments = ["--catalog", str(tmp_path / "failing.py"), "--data", str(world / "data"), "--device", "cpu"]
    assert main([*names, *arguments, "--out", str(tmp_path)]) == 1
    meta = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    for line, start in zip(
        meta,
        (
            "error: coat_stripes: coat_tiny has several last feature maps",
            "error: vim_stripes: efficientvim_m1 has several last feature maps",
            "error: hr_stripes: hrnet_w18_small fails on images of 100 x 100 px: RuntimeError: The size of tensor",
        ),
        strict=True,
    ):
        assert line.startswith(start)
    for name in ("mnv4s_stripes", "r8_stripes.small"):
        assert weights.is_complete(tmp_path / name)
        assert all(tensor.isfinite().all() for tensor in load_file(tmp_path / name / weights.WEIGHTS).values())


def test_an_error_of_a_loss_term_keeps_its_traceback_and_stops_no_other_run(world, tmp_path, capsys, monkeypatch):
    def broken(self, student, teacher, batch):
        raise IndexError("a mistake in a term\nsecond line")

    monkeypatch.setattr("dctkd_zoo.losses.dctkd.DCTKD.forward", broken)
    arguments = ["--data", str(world / "data"), "--out", str(tmp_path), "--device", "cpu"]
    assert main(["r14_stripes", "r8_dctkd_kd_stripes", "r8_stripes", *arguments]) == 1
    path = tmp_path / "r8_dctkd_kd_stripes" / "error.txt"
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert lines == [f"error: r8_dctkd_kd_stripes: IndexError: a mistake in a term (traceback: {path})"]
    assert 'raise IndexError("a mistake' in path.read_text()
    assert weights.is_complete(tmp_path / "r8_stripes")
    monkeypatch.undo()
    assert main(["r8_dctkd_kd_stripes", *arguments]) == 0
    assert not path.exists()


@pytest.mark.parametrize("who", ["teacher", "start"])
def test_a_run_does_not_go_on_by_another_config(world, tmp_path, out, console, monkeypatch, who):
    """Of its teacher, or of the network it starts from: the weights are the same, what they compute is not."""
    folder = tmp_path / "r14_stripes"
    shutil.copytree(out / "r14_stripes", folder)
    if who == "teacher":
        entry = registry.get_entry("r8_dctkd_kd_stripes")
    else:
        first = registry.get_entry("r14_stripes")
        entry = replace(
            first, name="r14_stripes.further", recipe=replace(first.recipe, pretrained=f"local-dir:{folder}")
        )
    with monkeypatch.context() as patch, pytest.raises(Stop):
        interrupted(patch, 1)
        run.train(entry, where(world, tmp_path), console)
    config = json.loads((folder / "config.json").read_text())
    config["pretrained_cfg"]["mean"] = [0.5, 0.5, 0.51]
    (folder / "config.json").write_text(json.dumps(config))
    weights.write_hashes(folder)
    with pytest.raises(errors.ZooError, match=f"used another {who}_config_sha256; delete it to start over"):
        run.train(entry, where(world, tmp_path, resume=True), console)


def spoilt(folder: Path, value: float = float("nan")) -> None:
    """One running variance of the network in a folder is none, as an overflow in mixed precision leaves it."""
    tensors = load_file(folder / "model.safetensors")
    name = next(name for name in tensors if name.endswith("running_var"))
    tensors[name][0] = value
    save_file(tensors, folder / "model.safetensors")
    weights.write_hashes(folder)


def test_a_teacher_whose_answers_are_no_numbers_is_refused(world, tmp_path, out, console):
    shutil.copytree(out / "r14_stripes", tmp_path / "r14_stripes")
    spoilt(tmp_path / "r14_stripes")
    message = "teacher r14_stripes: outputs are not finite for 24 of 24 images"
    with pytest.raises(errors.NonFiniteAnswers, match=message):
        run.train(registry.get_entry("r8_dctkd_kd_stripes"), where(world, tmp_path), console)
    assert not (tmp_path / "r8_dctkd_kd_stripes" / "recipe.json").exists()


def test_a_student_whose_answers_are_no_numbers_in_a_test_stops_the_run(world, tmp_path, console, monkeypatch):
    """Its losses are finite all along: they are computed with the statistics of each batch."""
    whole = loop.epoch

    def overflows(learner, views, seed, number, *rest):
        row = whole(learner, views, seed, number, *rest)
        if number == 1:
            learner.student.model.bn1.running_var[0] = float("nan")
        return row

    monkeypatch.setattr(loop, "epoch", overflows)
    folder = tmp_path / "r8_stripes"
    with pytest.raises(errors.NonFiniteAnswers, match=r"^outputs are not finite for 24 of 24 images"):
        run.train(registry.get_entry("r8_stripes"), where(world, tmp_path), console)
    assert len(log_rows(folder)) == 1 and not weights.is_complete(folder) and not (folder / "results.json").exists()
    assert checkpoint.load(folder).progress.epoch == 1


@pytest.mark.parametrize(
    ("counts", "top1", "taken"),
    [
        ((1, 1), 100.0, True),
        ((3, 3), 100.0, True),
        ((72, 8), 100.0, True),
        ((9,), 100.0, True),
        ((900, 100), 92.5, True),
        ((900, 100), 90.0, False),
        ((900, 100), 91.0, False),
        ((3, 3), 50.0, False),
        ((12, 12, 12), 100 / 3, False),
        ((10, 10), 90.0, True),
        ((72, 8), 0.0, False),
    ],
)
def test_a_teacher_is_refused_where_guessing_the_commonest_class_does_as_well(counts, top1, taken):
    labels = torch.cat([torch.full((count,), label) for label, count in enumerate(counts)])
    right, n = round(top1 * len(labels) / 100), len(labels)
    p = binomtest(right, n, max(counts) / n, alternative="greater").pvalue
    assert taken == (right == n or p <= teachers.SURE)
    if taken:
        teachers.check_knowledge(top1, labels, "T")
        return
    with pytest.raises(errors.TeacherMismatch, match="no better than chance") as refused:
        teachers.check_knowledge(top1, labels, "T")
    limit = re.search(r"up to ([\d.]+) % here", str(refused.value))
    assert limit is not None and top1 <= float(limit[1]) < 100


def test_a_refused_teacher_s_message_says_what_it_saw(out):
    folder = f"local-dir:{out / 'r14_stripes'}"
    network = teachers.load(folder, registry.get_dataset("stripes"), CLASSES, torch.device("cpu"), None).network
    assert teachers.seen(network, 16) == ""
    saw = teachers.seen(network, 12)
    with pytest.raises(
        errors.TeacherMismatch, match=r"50\.00 % top-1 \(sees the student's 12 px resized to its own 16x16"
    ):
        teachers.check_knowledge(50.0, torch.tensor([0, 0, 1, 1]), "T", saw)
