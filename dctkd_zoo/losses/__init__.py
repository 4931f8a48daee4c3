"""Loss terms, one file each, found by its name."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from dctkd_zoo import discover, distributed
from dctkd_zoo.data.batch import Batch
from dctkd_zoo.errors import reason_of
from dctkd_zoo.features import Output


class Term(nn.Module):
    """A loss term: `term(student, teacher, batch) -> (B,)`.

    `needs_teacher` is false for a term that reads only the student and the labels, `needs_features` true for one that
    reads the teacher's whole feature maps, not just their activation maps, `needs_class_maps` for one that reads the
    `class_maps` of both networks, `reads_activations` for one that reads the activation maps of both, which are then
    computed once for all such terms, `needs_labels` for one that is only defined for images with a label, and
    `needs_ids` for one that reads `Batch.ids` and the labels of the whole training set: it knows each training image by
    its number, so it cannot have blended or unlabelled ones.
    """

    needs_teacher = True
    needs_features = False
    needs_class_maps = False
    reads_activations = False
    needs_labels = False
    needs_ids = False

    def setup(self, student: Output, teacher: Output, labels: Tensor | None = None) -> None:
        """Create what depends on the outputs' shapes; called once, before training.

        The outputs are real ones, for as many images as a batch has. `labels` (N,) are those of the whole training
        set, in the order of `Batch.ids`.
        """

    def forward(self, student: Output, teacher: Output, batch: Batch) -> Tensor:
        """Return one value per image, (B,)."""
        raise NotImplementedError


def over(chosen: Tensor) -> Tensor:
    """Return the ratio of all images to the `chosen` ones, (B,) -> (): a mean over the batch becomes one over these.

    The batch is that of all ranks.
    """
    chosen = distributed.all_gather_with_grad(chosen.float())
    return len(chosen) / chosen.sum().clamp(min=1)


def create(name: str, **options: Any) -> Term:
    """Create the term of `losses/<name>.py` with the given options; `ValueError` for an unknown name or option."""
    term = discover.only(discover.load(__name__, name), Term)
    try:
        return term(**options)
    except TypeError as error:
        raise ValueError(f"loss {name!r} does not take {options}: {reason_of(error)}") from error


def names() -> tuple[str, ...]:
    """Return the names of all terms."""
    return discover.modules(__name__)
