"""A teacher's knowledge on disk: what comes back, what it is keyed by, and training with it."""

from __future__ import annotations

import csv
import importlib
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console
from safetensors.torch import load_file
from torch import Tensor

from dctkd_zoo import errors, losses, models, registry, teacher_cache, teachers, weights
from dctkd_zoo._io import hashing
from dctkd_zoo.data.loader import ImageLoader
from dctkd_zoo.data.pixel_cache import PixelCache
from dctkd_zoo.features import FeatureExtractor
from dctkd_zoo.schedules import Cosine
from dctkd_zoo.spec import Dataset, Entry, Recipe
from dctkd_zoo.teacher_cache import CacheFormat, FixedView
from dctkd_zoo.weights import Weights
from train import teacher_source
from train.__main__ import main

CPU = torch.device("cpu")
DATASET = Dataset("patches", "Patches", source="folders", num_classes=3, train=24, test=12)
RECIPE = Recipe(epochs=3, batch_size=8, lr=0.05, schedule=Cosine(0.2), resize=20, pad=2, crop=16)

CACHEABLE = ["at", "cat", "crd", "dctkd", "dist", "dkd", "e2kd", "fft", "kd", "pkt", "wavelet"]


def views(images: int = 10) -> ImageLoader:
    """Random images, each 24 x 24 px in its store."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (images * 24 * 24 * 3,), generator=generator, dtype=torch.uint8)
    side = torch.full((images,), 24)
    store = PixelCache((pixels,), torch.arange(images) * 24 * 24 * 3, side, side, (), "digest")
    return ImageLoader(store, torch.arange(images) % 3, RECIPE, DATASET, CPU)


def teacher(sha256: str = "1" * 64, name: str = "r14", folder: Path = Path()) -> teachers.Teacher:
    torch.manual_seed(0)
    network = FeatureExtractor(models.create("r14", 3)).eval().requires_grad_(False)
    return teachers.Teacher(name, network, Weights(folder, "test", sha256))


def mapping() -> teachers.Teacher:
    """The teacher with class maps."""
    result = teacher()
    result.network.enable_class_maps(torch.randn(2, 3, 16, 16))
    return result


def configured(folder: Path, **config: object) -> teachers.Teacher:
    """The teacher with a `config.json`."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"architecture": "resnet18", **config}))
    return teacher(folder=folder)


def ignored(done: int, total: int) -> None:
    """No progress to show."""


def opened(
    tmp_path: Path, dtype: torch.dtype = torch.float32, known: teachers.Teacher | None = None
) -> teacher_cache.TeacherCache:
    seen, known = views(), known or teacher()
    view, form = FixedView("fixed 0", seen.fixed(0)), CacheFormat(torch.float32, dtype)
    path = teacher_cache.folder(known, seen, view, form, tmp_path)
    return teacher_cache.open_teacher_cache(known, seen, view, form, path, ignored)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float16, 2e-3)])
@pytest.mark.parametrize("name", CACHEABLE)
def test_terms_make_of_it_what_they_make_of_the_teacher(tmp_path, name, dtype, tolerance):
    guide, seen = mapping(), views()
    known = opened(tmp_path, dtype, guide)
    torch.manual_seed(1)
    student = FeatureExtractor(models.create("r8", 3)).eval()
    student.enable_class_maps(torch.randn(2, 3, 16, 16))
    student.train()
    batch = seen.batch(torch.tensor([7, 0, 3]), seen.fixed(0))
    live, ours = guide.network(batch.images), student(batch.images)
    term = losses.create(name)
    term.setup(ours, live, seen.labels)
    values = []
    for taught in (live, known.output(batch)):
        torch.manual_seed(2)
        values.append(term.eval()(ours, taught, batch))
    torch.testing.assert_close(values[1], values[0], rtol=tolerance, atol=tolerance * values[0].abs().max().item())


def test_the_teacher_runs_once(tmp_path, monkeypatch):
    first = opened(tmp_path)
    monkeypatch.setattr(FeatureExtractor, "forward", lambda self, images: pytest.fail("run again"))
    again = opened(tmp_path)
    assert torch.equal(first.logits, again.logits)
    assert all(torch.equal(a, b) for a, b in zip(first.maps, again.maps, strict=True))


