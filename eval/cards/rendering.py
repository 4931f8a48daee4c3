"""Facts of an entry to its model card, and every entry of the catalog to a card in `model_cards/`."""

from __future__ import annotations

import re
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
from eval.cards.metadata import check
from eval.pages.markdown import Markdown, code, escape, link, listed, verbatim
from eval.run import results_csv
from eval.stats import seeds

__all__ = ["Card", "check", "gather", "render", "stale", "write"]

TEMPLATE = "card.md.jinja"
FIGURES = "figures"
MARK = "<!-- Made by `python -m dctkd_zoo cards`"  # how a generated file is told from one that somebody wrote


def render(facts: Card) -> str:
    """The text of a model card; the same facts give the same text."""
    meta = REPO.fullmatch(facts.repo or "")
    text = _template().render(
        card=facts,
        entry=facts.entry,
        dataset=facts.dataset,
        classes=f"{facts.dataset.num_classes:,}",
        recipe=facts.entry.recipe,
        teacher=facts.entry.teacher,
        variant=VARIANTS.get(facts.entry.variant),
        repo=meta,
        head=Markdown(metadata.head(facts)),
    )
    return re.sub(r"\n{3,}", "\n\n", text)


@cache
def _template() -> Template:
    """The template of a card, in which plain text is escaped unless it says otherwise."""
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
    """Make `folder` hold one up-to-date card per entry; what was done, in words, and nothing where none was stale.

    Of what does not belong there, only cards that were made by this function are removed.
    """
    expected = _due(folder)
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
    """What is not as it should be in a folder of cards: `name: missing`, `differs`, or `of no entry`."""
    return _differing(folder, _due(folder))


def _differing(folder: Path, expected: dict[str, str]) -> list[str]:
    result = [
        f"{name}: {'differs' if (folder / name).is_file() else 'missing'}"
        for name, text in expected.items()
        if not (folder / name).is_file() or (folder / name).read_text(encoding="utf-8") != text
    ]
    return result + [f"{path.relative_to(folder).as_posix()}: of no entry" for path in _extra(folder, expected)]


def _due(folder: Path) -> dict[str, str]:
    """File name -> text of the card of every entry, with the pictures that the folder has."""
    rows = results_csv.read(results_csv.RESULTS)
    result: dict[str, str] = {}
    for entry in registry.entries().values():
        picture = figure_path(entry)
        figure = picture if (folder / picture).is_file() else None
        row = weights.published().get(entry.name)
        repo = f"{row['repo']}@{row['revision']}" if row else None
        result[f"{entry.name}.md"] = render(gather(entry, rows, repo=repo, figure=figure))
    return result


def figure_path(entry: Entry) -> str:
    """Where the picture of an entry's attention lies, from the folder of cards."""
    return f"{FIGURES}/{entry.name}.png"


def _extra(folder: Path, expected: dict[str, str]) -> list[Path]:
    """Files that are neither a card nor a picture of an entry; hidden ones are the editor's."""
    known = {folder / name for name in expected} | {folder / figure_path(e) for e in registry.entries().values()}
    return sorted(p for p in folder.rglob("*") if p.is_file() and p not in known and not p.name.startswith("."))
