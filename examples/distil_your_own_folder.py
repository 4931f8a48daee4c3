"""Images in folders of your own: a catalog file, a teacher, a student alone and one that it teaches, and their figures.

Trains a ResNet-20, a ResNet-8 on labels alone, and one that also learns the ResNet-20's attention: half a minute on
two cores. Prints every epoch, then a table with a row for each: accuracy, near 100 % on the images made here, and how
alike the maps are to the teacher's (SSIM, and its skill above chance), where the taught student is far ahead.

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
    """Write `count` images of stripes for each of three directions."""
    y, x = np.mgrid[:40, :48]
    for name, along in {"across": y, "down": x, "slanted": x + y}.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            wave = 60 * np.sin(along * rng.uniform(0.6, 1) + rng.uniform(0, 6))[..., None]
            pixels = np.clip(128 + wave + rng.normal(0, 30, (40, 48, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number:03d}.png")


parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--work", type=Path, default=Path("my_first_zoo"), metavar="DIR", help="for all that is written")
parser.add_argument("--data", type=Path, metavar="DIR", help="with your myscenes/{train,test}/<class>/*.jpg")
parser.add_argument("--epochs", type=int, default=12)
options = parser.parse_args()
data, catalog = options.data or options.work / "data", options.work / "my_scenes.py"
options.work.mkdir(parents=True, exist_ok=True)
if options.data is None:
    draw(data / "myscenes" / "train", 32, np.random.default_rng(0))
    draw(data / "myscenes" / "test", 16, np.random.default_rng(1))
seen, unseen = (folders.read(data / "myscenes", part) for part in ("train", "test"))
catalog.write_text(CATALOG.format(len(seen.classes), len(seen), len(unseen), options.epochs))
registry.include(catalog)  # on a command line: --catalog my_scenes.py
where = ["--data", str(data), "--out", str(options.work / "out")]
sys.exit(train(["*_myscenes", *where]) or evaluate(["*_myscenes", *where]))
