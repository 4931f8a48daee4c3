"""The weighted sum of terms."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dctkd_zoo import features, losses
from dctkd_zoo.attention import activation_map
from dctkd_zoo.data.batch import UNLABELLED, Batch
from dctkd_zoo.features import Output
from dctkd_zoo.losses import Term
from dctkd_zoo.objective import Objective

WEIGHTS = {"ce": 0.1, "dctkd": 1.0, "kd": 0.8}
OPTIONS: dict[str, dict[str, Any]] = {"dctkd": {"transform": "dft_abs", "guided": False}, "kd": {"temperature": 2.0}}


def side(seed: int) -> Output:
    generator = torch.Generator().manual_seed(seed)
    maps = tuple(torch.randn(4, 3, size, size, generator=generator) for size in (6, 3))
    return Output(torch.randn(4, 5, generator=generator), maps, maps[-1].mean(dim=(2, 3)))


STUDENT, TEACHER = side(0), side(1)
BATCH = Batch(torch.zeros(4, 3, 8, 8), torch.tensor([0, 1, 2, 3]), torch.arange(4))


class Learned(Term):
    """A weighted sum of each image's logits, with weights that are made when the shapes are known."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[Output, Output]] = []
        self.register_parameter("scale", None)

    def setup(self, student: Output, teacher: Output, labels: Tensor | None = None) -> None:
        self.seen.append((student, teacher))
        self.scale = nn.Parameter(torch.ones(student.logits.shape[1]))

    def forward(self, student: Output, teacher: Output, batch: Batch) -> Tensor:
        result: Tensor = student.logits @ self.scale
        return result


def test_each_value_is_weight_times_mean_over_the_batch():
    values = Objective(WEIGHTS, OPTIONS)(STUDENT, TEACHER, BATCH)
    assert list(values) == list(WEIGHTS)
    for name, weight in WEIGHTS.items():
        expected = weight * losses.create(name, **OPTIONS.get(name, {}))(STUDENT, TEACHER, BATCH).sum() / 4
        assert values[name].shape == ()
        torch.testing.assert_close(values[name], expected)


def test_the_sum_and_its_gradient_are_those_of_the_formula():
    logits = STUDENT.logits.clone().requires_grad_()
    values = Objective({"ce": 0.1, "kd": 0.8}, {"kd": {"temperature": 4.0}})(
        STUDENT._replace(logits=logits), TEACHER, BATCH
    )
    total = sum(values.values())
    p, q, one = (TEACHER.logits / 4).softmax(1), (STUDENT.logits / 4).softmax(1), STUDENT.logits.softmax(1)
    nll = -one.log()[range(4), BATCH.labels].mean()
    torch.testing.assert_close(total, 0.1 * nll + 0.8 * 16 * (p * (p / q).log()).sum(dim=1).mean())
    (gradient,) = torch.autograd.grad(total, logits)
    hard = one - torch.nn.functional.one_hot(BATCH.labels, 5)
    torch.testing.assert_close(gradient, (0.1 * hard + 0.8 * 4 * (q - p)) / 4)


def test_guided_images_are_averaged_over_the_whole_batch():
    batch = BATCH._replace(labels=TEACHER.logits.argmax(dim=1))
    known = Objective({"dctkd": 1.0}, {})(STUDENT, TEACHER, batch)["dctkd"]
    none = Objective({"dctkd": 1.0}, {})(
        STUDENT, TEACHER, batch._replace(labels=(batch.labels + torch.tensor([0, 0, 0, 1])) % 5)
    )["dctkd"]
    per_image = losses.create("dctkd", guided=False)(STUDENT, TEACHER, batch)
    torch.testing.assert_close(known, per_image.sum() / 4)
    torch.testing.assert_close(none, per_image[:3].sum() / 4)


@pytest.mark.parametrize(("names", "needed"), [(("ce",), False), (("ce", "kd"), True), (("at",), True), ((), False)])
def test_a_teacher_is_needed_when_any_term_reads_it(names, needed):
    assert Objective(dict.fromkeys(names, 1.0), {}).needs_teacher is needed


def test_setup_reaches_each_term_once_with_both_outputs():
    objective = Objective({"ce": 1.0, "kd": 2.0}, {})
    terms = {"ce": Learned(), "kd": Learned()}
    objective.terms.update(terms)
    assert not list(objective.parameters())
    objective.setup(STUDENT, TEACHER)
    for term in terms.values():
        assert len(term.seen) == 1
        assert term.seen[0][0] is STUDENT
        assert term.seen[0][1] is TEACHER
    assert [name for name, _ in objective.named_parameters()] == ["terms.ce.scale", "terms.kd.scale"]
    torch.testing.assert_close(objective(STUDENT, TEACHER, BATCH)["kd"], 2 * STUDENT.logits.sum() / 4)


def test_what_the_caller_does_to_the_weights_later_does_not_matter():
    weights = {"ce": 1.0}
    objective = Objective(weights, {})
    weights["ce"] = 5.0
    assert objective.weights == {"ce": 1.0}


