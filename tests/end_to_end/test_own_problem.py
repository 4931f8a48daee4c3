"""A user's own images and catalog file (docs/training.md): other families of networks, teachers from outside."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import load_file
from timm.models import save_for_hf

from dctkd_zoo import errors, losses, models, registry, teachers, weights
from dctkd_zoo.__main__ import main as zoo
from dctkd_zoo._io import hashing
from dctkd_zoo.data.batch import Batch
from dctkd_zoo.features import FeatureExtractor, run
from dctkd_zoo.losses import create as create_loss
from eval.__main__ import main as evaluate
from tests.world import CLASSES, draw
from train.__main__ import main as train

PAGE = (Path(__file__).parents[2] / "docs" / "training.md").read_text(encoding="utf-8")


def shown() -> str:
    """Return the catalog file in docs/training.md."""
    result = re.search(r"```python\n(# my_scenes\.py.*?)```", PAGE, flags=re.S)
    assert result is not None
    return result[1]


def smaller(file: str, start: Path) -> str:
    """The file for the images below: small networks and sizes, few epochs, weights to start from that are here."""
    for old, new in (
        (r'Arch\("convnext_\w+"\)', 'Arch("test_convnext")'),
        (r'Arch\("mobilenet\w+"\)', 'Arch("mobilenetv3_small_050")'),
        (r"num_classes=\d+, train=\d+, test=\d+", "num_classes=3, train=96, test=48"),
        (r"batch_size=\d+", "batch_size=16"),
        (r"resize=\d+, crop=\d+", "resize=40, crop=32"),
        (r"epochs=20\b", "epochs=6"),
        (r"epochs=60\b", "epochs=2"),
        (r"lr=0\.01", "lr=0.05"),
        (r'pretrained="\w+"', f'pretrained="local-dir:{start}"'),
    ):
        file, count = re.subn(old, new, file)
        assert count, f"the file in docs/training.md has no {old}"
    return file


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A folder of images, a network in timm's format to start from, and the documented file beside them."""
    root = tmp_path_factory.mktemp("world")
    draw(root / "data" / "myscenes", train=32, test=16, size=(44, 48), pitch=0.9, contrast=80)
    torch.manual_seed(0)
    start = root / "start"
    save_for_hf(timm.create_model("test_convnext", num_classes=1000), str(start), safe_serialization=True)
    (root / "my_scenes.py").write_text(smaller(shown(), start))
    return root


@pytest.fixture(autouse=True)
def home(world, monkeypatch):
    monkeypatch.setenv("DCTKD_ZOO_HOME", str(world / "home"))
    monkeypatch.setattr(registry, "_MODULES", [])
    registry._bundled_and_included.cache_clear()
    yield
    registry._bundled_and_included.cache_clear()


def arguments(world: Path, *more: str) -> list[str]:
    """Where everything is, for the commands."""
    where = ["--catalog", str(world / "my_scenes.py"), "--data", str(world / "data"), "--out", str(world / "out")]
    return [*where, "--device", "cpu", *more]


