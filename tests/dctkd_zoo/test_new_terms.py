"""Terms of later papers against plain references in numpy, values and slopes; and what their formulas promise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.fft
import torch
from torch import Tensor

from dctkd_zoo import losses
from dctkd_zoo.data.batch import Batch
from dctkd_zoo.features import Output
from dctkd_zoo.losses._base import standardise
from dctkd_zoo.losses.dkd import dkd
from dctkd_zoo.losses.fft import fft
from dctkd_zoo.losses.kd import kd
from dctkd_zoo.losses.sp import similarities
from dctkd_zoo.losses.wavelet import haar, wavelet
from dctkd_zoo.objective import Objective
from tests.dctkd_zoo.test_other_methods import averaged, leaves, paired

Sizes = tuple[tuple[int, int], ...]
Reference = Callable[[Output, Output, Batch, list[np.ndarray]], np.ndarray]  # the last are the term's parameters

SHAPES = ((9, 7), (1, 3), (4, 11), (16, 5))  # images, classes
LEVELS: tuple[tuple[Sizes, Sizes], ...] = (  # of student and teacher
    (((9, 7), (6, 6), (4, 5)), ((9, 7), (6, 6), (4, 5))),
    (((9, 7), (3, 3)), ((11, 10), (6, 5), (4, 1))),
    (((8, 8), (4, 2)), ((16, 8), (2, 4))),
    (((1, 1),), ((5, 6),)),
)
EPS = 1e-8
of_logits = pytest.mark.parametrize("shape", SHAPES, ids=str)
of_levels = pytest.mark.parametrize("sizes", LEVELS, ids=str)
every_seed = pytest.mark.parametrize("seed", [0, 1, 2])
LOGITS: list[tuple[str, dict[str, Any]]] = [
    ("kd", {"standardise": True}), ("dkd", {}), ("dkd", {"standardise": True}), ("dist", {})
]  # fmt: skip
of_every_logit_term = pytest.mark.parametrize(("name", "options"), LOGITS, ids=str)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def side(seed: int, images: int, classes: int = 7, channels: tuple[int, ...] = (), sizes: Sizes = ()) -> Output:
    maps = tuple(random(images, c, *size, seed=seed + c).abs() for c, size in zip(channels, sizes, strict=True))
    return Output(3 * random(images, classes, seed=seed), maps, random(images, 4, seed=seed + 1))


def with_logits(student: Tensor, teacher: Tensor) -> tuple[Output, Output, Batch]:
    images = torch.arange(len(student))
    batch = Batch(torch.zeros(len(student), 3, 8, 8), (3 * images + 1) % student.shape[1], images)
    return Output(student, (), student), Output(teacher, (), teacher), batch


def logits(shape: tuple[int, int], seed: int) -> tuple[Output, Output, Batch]:
    return with_logits(*(side(10 * seed + who, *shape).logits for who in (1, 2)))


def features(sizes: tuple[Sizes, Sizes], seed: int, images: int = 5) -> tuple[Output, Output, Batch]:
    """The deepest level has the same channels on both sides, the others have more in the teacher's."""
    student = side(100 * seed, images, channels=(3, 4, 5)[-len(sizes[0]) :], sizes=sizes[0])
    teacher = side(100 * seed + 50, images, channels=(6, 7, 5)[-len(sizes[1]) :], sizes=sizes[1])
    return student, teacher, with_logits(student.logits, teacher.logits)[2]


def ready(name: str, student: Output, teacher: Output, **options: Any) -> Any:
    torch.manual_seed(0)
    term = losses.create(name, **options)
    term.setup(student, teacher)
    return term.double()


