"""What a term of the objective is, and how one is found: each has a file of its own, called as the term is."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from dctkd_zoo import discover
from dctkd_zoo.data.batch import Batch
from dctkd_zoo.errors import reason_of
from dctkd_zoo.features import Output


class Term(nn.Module):
    """A loss term: `term(student, teacher, batch) -> (B,)`.

    `needs_teacher` is false for a term that reads the student and the labels alone, `needs_features` true
    for one that reads more of the teacher's maps than their activation maps.
    """

    needs_teacher = True
    needs_features = False

    def setup(self, student: Output, teacher: Output, labels: Tensor | None = None) -> None:
        """Create what depends on the outputs' shapes; called once, before training.

        The outputs are real ones, of as many images as a batch has. `labels` (N,) are those of the
        whole training set, in the order that `Batch.ids` counts in.
        """

    def forward(self, student: Output, teacher: Output, batch: Batch) -> Tensor:
        """One number per image, (B,)."""
        raise NotImplementedError


def create(name: str, **options: Any) -> Term:
    """The term of `losses/<name>.py` with the given options; `ValueError` for a name or an option it does not have."""
    term = discover.only(discover.load(__name__, name), Term)
    try:
        return term(**options)
    except TypeError as error:
        raise ValueError(f"loss {name!r} does not take {options}: {reason_of(error)}") from error


def names() -> tuple[str, ...]:
    """The names of all terms."""
    return discover.modules(__name__)
