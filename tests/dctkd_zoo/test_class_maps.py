"""Class maps: what they are, which networks have them, and the terms that compare them."""

from __future__ import annotations

import math
import re
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.fft
import timm
import torch
from torch import Tensor, nn

from dctkd_zoo import losses, models, registry
from dctkd_zoo.attention import grad_cam
from dctkd_zoo.data.batch import Batch
from dctkd_zoo.errors import UnsupportedNetwork
from dctkd_zoo.features import FeatureExtractor, Output
from dctkd_zoo.losses.dctkd import spectral_distance
from dctkd_zoo.objective import Objective
from dctkd_zoo.spectrum import TRANSFORMS, octaves

CLASSES = 5
PAGE = Path(__file__).parents[2] / "docs" / "method.md"


def network(arch: str) -> nn.Module:
    """A network of the catalog whose head, too, is random: some begin with a head of zeros."""
    torch.manual_seed(0)
    model = (
        models.create(arch, CLASSES, 64) if arch in registry.archs() else timm.create_model(arch, num_classes=CLASSES)
    )
    head: Any = model.get_classifier()  # type: ignore[operator]
    nn.init.normal_(head.weight, std=0.1)
    nn.init.normal_(head.bias)
    return model.eval()


def images(count: int = 3, size: int = 64) -> Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(1))


def documented() -> dict[str, bool]:
    """The table of docs/method.md: whether an architecture has class maps."""
    rows = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \| (yes|no) \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    return {name: answer == "yes" for names, answer in rows for name in re.findall(r"`(\w+)`", names)}


def test_the_table_has_every_architecture_of_the_catalog():
    assert documented().keys() == registry.archs().keys()


@pytest.mark.parametrize("arch", registry.archs())
def test_networks_have_class_maps_where_the_mean_of_these_gives_the_logits(arch):
    model = network(arch)
    extractor = FeatureExtractor(model)
    if not documented()[arch]:
        with pytest.raises(UnsupportedNetwork, match="has no class maps"):
            extractor.enable_class_maps(images())
        assert extractor(images()).class_maps is None
        return
    extractor.enable_class_maps(images())
    output = extractor(images(2))
    assert output.class_maps is not None
    means = output.class_maps.mean(dim=(2, 3)) + model.get_classifier().bias  # type: ignore[operator]
    torch.testing.assert_close(means, model(images(2)), rtol=1e-4, atol=1e-4)
    assert output.class_maps.shape == (2, CLASSES, *output.maps[-1].shape[2:])


@pytest.mark.parametrize("name", ["mobilenetv3_small_050", "swin_tiny_patch4_window7_224", "vgg11"])
def test_other_networks_of_timm_are_refused_by_what_they_compute(name):
    size = 224 if "swin" in name else 64
    with pytest.raises(UnsupportedNetwork, match=f"{name} has no class maps"):
        FeatureExtractor(network(name)).enable_class_maps(images(2, size))


@pytest.mark.parametrize("arch", ["r8", "r18", "mbv2", "el0"])
def test_grad_cam_is_that_of_a_backward_pass(arch):
    """The definition of Selvaraju et al.: weights are mean gradients, then the positive part of the weighted sum."""
    model: Any = network(arch).double()
    extractor, seen, classes = FeatureExtractor(model), images().double(), torch.tensor([3, 0, 4])
    extractor.enable_class_maps(seen)
    features = model.forward_features(seen).detach().requires_grad_()
    chosen = model.forward_head(features)[torch.arange(3), classes].sum()
    (gradient,) = torch.autograd.grad(chosen, features)
    expected = (gradient.mean(dim=(2, 3), keepdim=True) * features).sum(dim=1).relu()
    output = extractor(seen)
    torch.testing.assert_close(grad_cam(output.class_maps, classes), expected, rtol=1e-9, atol=1e-12)


def test_a_term_says_which_network_has_no_class_maps():
    objective = Objective({"ce": 1, "cat": 1, "e2kd": 1}, {})
    good, bad = FeatureExtractor(network("r8")), FeatureExtractor(network("cnx"))
    with pytest.raises(UnsupportedNetwork, match=r"cat, e2kd: convnext_atto has no class maps: their mean is not its"):
        objective.enable_class_maps((good, bad), images())
    Objective({"ce": 1, "kd": 1}, {}).enable_class_maps((bad,), images())  # reads none
    assert bad(images()).class_maps is None
    plain = good.model(images())
    output = Output(plain, (plain[:, :, None, None],), plain)
    with pytest.raises(ValueError, match="cat compares class maps, but the student's output has none"):
        losses.create("cat")(output, output, Batch(images(), torch.zeros(3, dtype=torch.long), torch.arange(3)))


# The terms against plain references in float64, of their formulas by loops.

SHAPES = ((2, 2), (3, 4), (5, 3), (7, 7))
SEEDS = (0, 1, 2)


