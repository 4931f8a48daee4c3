"""Each term: the contract that all keep, the released code's figures, and a formula of its own."""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import scipy.fft
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from dctkd_zoo import losses
from dctkd_zoo.data.batch import Batch
from dctkd_zoo.features import Output
from dctkd_zoo.losses import Term
from dctkd_zoo.spectrum import TRANSFORMS
from train import compile

Case = tuple[str, dict[str, Any]]

SIZES = ((9, 7), (6, 6), (4, 5), (3, 3))
DCTKD: list[Case] = [
    ("dctkd", {"transform": name, "guided": guided}) for name in TRANSFORMS for guided in (True, False)
]
OPTIONS: dict[str, list[dict[str, Any]]] = {  # of the terms that are run with more than their defaults
    "dctkd": [
        *(options for _, options in DCTKD),
        {"reduction": "correct", "keep": 3},
        {"transform": "dct2_energy", "bands": (1.0, 0.5)},
        {"bands": "learned"},
        {"maps": "class"},
    ],
    "vid": [{}, {"levels": "released"}],
    "ckd": [{}, {"levels": "released"}],
    "ce": [{}, {"label_smoothing": 0.1}],
    "crd": [{"count": 5}, {"count": 40, "negatives": "released"}],
    "kd": [{}, {"standardise": True}],
    "dkd": [{}, {"standardise": True}],
    "fft": [{}, {"half": False}, {"of": "features"}],
    "wavelet": [{}, {"of": "features", "depth": 2}],
}
CASES: list[Case] = [(name, options) for name in losses.names() for options in OPTIONS.get(name, [{}])]
# What a batch's other images change: by comparison, by batch statistics, by the number the teacher gets right.
ACROSS = ("pkt", "ckd", "crd", "dist", "review", "sp")
PER_IMAGE = [case for case in CASES if case[0] not in ACROSS and "reduction" not in case[1]]
ORDERED = ("ckd", "crd")  # similarities stand in the batch's order, negatives are drawn for each in turn
MAPS: list[Case] = [("at", {}), ("fft", {}), ("wavelet", {}), *DCTKD]
COMPARING = [*MAPS, *((name, {}) for name in ("dkd", "kd", "pkt", "sp"))]  # zero where student and teacher agree


def label(value: object) -> str:
    return value if isinstance(value, str) else "-".join(map(str, value.values())) if isinstance(value, dict) else ""


every_term = pytest.mark.parametrize(("name", "options"), CASES, ids=label)
LABELS = torch.arange(24) % 7  # of a training set


def output(images: int, channels: tuple[int, ...], seed: int, sizes: tuple[tuple[int, int], ...]) -> Output:
    generator = torch.Generator().manual_seed(seed)
    maps = tuple(
        torch.randn(images, c, *size, generator=generator).relu() for c, size in zip(channels, sizes, strict=True)
    )
    logits = 3 * torch.randn(images, 7, generator=generator)
    class_maps = torch.randn(images, 7, *sizes[-1], generator=generator)
    return Output(logits, maps, maps[-1].mean(dim=(2, 3)), class_maps=class_maps)


def sides(images: int = 6, sizes: tuple[tuple[int, int], ...] = SIZES) -> tuple[Output, Output, Batch]:
    """Student, wider teacher and labels, of which the teacher knows every other one, the first included."""
    student = output(images, (3, 4, 5, 6)[-len(sizes) :], 1, sizes)
    teacher = output(images, (4, 6, 8, 10)[-len(sizes) :], 2, sizes)
    labels = (teacher.logits.argmax(dim=1) + torch.arange(images) % 2) % 7
    return student, teacher, Batch(torch.zeros(images, 3, 8, 8), labels, torch.arange(images))


def mapped(change: Callable[[Tensor], Tensor], side: Output) -> Output:
    class_maps = None if side.class_maps is None else change(side.class_maps)
    return Output(change(side.logits), tuple(map(change, side.maps)), change(side.embedding), class_maps=class_maps)


def leaves(side: Output) -> tuple[Output, list[Tensor]]:
    """The same values as leaves that want gradients, and these in one list."""
    fresh = mapped(lambda x: x.detach().clone().requires_grad_(), side)
    class_maps = [] if fresh.class_maps is None else [fresh.class_maps]
    return fresh, [*fresh.maps, fresh.logits, fresh.embedding, *class_maps]


