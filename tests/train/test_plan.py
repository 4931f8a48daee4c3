"""What trains after what, what it takes, and how a command line asks for it."""

import json
import re
import sys
from argparse import ArgumentTypeError
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from dctkd_zoo import registry, weights
from dctkd_zoo.cli.arguments import seeds
from dctkd_zoo.errors import WeightsNotFound, ZooError
from dctkd_zoo.spec import Entry
from train import launch
from train.__main__ import main, pair, parser
from train.launch import estimate, plan
from train.launch.board import Row, Status, line, table
from train.launch.estimate import Measured, Work
from train.launch.plan import Job

NAMES = sorted(registry.entries())


def never(entry: Entry) -> bool:
    return False


def always(entry: Entry) -> bool:
    return True


@given(st.lists(st.sampled_from(NAMES), unique=True, max_size=30), st.lists(st.integers(0, 9), unique=True, max_size=3))
def test_teachers_come_first_whatever_is_asked_for(names, seeds):
    planned = plan.jobs(plan.seeded(names, seeds), always)
    assert len(planned) == len({job.name for job in planned}) == len(names) * (len(seeds) or 1)
    done: set[str] = set()
    for job in planned:
        assert job.needs is None or job.needs in done
        done.add(job.name)
    for number, generation in enumerate(plan.generations(planned)):
        before = {job.name for g in plan.generations(planned)[:number] for job in g}
        assert all((job.needs is None) == (number == 0) and {job.needs} <= {None, *before} for job in generation)


@given(st.lists(st.sampled_from(NAMES), unique=True, max_size=30))
def test_teachers_must_be_there_or_asked_for(names):
    asked = {registry.get_entry(name).depends_on for name in names}
    missing = {needed for needed in asked if needed and needed not in names}
    if missing:
        with pytest.raises(WeightsNotFound, match=re.escape("`python -m train ")):
            plan.jobs(plan.seeded(names, None), never)
    else:
        assert len(plan.jobs(plan.seeded(names, None), never)) == len(names)


def test_the_refusal_names_teacher_students_and_the_way_on():
    entries = plan.seeded(["r18_dctkd_mit67", "r18_kd_mit67"], [1])
    with pytest.raises(
        WeightsNotFound, match=r"r50_mit67, needed by r18_dctkd_mit67-seed1, r18_kd_mit67-seed1: `python -m"
    ):
        plan.jobs(entries, never)


def test_a_student_of_any_seed_learns_from_the_teacher_of_the_catalog():
    planned = plan.jobs(plan.seeded(["r50_mit67", "r18_kd_mit67"], [0, 1]), never)
    assert {job.name: job.needs for job in planned} == {
        "r50_mit67": None,
        "r50_mit67-seed1": None,
        "r18_kd_mit67": "r50_mit67",
        "r18_kd_mit67-seed1": "r50_mit67",
    }


OWN = """
from dataclasses import replace
from dctkd_zoo import registry
from dctkd_zoo.spec import Entry
STUDENT = registry.get_entry("r18_mit67").recipe
AFTER = replace(STUDENT, pretrained="entry:r50_mit67")
ENTRIES = (
    Entry("r50_mit67.after", AFTER, {"ce": 1.0}),
    Entry("r18_kd_mit67.after", STUDENT, {"ce": 1.0, "kd": 1.0}, teacher="r50_mit67.after"),
)
"""


@pytest.mark.usefixtures("fresh_registry")
def test_a_network_waits_for_the_one_that_it_starts_from(tmp_path):
    (tmp_path / "own.py").write_text(OWN)
    registry.include(tmp_path / "own.py")
    names = ["r18_kd_mit67.after", "r50_mit67.after", "r50_mit67"]
    planned = plan.jobs(plan.seeded(names, [1]), always)
    assert [(job.name, job.needs) for job in planned if job.entry.arch == "r50"] == [
        ("r50_mit67-seed1", None),
        ("r50_mit67.after-seed1", None),  # it starts from the network of the catalog, whatever its own seed
    ]
    planned = plan.jobs(plan.seeded(names, None), never)
    assert [(job.name, job.needs) for job in planned] == [
        ("r50_mit67", None),
        ("r50_mit67.after", "r50_mit67"),
        ("r18_kd_mit67.after", "r50_mit67.after"),
    ]
    with pytest.raises(WeightsNotFound, match=r"r50_mit67, needed by r50_mit67\.after: `python -m train r50_mit67`"):
        plan.jobs(plan.seeded(["r50_mit67.after"], None), never)


def test_a_teacher_outside_the_catalog_is_waited_for_by_nobody():
    entry = replace(registry.get_entry("r18_kd_mit67"), teacher="hf-hub:timm/resnet50.a1_in1k@v1")
    assert plan.jobs([entry], never) == (Job(entry, None),)


