"""Evaluation of an entry: per-image tables, metrics, rows of results.csv, verification."""