def test_terms_without_weights_of_their_own_leave_no_trace_in_a_checkpoint():
    assert not Objective(WEIGHTS, OPTIONS).state_dict()


def test_an_unknown_term_is_refused():
    with pytest.raises(ValueError, match=r"no 'kdd'.*Did you mean 'kd'"):
        Objective({"ce": 1.0, "kdd": 1.0}, {})


def test_an_unknown_option_is_refused():
    with pytest.raises(ValueError, match="'tau'"):
        Objective({"kd": 1.0}, {"kd": {"tau": 4.0}})


def unlabelled(batch: Batch, *places: int) -> Batch:
    """The batch without the labels of the images at some places."""
    labels = batch.labels.clone()
    labels[list(places)] = UNLABELLED
    return batch._replace(labels=labels)


def blended(share: float, batch: Batch = BATCH) -> Batch:
    """The batch as MixUp leaves it: each image's labels are its own and those of the one before it."""
    return batch._replace(other_labels=batch.labels.roll(1), share=torch.full((4,), share))


def prepared(weights: dict[str, float], options: dict[str, dict[str, Any]], batch: Batch) -> Objective:
    """An objective for a training set of the batch's images."""
    objective = Objective(weights, options)
    objective.setup(STUDENT, TEACHER, batch.labels)
    return objective


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_cross_entropy_of_blended_images_is_that_with_the_blended_labels(smoothing, share, dtype):
    one, other = (nn.functional.one_hot(labels, 5).to(dtype) for labels in (BATCH.labels, BATCH.labels.roll(1)))
    logits = STUDENT.logits.to(dtype)
    value = losses.create("ce", label_smoothing=smoothing)(STUDENT._replace(logits=logits), TEACHER, blended(share))
    target = share * one + (1 - share) * other
    expected = nn.functional.cross_entropy(logits, target, reduction="none", label_smoothing=smoothing)
    torch.testing.assert_close(value, expected)


def test_guided_distances_count_blended_images_of_which_the_teacher_names_one_class():
    plain = losses.create("dctkd", guided=False)(STUDENT, TEACHER, BATCH)
    named, no = TEACHER.logits.argmax(dim=1), (TEACHER.logits.argmax(dim=1) + 1) % 5
    for own, other, counts in ((named, no, True), (no, named, True), (no, no, False), (named, named, True)):
        batch = BATCH._replace(labels=own, other_labels=other, share=torch.full((4,), 0.4))
        torch.testing.assert_close(losses.create("dctkd")(STUDENT, TEACHER, batch), plain * counts)


@pytest.mark.parametrize("weights", [{"ce": 1.0}, {"ce": 0.5, "dctkd": 2.0}, {"ce": 0.0, "kd": 1.0, "dctkd": 1.0}])
@pytest.mark.parametrize("reduction", ["batch", "correct"])
@pytest.mark.parametrize("share", [None, 0.3])
def test_terms_that_need_labels_are_means_over_the_images_that_have_one(weights, reduction, share):
    """As if the others were not in the batch; they give the student no gradient through such a term."""
    batch = unlabelled(BATCH._replace(labels=(TEACHER.logits.argmax(dim=1) + torch.tensor([0, 1, 0, 0])) % 5), 2)
    places = [0, 1, 3]
    if share is not None:
        batch, places = blended(share, batch), [0, 1]  # the last one is blended with the one without a label
    options = {"dctkd": {"reduction": reduction}} if "dctkd" in weights else {}
    logits, maps = STUDENT.logits.clone().requires_grad_(), [m.clone().requires_grad_() for m in STUDENT.maps]
    student = STUDENT._replace(logits=logits, maps=tuple(maps))
    values = prepared(weights, options, batch)(student, TEACHER, batch)

    def part(side: Output) -> Output:
        return Output(side.logits[places], tuple(m[places] for m in side.maps), side.embedding[places])

    alone = Batch(*(None if item is None else item[places] for item in batch))  # type: ignore[arg-type]
    expected = Objective(weights, options)(part(STUDENT), part(TEACHER), alone)
    for name in weights.keys() & {"ce", "dctkd"}:
        torch.testing.assert_close(values[name], expected[name])
    sum(values[name] for name in weights.keys() & {"ce", "dctkd"}).backward()
    for leaf in (logits, *maps):
        if leaf.grad is not None:
            assert not leaf.grad[[place for place in range(4) if place not in places]].any()
    if weights["ce"]:
        assert logits.grad is not None and logits.grad[places].any(dim=1).all()


def test_terms_that_need_no_labels_read_every_image():
    batch = unlabelled(BATCH, 0, 1, 2, 3)
    weights, options = {"ce": 1.0, "kd": 1.0, "dctkd": 1.0}, {"dctkd": {"guided": False}}
    values = prepared(weights, options, batch)(STUDENT, TEACHER, batch)
    expected = Objective(weights, options)(STUDENT, TEACHER, BATCH)
    assert values["ce"] == 0 and all(torch.equal(values[name], expected[name]) for name in ("kd", "dctkd"))


