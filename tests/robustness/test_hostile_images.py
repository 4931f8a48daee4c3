"""Images of every kind, damaged and endless ones: what evaluation, `create_transform` and `predict` make of them."""

from __future__ import annotations

import io
import json
import struct
import subprocess
import sys
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from dctkd_zoo import create_transform
from dctkd_zoo.__main__ import main
from dctkd_zoo.data import decode
from dctkd_zoo.data.pixel_cache import resized
from dctkd_zoo.data.split import Files
from dctkd_zoo.errors import Undecodable
from dctkd_zoo.registry import get_entry
from tests.robustness.fuzz_targets import images

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
        teacher = transform(picture)
    assert torch.equal(teacher, transform(seen))
    recipe = get_entry(NAME).recipe
    assert min(resized(seen, recipe).shape[:2]) == recipe.resize + 2 * recipe.pad


@pytest.mark.parametrize("mode", ["I;16", "I;16B", "I;16L"])
def test_of_sixteen_bits_the_upper_eight_are_seen(mode):
    values = np.arange(0, 65_536, 257, dtype=np.uint16).reshape(16, 16)
    raw = values.astype(">u2" if mode == "I;16B" else "<u2").tobytes()
    picture = Image.frombytes(mode, (16, 16), raw)
    seen = np.asarray(decode.rgb(picture))
    np.testing.assert_array_equal(seen, np.repeat((values >> 8)[..., None], 3, axis=2))
    assert seen.min() == 0 and seen.max() == 255, "neither clipped to white nor black"


def test_sixteen_bits_of_a_pgm_too(tmp_path):
    (tmp_path / "a.pgm").write_bytes(b"P5 3 1 1023\n\x00\x00\x02\x00\x03\xff")
    assert np.asarray(decode.read(tmp_path / "a.pgm").image)[0, :, 0].tolist() == [0, 128, 255]


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
        decode.rgb(picture)
    with pytest.raises(ValueError, match=message):
        create_transform(NAME)(picture)


def test_values_within_eight_bits_are_taken_as_they_are():
    assert decode.rgb(Image.new("F", (2, 2), 77.0)).getpixel((0, 0)) == (77, 77, 77)
    assert decode.rgb(Image.new("I", (100, 1), 255)).getpixel((0, 0)) == (255, 255, 255)


def test_the_first_frame_is_seen_as_its_pixels_lie(tmp_path):
    red, blue = Image.new("RGB", (4, 2), "red"), Image.new("RGB", (4, 2), "blue")
    seen = decode.read(saved(tmp_path / "a.gif", red, save_all=True, append_images=[blue])).image
    assert seen.getpixel((0, 0)) == (255, 0, 0)
    turned = Image.Exif()
    turned[0x0112] = 6
    assert decode.read(saved(tmp_path / "a.jpg", red, exif=turned)).image.size == (4, 2)


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
    meta = json.loads(capsys.readouterr().out)
    assert [item["path"] for item in meta["images"]] == [str(whole)]
    assert [item["path"] for item in meta["failed"]] == paths and all(item["error"] for item in meta["failed"])


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
        assert decode.read(tmp_path / "a.jpg").image.mode == "RGB"
    except Undecodable as error:
        assert str(tmp_path / "a.jpg") in str(error)


def colours(values: np.ndarray) -> bytes:
    """A PNG of three channels of 16 bits, which Pillow does not write."""
    height, width, _ = values.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


RAMP = np.linspace(0, 1, 64).reshape(8, 8)


def tiff(values: np.ndarray) -> bytes:
    Image.fromarray(values).save(file := io.BytesIO(), "TIFF")
    return file.getvalue()