def agree(term: Any, sides: tuple[Output, Output, Batch], reference: Reference) -> None:
    """Values are those of the reference, and so are the slopes along a few directions in all inputs."""
    student, teacher, batch = sides
    student, inputs = leaves(student)
    inputs += term.parameters()
    value = term(student, teacher, batch)
    weights = torch.linspace(1, 2, len(value), dtype=torch.float64)  # no two images weigh the same
    slopes = torch.autograd.grad((value * weights).sum(), inputs, allow_unused=True, materialize_grads=True)

    def moved(step: float, directions: list[Tensor]) -> np.ndarray:
        *parts, embedding, scores = (x.detach() + step * d for x, d in zip(inputs, directions, strict=True))
        return reference(Output(scores, tuple(parts), embedding), teacher, batch, parameters)

    count = len(inputs) - len([*term.parameters()])
    parameters, inputs = [p.detach().numpy() for p in inputs[count:]], inputs[:count]
    zero = [torch.zeros_like(x) for x in inputs]
    np.testing.assert_allclose(value.detach().numpy(), moved(0, zero), rtol=1e-9, atol=1e-12)
    for number in range(3):
        directions = [random(*x.shape, seed=number) for x in inputs]
        expected = (moved(1e-6, directions) - moved(-1e-6, directions)) @ weights.numpy() / 2e-6
        slope = sum((g * d).sum().item() for g, d in zip(slopes, directions, strict=False))
        np.testing.assert_allclose(slope, expected, rtol=1e-5, atol=1e-7)
    for index, gradient in enumerate(slopes[count:]):
        start, direction = parameters[index], random(*gradient.shape, seed=index)
        values = []
        for step in (1e-6, -1e-6):
            parameters[index] = start + step * direction.numpy()
            values.append(moved(0, zero) @ weights.numpy())
        parameters[index] = start
        expected = (values[0] - values[1]) / 2e-6
        np.testing.assert_allclose((gradient * direction).sum().item(), expected, rtol=1e-5, atol=1e-7)


def finite(term: Any, student: Output, teacher: Output, batch: Batch) -> list[Tensor]:
    """The gradients of the mean, after a look at value and gradients."""
    student, inputs = leaves(student)
    value = term(student, teacher, batch)
    gradients = torch.autograd.grad(value.mean(), inputs, allow_unused=True, materialize_grads=True)
    assert value.isfinite().all() and value.shape == (len(batch.labels),)
    assert all(g.isfinite().all() for g in gradients)
    return [value.detach(), *gradients]


# Terms on logits


def softmax(row: np.ndarray) -> np.ndarray:
    powers = np.exp(row - max(row))
    return np.asarray(powers / sum(powers))


def relative(p: np.ndarray, q: np.ndarray) -> float:
    """Divergence of q from p."""
    return float(sum(a * np.log(a / b) for a, b in zip(p, q, strict=True)))


def scores(output: Output, standard: bool = False) -> np.ndarray:
    table = output.logits.detach().numpy().copy()
    for row in table if standard else ():
        mean = sum(row) / len(row)
        row[:] = (row - mean) / (np.sqrt(sum((row - mean) ** 2) / (len(row) - 1)) + 1e-7)
    return np.asarray(table)


@of_logits
@every_seed
@pytest.mark.parametrize("temperature", [4.0, 2.0])
def test_kd_of_standardised_logits_is_their_divergence(shape, seed, temperature):
    def reference(student: Output, teacher: Output, batch: Batch, own: list[np.ndarray]) -> np.ndarray:
        q, p = (scores(x, standard=True) / temperature for x in (student, teacher))
        return np.array([temperature**2 * relative(softmax(a), softmax(b)) for a, b in zip(p, q, strict=True)])

    sides = logits(shape, seed)
    agree(ready("kd", *sides[:2], temperature=temperature, standardise=True), sides, reference)


