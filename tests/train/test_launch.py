"""`python -m train --launcher`: real jobs of submitit, most of them of a stand-in that trains nothing."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from submitit.slurm.slurm import SlurmInfoWatcher, SlurmJob

from dctkd_zoo._io import lock
from dctkd_zoo.errors import ZooError
from dctkd_zoo.schedules import Cosine
from dctkd_zoo.spec import Entry, Recipe
from train.launch import cluster as clusters
from train.launch.cluster import Cluster, Local, Slurm
from train.launch.plan import Job
from train.launch.scheduler import ENDS, Launcher

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
RECIPE = Recipe(epochs=4, batch_size=16, lr=0.05, schedule=Cosine(0.2), resize=20, crop=16)
TEACHER = Job(Entry("r14_stripes", RECIPE, {"ce": 1}))
STUDENT = Job(Entry("r8_kd_stripes", RECIPE, {"ce": 1, "kd": 1}, "r14_stripes"), "r14_stripes")
OTHER = Job(Entry("r8_stripes", RECIPE, {"ce": 1}))
LONG = replace(TEACHER, entry=replace(TEACHER.entry, recipe=replace(RECIPE, epochs=60)))


def launcher(out: Path, *jobs: Job, cluster: Cluster | None = None, limit: int = 2) -> Launcher:
    def line(job: Job) -> list[str]:
        return [sys.executable, str(HERE / "stand_in.py"), str(out), job.name, str(job.entry.recipe.epochs)]

    out.mkdir(exist_ok=True)
    return Launcher(jobs, out, cluster or Local(), line, limit)


def states(watched: Launcher) -> dict[str, str]:
    return {row.name: f"{row.status.state}: {row.status.why}" for row in watched.step()}


def wait(watched: Launcher, until: Callable[[], object] | None = None) -> list[dict[str, str]]:
    """Look until that holds, or all have ended; what was seen, each once."""
    seen = [states(watched)]
    deadline = time.monotonic() + 60
    while not (until or (lambda: all(status.state in ENDS for status in watched.statuses.values())))():
        assert time.monotonic() < deadline, seen
        time.sleep(0.02)
        seen += [now] if (now := states(watched)) != seen[-1] else []
    return seen


def starts(out: Path) -> list[str]:
    return (out / "starts.txt").read_text().splitlines()


def logged(out: Path, name: str, epochs: int) -> Callable[[], bool]:
    log = out / name / "train_log.csv"
    return lambda: log.exists() and len(log.read_text().splitlines()) > epochs


def processes(out: Path) -> dict[int, list[str]]:
    """Those that speak of a folder of runs."""
    result = {}
    for folder in Path("/proc").iterdir():
        with suppress(OSError):
            words = (folder / "cmdline").read_text().split("\0")
            if folder.name.isdigit() and any(word.startswith(str(out)) for word in words):
                result[int(folder.name)] = words
    return result


def process_of(out: Path, name: str) -> int:
    """The stand-in that trains a run."""
    (result,) = (pid for pid, words in processes(out).items() if name in words and words[1].endswith("stand_in.py"))
    return result


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


@pytest.fixture(autouse=True)
def path(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


@pytest.fixture
def out(tmp_path: Path) -> Iterator[Path]:
    """A folder of runs; what still runs there at the end is killed."""
    yield tmp_path / "out"
    for pid in processes(tmp_path):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def test_a_student_starts_when_its_teacher_is_done(out):
    seen = wait(launcher(out, TEACHER, OTHER, STUDENT))
    assert seen[0]["r8_kd_stripes"] == "waiting: for r14_stripes"
    assert set(seen[-1].values()) == {"done: "}
    assert starts(out)[-1] == "r8_kd_stripes 0" and len(starts(out)) == 3


def test_no_more_run_at_once_than_allowed(out):
    for seen in wait(launcher(out, TEACHER, OTHER, limit=1)):
        assert sum(state.startswith("running") for state in seen.values()) <= 1


def test_a_failed_teacher_leaves_its_students_alone(out):
    out.mkdir()
    (out / "r14_stripes.fails").touch()
    *_, last = wait(launcher(out, TEACHER, OTHER, STUDENT))
    assert last == {
        "r14_stripes": "failed: the disk is full",
        "r8_stripes": "done: ",
        "r8_kd_stripes": "not started: r14_stripes failed",
    }
    (out / "r14_stripes.fails").unlink()
    *_, last = wait(launcher(out, TEACHER, OTHER, STUDENT))  # started again, it tries again
    assert last["r8_kd_stripes"] == "done: " and last["r8_stripes"] == "done: before"
    assert starts(out).count("r8_stripes 0") == 1 and "r14_stripes 1" in starts(out)


def test_a_killed_run_goes_on_and_one_that_gets_nowhere_does_not(out, monkeypatch):
    watched = launcher(out, TEACHER)
    wait(watched, logged(out, "r14_stripes", 2))
    os.kill(process_of(out, "r14_stripes"), signal.SIGKILL)
    *_, last = wait(watched)
    assert last["r14_stripes"] == "done: " and len(starts(out)) == 2
    early = launcher(out, replace(LONG, entry=replace(LONG.entry, name="r20_stripes")))
    wait(early, lambda: "r20_stripes 0" in starts(out))
    os.kill(process_of(out, "r20_stripes"), signal.SIGKILL)
    *_, last = wait(early)
    assert last["r20_stripes"] == "failed: killed by SIGKILL without finishing an epoch"


def test_a_preempted_job_is_requeued_by_submitit(out):
    watched = launcher(out, TEACHER)
    wait(watched, logged(out, "r14_stripes", 2))
    job = watched.handles["r14_stripes"].number
    os.kill(parent(process_of(out, "r14_stripes")), signal.SIGUSR2)
    seen = wait(watched)
    assert {now["r14_stripes"] for now in seen} == {f"running: job {job}", "done: "}
    assert [int(line.split()[1]) >= 2 for line in starts(out)] == [False, True]


def test_a_killed_launcher_leaves_its_jobs_to_the_next(out, tmp_path):
    code = f"""
