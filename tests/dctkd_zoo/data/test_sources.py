"""dctkd_zoo.data.sources on small trees of each layout, and on the released class orders and lists."""

import errno
import os
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torchvision
from PIL import Image
from timm.data import create_reader

from dctkd_zoo import registry
from dctkd_zoo.data.sources import ade20k, cifar100, folders, held, lists, mit67, sun397
from dctkd_zoo.errors import DatasetError, Unreadable


def draw(path, shade):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 6), (shade, 2 * shade, 3 * shade)).save(path)


def write(path, *lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))


def touch(root, names):
    for folder in {(root / name).parent for name in names}:
        folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (root / name).touch()


def classes_of(split):
    return [split.classes[label] for label in split.labels]


def first_words(path):
    return [line.split()[0] for line in path.read_text().splitlines()]


class TestFolders:
    def test_reads_images_in_order(self, tmp_path):
        for shade, name in enumerate(["train/b/2.jpg", "train/b/10.PNG", "train/a/deep/er/1.webp", "test/b/3.jpg"]):
            draw(tmp_path / name, shade + 1)
        touch(tmp_path, ["train/a/notes.txt", "train/a/.hidden.jpg", "train/.cache/x.jpg", "train/loose.jpg"])
        train, test = folders.read(tmp_path, "train"), folders.read(tmp_path, "test")
        assert train.classes == test.classes == ("a", "b")
        assert train.ids == ("train/a/deep/er/1.webp", "train/b/10.PNG", "train/b/2.jpg")
        assert train.labels.tolist() == [0, 1, 1] and train.labels.dtype == np.int64
        assert (test.ids, test.labels.tolist()) == (("test/b/3.jpg",), [1])
        assert np.asarray(test.images.load(0))[0, 0, 2] == pytest.approx(12, abs=3)

    def test_val_serves_where_there_is_no_test(self, tmp_path):
        touch(tmp_path, ["train/a/1.jpg", "val/a/2.jpg"])
        assert folders.read(tmp_path, "test").ids == ("val/a/2.jpg",)

    def test_class_that_train_does_not_have(self, tmp_path):
        touch(tmp_path, ["train/a/1.jpg", *(f"test/b/{index}.jpg" for index in range(7))])
        with pytest.raises(
            DatasetError, match=r"7 images of classes .* 1:\n  b \(test/b/0.jpg\)(\n.*){4}\n  and 2 more"
        ):
            folders.read(tmp_path, "test")

    def test_missing(self, tmp_path):
        with pytest.raises(DatasetError, match=r"(?s)nowhere: there is no folder train"):
            folders.read(tmp_path / "nowhere", "train")
        touch(tmp_path, ["train/a/1.jpg"])
        with pytest.raises(DatasetError, match="there is no folder test"):
            folders.read(tmp_path, "test")
        (tmp_path / "test").mkdir()
        with pytest.raises(DatasetError, match="there are no images"):
            folders.read(tmp_path, "test")


