"""Timing of two sides in turn, and what the machine is."""
