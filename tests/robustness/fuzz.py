"""Bytes of every kind that this package reads, mutated: `python -m tests.robustness.fuzz [--runs N] [TARGET...]`.

Each target starts from valid files. An input is accepted or refused with the errors that its target promises;
anything else is an escape, and so is a file changed outside the target's folder. The exit status is 1 for an escape.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Generator, Sequence
from contextlib import nullcontext, redirect_stderr
from dataclasses import asdict, dataclass, field
from pathlib import Path

if __name__ == "__main__":
    import atheris

    WATCHED = atheris.instrument_imports(include=["csv", "dctkd_zoo", "eval", "json", "tarfile", "zipfile"])
else:
    WATCHED = nullcontext()
with WATCHED:  # mutations follow the lines that they reach
    from tests.robustness.fuzz_targets import BUNDLED, TARGETS, Target, network

LARGEST = 1 << 15  # bytes of an input
RUNS = 500


@dataclass
class Tally:
    """What became of a target's inputs; `escapes` are tracebacks with the input that led there."""

    accepted: int = 0
    refused: int = 0
    escapes: list[str] = field(default_factory=list)


def snapshot(folder: Path) -> dict[str, str]:
    """The sha256 of each file below a folder, which must not change."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def tried(target: Target) -> Generator[Tally, bytes, None]:
    """What became of the inputs so far; the next one is sent in."""
    tally = Tally()
    with tempfile.TemporaryDirectory(prefix="fuzz.") as name:
        root = Path(name)
        (root / "beside").mkdir()
        (root / "beside" / "whole.txt").write_text("as it was")
        before, folder = snapshot(root), root / "inside"
        while True:
            data: bytes = yield tally
            folder.mkdir()
            if target.read is network:
                for file in {"config.json", "model.safetensors"} - {target.name}:
                    (folder / file).symlink_to(BUNDLED / file)
            (folder / target.name).write_bytes(data)
            count(target, folder / target.name, data, tally)
            shutil.rmtree(folder)
            if snapshot(root) != before:
                tally.escapes.append(f"{data!r} changed files outside the folder")


def count(target: Target, path: Path, data: bytes, tally: Tally) -> None:
    """Read one input and count what became of it."""
    try:
        with redirect_stderr(io.StringIO()):
            target.read(path)
    except target.refuses as error:
        tally.refused += 1
        if not str(error).strip():
            tally.escapes.append(f"{data!r} is refused without a word")
    except Exception:
        tally.escapes.append(f"{data[:1000]!r}\n{traceback.format_exc()}")
    else:
        tally.accepted += 1


def fuzz(name: str, runs: int, seed: int, report: Path) -> None:
    """Try `runs` inputs, write the tally into `report` and end the process, as atheris would."""
    target = TARGETS[name]()
    steps = tried(target)
    next(steps)

    def one(data: bytes) -> None:
        tally = steps.send(data)
        if tally.accepted + tally.refused + len(tally.escapes) >= runs or len(tally.escapes) > 20:
            report.write_text(json.dumps(asdict(tally)))
            os._exit(0)

    with tempfile.TemporaryDirectory(prefix="corpus.") as corpus:
        for path, content in enumerate(target.seeds):
            (Path(corpus) / str(path)).write_bytes(content)
        flags = [f"-seed={seed}", f"-max_len={LARGEST}", "-rss_limit_mb=0", "-timeout=60", "-verbosity=0"]
        atheris.Setup([sys.argv[0], *flags, corpus], one)
        atheris.Fuzz()


def tally(name: str, runs: int, seed: int) -> Tally:
    """What became of `runs` inputs of a target, in a process of its own: one that dies or hangs is an escape."""
    with tempfile.TemporaryDirectory(prefix="tally.") as folder:
        report, said = Path(folder) / "report.json", Path(folder) / "said.txt"
        child = os.fork()
        if child == 0:
            tempfile.tempdir = folder
            with said.open("w") as file:
                os.dup2(file.fileno(), 1)
                os.dup2(file.fileno(), 2)
            fuzz(name, runs, seed, report)
            os._exit(1)
        _, status = os.waitpid(child, 0)
        if not report.is_file():
            return Tally(escapes=[f"{name} ended with status {status}:\n{said.read_text(errors='replace')[-3000:]}"])
        return Tally(**json.loads(report.read_text()))


def main(arguments: Sequence[str] | None = None) -> int:
    """Fuzz each target, and print what became of the inputs."""
    parser = argparse.ArgumentParser(prog="python -m tests.robustness.fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(TARGETS))
    parser.add_argument("--runs", type=int, default=RUNS, metavar="N", help=f"inputs for each target ({RUNS})")
    parser.add_argument("--seed", type=int, default=1, metavar="S", help="of the mutations (1)")
    options = parser.parse_args(arguments)
    unknown = [name for name in options.targets if name not in TARGETS]
    if unknown:
        parser.error(f"no target {unknown[0]!r}; there are {', '.join(TARGETS)}")
    print(f"{'target':12}{'inputs':>10}{'accepted':>10}{'refused':>10}{'escapes':>10}{'s':>8}")
    failed = False
    for name in options.targets or TARGETS:
        start = time.monotonic()
        result = tally(name, options.runs, options.seed)
        counts = (result.accepted + result.refused + len(result.escapes), result.accepted, result.refused)
        words = "".join(f"{item:>10,}" for item in (*counts, len(result.escapes)))
        print(f"{name:12}{words}{time.monotonic() - start:>8.1f}", flush=True)
        for escape in result.escapes:
            print(f"{name}: {escape}", file=sys.stderr)
        failed |= bool(result.escapes)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