@of_logits
@every_seed
@pytest.mark.parametrize(
    "options", [{}, {"temperature": 1.5, "alpha": 0.5, "beta": 2.0}, {"standardise": True, "temperature": 2.0}], ids=str
)
def test_dkd_is_the_divergence_of_the_label_and_that_of_the_rest(shape, seed, options):
    heat, alpha, beta = (options.get(k, v) for k, v in (("temperature", 4.0), ("alpha", 1.0), ("beta", 8.0)))

    def reference(student: Output, teacher: Output, batch: Batch, own: list[np.ndarray]) -> np.ndarray:
        values, tables = [], [scores(x, options.get("standardise", False)) / heat for x in (teacher, student)]
        for t, s, y in zip(*tables, batch.labels.tolist(), strict=True):
            p, q = softmax(t), softmax(s)
            target = relative(np.array([p[y], 1 - p[y]]), np.array([q[y], 1 - q[y]]))
            rest = relative(np.delete(p, y) / (1 - p[y]), np.delete(q, y) / (1 - q[y]))
            values.append(heat**2 * (alpha * target + beta * rest))
        return np.array(values)

    sides = logits(shape, seed)
    agree(ready("dkd", *sides[:2], **options), sides, reference)


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a - sum(a) / len(a), b - sum(b) / len(b)
    return float((a @ b) / (np.sqrt(a @ a) * np.sqrt(b @ b) + EPS))


@of_logits
@every_seed
@pytest.mark.parametrize("options", [{}, {"temperature": 4.0, "beta": 2.0, "gamma": 0.5}], ids=str)
def test_dist_is_what_images_and_classes_lack_in_correlation(shape, seed, options):
    heat, beta, gamma = (options.get(k, 1.0) for k in ("temperature", "beta", "gamma"))

    def reference(student: Output, teacher: Output, batch: Batch, own: list[np.ndarray]) -> np.ndarray:
        q, p = (np.array([softmax(row / heat) for row in scores(x)]) for x in (student, teacher))
        between = 1 - sum(correlation(a, b) for a, b in zip(q.T, p.T, strict=True)) / len(q.T)
        return np.array([beta * (1 - correlation(a, b)) + gamma * between for a, b in zip(q, p, strict=True)])

    sides = logits(shape, seed)
    agree(ready("dist", *sides[:2], **options), sides, reference)


@of_every_logit_term
@pytest.mark.parametrize("images", [6, 1])
@pytest.mark.parametrize("scale", [0.0, 1e-4, 2000.0])
@pytest.mark.parametrize("flipped", [False, True])
def test_extreme_logits_have_finite_values_and_gradients(name, options, images, scale, flipped):
    student, teacher, batch = with_logits(*(scale * side(who, images).logits.float() for who in (1, 2)))
    term = losses.create(name, **options)
    finite(term, student, teacher._replace(logits=-student.logits) if flipped else teacher, batch)
    finite(term, student, student, batch)


@of_every_logit_term
@pytest.mark.parametrize("who", ["student", "teacher", "both"])
def test_equal_logits_and_equal_images_have_finite_gradients(name, options, who):
    even = torch.full((6, 7), 0.3)  # whose mean float32 cannot hold
    alike = side(1, 1).logits.float().expand(6, 7)
    for fixed in (even, alike):
        other = side(2, 6).logits.float()
        pair = {"student": (fixed, other), "teacher": (other, fixed), "both": (fixed, fixed)}[who]
        finite(losses.create(name, **options), *with_logits(*pair))


@of_every_logit_term
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_logits_are_widened(name, options, dtype):
    student, teacher, batch = with_logits(*(side(who, 6).logits.to(dtype) for who in (1, 2)))
    value = losses.create(name, **options)(student, teacher, batch)
    expected = losses.create(name, **options)(*(x._replace(logits=x.logits.float()) for x in (student, teacher)), batch)
    assert value.dtype == torch.float32
    assert torch.equal(value, expected)


@of_every_logit_term
def test_a_student_that_equals_its_teacher_is_left_alone(name, options):
    student, _, batch = logits((6, 7), 1)
    value, *gradients = finite(losses.create(name, **options), student, student, batch)
    assert value.abs().max() < 1e-5  # dist adds 1e-8 to a product of two lengths
    assert all(g.abs().max() < 1e-5 for g in gradients)


@of_every_logit_term
def test_other_classes_are_refused(name, options):
    student, teacher, batch = logits((6, 7), 1)
    with pytest.raises(ValueError, match=f"{name} needs the same classes, but the student has 7 and the teacher 5"):
        losses.create(name, **options)(student, teacher._replace(logits=teacher.logits[:, :5]), batch)


