"""Speed benchmarks that compare two implementations in one run (`python -m benchmarks`)."""
