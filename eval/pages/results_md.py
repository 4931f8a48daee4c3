"""Rows of `eval/results.csv` to RESULTS.md, tables and answers: `python -m eval.pages.results_md`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from dctkd_zoo.registry import get_entry
from eval import columns
from eval.pages.findings import QUESTIONS, STUDENTS, Finding, Question, Students, answer, methods
from eval.pages.generated_file import command
from eval.pages.markdown import Markdown, code, table
from eval.pages.tables import Line, answers, caption, label, standings
from eval.run import results_csv
from eval.run.results_csv import Row
from eval.stats import seeds
from eval.stats.bootstrap import LEVEL

PAGE = Path(__file__).parents[2] / "RESULTS.md"

HEAD = """# Results

<!-- Made by `python -m eval.pages.results_md` from eval/results.csv; edit eval/pages/findings.py or results_md.py. -->

What was trained here, and what it answers. Every figure is made from `eval/results.csv`, a row per training, and
nothing else; the recipes are the catalog's (`python -m dctkd_zoo info NAME`). How they were chosen, those of 15-Scene
on a part of its training set, is in [docs/training.md](docs/training.md). Figures are of the last epoch; "best epoch",
which was chosen on the test set, is a footnote.

Of several seeds: mean ± standard deviation (n - 1). The seed sets a student's start and the order of images, and with
new views every epoch also the crops; of fixed views all seeds see the same. All students of a dataset learn from one
teacher. Methods are compared where they were trained on as many views, the baseline, which has no teacher, always on
new ones. Tests say what other seeds might give, not other test images or another teacher: `python -m eval compare A B`
tests two networks over images. With three to five seeds only large differences can be shown; what is not shown may
still be there.

SSIM, Pearson and spectral skill say how alike a student's maps are to its teacher's, CKA skill how alike its features
are, energy, pointing and attended how much its maps fall on the objects that decide a class of synthscenes. Skill is
the share of the way from chance, which is what two different images score, to the best there is; means over the levels
([docs/evaluation.md](docs/evaluation.md) defines each).
"""


def page(rows: Sequence[Row]) -> str:
    """The text of RESULTS.md."""
    exact = [row for row in rows if row["protocol"] == "exact" and not row.get("limit")]
    parts = [HEAD, "## Answers\n", *answers(exact), *(section(item, exact) for item in STUDENTS)]
    for path, question in enumerate(QUESTIONS, 1):
        parts += [f"## {path}. {question.title}\n", evidence(question, exact)]
    return "\n".join(parts).rstrip() + "\n"


def section(students: Students, rows: Sequence[Row]) -> str:
    """The table of the methods of some students, the best first, below its teacher."""
    result = methods(students, rows)
    if not result:
        return ""
    teachers = {teacher for method in result if (teacher := get_entry(students.entry(method)).teacher)}
    lines = [_line(f"teacher {code(name)}", [row for row in rows if row["name"] == name]) for name in sorted(teachers)]
    trained = [(label(method), group) for method, own in result.items() for group in seeds.by_views(own).values()]
    trained.sort(key=lambda line: -seeds.spread(seeds.values(line[1], "top1")).mean)
    lines += [_line(name, group) for name, group in trained]
    measured = [row for own in result.values() for row in own]
    grid = standings(("method", "views"), lines, "results")
    return f"## {students.arch} on {students.dataset}\n\n{grid}\n\n{caption(measured)}\n"


def _line(name: str, rows: Sequence[Row]) -> Line:
    return Line([Markdown(name), seeds.views(rows)], rows)


def evidence(question: Question, rows: Sequence[Row]) -> str:
    """All findings of a question as a table."""
    findings = answer(question, rows)
    if not findings:
        return "Not measured yet.\n"
    header = (
        "students",
        "figure",
        "A",
        "B",
        "of A",
        "of B",
        "B − A",
        f"{LEVEL:.0%} interval",
        "seeds",
        "p",
        "corrected",
    )
    return table(header, map(_cells, findings), numbers=7) + "\n"


def _cells(finding: Finding) -> list[object]:
    test, column = finding.test, columns.get(finding.figure)
    p = columns.p_value(finding.p)
    return [
        finding.students.title,
        column.title,
        label(finding.a),
        label(finding.b),
        column.text(finding.mean_a),
        column.text(finding.mean_b),
        Markdown(column.signed(test.mean)),
        Markdown(columns.interval(test.low, test.high, column.digits, "+")),
        test.n,
        columns.p_value(test.p),
        Markdown(f"**{p}**") if finding.significant else p,
    ]


def main(arguments: list[str] | None = None) -> int:
    """Run the command."""

    def made(text: str) -> str:
        return page(results_csv.read(results_csv.RESULTS))

    return command(PAGE, made, "python -m eval.pages.results_md", __doc__, arguments, whole=True)


if __name__ == "__main__":
    sys.exit(main())
