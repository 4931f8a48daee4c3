"""Collection of a report's data, either from entries just evaluated or from rows of `eval/results.csv` alone."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dctkd_zoo import registry, weights
from dctkd_zoo.data import load
from dctkd_zoo.errors import ZooError
from dctkd_zoo.spec import Dataset
from eval import columns
from eval.cards import facts
from eval.cards.measured import note
from eval.pages import findings
from eval.report.data import (
    HEADLINES,
    LARGEST,
    Absent,
    Contrast,
    DatasetData,
    EntryData,
    PerImage,
    Report,
    Row,
    Value,
    coloured,
    levels,
    objects,
    scores,
)
from eval.report.panels import panels
from eval.run.attempt import Status
from eval.run.config import EvalConfig
from eval.run.evaluation import Result
from eval.run.result_row import Record
from eval.run.results_csv import HEAD, TAIL
from eval.stats import calibration, compare, seeds, skill
from eval.stats import per_class as classes
from eval.stats.bootstrap import LEVEL
from eval.stats.gap_closed import Gap, bootstrapped_gap, gap_closed
from eval.stats.paired import Difference, least_p

ANSWERS = ("id", "label", "prediction", "confidence", "teacher_prediction")
COMPARED = (*ANSWERS, *(column.name for column in columns.of("compare")))
PAIRS = 10  # confused pairs of classes that are listed
WORST = 100  # classes that are listed, those with the lowest accuracy

# --- entries just evaluated


def from_results(
    records: Sequence[Record], results: Mapping[str, Result], config: EvalConfig, pictures: bool = True
) -> Report:
    """Collect the report of `results`, and from `records` what was not evaluated; panels only with `pictures`."""
    names = sorted({item.entry.dataset for item in results.values()}, key=registry.natural_key)
    known = {record["name"]: record for record in records}
    parts = ({n: r for n, r in results.items() if r.entry.dataset == name} for name in names)
    return Report(
        tuple(_dataset(part, known, config, pictures) for part in parts),
        "images",
        {"entries": list(records)},
        absences(records),
        tuple(record for record in records if record["status"] == Status.FAILED),
        config.limit,
        pictures,
        config.teacher,
    )


def _dataset(
    results: Mapping[str, Result], records: Mapping[str, Record], config: EvalConfig, pictures: bool
) -> DatasetData:
    ordered = dict(sorted(results.items(), key=lambda pair: -pair[1].figures["top1"]))
    dataset = registry.get_dataset(next(iter(ordered.values())).entry.dataset)
    baselines = {name: base for name in ordered if (base := _baseline(name, ordered))}
    training = _training(dataset, config)
    panel_groups = panels(ordered, baselines, config) if pictures else {}
    entries = coloured(
        replace(_entry(item, records[name], ordered, training), panels=tuple(panel_groups.get(name, ())))
        for name, item in ordered.items()
    )
    exact = config.protocol == "exact"  # the metrics of the other protocol are not compared
    contrasts, refused = compared(ordered, baselines if exact else {}, entries)
    return DatasetData(dataset, entries, contrasts, refused, tuple(panel_groups.get("", ())))


def _baseline(name: str, known: Collection[str]) -> str | None:
    """Return the supervised baseline of a student if it is among the `known` entries."""
    entry = registry.get_entry(name)
    base = registry.baseline(entry)
    return base if entry.teacher and base and base in known else None


def _training(dataset: Dataset, config: EvalConfig) -> NDArray[np.int64]:
    """Return the number of training images of each class."""
    labels = load.load(dataset, config.data)["train"].labels
    return np.bincount(labels, minlength=dataset.num_classes).astype(np.int64)


def _entry(result: Result, record: Record, results: Mapping[str, Result], training: NDArray[np.int64]) -> EntryData:
    row, none = record["row"], (math.nan, math.nan)
    values = {name: Value(row[name], *result.intervals.get(name, none)) for name in result.figures}
    folder = result.weights.folder
    return EntryData(
        result.entry,
        row,
        values,
        () if row["seed"] is None else (row["seed"],),
        result.teacher,
        None,
        _gap(result, results),
        tuple(item for score in scores(values) for item in levels(values, score, result.table)),
        objects(values, result.table),
        record["subsets"],
        _per_image(result, training),
        facts.read_run(folder) if weights.is_complete(folder) else None,
        note=note(row) if row["note"] else "",
        sanity=result.sanity,
        faithfulness=result.faithfulness,
    )


def _per_image(result: Result, training: NDArray[np.int64]) -> PerImage:
    table, names = result.table, result.classes
    drawn = len(names) <= LARGEST
    per_class = classes.per_class(table, names)
    per_class["order"] = per_class["top1"].fillna(np.inf)
    worst = per_class.sort_values(["order", "class"], kind="stable")[:WORST]
    return PerImage(
        names,
        tuple({str(key): value for key, value in item.items()} for item in worst.to_dict("records")),
        classes.confusion(table, len(names)) if drawn else None,
        classes.worst_pairs(table, names, PAIRS),
        classes.by_frequency(table, training),
        calibration.reliability(table, calibration.equal_width(table["confidence"].to_numpy(np.float64))),
    )


def _gap(result: Result, results: Mapping[str, Result]) -> Gap | None:
    """Return the gap between baseline and teacher that a student closes, if all three are evaluated."""
    base, teacher = _baseline(result.entry.name, results), result.entry.teacher
    if result.config.protocol != "exact" or base is None or teacher is None or teacher not in results:
        return None
    try:
        return bootstrapped_gap(results[base].table, result.table, results[teacher].table)
    except ZooError:  # not measured on the same images
        return None


def compared(
    results: Mapping[str, Result], baselines: Mapping[str, str], entries: Sequence[EntryData]
) -> tuple[tuple[Contrast, ...], tuple[str, ...]]:
    """Compare students with their baselines (`baselines` by student); also return why some could not be compared."""
    data = {item.name: item for item in entries}
    contrasts: list[Contrast] = []
    refused: list[str] = []
    for base in dict.fromkeys(baselines.values()):
        names = [base, *(name for name, other in baselines.items() if other == base)]
        try:
            tables = {name: _narrow(results[name].table) for name in names}
            comparisons = compare.compare(tables, {name: results[name].teacher for name in names})
        except ZooError as error:
            refused.append(str(error))
        else:
            contrasts += [
                Contrast(c.a, data[c.b], c.images, c.differences, least_p(c.resamples), c.note) for c in comparisons
            ]
    return tuple(sorted(contrasts, key=lambda item: -item.top1.difference)), tuple(refused)


def _narrow(table: pd.DataFrame) -> pd.DataFrame:
    """Return only the columns of metrics that the report compares: in a smaller family each test counts for more."""
    scores = {str(c): str(c).removeprefix(f"{skill.CHANCE}.").partition(".")[0] for c in table.columns}
    return table[[name for name, score in scores.items() if name in COMPARED or score in HEADLINES]]


def absences(records: Sequence[Record]) -> tuple[Absent, ...]:
    """Group the entries that were not evaluated, without failures, by dataset and status."""
    groups: dict[tuple[str, str], list[Record]] = {}
    for record in records:
        if record["status"] not in (Status.EVALUATED, Status.FAILED):
            groups.setdefault((record["dataset"], str(record["status"])), []).append(record)
    return tuple(
        Absent(dataset, status, group[0]["reason"], tuple(sorted((r["name"] for r in group), key=registry.natural_key)))
        for (dataset, status), group in sorted(groups.items())
    )


# --- rows of a results file


def from_rows(rows: Sequence[Row]) -> Report:
    """Collect the report of rows of `eval/results.csv`: means over training seeds, and differences paired by seed.

    Rows of a part of the images, of another protocol than exact, or of entries outside the catalog are left out.
    """
    known = registry.entries()
    rows = [row for row in rows if row["protocol"] == "exact" and not row.get("limit") and row["name"] in known]
    names = sorted({row["dataset"] for row in rows}, key=registry.natural_key)
    parts = ([row for row in rows if row["dataset"] == name] for name in names)
    return Report(tuple(_dataset_of_rows(part) for part in parts), "seeds", pictures=False)


def _dataset_of_rows(rows: Sequence[Row]) -> DatasetData:
    by_name: dict[str, list[Row]] = {}
    for row in rows:
        by_name.setdefault(row["name"], []).append(row)
    result = [_entry_of_rows(seeds.most_trained(item)) for item in by_name.values()]
    result.sort(key=lambda item: -item.values["top1"].value)
    tests = [test for arch in sorted({item.entry.arch for item in result}) for test in _tests(arch, result, rows)]
    gaps = {test.student.name: _gap_of_means(test, by_name) for test in tests}
    entries = coloured(replace(item, gap=gaps.get(item.name)) for item in result)
    data = {item.name: item for item in entries}
    tests = [replace(test, student=data[test.student.name]) for test in tests]
    contrasts = tuple(sorted(tests, key=lambda item: -item.top1.difference))
    return DatasetData(registry.get_dataset(rows[0]["dataset"]), entries, contrasts)


def _entry_of_rows(rows: Sequence[Row]) -> EntryData:
    row, values = rows[-1], _means(rows)
    return EntryData(
        registry.get_entry(row["name"]),
        row,
        values,
        tuple(sorted(int(item["seed"]) for item in rows if item["seed"])),
        row.get("teacher") or None,
        None,
        levels=tuple(item for score in scores(values) for item in levels(values, score)),
        objects=objects(values),
        note="; ".join(sorted({note(item) for item in rows if item.get("note")})),
    )


def _means(rows: Sequence[Row]) -> dict[str, Value]:
    """Return each metric's mean and standard deviation over some rows; for a single row its interval over images."""
    result = {}
    for name in rows[0]:
        is_metric = name not in (*HEAD, *TAIL) and not name.endswith((".low", ".high"))
        measured = seeds.values(rows, name) if is_metric else []
        if len(measured) > 1:
            spread = seeds.spread(measured)
            result[name] = Value(spread.mean, sd=spread.sd)
        elif measured:
            ends = (seeds.values(rows, f"{name}.{end}") for end in ("low", "high"))
            result[name] = Value(*measured, *(end[0] if end else math.nan for end in ends))
    return result