def ready(name: str, options: dict[str, Any], student: Output, teacher: Output) -> Term:
    torch.manual_seed(0)
    term = losses.create(name, **options)
    term.setup(student, teacher, LABELS)
    return term


def fresh(term: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The same term at each call: what it remembers as it was, what it draws the same again."""

    def call(*arguments: Any) -> Tensor:
        torch.manual_seed(1)
        return copy.deepcopy(term)(*arguments)

    return call


def gradients(value: Tensor, inputs: list[Tensor]) -> list[Tensor]:
    return list(torch.autograd.grad(value, inputs, allow_unused=True, materialize_grads=True))


@every_term
@pytest.mark.parametrize("images", [6, 1])
def test_one_finite_number_per_image_and_a_gradient_for_the_student(name, options, images):
    student, teacher, batch = sides(images)
    term = ready(name, options, student, teacher)
    student, inputs = leaves(student)
    value = term(student, teacher, batch)
    assert value.shape == (images,)
    assert value.dtype == torch.float32
    assert value.isfinite().all()
    result = gradients(value.mean(), inputs)
    assert all(g.isfinite().all() for g in result)
    if images > 1:  # alone, an image may have nothing to be compared with
        assert any(g.abs().max() > 0 for g in result)


@every_term
def test_nothing_but_the_order_of_images_changes_with_their_order(name, options):
    if name in ORDERED:
        pytest.skip("reads the batch in its order, by definition")
    student, teacher, batch = sides()
    term = fresh(ready(name, options, student, teacher))
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    moved = (mapped(lambda x: x[order], side) for side in (student, teacher))
    value = term(*moved, Batch(*(x[order] for x in batch[:3])))
    torch.testing.assert_close(value, term(student, teacher, batch)[order])


@pytest.mark.parametrize(("name", "options"), PER_IMAGE, ids=label)
def test_other_images_do_not_matter(name, options):
    student, teacher, batch = sides()
    term = fresh(ready(name, options, student, teacher))
    first = (mapped(lambda x: x[:1], side) for side in (student, teacher))
    torch.testing.assert_close(term(*first, Batch(*(x[:1] for x in batch[:3]))), term(student, teacher, batch)[:1])


@every_term
def test_half_precision_inputs_are_widened(name, options):
    student, teacher, batch = (*(mapped(Tensor.bfloat16, side) for side in sides()[:2]), sides()[2])
    term = fresh(ready(name, options, *(mapped(Tensor.float, side) for side in (student, teacher))))
    value = term(student, teacher, batch)
    assert value.dtype == torch.float32
    expected = term(*(mapped(Tensor.float, side) for side in (student, teacher)), batch)
    torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-6)


@every_term
def test_autocast_changes_nothing_but_what_learned_layers_round(name, options):
    student, teacher, batch = sides()
    term = ready(name, options, student, teacher)
    learned = any(True for _ in term.parameters())
    expected = fresh(term)(student, teacher, batch)
    with torch.autocast("cpu", torch.bfloat16):
        value = fresh(term)(student, teacher, batch)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, expected, rtol=5e-2 if learned else 1e-5, atol=5e-2 if learned else 1e-6)


@every_term
def test_gradients_are_right(name, options):
    student, teacher, batch = sides(2, SIZES[-2:])
    student, teacher = mapped(Tensor.double, student), mapped(Tensor.double, teacher)
    settled = ready(name, options, student, teacher).double()
    settled(student, teacher, batch)  # the first batch of crd sets a scale, through which no gradient goes
    term = fresh(settled)
    generator = torch.Generator().manual_seed(3)
    lifted = mapped(lambda x: x + 0.1 + 0.1 * torch.rand(x.shape, generator=generator, dtype=x.dtype), student)
    _, inputs = leaves(lifted)  # no value at a kink, no two of them the least

    def value(*parts: Tensor) -> Tensor:
        *maps, logits, embedding, class_maps = parts
        result: Tensor = term(Output(logits, tuple(maps), embedding, class_maps=class_maps), teacher, batch)
        return result

    assert value(*inputs).dtype == torch.float64
    assert torch.autograd.gradcheck(value, inputs)


class Alone(nn.Module):
    """A term as an objective of its own."""

    def __init__(self, term: nn.Module) -> None:
        super().__init__()
        self.term = term

    def forward(self, *sides: Any) -> dict[str, Tensor]:
        return {"value": self.term(*sides)}


@every_term
def test_compiles_in_one_piece_or_says_why_it_does_not(name, options, monkeypatch, caplog):
    """What a run promises: the same values and gradients, compiled where this torch can, else a line in the log."""
    student, teacher, batch = sides(2, SIZES[-2:])
    term = ready(name, options, student, teacher)
    (plain, plain_inputs), (traced, traced_inputs) = leaves(student), leaves(student)
    expected = fresh(term)(plain, teacher, batch)
    torch._dynamo.reset()
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))  # no C++, for the sake of time
    losses = compile.Compiled(Alone(term), len(batch.labels))  # type: ignore[arg-type]
    torch.manual_seed(1)
    with caplog.at_level(logging.INFO, "train"):
        value = losses(traced, teacher, batch)["value"]
    assert losses.works is not ("the objective is not compiled: " in caplog.text)
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(gradients(value.sum(), traced_inputs), gradients(expected.sum(), plain_inputs))


@every_term
def test_a_term_says_whether_it_reads_the_teacher(name, options):
    student, teacher, batch = sides()
    other = output(6, (3, 4, 5, 6), 5, SIZES)._replace(logits=teacher.logits)
    term = ready(name, options, student, other)
    same = torch.equal(fresh(term)(student, student, batch), fresh(term)(student, other, batch))
    assert term.needs_teacher is not same


@pytest.mark.parametrize(("name", "options"), COMPARING, ids=label)
def test_a_student_that_equals_its_teacher_is_left_alone(name, options):
    _, teacher, batch = sides()
    student, inputs = leaves(teacher)
    value = losses.create(name, **options)(student, teacher, batch)
    torch.testing.assert_close(value, torch.zeros(6), rtol=0, atol=1e-6)
    assert all(g.abs().max() < 1e-6 for g in gradients(value.mean(), inputs))


@pytest.mark.parametrize(("name", "options"), MAPS, ids=label)
@pytest.mark.parametrize("value", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("who", ["student", "teacher", "both"])
def test_constant_maps_are_finite_and_so_are_their_gradients(name, options, value, who):
    """docs/method.md, Fact 7: as released, a dead map makes NaN of the loss, guided or not."""
    student, teacher, batch = sides()
    flat = tuple(torch.full_like(m, value) for m in student.maps)
    student = student._replace(maps=flat if who != "teacher" else student.maps)
    if who != "student":
        teacher = teacher._replace(maps=tuple(torch.full_like(m, value) for m in teacher.maps))
    student, inputs = leaves(student)
    term = losses.create(name, **options)(student, teacher, batch)
    result = gradients(term.mean(), inputs)
    assert term.isfinite().all()
    assert all(g.isfinite().all() and g.abs().max() < 1e3 for g in result)


@every_term
@pytest.mark.parametrize("smaller", ["student", "teacher"])
def test_maps_of_any_two_sizes_and_any_numbers_of_levels_are_compared(name, options, smaller):
    """docs/method.md, Fact 9: as released, equal sizes are required."""
    student, teacher, batch = sides()
    other = output(6, (4, 6, 8, 10)[:3], 3, ((14, 4), (8, 8), (4, 4)))
    student, teacher = (other, teacher) if smaller == "student" else (student, other)
    batch = batch._replace(labels=teacher.logits.argmax(dim=1))
    term = ready(name, options, student, teacher)
    student, inputs = leaves(student)
    value = term(student, teacher, batch)
    assert value.shape == (6,)
    assert value.isfinite().all()
    result = gradients(value.mean(), inputs)
    assert all(g.isfinite().all() for g in result)
    assert any(g.abs().max() > 0 for g in result)


@every_term
def test_a_smaller_last_batch_is_taken_and_so_is_one_image_in_training(name, options):
    student, teacher, batch = sides()
    term = ready(name, options, student, teacher).train()
    for count in (4, 1):
        keep = torch.arange(count)
        few = (mapped(partial(torch.index_select, dim=0, index=keep), side) for side in (student, teacher))
        value = term(*few, Batch(*(x[keep] for x in batch[:3])))
        assert value.shape == (count,)
        assert value.isfinite().all()


@every_term
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_a_gpu_gives_what_the_cpu_gives(name, options):
    student, teacher, batch = sides()
    if name == "crd":
        pytest.skip("draws its negatives on the device, which has random numbers of its own")
    term = ready(name, options, student, teacher)
    expected = fresh(term)(student, teacher, batch)
    moved = (mapped(Tensor.cuda, side) for side in (student, teacher))
    value = fresh(term.cuda())(*moved, Batch(*(x.cuda() for x in batch[:3])))
    torch.testing.assert_close(value.cpu(), expected, rtol=1e-3, atol=1e-4)


def golden(shared, file: str) -> tuple[dict[str, Tensor], Output, Output, Batch, list[Tensor]]:
    """All tensors of a file; student, teacher and labels in it; and the student's tensors."""
    values = load_file(shared / "golden" / f"{file}.safetensors")
    levels = range(sum(key.startswith("student_features.") for key in values))
    student, teacher = (
        Output(
            values[f"{who}_logits"], tuple(values[f"{who}_features.{i}"] for i in levels), values[f"{who}_embedding"]
        )
        for who in ("student", "teacher")
    )
    target = values["target"]
    student, inputs = leaves(student)
    return values, student, teacher, Batch(torch.zeros(len(target), 3, 8, 8), target, torch.arange(len(target))), inputs


@pytest.mark.parametrize("file", ["square", "ragged"])
@pytest.mark.parametrize(
    ("key", "name", "options"),
    [
        ("dft_signed", "dctkd", {"transform": "dft_signed", "guided": False}),
        ("dft_abs", "dctkd", {"transform": "dft_abs", "guided": False}),
        ("dft_abs_guided", "dctkd", {"transform": "dft_abs", "guided": True}),
        ("dct2", "dctkd", {"transform": "dct2", "guided": False}),
        ("at", "at", {}),
        ("kd_T4", "kd", {}),
    ],
)
def test_figures_are_those_of_the_released_code(shared, file, key, name, options):
    values, student, teacher, batch, inputs = golden(shared, file)
    value = losses.create(name, **options)(student, teacher, batch)
    torch.testing.assert_close(value.mean(), values[f"{key}.loss"][0].float(), rtol=1e-5, atol=0)
    if f"{key}.per_sample" in values:
        torch.testing.assert_close(value, values[f"{key}.per_sample"].float(), rtol=1e-5, atol=0)
    result = gradients(value.mean(), inputs if name != "kd" else [student.logits])
    due = [values[f"{key}.grad.{i}"] for i in range(len(student.maps)) if f"{key}.grad.{i}" in values]
    assert len(due) == {"dct2": 0, "kd_T4": 1}.get(key, len(student.maps))
    for ours, expected in zip(result, due, strict=False):
        torch.testing.assert_close(ours, expected, rtol=0, atol=1e-4 * expected.abs().max().item())


def attention(features: Tensor) -> np.ndarray:
    return np.asarray((features.numpy().astype(np.float64) ** 2).mean(axis=1))


def ramp(values: np.ndarray) -> np.ndarray:
    """One array onto [0, 1]."""
    return np.asarray((values - values.min()) / (values.max() - values.min()))


SPECTRA: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "dct2": lambda a: ramp(scipy.fft.dctn(a - a.mean(), norm="ortho")),
    "dft_abs": lambda a: ramp(np.abs(np.fft.fft2(a - a.mean()).real)),  # from its DC, which is zero
    "dft_signed": lambda a: ramp(np.fft.fft2(a - a.mean()).real),
    "dct2_raw": lambda a: scipy.fft.dctn(ramp(a) - ramp(a).mean(), norm="ortho"),
    "dct2_energy": lambda a: (spectrum := scipy.fft.dctn(a - a.mean(), norm="ortho")) / np.linalg.norm(spectrum),
    "l2_minmax": ramp,
}


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("guided", [False, True])
def test_dctkd_is_a_sum_over_levels_of_norms_of_differences(transform, guided):
    student, teacher, batch = sides()
    expected = np.zeros(6)
    for ours, theirs in zip(student.maps, teacher.maps, strict=True):
        for i, (a, b) in enumerate(zip(attention(ours), attention(theirs), strict=True)):
            expected[i] += np.sqrt(((SPECTRA[transform](a) - SPECTRA[transform](b)) ** 2).sum())
    if guided:
        expected[1::2] = 0  # `sides` gives the teacher every other label
    value = losses.create("dctkd", transform=transform, guided=guided)(student, teacher, batch)
    np.testing.assert_allclose(value.numpy(), expected, rtol=1e-5)


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_dctkd_knows_neither_scale_nor_channels_of_the_features(transform):
    student, teacher, batch = sides()
    term = losses.create("dctkd", transform=transform, guided=False)
    expected = term(student, teacher, batch)
    scaled = tuple(100 * m for m in student.maps)
    doubled = tuple(torch.cat([m, m], dim=1) for m in teacher.maps)
    value = term(student._replace(maps=scaled), teacher._replace(maps=doubled), batch)
    torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_guided_images_that_the_teacher_gets_wrong_count_zero(transform):
    student, teacher, batch = sides()
    student, inputs = leaves(student)
    guided = losses.create("dctkd", transform=transform, guided=True)
    value = guided(student, teacher, batch)
    assert (value[::2] > 0).all()
    assert torch.equal(value[1::2], torch.zeros(3))
    for g in gradients(value.mean(), inputs)[: len(student.maps)]:
        assert (g[::2].flatten(1).abs().amax(dim=1) > 0).all()
        assert torch.equal(g[1::2], torch.zeros_like(g[1::2]))

    wrong = batch._replace(labels=(teacher.logits.argmax(dim=1) + 1) % 7)
    none = guided(student, teacher, wrong)
    assert torch.equal(none, torch.zeros(6))
    assert all(torch.equal(g, torch.zeros_like(g)) for g in gradients(none.mean(), inputs))


