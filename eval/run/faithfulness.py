"""Insertion and deletion (RISE; Petsiuk et al., BMVC 2018): whether a network's answer rests on the pixels of a map.

The areas themselves say little: an image with blurred patches is unlike any that the network was trained on. So only
differences between two orders of the pixels are reported, of the same images, network and blur.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from dctkd_zoo.attention import activation_map, grad_cam
from dctkd_zoo.data.loader import ImageLoader, centre_crops, derive_seed
from dctkd_zoo.device import fp32_inference
from dctkd_zoo.features import FeatureExtractor, Output
from eval import columns
from eval.stats.seeds import student as student_t

IMAGES = 200  # of a test set, evenly spread
STEPS = 16  # parts of equal size in which pixels are exchanged
BLUR = 0.1  # standard deviation of the blur, as a fraction of the image's side
BATCH_SIZE = 64
CAPTION = (
    "Area under the probability of the first class as pixels are exchanged in the order of the own map, less that in "
    "the other order. The own map marks the better pixels if insertion (of sharp pixels into a blurred image) is above "
    "0 and deletion (blurring of sharp pixels) below 0."
)

Answer = Callable[[Tensor], Tensor]  # images (B, 3, H, W) -> probability of the class in question (B,)
Ends = tuple[float, float, float]  # mean and the ends of its 95 % interval


def last_activation_map(output: Output, classes: Tensor) -> Tensor:
    """Return the activation map of the last level (B, H, W)."""
    return activation_map(output.maps[-1])


def class_map(output: Output, classes: Tensor) -> Tensor | None:
    """Return the Grad-CAM of a class per image (B, H, W), or None if the output has no class maps."""
    return None if output.class_maps is None else grad_cam(output.class_maps, classes)


MAPS = {"activation map, last level": last_activation_map, "class map": class_map}


@dataclass(frozen=True)
class Difference:
    """Area of the order by the network's own maps less that of the `other` order, over images, with a 95 % interval."""

    maps: str
    other: str
    insertion: Ends
    deletion: Ends


def text(ends: Ends) -> str:
    """Return a difference and its interval as text."""
    mean, low, high = ends
    return f"{columns.number(mean, 3, '+')} ({columns.interval(low, high, 3, '+')})"


def ranks(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Return the rank of each pixel, 0 for the largest value: maps (B, h, w) -> (B, H, W), resized bilinearly."""
    values = interpolate(maps[:, None].float(), size=size, mode="bilinear", align_corners=False).flatten(1)
    return values.argsort(dim=1, descending=True, stable=True).argsort(dim=1).view(-1, *size)


def areas(answer: Answer, images: Tensor, blurred: Tensor, order: Tensor, steps: int = STEPS) -> tuple[Tensor, Tensor]:
    """Return the areas (B,) under the insertion and the deletion curve, by the trapezoidal rule over `steps` parts.

    `order` (B, H, W) is the rank at which a pixel of `images` (B, 3, H, W) takes the place of the blurred one, or the
    blurred one its place.
    """
    pixels = math.prod(order.shape[1:])
    insertion, deletion = [], []
    for step in range(steps + 1):
        exchanged = (order < pixels * step / steps)[:, None]
        insertion.append(answer(torch.where(exchanged, images, blurred)))
        deletion.append(answer(torch.where(exchanged, blurred, images)))
    x = torch.linspace(0, 1, steps + 1, device=images.device)
    return torch.trapezoid(torch.stack(insertion, 1), x), torch.trapezoid(torch.stack(deletion, 1), x)


def measure(
    student: FeatureExtractor,
    teacher: Callable[[Tensor], Output],
    views: ImageLoader,
    positions: Tensor,
    seed: int = 0,
) -> tuple[Difference, ...]:
    """Compare the order of pixels by the student's own maps with that by its teacher's, and with a random order.

    `teacher` returns its outputs for the images at positions (B,) of the test set; those at `positions` are used. The
    maps are `MAPS`, as far as both networks have them, for the student's first class.
    """
    generator = torch.Generator().manual_seed(derive_seed(seed, "insertion and deletion"))
    windows = centre_crops(views.store, views.recipe)
    parts: dict[tuple[str, str], list[Tensor]] = {}
    with fp32_inference():
        for ids in positions.split(BATCH_SIZE):
            images = views.batch(ids, windows).images
            for kind, values in _differences(student, teacher(ids), images, generator).items():
                parts.setdefault(kind, []).append(values.cpu())
    return tuple(
        Difference(maps, other, *(_ends(column) for column in torch.cat(values).T.tolist()))
        for (maps, other), values in parts.items()
    )


def _ends(values: list[float]) -> Ends:
    test = student_t(values)
    return test.mean, test.low, test.high


def _differences(
    student: FeatureExtractor, teacher: Output, images: Tensor, generator: torch.Generator
) -> dict[tuple[str, str], Tensor]:
    """Return differences (B, 2) of the areas, insertion and deletion, by map and other order."""
    output = student(images)
    first, size = output.logits.argmax(dim=1), (images.shape[2], images.shape[3])
    blurred = blur(images)

    def answer(changed: Tensor) -> Tensor:
        probabilities: Tensor = student(changed).logits.softmax(dim=1)
        return probabilities.gather(1, first[:, None])[:, 0]

    def both(maps: Tensor) -> Tensor:
        return torch.stack(areas(answer, images, blurred, ranks(maps, size)), dim=1)

    at_random = both(torch.rand(len(images), *size, generator=generator).to(images.device))
    result = {}
    for name, of in MAPS.items():
        own, other = of(output, first), of(teacher, first)
        if own is not None and other is not None:
            area = both(own)
            result[name, "the teacher's map"] = area - both(other)
            result[name, "a random order"] = area - at_random
    return result


def blur(images: Tensor) -> Tensor:
    """Blur images (B, 3, H, W) by a Gaussian of `BLUR` times their shorter side."""
    from torchvision.transforms.v2.functional import gaussian_blur  # here, since importing it takes seconds

    sigma = BLUR * min(images.shape[2:])
    blurred: Tensor = gaussian_blur(images, [2 * math.ceil(2 * sigma) + 1] * 2, [sigma, sigma])
    return blurred