def test_whatever_changes_its_content_changes_its_place(tmp_path):
    seen = views()
    view = FixedView("fixed 0", seen.fixed(0))

    def place(**changes: Any) -> Path:
        meta: dict[str, Any] = {
            "teacher": teacher(),
            "views": seen,
            "view": view,
            "cache_format": CacheFormat(torch.float32, torch.float16),
            "cache": tmp_path,
        }
        return teacher_cache.folder(**{**meta, **changes})

    changes: list[dict[str, Any]] = [
        {"teacher": teacher("2" * 64)},
        {"teacher": teacher(name="local-dir:r14")},
        {"teacher": mapping()},
        {"teacher": configured(tmp_path / "one", pretrained_cfg={"mean": [0.5, 0.5, 0.5]})},
        {"teacher": configured(tmp_path / "two", pretrained_cfg={"mean": [0.4, 0.5, 0.5]})},
        {"teacher": configured(tmp_path / "three", model_args={"act_layer": "gelu"})},
        {"views": replace(seen, device=torch.device("meta"))},
        {"view": FixedView("fixed 1", seen.fixed(1))},
        {"cache_format": CacheFormat(torch.bfloat16, torch.float16)},
        {"cache_format": CacheFormat(torch.float32, torch.float32)},
        {"cache_format": CacheFormat(torch.float32, torch.float16, means=True)},
        {"views": replace(seen, store=replace(seen.store, digest="other"))},
        {"views": replace(seen, recipe=replace(RECIPE, crop=12))},
        {"views": replace(seen, recipe=replace(RECIPE, pad_mode="reflect"))},
        {"views": replace(seen, recipe=replace(RECIPE, flip=False))},
        {"views": replace(seen, dataset=replace(DATASET, mean=(0.5, 0.5, 0.5)))},
    ]
    places = {place(), *(place(**change) for change in changes)}
    assert len(places) == 1 + len(changes)
    assert place(views=replace(seen, recipe=replace(RECIPE, epochs=9, lr=1.0, seed=5))) == place()


@pytest.mark.parametrize(
    "file", ["models/__init__.py", "models/resnet_cifar.py", "data/loader.py", "data/sources/synthscenes.py"]
)
def test_code_that_an_image_passes_counts(tmp_path, file):
    shutil.copytree(library := Path(teacher_cache.__file__).parent, tmp_path / "copy", ignore=no_bundle)
    before = hashing.of_files(tmp_path / "copy", teacher_cache.CODE)
    assert before == hashing.of_files(library, teacher_cache.CODE) and before in teacher_cache.made_by()
    with (tmp_path / "copy" / file).open("a") as source:
        source.write("# changed\n")
    assert hashing.of_files(tmp_path / "copy", teacher_cache.CODE) != before


no_bundle = shutil.ignore_patterns("bundled", "__pycache__")


def test_versions_of_the_libraries_count(monkeypatch):
    before = teacher_cache.made_by()
    monkeypatch.setattr(teacher_cache, "version", lambda name: "0.0.1")
    assert teacher_cache.made_by.__wrapped__() != before


