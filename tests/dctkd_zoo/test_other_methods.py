"""The rivals' terms against plain references, written from their papers: values, and gradients by autograd."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from dctkd_zoo import losses
from dctkd_zoo.data.batch import Batch
from dctkd_zoo.features import Output
from dctkd_zoo.losses import Term

State = dict[str, Tensor]
Reference = Callable[..., Tensor]  # of the term's state, the student and the teacher

every_rival = pytest.mark.parametrize("name", ["ckd", "crd", "pkt", "review", "vid"])

IMAGES, CLASSES = 9, 7  # of fewer than 8 images, ckd's attention has one dimension: no gradient
EPS = 1e-7  # of pkt and crd
# A training set of classes of 4, 7, 10, ... images, shuffled.
LABELS = torch.arange(CLASSES).repeat_interleave(torch.arange(4, 25, 3))
LABELS = LABELS[torch.randperm(len(LABELS), generator=torch.Generator().manual_seed(3))]


def side(seed: int, channels: tuple[int, ...], *sizes: tuple[int, int], images: int = IMAGES) -> Output:
    """One network's output in float64. Its embedding owes nothing to its maps: their gradients stay apart."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(images, *shape, generator=generator, dtype=torch.float64)

    maps = tuple(draw(c, *size).relu() for c, size in zip(channels, sizes, strict=True))
    return Output(draw(CLASSES), maps, draw(channels[-1]))


def batch_of(*ids: int) -> Batch:
    return Batch(torch.zeros(len(ids), 3, 8, 8), LABELS[[*ids]], torch.tensor(ids))


# From the deepest: the teacher is larger, the student is, and neither contains the other; one level has no partner.
STUDENT = side(1, (3, 4, 5), (9, 7), (6, 5), (2, 3))
TEACHER = side(2, (4, 5, 6, 8), (11, 10), (7, 8), (4, 4), (5, 4))
SIDES = STUDENT, TEACHER
BATCH = batch_of(31, 4, 60, 17, 88, 52, 9, 70, 25)


def first(images: int) -> tuple[Output, Output, Batch]:
    s, t = (Output(x.logits[:images], tuple(m[:images] for m in x.maps), x.embedding[:images]) for x in SIDES)
    return s, t, Batch(*(x[:images] for x in BATCH[:3]))


def ready(name: str, student: Output = STUDENT, teacher: Output = TEACHER, **options: Any) -> Any:
    torch.manual_seed(0)
    term = losses.create(name, **options)
    term.setup(student, teacher, LABELS)
    return term.double()


def small_crd(**options: Any) -> Any:
    return ready("crd", **{"count": 9, "dim": 4, "momentum": 0.3, **options})


def seeded(seed: int, term: Term, *parts: Any) -> Tensor:
    torch.manual_seed(seed)
    value: Tensor = term(*parts)
    return value


def leaves(output: Output) -> tuple[Output, list[Tensor]]:
    """The same values as leaves that want gradients, and these in one list."""
    tensors = [x.clone().requires_grad_() for x in (*output.maps, output.embedding, output.logits)]
    return Output(tensors[-1], tuple(tensors[:-2]), tensors[-2]), tensors


def state(term: Term) -> State:
    """The term's own parameters, and what its buffers are now."""
    return {**dict(term.named_parameters()), **{key: value.clone() for key, value in term.named_buffers()}}


def slopes(values: Tensor, inputs: list[Tensor]) -> tuple[Tensor, ...]:
    """Gradients of a sum in which no two images weigh the same."""
    total = (values * torch.linspace(1, 2, len(values), dtype=values.dtype)).sum()
    return torch.autograd.grad(total, inputs, allow_unused=True, materialize_grads=True)


def agree(term: Term, student: Output, teacher: Output, batch: Batch, reference: Reference, seed: int = 5) -> None:
    """Values, and gradients to the student and to the term's parameters, are those of the reference."""
    before = state(term)
    student, inputs = leaves(student)
    value, due = seeded(seed, term, student, teacher, batch), reference(before, student, teacher)
    torch.testing.assert_close(value, due, rtol=1e-9, atol=1e-12)
    inputs += term.parameters()
    expected = slopes(due, inputs)
    assert max(g.abs().max() for g in expected) > 1e-3
    torch.testing.assert_close(slopes(value, inputs), expected, rtol=1e-7, atol=1e-9)