@pytest.mark.parametrize("options", [{"reduction": "batch"}, {"reduction": "correct"}])
def test_a_batch_without_a_label_has_a_loss_of_zero_and_no_gradient(options):
    batch, logits = unlabelled(BATCH, 0, 1, 2, 3), STUDENT.logits.clone().requires_grad_()
    objective = prepared({"ce": 1.0, "dctkd": 1.0}, {"dctkd": options, "ce": {"label_smoothing": 0.1}}, batch)
    values = objective(STUDENT._replace(logits=logits), TEACHER, batch)
    torch.stack([*values.values()]).sum().backward()
    assert not any(values.values()) and logits.grad is not None and not logits.grad.any()


def test_a_training_set_with_all_labels_has_the_values_of_before_bit_for_bit():
    for batch in (BATCH, blended(0.3)):
        plain, known = Objective(WEIGHTS, OPTIONS), prepared(WEIGHTS, OPTIONS, BATCH)
        known.some_unlabelled = True  # every image of this batch has a label
        one, other = (objective(STUDENT, TEACHER, batch) for objective in (plain, known))
        assert all(torch.equal(one[name], other[name]) for name in WEIGHTS)


@pytest.mark.parametrize("kind", ["blended", "unlabelled", "both"])
def test_a_compiled_objective_has_the_values_of_the_plain_one(kind):
    batch = unlabelled(BATCH, 1) if kind != "blended" else BATCH
    batch = blended(0.3, batch) if kind != "unlabelled" else batch
    weights: dict[str, float] = {"ce": 1.0, "dctkd": 1.0, "kd": 1.0}
    plain = prepared(weights, {"dctkd": {"reduction": "correct"}}, batch)
    compiled = torch.compile(plain, fullgraph=True, dynamic=False, backend="eager")
    for one, other in zip(
        plain(STUDENT, TEACHER, batch).values(), compiled(STUDENT, TEACHER, batch).values(), strict=True
    ):
        torch.testing.assert_close(one, other)


MAP_TERMS = {"at": 1000.0, "dctkd": 1.0, "fft": 10.0, "wavelet": 10.0}


def test_terms_of_activation_maps_share_one_computation_of_them(monkeypatch):
    seen: list[Tensor] = []

    def recorded(maps: Tensor) -> Tensor:
        seen.append(maps)
        return activation_map(maps)

    monkeypatch.setattr(features, "activation_map", recorded)
    Objective(MAP_TERMS, {})(STUDENT, TEACHER, BATCH)
    assert [id(maps) for maps in seen] == [id(maps) for maps in (*STUDENT.maps, *TEACHER.maps)]
    seen.clear()
    Objective({"ce": 1.0, "kd": 1.0, "dctkd": 1.0}, {"dctkd": {"maps": "class"}})(
        *(o._replace(class_maps=o.maps[-1][:, [0, 1, 2, 0, 1]]) for o in (STUDENT, TEACHER)), BATCH
    )
    assert not seen


@pytest.mark.parametrize("name", MAP_TERMS)
def test_shared_maps_change_no_value_and_no_gradient(name):
    batch = BATCH._replace(labels=(TEACHER.logits.argmax(dim=1) + torch.tensor([0, 1, 0, 0])) % 5)  # one is left out
    alone = losses.create(name)

    def gradients(value_of):
        leaves = tuple(maps.clone().requires_grad_() for maps in STUDENT.maps)
        value = value_of(STUDENT._replace(maps=leaves))
        return value, torch.autograd.grad(value, leaves)

    shared, from_shared = gradients(lambda student: Objective(MAP_TERMS, {})(student, TEACHER, batch)[name])
    expected, from_own = gradients(lambda student: MAP_TERMS[name] * alone(student, TEACHER, batch).mean())
    assert torch.equal(shared, expected)
    for a, b in zip(from_shared, from_own, strict=True):
        assert torch.equal(a, b)


def test_an_image_that_the_guide_leaves_out_may_be_non_finite_where_maps_are_shared():
    batch = BATCH._replace(labels=(TEACHER.logits.argmax(dim=1) + torch.tensor([0, 1, 0, 0])) % 5)
    leaves = tuple(maps.clone() for maps in STUDENT.maps)
    for maps in leaves:
        maps[1] = torch.inf
        maps.requires_grad_()
    objective = Objective({"dctkd": 1.0, "kd": 1.0}, {})
    values = objective(STUDENT._replace(maps=leaves), TEACHER, batch)
    total = torch.stack(list(values.values())).sum()
    assert total.isfinite()
    for gradient in torch.autograd.grad(total, leaves):
        assert gradient.isfinite().all()
        assert gradient[0].abs().sum() > 0
        assert not gradient[1].any()
