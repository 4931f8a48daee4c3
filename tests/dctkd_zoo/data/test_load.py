"""dctkd_zoo.data.load, and the remembered hashes of dctkd_zoo.data.fingerprint."""

import csv
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dctkd_zoo import registry
from dctkd_zoo._io import json_file
from dctkd_zoo._io.paths import data_root
from dctkd_zoo.data import fingerprint
from dctkd_zoo.data.batch import UNLABELLED
from dctkd_zoo.data.load import for_recipe, load, read, unlabelled, without_leaks
from dctkd_zoo.data.sources import miniplaces
from dctkd_zoo.data.split import Arrays, Split, fingerprints, held_out
from dctkd_zoo.errors import DatasetError, DatasetMissing
from dctkd_zoo.spec import Cosine, Dataset, Recipe

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


RECIPE = Recipe(epochs=1, batch_size=4, lr=0.1, schedule=Cosine(), resize=4, crop=4)
ON_VAL, MORE = replace(RECIPE, select="val"), replace(RECIPE, unlabelled=True)


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


def of_classes(*counts):
    """A split of so many images of each class, in shuffled order."""
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)), counts))
    names = tuple(f"train/{number}.png" for number in range(len(labels)))
    return Split(tuple("abcdefgh"[: len(counts)]), names, labels, Arrays(np.zeros((len(labels), 2, 2, 3), np.uint8)))


def draw(folder, names, first=100):
    """An image of a shade of its own for each name."""
    for shade, name in enumerate(names, first):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4), (shade, 0, 0)).save(path)


class TestHeldOut:
    @pytest.mark.parametrize("fraction", [0.05, 0.1, 0.2, 0.25, 0.3, 1 / 3, 0.5, 0.7, 0.9])
    def test_it_has_the_fraction_of_each_class_rounded_up_and_leaves_each_an_image(self, fraction):
        counts = (1, 2, 3, 10, 20, 77, 100)
        rest, out = held_out(of_classes(*counts), fraction)
        for label, count in enumerate(counts):
            expected = min(int(np.ceil(round(count * fraction, 6))), count - 1)
            assert (out.labels == label).sum() == expected
            assert (rest.labels == label).sum() == count - expected

    def test_the_parts_are_disjoint_and_together_the_split_in_its_order(self):
        split = of_classes(9, 1, 30)
        rest, out = held_out(split, 0.1)
        assert not set(rest.ids) & set(out.ids)
        for part in (rest, out):
            places = [split.ids.index(name) for name in part.ids]
            assert places == sorted(places) and part.labels.tolist() == split.labels[places].tolist()
        assert sorted(rest.ids + out.ids) == sorted(split.ids)

    def test_neither_order_nor_other_classes_decide_which_but_the_names(self):
        """So that it is the same part on every machine, however its disk lists the files."""
        split = of_classes(40, 50)
        expected = set(held_out(split, 0.1)[1].ids)
        order = np.random.default_rng(1).permutation(len(split)).tolist()
        assert set(held_out(split.take(order), 0.1)[1].ids) == expected
        alone = split.take([index for index in range(len(split)) if split.labels[index] == 1])
        assert set(held_out(alone, 0.1)[1].ids) == {name for name in expected if name in alone.ids}

    def test_a_tenth_is_pinned(self):
        """Networks that were chosen on it name its digest."""
        _, out = held_out(of_classes(12, 12), 0.1)
        assert out.ids == ("train/8.png", "train/14.png", "train/18.png", "train/22.png")


class TestForRecipe:
    def test_the_last_epoch_is_trained_on_everything(self, data):
        plain, splits = load(TINY, data), for_recipe(TINY, RECIPE, data)
        assert list(splits) == ["train", "test"]
        assert all(splits[name].ids == plain[name].ids for name in splits)

    def test_val_is_held_out_of_training_and_never_of_the_test_set(self, data):
        draw(data / "tiny", [f"train/{c}/more{number}.png" for c in "ab" for number in range(19)])
        whole, splits = load(TINY, data), for_recipe(TINY, ON_VAL, data)
        train, val, test = (splits[name] for name in ("train", "val", "test"))
        assert sorted(train.ids + val.ids) == sorted(whole["train"].ids) and test.ids == whole["test"].ids
        assert np.bincount(val.labels).tolist() == [3, 2]  # of 21 and 20
        larger = for_recipe(replace(TINY, val=0.5), ON_VAL, data)["val"]
        assert np.bincount(larger.labels).tolist() == [11, 10]

    def test_the_dataset_s_own_val_is_used_whole_and_only_to_choose_on(self, data):
        draw(data / "tiny", ["val/a/6.png", "val/b/7.png", "val/b/8.png"])
        splits = for_recipe(TINY, ON_VAL, data)
        assert splits["val"].ids == ("val/a/6.png", "val/b/7.png", "val/b/8.png")
        assert splits["val"].labels.tolist() == [0, 1, 1]
        assert splits["train"].ids == load(TINY, data)["train"].ids
        for select in ("last", "released"):
            assert list(for_recipe(TINY, replace(RECIPE, select=select), data)) == ["train", "test"]

    def test_a_val_that_is_the_test_set_is_not_chosen_on(self, data):
        """Of a folder with train and val alone, as ImageNet's."""
        (data / "tiny/test").rename(data / "tiny/val")
        draw(data / "tiny", ["train/a/9.png"])
        splits = for_recipe(TINY, ON_VAL, data)
        assert splits["test"].ids == ("val/a/4.png", "val/b/5.png")
        assert len(splits["val"]) == 1 and splits["val"].ids[0].startswith("train/a/")

    def test_a_val_without_classes_is_none_and_one_of_other_classes_is_refused(self, data):
        draw(data / "tiny", ["val/flat.png", "train/a/9.png"])
        assert list(for_recipe(TINY, RECIPE, data)) == ["train", "test"]
        assert for_recipe(TINY, ON_VAL, data)["val"].ids[0].startswith("train/a/")
        draw(data / "tiny", ["val/c/6.png"])
        with pytest.raises(DatasetError, match=r"(?s)1 images of classes that are not among the 2.*val/c/6.png"):
            for_recipe(TINY, ON_VAL, data)


