"""MiniPlaces: its lists and outlines in small trees, the rules for its parts, and the real images where they lie."""

import math
import shutil
import zipfile
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from dctkd_zoo import registry
from dctkd_zoo.data import load
from dctkd_zoo.data.sources import miniplaces
from dctkd_zoo.data.sources.miniplaces import (
    FIRST,
    LEAST_BITS,
    LEFT_OUT,
    PER_CLASS,
    STUFF,
    Outline,
    annotated,
    chosen,
    diagnostic,
    mask,
    parsed,
    read,
    readable,
)
from dctkd_zoo.errors import DatasetError

SCENES = ("/a/abbey", "/c/church/outdoor", "/b/bus_interior", "/k/kitchen")
NAMES = ("abbey", "church (outdoor)", "bus interior", "kitchen")
OBJECTS = ("altar", "wall", "pew", "bell")
ALTAR, WALL, PEW, BELL = range(4)


def path(label: int, number: int, part: str = "train") -> str:
    return f"train{SCENES[label]}/{number:08d}.jpg" if part == "train" else f"val/{number:08d}.jpg"


def polygon(category: int, corners: list[tuple[int, int]]) -> str:
    points = "".join(f"<pt><x>{x + 1}</x><y>{y + 1}</y></pt>" for x, y in corners)
    return f"<objects><class>{category}</class><polygon>{points}</polygon><bndbox><xmin>1</xmin></bndbox></objects>\n"


def square(category: int, left: int, side: int = 10) -> str:
    return polygon(category, [(left, left), (left + side, left), (left + side, left + side), (left, left + side)])


def xml(scene: int, *objects: str) -> str:
    return f"<filename>x.jpg</filename>\n<folder>{SCENES[scene]}</folder>\n<class>{scene}</class>\n{''.join(objects)}"


TRAIN = [(path(label, number), label) for label in range(3) for number in (1, 2, 3, 4, 300, 301, 302, 500)]
TRAIN += [(path(3, 62), 3), (path(3, 6), 3)]  # of which 15-Scene has the second
VAL = [(path(0, n, "val"), n % 4) for n in range(1, 9)]
WITH_OUTLINES = {
    **{path(0, n): xml(0, square(ALTAR, 10), square(WALL, 40)) for n in (1, 2, 3, 301)},
    **{path(1, n): xml(1, square(WALL, 10), square(PEW, 40), square(BELL, 60)) for n in (1, 2, 4)},
    path(2, 3): xml(2),
    path(0, 4, "val"): xml(0, square(PEW, 10), square(ALTAR, 30)),  # of scene 0
    path(0, 5, "val"): xml(1, square(BELL, 80), square(PEW, 70)),  # of scene 1
    path(0, 7, "val"): xml(3, square(ALTAR, 10)),
}


def write(file: Path, *lines: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(f"{line}\n" for line in lines))


def numbered(rows) -> list[str]:
    return [f"{name} {label}" for name, label in rows]


def outlined(root: Path, files: dict[str, str] = WITH_OUTLINES, kind: str = "folder") -> None:
    named = {f"objects/{name.removesuffix('.jpg')}.xml": text for name, text in files.items()}
    if kind == "folder":
        for name, text in named.items():
            write(root / name, text)
        return
    with zipfile.ZipFile(root / "objects.zip", "w") as archive:
        archive.writestr("objects/", "")
        for name, text in named.items():
            archive.writestr(name, text)


def make(root: Path, lists: str = "", objects: str = "folder", train=TRAIN, val=VAL) -> Path:
    """A copy of MiniPlaces with images of one grey each, lists in the folder `lists` of it."""
    home = root / lists
    write(home / "categories.txt", *numbered(zip(SCENES, range(4), strict=True)))
    write(home / "object_categories.txt", *numbered(zip(OBJECTS, range(4), strict=True)))
    write(home / "train.txt", *numbered(train))
    write(home / "val.txt", *numbered(val))
    for name, _ in (*train, *val):
        file = root / "images" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        if not file.exists():
            Image.new("L", (8, 8), 30 * int(file.stem[-1])).convert("RGB").save(file)
    outlined(root, kind=objects)
    return root