@pytest.fixture(scope="module")
def trained(world):
    """The documented file trained by the command: a ConvNeXt from weights of other classes, then a MobileNet by it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DCTKD_ZOO_HOME", str(world / "home"))
        patch.setattr(registry, "_MODULES", [])
        registry._bundled_and_included.cache_clear()
        assert train(["mbv3_dctkd_myscenes", "cnxn_myscenes", *arguments(world)]) == 0
    registry._bundled_and_included.cache_clear()
    return world / "out"


def test_the_documented_file_has_twelve_lines_and_fits_the_zoo(tmp_path, capsys):
    assert len([line for line in shown().splitlines() if line.strip()]) <= 12
    path = tmp_path / "my_scenes.py"
    path.write_text(shown())
    assert zoo(["list", "*myscenes*", "--catalog", str(path)]) == 0
    listed = capsys.readouterr().out
    assert "cnxn_myscenes" in listed
    assert "mbv3_dctkd_myscenes" in listed
    registry._bundled_and_included.cache_clear()


def test_a_mobilenet_learns_from_a_convnext(world, trained, capsys):
    folder = trained / "mbv3_dctkd_myscenes"
    assert json.loads((folder / "config.json").read_text())["architecture"] == "mobilenetv3_small_050"
    plain = timm.create_model(f"local-dir:{folder}", pretrained=True)
    assert plain.num_classes == 3
    assert evaluate(["mbv3_dctkd_myscenes", *arguments(world)]) == 0
    assert "mbv3_dctkd_myscenes" in capsys.readouterr().out
    row = json.loads((folder / "results.json").read_text())
    assert row["teacher"] == "cnxn_myscenes"
    assert row["teacher_sha256"] == hashing.sha256(trained / "cnxn_myscenes" / weights.WEIGHTS)


def test_training_can_start_from_a_folder_of_other_classes(world, trained):
    registry.include(world / "my_scenes.py")
    entry = registry.get_entry("cnxn_myscenes")
    teacher = timm.create_model(f"local-dir:{world / 'start'}", pretrained=True).state_dict()
    student = models.initial(entry, 3).state_dict()
    assert all(torch.equal(student[name], teacher[name]) for name in student if not name.startswith("head.fc"))
    assert student["head.fc.weight"].shape[0] == 3


def test_training_can_start_from_another_entry_and_records_which(world, trained, monkeypatch):
    registry.include(world / "my_scenes.py")
    path = world / "further.py"
    path.write_text("""
from dataclasses import replace
from dctkd_zoo import registry
FIRST = registry.get_entry("cnxn_myscenes")
START = replace(FIRST.recipe, pretrained="entry:cnxn_myscenes")
ENTRIES = (replace(FIRST, name="cnxn_myscenes.further", recipe=START),)
""")
    where = arguments(world)[2:]
    monkeypatch.setenv("DCTKD_ZOO_HOME", str(world / "empty"))
    elsewhere = ["--data", str(world / "data"), "--out", str(world / "nothing")]
    assert train(["cnxn_myscenes.further", "--catalog", str(path), *elsewhere]) == 1
    assert train(["cnxn_myscenes.further", *where]) == 0
    first, further = (world / "out" / name for name in ("cnxn_myscenes", "cnxn_myscenes.further"))
    meta = json.loads((further / "environment.json").read_text())
    assert meta["start_sha256"] == hashing.sha256(first / weights.WEIGHTS)
    entry = registry.get_entry("cnxn_myscenes.further")
    begun, teacher = (
        models.initial(entry, 3, models.start(entry, world / "out")).state_dict(),
        load_file(first / weights.WEIGHTS),
    )
    assert begun.keys() == teacher.keys() and all(torch.equal(begun[name], teacher[name]) for name in begun)


def other_catalog(world: Path, teacher: str, arch: str = "test_vit", term: str = "at") -> Path:
    """A catalog file besides the documented one, with one more student."""
    path = world / f"{arch}_{term}.py"
    path.write_text(f"""
from dctkd_zoo.spec import Arch, Cosine, Entry, Recipe
from dctkd_zoo import registry

