"""Rows of the benchmark table and their targets."""

from __future__ import annotations

from benchmarks.cases import building, evaluation, gpu, starting, term, training
from benchmarks.harness.measure import Row, Target

STARTUP = Target(0.3, at_least=False)  # s

ROWS = (
    Row("term", Target(8), term.term),
    Row("term-eager", Target(5), term.eager),
    Row("spectra", Target(3), term.spectra),
    Row("share", Target(1, at_least=False), term.share),
    Row("train", Target(3), training.train),
    Row("cached", Target(5), training.train_cached),
    Row("loop", Target(0.97), training.loop),
    Row("eval", Target(0.93), evaluation.evaluate),
    Row("command", Target(3), evaluation.first),
    Row("command-again", Target(6), evaluation.again),
    Row("store", Target(0.9), building.store),
    Row("store-memory", Target(1, at_least=False), building.store_memory),
    Row("memory", Target(1.05, at_least=False), training.memory),
    Row("memory-short", Target(1.05, at_least=False), training.memory_short),
    Row("import", STARTUP, starting.imported),
    Row("list", STARTUP, starting.listed),
    Row("help", STARTUP, starting.helped),
    Row("gpu", Target(4000), gpu.live),
    Row("gpu-cached", Target(7000), gpu.cached),
    Row("gpu-512", Target(4000), gpu.live_512),
    Row("gpu-512-cached", Target(7000), gpu.cached_512),
)