def test_a_network_of_the_user_s_own_counts_by_its_file(tmp_path, monkeypatch):
    path = tmp_path / "own_networks.py"
    path.write_text(
        "import timm\nfrom timm.models import register_model\n\n"
        "@register_model\ndef own_resnet(pretrained=False, **told):\n    return timm.create_model('resnet18', **told)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    importlib.import_module("own_networks")
    own, known = (configured(tmp_path / name, architecture=name).weights for name in ("own_resnet", "resnet18"))
    before = weights.registered_code(own), weights.registered_code(known)
    path.write_text(path.read_text().replace("resnet18", "resnet34"))
    assert weights.registered_code(own) != before[0] != "" and weights.registered_code(known) == before[1] == ""


def test_made_anew_it_replaces_what_was_there(tmp_path):
    first = opened(tmp_path)
    (place,) = {path.parent for path in tmp_path.rglob("index.json")}
    other, seen, kept = teacher(), views(), CacheFormat(torch.float32, torch.float32)
    with torch.no_grad():
        other.network.model.get_parameter("fc.bias").add_(1)
    view = FixedView("fixed 0", seen.fixed(0))
    known = [
        teacher_cache.open_teacher_cache(other, seen, view, kept, place, ignored, fresh) for fresh in (False, True)
    ]
    assert torch.equal(known[0].logits, first.logits)
    torch.testing.assert_close(known[1].logits, first.logits + 1)
    assert [path for path in place.parent.iterdir() if path.is_dir()] == [place]


@pytest.mark.parametrize(
    ("value", "dtype", "message"),
    [
        (float("nan"), torch.float32, "teacher r14: outputs are not finite for 10 of 10 images"),
        (float("inf"), torch.float16, "teacher r14, stored as float16: outputs are not finite for 10 of 10"),
        (1e5, torch.float16, "teacher r14, stored as float16: outputs are not finite for 10 of 10 images"),
    ],
)
def test_answers_that_are_no_finite_numbers_are_not_kept(tmp_path, value, dtype, message):
    """Also those that are finite but above what float16 holds."""
    meta, seen, kept = teacher(), views(), CacheFormat(torch.float32, dtype)
    with torch.no_grad():
        meta.network.model.get_parameter("fc.bias")[0] = value
    view = FixedView("fixed 0", seen.fixed(0))
    place = teacher_cache.folder(meta, seen, view, kept, tmp_path)
    with pytest.raises(errors.NonFiniteAnswers, match=message):
        teacher_cache.open_teacher_cache(meta, seen, view, kept, place, ignored)
    assert [path for path in tmp_path.rglob("*") if path.is_file() and path.suffix != ".lock"] == []


def test_a_file_that_is_cut_is_refused_with_the_way_on(tmp_path):
    opened(tmp_path)
    (path,) = tmp_path.rglob("logits.bin")
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(errors.CorruptCache, match=r"logits\.bin: 116 bytes instead of 120; delete"):
        opened(tmp_path)


def test_a_flipped_bit_is_refused_with_the_way_on(tmp_path):
    opened(tmp_path)
    (path,) = tmp_path.rglob("map.1.bin")
    data = bytearray(path.read_bytes())
    data[3] ^= 4
    path.write_bytes(data)
    with pytest.raises(errors.CorruptCache, match=r"map\.1\.bin: damaged, .*; delete"):
        opened(tmp_path)


def test_what_a_killed_build_left_goes_with_the_next(tmp_path):
    opened(tmp_path)
    (result,) = (path.parent for path in tmp_path.rglob("logits.bin"))
    left = result.with_name(f".{result.name}.killed")
    result.rename(left)
    opened(tmp_path)
    assert not left.exists()


def test_a_build_that_stops_leaves_nothing(tmp_path, monkeypatch):
    calls: list[int] = []
    real = FeatureExtractor.forward

    def stops(self: FeatureExtractor, images: Tensor) -> object:
        calls.append(len(images))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(self, images)

    monkeypatch.setattr(FeatureExtractor, "forward", stops)
    with pytest.raises(KeyboardInterrupt):
        opened(tmp_path)
    assert [p for p in tmp_path.rglob("*") if p.is_file() and p.suffix != ".lock"] == []


def test_fixed_views_are_the_same_in_every_run_and_different_from_each_other():
    first, again, other = views().fixed(0), views().fixed(0), views().fixed(1)
    assert torch.equal(first.tops, again.tops)
    assert not torch.equal(first.tops, other.tops)


def test_an_epoch_walks_the_views_in_turn(tmp_path, monkeypatch):
    monkeypatch.setenv("DCTKD_ZOO_HOME", str(tmp_path))
    with (tmp_path / "text").open("w") as file:
        taught = teacher_source.cached(teacher(), views(), 2, torch.float32, Console(file=file, width=200))
    windows = [taught.epoch(number)[0] for number in range(4)]
    for number, window in enumerate(windows):
        assert window is not None
        assert torch.equal(window.tops, views().fixed(number % 2).tops)
    batch = views().batch(torch.tensor([4]), views().fixed(1))
    torch.testing.assert_close(
        taught.epoch(3)[1](batch).logits, teacher().network(batch.images).logits, rtol=2e-3, atol=2e-3
    )


def test_the_disk_it_takes_is_told_before_and_true(tmp_path, monkeypatch):
    monkeypatch.setenv("DCTKD_ZOO_HOME", str(tmp_path))
    many = views(2000)
    with (tmp_path / "text").open("w") as file:
        teacher_source.cached(teacher(), many, 2, torch.float32, Console(file=file, width=200))
    meta = re.search(r"computing 2 of 2 views of 2,000 images, ([\d.]+) MiB", (tmp_path / "text").read_text())
    assert meta is not None
    files = sum(path.stat().st_size for path in (tmp_path / "knowledge").rglob("*.bin"))
    assert float(meta[1]) == pytest.approx(files / 2**20, abs=0.06)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Folders of images of three grey levels, and entries on them."""
    root = tmp_path_factory.mktemp("world")
    rng = np.random.default_rng(0)
    for split, count in (("train", 8), ("test", 4)):
        for kind, name in enumerate(("dark", "grey", "light")):
            folder = root / "data" / "patches" / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = np.clip(60 + 70 * kind + rng.normal(0, 10, (24, 24, 3)), 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.png")
    return root


@pytest.fixture
def entries(world, monkeypatch):
    """The entries in the registry, the cache in the world's folder."""
    monkeypatch.setenv("DCTKD_ZOO_HOME", str(world / "home"))
    monkeypatch.setattr(registry, "_MODULES", [])
    registry._bundled_and_included.cache_clear()
    path = world / "patches.py"
    path.write_text("from tests.dctkd_zoo.test_teacher_cache import DATASET, ENTRIES\n")
    registry.include(path)
    yield
    registry._bundled_and_included.cache_clear()


ENTRIES = (
    Entry("r14_patches", RECIPE, {"ce": 1.0}),
    Entry("r8_at_kd_patches", RECIPE, {"ce": 0.1, "at": 10.0, "kd": 1.0}, teacher="r14_patches"),
    Entry("r8_vid_patches", RECIPE, {"ce": 1.0, "vid": 1.0}, teacher="r14_patches"),
)


def train(world: Path, out: str, *more: str) -> int:
    return main([*more, "--data", str(world / "data"), "--out", str(world / out), "--device", "cpu"])


def test_training_with_a_cached_teacher_is_recorded_and_repeatable(world, entries, capsys):
    assert train(world, "a", "r14_patches", "r8_at_kd_patches", "--teacher-cache", "2") == 0
    assert "2 of 2 views of 24 images" in capsys.readouterr().out
    folder = world / "a" / "r8_at_kd_patches"
    recipe = json.loads((folder / "recipe.json").read_text())
    assert recipe["command"] == "python -m train r8_at_kd_patches --teacher-cache 2"
    for facts in ("environment.json", "results.json"):
        assert json.loads((folder / facts).read_text())["teacher_cache"] == 2
    assert json.loads((world / "a" / "r14_patches" / "results.json").read_text())["teacher_cache"] is None
    assert "teacher-cache" not in json.loads((world / "a" / "r14_patches" / "recipe.json").read_text())["command"]
    with (folder / "train_log.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == 3

    (world / "b").mkdir()
    (world / "a" / "r14_patches").rename(world / "b" / "r14_patches")
    assert train(world, "b", "r8_at_kd_patches", "--teacher-cache", "2") == 0
    assert "teacher cache: computing" not in capsys.readouterr().out
    first, again = (load_file(world / out / "r8_at_kd_patches" / weights.WEIGHTS) for out in "ab")
    assert all(torch.equal(first[name], again[name]) for name in first)

    assert train(world, "b", "r8_at_kd_patches") == 1
    assert "was trained with another command" in capsys.readouterr().err
    (world / "b" / "r14_patches").rename(world / "a" / "r14_patches")


def test_terms_that_read_whole_features_say_that_they_cannot_use_it(world, entries, capsys):
    assert train(world, "c", "r14_patches", "r8_vid_patches", "--teacher-cache", "1") == 1
    assert "vid: compares whole feature maps, which a teacher cache does not hold" in capsys.readouterr().err


@pytest.mark.parametrize("count", ["0", "-1"])
def test_fewer_than_one_view_is_refused(world, entries, capsys, count):
    with pytest.raises(SystemExit):
        train(world, "d", "r14_patches", "--teacher-cache", count)
    assert "at least 1" in capsys.readouterr().err


def test_a_corrected_config_of_the_teacher_is_another_teacher(world, entries, tmp_path, capsys):
    """The same weights fed with another mean: what the cache holds of it is not used, and a run does not go on."""
    assert train(world, "e", "r14_patches") == 0
    folder = tmp_path / "teacher"
    shutil.copytree(world / "e" / "r14_patches", folder, ignore=shutil.ignore_patterns("SHA256SUMS"))
    right = (folder / "config.json").read_text()
    meta = json.loads(right)
    meta["pretrained_cfg"]["mean"] = [0.6, 0.5, 0.5]
    path = tmp_path / "own.py"
    path.write_text(
        "from tests.dctkd_zoo.test_teacher_cache import RECIPE\nfrom dctkd_zoo.spec import Entry\n"
        f"ENTRIES = (Entry('r8_kd_patches', RECIPE, {{'ce': 1.0, 'kd': 1.0}}, teacher='local-dir:{folder}'),)\n"
    )
    registry.include(path)
    made = []
    for out, config in (("wrong", json.dumps(meta)), ("right", right), ("again", right)):
        (folder / "config.json").write_text(config)
        capsys.readouterr()
        assert train(world, f"e_{out}", "r8_kd_patches", "--teacher-cache", "1") == 0
        made.append("1 of 1 views" in capsys.readouterr().out)
    assert made == [True, True, False]
    wrong, good, again = (load_file(world / f"e_{out}" / "r8_kd_patches" / weights.WEIGHTS) for out in OUTS)
    assert all(torch.equal(good[name], again[name]) for name in good)
    assert not all(torch.equal(good[name], wrong[name]) for name in good)
    facts = [json.loads((world / f"e_{out}" / "r8_kd_patches" / "environment.json").read_text()) for out in OUTS]
    assert len({item["teacher_sha256"] for item in facts}) == 1
    assert facts[1]["teacher_config_sha256"] == hashing.sha256(folder / "config.json")
    assert facts[0]["teacher_config_sha256"] != facts[1]["teacher_config_sha256"]


OUTS = ("wrong", "right", "again")