class TestLists:
    def test_both_kinds_of_line(self, tmp_path):
        write(tmp_path / "train.txt", "train/mall/shopping mall.jpg", "", "flat 1.png bar", "kitchen/deep/a.jpg")
        write(tmp_path / "val.txt", "val/bar/b.jpg")
        touch(tmp_path, ["train/mall/shopping mall.jpg", "flat 1.png", "kitchen/deep/a.jpg", "val/bar/b.jpg"])
        train, test = lists.read(tmp_path, "train"), lists.read(tmp_path, "test")
        assert train.classes == test.classes == ("bar", "kitchen", "mall")
        assert train.ids == ("train/mall/shopping mall.jpg", "flat 1.png", "kitchen/deep/a.jpg")
        assert classes_of(train) == ["mall", "bar", "kitchen"] and classes_of(test) == ["bar"]

    def test_order_given_by_scene_names(self, tmp_path):
        write(tmp_path / "train.txt", "train/a/1.jpg", "train/b/1.jpg")
        write(tmp_path / "scene_names.txt", "b 0", "a 1", "unseen 2")
        touch(tmp_path, ["train/a/1.jpg", "train/b/1.jpg"])
        split = lists.read(tmp_path, "train")
        assert split.classes == ("b", "a", "unseen") and split.labels.tolist() == [1, 0]
        write(tmp_path / "scene_names.txt", "b 1", "a 0")
        with pytest.raises(DatasetError, match="'b 1' is in the line of label 0"):
            lists.read(tmp_path, "train")

    def test_missing_files(self, tmp_path):
        write(tmp_path / "train.txt", *(f"train/a/{index}.jpg" for index in range(9)))
        touch(tmp_path, ["train/a/4.jpg"])
        with pytest.raises(DatasetError) as error:
            lists.read(tmp_path, "train")
        text = str(error.value)
        assert f"{tmp_path}: 8 of 9 listed images are missing:\n  train/a/0.jpg\n" in text
        assert text.endswith("  train/a/5.jpg\n  and 3 more") and "train/a/6.jpg" not in text

    @pytest.mark.parametrize("line", ["1.jpg", "train/1.jpg", "word"])
    def test_line_without_a_class(self, tmp_path, line):
        write(tmp_path / "train.txt", line)
        with pytest.raises(DatasetError, match=f"train.txt: '{line}' names neither"):
            lists.read(tmp_path, "train")

    def test_released_lists_of_mit67(self, shared, tmp_path):
        released = shared / "lists" / "mit67"
        for name in ("scene_names.txt", "train.txt", "val.txt"):
            (tmp_path / name).symlink_to(released / name)
        touch(
            tmp_path,
            [line for name in ("train", "val") for line in (released / f"{name}.txt").read_text().split("\n")[:-1]],
        )
        train, test = lists.read(tmp_path, "train"), lists.read(tmp_path, "test")
        assert (len(train), len(test), len(train.classes)) == (5360, 1340, 67)
        assert all(f"/{name}/" in path for name, path in zip(classes_of(test), test.ids, strict=True))


class TestADE20K:
    def test_reads_either_root(self, tmp_path):
        home = tmp_path / "ADEChallengeData2016"
        write(home / "sceneCategories.txt", "ADE_train_00000001 street", "ADE_val_00000001 abbey")
        draw(home / "images/training/ADE_train_00000001.jpg", 10)
        draw(home / "images/validation/ADE_val_00000001.jpg", 20)
        for root in (tmp_path, home):
            train, test = ade20k.read(root, "train"), ade20k.read(root, "test")
            assert train.classes == test.classes == ("abbey", "street")
            assert train.ids == ("images/training/ADE_train_00000001.jpg",) and classes_of(train) == ["street"]
            assert test.ids == ("images/validation/ADE_val_00000001.jpg",) and classes_of(test) == ["abbey"]
            assert test.images.load(0).size == (8, 6)

    def test_malformed_line(self, tmp_path):
        write(tmp_path / "sceneCategories.txt", "ADE_train_00000001")
        with pytest.raises(DatasetError, match="'ADE_train_00000001' is not an image and its scene"):
            ade20k.read(tmp_path, "train")

    def test_released_class_order(self, shared, tmp_path):
        released = shared / "lists" / "ade20k"
        text = (released / "train.txt").read_text() + (released / "val.txt").read_text()
        (tmp_path / "sceneCategories.txt").write_text(text)
        keys = first_words(tmp_path / "sceneCategories.txt")
        touch(tmp_path, [f"images/{'training' if '_train_' in key else 'validation'}/{key}.jpg" for key in keys])
        train, test = ade20k.read(tmp_path, "train"), ade20k.read(tmp_path, "test")
        assert list(train.classes) == first_words(released / "scene_names.txt") and test.classes == train.classes
        assert (len(train), len(test)) == (20210, 2000)
        assert (len(set(train.labels.tolist())), len(set(test.labels.tolist()))) == (1040, 672)


class TestMIT67:
    def test_reads_the_lists(self, tmp_path):
        write(tmp_path / "TrainImages.txt", "kitchen/int474.jpg", "bar/a bar.jpg")
        write(tmp_path / "TestImages.txt", "bar/2.jpg")
        touch(tmp_path, ["Images/kitchen/int474.jpg", "Images/bar/a bar.jpg", "Images/bar/2.jpg", "Images/bar/3.jpg"])
        train, test = mit67.read(tmp_path, "train"), mit67.read(tmp_path, "test")
        assert train.classes == ("bar", "kitchen")
        assert train.ids == ("Images/kitchen/int474.jpg", "Images/bar/a bar.jpg")
        assert (test.ids, test.labels.tolist()) == (("Images/bar/2.jpg",), [0])

    def test_released_class_order(self, shared, tmp_path):
        released = shared / "lists" / "mit67"
        for student, teacher in (("TrainImages.txt", "train.txt"), ("TestImages.txt", "val.txt")):
            rows = [line.partition("/")[2] for line in (released / teacher).read_text().splitlines()]
            write(tmp_path / student, *rows)
            touch(tmp_path / "Images", rows)
        train, test = mit67.read(tmp_path, "train"), mit67.read(tmp_path, "test")
        assert list(train.classes) == first_words(released / "scene_names.txt")
        assert (len(train), len(test)) == (5360, 1340)