# What the references are made of.


def paired(student: Output, teacher: Output) -> list[tuple[Tensor, Tensor]]:
    return list(zip(reversed(student.maps), reversed(teacher.maps), strict=False))[::-1]


def averaged(x: Tensor, *size: int) -> Tensor:
    """Each pixel is the mean of those that it covers, in whole or in part."""
    spans = ([(i * n // m, -(-(i + 1) * n // m)) for i in range(m)] for n, m in zip(x.shape[2:], size, strict=True))
    rows, columns = spans
    return torch.stack([torch.stack([x[:, :, a:b, c:d].mean(dim=(2, 3)) for c, d in columns], 2) for a, b in rows], 2)


def nearest(x: Tensor, *size: int) -> Tensor:
    rows, columns = ([i * n // m for i in range(m)] for n, m in zip(x.shape[2:], size, strict=True))
    return x[:, :, rows][:, :, :, columns]


def smaller(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    size = min(a.shape[2], b.shape[2]), min(a.shape[3], b.shape[3])
    return averaged(a, *size), averaged(b, *size)


def convolved(x: Tensor, weight: Tensor) -> Tensor:
    """A sum over the offsets of an odd kernel, with zeros around the map."""
    kernel, (height, width) = weight.shape[2], x.shape[2:]
    around, total = torch.nn.functional.pad(x, (kernel // 2,) * 4), torch.zeros(())
    for i, j in np.ndindex(kernel, kernel):
        total = total + torch.einsum("oc,bchw->bohw", weight[:, :, i, j], around[:, :, i : i + height, j : j + width])
    return total


def normalised(x: Tensor, own: State, key: str, training: bool) -> Tensor:
    """By the batch's mean and spread in training, unless there is but one value; else by the running ones."""
    weight, bias, mean, spread = (
        own[f"{key}.{name}"].view(1, -1, 1, 1) for name in ("weight", "bias", "running_mean", "running_var")
    )
    if training and x[:, 0].numel() > 1:
        mean = x.mean(dim=(0, 2, 3), keepdim=True)
        spread = ((x - mean) ** 2).mean(dim=(0, 2, 3), keepdim=True)
    return (x - mean) / (spread + 1e-5).sqrt() * weight + bias


def unit(vector: Tensor) -> Tensor:
    return vector / (vector * vector).sum().sqrt()


# What all have in common.


@every_rival
def test_a_level_that_the_other_network_lacks_is_left_out_from_the_shallow_end(name):
    deep = TEACHER._replace(maps=TEACHER.maps[1:])
    more = STUDENT._replace(maps=(TEACHER.maps[0], *STUDENT.maps))
    values = [seeded(1, ready(name, s, t), s, t, BATCH) for s, t in (SIDES, (STUDENT, deep), (more, deep))]
    assert torch.equal(values[0], values[1])
    assert torch.equal(values[0], values[2])


@every_rival
def test_neither_network_s_output_is_changed(name):
    """docs/method.md, D-15: as released, Review overwrites the teacher's features."""
    student, teacher = deepcopy(SIDES)
    ready(name)(student, teacher, BATCH)
    for ours, expected in ((student, STUDENT), (teacher, TEACHER)):
        assert all(torch.equal(a, b) for a, b in zip(leaves(ours)[1], leaves(expected)[1], strict=True))


@every_rival
def test_the_loss_falls_when_student_and_term_are_fitted(name):
    term = ready(name)
    student, inputs = leaves(STUDENT)
    adam = torch.optim.Adam([*inputs, *term.parameters()], lr=0.1)
    values = []
    for _ in range(60):
        value = term(student, TEACHER, BATCH).mean()
        adam.zero_grad()
        value.backward()
        adam.step()
        values.append(value.item())
    assert values[0] > 0
    assert values[-1] < 0.5 * values[0]


@pytest.mark.parametrize("file", ["square", "ragged"])
@pytest.mark.parametrize(("name", "options"), [("pkt", {}), ("vid", {"levels": "released"})])
def test_figures_are_those_of_the_released_code(shared, file, name, options):
    values = load_file(shared / "golden" / f"{file}.safetensors")
    maps: dict[str, tuple[Tensor, ...]] = {
        who: tuple(values[key] for key in sorted(values) if key.startswith(f"{who}_features."))
        for who in ("student", "teacher")
    }
    student, teacher = (Output(values[f"{who}_logits"], maps[who], values[f"{who}_embedding"]) for who in maps)
    student, inputs = leaves(student)
    term = ready(name, student, teacher, **options).float()
    if name == "vid":
        weights = {key.removeprefix("vid.module."): value for key, value in values.items() if "vid.module." in key}
        term.predictions.load_state_dict(weights)
    images = torch.arange(len(student.logits))
    value = term(student, teacher, Batch(torch.zeros(len(images), 3, 8, 8), values["target"], images)).mean()
    torch.testing.assert_close(value, values[f"{name}.loss"][0], rtol=1e-5, atol=0)
    reached = [student.embedding] if name == "pkt" else inputs[1 : len(student.maps)]
    due = [values[key] for key in sorted(values) if key.startswith(f"{name}.grad.")]
    for result, expected in zip(torch.autograd.grad(value, reached), due, strict=True):
        torch.testing.assert_close(result, expected, rtol=0, atol=1e-4 * expected.abs().max().item())


@pytest.mark.parametrize(
    ("name", "parts"),
    [("vid", {"predictions": (3, 2)}), ("ckd", {"queries": (3, 2), "keys": (3, 2), "regressors": (9, 4)})],
)
def test_released_learns_nothing_for_the_shallowest_level_and_all_is_what_one_gets_untold(name, parts):
    untold, every, released = ready(name), ready(name, levels="all"), ready(name, levels="released")
    assert {part: (len(getattr(every, part)), len(getattr(released, part))) for part in parts} == parts
    assert torch.equal(untold(*SIDES, BATCH), every(*SIDES, BATCH))


@pytest.mark.parametrize("name", ["vid", "ckd"])
def test_levels_that_do_not_exist_or_leave_nothing_are_refused(name):
    with pytest.raises(ValueError, match=r"levels 'first' is not one of \['all', 'released'\]"):
        losses.create(name, levels="first")
    with pytest.raises(ValueError, match="1 levels are compared and the first is skipped"):
        ready(name, STUDENT._replace(maps=STUDENT.maps[-1:]), levels="released")


# PKT


def chances(vectors: np.ndarray) -> np.ndarray:
    table = np.zeros((len(vectors), len(vectors)))
    for i, a in enumerate(vectors):
        for j, b in enumerate(vectors):
            table[i, j] = (a @ b / (np.sqrt(a @ a) + EPS) / (np.sqrt(b @ b) + EPS) + 1) / 2
        table[i] /= sum(table[i])
    return table


def pkt_reference(student: np.ndarray, teacher: np.ndarray) -> np.ndarray:
    q, p = chances(student), chances(teacher)
    expected = np.zeros(len(p))
    for i, j in np.ndindex(p.shape):
        expected[i] += p[i, j] * np.log((p[i, j] + EPS) / (q[i, j] + EPS)) / len(p)
    return expected


def test_pkt_is_the_divergence_of_neighbourhoods_and_so_is_its_slope():
    student, inputs = leaves(STUDENT)
    value = ready("pkt")(student, TEACHER, BATCH)
    ours, teacher = STUDENT.embedding.numpy(), TEACHER.embedding.numpy()
    np.testing.assert_allclose(value.detach().numpy(), pkt_reference(ours, teacher), rtol=1e-9)
    *maps, embedding, logits = (g.detach().numpy() for g in slopes(value, inputs))
    assert not any(g.any() for g in (*maps, logits))
    for at in np.ndindex(ours.shape):
        step = np.zeros_like(ours)
        step[at] = 1e-6
        change = (pkt_reference(ours + step, teacher) - pkt_reference(ours - step, teacher)) / 2e-6
        np.testing.assert_allclose(embedding[at], np.linspace(1, 2, IMAGES) @ change, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_pkt_of_zero_embeddings_is_that_of_the_formula_and_its_gradient_is_finite(dtype):
    ours, teacher = (x.embedding.to(dtype, copy=True) for x in SIDES)
    ours[2], teacher[4] = 0, 0
    student, inputs = leaves(STUDENT._replace(embedding=ours))
    value = ready("pkt")(student, TEACHER._replace(embedding=teacher), BATCH)
    expected = pkt_reference(ours.double().numpy(), teacher.double().numpy())
    np.testing.assert_allclose(value.detach().numpy(), expected, rtol=1e-9 if dtype is torch.float64 else 1e-4)
    assert all(g.isfinite().all() for g in slopes(value, inputs))


@pytest.mark.parametrize("scale", [0.0, 1.0])
def test_pkt_of_one_image_is_exactly_zero_and_so_is_its_gradient(scale):
    student, teacher, batch = first(1)
    student, inputs = leaves(student._replace(embedding=scale * student.embedding))
    value = ready("pkt")(student, teacher, batch)
    assert value.tolist() == [0]
    assert all(g.abs().max() < 1e-12 for g in slopes(value, inputs))


# VID


def vid_reference(own: State, student: Output, teacher: Output, skipped: int = 0) -> Tensor:
    expected = torch.zeros(())
    for level, (s, t) in enumerate(paired(student, teacher)[skipped:]):
        mean, target = smaller(s, t)
        for layer in (0, 2, 4):
            weight = own[f"predictions.{level}.regressor.{layer}.weight"][:, :, 0, 0]
            mean = torch.einsum("oc,bchw->bohw", weight, mean.relu() if layer else mean)
        variance = (1 + own[f"predictions.{level}.log_scale"].exp()).log() + 1e-5
        meta = torch.distributions.Normal(mean, variance.sqrt().view(-1, 1, 1)).log_prob(target)
        expected = expected - meta.mean(dim=(1, 2, 3)) - 0.5 * np.log(2 * np.pi)
    return expected


@pytest.mark.parametrize(("levels", "skipped"), [("all", 0), ("released", 1)])
def test_vid_is_the_likelihood_of_the_teacher_s_features(levels, skipped):
    term = ready("vid", levels=levels)
    for prediction in term.predictions:  # no two channels alike
        prediction.log_scale.data += torch.linspace(-3, 2, len(prediction.log_scale))
    agree(term, *SIDES, BATCH, partial(vid_reference, skipped=skipped))


def test_vid_starts_from_a_variance_of_five():
    for prediction, (s, t) in zip(ready("vid").float().predictions, paired(*SIDES), strict=True):
        _, variance = prediction(s.float())
        torch.testing.assert_close(variance, torch.full(t.shape[1:2], 5.0), rtol=0, atol=1e-6)


# CRD


def projected(own: State, who: str, embedding: Tensor) -> list[Tensor]:
    return [unit(own[f"project_{who}.weight"] @ row + own[f"project_{who}.bias"]) for row in embedding]


def crd_reference(own: State, student: Output, teacher: Output, rows: Tensor, heat: float, scales: State) -> Tensor:
    """`rows` (B, 1 + K) of the banks, the image's own first; `scales`, if any, are those of the first step."""
    expected = torch.zeros(())
    size, count = len(own["student_bank.memory"]), rows.shape[1] - 1
    noise = count * (1 / size)
    for who, bank, side in (("student", "teacher_bank", student), ("teacher", "student_bank", teacher)):
        anchors = torch.stack(projected(own, who, side.embedding))
        gathered = own[f"{bank}.memory"][rows.flatten()].view(*rows.shape, -1)
        scores = (torch.bmm(gathered, anchors[:, :, None])[:, :, 0] / heat).exp()
        chance = scores / scales.setdefault(bank, scores.detach().mean() * size)
        for k in range(1 + count):
            expected = expected - ((noise if k else chance[:, 0]) / (chance[:, k] + noise + EPS)).log()
    return expected


def updated(own: State, who: str, embedding: Tensor, batch: Batch, momentum: float) -> Tensor:
    """The bank after a step: the batch's rows go towards the projections, at length one; the others stay."""
    memory = own[f"{who}_bank.memory"].clone()
    for row, seen in zip(batch.ids.tolist(), projected(own, who, embedding), strict=True):
        memory[row] = unit(momentum * memory[row] + (1 - momentum) * seen.detach())
    return memory


def read(term: Any, batch: Batch, seed: int) -> Tensor:
    """The rows that a call after this seed reads: the images themselves, and what is drawn for each."""
    torch.manual_seed(seed)
    return torch.cat([batch.ids[:, None], term.pool.draw(batch.labels)], dim=1)


@pytest.mark.parametrize("options", [{}, {"negatives": "released", "temperature": 0.2}, {"count": 150}], ids=str)
def test_crd_is_the_contrast_of_the_paper_before_through_and_after_two_steps(options):
    term, heat = small_crd(**options), options.get("temperature", 0.07)
    scales: State = {}
    for step, ids in enumerate([(1, 2, 3), (31, 4, 60, 17), (4, 9, 88, 31), (2, 31, 70)]):
        term.train(step in (1, 2))
        batch = batch_of(*ids)
        student, teacher = (side(10 * step + c, (c,), (1, 1), images=len(ids)) for c in (5, 8))
        rows, before = read(term, batch, step), state(term)
        known = scales if step else {}
        agree(term, student, teacher, batch, partial(crd_reference, rows=rows, heat=heat, scales=known), seed=step)
        for who, embedding in (("student", student.embedding), ("teacher", teacher.embedding)):
            memory = before[f"{who}_bank.memory"]
            after = state(term)[f"{who}_bank.memory"]
            kept = [i for i in range(len(LABELS)) if not term.training or i not in ids]
            assert torch.equal(after[kept], memory[kept])
            if term.training:
                torch.testing.assert_close(after, updated(before, who, embedding, batch, 0.3), rtol=1e-9, atol=1e-12)


def test_crd_has_the_settings_of_the_release_unless_told():
    plain, meta = (ready("crd"), ready("crd", negatives="all", count=16_384, temperature=0.07, momentum=0.5, dim=128))
    for seed in (0, 1):  # the second value tells the momentum
        assert torch.equal(*(seeded(seed, term, *SIDES, BATCH) for term in (plain, meta)))
    memory, bound = ready("crd").student_bank.memory, 1 / np.sqrt(128 / 3)
    assert 0.99 * bound < memory.max() <= bound
    assert -bound <= memory.min() < -0.99 * bound


def test_crd_gives_the_same_after_the_same_seed_and_another_after_another():
    values = [seeded(seed, small_crd(), *SIDES, BATCH) for seed in (1, 1, 2)]
    assert torch.equal(values[0], values[1])
    assert not torch.equal(values[0], values[2])


def test_crd_goes_on_from_its_saved_state_as_if_it_had_not_stopped():
    term, other = small_crd(), small_crd()
    term(*SIDES, BATCH)
    other.load_state_dict(term.state_dict())
    student = STUDENT._replace(embedding=2 - STUDENT.embedding)
    assert torch.equal(*(seeded(1, item, student, TEACHER, BATCH) for item in (term, other)))


EVERYONE = Batch(LABELS, LABELS, torch.arange(len(LABELS)))
FEWEST = len(LABELS) - 22  # images of another class that are left to the largest class


@pytest.mark.parametrize("count", [9, FEWEST, FEWEST + 1, 300])
def test_negatives_are_of_another_class_and_distinct_where_there_are_enough(count):
    drawn = read(small_crd(count=count), EVERYONE, 4)[:, 1:]
    assert drawn.shape == (len(LABELS), count)
    assert (LABELS[drawn] != LABELS[:, None]).all()
    assert all(len(set(row.tolist())) == count for row in drawn) is (count <= FEWEST)


@pytest.mark.parametrize(("count", "rows"), [(9, 4000), (300, 120)])
@pytest.mark.parametrize("own", [0, 6])
def test_every_image_of_another_class_is_as_likely_a_negative(count, rows, own):
    labels = torch.full((rows,), own)
    drawn = read(small_crd(count=count), Batch(labels, labels, labels), 6)[:, 1:].flatten()
    counts = drawn.bincount(minlength=len(LABELS))[torch.ne(LABELS, own)].double()
    expected, freedom = rows * count / len(counts), len(counts) - 1
    assert ((counts - expected) ** 2 / expected).sum() < freedom + 5 * (2 * freedom) ** 0.5


@pytest.mark.parametrize(("negatives", "reach"), [("all", len(LABELS)), ("released", CLASSES)])
def test_released_negatives_are_the_first_images_only_and_all_reach_the_rest(negatives, reach):
    """docs/method.md, D-7: as released, as many images as there are classes."""
    drawn = read(small_crd(negatives=negatives, count=30), EVERYONE, 4)[:, 1:]
    assert (LABELS[drawn] != LABELS[:, None]).all()
    assert set(drawn.flatten().tolist()) == set(range(reach))


def test_crd_without_a_training_set_to_draw_from_says_so():
    with pytest.raises(ValueError, match="negatives 'some' is neither 'all' nor 'released'"):
        losses.create("crd", negatives="some")
    with pytest.raises(ValueError, match="pass its labels to setup"):
        losses.create("crd").setup(*SIDES)
    with pytest.raises(ValueError, match=f"all {len(LABELS)} images .* are of one class"):
        losses.create("crd").setup(*SIDES, torch.zeros_like(LABELS))
    sorted_labels = LABELS.flip(0).sort(descending=True).values
    losses.create("crd").setup(*SIDES, sorted_labels)
    with pytest.raises(ValueError, match=r"all 7 images .* are of one class"):
        losses.create("crd", negatives="released").setup(*SIDES, sorted_labels)


# CKD


def embedded(own: State, key: str, features: Tensor, size: int) -> list[Tensor]:
    """Per image: its inner products with the batch, zeros up to `size`, through two layers, at length one."""
    vectors = []
    for image in features:
        row = torch.stack([(image * other).sum() for other in features] + [torch.zeros(())] * (size - len(features)))
        hidden = (own[f"{key}.layers.0.weight"] @ row + own[f"{key}.layers.0.bias"]).relu()
        vectors.append(unit(own[f"{key}.layers.2.weight"] @ hidden + own[f"{key}.layers.2.bias"]))
    return vectors


def ckd_reference(
    own: State, student: Output, teacher: Output, size: int = IMAGES, skipped: int = 0, training: bool = True
) -> Tensor:
    ours, theirs = zip(*paired(student, teacher)[skipped:], strict=True)
    queries = [embedded(own, f"queries.{i}", s, size) for i, s in enumerate(ours)]
    keys = [embedded(own, f"keys.{j}", t, size) for j, t in enumerate(theirs)]
    expected = [torch.zeros(())] * len(student.logits)
    for i, s in enumerate(ours):
        powers = [[(query @ k).exp() for query, k in zip(queries[i], key, strict=True)] for key in keys]
        for j, t in enumerate(theirs):
            key = f"regressors.{i * len(theirs) + j}"
            meta, target = smaller(s, t)
            meta = normalised(convolved(meta, own[f"{key}.0.weight"]), own, f"{key}.1", training).relu()
            meta = normalised(convolved(meta, own[f"{key}.3.weight"]), own, f"{key}.4", training).relu()
            meta = convolved(meta, own[f"{key}.6.weight"])
            for image in range(len(expected)):
                weight = powers[j][image] / torch.stack([power[image] for power in powers]).sum()
                expected[image] = expected[image] + weight * ((meta[image] - target[image]) ** 2).mean() / len(ours)
    return torch.stack(expected)


@pytest.mark.parametrize(("levels", "skipped"), [("all", 0), ("released", 1)])
@pytest.mark.parametrize("images", [IMAGES, 4, 1])
def test_ckd_is_attention_over_every_pair_of_levels_in_batches_up_to_that_of_setup(levels, skipped, images):
    """docs/method.md, D-14: as released, no batch fits but one of the size that training has."""
    agree(ready("ckd", levels=levels), *first(images), partial(ckd_reference, skipped=skipped))


def test_ckd_of_one_pixel_of_one_image_is_normalised_by_the_running_statistics():
    student, teacher = side(1, (3, 4), (4, 4), (1, 1), images=1), side(2, (4, 6), (5, 3), (2, 2), images=1)
    agree(ready("ckd", student, teacher), student, teacher, batch_of(3), partial(ckd_reference, size=1))


def test_ckd_refuses_a_larger_batch_than_that_of_setup():
    student, teacher, _ = first(8)
    with pytest.raises(ValueError, match="batch of 9 images, but ckd was set up for 8"):
        ready("ckd", student, teacher)(*SIDES, BATCH)


@pytest.mark.parametrize(("images", "dim"), [(9, 2), (8, 2), (4, 1), (3, 1)])
def test_ckd_embeds_in_a_quarter_of_the_batch_and_regresses_in_twice_the_teacher_s_channels(images, dim):
    term = ready("ckd", *first(images)[:2])
    shapes = {key: tuple(value.shape) for key, value in term.named_parameters()}
    for part in ("queries", "keys"):
        assert [shapes[f"{part}.2.layers.{n}.weight"] for n in (0, 2)] == [(2 * dim, images), (dim, 2 * dim)]
    convolutions = [shapes[f"regressors.2.{n}.weight"] for n in (0, 3, 6)]  # of the shallowest to tell the deepest
    assert convolutions == [(16, 3, 1, 1), (16, 16, 3, 3), (8, 16, 1, 1)]


def test_ckd_attends_to_each_teacher_level_and_to_all_by_one_in_sum():
    student, teacher = map(list, zip(*paired(*SIDES), strict=True))
    weights = ready("ckd").weights(student, teacher)
    assert weights.shape == (IMAGES, 3, 3)
    assert (weights > 0).all()
    torch.testing.assert_close(weights.sum(dim=2), torch.ones(IMAGES, 3, dtype=torch.float64))


# Review


def review_reference(own: State, student: Output, teacher: Output, training: bool = True) -> Tensor:
    levels = [*paired(student, teacher), (student.embedding[:, :, None, None], teacher.embedding[:, :, None, None])]
    expected, deeper = torch.zeros(()), None
    for level, (s, t) in reversed([*enumerate(levels)]):
        key = f"fusions.{level}"
        x = normalised(convolved(s, own[f"{key}.reduce.0.weight"]), own, f"{key}.reduce.1", training)
        if deeper is not None:
            y = nearest(deeper, *x.shape[2:])
            z = convolved(torch.cat([x, y], dim=1), own[f"{key}.attend.0.weight"])
            z = 1 / (1 + (-z - own[f"{key}.attend.0.bias"].view(1, 2, 1, 1)).exp())
            x = x * z[:, 0, None] + y * z[:, 1, None]
        deeper = nearest(x, *t.shape[2:])
        meta = normalised(convolved(deeper, own[f"{key}.expand.0.weight"]), own, f"{key}.expand.1", training)
        errors = [meta - t, *(averaged(meta, n, n) - averaged(t, n, n) for n in (4, 2, 1) if n < min(t.shape[2:]))]
        weights = [1, 1 / 2, 1 / 4, 1 / 8][: len(errors)]
        for weight, error in zip(weights, errors, strict=True):
            expected = expected + weight / sum(weights) * (error**2).mean(dim=(1, 2, 3))
    return expected


@pytest.mark.parametrize("images", [IMAGES, 1])
def test_review_fuses_from_the_deepest_and_compares_at_four_sizes(images):
    agree(ready("review"), *first(images), review_reference)


def test_review_compares_maps_of_the_teacher_s_channels_and_size():
    term, seen = ready("review"), []
    for fusion in term.fusions:
        fusion.register_forward_hook(lambda module, inputs, outputs: seen.append(outputs[0].shape))
    term(*SIDES, BATCH)
    assert seen == [(IMAGES, 8, 1, 1), *(t.shape for t in reversed(TEACHER.maps[1:]))]


@pytest.mark.parametrize(("channels", "width"), [(5, 5), (600, 512)])
def test_review_fuses_in_as_many_channels_as_the_embedding_has_up_to_512(channels, width):
    term = ready("review", side(1, (3, channels), (4, 4), (2, 2)))
    assert [fusion.reduce[0].out_channels for fusion in term.fusions] == [width] * 3


@pytest.mark.parametrize(("name", "reference"), [("ckd", ckd_reference), ("review", review_reference)])
def test_batch_statistics_are_used_again_after_an_evaluation(name, reference):
    """docs/method.md, D-13: as released, those of CKD are frozen after the first validation."""
    term = ready(name)
    for training in (True, False, True):
        term.train(training)
        before = {key: value.clone() for key, value in term.named_buffers() if "running" in key}
        agree(term, *SIDES, BATCH, partial(reference, training=training))
        assert [torch.equal(term.get_buffer(key), value) for key, value in before.items()] == [not training] * len(
            before
        )
        assert before
