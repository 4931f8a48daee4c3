"""Findings to tables: the answer to each question, a column per group of students, for RESULTS.md and README.md."""

from __future__ import annotations

import math
from collections.abc import Sequence

from eval.findings import CHANCE, QUESTIONS, STUDENTS, Finding, Question, answer, parts
from eval.markdown import Markdown, code, table, unbroken
from eval.results import PERCENT, Row
from eval.seeds import NONE, minus
from eval.standings import FIGURES

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
    shown, alone = (sum(getattr(each, name) for each in findings) for name in ("shown", "alone"))
    several = "s are" if shown > 1 else "s is" if len(findings) > 1 else " is"
    told = f"{shown or 'None'} of {len(findings)} difference{several} shown"
    more = f"; {alone} more would be, were {'it' if alone == 1 else 'each'} the only one ({ALONE})" if alone else ""
    return f"{told}{more}."


def grid(findings: Sequence[Finding]) -> Markdown:
    """A row per figure and pair of methods, a column per group of students that was measured."""
    measured = [each for each in STUDENTS if any(finding.students == each for finding in findings)]
    lines: dict[tuple[str, str, str], dict[object, Markdown]] = {}
    for finding in findings:
        lines.setdefault((finding.figure, finding.a, finding.b), {})[finding.students] = cell(finding)
    return table(
        ("figure", "difference", *(each.title for each in measured)),
        [
            (title(figure), Markdown(f"{label(b)} − {label(a)}"), *(found.get(each, NONE) for each in measured))
            for (figure, a, b), found in lines.items()
        ],
    )


def cell(finding: Finding) -> Markdown:
    """`**+18.94** (+17.21 to +20.68), n 3, p 0.004`: bold if shown; nothing is tested of one seed."""
    test, difference = finding.test, signed(finding.test.mean, finding)
    n, p = (unbroken(Markdown(told)) for told in (f"n {test.n}", f"p {probability(finding.p)}"))
    if math.isnan(test.p):
        return Markdown(f"{difference}, {n}")
    mean = f"**{difference}**" if finding.shown else f"{difference}{ALONE * finding.alone}"
    ends = f"{signed(test.low, finding)} to {signed(test.high, finding)}"
    return Markdown(f"{mean} ({ends}), {n}, {p}")


def probability(p: float) -> str:
    """A p as a page shows it; of no test a dash."""
    return NONE if math.isnan(p) else "<0.001" if p < 0.001 else f"{p:.3f}"


def label(method: str) -> Markdown:
    """A method as a page calls it."""
    if method == CHANCE:
        return Markdown(CHANCE)
    terms, variant, views = parts(method)
    name = code(terms + variant) if terms else Markdown(f"the baseline {code(variant)}" if variant else "the baseline")
    seen = f"{views} fixed view{'s' * (views != '1')}" if views else "new views"
    return name if views is None else Markdown(f"{name} ({seen})")


def title(figure: str) -> str:
    """A column as a page calls it."""
    return next((each.title for each in FIGURES if each.column == figure), figure)


def _decimals(finding: Finding) -> int:
    return 2 if finding.figure in PERCENT else 3


def number(value: float, finding: Finding) -> str:
    """A figure to as many decimals as its kind has."""
    return minus(f"{value:.{_decimals(finding)}f}")


def signed(value: float, finding: Finding) -> Markdown:
    """The same of a difference, with its sign."""
    return Markdown(minus(f"{value:+.{_decimals(finding)}f}"))
