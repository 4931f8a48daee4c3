"""benchmarks.harness."""
