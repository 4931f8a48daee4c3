"""File reading and writing: atomic replacement, locks, hashes, checked CSV and JSON."""
