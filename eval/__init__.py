"""Evaluation: metrics, statistics, tables, model cards and the report (`python -m eval`)."""

import dctkd_zoo  # noqa: F401  makes modules importable under their earlier names too
