"""Rows of `eval/results.csv` to a table of README.md or RESULTS.md: an entry a line, over its training seeds."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from eval import columns
from eval.columns import DASH
from eval.pages.findings import CHANCE, QUESTIONS, STUDENTS, Finding, Question, answer, parts
from eval.pages.markdown import Markdown, code, table, unbroken
from eval.run.results_csv import Row
from eval.stats.seeds import distinct, over_seeds


@dataclass(frozen=True)
class Line:
    """The first cells of a line, and the rows that its figures are the mean of, a row per seed; none is possible."""

    cells: Sequence[object]
    rows: Sequence[Row]


def standings(header: Sequence[str], lines: Sequence[Line], name: str) -> Markdown:
    """Return a table of lines in their order: their cells, number of seeds, and the columns of the table `name`.

    A column that no line has a value for is left out.
    """
    chosen = columns.of(name, [row for line in lines for row in line.rows])
    cells = [
        [*line.cells, len(line.rows) or DASH, *(over_seeds(line.rows, column) for column in chosen)] for line in lines
    ]
    return table([*header, "seeds", *(column.titled for column in chosen)], cells, numbers=1 + len(chosen))


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


ALONE = "†"  # marks what would be shown if it were the only difference of its question
READ = f"""Each cell is a mean difference over the n seeds that both methods have, taken seed by seed, its 95 % interval
(Student's, over seeds, of this difference alone) and its p, corrected by Holm over all differences of the question.
In bold: shown, which is p below 0.05. {ALONE}: p is below 0.05 only before the correction.
"""


def answers(rows: Sequence[Row]) -> list[str]:
    """How to read them; then a question in bold, how much is shown, its differences as a table, and what to know."""
    return [
        READ,
        *(
            f"**{number}. {question.title}**\n\n{_told(question, answer(question, rows))}\n"
            for number, question in enumerate(QUESTIONS, 1)
        ),
    ]


def _told(question: Question, findings: Sequence[Finding]) -> str:
    if not findings:
        return "Not measured yet."
    return "\n\n".join(filter(None, (headline(findings), grid(findings), question.note)))


def headline(findings: Sequence[Finding]) -> str:
    """How many are shown: `2 of 9 differences are shown; 4 more would be, were each the only one (†).`."""
    shown, alone = (sum(getattr(item, name) for item in findings) for name in ("significant", "only_uncorrected"))
    several = "s are" if shown > 1 else "s is" if len(findings) > 1 else " is"
    meta = f"{shown or 'None'} of {len(findings)} difference{several} shown"
    more = f"; {alone} more would be, were {'it' if alone == 1 else 'each'} the only one ({ALONE})" if alone else ""
    return f"{meta}{more}."


def grid(findings: Sequence[Finding]) -> Markdown:
    """A row per figure and pair of methods, a column per group of students that was measured."""
    measured = [item for item in STUDENTS if any(finding.students == item for finding in findings)]
    lines: dict[tuple[str, str, str], dict[object, Markdown]] = {}
    for finding in findings:
        lines.setdefault((finding.figure, finding.a, finding.b), {})[finding.students] = cell(finding)
    return table(
        ("figure", "difference", *(item.title for item in measured)),
        [
            (
                columns.get(figure).title,
                Markdown(f"{label(b)} − {label(a)}"),
                *(result.get(item, DASH) for item in measured),
            )
            for (figure, a, b), result in lines.items()
        ],
    )


def cell(finding: Finding) -> Markdown:
    """`**+18.94** (+17.21 to +20.68), n 3, p 0.004`: bold if shown; nothing is tested of one seed."""
    test, column = finding.test, columns.get(finding.figure)
    difference = column.signed(test.mean)
    n, p = (unbroken(Markdown(meta)) for meta in (f"n {test.n}", f"p {columns.p_value(finding.p)}"))
    if math.isnan(test.p):
        return Markdown(f"{difference}, {n}")
    mean = f"**{difference}**" if finding.significant else f"{difference}{ALONE * finding.only_uncorrected}"
    ends = columns.interval(test.low, test.high, column.digits, "+")
    return Markdown(f"{mean} ({ends}), {n}, {p}")


def label(method: str) -> Markdown:
    """A method as a page calls it."""
    if method == CHANCE:
        return Markdown(CHANCE)
    terms, variant, views = parts(method)
    name = code(terms + variant) if terms else Markdown(f"the baseline {code(variant)}" if variant else "the baseline")
    seen = f"{views} fixed view{'s' * (views != '1')}" if views else "new views"
    return name if views is None else Markdown(f"{name} ({seen})")