def test_kd_without_the_option_has_the_bits_of_before():
    student, teacher, batch = with_logits(*(side(who, 64, 100).logits.float() for who in (1, 2)))
    ours, theirs = (x.logits.clone().requires_grad_() for x in (student, student))
    value = losses.create("kd")(student._replace(logits=ours), teacher, batch)
    log_q, log_p = (x / 4.0 for x in (theirs, teacher.logits))
    log_q, log_p = (torch.nn.functional.log_softmax(x, dim=1) for x in (log_q, log_p))
    expected = 4.0**2 * torch.nn.functional.kl_div(log_q, log_p, reduction="none", log_target=True).sum(dim=1)
    assert torch.equal(value, expected)
    assert torch.equal(*(torch.autograd.grad(v.mean(), x)[0] for v, x in ((value, ours), (expected, theirs))))


@pytest.mark.parametrize("name", ["kd", "dkd"])
def test_standardised_logits_have_neither_scale_nor_offset(name):
    student, teacher, batch = logits((6, 7), 1)
    term = losses.create(name, standardise=True)
    expected = term(student, teacher, batch)
    for a, c in ((0.5, -3.0), (20.0, 100.0)):
        for pair in ((student, teacher._replace(logits=a * teacher.logits + c)),
                     (student._replace(logits=a * student.logits + c), teacher)):  # fmt: skip
            torch.testing.assert_close(term(*pair, batch), expected, rtol=1e-5, atol=0)
    assert not torch.allclose(losses.create(name)(student, teacher, batch), expected)


def test_standardised_logits_have_mean_0_and_deviation_1_and_are_0_where_all_are_equal():
    values = standardise(torch.stack([random(9), torch.full((9,), 0.3).double()]).float())
    torch.testing.assert_close(values[0].mean(), torch.tensor(0.0), rtol=0, atol=1e-6)
    torch.testing.assert_close(values[0].std(), torch.tensor(1.0), rtol=1e-5, atol=0)
    assert torch.equal(values[1], torch.zeros(9))
    assert torch.equal(standardise(torch.ones(2, 1)), torch.zeros(2, 1))


@every_seed
@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_kd_is_the_label_s_part_and_the_rest_s_by_what_the_teacher_leaves_it(seed, temperature):
    student, teacher, batch = logits((9, 7), seed)
    target, rest = (
        dkd(student.logits, teacher.logits, batch.labels, temperature, *parts) for parts in ((1, 0), (0, 1))
    )
    left = 1 - (teacher.logits / temperature).softmax(dim=1).gather(1, batch.labels[:, None])[:, 0]
    expected = kd(student.logits, teacher.logits, temperature)
    torch.testing.assert_close(target + left * rest, expected, rtol=1e-12, atol=1e-13)


def test_dkd_of_a_blended_image_is_the_weighted_mean_of_both_labels():
    student, teacher, batch = logits((6, 7), 1)
    term = losses.create("dkd")
    other, share = (batch.labels + 2) % 7, torch.linspace(0, 1, 6)
    value = term(student, teacher, batch._replace(other_labels=other, share=share))
    parts = (term(student, teacher, batch._replace(labels=labels)) for labels in (batch.labels, other))
    expected = sum(w * v for w, v in zip((share, 1 - share), parts, strict=True))
    torch.testing.assert_close(value, expected, check_dtype=False)


@pytest.mark.parametrize("blended", [False, True])
def test_dkd_of_an_image_without_a_label_is_0_and_the_loss_is_the_mean_over_the_others(blended):
    student, teacher, batch = logits((6, 7), 1)
    objective = Objective({"dkd": 2.0}, {})
    labels = torch.where(torch.arange(6) % 3 == 0, -1, batch.labels)
    objective.setup(student, teacher, labels)
    expected = losses.create("dkd")(student, teacher, batch)
    batch = batch._replace(labels=labels)
    if blended:
        batch = batch._replace(other_labels=batch.labels, share=torch.full((6,), 0.3))
    value, _, gradient = finite(losses.create("dkd"), student, teacher, batch)
    known = labels >= 0
    assert torch.equal(value[~known], torch.zeros(2).double())
    assert torch.equal(gradient[~known], torch.zeros(2, 7).double())
    torch.testing.assert_close(value[known], expected[known])
    torch.testing.assert_close(objective(student, teacher, batch)["dkd"], 2 * expected[known].mean())


