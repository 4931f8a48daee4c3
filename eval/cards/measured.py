"""The facts of a card to its tables of what was measured, here, in training, and by the authors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from statistics import mean, median

from dctkd_zoo import registry
from eval import columns
from eval.cards.facts import Card, Run
from eval.cards.recipe import shortened
from eval.columns import DASH, Column
from eval.pages.markdown import Markdown, code, escape, table
from eval.run.results_csv import Row
from eval.stats.bootstrap import wilson
from eval.stats.seeds import over_seeds

PROTOCOLS = {
    "exact": "every image counts once, MCA is over the classes that the test set shows",
    "released": "as the authors' code computes, all batches alike whatever their size",
}
LEVELS = 4
ENVIRONMENT = {
    "device": "device",
    "precision": "precision",
    "teacher_cache": "fixed views of a teacher on disk",
    "stored": "kernels and matrices stored in",
}  # facts of a run and their names


def measured(card: Card, protocol: str) -> Markdown:
    """A row per seed with its intervals, and the mean over seeds where there are several."""
    rows = card.measured(protocol)
    chosen = columns.of("card", rows)
    lines: list[list[object]] = [
        [_seed(card, row), row["n"], *(with_interval(row, column) for column in chosen)] for row in rows
    ]
    if len(rows) > 1:
        lines.append([f"mean ± sd of {len(rows)} seeds", "", *(over_seeds(rows, column) for column in chosen)])
    return table(("seed", "n", *(column.titled for column in chosen)), lines, numbers=1 + len(chosen))


def _seed(card: Card, row: Row) -> str:
    return f"{row['seed'] or 'not known'}{' (these weights)' if card.of_these_weights(row) else ''}"


def with_interval(row: Row, column: Column) -> str:
    """Return a value, followed by its confidence interval where it is a share of images."""
    value = column.text(row.get(column.name))
    if not column.share or value == DASH:
        return value
    low, high = (100 * end for end in wilson(float(row[column.name]) / 100, int(row["n"])))
    return f"{value} ({columns.interval(low, high, column.digits)})"


def beside(card: Card) -> Markdown:
    """Top-1 and MCA of the entry and of the networks it is compared with, over their seeds."""
    chosen = [columns.get(name) for name in ("top1", "mca")]
    exact = {card.entry.name: card.measured("exact")}
    exact |= {name: [row for row in rows if row["protocol"] == "exact"] for name, rows in card.beside.items()}
    lines = [
        (code(name), role(card, name), len(rows), *(over_seeds(rows, column) for column in chosen))
        for name, rows in exact.items()
        if rows
    ]
    header = ("network", "what it is", "seeds", *(column.titled for column in chosen))
    return table(header, lines, numbers=1 + len(chosen))


def role(card: Card, name: str) -> str:
    """What another network is to the entry."""
    if name == card.entry.name:
        return "this entry"
    if name == card.entry.teacher:
        return "its teacher"
    return "the teacher of its siblings" if name == card.compared_with else "the same network, on labels alone"


def alignment(card: Card, protocol: str) -> Markdown | None:
    """How alike the activation maps are to the teacher's, level by level; None where that was not measured."""
    rows = card.measured(protocol)
    chosen = columns.of("maps", rows)
    if not chosen:
        return None
    levels = [n for n in range(1, LEVELS + 1) if any(row.get(f"{c.name}.{n}") for row in rows for c in chosen)]
    lines = [
        (level, *(over_seeds(rows, replace(column, name=f"{column.name}.{level}")) for column in chosen))
        for level in levels
    ]
    means = ("mean", *(over_seeds(rows, column) for column in chosen))
    return table(("level", *(column.titled for column in chosen)), [*lines, means], numbers=len(chosen))


def reported(card: Card) -> Markdown:
    """The authors' figures, with where each stands."""
    rows = [
        (
            columns.get(meta.metric).titled,
            columns.get(meta.metric).text(meta.value),
            meta.protocol,
            code(meta.source),
            meta.note or "–",
        )
        for meta in card.entry.reported
    ]
    return table(("metric", "reported", "protocol", "source", "note"), rows)


def training(run: Run) -> Markdown:
    """The end of the log, and what it was trained on."""
    last, meta = run.log[-1], run.environment
    losses = [name for name in last if name not in ("epoch", "test_top1", "lr", "images_per_s")]
    speed = median(float(row["images_per_s"]) for row in run.log)
    versions = [f"{name} {meta[name]}" for name in ("python", "torch", "timm", "dctkd-zoo") if meta.get(name)]
    rows: list[tuple[str, object]] = [
        ("epochs", last["epoch"]),
        ("weighted loss terms, last epoch", Markdown(", ".join(f"{code(n)} {float(last[n]):.3f}" for n in losses))),
        ("images per second, median epoch", f"{speed:.0f}"),
        *((words, meta[name]) for name, words in ENVIRONMENT.items() if meta.get(name)),
        ("software", ", ".join(versions) or "not known"),
    ]
    return table(("what", "value"), rows)


def best(run: Run) -> Row | None:
    """The first epoch with the best accuracy on the test set, where that is above the last one's."""
    tested = [row for row in run.log if row.get("test_top1")]
    result = max(tested, key=_tested, default=None)
    return None if result is None or _tested(result) == _tested(tested[-1]) else result


def _tested(row: Row) -> float:
    return float(row["test_top1"])


def confidence(rows: Sequence[Row]) -> float | None:
    """Half the widest top-1 interval of some rows, in percentage points."""
    ends = [wilson(float(row["top1"]) / 100, int(row["n"])) for row in rows if row.get("top1")]
    return max((50 * (high - low) for low, high in ends), default=None)


def cost(card: Card) -> float | None:
    """By how many points of top-1 a student stays below its baseline; None where it does not."""
    student, teacher = (
        [float(row["top1"]) for row in rows if row["protocol"] == "exact"]
        for rows in (card.rows, card.beside.get(registry.baseline(card.entry) or "", ()))
    )
    if not (card.entry.terms and student and teacher) or mean(student) >= mean(teacher):
        return None
    return mean(teacher) - mean(student)


def alt(card: Card) -> Markdown:
    """The picture of the attention in words."""
    other = card.compared_with
    whose = f"{shortened(other)} and {card.entry.name}" if other else card.entry.name
    return escape(f"Test images of {card.dataset.title}, and over them the activation maps of {whose} at every level")


def note(row: Row) -> str:
    """What was noted of a measurement, without its details, which may name folders of a machine."""
    said = str(row["note"]).partition(": ")[0]
    return " ".join(shortened(word) for word in said.split())


def undecoded(rows: Sequence[Row]) -> int:
    """The most test images that did not decode in any of some rows."""
    return max(int(row.get("failed") or 0) for row in rows)