def _tests(arch: str, entries: Sequence[EntryData], rows: Sequence[Row]) -> list[Contrast]:
    """Compare the students of an architecture with their baselines over the seeds that both have.

    Holm's correction is over the students, for each metric separately.
    """
    group = findings.Students(arch, entries[0].entry.dataset)
    names = [item.name for item in entries]
    bases = {item.name: base for item in entries if item.entry.arch == arch and (base := _baseline(item.name, names))}
    pairs = tuple((str(group.method(base)), str(group.method(name))) for name, base in bases.items())
    metrics = (*(column.name for column in columns.of("compare")), *(f"{skill.SKILL}.{score}" for score in HEADLINES))
    questions = (findings.Question("", (metric,), pairs) for metric in metrics)
    answers = [item for question in questions for item in findings.answer(question, rows, (group,))]
    contrasts = []
    for item in entries:
        matching = [a for a in answers if item.name in bases and a.b == group.method(item.name)]
        differences = tuple(
            Difference(
                a.figure,
                a.mean_a,
                a.mean_b,
                a.test.mean,
                a.test.low,
                a.test.high,
                a.test.p,
                a.p,
                a.significant,
                family=a.figure,
            )
            for a in matching
        )
        if matching and matching[0].figure == "top1":
            contrasts.append(Contrast(bases[item.name], item, matching[0].test.n, differences))
    return contrasts


def _gap_of_means(test: Contrast, rows: Mapping[str, Sequence[Row]]) -> Gap | None:
    """Return the gap closed between the means of baseline and teacher; None if that gap is not significant."""
    hashes = {row.get("teacher_sha256") for row in rows[test.student.name]}
    teachers = [row for row in rows.get(str(test.student.entry.teacher), ()) if row.get("weights_sha256") in hashes]
    if not teachers:
        return None
    teacher = seeds.spread(seeds.values(teachers, "top1")).mean
    gap = seeds.student(teacher - value for value in seeds.values(rows[test.baseline], "top1"))
    if not gap.p < 1 - LEVEL:
        return None
    return Gap(gap_closed(test.top1.a, test.top1.b, teacher), math.nan, math.nan)