def rows_of(split) -> list[tuple[str, int]]:
    return [(name.removeprefix("images/"), label) for name, label in zip(split.ids, split.labels.tolist(), strict=True)]


class TestRead:
    @pytest.mark.parametrize("lists", ["", "data"])
    def test_all_of_it_in_the_order_of_the_lists(self, tmp_path, lists):
        root = make(tmp_path / "miniplaces", lists)
        train, test = read(root, "train"), read(root, "test")
        assert train.classes == test.classes == NAMES
        assert (rows_of(train), rows_of(test)) == (TRAIN, VAL)
        assert train.masks is None and test.masks is None
        assert abs(np.asarray(train.images.load(2)).astype(int) - 90).max() <= 3

    def test_a_part_is_read_from_the_whole_next_to_it(self, tmp_path):
        make(tmp_path / "miniplaces")
        assert rows_of(read(tmp_path / "miniplaces12k", "train", "12k")) == chosen(TRAIN)
        assert rows_of(read(tmp_path / "miniplaces12k", "test", "12k")) == VAL
        assert len(annotated(tmp_path / "miniplaces12k", "12k").ids) == 10

    def test_12k_are_the_images_of_a_class_from_number_301_on(self, tmp_path):
        root = make(tmp_path)
        assert rows_of(read(root, "train", "12k")) == [(path(label, n), label) for label in range(3) for n in LATER]

    def test_what_15_scene_has_too_is_left_out_of_training_and_nothing_of_the_test(self, tmp_path):
        root = make(tmp_path)
        overlap = path(3, 6)
        assert rows_of(read(root, "train", "all-scene15")) == [row for row in TRAIN if row[0] != overlap]
        assert rows_of(read(root, "train", "12k-scene15")) == chosen(TRAIN)
        assert rows_of(read(root, "test", "all-scene15")) == VAL
        later = "train/a/auditorium/00000827.jpg"
        assert later in miniplaces.OVERLAPS.read_text().split()
        root = make(tmp_path / "other", train=[*TRAIN, (later, 3)])
        assert later in dict(rows_of(read(root, "train", "12k")))
        assert later not in dict(rows_of(read(root, "train", "12k-scene15")))

    @pytest.mark.parametrize("part", ["", "12", "12k-", "all-scene15-scene15", "12K", "all\n", "all-mit67"])
    def test_a_part_that_there_is_not_is_refused(self, tmp_path, part):
        with pytest.raises(DatasetError, match="MiniPlaces has no part"):
            read(make(tmp_path), "train", part)

    def test_names_are_as_a_person_reads_them(self):
        assert [readable(name) for name in SCENES] == list(NAMES)
        assert readable("/d/desert/sand") == "desert (sand)" and readable("/w/a_b/c_d/e") == "a b (c d) (e)"

    def test_labels_without_a_class_are_named(self, tmp_path):
        root = make(tmp_path, train=[*TRAIN, (path(0, 7), 4), (path(0, 8), 77)])
        with pytest.raises(DatasetError, match=r"(?s)2 labels are not numbers of categories\.txt:.*4 \(train/a/abbey"):
            read(root, "train")

    @pytest.mark.parametrize("line", ["train/a/abbey/00000001.jpg", "train/a/abbey/00000001.jpg -1", "x one", " 3"])
    def test_a_line_that_is_no_name_and_number_is_shown(self, tmp_path, line):
        root = make(tmp_path)
        write(root / "train.txt", line)
        with pytest.raises(DatasetError, match=r"train\.txt: .* is not a name and a number"):
            read(root, "train")

    def test_a_training_image_whose_name_is_no_number_is_shown(self, tmp_path):
        root = make(tmp_path, train=TRAIN)
        write(root / "train.txt", "train/a/abbey/first.jpg 0")
        with pytest.raises(DatasetError, match=r"train/a/abbey/first\.jpg"):
            read(root, "train", "12k")

    def test_a_category_without_its_letter_is_shown(self, tmp_path):
        root = make(tmp_path)
        write(root / "categories.txt", "abbey 0")
        with pytest.raises(DatasetError, match="abbey"):
            read(root, "train")

    def test_missing_lists_and_images_are_named(self, tmp_path):
        with pytest.raises(DatasetError, match=r"there is no train\.txt"):
            read(tmp_path / "nowhere", "train")
        root = make(tmp_path / "set")
        (root / "images" / path(1, 2)).unlink()
        with pytest.raises(DatasetError, match=r"(?s)1 of 26 listed images are missing.*church/outdoor/00000002\.jpg"):
            read(root, "train")