ARCHS = {{"own": Arch({arch!r})}}
RECIPE = Recipe(epochs=2, batch_size=16, lr=0.05, schedule=Cosine(), resize=40, crop=32)
ENTRIES = (Entry("own_{term}_myscenes", RECIPE, {{"ce": 1.0, {term!r}: 1.0}}, teacher={teacher!r}),)
""")
    return path


def test_a_network_from_outside_teaches_and_a_vit_learns(world, trained, capsys):
    registry.include(world / "my_scenes.py")
    path = other_catalog(world, f"local-dir:{trained / 'cnxn_myscenes'}")
    where = arguments(world)[2:]
    assert train(["own_at_myscenes", "--catalog", str(path), *where]) == 0
    folder = world / "out" / "own_at_myscenes"
    assert json.loads((folder / "config.json").read_text())["model_args"]["img_size"] == [32, 32]
    assert timm.create_model(f"local-dir:{folder}", pretrained=True)(torch.zeros(1, 3, 32, 32)).shape == (1, 3)
    assert f"local-dir:{trained / 'cnxn_myscenes'}" in capsys.readouterr().out
    row = json.loads((folder / "results.json").read_text())
    assert row["teacher"].startswith("local-dir:")
    assert np.isfinite(row["ssim"])


def test_a_teacher_of_other_classes_is_refused_with_the_way_on(world, capsys):
    registry.include(world / "my_scenes.py")
    path = other_catalog(world, f"local-dir:{world / 'start'}", term="pkt")
    assert train(["own_pkt_myscenes", "--catalog", str(path), *arguments(world)[2:]]) == 1
    meta = capsys.readouterr().err
    assert "has 1000 classes, the student 3" in meta
    assert "an entry of your own" in meta


def test_a_teacher_that_numbers_the_classes_otherwise_is_refused(world, trained):
    registry.include(world / "my_scenes.py")
    dataset = registry.get_dataset("myscenes")
    name, cpu = f"local-dir:{trained / 'cnxn_myscenes'}", torch.device("cpu")
    assert teachers.load(name, dataset, CLASSES, cpu, None).name == name
    with pytest.raises(errors.TeacherMismatch, match="output 0 is 'across', but 'slanted' in the data"):
        teachers.load(name, dataset, CLASSES[::-1], cpu, None)


def test_a_network_from_outside_sees_images_as_it_was_trained_to(tmp_path):
    """A ViT of one size and another normalisation gives what it gives of images prepared for it."""
    torch.manual_seed(0)
    vit = timm.create_model("vit_tiny_patch16_224", num_classes=3, img_size=48, depth=2).eval()
    data = {"input_size": (3, 48, 48), "mean": (0.5, 0.4, 0.3), "std": (0.2, 0.3, 0.4)}
    save_for_hf(vit, str(tmp_path), safe_serialization=True, data_config=data)
    dataset = registry.get_dataset("synthscenes")
    teacher = teachers.load(f"local-dir:{tmp_path}", dataset, CLASSES, torch.device("cpu"), None)
    pixels = torch.rand(2, 3, 32, 32)

    def normalised(images: torch.Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> torch.Tensor:
        return (images - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)

    larger = torch.nn.functional.interpolate(pixels, (48, 48), mode="bilinear", antialias=True)
    with torch.no_grad():
        expected = run(vit, normalised(larger, data["mean"], data["std"]))
        student = teacher.network(normalised(pixels, dataset.mean, dataset.std))
    torch.testing.assert_close(student.logits, expected.logits, rtol=1e-4, atol=1e-4)
    assert [m.shape for m in student.maps] == [m.shape for m in expected.maps]


TERM = """
'Peaks: how far apart the brightest places of the deepest maps are.'
from torch import Tensor
from dctkd_zoo.data.batch import Batch
from dctkd_zoo.features import Output
from dctkd_zoo.levels import map_pairs
from dctkd_zoo.losses import Term


class Peaks(Term):
    def forward(self, student: Output, teacher: Output, batch: Batch) -> Tensor:
        ours, theirs = map_pairs(student, teacher)[-1]
        return (ours.amax(dim=(1, 2)) - theirs.amax(dim=(1, 2))).square()
"""


def test_a_term_is_one_new_file(world, trained, tmp_path, monkeypatch):
    """Dropped among the others, it has a name, an objective, a column in the log and a word in the entry's name."""
    (tmp_path / "peaks.py").write_text(TERM)
    monkeypatch.setattr(losses.__spec__, "submodule_search_locations", [*losses.__path__, str(tmp_path)])
    monkeypatch.setattr(losses, "__path__", [*losses.__path__, str(tmp_path)])
    assert "peaks" in losses.names()
    registry.include(world / "my_scenes.py")
    path = other_catalog(world, f"local-dir:{trained / 'cnxn_myscenes'}", "mobilenetv3_small_050", "peaks")
    assert train(["own_peaks_myscenes", "--catalog", str(path), *arguments(world)[2:]]) == 0
    log = (world / "out" / "own_peaks_myscenes" / "train_log.csv").read_text().splitlines()
    assert "peaks" in log[0].split(",")
    assert len(log) == 3