def test_dkd_needs_three_classes():
    with pytest.raises(ValueError, match="dkd needs at least 3 classes, but there are 2"):
        losses.create("dkd")(*logits((4, 2), 0))


@every_seed
def test_dist_is_one_less_the_correlations_of_numpy(seed):
    student, teacher, batch = logits((9, 7), seed)
    q, p = (x.logits.softmax(dim=1).numpy() for x in (student, teacher))
    images = [1 - np.corrcoef(a, b)[0, 1] for a, b in zip(q, p, strict=True)]
    classes = 1 - np.mean([np.corrcoef(a, b)[0, 1] for a, b in zip(q.T, p.T, strict=True)])
    for beta, gamma in ((1, 0), (0, 1), (2, 3)):
        value = losses.create("dist", beta=beta, gamma=gamma)(student, teacher, batch).numpy()
        np.testing.assert_allclose(value, beta * np.array(images) + gamma * classes, rtol=0, atol=1e-4)


def test_the_relations_of_a_class_are_those_of_the_whole_batch():
    student, teacher, batch = logits((8, 7), 1)
    term = losses.create("dist", beta=0)
    value = term(student, teacher, batch)
    assert value.unique().numel() == 1
    parts = []
    for part in (slice(0, 4), slice(4, 8)):
        rows = (x._replace(logits=x.logits[part]) for x in (student, teacher))
        parts.append(term(*rows, Batch(*(x[part] for x in batch[:3]))).mean())
    assert abs(value.mean() - sum(parts) / 2) > 1e-2


def test_one_image_has_no_relation_to_others_and_no_gradient_from_it():
    value, *gradients = finite(losses.create("dist", beta=0), *logits((1, 7), 1))
    assert value.tolist() == [1]
    assert not any(g.any() for g in gradients)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("dkd", {"temperature": 0.0}, r"temperature 0\.0 is not positive"),
        ("dkd", {"beta": -1.0}, r"beta -1\.0 is negative"),
        ("dkd", {"alpha": float("nan")}, "alpha nan is negative"),
        ("dist", {"temperature": -1.0}, r"temperature -1\.0 is not positive"),
        ("dist", {"gamma": -0.5}, r"gamma -0\.5 is negative"),
        ("fft", {"of": "logits"}, "of 'logits' is neither 'maps' nor 'features'"),
        ("wavelet", {"of": "Maps"}, "of 'Maps' is neither 'maps' nor 'features'"),
        ("wavelet", {"depth": 0}, "depth 0 leaves no details to compare: use at least 1"),
        ("sp", {"levels": "all"}, "loss 'sp' does not take.*'levels'"),
    ],
)
def test_an_option_without_a_meaning_is_refused(name, options, message):
    with pytest.raises(ValueError, match=message):
        losses.create(name, **options)


# Terms on maps and features


def sp_reference(student: Output, teacher: Output, batch: Batch, own: list[np.ndarray]) -> np.ndarray:
    grams = []
    for output in (student, teacher):
        rows = output.maps[-1].detach().numpy().reshape(len(batch.labels), -1)
        gram = np.array([[sum(a * b) for b in rows] for a in rows])
        grams.append([row / np.sqrt(sum(row**2)) for row in gram])
    return np.array([sum((a - b) ** 2) / len(a) for a, b in zip(*grams, strict=True)])