def test_dctkd_is_a_guided_true_dct_unless_told():
    student, teacher, batch = sides()
    expected = losses.create("dctkd", transform="dct2", guided=True)(student, teacher, batch)
    assert torch.equal(losses.create("dctkd")(student, teacher, batch), expected)


def test_at_is_the_mean_squared_difference_of_unit_maps():
    student, teacher, batch = sides()
    expected = np.zeros(6)
    for pair in zip(student.maps, teacher.maps, strict=True):
        a, b = (m / np.sqrt((m**2).sum(axis=(1, 2), keepdims=True)) for m in map(attention, pair))
        expected += ((a - b) ** 2).mean(axis=(1, 2))
    np.testing.assert_allclose(losses.create("at")(student, teacher, batch).numpy(), expected, rtol=1e-5)


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


@pytest.mark.parametrize("temperature", [1.0, 2.5, 4.0])
def test_kd_is_the_divergence_of_softened_predictions(temperature):
    student, teacher, batch = sides()
    student, _ = leaves(student)
    q, p = (softmax(side.logits.detach().double().numpy() / temperature) for side in (student, teacher))
    value = losses.create("kd", temperature=temperature)(student, teacher, batch)
    np.testing.assert_allclose(value.detach().numpy(), temperature**2 * (p * np.log(p / q)).sum(axis=1), rtol=1e-5)
    (gradient,) = torch.autograd.grad(value.sum(), student.logits)
    np.testing.assert_allclose(gradient.numpy(), temperature * (q - p), atol=1e-5)


