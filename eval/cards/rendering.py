"""Rendering of model cards, and the folder `model_cards/` with the cards of entries with weights or results."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from dctkd_zoo import registry, weights
from dctkd_zoo._io import atomic
from dctkd_zoo.catalog._recipes import VARIANTS
from dctkd_zoo.spec import Entry
from eval import columns
from eval.cards import measured, metadata, recipe
from eval.cards.facts import REPO, Card, gather
from eval.pages.markdown import Markdown, code, escape, link, listed, table, verbatim
from eval.run import results_csv
from eval.run.results_csv import Row
from eval.stats import seeds

__all__ = ["Card", "committed", "gather", "on_demand", "render", "stale", "write"]

TEMPLATE = "card.md.jinja"
FIGURES = "figures"
LIST = "README.md"
LIST_HEAD = """# Model cards

The entries with weights or with a row in `eval/results.csv`. `python -m dctkd_zoo cards NAME` prints the card of any
other entry, with `--catalog FILE` also of one from a catalog file.
"""
STATUS = {"bundled": "bundled with the package", "published": "on the Hub", "recipe": "not kept"}
MARK = "<!-- Made by `python -m dctkd_zoo cards`"  # marks a generated file; files without it are never deleted


def render(facts: Card) -> str:
    """Return the text of a model card; the same facts give the same text."""
    text = _template().render(
        card=facts,
        entry=facts.entry,
        dataset=facts.dataset,
        classes=f"{facts.dataset.num_classes:,}",
        recipe=facts.entry.recipe,
        teacher=facts.entry.teacher,
        variant=VARIANTS.get(facts.entry.variant),
        repo=REPO.fullmatch(facts.repo or ""),
        head=Markdown(metadata.head(facts)),
    )
    return re.sub(r"\n{3,}", "\n\n", text)


@cache
def _template() -> Template:
    """Return the card template, in which all text is escaped unless it is `Markdown`."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        undefined=StrictUndefined,
        finalize=escape,
        autoescape=False,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {how.__name__: how for how in (code, link, listed, verbatim)}
    environment.globals |= {
        "columns": columns,
        "measured": measured,
        "recipes": recipe,
        "distinct": seeds.distinct,
        "mark": Markdown(MARK),
    }
    return environment.get_template(TEMPLATE)


def write(folder: Path) -> list[str]:
    """Write the committed cards and their list into `folder`; return what was stale (see `stale`).

    Of the files that do not belong there, only generated cards are deleted.
    """
    expected = _expected(folder)
    done = _differing(folder, expected)
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in expected.items():
        path = folder / name
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            atomic.write_text(path, text)
    for path in _extra(folder, expected):
        if path.suffix == ".md" and MARK in path.read_text(encoding="utf-8"):
            path.unlink()
    return done


def stale(folder: Path) -> list[str]:
    """Return what is out of date in a folder of cards: `NAME: missing`, `NAME: differs` or `NAME: of no entry`."""
    return _differing(folder, _expected(folder))


def _differing(folder: Path, expected: dict[str, str]) -> list[str]:
    result = [
        f"{name}: {'differs' if (folder / name).is_file() else 'missing'}"
        for name, text in expected.items()
        if not (folder / name).is_file() or (folder / name).read_text(encoding="utf-8") != text
    ]
    return result + [f"{path.relative_to(folder).as_posix()}: of no entry" for path in _extra(folder, expected)]


def _expected(folder: Path) -> dict[str, str]:
    """Return the text of each file that belongs in a folder of cards, by file name: the list and the cards."""
    rows = results_csv.read(results_csv.RESULTS)
    cards = [_facts(entry, rows, folder) for entry in committed(rows)]
    return {LIST: _list(cards), **{f"{card.entry.name}.md": render(card) for card in cards}}


def committed(rows: Iterable[Row]) -> list[Entry]:
    """Return the entries whose cards are committed: those with weights and those with a row."""
    measured = {row["name"] for row in rows}
    return [
        entry
        for entry in registry.entries().values()
        if entry.name in measured
        or weights.is_complete(weights.BUNDLED / entry.name)
        or entry.name in weights.published()
    ]


def on_demand(entry: Entry, folder: Path) -> str:
    """Return the text of any entry's card; for a committed card it is that of the file in `folder`."""
    return render(_facts(entry, results_csv.read(results_csv.RESULTS), folder))


def _facts(entry: Entry, rows: Iterable[Row], folder: Path) -> Card:
    """Gather the facts of an entry's card, with the attention figure if `folder` has one."""
    figure = figure_path(entry.name)
    row = weights.published().get(entry.name)
    repo = f"{row['repo']}@{row['revision']}" if row else None
    return gather(entry, rows, repo=repo, figure=figure if (folder / figure).is_file() else None)


def _list(cards: Iterable[Card]) -> str:
    """Return the text of the list of committed cards."""
    lines = [(Markdown(f"[{c.entry.name}]({c.entry.name}.md)"), c.dataset.title, STATUS[c.status]) for c in cards]
    return f"{MARK}. -->\n\n{LIST_HEAD}\n{table(('card', 'dataset', 'weights'), lines)}\n"


def figure_path(name: str) -> str:
    """Return the path of an entry's attention figure, relative to the folder of cards."""
    return f"{FIGURES}/{name}.png"


def _extra(folder: Path, expected: Iterable[str]) -> list[Path]:
    """Return the files that are neither the list, a card nor a figure of one; hidden files (editors') are ignored."""
    known = {folder / name for name in expected} | {folder / figure_path(Path(name).stem) for name in expected}
    return sorted(p for p in folder.rglob("*") if p.is_file() and p not in known and not p.name.startswith("."))
