"""Maps in colour over images."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from matplotlib import colormaps
from PIL import Image

from dctkd_zoo.attention_grid import GAP, LINE, MARGIN, SIDE, colours, font, overlay, shortened, strip


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image).astype(int)


@pytest.mark.parametrize("mode", ["RGB", "L", "P"])
@pytest.mark.parametrize("shape", [(1, 1), (7, 7), (5, 9), (100, 100)])
def test_the_picture_has_the_size_of_the_image(mode, shape):
    image = Image.new(mode, (40, 30), 90 if mode != "RGB" else (90, 80, 70))
    shown = overlay(image, torch.rand(shape))
    assert shown.mode == "RGB"
    assert shown.size == (40, 30)


@pytest.mark.parametrize("value", [0.0, 1.0, -3.0, 1e30])
def test_a_constant_map_is_dark_all_over(value):
    shown = pixels(overlay(Image.new("RGB", (16, 16)), torch.full((4, 4), value)))
    assert (shown == shown[0, 0]).all()
    assert shown.max() < 80


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize(("row", "column"), [(0, 0), (1, 5), (4, 2), (6, 6)])
def test_the_brightest_spot_is_where_the_map_is_greatest(row, column, dtype):
    heat = torch.rand(7, 7, generator=torch.Generator().manual_seed(row)) / 2
    heat[row, column] = 1
    shown = pixels(overlay(Image.new("RGB", (70, 70), (120, 120, 120)), heat.to(dtype).requires_grad_())).sum(axis=2)
    assert np.unravel_index(shown.argmax(), shown.shape)[0] // 10 == row
    assert np.unravel_index(shown.argmax(), shown.shape)[1] // 10 == column


def test_scale_and_offset_of_a_map_do_not_show():
    image, heat = Image.new("RGB", (20, 20), (10, 200, 90)), torch.rand(5, 5)
    np.testing.assert_allclose(pixels(overlay(image, heat)), pixels(overlay(image, 300 * heat - 7)), atol=1)


def test_opacity_runs_from_the_grey_image_to_the_colours():
    image, heat = Image.new("RGB", (8, 8), (200, 30, 30)), torch.rand(8, 8)
    grey = pixels(overlay(image, heat, opacity=0))
    assert (grey == pixels(image.convert("L"))[..., None]).all()
    assert (pixels(overlay(image, heat, opacity=1)) == pixels(overlay(Image.new("RGB", (8, 8)), heat, opacity=1))).all()


def test_the_colours_are_viridis():
    values = np.linspace(0, 1, 256)[None]
    expected = 255 * colormaps["viridis"](values)[..., :3]
    away = np.abs(colours(values).astype(float) - expected)
    assert away.mean() < 2
    assert away.max() < 18
    lightness = colours(values)[0].astype(float) @ (0.2126, 0.7152, 0.0722)
    assert (np.diff(lightness) >= 0).all()


@pytest.mark.parametrize(("side", "shown"), [(32, 224), (40, 200), (112, 224), (200, 200), (384, 384)])
@pytest.mark.parametrize("levels", [1, 4])
def test_a_strip_has_a_panel_for_the_image_and_each_level(side, shown, levels):
    image = Image.new("RGB", (side, side), (200, 30, 30))
    picture = strip(image, [torch.rand(level + 2, level + 3) for level in range(levels)], "words")
    assert picture.size == (2 * MARGIN + (levels + 1) * (shown + GAP) - GAP, 2 * (MARGIN + LINE) + shown)
    assert shown >= SIDE
    top = MARGIN + 2 * LINE
    panels = [pixels(picture)[top : top + shown, MARGIN + n * (shown + GAP) :][:, :shown] for n in range(levels + 1)]
    assert (panels[0] == (200, 30, 30)).all()
    assert all(panel.std() > 5 and panel.min(axis=2).max() < 240 for panel in panels[1:])
    gap = pixels(picture)[top:, MARGIN + shown : MARGIN + shown + GAP]
    assert (gap == 255).all()


def test_words_that_are_too_long_end_in_an_ellipsis():
    assert shortened("words", 200) == "words"
    assert shortened("", 5) == ""
    long = shortened("many words " * 20, 200)
    assert long.endswith("…")
    assert 150 < font().getlength(long) <= 200
    assert shortened("words", 1) == "…"