@of_levels
@every_seed
def test_sp_is_the_difference_of_similarities_within_the_batch(sizes, seed):
    sides = features(sizes, seed, images=8)
    agree(ready("sp", *sides[:2]), sides, sp_reference)
    grams = [torch.stack([*similarities(x.maps[-1])]) for x in sides[:2]]
    expected = torch.linalg.matrix_norm(grams[1] - grams[0]) ** 2 / 8**2
    torch.testing.assert_close(losses.create("sp")(*sides).mean(), expected)


def test_sp_knows_neither_scale_nor_order_of_the_features():
    student, teacher, batch = features(LEVELS[0], 1)
    term = losses.create("sp")
    expected = term(student, teacher, batch)
    deepest = student.maps[-1]
    for changed in (100 * deepest, deepest.flip(1), deepest.flip(2), -deepest):
        torch.testing.assert_close(term(student._replace(maps=(changed,)), teacher, batch), expected)


@pytest.mark.parametrize("images", [5, 1])
def test_sp_of_dead_features_is_finite_and_its_gradient_is_no_larger_than_others(images):
    student, teacher, batch = features(LEVELS[0], 1, images)
    dead = student.maps[-1].clone()
    dead[0] = 0
    value, *gradients = finite(losses.create("sp"), student._replace(maps=(dead,)), teacher, batch)
    expected = similarities(teacher.maps[-1])[0].square().mean()
    torch.testing.assert_close(value[0], expected)
    assert max(g.abs().max() for g in gradients) < 1


def test_sp_of_one_image_is_zero():
    value, *gradients = finite(losses.create("sp"), *features(LEVELS[0], 1, images=1))
    assert value.abs().max() < 1e-12
    assert all(g.abs().max() < 1e-12 for g in gradients)


def resampled(maps: np.ndarray, height: int, width: int) -> np.ndarray:
    spectrum = scipy.fft.dctn(maps, axes=(1, 2), norm="ortho")[:, :height, :width]
    scale = np.sqrt(height * width / (maps.shape[1] * maps.shape[2]))
    return np.asarray(scale * scipy.fft.idctn(spectrum, axes=(1, 2), norm="ortho"))


def compared(student: Output, teacher: Output, of: str, own: list[np.ndarray]) -> list[tuple[np.ndarray, np.ndarray]]:
    """What a term compares at each level, (B, C, H, W) twice; `own` are projections to the teacher's channels."""
    result, weights = [], iter(own)
    for pair in paired(student, teacher):
        size = min(x.shape[2] for x in pair), min(x.shape[3] for x in pair)
        if of == "maps":
            maps = [resampled((x.detach().numpy() ** 2).mean(axis=1), *size)[:, None] for x in pair]
            s, t = (m / np.sqrt((m**2).sum(axis=(1, 2, 3), keepdims=True)) for m in maps)
        else:
            s, t = (averaged(x.detach(), *size).numpy() for x in pair)
            s = s if s.shape == t.shape else np.einsum("oc,bchw->bohw", next(weights)[:, :, 0, 0], s)
        result.append((s, t))
    return result


def fourier(side: int) -> np.ndarray:
    steps = np.arange(side)
    return np.asarray(np.exp(-2j * np.pi * steps[:, None] * steps / side) / np.sqrt(side))


@of_levels
@every_seed
@pytest.mark.parametrize("of", ["maps", "features"])
@pytest.mark.parametrize("half", [True, False])
def test_fft_is_the_mean_square_of_the_difference_of_spectra(sizes, seed, of, half):
    def reference(student: Output, teacher: Output, batch: Batch, own: list[np.ndarray]) -> np.ndarray:
        total = np.zeros(len(batch.labels))
        for s, t in compared(student, teacher, of, own):
            one, other = (fourier(x.shape[2]) @ x @ fourier(x.shape[3]) for x in (s, t))
            columns = s.shape[3] // 2 + 1 if half else s.shape[3]
            apart = (one - other)[..., :columns]
            total += (apart.real**2 + apart.imag**2).mean(axis=(1, 2, 3)) / 2
        return total

    sides = features(sizes, seed)
    agree(ready("fft", *sides[:2], of=of, half=half), sides, reference)