LATER = (301, 302, 500)


class TestChosen:
    def test_the_first_120_from_301_without_those_left_out(self):
        rows = [(path(0, n), label) for label in (0, 12, 94) for n in range(1, 600)]
        kept = chosen(rows)
        numbers = {label: [miniplaces.number(name) for name, of in kept if of == label] for label in (0, 12, 94)}
        assert {label: len(found) for label, found in numbers.items()} == dict.fromkeys(numbers, PER_CLASS)
        assert numbers[0] == list(range(FIRST, FIRST + 120))
        assert numbers[12] == [n for n in range(301, 422) if n != 327]
        assert numbers[94] == [n for n in range(301, 424) if n not in (361, 378, 380)]
        assert sum(map(len, LEFT_OUT.values())) == 10

    def test_the_order_is_the_list_s_and_what_was_chosen_is_chosen_again(self):
        rows = [(path(0, n), label) for n in (500, 301, 7, 400, 327) for label in (3, 12)]
        assert chosen(rows) == [row for row in rows if not row[0].endswith("07.jpg") and row != (path(0, 327), 12)]
        assert chosen(chosen(rows)) == chosen(rows)

    def test_classes_with_fewer_images_or_none_have_fewer_or_none(self):
        assert chosen([(path(1, 5), 1), (path(2, 301), 2)]) == [(path(2, 301), 2)] and chosen([]) == []


class TestAnnotated:
    @pytest.mark.parametrize("objects", ["folder", "zip"])
    @pytest.mark.parametrize("lists", ["", "data"])
    def test_those_with_outlines_that_12k_does_not_train_on(self, tmp_path, objects, lists):
        split = annotated(make(tmp_path, lists, objects))
        expected = [row for row in [*TRAIN, *VAL] if row[0] in WITH_OUTLINES and row[0] != path(0, 301)]
        assert rows_of(split) == expected and len(expected) == 10
        assert split.classes == NAMES
        assert split.masks is not None and split.masks.shape == (10, 128, 128) and split.masks.dtype == np.uint8

    def test_masks_show_the_objects_typical_of_the_scene_and_no_others(self, tmp_path):
        """Of 7 training images 3 are of scene 0 and have an altar, 3 of scene 1 with pew and bell, 1 of scene 2."""
        split = annotated(make(tmp_path))
        assert split.masks is not None
        masks = dict(zip(split.ids, split.masks, strict=True))
        first = masks[f"images/{path(0, 1)}"]
        assert set(np.unique(first)) == {0, 1} and (first[10:21, 10:21] == 1).all() and first.sum() == 11 * 11
        second = masks[f"images/{path(1, 1)}"]  # pew and bell are equally typical: the smaller number is first
        assert (second[40:51, 40:51] == 1).all() and (second[60:71, 60:71] == 2).all()
        assert (second > 0).sum() == 2 * 11 * 11
        assert not masks[f"images/{path(2, 3)}"].any()
        tested = masks[f"images/{path(0, 4, 'val')}"]  # a pew is not typical of scene 0
        assert (tested[30:41, 30:41] == 1).all() and (tested > 0).sum() == 11 * 11
        front = masks[f"images/{path(0, 5, 'val')}"]
        assert (front[70:81, 70:81] == 1).all() and front[90, 90] == 2
        assert not masks[f"images/{path(0, 7, 'val')}"].any()  # no training image of scene 3 is annotated

    def test_a_list_of_them_comes_before_the_rule(self, tmp_path):
        root = make(tmp_path)
        rows = [(path(0, 5, "val"), 1), (path(1, 4), 1)]
        write(root / "annotated.txt", *numbered(rows))
        assert rows_of(annotated(root)) == rows
        write(root / "annotated.txt", *numbered([*rows, (path(1, 3), 1)]))
        with pytest.raises(DatasetError, match=r"(?s)1 annotated images have no outlines:.*outdoor/00000003\.jpg"):
            annotated(root)

    def test_of_a_class_at_most_60_training_images_and_all_others(self, tmp_path):
        train = [(path(0, n), 0) for n in range(1, 100)]
        val = [(path(0, n, "val"), 0) for n in range(1, 70)]
        root = make(tmp_path, train=train, val=val)
        outlined(root, {name: xml(0, square(ALTAR, 1)) for name, _ in (*train, *val)})
        assert rows_of(annotated(root)) == train[:60] + val

    def test_without_outlines_it_says_so(self, tmp_path):
        root = make(tmp_path, objects="zip")
        (root / "objects.zip").unlink()
        with pytest.raises(DatasetError, match=r"neither a folder objects nor objects\.zip"):
            annotated(root)
        (root / "objects.zip").write_bytes(b"no archive")
        with pytest.raises(DatasetError, match=r"objects\.zip: .*copy it again"):
            annotated(root)

    def test_outlines_that_expand_beyond_the_limit_are_refused(self, tmp_path):
        root = make(tmp_path)
        with zipfile.ZipFile(root / "objects.zip", "w", zipfile.ZIP_DEFLATED) as file:
            for n in range(3):
                file.writestr(f"objects/train/{n}.xml", bytes(30 << 20))
        shutil.rmtree(root / "objects", ignore_errors=True)
        with pytest.raises(DatasetError, match=r"objects\.zip: refused: it holds more than 200 times its own"):
            annotated(root)

    def test_a_category_without_a_name_is_an_error_that_names_the_file(self, tmp_path):
        root = make(tmp_path)
        outlined(root, {path(0, n): xml(0, square(99, 10)) for n in (1, 2, 3)})
        with pytest.raises(DatasetError, match=r"00000001|99"):
            annotated(root)

    @pytest.mark.usefixtures("fresh_registry")
    def test_load_finds_them_for_every_dataset_of_this_source(self, tmp_path):
        make(tmp_path / "miniplaces")
        small = replace(registry.get_dataset("miniplaces12k"), num_classes=4, train=9, test=8)
        assert len(load.annotated(small, tmp_path).ids) == 10
        assert len(load.annotated(replace(small, name="mine", source="miniplaces/12k-scene15"), tmp_path).ids) == 10
        with pytest.raises(DatasetError, match="4"):
            load.annotated(replace(small, num_classes=100), tmp_path)


