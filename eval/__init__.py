"""Evaluation: metrics, statistics, tables, model cards and the report (`python -m eval`)."""

import dctkd_zoo  # noqa: F401  modules are also found by their earlier names
