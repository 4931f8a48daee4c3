"""A loss term, metric, logger, dataset or architecture is one new file: the checks and commands find it by its name."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.world import draw

ROOT = Path(__file__).resolve().parents[2]

FILES = {
    "dctkd_zoo/losses/mapdiff.py": '''"""Mean absolute difference of activation maps."""

from __future__ import annotations

import torch
from torch import Tensor

from dctkd_zoo.attention import minmax
from dctkd_zoo.data.batch import Batch
from dctkd_zoo.features import Output
from dctkd_zoo.levels import map_pairs
from dctkd_zoo.losses import Term


class MapDiff(Term):
    """Mean over levels and pixels of |student - teacher|, maps scaled to [0, 1]."""

    def forward(self, student: Output, teacher: Output, batch: Batch) -> Tensor:
        """Return one value per image, (B,)."""
        pairs = map_pairs(student, teacher)
        return torch.stack([(minmax(s) - minmax(t)).abs().mean(dim=(1, 2)) for s, t in pairs]).mean(dim=0)
''',
    "eval/metrics/overlap.py": '''"""Overlap of activation maps: sum of pixelwise minima over sum of maxima."""

from __future__ import annotations

import torch
from torch import Tensor

from dctkd_zoo.attention import minmax
from eval.metrics._base import LevelMetric


class Overlap(LevelMetric):
    """Overlap of two maps scaled to [0, 1]; 1 for equal maps."""

    def compare(self, student_map: Tensor, teacher_map: Tensor) -> Tensor:
        """Return the values of one level, (B,)."""
        a, b = minmax(student_map), minmax(teacher_map)
        return torch.minimum(a, b).sum(dim=(1, 2)) / torch.maximum(a, b).sum(dim=(1, 2)).clamp_min(1e-12)
''',
    "train/loggers/lines.py": '''"""Text: a line of JSON per step, in the folder of the run."""

from __future__ import annotations

import json
from collections.abc import Mapping

from train.loggers import Logger, RunInfo


class Lines(Logger):
    """Lines of JSON."""

    def __init__(self, run: RunInfo) -> None:
        self.file = (run.folder / "log.jsonl").open("a", encoding="utf-8")

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Write named values after so many optimizer steps."""
        self.file.write(json.dumps({"steps": step, **values}) + "\\n")

    def close(self, succeeded: bool) -> None:
        """Close the file."""
        self.file.close()
''',
    "dctkd_zoo/catalog/shapes3.py": '''"""Three shapes: the dataset."""

from __future__ import annotations

from dctkd_zoo.spec import Dataset

DATASET = Dataset(
    name="shapes3", title="Three shapes", source="folders", num_classes=3, train=48, test=24, license="CC0-1.0"
)
''',
    "dctkd_zoo/catalog/mobilenets.py": '''"""MobileNetV3: architectures."""

from __future__ import annotations

from dctkd_zoo.spec import Arch

ARCHS = {"mbv3": Arch("mobilenetv3_small_050")}
''',
}
ENTRIES = """
from dctkd_zoo.spec import Cosine, Entry, Recipe

RECIPE = Recipe(epochs=4, batch_size=8, lr=0.05, schedule=Cosine(), resize=40, crop=32)
ENTRIES = (
    Entry("r8_shapes3", RECIPE, {"ce": 1.0}),
    Entry("mbv3_mapdiff_shapes3", RECIPE, {"ce": 1.0, "mapdiff": 1.0}, teacher="r8_shapes3"),
)
"""
CHECKS = ("tests/contract/test_layers.py", "tests/dctkd_zoo/test_catalog.py", "tests/eval/test_columns.py")


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project with the new files, and nothing else changed."""
    folder = tmp_path_factory.mktemp("copy") / "project"
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False).stdout
    if not tracked:
        pytest.skip("not a git checkout: there is no list of the project's files to copy")
    for name in tracked.strip("\0").split("\0"):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, folder / name)
    for name, text in FILES.items():
        assert not (folder / name).exists()
        (folder / name).write_text(text)
    return folder


def run(copy: Path, *command: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(copy), "DCTKD_ZOO_HOME": str(copy.parent / "home")}
    done = subprocess.run(
        [sys.executable, *command], cwd=copy, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_checks_of_the_project_pass(copy):
    for check in (["check"], ["format", "--check"]):
        run(copy, "-m", "ruff", *check, *FILES)
    run(copy, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *CHECKS)


@pytest.mark.slow
def test_training_evaluation_report_and_card_use_them(copy):
    work = copy.parent
    draw(work / "data" / "shapes3", size=(44, 48), pitch=0.9, contrast=80)
    (work / "mine.py").write_text(ENTRIES)
    places = ["--catalog", str(work / "mine.py"), "--data", str(work / "data"), "--out", str(work / "out")]
    run(copy, "-m", "train", "*_shapes3", *places, "--logger", "lines")
    lines = (work / "out" / "mbv3_mapdiff_shapes3" / "log.jsonl").read_text().splitlines()
    assert [epoch for line in lines if (epoch := json.loads(line).get("epoch"))] == [1, 2, 3, 4]
    assert "step/mapdiff" in json.loads(lines[0])
    report, results = work / "report", work / "results.csv"
    run(copy, "-m", "eval", "*_shapes3", *places, "--report", str(report), "--write", "--results", str(results))
    assert "overlap" in (report / "index.html").read_text(encoding="utf-8")
    header, *rows = results.read_text(encoding="utf-8").splitlines()
    assert {"overlap", "overlap.1", "chance.overlap", "skill.overlap"} <= set(header.split(","))
    assert len(rows) == 2
    text = run(copy, "-c", CARD.format(catalog=str(work / "mine.py"), results=str(results)))
    assert "Mean absolute difference of activation maps" in text and "Three shapes" in text
    assert "| overlap" in text.replace("| seed ", "") or " overlap " in text


CARD = """
from pathlib import Path
from dctkd_zoo import registry
from eval.cards import rendering
from eval.run import results_csv
registry.include(Path({catalog!r}))
rows = results_csv.read(Path({results!r}))
print(rendering.render(rendering.gather(registry.get_entry("mbv3_mapdiff_shapes3"), rows)))
"""
