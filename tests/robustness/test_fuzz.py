"""`python -m tests.robustness.fuzz`: a short run of every target, and that it tells an escape from a refusal."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.robustness import fuzz
from tests.robustness.fuzz_targets import TARGETS, Target

ROOT = Path(__file__).resolve().parents[2]
RUNS = 30_000 if os.environ.get("SOAK") == "1" else 200


@pytest.mark.slow
def test_no_input_escapes():
    pytest.importorskip("atheris", reason="atheris is not installed: it is of Linux and Python before 3.14")
    command = [sys.executable, "-m", "tests.robustness.fuzz", "--runs", str(RUNS)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr[-5000:]
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["target", *TARGETS]
    assert all(line.split()[1:5:3] == [f"{RUNS:,}", "0"] for line in done.stdout.splitlines()[1:])


def test_an_escape_is_told_from_a_refusal():
    def read(path: Path) -> None:
        match path.read_bytes():
            case b"refused":
                raise ValueError("no")
            case b"silent":
                raise ValueError
            case b"escape":
                raise KeyError("x")
            case b"outside":
                (path.parents[1] / "beside" / "whole.txt").write_text("changed")

    steps = fuzz.tried(Target("a", (), read, (ValueError,)))
    next(steps)
    tally = [steps.send(data) for data in (b"fine", b"refused", b"silent", b"escape", b"outside")][-1]
    assert (tally.accepted, tally.refused) == (2, 2)
    assert [
        part in escape for part, escape in zip(("without a word", "KeyError", "outside"), tally.escapes, strict=True)
    ]
    steps.close()