class TestSUN397:
    NAMES = ("/a/abbey", "/a/apartment_building/outdoor")

    @pytest.mark.parametrize("folder", ["Partitions", "."])
    def test_nested_classes(self, tmp_path, folder):
        write(tmp_path / folder / "ClassName.txt", *self.NAMES)
        write(tmp_path / folder / "Training_01.txt", "/a/apartment_building/outdoor/sun_b.jpg", "/a/abbey/sun_a.jpg")
        write(tmp_path / folder / "Testing_01.txt", "/a/abbey/sun_c.jpg")
        touch(tmp_path / "SUN397", ["a/apartment_building/outdoor/sun_b.jpg", "a/abbey/sun_a.jpg", "a/abbey/sun_c.jpg"])
        train, test = sun397.read(tmp_path, "train"), sun397.read(tmp_path, "test")
        assert train.classes == test.classes == ("abbey", "apartment_building-outdoor")
        assert train.ids == ("SUN397/a/apartment_building/outdoor/sun_b.jpg", "SUN397/a/abbey/sun_a.jpg")
        assert train.labels.tolist() == [1, 0] and test.labels.tolist() == [0]

    def test_released_class_order(self, shared, tmp_path):
        released = shared / "lists" / "sun397"
        names = first_words(released / "scene_names.txt")
        nested = [f"/{name[0]}/{name.replace('-', '/')}" for name in names]
        write(tmp_path / "Partitions" / "ClassName.txt", *reversed(nested))
        write(tmp_path / "Partitions" / "Training_01.txt", *(f"{name}/sun_x.jpg" for name in nested))
        touch(tmp_path / "SUN397", [f"{name[1:]}/sun_x.jpg" for name in nested])
        split = sun397.read(tmp_path, "train")
        assert list(split.classes) == names and split.labels.tolist() == list(range(397))


class TestCIFAR100:
    def write(self, root, split, labels):
        planes = np.arange(3, dtype=np.uint8).repeat(1024) * 10  # red 0, green 10, blue 20
        records = [
            np.concatenate([np.array([9, label], np.uint8), planes + index]) for index, label in enumerate(labels)
        ]
        folder = root / "cifar-100-binary"
        write(folder / "fine_label_names.txt", "apple", "bear", "crab", "")
        np.concatenate(records).astype(np.uint8).tofile(folder / f"{split}.bin")

    def test_reads_records(self, tmp_path):
        self.write(tmp_path, "train", [2, 0])
        split = cifar100.read(tmp_path, "train")
        assert split.classes == ("apple", "bear", "crab")
        assert split.ids == ("train/00000", "train/00001") and split.labels.tolist() == [2, 0]
        image = split.images.load(1)
        assert image.size == (32, 32) and image.getpixel((31, 5)) == (1, 11, 21)

    def test_planes_are_rows_first(self, tmp_path):
        self.write(tmp_path, "test", [1])
        path = tmp_path / "cifar-100-binary" / "test.bin"
        data = bytearray(path.read_bytes())
        data[2 + 32 * 3 + 7] = 200  # red, row 3, column 7
        path.write_bytes(data)
        assert cifar100.read(tmp_path, "test").images.load(0).getpixel((7, 3)) == (200, 10, 20)

    def test_pickles_are_not_loaded(self, tmp_path):
        touch(tmp_path, ["cifar-100-python/train"])
        with pytest.raises(DatasetError, match=r"only pickles, which are never loaded.*cifar-100-binary.tar.gz"):
            cifar100.read(tmp_path, "train")

    def test_truncated(self, tmp_path):
        self.write(tmp_path, "train", [0])
        path = tmp_path / "cifar-100-binary" / "train.bin"
        path.write_bytes(path.read_bytes()[:-1])
        with pytest.raises(DatasetError, match="3,073 bytes, not a multiple of 3,074"):
            cifar100.read(tmp_path, "train")

    def test_label_beyond_the_names(self, tmp_path):
        self.write(tmp_path, "train", [3])
        with pytest.raises(DatasetError, match="has label 3, but there are 3 classes"):
            cifar100.read(tmp_path, "train")