import sys; sys.path.insert(0, {str(ROOT)!r})
from tests.train.test_launch import *
import pathlib
job = replace(LONG, entry=replace(LONG.entry, recipe=replace(RECIPE, epochs=20)))
wait(launcher(pathlib.Path({str(out)!r}), job, STUDENT))
"""
    with subprocess.Popen([sys.executable, "-c", code]) as first:
        deadline = time.monotonic() + 60
        while not logged(out, "r14_stripes", 2)() and time.monotonic() < deadline:
            time.sleep(0.02)
        first.kill()
    seen = wait(launcher(out, TEACHER, STUDENT, limit=1))
    assert seen[0] == {"r14_stripes": "running elsewhere: ", "r8_kd_stripes": "waiting: for r14_stripes"}
    assert set(seen[-1].values()) == {"done: "}
    assert starts(out) == ["r14_stripes 0", "r8_kd_stripes 0"]


def test_stopping_stops_local_jobs_which_go_on_later(out):
    watched = launcher(out, LONG)
    wait(watched, logged(out, "r14_stripes", 2))
    assert watched.cluster.leave(watched.active()) == "jobs stopped: 1; run the same command again to continue"
    with lock.held(out / "r14_stripes", wait=False):
        pass
    *_, last = wait(launcher(out, TEACHER))
    assert last["r14_stripes"] == "done: "
    assert int(starts(out)[-1].split()[1]) >= 2


def test_a_run_that_somebody_else_does_is_waited_for(out):
    command = [sys.executable, str(HERE / "stand_in.py"), str(out), "r14_stripes", "15"]
    out.mkdir()
    with subprocess.Popen(command):
        while not logged(out, "r14_stripes", 1)():
            time.sleep(0.02)
        seen = wait(launcher(out, TEACHER, OTHER, limit=1))
    assert seen[0]["r14_stripes"] == "running elsewhere: "
    assert seen[0]["r8_stripes"].startswith("running: job")  # it takes no turn of ours
    assert starts(out).count("r14_stripes 0") == 1


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """A stand-in for Slurm's commands on the path."""
    folder, jobs = tmp_path / "bin", tmp_path / "slurm"
    folder.mkdir()
    jobs.mkdir()
    for name in ("sbatch", "srun", "sacct", "scontrol", "scancel"):
        script = folder / name
        script.write_text(f"#!{sys.executable}\n" + (HERE / "fake_slurm.py").read_text())
        script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setenv("FAKE_SLURM", str(jobs))
    monkeypatch.setattr(clusters, "POLL_INTERVAL", 0.1)
    monkeypatch.setattr(clusters, "LAG", 0.3)
    monkeypatch.setattr(clusters, "GRACE", 5)
    monkeypatch.setattr(SlurmJob, "watcher", SlurmInfoWatcher())  # which remembers jobs by their number
    return jobs


