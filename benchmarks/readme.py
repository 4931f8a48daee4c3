"""The last whole run, `benchmarks/results.json`, to the table in README.md: `python -m benchmarks.readme`."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.report import HEADINGS, heading, line
from dctkd_zoo.errors import ZooError
from eval.page import command
from eval.readme import README

RESULTS = Path(__file__).with_name("results.json")
BLOCK = re.compile(r"(<!-- benchmarks -->\n).*?(<!-- /benchmarks -->)", re.DOTALL)


def filled(text: str, document: Mapping[str, Any]) -> str:
    """The text, the table between its markers made anew from a run's document."""
    if len(BLOCK.findall(text)) != 1:
        raise ZooError("README.md needs one <!-- benchmarks --> with a <!-- /benchmarks --> after it")
    return BLOCK.sub(lambda match: match[1] + table(document) + match[2], text)


def table(document: Mapping[str, Any]) -> str:
    """A run's rows in Markdown, what was skipped in one line, and what they were measured on and when."""
    rows = [row for row in document["rows"] if not row["skipped"]]
    skipped = [row["name"] for row in document["rows"] if row["skipped"]]
    lines = [_line(HEADINGS), _line(["---"] * len(HEADINGS)), *(_line(line(row)) for row in rows)]
    machine = document["machine"]
    caption = f"{machine['date'][:10]}, {heading(machine)}, {machine['precision'].removeprefix('torch.')}; "
    caption += f"{document['words']}." + (f" Not measured for want of a GPU: {', '.join(skipped)}." if skipped else "")
    return "\n" + "\n".join([*lines, "", caption]) + "\n\n"


def _line(cells: Any) -> str:
    return f"| {' | '.join(cells)} |"


def main(arguments: list[str] | None = None) -> int:
    """Run the command."""
    document = json.loads(RESULTS.read_text(encoding="utf-8"))
    return command(README, lambda text: filled(text, document), "python -m benchmarks.readme", __doc__, arguments)


if __name__ == "__main__":
    sys.exit(main())
