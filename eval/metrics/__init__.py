"""Metrics, one per module; modules that begin with an underscore are shared code."""
