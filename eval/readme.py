"""Rows of `eval/results.csv` to the tables between the markers of README.md: `python -m eval.readme`."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from statistics import mean

from dctkd_zoo.errors import ZooError
from dctkd_zoo.registry import get_dataset, get_entry, natural
from eval import results
from eval.answers import answers
from eval.page import command
from eval.results import Row
from eval.seeds import spread

README = Path(__file__).parents[1] / "README.md"
BLOCK = re.compile(r"(<!-- leaderboard:(\w+) -->\n).*?(<!-- /leaderboard -->)", re.DOTALL)
MARKER = "<!-- leaderboard:"
ANSWERS = re.compile(r"(<!-- answers -->\n).*?(<!-- /answers -->)", re.DOTALL)

# Heading, column of the row, decimals.
FIGURES = (
    ("top-1", "top1", 2),
    ("MCA", "mca", 2),
    ("NLL", "nll", 3),
    ("agreement", "agreement", 2),
    ("SSIM", "ssim", 3),
    ("Pearson", "pearson", 3),
    ("spectral", "spectral", 2),
    ("best epoch", "best_top1", 2),
)


def filled(text: str, rows: Sequence[Row]) -> str:
    """The text, its leaderboards and answers made anew from the rows measured under the exact protocol."""
    if text.count(MARKER) != len(BLOCK.findall(text)):
        raise ZooError(f"a {MARKER}NAME --> has no <!-- /leaderboard --> after it, or no line of its own")
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
    headings = ["entry", "teacher", "seeds", *(heading for heading, _, _ in FIGURES)]
    lines = [_line(headings), _line(["---", "---", *(["---:"] * (1 + len(FIGURES)))])]
    groups = [list(group) for _, group in groupby(sorted(rows, key=_name), key=_name)]
    for seeds in sorted(groups, key=lambda seeds: mean(float(row["top1"]) for row in seeds), reverse=True):
        name, teacher = seeds[0]["name"], get_entry(seeds[0]["name"]).teacher
        figures = [over_seeds(seeds, column, decimals) for _, column, decimals in FIGURES]
        lines.append(_line([f"`{name}`", f"`{teacher}`" if teacher else "–", str(len(seeds)), *figures]))
    return "\n" + "\n".join([*lines, "", caption(rows)]) + "\n\n"


def over_seeds(rows: Sequence[Row], column: str, decimals: int) -> str:
    """A column's mean over the seeds of an entry, with the standard deviation (n - 1) where there are several."""
    values = [float(row[column]) for row in rows if row.get(column)]
    return spread(values).text(decimals) if values else "–"


def _name(row: Row) -> str:
    return str(row["name"])


def caption(rows: Sequence[Row]) -> str:
    """Number of images, seeds and device of some rows in words."""
    counts, seeds, devices = (
        ", ".join(sorted({row[name] or "not known" for row in rows}, key=natural)) for name in ("n", "seed", "device")
    )
    teachers = ", ".join(f"`{name}`" for name in sorted({row["teacher"] for row in rows if row["teacher_sha256"]}))
    return (
        f"{counts} test images; last epoch; training seed {seeds}; float32 on {devices}. "
        "Mean ± standard deviation where there are several seeds. "
        "Top-1, MCA and agreement in %, NLL in nats; SSIM, Pearson and spectral distance of the activation maps "
        f"are means over the levels, against {teachers or 'no teacher'}. Of NLL and spectral distance, less is better."
    )


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def main(arguments: list[str] | None = None) -> int:
    """Run the command."""
    return command(
        README, lambda text: filled(text, results.read(results.RESULTS)), "python -m eval.readme", __doc__, arguments
    )


if __name__ == "__main__":
    sys.exit(main())