def test_seeds_and_pairs_are_read_from_words():
    assert [seeds(text) for text in ("3", "0,2", "0-4", "1-2,2,7")] == [[3], [0, 2], [0, 1, 2, 3, 4], [1, 2, 7]]
    assert [pair("time=240"), pair("constraint=a=b")] == [("time", 240), ("constraint", "a=b")]
    for wrong in ("", "-1", "1-", "2-1", "a", "1,,2"):
        with pytest.raises(ArgumentTypeError):
            seeds(wrong)
    for wrong in ("time", "=1", "time="):
        with pytest.raises(ArgumentTypeError):
            pair(wrong)


EXACT = Measured(Work("r18", "r50", ("at",), 224, False), 100.0, "here")
OTHERS = Measured(Work("r18", "r50", ("dctkd",), 112, False), 300.0, "there")
CACHED = Measured(Work("r18", "r50", ("at",), 224, True), 500.0, "here")


@pytest.mark.parametrize(
    ("terms", "crop", "cached", "expected"),
    [
        (("at",), 224, False, (100.0, "here")),
        (("kd",), 224, False, (100.0, "here, terms at")),
        (("at",), 112, False, (300.0, "there, terms dctkd")),
        (("at",), 448, False, (25.0, "here, scaled from 224 px")),
        (("at",), 224, True, (500.0, "here")),
    ],
)
def test_speed_is_that_of_the_nearest_work_and_says_so(terms, crop, cached, expected):
    assert estimate.speed(Work("r18", "r50", terms, crop, cached), [OTHERS, EXACT, CACHED]) == expected


def test_this_machine_s_figures_come_before_others():
    elsewhere = replace(EXACT, images_per_s=9_000.0, rank=1)
    assert estimate.speed(Work("r18", "r50", ("at",), 224, False), [elsewhere, OTHERS])[0] == 300 / 4


def test_what_was_never_measured_has_no_figure():
    assert estimate.speed(Work("r34", "r50", ("at",), 224, False), [EXACT]) == (None, estimate.UNKNOWN)
    assert estimate.speed(Work("r18", None, (), 224, False), [EXACT]) == (None, estimate.UNKNOWN)


def finished_run(folder: Path, entry: Entry, rates: list[float], device: str = "a GPU") -> None:
    folder.mkdir(parents=True)
    rows = "".join(f"{n},50,{rate}\n" for n, rate in enumerate(rates, start=1))
    (folder / "train_log.csv").write_text("epoch,test_top1,images_per_s\n" + rows)
    (folder / "recipe.json").write_text(json.dumps({"command": entry.train_command, **entry.to_dict()}))
    (folder / "environment.json").write_text(json.dumps({"device": device}))
    for name in (weights.WEIGHTS, weights.CONFIG, weights.HASHES):
        (folder / name).touch()


def test_hours_are_those_of_the_measured_run(tmp_path):
    """20,210 images in epochs of 100 and of 400 images a second: 160 a second in the mean."""
    entry = registry.get_entry("r18_dctkd_ade20k")
    finished_run(tmp_path / entry.name, entry, [100, 400])
    job = Job(entry.with_seed(1))
    (meta,) = estimate.estimates([job], estimate.measurements(tmp_path), None, tmp_path)
    assert (meta.epochs, meta.images, meta.basis) == (70, 20_210, "measured here, a GPU")
    assert meta.hours == pytest.approx(70 * 20_210 / 160 / 3600)
    parameters = 11_176_512 + 512 * 1055 + 1055
    statistics = 2 * 4_800 + 20  # running means and variances, and 20 counters of 8 bytes
    assert meta.disk == pytest.approx(2 * (4 * (parameters + statistics) + 20 * 4))
    log = tmp_path / job.name / "train_log.csv"
    log.parent.mkdir()
    log.write_text("epoch\n" + "1\n" * 40)
    (meta,) = estimate.estimates([job], estimate.measurements(tmp_path), None, tmp_path)
    assert meta.epochs == 30 and meta.hours == pytest.approx(30 * 20_210 / 160 / 3600)


def test_benchmarks_count_where_nothing_was_trained_here(tmp_path):
    meta = {"setting": {"crop": 224}, "machine": {"device": "a GPU"}}
    rows = [
        {"name": "train", "ours": [10, 30, 20]},
        {"name": "gpu", "skipped": "no GPU"},
        {"name": "eval", "ours": [9]},
    ]
    path = tmp_path / "results.json"
    path.write_text(json.dumps({**meta, "rows": rows}))
    expected = Measured(Work("r18", "r50", ("dctkd",), 224, False), 20, "from benchmarks/results.json, a GPU", 2)
    assert [*estimate.benchmarks(path)] == [expected]
    assert [*estimate.benchmarks(tmp_path / "none.json")] == []