def test_kd_is_at_temperature_4_unless_told():
    student, teacher, batch = sides()
    expected = losses.create("kd", temperature=4)(student, teacher, batch)
    assert torch.equal(losses.create("kd")(student, teacher, batch), expected)


def test_kd_does_not_mind_large_logits():
    student, teacher, batch = sides()
    student, inputs = leaves(student._replace(logits=1e4 * student.logits))
    value = losses.create("kd")(student, teacher._replace(logits=-1e4 * teacher.logits), batch)
    assert value.isfinite().all()
    assert all(g.isfinite().all() for g in gradients(value.mean(), inputs))


def test_kd_refuses_other_classes():
    student, teacher, batch = sides()
    with pytest.raises(ValueError, match="the student has 7 and the teacher 5"):
        losses.create("kd")(student, teacher._replace(logits=teacher.logits[:, :5]), batch)


def test_ce_is_the_negative_log_likelihood():
    student, teacher, batch = sides()
    likelihood = softmax(student.logits.double().numpy())[np.arange(6), batch.labels.numpy()]
    np.testing.assert_allclose(losses.create("ce")(student, teacher, batch).numpy(), -np.log(likelihood), rtol=1e-5)


def test_ce_of_a_student_without_a_clue_is_the_log_of_the_classes():
    student, teacher, batch = sides()
    value = losses.create("ce")(student._replace(logits=torch.zeros(6, 7)), teacher, batch)
    torch.testing.assert_close(value, torch.full((6,), math.log(7)))


