"""HTML report of an evaluation: `python -m eval NAME... --report DIR`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from dctkd_zoo._io import atomic
from eval.report import collect, render
from eval.report.data import Report, Row
from eval.run.config import EvalConfig
from eval.run.evaluation import Result
from eval.run.result_row import Record

__all__ = ["write", "write_rows"]

PAGE = "index.html"


def write(
    records: Sequence[Record], results: Mapping[str, Result], folder: Path, config: EvalConfig, images: bool = True
) -> Path:
    """Write the report of an evaluation into a folder and return its path; `results` are by name of entry.

    Without `images` it has neither test images nor attention drawn over them, because not all may be passed on.
    """
    return _write(collect.from_results(records, results, config, images), folder)


def write_rows(rows: Sequence[Row], folder: Path) -> Path:
    """Write the report of rows of `eval/results.csv` alone into a folder and return its path."""
    return _write(collect.from_rows(rows), folder)


def _write(report: Report, folder: Path) -> Path:
    path = folder / PAGE
    atomic.write_text(path, render.page(report))
    return path
