"""Generated tables of README.md, what was found and the models that come along: `python -m eval.pages.readme`."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dctkd_zoo import onnx, registry, weights
from eval import columns
from eval.cards.facts import gather
from eval.columns import DASH
from eval.pages.findings import QUESTIONS, Students, answer
from eval.pages.generated_file import blocks, command
from eval.pages.markdown import Markdown, code, table
from eval.pages.tables import cell, teachers
from eval.run import exported, results_csv
from eval.run.results_csv import Row

README = Path(__file__).parents[2] / "README.md"

STUDENTS = (Students("r20", "synthscenes"), Students("r18", "scene15"), Students("r18", "miniplaces12k"))
EIGHT_BITS = ("int8 size", "int8 top-1 %", "ms: float32, int8")
# What is compared, in which column of the results, and the two methods (see eval/pages/findings.py).
FINDINGS = (
    ("top-1: DCT loss − supervised baseline", "top1", "", "dctkd"),
    ("top-1: DCT loss − Hinton's KD", "top1", "kd", "dctkd"),
    ("top-1: DCT loss − attention transfer", "top1", "at", "dctkd"),
    ("top-1: DCT loss with KD − KD", "top1", "kd", "dctkd_kd"),
    ("top-1 after a schedule as long as the teacher's: DCT loss − baseline", "top1", ".long", "dctkd.long"),
    ("SSIM skill of the attention: DCT loss − supervised baseline", "skill.ssim", "", "dctkd"),
)


def filled(text: str, rows: Sequence[Row]) -> str:
    """Return the text with its tables made from the rows."""
    return blocks(text, {"findings": findings(rows), "teachers": teachers(rows), "models": models(rows)})


def findings(rows: Sequence[Row]) -> Markdown:
    """Return a table of the differences of `FINDINGS`, a column for each of `STUDENTS`.

    Each p is corrected as in RESULTS.md, over all differences of its question there.
    """
    results = [item for question in QUESTIONS for item in answer(question, rows)]
    known = {(item.students, item.figure, item.a, item.b): item for item in results}
    lines = []
    for title, metric, a, b in FINDINGS:
        chosen = (known.get((students, metric, a, b)) for students in STUDENTS)
        lines.append((title, *(cell(item) if item else DASH for item in chosen)))
    return table(("difference", *(students.title for students in STUDENTS)), lines)


def models(rows: Sequence[Row]) -> Markdown:
    """Return a table of the bundled models: parameters, test accuracy, licence, and what is known of their ONNX files.

    The accuracy and size of `model_quantized.onnx`, and the latency of `model.onnx` and of it.
    """
    lines, exports = [], exported.recorded()
    for name in registry.find("*"):
        folder = weights.BUNDLED / name
        if not weights.is_complete(folder):
            continue
        card = gather(registry.get_entry(name), rows)
        size = f"{(folder / weights.WEIGHTS).stat().st_size / 1e6:.1f} MB"
        row = card.here()
        top1 = columns.get("top1").text(row["top1"] if row else None)
        parameters = columns.thousands(card.parameters)
        known = exports.get(name, {})
        current = known.get("weights_sha256") == weights.read_hashes(folder)[weights.WEIGHTS]
        files = known["files"] if current else {}
        facts = (code(name), card.dataset.title, parameters, size, top1)
        lines.append((*facts, *_eight_bits(files), card.licence or DASH))
    header = (
        "model",
        "dataset",
        "parameters",
        "size",
        "top-1 %",
        "int8 size",
        "int8 top-1 %",
        "ms: float32, int8",
        "licence",
    )
    return table(header, lines)


def _eight_bits(files: Mapping[str, Mapping[str, Any]]) -> tuple[str, str, str]:
    """Return size and accuracy of the file in eight bits, and the latencies in float32 and eight bits."""
    whole, small = files.get(onnx.FLOAT), files.get(onnx.INT8)
    if whole is None or small is None:
        return DASH, DASH, DASH
    latencies = ", ".join(columns.number(item["latency_ms"], 1) for item in (whole, small))
    return f"{small['mb']:.1f} MB", columns.get("top1").text(small["top1"]), latencies


def main(arguments: list[str] | None = None) -> int:
    """Run the command."""
    return command(
        README,
        lambda text: filled(text, results_csv.read(results_csv.RESULTS)),
        "python -m eval.pages.readme",
        __doc__,
        arguments,
    )


if __name__ == "__main__":
    sys.exit(main())
