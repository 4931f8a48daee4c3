"""Findings to words: what each question's answer is, students by students, for RESULTS.md and the README."""

from __future__ import annotations

import math
from collections.abc import Sequence

from eval.findings import CHANCE, QUESTIONS, STUDENTS, VIEWS, Finding, Question, answer
from eval.markdown import Markdown, code
from eval.results import PERCENT, Row
from eval.seeds import NONE, minus
from eval.standings import FIGURES


def answers(rows: Sequence[Row]) -> list[str]:
    """A question in bold, and below it a line for each group of students that were measured."""
    found = []
    for number, question in enumerate(QUESTIONS, 1):
        lines = [f"- {line}" for line in summary(question, rows)] or ["- Not measured yet."]
        found.append(f"**{number}. {question.title}**\n\n" + "\n".join(lines) + "\n")
    return found


def summary(question: Question, rows: Sequence[Row]) -> list[Markdown]:
    """What a question's first figure says, students by students."""
    findings = answer(question, rows)
    lines = []
    for students in STUDENTS:
        own = [f for f in findings if f.students == students and f.figure == question.figures[0]]
        if own:
            told = "; ".join(sentence(finding) for finding in own)
            lines.append(Markdown(f"{students.arch} on {students.dataset}, {title(question.figures[0])}: {told}."))
    return lines


def sentence(finding: Finding) -> str:
    """`dctkd` 86.20 against 68.60 of `at`, **higher** (+16.00 to +19.20, p 0.003)."""
    against = "chance, 0" if finding.a == CHANCE else f"{number(finding.mean_a, finding)} of {label(finding.a)}"
    return f"{label(finding.b)} {number(finding.mean_b, finding)} against {against}, {verdict(finding)}"


def verdict(finding: Finding) -> str:
    """Which is higher, by how much, or that no difference is shown; nothing is tested of one seed."""
    test = finding.test
    if math.isnan(test.p):
        return f"{signed(test.mean, finding)} in {'one seed' if test.n == 1 else f'each of {test.n} seeds'}"
    ends = f"{signed(test.low, finding)} to {signed(test.high, finding)}, p {probability(finding.p)}"
    if not finding.shown:
        return f"no difference shown ({ends})"
    return f"**{'higher' if test.mean > 0 else 'lower'}** ({ends})"


def probability(p: float) -> str:
    """A p as a page shows it; of no test a dash."""
    return NONE if math.isnan(p) else "<0.001" if p < 0.001 else f"{p:.3f}"


def label(method: str) -> Markdown:
    """A method as a page calls it."""
    if method == CHANCE:
        return Markdown(CHANCE)
    terms, named, views = method.partition(VIEWS)
    name = code(terms) if terms else Markdown("the baseline")
    seen = f"{views} fixed view{'s' * (views != '1')}" if views else "new views"
    return Markdown(f"{name} ({seen})") if named else name


def title(figure: str) -> str:
    """A column as a page calls it."""
    return next(
        (f"{'skill, ' if '.' in figure else ''}{each.title}" for each in FIGURES if each.column == figure), figure
    )


def _decimals(finding: Finding) -> int:
    return 2 if finding.figure in PERCENT else 3


def number(value: float, finding: Finding) -> str:
    """A figure to as many decimals as its kind has."""
    return minus(f"{value:.{_decimals(finding)}f}")


def signed(value: float, finding: Finding) -> Markdown:
    """The same of a difference, with its sign."""
    return Markdown(minus(f"{value:+.{_decimals(finding)}f}"))