class TestParsed:
    def test_several_roots_several_objects_and_corners_from_0(self):
        result = parsed(xml(0, square(ALTAR, 0, 5), polygon(PEW, [(1, 2), (3, 4), (127, 127)])).encode(), "x.xml")
        assert result == (
            Outline(ALTAR, ((0, 0), (5, 0), (5, 5), (0, 5))),
            Outline(PEW, ((1, 2), (3, 4), (127, 127))),
        )
        assert parsed(b"", "x.xml") == parsed(xml(0).encode(), "x.xml") == ()

    def test_an_outline_without_corners_is_empty_and_draws_nothing(self):
        result = parsed(xml(0, polygon(ALTAR, []), "<objects><class>2</class></objects>").encode(), "x.xml")
        assert result == (Outline(ALTAR, ()), Outline(PEW, ()))
        assert not mask([*result, Outline(ALTAR, ((3, 3),))], {ALTAR: 1.0, PEW: 2.0}).any()

    @pytest.mark.parametrize(
        "text",
        [
            '<!DOCTYPE a [<!ENTITY b "c">]><class>0</class>',
            '<class>0</class><!ENTITY x SYSTEM "file:///etc/passwd">',
            "<objects><![CDATA[<class>1</class>]]></objects>",
        ],
    )
    def test_declarations_are_refused(self, text):
        with pytest.raises(DatasetError, match=r"x\.xml: has a declaration"):
            parsed(text.encode(), "x.xml")

    @pytest.mark.parametrize(
        "text",
        [
            "<objects>",
            "</objects>",
            "<objects><class>altar</class></objects>",
            "<objects></objects>",
            "<objects><class>1</class><polygon><pt><x>1</x></pt></polygon></objects>",
            "<objects><class>1</class><polygon><pt><x>1.5</x><y>2</y></pt></polygon></objects>",
            '<?xml version="1.0"?><class>0</class>',
            "&undefined;",
            "\0\1\2",
            "</all><all>",
        ],
    )
    def test_what_is_not_well_formed_or_no_number_is_named(self, text):
        with pytest.raises(DatasetError, match=r"x\.xml: not the outlines of objects"):
            parsed(text.encode(), "x.xml")

    def test_a_file_in_the_set_is_named_by_its_path(self, tmp_path):
        for kind in ("folder", "zip"):
            root = make(tmp_path / kind, objects=kind)
            outlined(root, {**WITH_OUTLINES, path(0, 2): "<objects>"}, kind)
            with pytest.raises(DatasetError, match=r"train/a/abbey/00000002\.xml: not the outlines"):
                annotated(root)


