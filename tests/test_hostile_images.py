"""Images of every kind, damaged and endless ones: what evaluation, `create_transform` and `predict` make of them."""

from __future__ import annotations

import io
import json
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from dctkd_zoo import create_transform
from dctkd_zoo.__main__ import main
from dctkd_zoo.data import pixels
from dctkd_zoo.data.split import Files
from dctkd_zoo.data.store import resized
from dctkd_zoo.errors import Undecodable
from dctkd_zoo.registry import get_entry
from tests.fuzz_targets import images

NAME = "r20_dctkd_synthscenes"
SEEDS = images()


def saved(path: Path, picture: Image.Image, **how) -> Path:
    picture.save(path, **how)
    return path


def png(width: int, height: int) -> bytes:
    """A PNG of few bytes that says it is of this size."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("seed", range(len(SEEDS)))
def test_every_kind_is_seen_alike_by_evaluation_and_by_the_transform(tmp_path, seed):
    (tmp_path / "a").write_bytes(SEEDS[seed])
    seen = Files(tmp_path, ("a",)).load(0)
    assert seen.mode == "RGB"
    transform = create_transform(NAME)
    with Image.open(tmp_path / "a") as picture:
        theirs = transform(picture)
    assert torch.equal(theirs, transform(seen))
    split = type("One", (), {"images": Files(tmp_path, ("a",))})()
    recipe = get_entry(NAME).recipe
    assert min(resized(split, 0, recipe).shape[:2]) == recipe.resize + 2 * recipe.pad


@pytest.mark.parametrize("mode", ["I;16", "I;16B", "I;16L"])
def test_of_sixteen_bits_the_upper_eight_are_seen(mode):
    values = np.arange(0, 65_536, 257, dtype=np.uint16).reshape(16, 16)
    raw = values.astype(">u2" if mode == "I;16B" else "<u2").tobytes()
    picture = Image.frombytes(mode, (16, 16), raw)
    seen = np.asarray(pixels.rgb(picture))
    np.testing.assert_array_equal(seen, np.repeat((values >> 8)[..., None], 3, axis=2))
    assert seen.min() == 0 and seen.max() == 255, "neither clipped to white nor black"


def test_sixteen_bits_of_a_pgm_too(tmp_path):
    (tmp_path / "a.pgm").write_bytes(b"P5 3 1 1023\n\x00\x00\x02\x00\x03\xff")
    assert np.asarray(pixels.read(tmp_path / "a.pgm").image)[0, :, 0].tolist() == [0, 128, 255]


@pytest.mark.parametrize(
    ("picture", "message"),
    [
        (Image.new("F", (2, 2), 300.0), "mode F with values from 300 to 300: convert it to 8 bits"),
        (Image.fromarray(np.array([[1, np.nan]], np.float32)), "mode F with values from nan"),
        (Image.new("I", (2, 2), -1), "mode I with values from -1 to -1"),
        (Image.new("L", (101, 1)), "101 x 1 px: at most"),
        (Image.new("L", (1, 30_000)), "1 x 30,000 px"),
        (Image.new("L", (0, 0)), "0 x 0 px"),
    ],
)
def test_values_without_a_range_and_endless_images_are_refused(picture, message):
    with pytest.raises(ValueError, match=message):
        pixels.rgb(picture)
    with pytest.raises(ValueError, match=message):
        create_transform(NAME)(picture)


def test_values_within_eight_bits_are_taken_as_they_are():
    assert pixels.rgb(Image.new("F", (2, 2), 77.0)).getpixel((0, 0)) == (77, 77, 77)
    assert pixels.rgb(Image.new("I", (100, 1), 255)).getpixel((0, 0)) == (255, 255, 255)


def test_the_first_frame_is_seen_as_its_pixels_lie(tmp_path):
    red, blue = Image.new("RGB", (4, 2), "red"), Image.new("RGB", (4, 2), "blue")
    seen = pixels.read(saved(tmp_path / "a.gif", red, save_all=True, append_images=[blue])).image
    assert seen.getpixel((0, 0)) == (255, 0, 0)
    turned = Image.Exif()
    turned[0x0112] = 6
    assert pixels.read(saved(tmp_path / "a.jpg", red, exif=turned)).image.size == (4, 2)


BOMBS = {
    "warning.png": png(10_000, 10_000),
    "error.png": png(60_000, 60_000),
    "most.png": png(2**31 - 1, 2**31 - 1),
    "long.png": png(30_000, 1),
    "empty.png": b"",
    "eps.jpg": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n",
}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_are_images_that_do_not_decode(tmp_path, name):
    (tmp_path / name).write_bytes(BOMBS[name])
    with pytest.raises(Undecodable, match=name):
        Files(tmp_path, (name,)).load(0)


def test_predict_names_them_and_goes_on(tmp_path, capsys):
    for name, data in BOMBS.items():
        (tmp_path / name).write_bytes(data)
    whole = saved(tmp_path / "whole.png", Image.new("RGB", (50, 40), "green"))
    paths = [str(tmp_path / name) for name in BOMBS]
    assert main(["predict", NAME, *paths, str(whole), "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert [each["path"] for each in told["images"]] == [str(whole)]
    assert [each["path"] for each in told["failed"]] == paths and all(each["error"] for each in told["failed"])


def test_damaged_facts_do_not_spoil_a_picture_that_is_whole(tmp_path, capsys):
    data = bytearray(io.BytesIO(SEEDS[0]).getvalue())
    at = data.index(b"Exif") + 14
    data[at : at + 2] = b"\xff\xff"  # more entries than there are
    (tmp_path / "a.jpg").write_bytes(data)
    assert main(["predict", NAME, str(tmp_path / "a.jpg"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["failed"] == []


@given(
    st.integers(0, len(SEEDS) - 1),
    st.floats(0, 1),
    st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=4),
)
@example(0, 0.0, [])
def test_whatever_the_bytes_it_is_an_image_or_does_not_decode(tmp_path, seed, share, changes):
    data = bytearray(SEEDS[seed][: int(share * len(SEEDS[seed]))])
    for at, value in changes if data else ():
        data[int(at * len(data))] = value
    (tmp_path / "a.jpg").write_bytes(data)
    try:
        assert pixels.read(tmp_path / "a.jpg").image.mode == "RGB"
    except Undecodable as error:
        assert str(tmp_path / "a.jpg") in str(error)