@pytest.mark.parametrize("name", ["dctkd", "at", "pkt", "vid", "ckd", "review", "sp", "fft", "wavelet"])
def test_a_resnet_is_trained_by_a_vit_that_sees_larger_images(name):
    torch.manual_seed(0)
    teacher = FeatureExtractor(timm.create_model("test_vit", num_classes=5, img_size=96)).eval()
    student = FeatureExtractor(models.create("r18", 5)).train()
    images, labels = torch.randn(4, 3, 96, 96), torch.tensor([0, 1, 2, 3])
    small = torch.nn.functional.interpolate(images, (64, 64), mode="bilinear", antialias=True)
    with torch.no_grad():
        guide = teacher(images)
    loss = create_loss(name, **({"guided": False} if name == "dctkd" else {}))
    loss.setup(student(small), guide)
    optimizer = torch.optim.SGD([*student.parameters(), *loss.parameters()], lr=0.01)
    values = []
    for _ in range(8):
        value = loss(student(small), guide, Batch(small, labels, torch.arange(4))).mean()
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        values.append(value.item())
    assert values[-1] < values[0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("ENTRIES", "ENTRY"), "ENTRIES is None but should be"),
        (('"mbv3_dctkd_myscenes"', '"mnv5_dctkd_myscenes"'), "unknown architecture 'mnv5'"),
        (('"mbv3_dctkd_myscenes"', '"mbv3_dctkd_scenes"'), "unknown dataset 'scenes'"),
        (('source="folders"', 'source="folder"'), "unknown source 'folder'; available:"),
        (("dctkd", "dctk"), "unknown loss term dctk; available: at, cat, ce"),
        (('teacher="cnxn_myscenes"', 'teacher="cnxn_myscene"'), "teacher 'cnxn_myscene' is neither an entry"),
        (('"cnxn": Arch', '"r18": Arch'), "two architectures are called 'r18'"),
    ],
)
def test_a_file_with_a_mistake_is_refused_with_what_is_wrong(world, tmp_path, capsys, change, message):
    old, new = change
    text = (world / "my_scenes.py").read_text()
    assert old in text
    path = tmp_path / "mine.py"
    path.write_text(text.replace(old, new).replace("dctk_zoo", "dctkd_zoo"))
    assert zoo(["list", "--catalog", str(path)]) == 1
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("side", [16, 32, 48])
@pytest.mark.parametrize("named", ["entry", "folder"])
def test_a_teacher_sees_images_at_the_size_it_was_trained_on(world, trained, named, side):
    """A ConvNet takes images of any size, and knows little of those that are smaller or larger than its own, 32 px."""
    registry.include(world / "my_scenes.py")
    name = "cnxn_myscenes" if named == "entry" else f"local-dir:{trained / 'cnxn_myscenes'}"
    dataset = registry.get_dataset("myscenes")
    teacher = teachers.load(name, dataset, CLASSES, torch.device("cpu"), trained)
    plain = timm.create_model(f"local-dir:{trained / 'cnxn_myscenes'}", pretrained=True).eval()
    images = torch.randn(2, 3, side, side)
    own = images
    if side != 32:
        own = torch.nn.functional.interpolate(images, (32, 32), mode="bilinear", antialias=True)
    with torch.no_grad():
        expected, student = run(plain, own), teacher.network(images)
    torch.testing.assert_close(student.logits, expected.logits)
    assert [m.shape for m in student.maps] == [m.shape for m in expected.maps]
    assert side != 32 or torch.equal(student.logits, expected.logits)


def test_of_the_teachers_only_that_of_miniplaces_is_resized_for():
    """Teacher and student of an entry see images of one size, and a bundled network's config tells its recipe's.

    But for MiniPlaces, whose teacher sees its student's crops enlarged to the size that its weights were made for.
    """
    pairs = [(entry, registry.get_entry(entry.teacher)) for entry in registry.entries().values() if entry.teacher]
    assert len(pairs) > 100
    for student, teacher in pairs:
        sizes = (student.recipe.crop, teacher.recipe.crop)
        assert sizes == (96, 128) if student.dataset == "miniplaces12k" else sizes[0] == sizes[1], student.name
    for folder in weights.BUNDLED.iterdir():
        crop = registry.get_entry(folder.name).recipe.crop
        assert weights.read_config(folder)["pretrained_cfg"]["input_size"] == [3, crop, crop]
