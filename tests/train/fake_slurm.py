"""As much of Slurm as submitit talks to, for tests where there is none: sbatch, srun, sacct, scontrol, scancel.

The name that it is called by says which. Jobs are folders of $FAKE_SLURM, each run by a process of its own, which
waits for what it depends on, runs the batch script with bash, and does so again where it was requeued. Signals,
time limits and preemption are the test's business; no queue, no nodes, no accounting.
"""

import os
import re
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

ROOT = Path(os.environ["FAKE_SLURM"])
FAILED = ("FAILED", "CANCELLED", "NODE_FAIL")


def sbatch(script: str) -> None:
    (ROOT / "lock").touch()
    number = str(1 + sum(path.is_dir() for path in ROOT.iterdir()))
    (ROOT / number).mkdir()
    (ROOT / number / "script").write_text(Path(script).read_text())
    (ROOT / number / "state").write_text("PENDING")
    subprocess.Popen(
        [sys.executable, __file__, "keep", number],
        env={**os.environ, "FAKE_AS": "keep"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    print(f"Submitted batch job {number}")


def keep(number: str) -> None:
    job = ROOT / number
    text = (job / "script").read_text()
    needed = re.search(r"--dependency=afterok:(\d+)", text)
    while needed and (state := (ROOT / needed[1] / "state").read_text()) != "COMPLETED":
        if state in FAILED:
            (job / "state").write_text("CANCELLED")  # --kill-on-invalid-dep
            return
        time.sleep(0.05)
    environment = {**os.environ, "SLURM_JOB_ID": number, "SLURM_NTASKS": "1", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}
    environment |= {"SLURM_JOB_NUM_NODES": "1", "SLURM_NODEID": "0", "SLURM_JOB_NODELIST": "here"}
    while True:
        (job / "requeued").unlink(missing_ok=True)
        (job / "state").write_text("RUNNING")
        process = subprocess.Popen(["bash", str(job / "script")], env=environment, start_new_session=True)
        (job / "pid").write_text(str(process.pid))
        code = process.wait()
        if (job / "requeued").exists():
            continue
        if (job / "state").read_text() == "RUNNING":
            (job / "state").write_text("FAILED" if code else "COMPLETED")
        return


def srun(*words: str) -> None:
    meta = dict(pairwise(words))
    command = words[words.index(meta["--error"]) + 1 :]
    out, err = (meta[k].replace("%j", os.environ["SLURM_JOB_ID"]).replace("%t", "0") for k in ("--output", "--error"))
    os.dup2(os.open(out, os.O_WRONLY | os.O_CREAT | os.O_APPEND), 1)
    os.dup2(os.open(err, os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
    (ROOT / os.environ["SLURM_JOB_ID"] / "task").write_text(str(os.getpid()))
    os.execvp(command[0], command)


def sacct(*words: str) -> None:
    print("JobID|State|NodeList")
    for number in (word for flag, word in pairwise(words) if flag == "-j"):
        if (ROOT / number / "state").exists():
            print(f"{number}|{(ROOT / number / 'state').read_text()}|here")


def scontrol(verb: str, number: str) -> None:
    assert verb == "requeue"
    (ROOT / number / "requeued").touch()
    (ROOT / number / "state").write_text("REQUEUED")


def scancel(number: str) -> None:
    (ROOT / number / "state").write_text("CANCELLED")
    os.killpg(int((ROOT / number / "pid").read_text()), 9)


if __name__ == "__main__":
    name = os.environ.pop("FAKE_AS", "") or Path(sys.argv[0]).name
    words = sys.argv[2:] if name == "keep" else sys.argv[1:]
    {f.__name__: f for f in (sbatch, keep, srun, sacct, scontrol, scancel)}[name](*words)