def test_the_plan_is_printed_and_nothing_started(tmp_path, capsys):
    trained = registry.get_entry("r8_synthscenes")
    finished_run(tmp_path / trained.name, trained, [200])
    words = ["r56_synthscenes", "r20_kd_synthscenes", "r8_synthscenes", "--out", str(tmp_path), "--seed", "0-1"]
    assert main([*words, "--dry-run"]) == 0
    text = capsys.readouterr().out
    assert "5 jobs to do, 1 done: 432,000 images" in text
    assert re.search(r"r8_synthscenes +– +trained", text)
    assert re.search(r"r8_synthscenes-seed1 .* 0\.0667 ", text)  # 8 x 6,000 / 200 / 3600
    assert "measured here, a GPU" in text and "the bundled run, cpu" in text
    assert text.index("r56_synthscenes-seed1 ") < text.index("r20_kd_synthscenes ")
    assert [path.name for path in tmp_path.iterdir()] == ["r8_synthscenes"]


def options(*words: str):
    return parser().parse_args([*words])


def test_a_job_has_all_that_says_where_but_not_the_launcher_s_own():
    told = ["--data", "d", "--out", "o", "--device", "cpu", "--precision", "float32", "--teacher-cache", "4"]
    told += ["--epochs", "2", "--lr", "0.1", "--batch-size", "8", "--limit", "3", "--log", "tensorboard"]
    meta = options("x", *told, "--catalog", "c.py")
    entry = registry.get_entry("r18_kd_mit67").with_seed(3)
    words = " ".join(launch.arguments(entry, meta))
    assert words.startswith("r18_kd_mit67 --resume --seed 3 --data /")
    assert f"--out {Path.cwd() / 'o'} " in words and f" --catalog {Path.cwd() / 'c.py'}" in words
    assert "--teacher-cache 4 " in words and "--precision float32 " in words and "--device cpu " in words
    again = options(*launch.arguments(entry, meta))
    own = {"names", "resume", "seed", "launcher", "jobs", "slurm", "dry_run", "all"}
    assert set(vars(meta)) == own | set(launch.FORWARDED)
    assert [getattr(again, name) is None for name in launch.FORWARDED] == [False] * len(launch.FORWARDED)


@pytest.fixture
def sbatch(tmp_path, monkeypatch):
    script = tmp_path / "bin" / "sbatch"
    script.parent.mkdir()
    script.touch(0o755)
    monkeypatch.setenv("PATH", str(script.parent))


def test_several_gpus_are_torchrun_s_business(sbatch):
    _, begin, _ = launch.choose_cluster(options("x", "--launcher", "slurm", "--slurm", "gpus_per_node=4"))
    assert begin[1:] == [
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node=4",
        "-m",
        "dctkd_zoo",
        "train",
    ]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--jobs", "2"], "--jobs needs --launcher"),
        (["--slurm", "time=5"], "--slurm needs --launcher slurm"),
        (["--launcher", "local", "--slurm", "time=5"], "--slurm needs --launcher slurm"),
        (["--launcher", "slurm", "--slurm", "nodes=2"], "nodes=2: a run uses one node"),
        (["--launcher", "slurm", "--slurm", "time=4:00:00"], "time=4:00:00: give minutes"),
    ],
)
def test_options_that_do_not_go_together(words, message, sbatch):
    with pytest.raises(ZooError, match=message):
        launch.choose_cluster(options("x", *words))


def test_where_there_is_no_slurm_it_says_so(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ZooError, match="sbatch not found"):
        launch.choose_cluster(options("x", "--launcher", "slurm"))


def test_a_network_of_another_recipe_is_not_taken_for_the_entry_s(tmp_path):
    entry = registry.get_entry("r8_synthscenes")
    other = replace(entry, recipe=replace(entry.recipe, lr=0.01))
    finished_run(tmp_path / entry.name, other, [200])
    result = launch.other_recipes([Job(entry)], tmp_path, options("x"))
    assert result[entry.name].state == "failed" and "trained with another recipe" in result[entry.name].why


def test_submitit_is_asked_for_by_the_name_of_its_extra(monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(sys.modules, "submitit", None)
    assert main(["r56_synthscenes", "--out", str(tmp_path), "--launcher", "local"]) == 1
    assert "pip install 'dctkd-zoo[cluster]'" in capsys.readouterr().err


ROWS = [
    Row("a", Status("done"), 8, 8, 81.5),
    Row("b", Status("running", "job 7"), 3, 8, 40.0),
    Row("c", Status("failed", "the disk [is] full"), 1, 8, None),
    Row("d", Status("waiting", "for b"), 0, 8, None),
]


def test_a_row_is_one_line_elsewhere():
    assert [line(row) for row in ROWS] == [
        "a: done (8/8 epochs, 81.50 % top-1)",
        "b: running: job 7 (3/8 epochs, 40.00 % top-1)",
        "c: failed: the disk [is] full (1/8 epochs)",
        "d: waiting: for b",
    ]


def test_the_table_shows_what_there_is_room_for():
    console = Console(width=80)
    with console.capture() as kept:
        console.print(table(ROWS, "title", 2))
    text = " ".join(kept.get().split())
    assert "the disk [is] full" in text and "job 7" in text and "for b" not in text
    assert "1 running, 1 failed, 1 waiting, 1 done (not shown: 1 done, 1 waiting)" in text
