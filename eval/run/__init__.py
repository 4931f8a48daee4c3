"""Evaluation of an entry: per-image tables, the metrics of them, rows of results.csv, verification."""