def table(*rows: tuple[int, int, set[int]]) -> list[tuple[int, set[int]]]:
    """So many images, of a scene, with these categories."""
    return [(scene, present) for count, scene, present in rows for _ in range(count)]


class TestDiagnostic:
    def test_information_is_that_of_the_table_of_presences(self):
        """16 images. Category 0 in 6, of which 4 among the 4 of scene 0; category 2 in 4, all among 8 of scene 1."""
        images = table((4, 0, {0, 1}), (2, 1, {0, 1}), (4, 1, {2}), (2, 1, set()), (4, 2, {1}))
        result = diagnostic(images, ["altar", "wall", "pew"])
        assert result == {
            0: {0: pytest.approx(math.log2((4 / 16) / (6 / 16 * 4 / 16)))},  # 1.415
            1: {2: pytest.approx(math.log2((4 / 16) / (4 / 16 * 8 / 16)))},  # 1
        }

    def test_it_is_that_of_a_loop_over_random_tables(self):
        rng = np.random.default_rng(0)
        names = [f"thing{i}" for i in range(9)]
        chance = rng.random((5, 9)) ** 3
        images = [(s, {c for c in range(9) if rng.random() < chance[s, c]}) for s in rng.integers(0, 5, 200).tolist()]
        expected = {}
        for scene in range(5):
            of_scene = [present for s, present in images if s == scene]
            for category in range(9):
                count = sum(category in present for present in of_scene)
                total = sum(category in present for _, present in images)
                bits = math.log2(count / len(of_scene) / (total / len(images))) if count else -math.inf
                if bits >= 1 and count >= 3 and count >= len(of_scene) / 10:
                    expected[scene, category] = bits
        result = {(s, c): bits for s, found in diagnostic(images, names).items() for c, bits in found.items()}
        assert len(expected) > 5 and result == pytest.approx(expected)

    def test_two_images_are_too_few_and_three_of_thirty_just_enough(self):
        assert diagnostic(table((2, 0, {0}), (8, 1, set())), ["altar"]) == {}
        assert diagnostic(table((3, 0, {0}), (27, 0, set()), (60, 1, set())), ["altar"]).keys() == {0}
        assert diagnostic(table((3, 0, {0}), (28, 0, set()), (60, 1, set())), ["altar"]) == {}

    def test_a_bit_is_enough_and_less_is_not(self):
        assert diagnostic(table((4, 0, {0}), (4, 1, set())), ["altar"]) == {0: {0: LEAST_BITS}}
        assert diagnostic(table((4, 0, {0}), (1, 1, {0}), (4, 1, set())), ["altar"]) == {}

    def test_stuff_is_left_out_however_typical(self):
        images = table((4, 0, {0, 1}), (12, 1, set()))
        assert diagnostic(images, ["altar", "sky"]).keys() == {0}
        assert diagnostic(images, ["altar", "sky"])[0].keys() == {0}
        assert diagnostic(images, ["wall", "sky"]) == {} and {"wall", "sky", "trees"} <= STUFF

    def test_nothing_of_nothing(self):
        assert diagnostic([], []) == {}


