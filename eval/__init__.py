"""Entries to a leaderboard: `python -m eval --all`."""
