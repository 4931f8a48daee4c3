"""The picture of an entry's attention, of the bundled networks on images made here."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image

from dctkd_zoo import registry, weights
from dctkd_zoo.attention_grid import GAP, LINE, MARGIN
from dctkd_zoo.data.split import Arrays, Split
from dctkd_zoo.errors import WeightsNotFound
from eval.cards import attention_figure as figure
from eval.cards.attention_figure import CELL, Panel, Seen, answers, attention_figure, draw
from eval.run.config import EvalConfig

CLASSES = tuple(weights.read_config(weights.BUNDLED / "r56_synthscenes")["label_names"])
HERE = EvalConfig(None, torch.device("cpu"))


@pytest.fixture(autouse=True)
def images(monkeypatch, tmp_path):
    """Twelve images in place of synthscenes' test set."""
    pixels = np.random.default_rng(0).integers(0, 256, (12, 64, 64, 3), dtype=np.uint8)
    split = Split(CLASSES, tuple(map(str, range(12))), np.arange(12), Arrays(pixels))
    monkeypatch.setattr(figure, "test_split", lambda *where: split)
    monkeypatch.setenv("DCTKD_ZOO_HOME", str(tmp_path))


def width(columns: int) -> int:
    return 2 * MARGIN + columns * (CELL + GAP) - GAP


@pytest.mark.parametrize(
    ("name", "columns"), [("r20_dctkd_synthscenes", 7), ("r20_synthscenes", 7), ("r56_synthscenes", 4)]
)
def test_a_row_per_image_and_a_column_per_map(name, columns):
    entry = registry.get_entry(name)
    one, three = (attention_figure(entry, HERE, count=count) for count in (1, 3))
    assert one.width == three.width == width(columns)
    assert (three.height - one.height) % (CELL + GAP + LINE) == 0
    assert three.height > one.height + CELL


def test_who_stands_beside_whom():
    roles = {
        name: [seen.role for seen in figure.look(registry.get_entry(name), HERE, 2, 0).seen]
        for name in ("r20_kd_synthscenes", "r20_synthscenes", "r56_synthscenes")
    }
    assert list(roles.values()) == [["teacher", "student"], ["reference", "baseline"], [""]]


def test_the_seed_draws_the_images():
    entry = registry.get_entry("r56_synthscenes")
    drawn = [figure.look(entry, HERE, 4, seed).labels for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert len(set(drawn[0])) == 4
    assert sorted(figure.look(entry, HERE, 50, 0).labels) == list(range(12))


def test_images_that_do_not_decode_are_not_drawn():
    heights = torch.tensor([0, 5, 0, 5, 5])
    assert sorted(figure.drawn(heights, 9, 0).tolist()) == [1, 3, 4]


def test_a_recipe_has_no_picture():
    with pytest.raises(WeightsNotFound):
        attention_figure(registry.get_entry("r8_synthscenes"), HERE)


def panel(levels: tuple[int, ...] = (3, 3), title: str = "b") -> Panel:
    logits = torch.tensor([[0.0, 5.0]])
    maps = torch.zeros(1, 4, 4)
    roles = ("teacher", "student")[: len(levels)]
    seen = tuple(Seen(role, logits, (maps,) * count) for role, count in zip(roles, levels, strict=True))
    return Panel((Image.new("RGB", (32, 32)),), (0,), ("a", title), seen)


def test_levels_are_paired_from_the_deepest():
    assert draw(panel((4, 3))).width == width(7)
    assert [(level, index) for level, _, index in figure._columns(panel((4, 3)).seen)] == [
        (1, 1), (1, 0), (2, 2), (2, 1), (3, 3), (3, 2),
    ]  # fmt: skip


def test_a_wrong_answer_is_named_and_a_right_one_is_not():
    meta = answers(panel(), 0)
    assert meta == [("a", True), ("teacher: b, 99%", False), ("student: b, 99%", False)]
    right = Panel(panel().images, (1,), ("a", "b"), panel().seen[:1])
    assert answers(right, 0) == [("b", True), ("teacher: right, 99%", True)]


def test_long_names_are_cut_off_at_their_share_of_the_width():
    short, long = draw(panel()), draw(panel(title="x" * 500))
    assert long.size == short.size
    assert (np.asarray(long)[:, -MARGIN:] == 255).all()


def test_the_file_is_small_whatever_it_shows(monkeypatch):
    monkeypatch.setattr(figure, "LARGEST", 9_000)
    noise = np.random.default_rng(0).integers(0, 256, (120, 120, 3), dtype=np.uint8)
    for picture in (Image.fromarray(noise), draw(panel())):
        data = figure.compressed(picture)
        assert len(data) <= figure.LARGEST
        with Image.open(io.BytesIO(data)) as read:
            assert (read.format, read.size) == ("PNG", picture.size)


def test_it_is_written(tmp_path):
    path, example = tmp_path / "figures" / "x.png", tmp_path / "example.png"
    entry = registry.get_entry("r20_at_synthscenes")
    figure.write(entry, HERE, path, example)
    with Image.open(path) as read:
        assert read.width == width(7)
    with Image.open(example) as read:
        assert (read.format, read.mode, read.size) == ("PNG", "RGB", (40, 40))
        assert read.tobytes() == figure.look(entry, HERE, 3, 0).images[0].tobytes()