def test_slurm_is_given_all_jobs_at_once(out, slurm):
    watched = launcher(out, TEACHER, OTHER, STUDENT, cluster=Slurm({"time": 30, "partition": "gpu"}), limit=sys.maxsize)
    assert all(state.partition(":")[0] in ("queued", "running") for state in states(watched).values())
    script = (slurm / "3" / "script").read_text()
    for flag in ("dependency=afterok:1", "kill-on-invalid-dep=yes", "partition=gpu", "time=30", "requeue"):
        assert f"#SBATCH --{flag}\n" in script
    *_, last = wait(watched)
    assert set(last.values()) == {"done: "}
    assert starts(out)[-1] == "r8_kd_stripes 0"


def test_slurm_jobs_are_not_submitted_twice(out, slurm):
    jobs = (TEACHER, STUDENT)
    first = launcher(out, *jobs, cluster=Slurm({}), limit=sys.maxsize)
    wait(first, logged(out, "r14_stripes", 1))
    assert "scancel 1 2" in first.cluster.leave(first.active())
    again = launcher(out, *jobs, cluster=Slurm({}), limit=sys.maxsize)
    again.adopt()
    assert {*states(again)} == {"r14_stripes", "r8_kd_stripes"}
    *_, last = wait(again)
    assert set(last.values()) == {"done: "}
    assert len(starts(out)) == 2 and not (slurm / "3").exists()


def test_slurm_requeues_what_it_preempts(out, slurm):
    watched = launcher(out, TEACHER, cluster=Slurm({}), limit=sys.maxsize)
    wait(watched, logged(out, "r14_stripes", 2))
    task = int((slurm / "1" / "task").read_text())
    for number in (signal.SIGTERM, signal.SIGUSR2):  # to all processes of the job, as Slurm does
        for pid in (process_of(out, "r14_stripes"), task) if number == signal.SIGTERM else (task,):
            os.kill(pid, number)
        time.sleep(0.5)
    *_, last = wait(watched)
    assert last["r14_stripes"] == "done: "
    assert [line.split()[0] for line in starts(out)] == ["r14_stripes"] * 2
    assert int(starts(out)[1].split()[1]) >= 2 and not (slurm / "2").exists()


def test_a_teacher_that_fails_in_slurm_takes_its_students_from_the_queue(out, slurm):
    out.mkdir()
    (out / "r14_stripes.fails").touch()
    *_, last = wait(launcher(out, TEACHER, STUDENT, cluster=Slurm({}), limit=sys.maxsize))
    assert last["r14_stripes"] == "failed: the disk is full"
    assert last["r8_kd_stripes"] == "not started: r14_stripes failed"


def test_a_teacher_that_is_killed_in_slurm_is_submitted_again_and_so_are_its_students(out, slurm):
    watched = launcher(out, TEACHER, STUDENT, cluster=Slurm({}), limit=sys.maxsize)
    wait(watched, logged(out, "r14_stripes", 2))
    (slurm / "1" / "state").write_text("NODE_FAIL")
    os.kill(process_of(out, "r14_stripes"), signal.SIGKILL)
    os.kill(int((slurm / "1" / "task").read_text()), signal.SIGKILL)
    *_, last = wait(watched)
    assert set(last.values()) == {"done: "}
    assert len(starts(out)) == 3


def test_unknown_parameters_of_sbatch_are_refused(out, slurm):
    with pytest.raises(ZooError, match="partitoin"):
        launcher(out, TEACHER, cluster=Slurm({"partitoin": "gpu"})).step()
