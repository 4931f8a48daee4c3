"""Images in WebDataset shards, Hub tables and streams: as timm's readers give them, stored or decoded when seen."""

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
from timm.data import create_reader  # type: ignore[attr-defined]

from dctkd_zoo import registry
from dctkd_zoo.data import loader, shards
from dctkd_zoo.data import split as packed
from dctkd_zoo.data.load import load
from dctkd_zoo.data.loader import ImageLoader, shuffled
from dctkd_zoo.data.pixel_cache import open_pixel_cache
from dctkd_zoo.data.sources import hfds
from dctkd_zoo.data.split import Stream, digest
from dctkd_zoo.errors import DatasetError, DatasetMissing, ZooError
from dctkd_zoo.schedules import Step
from dctkd_zoo.spec import Dataset, Recipe
from eval.__main__ import main as evaluate
from train.__main__ import main as train

CPU = torch.device("cpu")
RECIPE = Recipe(epochs=1, batch_size=7, lr=0.1, schedule=Step(1), resize=16, crop=12)
TRAIN, TEST, CLASSES = 40, 12, ("bar", "mall", "zoo")
WDS = Dataset("packed", "Packed", "wds", num_classes=3, train=TRAIN, test=TEST)


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


def equal(student, teacher):
    """Whether two lists of batches are the same, bit by bit."""
    return all(torch.equal(a, b) for x, y in zip(student, teacher, strict=True) for a, b in zip(x, y, strict=True))


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


class TestStreamed:
    """Decoded as they are seen: nothing but speed and disk space tells that from a store."""

    @pytest.mark.parametrize("recipe", [RECIPE, replace(RECIPE, pad=3, pad_mode="reflect", flip=False)])
    def test_batches_are_those_of_a_store(self, tars, tmp_path, recipe):
        kept, kept_test = seen(WDS, tars, tmp_path / "cache", recipe)
        live, live_test = seen(replace(WDS, streamed=True), tars, tmp_path / "cache", recipe)
        assert kept.store.parts == () and live.store.parts == (5, 13, 12, 10) and live.store.pixels == ()
        assert kept.cache_key() == live.cache_key() and live.store.digest == digest(load(WDS, tars)["train"])
        assert equal(live_test.test(5), kept_test.test(5))
        assert equal(live.iter_ordered(live.fixed(1), 6), kept.iter_ordered(kept.fixed(1), 6))
        straight = replace(live, store=replace(live.store, parts=()))
        assert equal(straight.train(3, 4), kept.train(3, 4))
        ids = torch.tensor([39, 0, 17])
        assert equal([live.batch(ids, live.fixed(2))], [kept.batch(ids, kept.fixed(2))])

    def test_no_pixel_is_written(self, tars, tmp_path):
        seen(replace(WDS, streamed=True), tars, tmp_path / "cache")
        assert {path.suffix for path in (tmp_path / "cache").rglob("*") if path.is_file()} == {".json", ".lock"} - (
            set() if list((tmp_path / "cache").rglob("*.lock")) else {".lock"}
        )

    def test_an_epoch_has_each_image_once_and_follows_from_its_seed(self, tars, tmp_path):
        live, _ = seen(replace(WDS, streamed=True), tars, tmp_path / "cache")
        epochs = [list(live.train(*key)) for key in ((0, 0), (0, 0), (0, 1), (1, 0))]
        assert equal(epochs[0], epochs[1])
        orders = [torch.cat([batch.ids for batch in epoch]).tolist() for epoch in epochs]
        assert all(sorted(order) == list(range(TRAIN)) for order in orders)
        assert orders[0] != orders[2] and orders[0] != orders[3]
        assert [len(batch.ids) for batch in epochs[0]] == [7] * 5 + [5]

    def test_an_image_that_breaks_later_stops_the_epoch(self, tars, tmp_path):
        live, _ = seen(replace(WDS, streamed=True), tars, tmp_path / "cache")
        raw = bytearray((path := tars / "packed" / "train-0002.tar").read_bytes())
        raw[512:1024] = bytes(512)
        path.write_bytes(raw)
        with pytest.raises(DatasetError, match=r"train-0002\.tar at byte 512: .* it decoded when"):
            list(live.train(0, 0))

    def test_a_batch_left_early_leaves_no_work(self, tars, tmp_path):
        live, _ = seen(replace(WDS, streamed=True), tars, tmp_path / "cache")
        batches = live.train(0, 0)
        next(batches)
        batches.close()


