"""Evaluation of ONNX files: `python -m eval FILE.onnx`."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import torch

from dctkd_zoo import registry, teachers, weights
from dctkd_zoo.cli import shell
from dctkd_zoo.errors import UnsupportedNetwork, WeightsNotFound
from dctkd_zoo.onnx import session
from dctkd_zoo.onnx.session import OnnxNetwork
from dctkd_zoo.spec import Entry
from dctkd_zoo.weights import Weights
from eval.metrics._base import LevelMetric
from eval.run import cost, protocol, result_row, terminal
from eval.run.attempt import Status, attempt
from eval.run.config import EvalConfig
from eval.run.evaluation import Result, partners, silent, teacher_outputs
from eval.run.exported import CPU, Runner, latency, views
from eval.run.per_image import References, Report, table
from eval.run.setup import build_teacher
from eval.stats import intervals as uncertainty
from eval.stats.skill import CKA

ORIGIN = "exported file"
NOT_FOR_FILES = ("all", "seed", "out", "device", "cost", "sanity", "faithfulness", "report", "from_results", "write")


def check(command: ArgumentParser, options: Namespace) -> None:
    """End with status 2 if an option is given that files are evaluated without, or an entry beside them."""
    given = [name for name in options.names if not name.endswith(".onnx")]
    given += [f"--{name.replace('_', '-')}" for name in NOT_FOR_FILES if getattr(options, name)]
    given += ["--protocol objects"] if options.protocol == "objects" else []
    if given:
        command.error(f"ONNX files are evaluated on the CPU by themselves: leave out {', '.join(given)}")


def run(files: Sequence[Path], config: EvalConfig, json: str | None) -> int:
    """Evaluate files and print a leaderboard; return 1 if one could not be evaluated."""
    config = replace(config, device=CPU)
    networks = [session.load(file, torch.get_num_threads()) for file in files]
    entries = [entry_of(network) for network in networks]
    outcomes = [
        attempt(entry, config, silent, partial(evaluate, network))
        for network, entry in zip(networks, entries, strict=True)
    ]
    records = [{**result_row.record(outcome), "name": str(file)} for file, outcome in zip(files, outcomes, strict=True)]
    if json:
        terminal.write_json(json, {"entries": records})
    shell.show(terminal.console(json), terminal.render(records))
    return int(any(outcome.status != Status.EVALUATED for outcome in outcomes))


def entry_of(network: OnnxNetwork) -> Entry:
    """Return the entry that a file is of; `UnsupportedNetwork` if it is in no catalog."""
    name = network.facts["name"]
    if not registry.knows(name):
        raise UnsupportedNetwork(
            f"{network.path}: a network of {name}, which is no entry: evaluation needs to know its test images; "
            "name its catalog file, --catalog FILE.py"
        )
    return registry.get_entry(name)


def evaluate(network: OnnxNetwork, entry: Entry, config: EvalConfig, report: Report) -> Result:
    """Run an exported file over the test set, compared with the chosen network or else its own torch network.

    A file without maps has no metrics of maps, and none has those of whole features (CKA) and class maps.
    """
    facts = network.facts
    split, found = views(entry, {**facts, "label_names": facts["class_names"]}, config.data, config.limit)
    classes = tuple(facts["class_names"])
    weights_found, note = _reference(network, entry, config)
    compared = replace(config, teacher=config.teacher or entry.name)
    teacher = build_teacher(entry, weights_found, classes, compared) if weights_found else None
    metrics = [
        metric
        for metric in protocol.image_metrics(config.protocol, teacher is not None)
        if network.has_maps or not isinstance(metric, LevelMetric)
    ]
    outputs = teacher_outputs(teacher, found, report, config.fresh) if teacher else None
    references = References(outputs, None, partners(found) if network.has_maps else None)
    rows, together = table(network, references, found, metrics, report)
    rows.insert(0, "id", [split.ids[position] for position in rows.pop("position")])
    together = {name: value for name, value in together.items() if CKA not in name.split(".")}
    runner = Runner(network.run, network.feed, network.path)
    milliseconds = latency(runner, cost.images(1, facts["input_size"][-1], CPU))
    threads = f"{network.threads} thread{'s' if network.threads > 1 else ''}"
    size = f"{network.path.stat().st_size / 1e6:.2f} MB, {milliseconds:.2f} ms per image on {threads}"
    notes = (size, note, "" if network.has_maps else "no metrics of maps: exported without --maps")
    return Result(
        entry,
        compared,
        rows,
        protocol.figures(rows, config.protocol, len(classes), together),
        uncertainty.intervals(rows) if protocol.PROTOCOLS[config.protocol].complete else {},
        facts["parameters"],
        datetime.now(UTC).isoformat(timespec="seconds"),
        Weights(network.path, ORIGIN, network.sha256),
        compared.teacher,
        weights_found,
        found.store.failed,
        found.store.digest,
        classes,
        "; ".join(filter(None, notes)),
        label=str(network.path),
    )


def _reference(network: OnnxNetwork, entry: Entry, config: EvalConfig) -> tuple[Weights | None, str]:
    """Return the weights of the network that a file is compared with, and what is to be said of them."""
    if config.teacher:
        return teachers.find(config.teacher, config.trained), ""
    try:
        result = weights.find(entry, config.trained)
    except WeightsNotFound as error:
        return None, f"not compared with its torch network: {error}"
    made_of = network.facts["weights_sha256"]
    other = f"made of other weights ({made_of:.12}) than those of {entry.name} here"
    return result, "" if result.sha256 == made_of else other