def outputs(shape: tuple[int, int], seed: int, count: int = 4) -> tuple[Output, Output, Batch]:
    """Student and teacher, whose maps have one row more; half of the labels are its first classes."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(count, *shape, generator=generator, dtype=torch.float64)

    sides = []
    for rows, columns in (shape, (shape[0] + 1, shape[1])):
        maps = draw(3, rows, columns)
        sides.append(Output(3 * draw(CLASSES), (maps,), maps.mean(dim=(2, 3)), class_maps=draw(CLASSES, rows, columns)))
    labels = (sides[1].logits.argmax(dim=1) + torch.arange(count) % 2) % CLASSES
    return *sides, Batch(torch.zeros(count, 3, 8, 8), labels, torch.arange(count))  # type: ignore[return-value]


def averaged(image: Tensor, height: int, width: int) -> Tensor:
    """Means of the pixels of (H, W) that overlap each of height x width parts, as adaptive pooling defines them."""

    def span(index: int, parts: int, size: int) -> slice:
        return slice(math.floor(index * size / parts), math.ceil((index + 1) * size / parts))

    rows, columns = image.shape
    cells = [
        image[span(i, height, rows), span(j, width, columns)].mean() for i, j in product(range(height), range(width))
    ]
    return torch.stack(cells).view(height, width)


def cat_of(student: Output, teacher: Output, size: int) -> Tensor:
    """Mean over classes and cells, image by image."""
    assert student.class_maps is not None
    assert teacher.class_maps is not None
    values = []
    for s, t in zip(student.class_maps, teacher.class_maps, strict=True):
        squares = [(averaged(a, size, size) - averaged(b, size, size)) ** 2 for a, b in zip(s, t, strict=True)]
        values.append(torch.stack(squares).mean())
    return torch.stack(values)


def e2kd_of(student: Output, teacher: Output, temperature: float, explanation: float) -> Tensor:
    """T^2 KL of the classes' probabilities, and 1 - cosine of the positive maps of the teacher's first class."""
    assert student.class_maps is not None
    assert teacher.class_maps is not None
    values = []
    for i, (z, target) in enumerate(zip(student.logits, teacher.logits, strict=True)):
        p, q = (torch.exp(x / temperature) / torch.exp(x / temperature).sum() for x in (target, z))
        first = int(target.argmax())
        a, b = (side.class_maps[i, first].clamp(min=0) for side in (student, teacher))  # type: ignore[index]
        height, width = (min(x, y) for x, y in zip(a.shape, b.shape, strict=True))
        a, b = (averaged(x, height, width).flatten() for x in (a, b))
        cosine = a.dot(b) / (a.dot(a).sqrt() * b.dot(b).sqrt()) if a.any() and b.any() else 0 * a.sum()
        values.append(temperature**2 * (p * (p / q).log()).sum() + explanation * (1 - cosine))
    return torch.stack(values)


def agree(term: Any, reference: Any, student: Output, teacher: Output, batch: Batch) -> None:
    """The same values, and gradients with different weights for each image."""
    results = []
    for of in (lambda s: term(s, teacher, batch), lambda s: reference(s, teacher)):
        inputs = [x.clone().requires_grad_() for x in (student.logits, student.class_maps) if x is not None]
        value = of(student._replace(logits=inputs[0], class_maps=inputs[1]))
        total = (value * torch.linspace(1, 2, len(value), dtype=value.dtype)).sum()
        results.append((value, torch.autograd.grad(total, inputs, allow_unused=True, materialize_grads=True)))
    assert max(g.abs().max() for g in results[1][1]) > 1e-4
    torch.testing.assert_close(*results, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_cat_is_its_formula(shape, seed):
    for size in (1, 2):
        agree(losses.create("cat", size=size), lambda s, t, size=size: cat_of(s, t, size), *outputs(shape, seed))


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_e2kd_is_its_formula(shape, seed):
    options = {"temperature": 2.0, "explanation": 5.0}
    agree(losses.create("e2kd", **options), lambda s, t: e2kd_of(s, t, **options), *outputs(shape, seed))


def test_e2kd_has_no_gradient_to_a_map_that_is_nowhere_positive():
    student, teacher, batch = outputs((3, 3), 0)
    maps = (-student.class_maps.abs()).requires_grad_()  # type: ignore[union-attr]
    value = losses.create("e2kd", explanation=3.0)(student._replace(class_maps=maps), teacher, batch)
    torch.testing.assert_close(value, losses.create("kd", temperature=1.0)(student, teacher, batch) + 3)
    (gradient,) = torch.autograd.grad(value.sum(), maps)
    assert not gradient.any()


def dct_of_classes(student: Output, teacher: Output, batch: Batch) -> Tensor:
    """The distance by scipy's DCT of the maps of the teacher's first class, 0 where that is not the label."""
    values = []
    for i, first in enumerate(teacher.logits.argmax(dim=1).tolist()):
        spectra = []
        for side in (student, teacher):
            rows = min(student.class_maps.shape[2], teacher.class_maps.shape[2])  # type: ignore[union-attr]
            image = side.class_maps[i, first].numpy()  # type: ignore[index]
            whole = scipy.fft.dctn(image, norm="ortho")
            spectrum = whole[:rows] / math.sqrt(image.shape[0])
            spectrum[0, 0] = 0
            spectra.append((spectrum - spectrum.min()) / (spectrum.max() - spectrum.min()))
        distance = np.linalg.norm(spectra[0] - spectra[1])
        values.append(distance if first == batch.labels[i] else 0.0)
    return torch.tensor(values)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_dctkd_of_class_maps_is_the_dct_of_the_first_classes_maps(shape, seed):
    student, teacher, batch = outputs(shape, seed)
    value = losses.create("dctkd", maps="class")(student, teacher, batch)
    torch.testing.assert_close(value, dct_of_classes(student, teacher, batch), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("shape", [(1, 1), (2, 5), (8, 8), (9, 16), (17, 33)])
def test_octaves_are_powers_of_two_of_the_higher_frequency(shape):
    expected = [[max(0, max(u, v).bit_length() - 1) for v in range(shape[1])] for u in range(shape[0])]
    assert octaves(shape[0], shape[1], torch.device("cpu")).tolist() == expected


@pytest.mark.parametrize("transform", ["dct2", "dct2_energy", "dct2_raw"])
def test_bands_weigh_octaves_and_the_last_factor_counts_for_the_higher_ones(transform):
    a, b = torch.rand(2, 3, 9, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    transform = TRANSFORMS[transform]
    plain = spectral_distance(a, b, transform)
    torch.testing.assert_close(spectral_distance(a, b, transform, (1.0,)), plain)
    squares = (transform(a) - transform(b)).square()
    of_band = torch.tensor([[max(0, max(u, v).bit_length() - 1) for v in range(12)] for u in range(9)])
    parts = torch.stack([squares[:, of_band == band].sum(dim=1) for band in range(4)], dim=1)
    torch.testing.assert_close(parts.sum(dim=1).sqrt(), plain)
    weighted = (parts * torch.tensor([4.0, 0.25, 0.0, 0.0])).sum(dim=1).sqrt()
    torch.testing.assert_close(spectral_distance(a, b, transform, (2.0, 0.5, 0.0)), weighted)


def test_spectra_of_unit_energy_compare_the_correlation_of_maps():
    """Squared distance 2 - 2 r (Fact 5), so it is blind to what `pearson` is blind to."""
    a, b = torch.rand(2, 5, 8, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    distance = spectral_distance(a, b, TRANSFORMS["dct2_energy"])
    r = [np.corrcoef(x.flatten(), y.flatten())[0, 1] for x, y in zip(a.numpy(), b.numpy(), strict=True)]
    torch.testing.assert_close(distance.square(), 2 - 2 * torch.tensor(r))


def test_learned_bands_are_a_gaussian_likelihood_whose_best_variances_are_the_mean_squares():
    a, b = torch.rand(2, 6, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    student, teacher = (Output(torch.eye(6).double(), (x[:, None].sqrt(),), x.flatten(1)) for x in (a, b))
    batch = Batch(torch.zeros(6, 3, 8, 8), torch.arange(6), torch.arange(6))
    term = losses.create("dctkd", bands="learned")
    term.setup(student, teacher)
    term = term.double()
    squares = (TRANSFORMS["dct2"](a) - TRANSFORMS["dct2"](b)).square()
    of_band = octaves(8, 8, torch.device("cpu"))
    means = torch.stack([squares[:, of_band == band].mean(dim=1) for band in range(3)], dim=1)
    torch.testing.assert_close(term(student, teacher, batch), 0.5 * means.sum(dim=1))
    (logs,) = term.parameters()
    with torch.no_grad():
        logs.copy_(means.mean(dim=0).log())
    value = term(student, teacher, batch).mean()
    torch.testing.assert_close(value, 0.5 * (1 + means.mean(dim=0).log()).sum())
    torch.testing.assert_close(torch.autograd.grad(value, logs)[0], torch.zeros(3).double(), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("dctkd", {"bands": (1, -1)}, r"bands \(1, -1\) are neither 'learned' nor factors"),
        ("dctkd", {"bands": ()}, r"bands \(\) are neither"),
        ("dctkd", {"bands": "learnt"}, "bands 'learnt' are neither"),
        ("dctkd", {"bands": (1.0,), "transform": "dft_abs"}, "bands are those of a DCT, .* not of dft_abs"),
        ("dctkd", {"maps": "classes"}, r"maps 'classes' is not one of \['activation', 'class'\]"),
        ("cat", {"size": 0}, "size 0 is not positive"),
        ("e2kd", {"temperature": 0}, "temperature 0 is not positive"),
        ("e2kd", {"explanation": -1}, "explanation -1 is negative"),
    ],
)
def test_options_out_of_range_are_refused(name, options, message):
    with pytest.raises(ValueError, match=message):
        losses.create(name, **options)
