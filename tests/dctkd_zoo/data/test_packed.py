"""Sources `wds` and `hfds`: images in WebDataset shards and Hub tables are as timm's readers give them."""

import gc
import io
import json
import os
import pickle
import tarfile
import warnings
from dataclasses import replace

import datasets
import numpy as np
import pytest
import torch
from PIL import Image
from timm.data import create_reader

from dctkd_zoo import registry
from dctkd_zoo.data.load import load
from dctkd_zoo.data.loader import ImageLoader
from dctkd_zoo.data.pixel_cache import open_pixel_cache
from dctkd_zoo.data.sources import hfds
from dctkd_zoo.errors import DatasetError, DatasetMissing, ZooError
from dctkd_zoo.schedules import Step
from dctkd_zoo.spec import Dataset, Recipe
from eval.__main__ import main as evaluate
from train.__main__ import main as train

CPU = torch.device("cpu")
RECIPE = Recipe(epochs=1, batch_size=7, lr=0.1, schedule=Step(1), resize=16, crop=12)
TRAIN, TEST, CLASSES = 40, 12, ("bar", "mall", "zoo")
WDS = Dataset("packed", "Packed", "wds", num_classes=3, train=TRAIN, test=TEST)
HFDS = replace(WDS, source="hfds")


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """Caches of its own for each test, and no way to the Hub."""
    monkeypatch.setenv("DCTKD_ZOO_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hub")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    return tmp_path / "home"


def encoded(seed):
    """A JPEG whose brightness tells its class."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 60, (20 + seed % 3, 18 + seed % 5, 3)) + 90 * (seed % 3)
    Image.fromarray(pixels.astype(np.uint8)).save(data := io.BytesIO(), "JPEG")
    return data.getvalue()


def add(tar, name, data):
    info = tarfile.TarInfo(name)
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))


def shard(path, seeds):
    """A tar of images, each before its label."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for seed in seeds:
            add(tar, f"{seed:04d}.jpg", encoded(seed))
            add(tar, f"{seed:04d}.cls", str(seed % 3).encode())


@pytest.fixture
def tars(tmp_path):
    """A folder of data with `packed` in four and two shards."""
    root = tmp_path / "data" / "packed"
    for number, seeds in enumerate(np.split(np.arange(TRAIN), [5, 18, 30])):
        shard(root / f"train-{number:04d}.tar", seeds.tolist())
    for number, seeds in enumerate(np.split(np.arange(100, 100 + TEST), [6])):
        shard(root / f"val-{number:04d}.tar", seeds.tolist())
    (root / "classes.txt").write_text("\n".join(CLASSES))
    return tmp_path / "data"


@pytest.fixture
def table(tmp_path):
    """A folder of data with `packed` as a Hub data set in parquet files."""
    names = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=list(CLASSES))})
    for part, seeds in (("train", range(TRAIN)), ("validation", range(100, 100 + TEST))):
        rows = {"image": [{"bytes": encoded(s), "path": None} for s in seeds], "label": [s % 3 for s in seeds]}
        path = tmp_path / "data" / "packed" / "data" / f"{part}-00000-of-00001.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        datasets.Dataset.from_dict(rows, features=names).to_parquet(path)
    return tmp_path / "data"


def seen(dataset, data, cache, recipe=RECIPE):
    """Views of both splits of a data set."""
    splits = load(dataset, data)
    return [
        ImageLoader(open_pixel_cache(split, recipe, cache), torch.tensor(split.labels), recipe, dataset, CPU)
        for split in (splits["train"], splits["test"])
    ]