def details(block: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
    """Approximation and details of one image and channel, pixel by pixel; beyond the border, the last one again."""
    height, width = block.shape
    bands = np.zeros((4, -(-height // 2), -(-width // 2)))
    for y, x in np.ndindex(*bands.shape[1:]):
        below, right = min(2 * y + 1, height - 1), min(2 * x + 1, width - 1)
        a, b, c, d = block[2 * y, 2 * x], block[2 * y, right], block[below, 2 * x], block[below, right]
        low, high = ((a + b) / np.sqrt(2), (c + d) / np.sqrt(2)), ((a - b) / np.sqrt(2), (c - d) / np.sqrt(2))
        bands[:, y, x] = [low[0] + low[1], high[0] + high[1], low[0] - low[1], high[0] - high[1]]
    return bands[0] / np.sqrt(2), [*bands[1:] / np.sqrt(2)]


@of_levels
@every_seed
@pytest.mark.parametrize(("of", "depth"), [("maps", 3), ("features", 3), ("features", 1)])
def test_wavelet_is_the_mean_absolute_difference_of_each_detail_band(sizes, seed, of, depth):
    def reference(student: Output, teacher: Output, batch: Batch, own: list[np.ndarray]) -> np.ndarray:
        total = np.zeros(len(batch.labels))
        for s, t in compared(student, teacher, of, own):
            for image, channel in np.ndindex(s.shape[:2]):
                one, other = s[image, channel], t[image, channel]
                for _ in range(depth):
                    if 1 in one.shape:
                        break
                    (one, ours), (other, theirs) = details(one), details(other)
                    apart = sum(np.abs(a - b).mean() for a, b in zip(ours, theirs, strict=True))
                    total[image] += apart / s.shape[1]
        return total

    sides = features(sizes, seed, images=3)
    agree(ready("wavelet", *sides[:2], of=of, depth=depth), sides, reference)


def test_the_haar_transform_is_that_of_pywavelets():
    pywt = pytest.importorskip("pywt")
    for size in ((8, 8), (7, 6), (5, 9), (2, 1)):
        values = random(2, 3, *size)
        low, bands = haar(values)
        expected, rows = pywt.dwt2(values.numpy(), "haar", mode="symmetric")
        np.testing.assert_allclose(low.numpy(), expected, atol=1e-12)
        for ours, theirs in zip((bands[1], bands[0], bands[2]), rows, strict=True):  # it has differences of rows first
            np.testing.assert_allclose(ours.numpy(), theirs, atol=1e-12)


@pytest.mark.parametrize("name", ["fft", "wavelet"])
def test_features_are_projected_only_where_channels_differ(name):
    student, teacher, batch = features(LEVELS[0], 1)
    term = ready(name, student, teacher, of="features")
    assert [tuple(p.shape) for p in term.parameters()] == [(6, 3, 1, 1), (7, 4, 1, 1)]
    assert term.needs_features
    value = term(student, teacher, batch).mean()
    assert all(g.abs().max() > 0 for g in torch.autograd.grad(value, [*term.parameters()]))
    plain = ready(name, student, teacher)
    assert not plain.needs_features
    assert not [*plain.parameters()]


@pytest.mark.parametrize("name", ["fft", "wavelet", "sp"])
@pytest.mark.parametrize("options", [{}, {"of": "features"}], ids=str)
@pytest.mark.parametrize("value", [0.0, 0.3, 1.0])
def test_constant_features_have_finite_gradients(name, options, value):
    student, teacher, batch = features(LEVELS[0], 1)
    options = options if name != "sp" else {}
    flat = [x._replace(maps=tuple(torch.full_like(m, value) for m in x.maps)) for x in (student, teacher)]
    term = ready(name, student, teacher, **options)
    for pair in ((flat[0], teacher), (student, flat[1]), (flat[0], flat[1])):
        assert all(g.abs().max() < 1e3 for g in finite(term, *pair, batch))


@pytest.mark.parametrize("name", ["fft", "wavelet"])
def test_features_that_equal_the_teacher_s_are_left_alone(name):
    student, _, batch = features(LEVELS[0], 1)
    value, *gradients = finite(ready(name, student, student, of="features"), student, student, batch)
    assert not value.any() and not any(g.any() for g in gradients)


@of_levels
def test_the_whole_spectrum_of_fft_is_half_of_at_and_so_is_its_gradient(sizes):
    """docs/method.md, Fact 5."""
    student, teacher, batch = features(sizes, 1)
    ours, theirs = (
        finite(losses.create(name, **o), student, teacher, batch) for name, o in (("fft", {"half": False}), ("at", {}))
    )
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b / 2, rtol=1e-10, atol=1e-15)


@pytest.mark.parametrize(("height", "width"), [(8, 8), (5, 6), (8, 7), (7, 3)])
def test_the_half_plane_counts_its_borders_twice_as_much(height, width):
    """Of the mean squared difference, between W / 2 and W parts of W + 2, of W + 1 at an odd width."""
    zero, columns = torch.zeros(4, 2, height, width).double(), width // 2 + 1
    for noise in (random(4, 2, height, width), random(4, 2, height, 1).expand(4, 2, height, width)):
        ratio = fft(noise, zero) / noise.square().mean(dim=(1, 2, 3))
        assert (ratio > width / (4 * columns)).all() and (ratio <= width / (2 * columns) + 1e-12).all()
    torch.testing.assert_close(ratio, torch.full((4,), width / (2 * columns)).double())  # only the first column
    wave = torch.cos(2 * torch.pi * torch.arange(width).double() / width).expand(4, 2, height, width)
    ratio = fft(wave, zero) / wave.square().mean(dim=(1, 2, 3))
    torch.testing.assert_close(ratio, torch.full((4,), width / (4 * columns)).double())  # only within


@pytest.mark.parametrize("size", [(8, 8), (16, 24), (2, 6)])
def test_all_bands_of_the_haar_transform_have_the_length_of_the_maps(size):
    rest = values = random(3, 2, *size)
    squares = torch.zeros(3).double()
    while not (rest.shape[2] % 2 or rest.shape[3] % 2):
        rest, bands = haar(rest)
        squares += bands.square().sum(dim=(0, 2, 3, 4))
    torch.testing.assert_close(squares + rest.square().sum(dim=(1, 2, 3)), values.square().sum(dim=(1, 2, 3)))


@pytest.mark.parametrize("size", [(8, 8), (7, 5), (6, 1)])
def test_details_do_not_know_of_a_constant_and_a_level_of_one_pixel_has_none(size):
    student, teacher = random(3, 2, *size), random(3, 2, *size, seed=1)
    expected = wavelet(student, teacher)
    assert (expected > 0).all() == (1 not in size)
    constant = torch.linspace(-5, 5, 6).double().view(3, 2, 1, 1)
    torch.testing.assert_close(wavelet(student + constant, teacher), expected)
    torch.testing.assert_close(wavelet(student, teacher - constant), expected)
    assert torch.equal(wavelet(student[..., :1, :1], teacher[..., :1, :1]), torch.zeros(3).double())


def test_a_constant_added_to_a_map_counts_as_it_changes_the_map_s_length():
    student, teacher, batch = features(LEVELS[2], 1)
    raised = student._replace(maps=tuple((m**2 + 1).sqrt() for m in student.maps))  # the maps are mean squares
    values = [losses.create("wavelet")(s, teacher, batch) for s in (student, raised)]
    assert (values[0] - values[1]).abs().min() > 1e-3


def test_deeper_scales_only_add_to_the_loss_and_stop_at_one_pixel():
    student, teacher = random(3, 2, 6, 5), random(3, 2, 6, 5, seed=1)
    values = [wavelet(student, teacher, depth) for depth in (1, 2, 3, 4, 9)]
    assert (values[1] > values[0]).all() and (values[2] > values[1]).all()
    assert torch.equal(values[2], values[3]) and torch.equal(values[2], values[4])
