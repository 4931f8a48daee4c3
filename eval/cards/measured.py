"""Tables of a model card with measured values: evaluations, the training log and what the authors reported."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from operator import itemgetter
from statistics import mean, median

from dctkd_zoo import registry
from dctkd_zoo.weights import run_folder
from eval import columns
from eval.cards.facts import Card, Run
from eval.cards.recipe import shortened
from eval.columns import CHANCE, DASH, SKILL, TEACHER, Column
from eval.pages.markdown import Markdown, code, escape, table
from eval.run.results_csv import Row
from eval.stats.bootstrap import wilson
from eval.stats.seeds import over_seeds

PROTOCOLS = {
    "exact": "every image counts once, and MCA is over the classes of the test set",
    "released": "as the authors' code computes it, where all batches count equally whatever their size",
}
LEVELS = 4
ENVIRONMENT = {
    "device": "device",
    "precision": "precision",
    "teacher_cache": "cached views",
    "stored": "kernels and matrices stored as",
}  # keys of environment.json and what the table calls them


def measured(card: Card, protocol: str) -> Markdown:
    """Return the table of the results: a row per seed with intervals, and the mean if there are several seeds."""
    rows = card.measured(protocol)
    chosen = columns.of("card", rows)
    lines: list[list[object]] = [
        [_seed(card, row), row["n"], *(with_interval(row, column) for column in chosen)] for row in rows
    ]
    if len(rows) > 1:
        lines.append([f"mean ± sd over {len(rows)} seeds", "", *(over_seeds(rows, column) for column in chosen)])
    return table(("seed", "n", *(column.titled for column in chosen)), lines, numbers=1 + len(chosen))


def _seed(card: Card, row: Row) -> str:
    return f"{row['seed'] or 'not known'}{' (these weights)' if card.of_these_weights(row) else ''}"


def with_interval(row: Row, column: Column) -> str:
    """Return a value, followed by its confidence interval if it is a share of images."""
    value = column.text(row.get(column.name))
    if not column.share or value == DASH:
        return value
    low, high = (100 * end for end in wilson(float(row[column.name]) / 100, int(row["n"])))
    return f"{value} ({columns.interval(low, high, column.digits)})"


def beside(card: Card) -> Markdown:
    """Return the table of top-1 and MCA over seeds, of the entry and the networks it is compared with."""
    chosen = [columns.get(name) for name in ("top1", "mca")]
    exact = {card.entry.name: card.measured("exact")}
    exact |= {name: [row for row in rows if row["protocol"] == "exact"] for name, rows in card.related.items()}
    lines = [
        (code(name), role(card, name), len(rows), *(over_seeds(rows, column) for column in chosen))
        for name, rows in exact.items()
        if rows
    ]
    header = ("network", "role", "seeds", *(column.titled for column in chosen))
    return table(header, lines, numbers=1 + len(chosen))


def role(card: Card, name: str) -> str:
    """Return the role of a network in the comparison."""
    if name == card.entry.name:
        return "this entry"
    if name == card.entry.teacher:
        return "teacher"
    return "teacher of the students" if name == card.compared_with else "supervised baseline"


def alignment(card: Card, protocol: str) -> Markdown | None:
    """Return the table of similarity to the teacher's activation maps by level; None if it was not measured."""
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


def of_100(row: Row) -> int:
    """Return how many of 100 images a network is right about, rounded down."""
    return int(float(row["top1"]))


def objects(card: Card) -> Markdown | None:
    """Return the table of attention on objects of annotated images; None if it was not measured."""
    rows = card.measured("objects")
    if not rows:
        return None
    whose = {"this network": ""}
    if any(row.get(f"{TEACHER}energy") for row in rows):
        whose[shortened(card.compared_with or "")] = TEACHER
    lines = []
    for column in columns.scores_on_objects(rows):
        for who, prefix in whose.items():
            names = (f"{before}{prefix}{column.name}" for before in ("", f"{CHANCE}.", f"{SKILL}."))
            lines.append((column.title, code(who), *(over_seeds(rows, replace(column, name=n)) for n in names)))
    return table(("score", "network", "value", "chance", "skill"), lines, numbers=3)


def reported(card: Card) -> Markdown:
    """Return the table of the values that the authors reported, each with its source."""
    rows = [
        (
            columns.get(item.metric).titled,
            columns.get(item.metric).text(item.value),
            item.protocol,
            code(item.source),
            item.note or DASH,
        )
        for item in card.entry.reported
    ]
    return table(("metric", "reported", "protocol", "source", "note"), rows)


def training(run: Run) -> Markdown:
    """Return the table of a training run: the last epoch's losses, speed, device and software."""
    last, environment = run.log[-1], run.environment
    losses = [name for name in last if name not in run_folder.NOT_LOSSES]
    speed = median(float(row["images_per_s"]) for row in run.log)
    packages = ("python", "torch", "timm", "dctkd-zoo")
    versions = [f"{name} {environment[name]}" for name in packages if environment.get(name)]
    rows: list[tuple[str, object]] = [
        ("epochs", last["epoch"]),
        ("weighted loss terms, last epoch", Markdown(", ".join(f"{code(n)} {float(last[n]):.3f}" for n in losses))),
        ("images per second, median epoch", f"{speed:.0f}"),
        *((title, environment[name]) for name, title in ENVIRONMENT.items() if environment.get(name)),
        ("software", ", ".join(versions) or "not known"),
    ]
    return table(("run", "value"), rows)


def selection(run: Run) -> str:
    """Return a sentence on the epoch whose weights these are."""
    judged = run_folder.judged(run.log)
    if run.selection == "last" or not judged:
        return "The weights are those of the last epoch."
    epoch, top1 = max(judged, key=itemgetter(1))
    value = f"epoch {epoch}, with {columns.get('top1').text(top1)} % top-1"
    if run.selection == "val":
        return f"The weights are those of {value} on held-out images, the best there; the test set chose nothing."
    return f"The weights are those of the last epoch. The best was {value}, chosen on the test set: not a result."


def confidence(rows: Sequence[Row]) -> float | None:
    """Return half the width of the widest top-1 interval of some rows, in percentage points."""
    ends = [wilson(float(row["top1"]) / 100, int(row["n"])) for row in rows if row.get("top1")]
    return max((50 * (high - low) for low, high in ends), default=None)


def cost(card: Card) -> float | None:
    """Return how many points of top-1 a student is below its baseline; None if it is not below."""
    student, baseline = (
        [float(row["top1"]) for row in rows if row["protocol"] == "exact"]
        for rows in (card.rows, card.related.get(registry.baseline(card.entry) or "", ()))
    )
    if not (card.entry.terms and student and baseline) or mean(student) >= mean(baseline):
        return None
    return mean(baseline) - mean(student)


def alt(card: Card) -> Markdown:
    """Return the alternative text of the attention figure."""
    other = card.compared_with
    networks = f"{shortened(other)} and {card.entry.name}" if other else card.entry.name
    return escape(f"Test images of {card.dataset.title} with the activation maps of {networks} at every level")


def note(row: Row) -> str:
    """Return the note of a row without its details, which may contain local paths."""
    text = str(row["note"]).partition(": ")[0]
    return " ".join(shortened(word) for word in text.split())


def undecoded(rows: Sequence[Row]) -> int:
    """Return the largest number of test images that did not decode in any of some rows."""
    return max(int(row.get("failed") or 0) for row in rows)