@pytest.mark.parametrize(
    "source", [folders, lists, ade20k, mit67, sun397, cifar100], ids=lambda source: source.__name__
)
def test_missing_root_names_path_and_command(source, tmp_path):
    with pytest.raises(DatasetError, match=r"(?s)absent: there is no "):
        source.read(tmp_path / "absent", "train")


def test_same_ids_from_a_relative_root(tmp_path, monkeypatch):
    touch(tmp_path, ["train/a/1.jpg"])
    monkeypatch.chdir(tmp_path)
    assert folders.read(Path(), "train").ids == ("train/a/1.jpg",)


class TestHeld:
    @pytest.fixture
    def root(self, tmp_path, monkeypatch):
        names = [
            f"{part}/{name}/{n}.jpg"
            for part, count in (("train", 23), ("test", 4))
            for name in "ab"
            for n in range(count)
        ]
        touch(tmp_path / "scene15", names)
        small = replace(registry.get_dataset("scene15"), num_classes=2, train=46, test=8, drop_leaked=False)
        monkeypatch.setattr(registry, "get_dataset", {"scene15": small}.__getitem__)
        return tmp_path / "scene15dev"

    def test_parts_the_training_set_and_leaves_the_test_set_alone(self, root):
        train, test = held.read(root, "train", "scene15"), held.read(root, "test", "scene15")
        whole = folders.read(root.parent / "scene15", "train")
        assert sorted((*train.ids, *test.ids)) == sorted(whole.ids) and not set(train.ids) & set(test.ids)
        assert train.classes == test.classes == whole.classes
        assert np.bincount(test.labels).tolist() == [5, 5] and np.bincount(train.labels).tolist() == [18, 18]
        for part in (train, test):
            assert all(classes_of(part)[i] == part.ids[i].split("/")[1] for i in range(len(part)))

    def test_an_image_s_part_does_not_change_with_the_other_class(self, root):
        before = [name for name in held.read(root, "test", "scene15").ids if "/a/" in name]
        touch(root.parent / "scene15", [f"train/b/more{n}.jpg" for n in range(9)])
        assert [name for name in held.read(root, "test", "scene15").ids if "/a/" in name] == before


