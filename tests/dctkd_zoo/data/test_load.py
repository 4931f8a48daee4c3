"""dctkd_zoo.data.load, and the remembered hashes of dctkd_zoo.data.fingerprint."""

import csv
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dctkd_zoo._io import json_file
from dctkd_zoo._io.paths import data_root
from dctkd_zoo.data import fingerprint
from dctkd_zoo.data.load import load, read, without_leaks
from dctkd_zoo.data.split import Arrays, Split, fingerprints
from dctkd_zoo.errors import DatasetError
from dctkd_zoo.spec import Dataset

TINY = Dataset(
    name="tiny",
    title="Tiny",
    source="folders",
    num_classes=2,
    train=3,
    test=2,
    mean=(0.5, 0.5, 0.5),
    std=(0.2, 0.2, 0.2),
    license="none",
    url="https://example.org",
)
FILES = {"train/a/1.png": 1, "train/a/2.png": 2, "train/b/3.png": 3, "test/a/4.png": 3, "test/b/5.png": 5}


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """A cache of its own for each test."""
    monkeypatch.setenv("DCTKD_ZOO_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("DCTKD_ZOO_DATA", raising=False)
    return tmp_path / "home"


@pytest.fixture
def data(tmp_path):
    """A folder of datasets that holds `TINY`, with one leaked image."""
    for name, shade in FILES.items():
        path = tmp_path / "data" / "tiny" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4), (shade, 0, 0)).save(path)
    return tmp_path / "data"


def test_data_root(tmp_path, home, monkeypatch):
    assert data_root() == home / "data"
    monkeypatch.setenv("DCTKD_ZOO_DATA", "~/sets")
    assert data_root() == Path("~/sets").expanduser()
    assert data_root(tmp_path) == tmp_path
    monkeypatch.delenv("DCTKD_ZOO_DATA")
    monkeypatch.delenv("DCTKD_ZOO_HOME")
    assert data_root() == Path("~/.cache/dctkd_zoo/data").expanduser()


def test_load(data):
    splits = load(TINY, data)
    assert list(splits) == ["train", "test"]
    assert splits["train"].ids == ("train/a/1.png", "train/a/2.png", "train/b/3.png")
    assert splits["test"].labels.tolist() == [0, 1]


def test_drop_leaked(data):
    test = load(replace(TINY, drop_leaked=True), data)["test"]
    assert test.ids == ("test/b/5.png",) and test.labels.tolist() == [1]
    assert test.images.load(0).getpixel((0, 0)) == (5, 0, 0)


def test_wrong_number_of_classes(data):
    with pytest.raises(DatasetError, match="tiny: 2 classes instead of 15"):
        load(replace(TINY, num_classes=15), data)


def test_a_wrong_number_of_classes_names_them_and_those_without_an_image(data):
    (data / "tiny/train/__MACOSX").mkdir()
    with pytest.raises(DatasetError, match="3 classes instead of 2: __MACOSX, a, b; without an image: __MACOSX\n"):
        load(TINY, data)


def test_what_is_taken_though_it_may_not_be_expected_is_said(data, caplog):
    (data / "tiny/train/c").mkdir()
    (data / "tiny/test/c").mkdir()
    load(replace(TINY, train=2, num_classes=3), data)
    assert caplog.messages == [
        "tiny: 3 train images, more than the 2 in its catalog entry",
        "tiny: no training images of class c, which cannot be learned",
    ]


def test_partial_copy(data):
    with pytest.raises(DatasetError, match=r"(?s)2 of 2,000 test images are there.*get it from https://example.org"):
        load(replace(TINY, test=2000), data)
    assert len(read(replace(TINY, test=2000), data)["test"]) == 2


def test_splits_that_number_classes_differently(data, monkeypatch):
    from dctkd_zoo.data.sources import folders

    def swapped(root, split):
        names = ("a", "b") if split == "train" else ("b", "a")
        return replace(real(root, split), classes=names)

    real = folders.read
    monkeypatch.setattr(folders, "read", swapped)
    with pytest.raises(DatasetError, match="0: a in train, b in test, 1: b in train, a in test"):
        load(TINY, data)


def test_unknown_source(data):
    with pytest.raises(ValueError, match=r"has no 'folder'. Did you mean 'folders'"):
        load(replace(TINY, source="folder"), data)


def test_scene15(shared):
    scene15 = replace(TINY, name="scene15", num_classes=15, train=1500, test=2985)
    splits = load(scene15, shared / "data")
    assert (len(splits["train"]), len(splits["test"]), len(splits["train"].classes)) == (1500, 2985, 15)
    kept = without_leaks(splits)["test"]
    assert len(kept) == 2974
    with (shared / "data" / "scene15" / "test_in_train.csv").open() as file:
        pairs = {row["test_image"]: row["train_image"] for row in csv.DictReader(file)}
    assert set(splits["test"].ids) - set(kept.ids) == set(pairs)
    twins = fingerprint.duplicates(splits["train"], splits["test"])
    assert {splits["test"].ids[a]: splits["train"].ids[b] for a, b in twins.items()} == pairs


class TestPrints:
    def test_equal_fingerprints(self, data):
        split = read(TINY, data)["train"]
        assert fingerprint.fingerprints(split) == fingerprints(split)
        assert fingerprint.fingerprints(split.take([2, 0])) == fingerprints(split.take([2, 0]))

    def test_arrays(self):
        pixels = np.arange(2 * 4 * 4 * 3, dtype=np.uint8).reshape(2, 4, 4, 3)
        split = Split(("a",), ("0", "1"), np.zeros(2, np.int64), Arrays(pixels))
        assert fingerprint.fingerprints(split) == fingerprints(split)

    def test_files_are_read_once(self, data, home, monkeypatch):
        split = read(TINY, data)["train"]
        first = fingerprint.fingerprints(split)
        monkeypatch.setattr("dctkd_zoo.data.split.Files.payload", lambda *_: pytest.fail("read again"))
        assert fingerprint.fingerprints(split) == fingerprint.fingerprints(split.take([0, 1, 2])) == first
        assert len(list((home / "fingerprints").iterdir())) == 1

    def test_changed_file_is_read_again(self, data):
        split = read(TINY, data)["train"]
        before = fingerprint.fingerprints(split)
        path = data / "tiny" / split.ids[1]
        stat = path.stat()
        path.write_bytes(path.read_bytes()[:-1] + b"!")  # as long as before
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
        after = fingerprint.fingerprints(split)
        assert [a == b for a, b in zip(before, after, strict=True)] == [True, False, True]

    def test_damaged_cache_is_made_again(self, data, home):
        split = read(TINY, data)["train"]
        before = fingerprint.fingerprints(split)
        (cached,) = (home / "fingerprints").iterdir()
        cached.write_text('["12')
        assert fingerprint.fingerprints(split) == before and json_file.read_sealed(cached) == before

    def test_home_that_cannot_be_written(self, data, home, caplog):
        home.write_text("a file where the folder should be")
        split = read(TINY, data)["train"]
        assert fingerprint.fingerprints(split) == fingerprints(split)
        assert "are not cached" in caplog.text

    def test_file_that_went_away(self, data):
        split = read(TINY, data)["train"]
        (data / "tiny" / split.ids[0]).unlink()
        with pytest.raises(DatasetError, match=r"train/a/1.png"):
            fingerprint.fingerprints(split)
