"""Benchmark harness: sizes, sides, timing and comparison."""