class TestUnlabelled:
    @pytest.fixture
    def tiny(self, data):
        draw(data, ["more/1.png", "more/deep/2.jpg", "more/.hidden.png", "more/notes.txt.png"])
        (data / "more/readme.txt").write_text("no image")
        return replace(TINY, unlabelled="more")

    def test_the_images_of_a_folder_follow_those_with_labels(self, tiny, data):
        labelled, splits = load(tiny, data)["train"], for_recipe(tiny, MORE, data)
        train = splits["train"]
        assert train.ids[:3] == labelled.ids and train.labels.tolist() == [0, 0, 1] + 3 * [UNLABELLED]
        assert train.ids[3:] == ("unlabelled/1.png", "unlabelled/deep/2.jpg", "unlabelled/notes.txt.png")
        assert train.classes == ("a", "b") and list(splits) == ["train", "test"]
        assert train.images.load(2).getpixel((0, 0)) == (3, 0, 0)
        assert abs(np.asarray(train.images.load(4))[0, 0, 0] - 101.0) < 3

    def test_only_recipes_that_say_so_see_them(self, tiny, data):
        assert for_recipe(tiny, RECIPE, data)["train"].ids == load(tiny, data)["train"].ids

    def test_copies_of_images_that_are_trained_chosen_or_tested_on_are_left_out(self, tiny, data, caplog):
        draw(data / "tiny", ["val/a/6.png", "val/b/7.png"], first=50)
        for number, name in enumerate(("train/a/1.png", "test/b/5.png", "val/b/7.png")):
            (data / f"more/copy{number}.png").write_bytes((data / "tiny" / name).read_bytes())
        caplog.set_level("INFO")
        splits = for_recipe(tiny, replace(MORE, select="val"), data)
        assert splits["train"].ids[3:] == ("unlabelled/1.png", "unlabelled/deep/2.jpg", "unlabelled/notes.txt.png")
        assert len([text for text in caplog.messages if "left out 1 of" in text]) == 3

    def test_none_of_them_is_held_out(self, tiny, data):
        draw(data / "tiny", [f"train/b/{number}.png" for number in range(10, 20)])
        splits = for_recipe(tiny, replace(MORE, select="val"), data)
        assert UNLABELLED not in splits["val"].labels and not any("unlabelled" in name for name in splits["val"].ids)

    def test_a_missing_or_empty_folder_and_a_dataset_without_one_are_named(self, tiny, data):
        with pytest.raises(DatasetError, match="tiny names no unlabelled images: set `unlabelled` in its Dataset"):
            for_recipe(TINY, MORE, data)
        with pytest.raises(DatasetMissing, match="absent is not a folder: put the unlabelled images of tiny there"):
            unlabelled(replace(TINY, unlabelled="absent"), data)
        (data / "empty").mkdir()
        with pytest.raises(DatasetMissing, match="empty: there are no images"):
            unlabelled(replace(TINY, unlabelled="empty"), data)
        with pytest.raises(DatasetError, match="unknown dataset 'nowhere'"):
            unlabelled(replace(TINY, unlabelled="dataset:nowhere"), data)

    def test_the_training_images_of_another_dataset_without_those_it_shares(self, shared):
        scene15 = registry.get_dataset("scene15")
        others, whole = (
            unlabelled(scene15, shared / "data"),
            load(registry.get_dataset("miniplaces12k"), shared / "data"),
        )
        overlaps = set(miniplaces.OVERLAPS.read_text().split())
        expected = [name for name in whole["train"].ids if name.removeprefix("images/") not in overlaps]
        assert list(others.ids) == expected and 0 < len(expected) < len(whole["train"])
        train = for_recipe(scene15, MORE, shared / "data")["train"]
        assert (train.labels == UNLABELLED).sum() <= len(expected) and (train.labels[:1500] >= 0).all()
        test = load(scene15, shared / "data")["test"]
        seen = train.take([index for index in range(len(train)) if train.labels[index] == UNLABELLED])
        assert not fingerprint.duplicates(test, seen)


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
