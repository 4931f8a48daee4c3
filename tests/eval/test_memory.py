"""What an evaluation holds in memory: the networks, a batch and a row per image. Measured in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

MEASURE = """
import sys
from pathlib import Path
import numpy as np
import torch
from benchmarks.harness import orders
from dctkd_zoo import models, teachers
from dctkd_zoo.data.pixel_cache import PixelCache
from dctkd_zoo.data.loader import ImageLoader
from dctkd_zoo.features import FeatureExtractor
from dctkd_zoo.schedules import Cosine
from dctkd_zoo.spec import Dataset, Recipe
from dctkd_zoo.weights import Weights
from eval.run import evaluation, protocol
from eval.run.per_image import References, table
from eval.stats import intervals

count, folder = int(sys.argv[1]), Path(sys.argv[2])
dataset = Dataset("noise", "Noise", source="folders", num_classes=10, train=1, test=count)
recipe = Recipe(epochs=1, batch_size=64, lr=0.1, schedule=Cosine(), resize=16, crop=16)
pixels = np.memmap(folder / "pixels", np.uint8, "w+", shape=count * 768)
for start in range(0, len(pixels), 2**20):
    pixels[start : start + 2**20] = np.random.default_rng(start).integers(0, 256, min(2**20, len(pixels) - start))
pixels.flush()
side = torch.full((count,), 16)
mapped = torch.from_file(str(folder / "pixels"), shared=False, size=count * 768, dtype=torch.uint8)
views = ImageLoader(
    PixelCache((mapped,), torch.arange(count) * 768, side, side, (), "noise"), torch.arange(count) % 10, recipe,
    dataset, torch.device("cpu"),
)
student, guide = (FeatureExtractor(models.create(name, 10)).eval() for name in ("r8", "r14"))
teacher = teachers.Teacher("r14", guide.requires_grad_(False), Weights(Path(), "noise", "1" * 64))
metrics = protocol.image_metrics("exact", True)

def evaluate():
    reference = References(
        evaluation.teacher_outputs(teacher, views, evaluation.silent), None, evaluation.partners(views)
    )
    rows, together = table(student, reference, views, metrics, evaluation.silent)
    rows.insert(0, "id", [f"test/{position:06}.png" for position in rows.pop("position")])
    protocol.figures(rows, "exact", 10, together)
    intervals.intervals(rows)

print(orders.growth(evaluate))
"""


def growth(images: int, folder: Path) -> float:
    """How far evaluating so many images takes a process above what it holds before, in MiB."""
    folder.mkdir()
    environment = {**os.environ, "DCTKD_ZOO_HOME": str(folder / "home"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(images), str(folder)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return float(done.stdout)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux tells the peak of a process")
def test_memory_grows_by_the_rows_of_the_table_alone(tmp_path):
    few, many = (growth(count, tmp_path / str(count)) for count in (2200, 4400))
    # Bytes an image, pages of mapped files among them; its pixels and the maps of both networks are 60,000.
    assert (many - few) * 2**20 / 2200 < 10_000
