"""Reading and writing files: atomic replacement, locks, hashes, CSV and JSON that are checked."""
