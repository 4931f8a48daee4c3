"""Rendering of a report as an HTML page; all text from data is escaped."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache, partial
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

import dctkd_zoo
from dctkd_zoo import registry
from dctkd_zoo.spec import Reported
from eval import columns
from eval.cards import facts, measured
from eval.cards.recipe import shortened
from eval.columns import DASH
from eval.report import charts
from eval.report.data import HEADLINES, Contrast, DatasetData, EntryData, Report
from eval.run import faithfulness, results_csv, sanity
from eval.stats.paired import Difference

HERE = Path(__file__).parent / "templates"
TITLE = "dctkd_zoo: evaluation report"

FACTS = (
    ("weights_sha256", "sha256 of the weights"),
    ("weights_origin", "weights from"),
    ("teacher_sha256", "sha256 of the teacher"),
    ("dataset_digest", "sha256 of the test set"),
    ("n", "images"),
    ("limit", "limit"),
    ("protocol", "protocol"),
    ("selected", "selected epoch"),
    ("teacher_cache", "cached views"),
    ("trained_on", "trained on"),
    ("device", "evaluated on"),
    ("precision", "precision"),
    ("torch", "torch"),
    ("timm", "timm"),
    ("dctkd_zoo", "dctkd_zoo"),
    ("date", "measured"),
)


def page(report: Report) -> str:
    """Return the page."""
    return _environment().get_template("page.html.jinja").render(
        report=report,
        entries=sum(len(item.entries) for item in report.datasets),
        missing=sum(len(group.names) for group in report.absent),
        title=TITLE,
        date=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        version=dctkd_zoo.__version__,
        data=script_data(report.document) if report.document else None,
    )  # fmt: skip


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(HERE), undefined=StrictUndefined, autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    filters = (breakable, p_value, shortened_name, span)
    environment.filters |= {item.__name__: item for item in filters}
    environment.filters |= {
        "fixed": columns.number,
        "signed": partial(columns.number, sign="+"),
        "thousands": columns.thousands,
        "metric_title": lambda name: columns.get(name).titled,
    }
    environment.globals |= {
        "style": _file("colours.css") + _file("style.css"),
        "script": _file("script.js"),
        "skills": [f"skill.{score}" for score in HEADLINES],
        "columns": columns,
        "facts": FACTS,
        "selection": measured.selection,
        "describe": facts.describe,
        "sanity_caption": sanity.CAPTION,
        "faithfulness": faithfulness,
        "charts": charts,
        **{item.__name__: item for item in (bar, headline, reported, verdict, words)},
    }
    return environment


def _file(name: str) -> Markup:
    """Return the text of a file next to the templates, unescaped."""
    return Markup((HERE / name).read_text(encoding="utf-8"))


def script_data(document: Any) -> Markup:
    """Return a document as JSON for a `script` element, with `<`, `>` and `&` escaped so that no text can end it."""
    text = results_csv.as_json(document)
    for letter in "<>&\u2028\u2029":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return Markup(text)


# --- numbers and names


def span(ends: tuple[float, float], digits: int) -> str:
    """Format an interval, with a dash between its ends where none is negative."""
    text = columns.interval(*ends, digits)
    return text.replace(" to ", DASH) if ends[0] >= 0 else text


def p_value(difference: Difference, least: float = 0.0) -> str:
    """Format the corrected p; `least` is the smallest p that resampling can give."""
    text = columns.p_value(difference.holm, bound=difference.p == least)
    return text.replace("<", "<\N{NO-BREAK SPACE}").replace("≤", "≤\N{NO-BREAK SPACE}")


def shortened_name(value: Any) -> str:
    """Return text without the directories of local paths; a dash if it is empty."""
    return " ".join(map(shortened, str(value).split())) if value not in (None, "") else "–"


def breakable(name: str) -> Markup:
    """Return a name that may be wrapped after an underscore."""
    return Markup(str(escape(name)).replace("_", "_<wbr>"))


def words(entry: EntryData) -> str:
    """Return the words by which the filter finds an entry."""
    spec = entry.entry
    return " ".join((spec.name, spec.arch, *spec.terms, spec.dataset, spec.variant, shortened_name(spec.teacher)))


def reported(name: str) -> list[Reported]:
    """Return the top-1 and MCA that the authors reported of an entry."""
    return [item for item in registry.get_entry(name).reported if item.metric in ("top1", "mca", "mca_all")]


# --- findings


def verdict(difference: Difference) -> tuple[str, str]:
    """Return a CSS class and a text that say whether a difference is significant."""
    if math.isnan(difference.holm):
        return "dim", "not tested"
    if not difference.significant:
        return "dim", "not significant"
    higher = difference.difference > 0
    better = higher != (columns.get(difference.figure).lower_is_better)
    return "good" if better else "bad", f"significantly {'higher' if higher else 'lower'}"


def headline(data: DatasetData) -> str:
    """Return how many students are significantly more accurate than their baseline, empty without a comparison."""
    tests = [item.top1 for item in data.contrasts]
    higher, lower = (sum(t.significant and (t.difference > 0) == up for t in tests) for up in (True, False))
    if not tests:
        return ""
    if len(tests) == 1:
        how = "significantly more" if higher else "significantly less" if lower else "not significantly more"
        return f"the student is {how} accurate than its baseline"
    less = f"; {lower} {'are' if lower > 1 else 'is'} significantly less accurate" if lower else ""
    if higher == len(tests):
        return f"all {higher} students are significantly more accurate than their baseline"
    if not higher:
        return f"none of the {len(tests)} students is significantly more accurate than its baseline{less}"
    are = "are" if higher > 1 else "is"
    return f"{higher} of {len(tests)} students {are} significantly more accurate than their baseline{less}"


def bar(contrast: Contrast, contrasts: Sequence[Contrast]) -> str:
    """Return the position of a difference in top-1 and its interval as CSS, on the scale of all `contrasts`."""
    finite = [x for c in contrasts for x in (c.top1.difference, c.top1.low, c.top1.high) if math.isfinite(x)]
    least, most = min(0.0, *finite), max(0.0, *finite)
    test, width = contrast.top1, (most - least) or 1.0
    low, high = (test.difference if math.isnan(end) else end for end in (test.low, test.high))
    positions = {"zero": 0.0, "low": low, "at": test.difference, "high": high}
    return "; ".join(f"--{name}: {100 * (x - least) / width:.1f}%" for name, x in positions.items())