class TestShuffled:
    def test_parts_stay_together_within_reach(self, monkeypatch):
        monkeypatch.setattr(loader, "REACH", 10)
        parts = (50, 30, 120, 300)
        order = shuffled(500, parts, torch.Generator().manual_seed(0))
        assert sorted(order.tolist()) == list(range(500))
        part = torch.repeat_interleave(torch.arange(4), torch.tensor(parts))[order]
        first = torch.tensor([int((part == number).nonzero()[0]) for number in range(4)])
        turn = torch.empty(500, dtype=torch.long)
        position = 0
        for number in first.argsort().tolist():
            start = sum(parts[:number])
            turn[start : start + parts[number]] = torch.arange(position, position + parts[number])
            position += parts[number]
        away = torch.arange(500) - turn[order]
        assert away.abs().max() <= 10 and away.abs().float().mean() > 2

    def test_the_order_of_parts_is_random(self):
        orders = (shuffled(40_000, (10_000,) * 4, torch.Generator().manual_seed(seed)) for seed in range(30))
        assert {order[0].item() // 10_000 for order in orders} == {0, 1, 2, 3}

    def test_without_parts_any_order_is_as_likely(self):
        order = shuffled(1000, (), torch.Generator().manual_seed(5))
        assert torch.equal(order, torch.randperm(1000, generator=torch.Generator().manual_seed(5)))


class TestStream:
    """Images that come in order alone."""

    def stream(self, count=5000):
        self.read = 0

        def start():
            for index in range(count):
                self.read += 1
                yield str(index).encode()

        return Stream(count, start, "a stream", "stamp")

    def test_an_epoch_in_shuffled_order_reads_each_once(self):
        stream = self.stream()
        for seed in range(2):
            order = shuffled(5000, stream.parts, torch.Generator().manual_seed(seed)).tolist()
            assert [int(stream.payload(index)) for index in order] == order
            assert self.read == 5000 * (seed + 1)

    def test_what_nobody_asks_for_is_let_go(self):
        stream = self.stream(20_000)
        for index in range(0, 20_000, 2):
            stream.payload(index)
        assert len(stream._held) <= packed.HELD // 2 + 1 and self.read == 19_999

    def test_what_is_gone_is_read_again(self):
        stream = self.stream()
        assert [stream.payload(index) for index in (4, 2, 4, 0)] == [b"4", b"2", b"4", b"0"]

    def test_one_that_ends_early_is_told(self):
        stream = replace(self.stream(10), count=12)
        with pytest.raises(OSError, match="a stream ends after 10 of 12 images"):
            stream.payload(11)


class TestHub:
    @pytest.mark.parametrize("kind", ["hfds", "hfids"])
    def test_a_table_is_read(self, table, kind):
        splits = load(replace(WDS, source=kind), table)
        for name, first, count in (("train", 0, TRAIN), ("test", 100, TEST)):
            split = splits[name]
            assert split.classes == CLASSES and split.labels.tolist() == [s % 3 for s in range(first, first + count)]
            assert [split.images.payload(index) for index in range(count)] == [
                encoded(seed) for seed in range(first, first + count)
            ]

    def test_a_stream_is_seen_as_the_table_is_stored(self, table, tmp_path):
        kept, kept_test = seen(replace(WDS, source="hfds"), table, tmp_path / "cache")
        live, live_test = seen(replace(WDS, source="hfids", streamed=True), table, tmp_path / "cache")
        assert kept.cache_key() == live.cache_key() and live.store.parts == (TRAIN,)
        assert equal(live_test.test(5), kept_test.test(5))
        straight = replace(kept, store=replace(kept.store, parts=(TRAIN,)))
        assert equal(live.train(0, 0), straight.train(0, 0)) and equal(live.train(0, 1), straight.train(0, 1))

    def test_a_stream_can_be_stored_in_one_pass(self, table, tmp_path, monkeypatch):
        monkeypatch.setattr(shards, "SIZE", 10 * 3 * 16 * 16)
        one, _ = seen(replace(WDS, source="hfids"), table, tmp_path / "a")
        other, _ = seen(replace(WDS, source="hfds"), table, tmp_path / "b")
        assert len(one.store.pixels) == 4 and torch.equal(torch.cat(one.store.pixels), torch.cat(other.store.pixels))

    def test_tar_shards_are_left_to_the_source_that_decodes_images_alone(self, tars):
        (tars / "packed" / "classes.txt").unlink()
        with pytest.raises(DatasetError, match="read them with the source 'wds'"):
            load(replace(WDS, source="hfds"), tars)

    @pytest.mark.parametrize("kind", ["hfds", "hfids"])
    def test_columns_by_other_names(self, tmp_path, kind):
        path = tmp_path / "packed" / "train.parquet"
        path.parent.mkdir()
        datasets.Dataset.from_dict({"image": ["a", "b"], "scene": [0, 1]}).to_parquet(path)
        with pytest.raises(DatasetError, match="label"):
            load(replace(WDS, source=kind), tmp_path)

    def test_a_folder_of_images_is_read(self, tmp_path):
        for part, seeds in (("train", range(TRAIN)), ("test", range(TEST))):
            for seed in seeds:
                path = tmp_path / "packed" / part / CLASSES[seed % 3] / f"{seed:03d}.jpg"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(encoded(seed))
        table, stream = (load(replace(WDS, source=kind), tmp_path)["train"] for kind in ("hfds", "hfids"))
        assert table.classes == stream.classes == CLASSES and table.labels.tolist() == stream.labels.tolist()
        assert digest(table) == digest(stream)
        assert table.images.payload(TRAIN - 1) == encoded(38)

    def test_a_set_is_named_after_a_slash(self, table, tmp_path):
        folder = tmp_path / "elsewhere"
        (table / "packed").rename(folder)
        assert len(load(replace(WDS, source=f"hfds/{folder}"), tmp_path)["train"]) == TRAIN

    @pytest.mark.parametrize("kind", ["hfds", "hfids"])
    def test_one_that_is_not_there(self, tmp_path, kind):
        with pytest.raises(DatasetMissing, match=f"timm's reader {kind} finds no split train"):
            load(replace(WDS, source=kind), tmp_path)


@pytest.mark.parametrize(("kind", "package"), [("wds", "webdataset"), ("hfds", "datasets"), ("hfids", "datasets")])
def test_a_missing_extra_is_named(tars, monkeypatch, kind, package):
    (tars / "packed" / "_info.json").write_text(json.dumps({"splits": {"train": {}}}))
    monkeypatch.setattr(hfds, "find_spec", lambda name: None if name == package else object())
    with pytest.raises(ZooError, match=rf"{package}: pip install 'dctkd-zoo\[streaming\]'"):
        load(replace(WDS, source=kind), tars)


CATALOG = """
from dctkd_zoo.spec import Cosine, Dataset, Entry, Recipe
DATASET = Dataset("packed", "Packed", "SOURCE", num_classes=3, train=40, test=12, streamed=True)
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


@pytest.mark.parametrize("source", ["wds", "hfids"])
def test_a_streamed_set_is_trained_on_and_evaluated(request, tmp_path, monkeypatch, source):
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
    assert not list((tmp_path / "home" / "stores").rglob("*.bin"))
