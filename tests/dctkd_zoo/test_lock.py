"""dctkd_zoo._io.lock: one holder at a time, and a dead one holds nothing."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from dctkd_zoo._io import lock
from dctkd_zoo.errors import Busy

ROOT = Path(__file__).resolve().parents[2]
HOLD = """
import sys, time
from pathlib import Path
from dctkd_zoo import lock
with lock.held(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def other(tmp_path):
    """Another process, which holds the lock of `tmp_path / "run"`."""
    command = [sys.executable, "-c", HOLD, str(tmp_path / "run")]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_second_process_is_refused_or_told_that_it_waits(other, tmp_path):
    with pytest.raises(Busy, match="run is being written by another process"), lock.held(tmp_path / "run", wait=False):
        pass
    meta = []

    def waiting():
        meta.append("waiting")
        other.send_signal(signal.SIGKILL)

    with lock.held(tmp_path / "run", waiting=waiting):
        assert meta == ["waiting"]


def test_the_lock_of_a_killed_process_is_free(other, tmp_path):
    other.kill()
    other.wait()
    with lock.held(tmp_path / "run", wait=False):
        pass


def test_a_lock_is_free_after_an_error(tmp_path):
    with pytest.raises(KeyError), lock.held(tmp_path / "run"):
        raise KeyError
    with lock.held(tmp_path / "run", wait=False):
        pass
