"""dctkd_zoo.data.image_input: what arrays, tensors, bytes and Pillow images become, and what is refused."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms.functional import to_pil_image, to_tensor

from dctkd_zoo.data import decode, image_input
from dctkd_zoo.errors import InvalidImage, Undecodable

RGB = np.random.default_rng(0).integers(0, 256, (9, 16, 3), dtype=np.uint8)
EVERY_VALUE = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, axis=2)


def pixels(images: object) -> list[np.ndarray]:
    return [np.asarray(image_input.picture(item).image) for item in image_input.items(images)]  # type: ignore[arg-type]


def encoded(image: Image.Image, form: str = "PNG") -> bytes:
    stream = io.BytesIO()
    image.save(stream, form)
    return stream.getvalue()


@pytest.mark.parametrize(
    "image",
    [
        RGB,
        np.asfortranarray(RGB),
        RGB[::-1, ::-1][::-1, ::-1],
        torch.from_numpy(RGB).permute(2, 0, 1),
        Image.fromarray(RGB),
        encoded(Image.fromarray(RGB)),
    ],
    ids=["array", "fortran", "strided", "tensor", "pillow", "bytes"],
)
def test_the_pixels_are_the_same_in_any_form(tmp_path, image):
    Image.fromarray(RGB).save(tmp_path / "a.png")
    for result in pixels([image, tmp_path / "a.png", str(tmp_path / "a.png")]):
        np.testing.assert_array_equal(result, RGB)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_all_values_of_8_bits_survive_a_float_tensor(dtype):
    """As `to_pil_image` of torchvision gives them back from float32, the type that its `to_tensor` returns."""
    tensor = to_tensor(EVERY_VALUE)
    (result,) = pixels(tensor.to(dtype, copy=True).requires_grad_())
    np.testing.assert_array_equal(result, EVERY_VALUE)
    np.testing.assert_array_equal(np.asarray(to_pil_image(tensor)), EVERY_VALUE)
    np.testing.assert_array_equal(pixels(tensor.movedim(0, 2).to(dtype).float().numpy())[0], EVERY_VALUE)


def test_floats_are_rounded_to_the_nearest():
    values = np.full((2, 2, 3), 100 / 255)
    assert {int(value) for shift in (-0.4, 0.4) for value in pixels(values + shift / 255)[0].ravel()} == {100}
    assert pixels(values + 0.6 / 255)[0].max() == 101


def test_a_batch_is_its_images():
    batch = np.stack([RGB, RGB[::-1]])
    tensor = torch.from_numpy(batch).permute(0, 3, 1, 2)
    for images in (batch, tensor, [batch], iter([RGB, RGB[::-1]]), (row for row in tensor)):
        first, second = pixels(images)
        np.testing.assert_array_equal(first, RGB)
        np.testing.assert_array_equal(second, RGB[::-1])
    names = [item.name for item in image_input.items([RGB, batch, "a.png"])]
    assert names == ["images[0]", "images[1][0]", "images[1][1]", "images[2]"]
    assert [item.name for item in image_input.items(tensor)] == ["images[0]", "images[1]"]


def test_pillow_images_are_read_as_their_files_are(tmp_path):
    """The same pixels and notes, of modes of all kinds and with an orientation."""
    turned = Image.Exif()
    turned[0x0112] = 6
    deep = Image.fromarray(np.arange(144, dtype=np.uint16).reshape(9, 16) * 450)
    picture, clear = Image.fromarray(RGB), Image.fromarray(np.dstack([RGB, RGB[..., :1]]))
    cases = {"L": picture.convert("L"), "P": picture.quantize(8), "CMYK": picture.convert("CMYK"), "RGBA": clear}
    cases |= {"deep": deep, "turned": picture}
    for name, image in cases.items():
        path = tmp_path / f"{name}.{'jpg' if name == 'CMYK' else 'png'}"
        image.save(path, exif=turned if name == "turned" else Image.Exif())
        expected = decode.read(path)
        with Image.open(path) as opened:
            result = image_input.picture(image_input.Item("images", opened))
        np.testing.assert_array_equal(np.asarray(result.image), np.asarray(expected.image))
        assert result.notes == expected.notes
        assert bool(result.notes) == (name in ("RGBA", "deep", "turned"))


@pytest.mark.parametrize(
    ("images", "words"),
    [
        (RGB[..., 0], ["images is an array of shape (9, 16)", "grey"]),
        (RGB[..., :1], ["shape (9, 16, 1)", "np.repeat"]),
        (np.dstack([RGB, RGB[..., :1]]), ["shape (9, 16, 4)", "alpha", "[..., :3]"]),
        (RGB.transpose(2, 0, 1), ["shape (3, 9, 16)", "np.moveaxis"]),
        (RGB[..., [0, 1]], ["2 channels instead of 3"]),
        (torch.from_numpy(RGB), ["a tensor of shape (9, 16, 3)", "movedim"]),
        (torch.zeros(4, 5, 5), ["alpha", "[..., :3, :, :]"]),
        (torch.zeros(5), ["number of axes: 1"]),
        ([RGB, None], ["images[1] is of type NoneType", "a path", "(H, W, 3)"]),
        ([RGB, [RGB]], ["images[1] is of type list"]),
        ({"image": RGB}, ["images is of type dict"]),
        (io.BytesIO(b"abc"), ["images is of type BytesIO", "the bytes of an image file"]),
        (7, ["images is of type int", "iterable"]),
    ],
)
def test_what_has_no_type_or_shape_of_an_image_is_named(images, words):
    with pytest.raises(InvalidImage) as error:
        list(image_input.items(images))
    assert isinstance(error.value, ValueError)
    assert all(word in str(error.value) for word in words), error.value


@pytest.mark.parametrize("hint", [text for kinds in image_input.CHANNELS.values() for text in kinds.values()])
def test_the_ways_on_that_are_suggested_lead_on(hint):
    code = hint.rpartition(": ")[2].rpartition("channel, ")[2]
    count = 4 if "alpha" in hint else 1
    array, tensor = np.zeros((5, 6, count), np.uint8), torch.zeros(count, 5, 6)
    assert pixels(eval(code, {"np": np, "array": array, "tensor": tensor}))[0].shape == (5, 6, 3)


@pytest.mark.parametrize("hint", image_input.SWAPPED.values())
def test_swapped_axes_can_be_put_right_as_suggested(hint):
    for shape in ((5, 6), (2, 5, 6)):
        array = np.zeros((*shape[:-2], 3, *shape[-2:]), np.uint8)
        tensor = torch.zeros(*shape, 3)
        assert pixels(eval(hint.rpartition(": ")[2], {"np": np, "array": array, "tensor": tensor}))[0].shape == (
            5,
            6,
            3,
        )


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (RGB.astype(np.int64), "array of int64, shape .9, 16, 3.: give uint8"),
        (RGB.astype(np.uint16), "array of uint16.*give uint8"),
        (RGB > 3, "array of bool"),
        (RGB.astype(np.float32), "float32.*from 0 to 255.*convert them to uint8"),
        (RGB / 128 - 1, "from -1 to 0.9.*undo the normalisation"),
        (np.where(RGB > 128, np.nan, 0.5), "with NaN"),
        (torch.full((3, 4, 4), torch.inf), "tensor of float32, shape .3, 4, 4., with values from inf"),
        (torch.full((3, 4, 4), -0.1, dtype=torch.bfloat16), "tensor of bfloat16.*from -0.1"),
        (np.zeros((0, 4, 3), np.uint8), "no pixels"),
        (np.zeros((4, 500, 3), np.uint8), "500 x 4 px"),
        (b"no image", "8 bytes: not an image"),
        ("https://example.org/a.jpg", "a URL, not a file"),
    ],
)
def test_values_that_are_no_image_are_refused(image, message):
    (item,) = image_input.items(image)
    with pytest.raises((ValueError, Undecodable), match=message):
        image_input.picture(item)
