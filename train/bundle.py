"""Copy a finished run into the package: `python -m train.bundle NAME --out DIR [--half]`."""

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
from dctkd_zoo.cli.arguments import Parser
from dctkd_zoo.errors import ZooError
from dctkd_zoo.weights import run_folder
from dctkd_zoo.weights.run_folder import ENVIRONMENT, LOG, RECIPE
from train.launch.scheduler import finished

COPIED = (weights.CONFIG, RECIPE, ENVIRONMENT, LOG)


def bundle(run: Path, path: Path, half: bool = False) -> Path:
    """Copy weights, config, recipe, environment and log of the run in folder `run` to folder `path`; return `path`.

    With `half`, kernels and matrices are rounded to float16 and `environment.json` records that; vectors stay float32,
    because normalisation layers keep small variances in them. Loading gives float32 either way. `ZooError` if the run
    has not finished or a value does not fit float16.
    """
    if not finished(run):
        raise ZooError(f"{run} does not hold a finished run")
    weights.from_folder(run, "trained here")
    rounded = {n: _to_half(n, value) for n, value in load_file(run / weights.WEIGHTS).items()} if half else None
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".bundle.", dir=path.parent) as name:
        new, old = Path(name) / "new", Path(name) / "old"
        new.mkdir()
        for file in COPIED:
            shutil.copyfile(run / file, new / file)
        if rounded:
            save_file(rounded, new / weights.WEIGHTS, metadata={"format": "pt"})
            environment = run_folder.read_facts(new / ENVIRONMENT) | {"stored": "float16"}
            (new / ENVIRONMENT).write_text(json.dumps(environment, indent=2) + "\n", encoding="utf-8")
        else:
            shutil.copyfile(run / weights.WEIGHTS, new / weights.WEIGHTS)
        weights.write_hashes(new)
        if path.exists():
            path.rename(old)
        new.rename(path)
    return path


def _to_half(name: str, value: Tensor) -> Tensor:
    if value.ndim < 2 or not value.is_floating_point():
        return value
    rounded = value.half()
    if not torch.isfinite(rounded).all():
        raise ZooError(f"{name} has values outside the float16 range; bundle it without --half")
    return rounded


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit status."""
    parser = Parser(prog="python -m train.bundle", description=__doc__)
    parser.add_argument("names", nargs="+", metavar="NAME", help="entry names or shell patterns")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder with their runs")
    parser.add_argument("--into", type=Path, metavar="DIR", help="target folder (default: dctkd_zoo/bundled here)")
    parser.add_argument("--half", action="store_true", help="store kernels and matrices in float16: half the size")
    return shell.run(lambda: _run(parser.parse_args(arguments)))


def _run(options: argparse.Namespace) -> int:
    into = options.into or weights.BUNDLED
    paths.refuse_installed(into, "choose your own folder with --into DIR")
    for name in registry.resolve(options.names):
        run, expected = options.out / name, registry.get_entry(name).to_dict()
        if finished(run) and (differing := weights.recipe_mismatch(run, expected)):
            raise ZooError(f"{run} was trained with another {', '.join(differing)} than the catalog's")
        path = bundle(run, into / name, options.half)
        print(f"{name}: {sum(file.stat().st_size for file in path.iterdir()) / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
