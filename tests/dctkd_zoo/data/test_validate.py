"""dctkd_zoo.data.validate on splits with one thing wrong at a time."""

import errno
import os
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from dctkd_zoo.data import fingerprint
from dctkd_zoo.data.decode import UPPER
from dctkd_zoo.data.load import load, read
from dctkd_zoo.data.pixel_cache import open_pixel_cache
from dctkd_zoo.data.split import Arrays, Split
from dctkd_zoo.data.validate import check, render
from dctkd_zoo.errors import DatasetError
from dctkd_zoo.schedules import Step
from dctkd_zoo.spec import Dataset, Recipe

RECIPE = Recipe(epochs=1, batch_size=2, lr=0.1, schedule=Step(1), resize=16, crop=12)

TINY = Dataset(
    name="tiny",
    title="Tiny",
    source="folders",
    num_classes=2,
    train=2,
    test=2,
    mean=(0.5, 0.5, 0.5),
    std=(0.2, 0.2, 0.2),
    license="none",
    url="https://example.org",
)


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """A cache of its own for each test."""
    monkeypatch.setenv("DCTKD_ZOO_HOME", str(tmp_path / "home"))


@pytest.fixture
def tiny(tmp_path):
    """The folder of a complete copy of `TINY`."""
    for shade, name in enumerate(["train/a/1.png", "train/b/2.png", "test/a/3.png", "test/b/4.png"]):
        draw(tmp_path / "tiny" / name, shade)
    return tmp_path / "tiny"


def draw(path, shade):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 4), (shade, 0, 0)).save(path)


def found(root, dataset=TINY):
    report = check(dataset, read(dataset, root.parent))
    return report, {finding.what: (finding.severity, finding.first, finding.count) for finding in report.findings}


def test_complete_copy(tiny):
    report, findings = found(tiny)
    assert report.ok and not findings and report.sizes == {"train": 2, "test": 2}


def test_numbers(tiny):
    report, findings = found(tiny, replace(TINY, train=1500, test=1))
    assert not report.ok
    assert findings["train images missing: 2 of 1,500"] == ("error", (), 1498)
    assert findings["too many test images: 2 instead of 1"] == ("warning", (), 1), "training takes them"


def test_number_of_classes(tiny):
    report, findings = found(tiny, replace(TINY, num_classes=15))
    assert not report.ok and "2 classes instead of 15: a, b" in findings


def test_undecodable(tiny):
    (tiny / "train/b/2.png").write_bytes(b"no image")
    report, findings = found(tiny)
    severity, first, count = findings["train images that do not decode"]
    assert not report.ok and (severity, count) == ("error", 1)
    assert first[0].startswith(f"{tiny}/train/b/2.png: ")


def test_truncated_image(tiny):
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tiny / "test/a/3.png")
    (tiny / "test/a/3.png").write_bytes((tiny / "test/a/3.png").read_bytes()[:2000])
    _, findings = found(tiny)
    assert findings["test images that do not decode"][2] == 1


def test_leak(tiny):
    draw(tiny / "test/b/4.png", 0)
    report, findings = found(tiny)
    assert report.ok
    leak = ("warning", ("test/b/4.png = train/a/1.png",), 1)
    assert findings == {"test images whose bytes also occur in train": leak}


def test_doubled_in_train(tiny):
    for index in range(6):
        draw(tiny / f"train/b/copy{index}.png", 0)
    report, findings = found(tiny, replace(TINY, train=8))
    severity, first, count = findings["duplicate train images"]
    assert report.ok and (severity, count) == ("warning", 6)
    assert first[0] == "train/b/copy0.png = train/a/1.png" and len(first) == 5


def test_same_names_in_both_splits(tiny):
    (tiny / "test/b/4.png").rename(tiny / "test/b/2.png")
    _, findings = found(tiny)
    same = ("warning", ("b/2.png",), 1)
    assert findings == {"image names of a class that occur in both splits": same}


def test_classes_without_images(tiny):
    (tiny / "test/b/4.png").unlink()
    report, findings = found(tiny, replace(TINY, test=1))
    assert report.ok and findings == {
        "classes without an image in test": ("warning", ("b",), 1),
        "test: classes that timm's reader numbers differently or lacks": ("note", ("b",), 1),
    }


def test_images_that_no_list_names(tmp_path):
    root = tmp_path / "tiny"
    for shade, name in enumerate(["a/1.png", "b/2.png", "a/3.png", "b/4.png", "b/5.png"]):
        draw(root / "Images" / name, shade)
    (root / "TrainImages.txt").write_text("a/1.png\nb/2.png\n")
    (root / "TestImages.txt").write_text("a/3.png\nb/4.png\n")
    report, findings = found(root, replace(TINY, source="mit67"))
    extra = ("note", (str(root / "Images/b/5.png"),), 1)
    assert report.ok and findings == {"images in the same folders that belong to no split": extra}


