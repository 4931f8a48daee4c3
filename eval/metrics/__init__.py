"""Metrics, one module each; modules that begin with an underscore are shared by several."""
