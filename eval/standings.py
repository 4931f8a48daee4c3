"""Rows of `eval/results.csv` to a table of README.md or RESULTS.md: an entry a line, over its training seeds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from eval.markdown import Markdown, table
from eval.results import Row
from eval.seeds import NONE, distinct, over_seeds


@dataclass(frozen=True)
class Figure:
    """A column of the rows as a page shows it; `title` is its heading."""

    title: str
    column: str
    decimals: int


FIGURES = (
    Figure("top-1", "top1", 2),
    Figure("MCA", "mca", 2),
    Figure("NLL", "nll", 3),
    Figure("ECE", "ece", 2),
    Figure("agreement", "agreement", 2),
    Figure("SSIM skill", "skill.ssim", 3),
    Figure("Pearson skill", "skill.pearson", 3),
    Figure("spectral skill", "skill.spectral", 3),
    Figure("CKA skill", "skill.cka", 3),
    Figure("energy skill", "skill.energy", 3),
    Figure("pointing skill", "skill.pointing", 3),
    Figure("attended skill", "skill.attended", 3),
    Figure("best epoch", "best_top1", 2),
)


@dataclass(frozen=True)
class Line:
    """The first cells of a line, and the rows that its figures are the mean of, a row per seed; none is possible."""

    cells: Sequence[object]
    rows: Sequence[Row]


def standings(header: Sequence[str], lines: Sequence[Line], figures: Sequence[Figure] = FIGURES) -> Markdown:
    """A table of lines as they come: their cells, number of seeds and figures, but for a figure that no line has."""
    texts = [[over_seeds(line.rows, figure.column, figure.decimals) for figure in figures] for line in lines]
    kept = [place for place in range(len(figures)) if any(text[place] != NONE for text in texts)]
    cells = [
        [*line.cells, len(line.rows) or NONE, *(text[place] for place in kept)]
        for line, text in zip(lines, texts, strict=True)
    ]
    return table([*header, "seeds", *(figures[place].title for place in kept)], cells, numbers=1 + len(kept))


def caption(rows: Iterable[Row]) -> str:
    """On how many images, of which seeds and where some rows were measured, and what "views" are, in words."""
    rows = list(rows)
    counts, seeds = (distinct(rows, column) for column in ("n", "seed"))
    trained, evaluated = (distinct(rows, column, " or ") for column in ("trained_on", "device"))
    return (
        f"{counts} test images; last epoch; training seeds {seeds}; trained on {trained}; evaluated in float32 on "
        f"{evaluated}. Views: how many fixed views of an image a student saw, with the teacher's outputs on disk; new: "
        "another one every epoch, from a live teacher if any. Best epoch: of those tested while training, in the "
        "precision of training, chosen on the test set: no result."
    )
