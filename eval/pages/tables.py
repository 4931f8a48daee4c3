"""Tables of README.md and RESULTS.md: entries over their training seeds, and differences between methods."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from dctkd_zoo.registry import get_entry
from eval import columns
from eval.columns import DASH
from eval.pages.findings import CHANCE, QUESTIONS, STUDENTS, Finding, Question, answer, parts
from eval.pages.markdown import Markdown, code, table, unbroken
from eval.run.results_csv import Row
from eval.stats.seeds import distinct, over_seeds, spread, values


@dataclass(frozen=True)
class Line:
    """First cells of a line, and the rows (one per seed, or none) whose means follow."""

    cells: Sequence[object]
    rows: Sequence[Row]


def standings(header: Sequence[str], lines: Sequence[Line]) -> Markdown:
    """Return a table of lines in their order: their cells, number of seeds, and the columns of RESULTS.md.

    A column that no line has a value for is left out.
    """
    chosen = columns.of("results", [row for line in lines for row in line.rows])
    cells = [
        [*line.cells, len(line.rows) or DASH, *(over_seeds(line.rows, column) for column in chosen)] for line in lines
    ]
    return table([*header, "seeds", *(column.titled for column in chosen)], cells, numbers=1 + len(chosen))


def teachers(rows: Sequence[Row]) -> Markdown:
    """Return a table of the teachers: top-1 of each, of the supervised baseline of its students, and the gap."""
    top1 = columns.get("top1")
    lines = []
    for students in STUDENTS:
        own = [row for row in rows if row["protocol"] == "exact" and students.method(row["name"]) is not None]
        baseline = [row for row in own if students.method(row["name"]) == ""]
        name = next((entry.teacher for row in own if (entry := get_entry(row["name"])).teacher), None)
        name = name or next((row["teacher"] for row in baseline if row.get("teacher")), None)
        teacher = [row for row in rows if row["name"] == name and row["protocol"] == "exact"]
        if teacher and baseline:
            gap = spread(values(teacher, "top1")).mean - spread(values(baseline, "top1")).mean
            cells = (code(name or ""), over_seeds(teacher, top1), students.arch, over_seeds(baseline, top1))
            lines.append((students.dataset, *cells, Markdown(top1.signed(gap))))
    return table(("dataset", "teacher", "its top-1 %", "student", "baseline top-1 %", "gap"), lines, numbers=1)


def caption(rows: Iterable[Row]) -> str:
    """Return the number of images, the seeds and the devices of some rows, and what "cached views" means."""
    rows = list(rows)
    counts, seeds = (distinct(rows, column) for column in ("n", "seed"))
    trained, evaluated = (distinct(rows, column, " or ") for column in ("trained_on", "device"))
    return (
        f"{counts} test images; last epoch; training seeds {seeds}; trained on {trained}; evaluated in float32 on "
        f"{evaluated}. Cached views: the number of fixed crops of each image for which the teacher's outputs were "
        "cached; new: a random crop in every epoch, with the teacher run on it. Best epoch: chosen on the test set, "
        "measured in the precision of training."
    )


UNCORRECTED = "†"  # marks a difference that is significant only without the correction
LEGEND = f"""Each cell is the mean of the differences seed by seed over the n seeds that both methods have, its 95 %
confidence interval (Student's t over seeds, not corrected) and p after Holm's correction over all differences of the
question. **Bold**: significant, p below 0.05. {UNCORRECTED}: p is below 0.05 only without the correction.
"""


def answers(rows: Sequence[Row]) -> list[str]:
    """Return a legend, then each question with a headline, its table of differences and its note."""
    return [
        LEGEND,
        *(
            f"**{number}. {question.title}**\n\n{_answer(question, answer(question, rows))}\n"
            for number, question in enumerate(QUESTIONS, 1)
        ),
    ]


def _answer(question: Question, findings: Sequence[Finding]) -> str:
    if not findings:
        return "Not measured yet."
    return "\n\n".join(filter(None, (headline(findings), grid(findings), question.note)))


def headline(findings: Sequence[Finding]) -> str:
    """Count significant differences: `3 of 26 differences are significant; 11 more only without correction (†).`."""
    significant, uncorrected = (sum(getattr(f, name) for f in findings) for name in ("significant", "only_uncorrected"))
    count = f"{significant or 'None'} of {len(findings)} difference{'s' * (len(findings) > 1)}"
    more = f"; {uncorrected} more only without correction ({UNCORRECTED})" if uncorrected else ""
    return f"{count} {'are' if significant > 1 else 'is'} significant{more}."


def grid(findings: Sequence[Finding]) -> Markdown:
    """Return a table with a row per metric and pair of methods and a column per group of students."""
    measured = [item for item in STUDENTS if any(finding.students == item for finding in findings)]
    lines: dict[tuple[str, str, str], dict[object, Markdown]] = {}
    for finding in findings:
        lines.setdefault((finding.figure, finding.a, finding.b), {})[finding.students] = cell(finding)
    return table(
        ("metric", "difference", *(item.title for item in measured)),
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
    """Format a finding: `**+18.94** (+17.21 to +20.68), n 3, p 0.004`, bold if significant; one seed is not tested."""
    test, column = finding.test, columns.get(finding.figure)
    difference = column.signed(test.mean)
    n, p = (unbroken(Markdown(meta)) for meta in (f"n {test.n}", f"p {columns.p_value(finding.p)}"))
    if math.isnan(test.p):
        return Markdown(f"{difference}, {n}")
    mean = f"**{difference}**" if finding.significant else f"{difference}{UNCORRECTED * finding.only_uncorrected}"
    ends = columns.interval(test.low, test.high, column.digits, "+")
    return Markdown(f"{mean} ({ends}), {n}, {p}")


def label(method: str) -> Markdown:
    """Return the title of a method."""
    if method == CHANCE:
        return Markdown(CHANCE)
    terms, variant, views = parts(method)
    name = code(terms + variant) if terms else Markdown(f"the baseline {code(variant)}" if variant else "the baseline")
    seen = f"{views} cached view{'s' * (views != '1')}" if views else "new views"
    return name if views is None else Markdown(f"{name} ({seen})")