def test_class_orders():
    pixels = np.arange(2 * 48, dtype=np.uint8).reshape(2, 4, 4, 3)
    train = Split(("b", "a"), ("train/0", "train/1"), np.array([0, 1]), Arrays(pixels))
    test = Split(("a", "b"), ("test/0", "test/1"), np.array([0, 1]), Arrays(pixels + 100))
    report = check(TINY, {"train": train, "test": test})
    errors = {finding.what: finding.count for finding in report.findings if finding.severity == "error"}
    assert errors == {"labels that mean another class in test": 2}
    assert any(finding.first == ("b before a",) for finding in report.findings)
    report = check(TINY, {"train": train, "test": replace(test, classes=("b", "c"))})
    assert ("a", "c") in {finding.first for finding in report.findings if finding.severity == "error"}


def test_render(tiny):
    draw(tiny / "train/b/[red]2.png", 0)  # a name that rich would read as markup
    report, _ = found(tiny, replace(TINY, test=3))
    console = Console(width=200)
    with console.capture() as capture:
        console.print(render(report))
    text = capture.get()
    assert "tiny: 3 train, 2 test images" in text and "not usable as is" in text
    assert "train/b/[red]2.png = train/a/1.png" in text


def test_scene15(shared):
    scene15 = replace(TINY, name="scene15", num_classes=15, train=1500, test=2985)
    report = check(scene15, read(scene15, shared / "data"))
    assert report.ok
    counts = {finding.what: finding.count for finding in report.findings}
    assert counts["test images whose bytes also occur in train"] == 11


def test_an_image_that_rots_is_found(tiny):
    fingerprint.fingerprints(read(TINY, tiny.parent)["train"])
    path = tiny / "train/b/2.png"
    stat = path.stat()
    data = bytearray(path.read_bytes())
    data[-20] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    report, findings = found(tiny)
    (what,) = (what for what in findings if "whose bytes differ from those hashed before" in what)
    assert not report.ok and findings[what] == ("error", ("train/b/2.png",), 1) and "touch" in what


def test_an_image_that_cannot_be_read_is_not_one_that_does_not_decode(tiny, monkeypatch):
    real = os.open

    def lost(path, *flags):
        if str(path).endswith("2.png"):
            raise OSError(errno.EIO, "Input/output error")
        return real(path, *flags)

    monkeypatch.setattr(os, "open", lost)
    report, findings = found(tiny)
    place = f"{tiny / 'train/b/2.png'}: cannot be read: Input/output error"
    assert not report.ok and findings == {"train images that cannot be read": ("error", (place,), 1)}


def test_how_images_are_seen(tiny):
    Image.fromarray(np.full((9, 9), 40_000, np.uint16)).save(tiny / "train/b/2.png")
    report, findings = found(tiny)
    assert report.ok and findings == {f"train images {UPPER}": ("note", ("train/b/2.png",), 1)}


def fewer(root):
    (root / "train/b/2.png").unlink()
    return replace(TINY, train=1)


def more(root):
    draw(root / "train/a/5.png", 9)
    return TINY


def missing(root):
    (root / "test/b/4.png").unlink()
    return TINY


def stray(root):
    (root / "train/__MACOSX").mkdir()
    return TINY


def broken(root):
    (root / "test/b/4.png").write_bytes(b"x")
    return TINY


def black(root):
    Image.fromarray(np.full((9, 9), 40, np.uint16)).save(root / "test/b/4.png")
    return TINY


def piped(root):
    (root / "test/b/4.png").unlink()
    os.mkfifo(root / "test/b/4.png")
    return TINY


def hidden(root):
    draw(root / "train/.ipynb_checkpoints/5.png", 9)
    draw(root / "train/a/._5.png", 9)
    (root / "train/a/notes.txt").write_text("no image")
    return TINY


@pytest.mark.parametrize("change", [lambda root: TINY, fewer, more, missing, stray, broken, black, piped, hidden])
def test_what_is_complete_is_what_training_takes(tiny, change):
    dataset = change(tiny)
    report, _ = found(tiny, dataset)
    try:
        stores = [
            open_pixel_cache(split, RECIPE, tiny.parent / "cache") for split in load(dataset, tiny.parent).values()
        ]
        taken = not any(store.failed for store in stores)
    except DatasetError:
        taken = False
    assert report.ok == taken
