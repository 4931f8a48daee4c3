"""The weighted sum of terms."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dctkd_zoo import losses
from dctkd_zoo.data.batch import Batch
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
