"""Rows of `eval/results.csv` to the tables between the markers of README.md: `python -m eval.pages.readme`."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from statistics import mean

from dctkd_zoo.errors import ZooError
from dctkd_zoo.registry import get_dataset, get_entry
from eval.pages.generated_file import command
from eval.pages.markdown import code
from eval.pages.tables import Line, answers, caption, standings
from eval.run import results_csv
from eval.run.results_csv import Row
from eval.stats.seeds import most_trained, values, views

README = Path(__file__).parents[2] / "README.md"
BLOCK = re.compile(r"(<!-- leaderboard:(\w+) -->\n).*?(<!-- /leaderboard -->)", re.DOTALL)
MARKER = "<!-- leaderboard:"
ANSWERED = "<!-- answers -->"
ANSWERS = re.compile(r"(<!-- answers -->\n).*?(<!-- /answers -->)", re.DOTALL)


def filled(text: str, rows: Sequence[Row]) -> str:
    """The text, its leaderboards and answers made anew from the rows measured under the exact protocol."""
    for opening, result in ((MARKER, BLOCK.findall(text)), (ANSWERED, ANSWERS.findall(text))):
        if text.count(opening) != len(result):
            raise ZooError(f"a {opening} has nothing after it that ends it, or no line of its own")
    exact = [row for row in rows if row["protocol"] == "exact"]

    def block(match: re.Match[str]) -> str:
        dataset = get_dataset(match[2]).name
        return match[1] + table([row for row in exact if row["dataset"] == dataset]) + match[3]

    answered = "\n" + "\n".join(answers(exact)) + "\n"
    return ANSWERS.sub(lambda match: match[1] + answered + match[2], BLOCK.sub(block, text))


def table(rows: Sequence[Row]) -> str:
    """Rows of one dataset as a Markdown table, the best first, with a line that says what was measured and on what."""
    if not rows:
        return "\nNot measured yet.\n\n"
    groups = [most_trained(group) for _, group in groupby(sorted(rows, key=_name), key=_name)]
    groups.sort(key=lambda group: -mean(values(group, "top1")))
    grid = standings(("entry", "teacher", "views"), [Line(_cells(group), group) for group in groups], "readme")
    shown = [row for group in groups for row in group]
    return f"\n{grid}\n\n{caption(shown)} {_legend(shown)}\n\n"


def _legend(rows: Sequence[Row]) -> str:
    """What the headings mean."""
    teachers = ", ".join(f"`{name}`" for name in sorted({row["teacher"] for row in rows if row["teacher_sha256"]}))
    meta = [
        "Mean ± standard deviation where there are several seeds.",
        f"SSIM and spectral: how alike the activation maps are to those of {teachers or 'no teacher'}, as skill above",
        "chance (0; the same map is 1), mean over the levels.",
    ]
    if values(rows, "skill.energy"):
        meta.append("Energy: how much of the maps falls on the objects that decide, as skill too.")
    return " ".join(meta)


def _cells(rows: Sequence[Row]) -> list[object]:
    name = rows[0]["name"]
    return [code(name), code(get_entry(name).teacher or ""), views(rows)]


def _name(row: Row) -> str:
    return str(row["name"])


def main(arguments: list[str] | None = None) -> int:
    """Run the command."""
    return command(
        README,
        lambda text: filled(text, results_csv.read(results_csv.RESULTS)),
        "python -m eval.pages.readme",
        __doc__,
        arguments,
    )


if __name__ == "__main__":
    sys.exit(main())