class TestMask:
    def test_ranks_are_by_information_then_number_and_three_at_most(self):
        outlines = [Outline(c, ((20 * c, 0), (20 * c + 9, 0), (20 * c + 9, 9), (20 * c, 9))) for c in range(5)]
        result = mask(outlines, {4: 1.5, 3: 2.0, 1: 1.5, 0: 1.2, 7: 9.0})  # 7 is not in the image, 2 not typical
        assert [int(result[5, 20 * c + 5]) for c in range(5)] == [0, 2, 0, 1, 3]
        assert Counter(result.ravel().tolist()) == {0: 128 * 128 - 300, 1: 100, 2: 100, 3: 100}

    def test_the_more_typical_is_in_front_whatever_comes_first(self):
        whole, part = ((0, 0), (127, 0), (127, 127), (0, 127)), ((10, 10), (19, 10), (19, 19), (10, 19))
        for order in (1, -1):
            outlines = [Outline(0, whole), Outline(1, part)][::order]
            assert Counter(mask(outlines, {0: 1.0, 1: 2.0}).ravel().tolist()) == {2: 128 * 128 - 100, 1: 100}
            assert Counter(mask(outlines, {0: 2.0, 1: 1.0}).ravel().tolist()) == {1: 128 * 128}

    def test_several_outlines_of_a_category_are_one_object(self):
        outlines = [Outline(0, ((x, 0), (x + 4, 0), (x + 4, 4), (x, 4))) for x in (0, 50)]
        result = mask(outlines, {0: 1.0})
        assert result[2, 2] == result[2, 52] == 1 and result.sum() == 50

    def test_corners_beyond_the_image_are_cut_off(self):
        result = mask([Outline(0, ((-50, -50), (300, -50), (300, 63), (-50, 63)))], {0: 1.0})
        assert result[:64].all() and not result[64:].any()

    def test_nothing_typical_is_an_empty_mask(self):
        result = mask([Outline(0, ((0, 0), (9, 9), (0, 9)))], {})
        assert result.shape == (128, 128) and result.dtype == np.uint8 and not result.any()


OWN = """
from dataclasses import replace
from dctkd_zoo.catalog.miniplaces12k import DATASET as PART, TEACHER
from dctkd_zoo.catalog.scene15 import STUDENT
from dctkd_zoo.spec import Entry
START = replace(STUDENT, pretrained="entry:el0_{start}")
"""
DEPENDING = {
    "start": 'ENTRIES = (Entry("el0_scene15.after", START, {"ce": 1}),)',
    "teacher": 'ENTRIES = (Entry("r18_kd_scene15.after", STUDENT, {"ce": 1, "kd": 1}, teacher="el2_miniplaces12k"),)',
    "teacher's start": "ENTRIES = (Entry('el0_scene15.after', START, {'ce': 1}), "
    "Entry('r18_kd_scene15.after', STUDENT, {'ce': 1, 'kd': 1}, teacher='el0_scene15.after'))",
}


@pytest.mark.usefixtures("fresh_registry")
class TestOverlap:
    @pytest.mark.parametrize("kind", DEPENDING)
    def test_an_entry_of_scene15_behind_which_are_images_of_its_test_is_refused(self, tmp_path, kind):
        (tmp_path / "own.py").write_text(OWN.format(start="miniplaces12k") + DEPENDING[kind])
        with pytest.raises(
            Exception, match=r"after depends on el\d_miniplaces12k, whose training images are"
        ) as caught:
            registry.include(tmp_path / "own.py")
        assert "of scene15: train it without them, on a dataset with source='miniplaces/12k-scene15'" in str(
            caught.value
        )
        registry._bundled_and_included.cache_clear()

    def test_without_those_images_it_is_accepted(self, tmp_path):
        (tmp_path / "places.py").write_text(
            OWN.format(start="clean")
            + 'DATASET = replace(PART, name="clean", source="miniplaces/12k-scene15", overlaps=(), train=11_990)\n'
            'ENTRIES = (Entry("el0_clean", TEACHER, {"ce": 1}),)\n'
        )
        (tmp_path / "scenes.py").write_text(OWN.format(start="clean") + DEPENDING["teacher's start"])
        registry.include(tmp_path / "places.py")
        registry.include(tmp_path / "scenes.py")
        assert registry.ancestors("r18_kd_scene15.after", registry.entries())[1:] == ["el0_scene15.after", "el0_clean"]

    def test_an_entry_of_another_set_may_come_after_it(self, tmp_path):
        recipe = 'replace(TEACHER, pretrained="entry:el0_miniplaces12k")'
        (tmp_path / "own.py").write_text(
            OWN.format(start="x") + f'ENTRIES = (Entry("el0_mit67", {recipe}, {{"ce": 1}}),)\n'
        )
        registry.include(tmp_path / "own.py")
        assert registry.get_entry("el0_mit67").start == "el0_miniplaces12k"