@pytest.mark.parametrize("smoothing", [0.05, 0.1, 0.5, 0.9])
def test_smoothed_labels_are_a_mixture_with_the_even_distribution(smoothing):
    student, teacher, batch = sides()
    likelihoods = softmax(student.logits.double().numpy())
    targets = (1 - smoothing) * np.eye(7)[batch.labels.numpy()] + smoothing / 7
    value = losses.create("ce", label_smoothing=smoothing)(student, teacher, batch)
    np.testing.assert_allclose(value.numpy(), -(targets * np.log(likelihoods)).sum(axis=1), rtol=1e-5)
    theirs = nn.CrossEntropyLoss(reduction="none", label_smoothing=smoothing)(student.logits, batch.labels)
    torch.testing.assert_close(value, theirs)


def test_without_smoothing_nothing_changes_to_the_bit():
    student, teacher, batch = sides(24)
    (plain, plain_inputs), (zero, zero_inputs) = leaves(student), leaves(student)
    one, other = (
        losses.create("ce")(plain, teacher, batch),
        losses.create("ce", label_smoothing=0)(zero, teacher, batch),
    )
    logits = plain.logits.detach()
    assert torch.equal(one, other) and torch.equal(one, nn.CrossEntropyLoss(reduction="none")(logits, batch.labels))
    pairs = zip(gradients(one.mean(), plain_inputs), gradients(other.mean(), zero_inputs), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("value", [-0.1, 1.0, 1, 2.0, float("nan"), float("inf")])
def test_a_smoothing_that_leaves_nothing_of_the_label_is_refused(value):
    with pytest.raises(ValueError, match=f"label_smoothing is {value} but should be in"):
        losses.create("ce", label_smoothing=value)


def test_names_are_terms():
    known = "at ce ckd crd dctkd dist dkd fft kd pkt review sp vid wavelet"
    assert set(known.split()) <= set(losses.names())
    assert all(isinstance(losses.create(name), Term) for name in losses.names())


def test_an_unknown_name_is_answered_with_close_ones():
    with pytest.raises(ValueError, match=r"no 'dctk'.*Did you mean 'dctkd'.*Available: at, cat, ce, ckd"):
        losses.create("dctk")


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("kd", {"temprature": 4.0}, r"loss 'kd' does not take.*'temprature'"),
        ("ce", {"smoothing": 0.1}, r"loss 'ce' does not take.*'smoothing'"),
        (
            "dctkd",
            {"transform": "fft"},
            r"transform 'fft' is not one of \['dct2', 'dct2_energy', 'dct2_raw', 'dft_abs', .*'l2_minmax'\]",
        ),
        ("kd", {"temperature": 0.0}, r"temperature 0\.0 is not positive"),
        ("kd", {"temperature": -4.0}, r"temperature -4\.0 is not positive"),
    ],
)
def test_an_option_that_a_term_does_not_have_is_refused(name, options, message):
    with pytest.raises(ValueError, match=message):
        losses.create(name, **options)


