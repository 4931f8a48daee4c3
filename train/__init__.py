"""Entries to trained networks: `python -m train NAME`."""