@pytest.fixture(scope="module")
def real(shared) -> Path:
    """The folder of the real images."""
    folder: Path = shared / "data" / "miniplaces12k"
    if not (folder / "train.txt").is_file():
        pytest.skip(f"{folder} is missing: real images are not part of the repository")
    return folder


@pytest.fixture(scope="module")
def outlined_images(real):
    return annotated(real, "12k")


class TestReal:
    def test_the_part_is_what_the_rule_makes_of_its_own_list(self, real):
        dataset = registry.get_dataset("miniplaces12k")
        splits = load.load(dataset, real.parent)
        train, test = splits["train"], splits["test"]
        assert (len(train.ids), len(test.ids)) == (12_000, 10_000) == (dataset.train, dataset.test)
        assert set(Counter(train.labels.tolist()).values()) == {120} and len(set(train.classes)) == 100
        assert set(Counter(test.labels.tolist()).values()) == {100}
        rows = rows_of(train)
        assert chosen(rows) == rows
        for label, numbers in LEFT_OUT.items():
            assert not numbers & {miniplaces.number(name) for name, of in rows if of == label}
        of_class = [[miniplaces.number(name) for name, label in rows if label == k] for k in range(100)]
        assert all(a < b for numbers in of_class for a, b in pairwise(numbers))

    def test_the_overlaps_are_those_listed_beside_it(self, real):
        listed = (real / "train_overlaps_scene15_sun8.txt").read_text().split()
        assert miniplaces.OVERLAPS.read_text().split() == listed and len(listed) == 395
        left = rows_of(read(real, "train", "12k-scene15"))
        assert [row for row in rows_of(read(real, "train", "12k")) if row[0] not in set(listed)] == left

    def test_no_annotated_image_is_trained_on(self, real, outlined_images):
        rows = rows_of(outlined_images)
        trained = {name for name, _ in rows_of(read(real, "train", "12k"))}
        assert len(rows) == 2_399 and not trained & {name for name, _ in rows}
        assert sum(name.startswith("train/") for name, _ in rows) == 2_028
        assert len({label for _, label in rows}) == 97
        assert len({label for name, label in rows if name.startswith("val/")}) == 71

    def test_every_outline_is_read_and_lies_in_the_image(self, real, outlined_images):
        outlines = miniplaces._outlines(real)
        assert {name for name, _ in rows_of(outlined_images)} == outlines.keys()
        categories = (real / "object_categories.txt").read_text().splitlines()
        for name, found in outlines.items():
            for outline in found:
                assert 0 <= outline.category < len(categories) == 175, name
                assert all(0 <= x < 128 and 0 <= y < 128 for x, y in outline.corners), name

    def test_masks_show_up_to_three_objects_of_most_images_and_seldom_most_of_one(self, outlined_images):
        masks = outlined_images.masks
        shown = (masks > 0).any(axis=(1, 2))
        assert masks.shape == (2_399, 128, 128) and masks.max() == 3
        assert 0.5 < shown.mean() <= 1
        assert 0.02 < (masks[shown] > 0).mean() < 0.5

    def test_stuff_are_names_of_the_categories(self, real):
        names = {line.rpartition(" ")[0] for line in (real / "object_categories.txt").read_text().splitlines()}
        assert names >= STUFF

    def test_masks_are_pillow_s_polygons_of_one_image(self, real, outlined_images):
        position = int(np.flatnonzero((outlined_images.masks == 1).any(axis=(1, 2)))[0])
        name = rows_of(outlined_images)[position][0]
        drawn: dict[int, Image.Image] = {}
        for outline in miniplaces._outlines(real)[name]:
            image = drawn.setdefault(outline.category, Image.new("1", (128, 128)))
            if len(outline.corners) > 1:
                ImageDraw.Draw(image).polygon(outline.corners, fill=1)
        first = outlined_images.masks[position] == 1
        assert any(np.array_equal(np.asarray(image), first) for image in drawn.values())
