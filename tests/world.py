"""A small world to train in: folders of striped images, and a catalog file whose entries train in seconds."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, equal

from dctkd_zoo import registry

ROOT = Path(__file__).resolve().parents[1]

CATALOG = """
from dataclasses import replace

from dctkd_zoo.spec import Cosine, Dataset, Entry, Recipe

DATASET = Dataset(
    name="stripes", title="Stripes", source="folders", num_classes=3, train=48, test=24,
    mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25), license="none", url="none",
)
RECIPE = Recipe(epochs=4, batch_size=16, lr=0.05, schedule=Cosine(0.2), resize=20, pad=2, crop=16)
UNEVEN = Recipe(epochs=3, batch_size=10, lr=0.05, schedule=Cosine(0.2), resize=20, pad=2, crop=16, test_every=2)
LARGER = replace(UNEVEN, resize=36, crop=32)  # in bfloat16 oneDNN errs on maps of less than a pixel
ENTRIES = (
    Entry("r14_stripes", RECIPE, {"ce": 1.0}),
    Entry("r8_stripes", RECIPE, {"ce": 1.0}),
    Entry("mbv2_stripes", LARGER, {"ce": 1.0}),
    Entry("r8_dctkd_kd_stripes", RECIPE, {"ce": 0.1, "dctkd": 1.0, "kd": 1.0}, teacher="r14_stripes"),
    Entry(
        "r8_crd_stripes", UNEVEN, {"ce": 1.0, "crd": 0.1}, teacher="r14_stripes", options={"crd": {"count": 8}},
    ),
)
"""


CLASSES = ("across", "down", "slanted")


def stripes(
    kind: int, rng: np.random.Generator, size: tuple[int, int] = (24, 28), pitch: float = 1.2, contrast: int = 60
) -> Image.Image:
    """Horizontal, vertical or diagonal stripes under noise; `size` is height and width."""
    y, x = np.mgrid[: size[0], : size[1]]
    wave = np.sin((y, x, x + y)[kind] * pitch + rng.uniform(0, 6))[..., None]
    return Image.fromarray(np.clip(128 + contrast * wave + rng.normal(0, 20, (*size, 3)), 0, 255).astype(np.uint8))


def draw(folder: Path, train: int = 16, test: int = 8, **look: Any) -> None:
    """So many images of each class in `folder/{train,test}/<class>`; `look` is for `stripes`."""
    rng = np.random.default_rng(0)
    for split, count in (("train", train), ("test", test)):
        for kind, name in enumerate(CLASSES):
            (folder / split / name).mkdir(parents=True)
            for number in range(count):
                stripes(kind, rng, **look).save(folder / split / name / f"{number:02d}.png")


def make(root: Path, catalog: str = CATALOG, **look: Any) -> Path:
    """Images in `root/data/stripes` and the entries in `root/catalog.py`; returns `root`."""
    draw(root / "data" / "stripes", **look)
    (root / "catalog.py").write_text(catalog)
    return root


def command(world: Path, out: Path, *arguments: str) -> list[str]:
    """`python -m train ARGUMENTS` in a world, on the CPU."""
    return [sys.executable, "-m", "train", *options(world, out), *arguments]


def options(world: Path, out: Path) -> list[str]:
    """Where a run in a world reads and writes."""
    return ["--data", f"{world}/data", "--out", str(out), "--catalog", f"{world}/catalog.py", "--device", "cpu"]


def torchrun(ranks: int, module: str, *arguments: str, restarts: int = 0) -> list[str]:
    """A module on several processes of this machine, which meet at a port that is free."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
    return [*launcher, f"--max-restarts={restarts}", "-m", module, *arguments]


def environment(world: Path, **more: str) -> dict[str, str]:
    """That of a process whose cache is the world's own."""
    return {**os.environ, "DCTKD_ZOO_HOME": f"{world}/home", "OMP_NUM_THREADS": "1", **more}


def run(command: list[str], world: Path, **more: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a world to its end."""
    return subprocess.run(
        command, cwd=ROOT, env=environment(world, **more), capture_output=True, text=True, check=False
    )


def weights(folder: Path) -> Mapping[str, Tensor]:
    """The tensors of a trained network."""
    return load_file(folder / "model.safetensors")


def same(one: Path, other: Path) -> bool:
    """Whether the networks in two folders are equal bit for bit."""
    a, b = weights(one), weights(other)
    return a.keys() == b.keys() and all(equal(a[name], b[name]) for name in a)


SOAK = os.environ.get("SOAK") == "1"  # the long form of tests that kill: `make soak`


@dataclass
class StepLimit:
    """A training step that raises an error after `left` more of them."""

    step: Callable[..., Any]
    error: type[BaseException]
    left: float = math.inf

    def __call__(self, *arguments: Any) -> Any:
        if self.left <= 0:
            raise self.error
        self.left -= 1
        return self.step(*arguments)


@contextmanager
def mounted(folder: Path, size: str) -> Iterator[None]:
    """A disk of its own, of so many bytes, at a folder; skips the test where mounting is not allowed."""
    folder.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount command here")
    if done.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def remount(folder: Path, how: str) -> None:
    """Change a mounted disk: `size=64m`, `ro`."""
    subprocess.run(["mount", "-o", f"remount,{how}", str(folder)], check=True)


@contextmanager
def included(world: Path) -> Iterator[None]:
    """The world's catalog beside the zoo's, and a cache of its own, inside."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DCTKD_ZOO_HOME", str(world / "home"))
        patch.setattr(registry, "_MODULES", [])
        registry._bundled_and_included.cache_clear()
        registry.include(world / "catalog.py")
        yield
    registry._bundled_and_included.cache_clear()