class TestAsOtherReadersRead:
    """A folder with everything that readers may make something else of, beside torchvision's and timm's own."""

    @pytest.fixture
    def root(self, tmp_path):
        for name in ("ant", "bee", "Cat", "c10", "c2", "cafe\u0301"):
            for part in ("train", "test"):
                draw(tmp_path / part / name / f"{part}.JPG", 1)
        train = tmp_path / "train"
        draw(train / "ant" / "deep" / "er" / "2.png", 2)
        draw(train / "ant" / "3.gif", 3)
        draw(train / "bee" / ".4.png", 4)
        draw(train / ".ipynb_checkpoints" / "5.png", 5)
        draw(tmp_path / "elsewhere" / "6.png", 6)
        (train / "bee" / "linked").symlink_to(tmp_path / "elsewhere")
        (train / "bee" / "7.png").symlink_to(tmp_path / "elsewhere" / "6.png")
        touch(train, ["ant/notes.txt", "bee/Thumbs.db", "loose.jpg"])
        (train / "empty").mkdir()
        (tmp_path / "test" / "empty").mkdir()
        return tmp_path

    def test_what_differs_from_torchvision_is_said(self, root):
        student = folders.read(root, "train")
        teacher = torchvision.datasets.ImageFolder(str(root / "train"), allow_empty=True)
        assert [name for name in teacher.classes if not name.startswith(".")] == list(student.classes)
        seen = {
            str(root / name): student.classes[label] for name, label in zip(student.ids, student.labels, strict=True)
        }
        known = {path: teacher.classes[label] for path, label in teacher.samples}
        assert {path for path in seen if not path.endswith(".gif")} == {path for path in known if "/." not in path}
        assert all(seen[path] == name for path, name in known.items() if path in seen)
        said = folders.otherwise(student)
        who = "torchvision's ImageFolder"
        assert said[f"images that {who} skips"] == sorted(set(seen) - set(known)) == [str(root / "train/ant/3.gif")]
        assert said[f"files skipped here that {who} reads as images"] == sorted(set(known) - set(seen))
        assert said[f"images that {who} assigns to another class"] == []
        assert said[f"classes that {who} numbers differently or lacks"]  # it takes the hidden folder for a class

    def test_what_differs_from_timm_is_said(self, root):
        student = folders.read(root, "train")
        teacher = create_reader("", root=str(root / "train"))
        seen = {
            str(root / name): student.classes[label] for name, label in zip(student.ids, student.labels, strict=True)
        }
        names = {label: name for name, label in teacher.class_to_idx.items()}
        known = {path: names[label] for path, label in teacher.samples}
        said = folders.otherwise(student)
        assert said["images that timm's reader skips"] == sorted(set(seen) - set(known))
        assert said["files skipped here that timm's reader reads as images"] == sorted(set(known) - set(seen))
        assert said["images that timm's reader assigns to another class"] == sorted(
            f"{path}: {known[path]}" for path in seen if path in known and known[path] != seen[path]
        )
        assert any(
            "linked/6.png: linked" in line for line in said["images that timm's reader assigns to another class"]
        )
        assert sorted(teacher.class_to_idx, key=teacher.class_to_idx.get) != list(student.classes)
        assert said["classes that timm's reader numbers differently or lacks"]

    def test_a_plain_folder_is_read_alike_by_all(self, tmp_path):
        for name in ("a", "b"):
            for number in range(3):
                draw(tmp_path / "train" / name / f"{number}.png", number)
        assert not any(folders.otherwise(folders.read(tmp_path, "train")).values())

    def test_names_of_the_same_letters_in_another_form_are_told_apart(self, tmp_path):
        touch(tmp_path, ["train/caf\u00e9/1.jpg", "test/cafe\u0301/1.jpg"])
        with pytest.raises(
            DatasetError, match=r"among the 1 \(they exist with the same letters in another Unicode form"
        ):
            folders.read(tmp_path, "test")
        write(tmp_path / "train.txt", "train/cafe\u0301/1.jpg")
        with pytest.raises(
            DatasetError, match=r"are missing \(they exist with the same letters in another Unicode form"
        ):
            lists.read(tmp_path, "train")

    @pytest.mark.parametrize("back", [".", "..", "../b"])
    def test_a_link_that_leads_back_is_refused(self, tmp_path, back):
        touch(tmp_path, ["train/a/1.jpg", "train/b/1.jpg"])
        (tmp_path / "train/b/l").symlink_to(tmp_path / "train/a")
        (tmp_path / "train/a/l").symlink_to(back)
        with pytest.raises(DatasetError, match="a link back to a folder that contains it"):
            folders.read(tmp_path, "train")

    def test_folders_nested_1500_deep(self, tmp_path):
        touch(tmp_path, ["train/a/1.jpg"])
        here, at = os.open(tmp_path / "train/a", os.O_RDONLY), Path.cwd()
        try:
            os.chdir(here)
            for _ in range(1500):
                Path("d").mkdir()
                os.chdir("d")
            Path("x.png").touch()
            os.chdir(at)
            split = folders.read(tmp_path, "train")
            assert split.ids[1:] == (f"train/a/{'d/' * 1500}x.png",) and len(split) == 2
        finally:  # what shutil.rmtree of this Python cannot do
            os.close(here)
            os.chdir(at)
            subprocess.run(["rm", "-r", str(tmp_path / "train")], check=True)

    def test_a_folder_that_cannot_be_looked_into_is_no_empty_one(self, tmp_path, monkeypatch):
        touch(tmp_path, ["train/a/1.jpg", "train/a/deep/1.jpg"])
        real = os.scandir

        def lost(path):
            if str(path).rstrip("/").endswith("deep"):
                raise OSError(errno.EIO, "Input/output error")
            return real(path)

        monkeypatch.setattr(os, "scandir", lost)
        with pytest.raises(Unreadable, match="deep: cannot be read: Input/output error"):
            folders.read(tmp_path, "train")
