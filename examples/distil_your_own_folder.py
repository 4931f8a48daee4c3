"""Distillation on your own folder of images: writes a catalog file, trains teacher and students, and evaluates them.

Trains a ResNet-20, a ResNet-8 on labels only, and a ResNet-8 that also learns the ResNet-20's attention, in half a
minute on two cores. Prints every epoch, then a table with accuracy, which is near 100 % on the generated images, and
the similarity of maps to the teacher's (SSIM, and its skill above chance), where the distilled student is far ahead.

    python examples/distil_your_own_folder.py --work my_first_zoo [--data DIR]
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from dctkd_zoo import registry
from dctkd_zoo.data.sources import folders
from eval.__main__ import main as evaluate
from train.__main__ import main as train

CATALOG = """from dctkd_zoo.spec import Cosine, Dataset, Entry, Recipe

DATASET = Dataset("myscenes", "My scenes", source="folders", num_classes={}, train={}, test={})
RECIPE = Recipe(epochs={}, batch_size=16, lr=0.1, schedule=Cosine(), resize=40, crop=32)
ENTRIES = (
    Entry("r20_myscenes", RECIPE, {{"ce": 1}}),
    Entry("r8_myscenes", RECIPE, {{"ce": 1}}),
    Entry("r8_dctkd_myscenes", RECIPE, {{"ce": 1, "dctkd": 1}}, teacher="r20_myscenes"),
)
"""


def draw(folder: Path, count: int, rng: np.random.Generator) -> None:
    """Write `count` images of stripes in each of three directions."""
    y, x = np.mgrid[:40, :48]
    for name, axis in {"across": y, "down": x, "slanted": x + y}.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            wave = 60 * np.sin(axis * rng.uniform(0.6, 1) + rng.uniform(0, 6))[..., None]
            pixels = np.clip(128 + wave + rng.normal(0, 30, (40, 48, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number:03d}.png")


parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--work", type=Path, default=Path("my_first_zoo"), metavar="DIR", help="output folder")
parser.add_argument("--data", type=Path, metavar="DIR", help="folder with your myscenes/{train,test}/<class>/*.jpg")
parser.add_argument("--epochs", type=int, default=12)
options = parser.parse_args()
data, catalog = options.data or options.work / "data", options.work / "my_scenes.py"
options.work.mkdir(parents=True, exist_ok=True)
if options.data is None:
    draw(data / "myscenes" / "train", 32, np.random.default_rng(0))
    draw(data / "myscenes" / "test", 16, np.random.default_rng(1))
train_split, test_split = (folders.read(data / "myscenes", split) for split in ("train", "test"))
catalog.write_text(CATALOG.format(len(train_split.classes), len(train_split), len(test_split), options.epochs))
registry.include(catalog)  # on the command line: --catalog my_scenes.py
arguments = ["*_myscenes", "--data", str(data), "--out", str(options.work / "out")]
sys.exit(train(arguments) or evaluate(arguments))