@pytest.mark.parametrize("scale", [1e-8, 1e-15, 1e-18, 1e-20, 1e-25, 0.0])
@pytest.mark.parametrize(("name", "options"), MAPS, ids=label)
def test_tiny_features_have_finite_gradients(name, options, scale):
    """Squares of 1e-20 are below float32's normal numbers, and one over their range is beyond its largest."""
    student, teacher, batch = sides()
    small = student._replace(maps=tuple((m * scale).requires_grad_() for m in student.maps))
    term = losses.create(name, **options)
    term.setup(small, teacher, LABELS)
    value = term(small, teacher, batch)
    gradients = torch.autograd.grad(value.sum(), small.maps)
    assert value.isfinite().all()
    assert all(gradient.isfinite().all() for gradient in gradients)


@pytest.mark.parametrize("broken", [math.nan, math.inf])
@pytest.mark.parametrize("transform", TRANSFORMS)
def test_what_the_guide_leaves_out_stays_out_whatever_it_holds(transform, broken):
    student, teacher, batch = sides()
    term = losses.create("dctkd", transform=transform)
    right = teacher.logits.argmax(dim=1) == batch.labels
    assert 0 < right.sum() < len(right)
    sound = tuple(m.clone().requires_grad_() for m in student.maps)
    expected = term(student._replace(maps=sound), teacher, batch)
    damaged = tuple(torch.where(right[:, None, None, None], m, broken).requires_grad_() for m in student.maps)
    value = term(student._replace(maps=damaged), teacher, batch)
    assert torch.equal(value, expected)
    for own, other in zip(
        torch.autograd.grad(value.sum(), damaged), torch.autograd.grad(expected.sum(), sound), strict=True
    ):
        assert torch.equal(own, other)
        assert (own[~right] == 0).all()
        assert (own[right] != 0).any()
