"""A finished run to a network that the package brings along: `python -m train.bundle NAME --out DIR [--half]`."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from dctkd_zoo import registry, weights
from dctkd_zoo._io import paths
from dctkd_zoo.cli import shell
from dctkd_zoo.errors import ZooError
from dctkd_zoo.weights import run_folder
from train.launch.scheduler import finished

ENVIRONMENT = "environment.json"
BESIDE = (weights.CONFIG, "recipe.json", ENVIRONMENT, "train_log.csv")


def bundle(run: Path, path: Path, half: bool = False) -> Path:
    """Copy what a network is and how it was made from the folder `run` to the folder `place`, and return that.

    With `half`, kernels and matrices are rounded to float16; vectors, which normalisation keeps its small variances in,
    are not, and `environment.json` says so. Loading gives float32 either way. `ZooError` for a run that has not ended,
    or a value that float16 lacks.
    """
    if not finished(run):
        raise ZooError(f"{run}: no finished run is there")
    weights.from_folder(run, "trained here")
    rounded = {n: _halved(n, value) for n, value in load_file(run / weights.WEIGHTS).items()} if half else None
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".bundle.", dir=path.parent) as name:
        new, old = Path(name) / "new", Path(name) / "old"
        new.mkdir()
        for file in BESIDE:
            shutil.copyfile(run / file, new / file)
        if rounded:
            save_file(rounded, new / weights.WEIGHTS, metadata={"format": "pt"})
            meta = run_folder.read_facts(new / ENVIRONMENT) | {"stored": "float16"}
            (new / ENVIRONMENT).write_text(json.dumps(meta, indent=2) + "\n", encoding="utf-8")
        else:
            shutil.copyfile(run / weights.WEIGHTS, new / weights.WEIGHTS)
        weights.write_hashes(new)
        if path.exists():
            path.rename(old)
        new.rename(path)
    return path


def _halved(name: str, value: Tensor) -> Tensor:
    if value.ndim < 2 or not value.is_floating_point():
        return value
    rounded = value.half()
    if not torch.isfinite(rounded).all():
        raise ZooError(f"{name} has values that float16 cannot hold: bundle it without --half")
    return rounded


def main(arguments: list[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m train.bundle", description=__doc__)
    parser.add_argument("names", nargs="+", metavar="NAME", help="entries, or shell patterns of them")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where their runs are")
    parser.add_argument("--into", type=Path, metavar="DIR", help="where they go, not the checkout's dctkd_zoo/bundled")
    parser.add_argument("--half", action="store_true", help="kernels and matrices in float16: half as large")
    return shell.run(lambda: _run(parser.parse_args(arguments)))


def _run(options: argparse.Namespace) -> int:
    into = options.into or weights.BUNDLED
    paths.refuse_installed(into, "name a folder of your own, --into DIR")
    for name in registry.resolve(options.names):
        path = bundle(options.out / name, into / name, options.half)
        print(f"{name}: {sum(file.stat().st_size for file in path.iterdir()) / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