@pytest.mark.parametrize(
    ("data", "expected", "note"),
    [
        (tiff((RAMP * 65535).astype(np.uint16)), (RAMP * 65535).astype(np.uint16) >> 8, decode.UPPER),
        (colours(np.dstack([RAMP * 65535] * 3)), (RAMP * 65535).astype(np.uint16) >> 8, decode.UPPER),
        (tiff(RAMP.astype(np.float32)), (RAMP.astype(np.float32) * 255).round(), decode.UNIT),
        (tiff((RAMP * 255).round().astype(np.float32)), (RAMP * 255).round(), decode.WITHIN),
        (tiff((RAMP * 255).round().astype(np.int32)), (RAMP * 255).round(), decode.WITHIN),
        (tiff(np.zeros((8, 8), np.uint16)), np.zeros((8, 8)), decode.UPPER),
        (tiff(RAMP > 0.5), 255 * (RAMP > 0.5), None),
    ],
    ids=["16 bits", "16 bits of colour", "0 to 1", "float", "32 bits", "all black", "1 bit"],
)
def test_another_range_than_8_bits_is_converted_with_a_note(data, expected, note):
    seen = decode.decode(data, "a")
    np.testing.assert_array_equal(np.asarray(seen.image)[..., 0], expected.astype(np.uint8))
    assert seen.notes == ((note,) if note else ())


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (tiff((RAMP * 255).astype(np.uint16)), "values up to 255 of 65,535, which would be black"),
        (tiff((RAMP * 4095).astype(np.uint16)), "values up to 4,095 of 65,535"),
        (colours(np.dstack([RAMP * 1023] * 3)), "values up to 1,023 of 65,535"),
        (tiff((RAMP * 2**31).astype(np.int64).clip(0, 2**31 - 1).astype(np.int32)), "mode I with values from 0 to 2.1"),
        (tiff((RAMP * 5).round().astype(np.int32)), "mode I with values from 0 to 5: convert it to 8 bits"),
        (tiff((RAMP * 2 - 1).astype(np.float32)), "mode F with values from -1 to 1"),
        (tiff((RAMP * 9).astype(np.float32)), "mode F with values from 0 to 9"),
    ],
    ids=["8 in 16", "12 in 16", "10 in 16 of colour", "32 bits", "labels", "-1 to 1", "small"],
)
def test_another_range_than_8_bits_is_never_shown_as_black(data, message):
    with pytest.raises(Undecodable, match=message):
        decode.decode(data, "a")


def palette() -> Image.Image:
    return Image.linear_gradient("L").convert("RGB").quantize(8)


def damaged_exif() -> bytes:
    data = bytearray(SEEDS[0])
    at = data.index(b"Exif") + 14
    data[at : at + 2] = b"\xff\xff"  # more entries than there are
    return bytes(data)


def test_what_pillow_warns_of_is_a_note(tmp_path):
    """A warning is an error here: none comes through."""
    saved(tmp_path / "p.png", palette(), transparency=bytes(range(8)))
    saved(tmp_path / "g.gif", palette(), transparency=3)
    saved(tmp_path / "a.png", Image.new("LA", (9, 9), (200, 100)))
    saved(tmp_path / "opaque.png", Image.new("RGBA", (9, 9), (200, 100, 50, 255)))
    (tmp_path / "e.jpg").write_bytes(damaged_exif())
    notes = {path.name: decode.read(path).notes for path in sorted(tmp_path.iterdir())}
    assert notes == {
        "a.png": (decode.TRANSPARENT,),
        "e.jpg": (decode.TURNED, decode.DAMAGED),
        "g.gif": (decode.TRANSPARENT,),
        "opaque.png": (),
        "p.png": (decode.TRANSPARENT,),
    }
    plain = np.asarray(palette().convert("RGB"))
    np.testing.assert_array_equal(np.asarray(decode.read(tmp_path / "p.png").image), plain)
    with Image.open(tmp_path / "p.png") as picture:
        np.testing.assert_array_equal(np.asarray(decode.rgb(picture)), plain)
        assert "transparency" in picture.info, "the user's image is as it was"


def test_no_line_of_pillow_s_own_is_printed(tmp_path):
    saved(tmp_path / "p.png", palette(), transparency=bytes(range(8)))
    (tmp_path / "e.jpg").write_bytes(damaged_exif())
    (tmp_path / "b.png").write_bytes(BOMBS["warning.png"])
    (tmp_path / "c.png").write_bytes(BOMBS["error.png"])
    command = [sys.executable, "-m", "dctkd_zoo", "predict", NAME, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "Warning" not in done.stderr and "PIL" not in done.stderr
    assert decode.TRANSPARENT in done.stdout and decode.DAMAGED in done.stdout
    for name, size in (("b.png", "10,000 x 10,000 px"), ("c.png", "more than 178,956,970 px")):
        assert f"error: {tmp_path / name}: {size}: at most 89,478,485 px are read" in done.stderr


def test_large_images_are_decoded_one_at_a_time(monkeypatch):
    """Their number of threads does not multiply the memory."""
    monkeypatch.setattr(decode, "LARGE", 100)
    real, now, most = Image.Image.convert, [], []

    def convert(image, mode):
        now.append(1)
        most.append(len(now))
        time.sleep(0.01)
        now.pop()
        return real(image, mode)

    monkeypatch.setattr(Image.Image, "convert", convert)
    with ThreadPoolExecutor(8) as pool:
        assert len(list(pool.map(lambda _: decode.decode(SEEDS[2], "a"), range(16)))) == 16
    assert max(most) == 1
