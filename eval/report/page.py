"""Boards to the text of the page, in which whatever is not made here is escaped."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

import dctkd_zoo
from dctkd_zoo import registry
from dctkd_zoo.spec import Reported
from eval import card, card_figures, compare, results
from eval.card_recipe import shortened
from eval.outcome import Status
from eval.record import Record
from eval.report.figures import HEADLINES, TITLES
from eval.report.gather import Board, Told, absences
from eval.report.svg import swatch
from eval.seeds import minus

HERE = Path(__file__).parent
TITLE = "dctkd_zoo: evaluation report"

# Column of a row, how it is called, decimals.
SHOWN = (
    ("top1", "top-1 %", 2),
    ("top5", "top-5 %", 2),
    ("mca", "MCA %", 2),
    ("mca_all", "MCA over all classes %", 2),
    ("nll", "NLL nats", 3),
    ("ece", "ECE %", 2),
    ("agreement", "agreement %", 2),
    ("ssim", "SSIM", 3),
    ("ssim_zeropad", "SSIM, zero-padded", 3),
    ("skill.ssim", "SSIM skill", 3),
    ("pearson", "Pearson", 3),
    ("skill.pearson", "Pearson skill", 3),
    ("iou", "IoU", 3),
    ("skill.iou", "IoU skill", 3),
    ("cka", "CKA", 3),
    ("skill.cka", "CKA skill", 3),
    ("spectral", "spectral distance", 3),
    ("skill.spectral", "spectral skill", 3),
)
FACTS = (
    ("weights_sha256", "weights sha256"),
    ("weights_origin", "weights from"),
    ("teacher_sha256", "teacher's sha256"),
    ("seed", "training seed"),
    ("dataset_digest", "test set sha256"),
    ("n", "images"),
    ("limit", "limit"),
    ("protocol", "protocol"),
    ("selected", "selected"),
    ("trained_on", "trained on"),
    ("device", "evaluated on"),
    ("precision", "precision"),
    ("torch", "torch"),
    ("timm", "timm"),
    ("dctkd_zoo", "dctkd_zoo"),
    ("date", "measured"),
)


def render(boards: Sequence[Board], records: Sequence[Record], limit: int | None = None, images: bool = True) -> str:
    """The whole page."""
    failures = [record for record in records if record["status"] == Status.FAILED]
    told, absent = sum(len(board.entries) for board in boards), absences(records)
    return _environment().get_template("page.html.jinja").render(
        boards=boards,
        absent=absent,
        failures=failures,
        told=told,
        missing=sum(len(group.names) for group in absent),
        limit=limit,
        images=images,
        title=TITLE,
        date=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        version=dctkd_zoo.__version__,
        data=script_data({"entries": records}),
    )  # fmt: skip


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(HERE), undefined=StrictUndefined, autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"fixed": fixed, "thousands": thousands, "shortened": short_name}
    environment.globals |= {
        "style": _own("style.css"),
        "script": _own("script.js"),
        "headlines": HEADLINES,
        "titles": TITLES,
        "shown": SHOWN,
        "facts": FACTS,
        "describe": card.describe,
        "note": card_figures.note,
        "cells": compare.cells,
        **{each.__name__: each for each in (called, caption, reported, span, swatch, words)},
    }
    return environment


def _own(name: str) -> Markup:
    """A file of this package, which needs no escaping."""
    return Markup((HERE / name).read_text(encoding="utf-8"))


def script_data(document: Any) -> Markup:
    """A document as JSON that no text in it can end: `<`, `>` and `&` as JSON's own escapes."""
    text = results.as_json(document)
    for letter in "<>&\u2028\u2029":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return Markup(text)


def fixed(value: Any, decimals: int) -> str:
    """A number with so many decimals, or a dash for what is unknown."""
    if value is None or value == "" or not math.isfinite(float(value)):
        return "–"
    return minus(f"{float(value):.{decimals}f}")


def span(low: Any, high: Any, decimals: int) -> str:
    """An interval, with a dash between its ends where none is negative; a dash alone where it is unknown."""
    ends = [fixed(end, decimals) for end in (low, high)]
    if "–" in ends:
        return "–"
    return ("–" if float(low) >= 0 else " to ").join(ends)


def thousands(value: int | None) -> str:
    """A whole number with commas."""
    return "–" if value is None else f"{int(value):,}"


def short_name(value: Any) -> str:
    """Words without the folders of a machine in them; a dash for none."""
    return " ".join(map(shortened, str(value).split())) if value not in (None, "") else "–"


def words(told: Told) -> str:
    """What the filter looks for an entry in."""
    entry = told.result.entry
    return " ".join((entry.name, entry.arch, *entry.terms, entry.dataset, entry.variant, short_name(entry.teacher)))


def called(figure: str) -> str:
    """How a figure is called in a table."""
    return next((title for name, title, _ in SHOWN if name == figure), figure)


def caption(comparisons: Sequence[compare.Comparison]) -> list[str]:
    """What is to be known of the comparisons, line by line."""
    return compare.caption(comparisons).plain.splitlines() if comparisons else []


def reported(name: str) -> list[Reported]:
    """What the authors reported of an entry's top-1 and MCA."""
    return [each for each in registry.get_entry(name).reported if each.metric in ("top1", "mca", "mca_all")]
