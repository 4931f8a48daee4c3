"""benchmarks.cases."""