def read_by_timm(root, split):
    """Images and labels of a split as timm's reader gives them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # webdataset leaves closing its files to the collector
        result = list(create_reader("wds/", root=str(root), split=split))
        gc.collect()
    return result


class TestShards:
    @pytest.mark.parametrize("info", [False, True])
    def test_are_what_timm_reads_in_them(self, tars, info):
        root = tars / "packed"
        names = sorted(path.name for path in root.glob("train-*.tar"))
        if info:
            part = {"name": "train", "num_samples": 25, "filenames": names[1:3], "shard_lengths": [13, 12]}
            other = {"name": "val", "num_samples": 6, "filenames": ["val-0001.tar"], "shard_lengths": [6]}
            (root / "_info.json").write_text(json.dumps({"splits": {"train": part, "validation": other}}))
        split = load(replace(WDS, train=25, test=6) if info else WDS, tars)["train"]
        meta = "train" if info else f"train-{{0000..000{len(names) - 1}}}.tar|{TRAIN}"
        expected = read_by_timm(root, meta)
        assert len(expected) == len(split) == (25 if info else TRAIN) and split.classes == CLASSES
        for index, (image, label) in enumerate(expected):
            np.testing.assert_array_equal(np.asarray(split.images.load(index)), np.asarray(image))
            assert split.labels[index] == label

    def test_pickles_in_them_are_never_unpickled(self, tars, tmp_path):
        class Bomb:
            def __reduce__(self):
                return os.mkdir, (str(tmp_path / "unpickled"),)

        path, bomb = tars / "packed" / "train-0000.tar", pickle.dumps(Bomb())
        with tarfile.open(path, "a") as tar:
            for kind in ("pyd", "pickle", "pkl", "pth", "npy", "cls.pyd", "jpg.pyd"):
                add(tar, f"0004.{kind}", bomb)
            add(tar, "9999.jpg", bomb)
            add(tar, "9999.cls", b"1")
        train, _ = seen(replace(WDS, train=TRAIN + 1), tars, tmp_path / "cache")
        assert len(train.store.failed) == 1 and "train-0000.tar" in train.store.failed[0]
        assert not (tmp_path / "unpickled").exists()
        pickle.loads(bomb)
        assert (tmp_path / "unpickled").exists(), "the bomb is a dud, and the test shows nothing"

    def test_a_store_of_them_is_that_of_the_same_files(self, tars, tmp_path):
        """The store of the same bytes with the same names, from another kind of images."""
        train, _ = seen(WDS, tars, tmp_path / "cache")
        for index in range(TRAIN):
            picture = Image.open(io.BytesIO(encoded(index)))
            scale = 16 / min(picture.size)
            size = tuple(16 if side == min(picture.size) else int(side * scale) for side in picture.size)
            expected = np.asarray(picture.resize(size, Image.Resampling.BILINEAR)).ravel()  # type: ignore[arg-type]
            start = int(train.store.offsets[index])
            np.testing.assert_array_equal(train.store.pixels[0][start : start + len(expected)].numpy(), expected)

    def test_a_label_may_stand_in_json(self, tars):
        with tarfile.open(tars / "packed" / "train-0003.tar", "w") as tar:
            for seed in range(30, TRAIN):
                add(tar, f"a.b/{seed}.json", json.dumps({"label": seed % 3, "pickle": "x"}).encode())
                add(tar, f"a.b/{seed}.x.png", b"never read: the kind is `x.png`")
                add(tar, f"a.b/{seed}.png", encoded(seed))
        split = load(WDS, tars)["train"]
        assert split.labels.tolist() == [seed % 3 for seed in range(TRAIN)] and split.ids[-1] == "train-0003/a.b/39"

    @pytest.mark.parametrize("damage", ["cut", "packed", "unlabelled", "text"])
    def test_broken_ones_are_named(self, tars, damage):
        path = tars / "packed" / "train-0001.tar"
        if damage == "cut":
            os.truncate(path, 10_000)
        elif damage == "text":
            path.write_text("no tar at all" * 100)
        else:
            with tarfile.open(path, "w:gz" if damage == "packed" else "w") as tar:
                add(tar, "0001.jpg", encoded(1))
                add(tar, "0001.cls" if damage == "packed" else "0001.txt", b"1")
        with pytest.raises(DatasetError, match=r"train-0001\.tar|of 40 train images are there"):
            load(WDS, tars)

    def test_a_class_too_many(self, tars):
        (tars / "packed" / "classes.txt").write_text("bar\nmall")
        with pytest.raises(DatasetMissing, match="labels 0 to 2 of 2 classes"):
            load(WDS, tars)

    def test_none(self, tmp_path):
        with pytest.raises(DatasetMissing, match=r"there is no train\*\.tar"):
            load(WDS, tmp_path)

    def test_an_index_is_kept_until_its_tar_changes(self, tars, home, monkeypatch):
        load(WDS, tars)
        real, opened = tarfile.open, []

        def told(path, *more, **how):
            opened.append(path.name)
            return real(path, *more, **how)

        monkeypatch.setattr(tarfile, "open", told)
        load(WDS, tars)
        assert opened == []
        shard(tars / "packed" / "train-0002.tar", range(18, 30))
        (kept := sorted((home / "tars").iterdir())[0]).write_bytes(b"{}" + kept.read_bytes())
        load(WDS, tars)
        assert "train-0002.tar" in opened and len(set(opened)) <= 2


class TestHub:
    def test_a_table_is_read(self, table):
        splits = load(HFDS, table)
        for name, first, count in (("train", 0, TRAIN), ("test", 100, TEST)):
            split = splits[name]
            assert split.classes == CLASSES and split.labels.tolist() == [s % 3 for s in range(first, first + count)]
            assert [split.images.payload(index) for index in range(count)] == [
                encoded(seed) for seed in range(first, first + count)
            ]

    def test_tar_shards_are_left_to_the_source_that_decodes_images_alone(self, tars):
        (tars / "packed" / "classes.txt").unlink()
        with pytest.raises(DatasetError, match="read them with the source 'wds'"):
            load(HFDS, tars)

    def test_columns_by_other_names(self, tmp_path):
        path = tmp_path / "packed" / "train.parquet"
        path.parent.mkdir()
        datasets.Dataset.from_dict({"image": ["a", "b"], "scene": [0, 1]}).to_parquet(path)
        with pytest.raises(DatasetError, match="no column label; it has image, scene"):
            load(HFDS, tmp_path)

    def test_a_folder_of_images_is_read(self, tmp_path):
        for part, seeds in (("train", range(TRAIN)), ("test", range(TEST))):
            for seed in seeds:
                path = tmp_path / "packed" / part / CLASSES[seed % 3] / f"{seed:03d}.jpg"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(encoded(seed))
        split = load(HFDS, tmp_path)["train"]
        order = sorted(range(TRAIN), key=lambda seed: (seed % 3, seed))  # by class, then by name
        assert split.classes == CLASSES and split.labels.tolist() == [seed % 3 for seed in order]
        assert [split.images.payload(index) for index in range(TRAIN)] == [encoded(seed) for seed in order]

    def test_a_set_is_named_after_a_slash(self, table, tmp_path):
        folder = tmp_path / "elsewhere"
        (table / "packed").rename(folder)
        assert len(load(replace(WDS, source=f"hfds/{folder}"), tmp_path)["train"]) == TRAIN

    def test_one_that_is_not_there(self, tmp_path):
        with pytest.raises(DatasetMissing, match="timm's reader hfds finds no split train"):
            load(HFDS, tmp_path)

    def test_the_missing_package_is_named(self, table, monkeypatch):
        monkeypatch.setattr(hfds, "find_spec", lambda name: None if name == "datasets" else object())
        with pytest.raises(ZooError, match=r"datasets: pip install 'dctkd-zoo\[datasets\]'"):
            load(HFDS, table)


CATALOG = """
from dctkd_zoo.spec import Cosine, Dataset, Entry, Recipe
DATASET = Dataset("packed", "Packed", "SOURCE", num_classes=3, train=40, test=12)
RECIPE = Recipe(epochs=2, batch_size=20, lr=0.05, schedule=Cosine(), resize=16, crop=12)
ENTRIES = (
    Entry("r8_packed", RECIPE, {"ce": 1.0}),
    Entry("r8_dctkd_packed", RECIPE, {"ce": 1.0, "dctkd": 1.0}, "r8_packed"),
)
"""


def forget():
    """Drop catalog files that were included."""
    registry._MODULES.clear()
    registry._bundled_and_included.cache_clear()


@pytest.mark.parametrize("source", ["wds", "hfds"])
def test_a_packed_set_is_trained_on_and_evaluated(request, tmp_path, monkeypatch, source):
    data = request.getfixturevalue("tars" if source == "wds" else "table")
    monkeypatch.setattr(registry, "_MODULES", [])
    forget()
    (file := tmp_path / "packed.py").write_text(CATALOG.replace("SOURCE", source))
    where = ["--catalog", str(file), "--data", str(data), "--out", str(tmp_path / "out"), "--device", "cpu"]
    try:
        assert train(["r8_packed", "r8_dctkd_packed", *where]) == 0
        forget()
        assert evaluate(["r8_dctkd_packed", *where, "--json", str(tmp_path / "found.json")]) == 0
    finally:
        forget()
    assert "top1" in (tmp_path / "found.json").read_text()
