"""The synthetic scenes: their combinatorics, what an image must not give away, and their pinned pixels."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest

from dctkd_zoo.data import fingerprint
from dctkd_zoo.data.sources import synthscenes
from dctkd_zoo.data.sources.synthscenes import CLASSES, DIGEST, KINDS, LINES, Painted, compose, generate, paint, read
from dctkd_zoo.data.split import digest, fingerprints


@pytest.fixture(scope="module")
def small():
    return generate("train", 10)


@pytest.fixture(scope="module")
def scenes():
    return compose(np.arange(6000) % 12, np.random.default_rng(0))


def test_classes_are_the_lines_of_an_affine_plane():
    assert len(KINDS) == 9 and len(CLASSES) == len(set(CLASSES)) == 12
    assert list(CLASSES) == sorted(CLASSES)
    assert all(name.split("+") == sorted(name.split("+")) for name in CLASSES)
    for kind in KINDS:
        assert sum(kind in name.split("+") for name in CLASSES) == 4
    for pair in combinations(KINDS, 2):
        assert sum(set(pair) <= set(name.split("+")) for name in CLASSES) == 1


def test_an_image_shows_its_own_class_once_and_no_other(scenes):
    for label, kinds, decisive in zip(np.arange(6000) % 12, scenes.kinds, scenes.decisive, strict=True):
        assert tuple(sorted(kinds[decisive])) == LINES[label]
        assert not set(kinds[~decisive]) & set(LINES[label])
        assert [line for line in LINES if set(line) <= set(kinds)] == [LINES[label]]


def test_at_most_one_clutter_kind_is_there_twice(scenes):
    counts = np.stack([((scenes.kinds == kind) & ~scenes.decisive).sum(axis=1) for kind in range(9)], axis=1)
    assert counts.max() == 2
    assert (counts == 2).sum(axis=1).max() == 1
    assert (counts > 0).sum(axis=1).max() == 2


def test_clutter_is_the_same_for_every_class(scenes):
    labels, clutter = np.arange(6000) % 12, np.where(scenes.decisive, -1, scenes.kinds)
    for label, line in enumerate(LINES):
        seen = clutter[labels == label]
        kinds = np.array([(seen == kind).any(axis=1).sum() for kind in range(9) if kind not in line])
        assert chi_square(kinds, np.full(6, kinds.sum() / 6)) < 20.5  # 5 degrees of freedom, p = 0.001
        number = np.bincount((seen >= 0).sum(axis=1), minlength=4)
        assert chi_square(number, 500 * np.array([2, 1, 2, 1]) / 6) < 16.3  # 3 degrees of freedom, p = 0.001


def chi_square(seen, expected):
    return ((seen - expected) ** 2 / expected).sum()


def test_decisive_objects_look_and_lie_like_clutter(scenes):
    there = scenes.kinds >= 0
    for quantity in (scenes.sizes, *np.moveaxis(scenes.centres, -1, 0), *np.moveaxis(scenes.tints, -1, 0)):
        decisive, clutter = quantity[scenes.decisive], quantity[there & ~scenes.decisive]
        assert abs(decisive.mean() - clutter.mean()) < 0.05 * quantity.std()


def test_objects_stay_off_the_frame(scenes):
    there = scenes.kinds >= 0
    reach = np.abs(scenes.centres - 32).max(axis=-1) + scenes.sizes
    assert reach[there].max() <= 32 - 4


def test_every_decisive_object_can_be_seen(scenes):
    some = scenes.take(slice(300))
    _, seen = paint(some, np.random.default_rng(0))
    shares = []
    for slot in range(some.kinds.shape[1]):
        alone = np.where((np.arange(some.kinds.shape[1]) == slot) & some.decisive, some.kinds, -1)
        _, whole = paint(replace(some, kinds=alone), np.random.default_rng(0))
        drawn = some.decisive[:, slot]
        at = whole > 0
        shares += list((at & (seen == whole))[drawn].sum(axis=(1, 2)) / at[drawn].sum(axis=(1, 2)))
    assert len(shares) == 3 * 300
    assert min(shares) > 0.7
    assert np.mean(np.array(shares) > 0.9) > 0.95


def test_masks_cover_what_stands_out():
    scenes = compose(np.arange(60) % 12, np.random.default_rng(0))
    only = replace(scenes, kinds=np.where(scenes.decisive, scenes.kinds, -1))
    empty = replace(scenes, kinds=np.full_like(scenes.kinds, -1))
    shown, masks = paint(only, np.random.default_rng(1))
    bare, none = paint(empty, np.random.default_rng(1))
    changed = (np.abs(shown.astype(int) - bare) > 20).any(axis=-1)
    assert not none.any()
    at = masks > 0
    assert (changed & at).sum() > 0.95 * at.sum()
    near = np.any([np.roll(at, (y, x), axis=(1, 2)) for y in (-1, 0, 1) for x in (-1, 0, 1)], axis=0)
    # Antialiasing reaches one pixel beyond the mask, but for the thin tips of crescents.
    assert (changed & ~near).sum() < 0.01 * at.sum()


def test_a_split_is_balanced_and_shuffled(small):
    assert small.classes == CLASSES and len(small) == 120
    assert small.labels.dtype == np.int64
    assert (np.bincount(small.labels) == 10).all()
    assert (np.diff(small.labels) < 0).any()
    assert small.ids[17] == "train/00017"
    assert small.images.load(17).size == (64, 64)


def test_masks_are_a_small_part_of_each_image(small):
    assert small.masks.shape == (120, 64, 64) and small.masks.dtype == np.uint8
    area = (small.masks > 0).sum(axis=(1, 2))
    assert area.min() > 150 and area.max() < 900


def test_masks_tell_all_three_decisive_objects_apart(small):
    assert small.masks.max() == 3
    areas = np.stack([(small.masks == number).sum(axis=(1, 2)) for number in (1, 2, 3)])
    assert areas.min() > 30


def test_a_decisive_object_is_numbered_by_its_kinds_place_in_the_class(scenes):
    lines = np.array(LINES)[np.arange(6000) % 12]
    named = np.take_along_axis(lines, scenes.places.astype(int) - 1, axis=1)
    assert (np.where(scenes.decisive, named, -1) == np.where(scenes.decisive, scenes.kinds, -1)).all()
    assert (np.sort(scenes.places, axis=1) == [0, 0, 0, 1, 2, 3]).all()


def test_each_number_lies_where_its_kind_alone_is_drawn():
    scenes = compose(np.arange(120) % 12, np.random.default_rng(0))
    _, masks = paint(scenes, np.random.default_rng(1))
    for kind, name in enumerate(KINDS):
        alone = replace(scenes, kinds=np.where(scenes.decisive & (scenes.kinds == kind), scenes.kinds, -1))
        _, drawn = paint(alone, np.random.default_rng(1))
        for label, mask, own in zip(np.arange(120) % 12, masks, drawn, strict=True):
            names = CLASSES[label].split("+")
            number = names.index(name) + 1 if name in names else 0
            assert set(np.unique(own)) == {0, number}
            assert not number or ((mask == number) <= (own == number)).all()


def test_generation_depends_on_the_split_alone(small):
    np.random.seed(1)
    again = generate("train", 10)
    assert digest(again) == digest(small)
    assert (again.masks == small.masks).all()
    assert not set(fingerprints(generate("test", 10))) & set(fingerprints(small))


def test_arrays_that_all_readers_share_are_read_only(small):
    for array in (small.labels, small.images.painted()[0].pixels, small.masks):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


def features(split):
    """Images -> 8 x 8 means of each channel, 8 bins of each channel's histogram, and 1."""
    pixels = split.images.painted()[0].pixels
    means = pixels.reshape(len(split), 8, 8, 8, 8, 3).mean(axis=(2, 4)).reshape(len(split), -1) / 255
    bins = [((pixels // 32) == value).mean(axis=(1, 2)) for value in range(8)]
    return np.concatenate([means, *bins, np.ones((len(split), 1))], axis=1)


@pytest.mark.slow
def test_the_pixels_are_the_pinned_ones_and_no_shortcut_solves_them():
    train, test = read(None, "train"), read(None, "test")
    assert read(None, "train") is train
    assert (np.bincount(train.labels) == 500).all() and (np.bincount(test.labels) == 100).all()
    prints = fingerprints(train) + fingerprints(test)
    assert len(set(prints)) == 7200
    assert {"train": digest(train, prints[:6000]), "test": digest(test, prints[6000:])} == DIGEST

    x, targets = features(train), np.eye(12)[train.labels]
    weights = np.linalg.solve(x.T @ x + 1e-2 * np.eye(x.shape[1]), x.T @ targets)
    assert ((features(test) @ weights).argmax(axis=1) == test.labels).mean() < 0.2


def test_the_sheet_shows_every_class(monkeypatch):
    monkeypatch.setattr(synthscenes, "read", lambda root, split: generate(split, 5))
    page = np.asarray(synthscenes.sheet(per_class=2))
    assert page.shape == (12 * 132, 170 + 4 * 132, 3)
    assert (page[:, :170] < 128).any() and (page[:, 302:434] == (255, 255, 0)).all(axis=-1).any()


def test_images_are_painted_when_the_first_is_read_and_masks_with_them(monkeypatch):
    painted: list[int] = []

    def counted(scenes, rng):
        painted.append(len(scenes.kinds))
        return paint(scenes, rng)

    monkeypatch.setattr(synthscenes, "paint", counted)
    split = generate("test", 5)
    some = split.take([3, 1])
    assert not painted
    first, masks = np.asarray(some.images.load(0)), some.masks
    assert masks is not None and split.masks is not None
    assert (first == np.asarray(split.images.load(3))).all()
    assert (masks == split.masks[[3, 1]]).all() and masks.any()
    assert painted == [60]


def test_hashes_of_images_are_kept_for_as_long_as_the_code_that_paints_is_the_same(monkeypatch, tmp_path):
    monkeypatch.setenv("DCTKD_ZOO_HOME", str(tmp_path))
    first = fingerprint.fingerprints(generate("test", 5))
    assert first == fingerprints(generate("test", 5))
    unpainted = generate("test", 5)
    monkeypatch.setattr(synthscenes, "paint", None)
    assert fingerprint.fingerprints(unpainted) == first
    with pytest.raises(TypeError):
        unpainted.images.load(0)
    assert len({Painted(split, count).signature() for split in ("train", "test") for count in (4, 5)}) == 4


def test_masks_are_those_of_the_images_taken_whatever_becomes_of_the_list():
    split, keep = generate("test", 5), [3, 1]
    some = split.take(keep)
    keep[:] = [0, 0]
    assert some.masks is not None and split.masks is not None
    assert (some.masks == split.masks[[3, 1]]).all()
