"""Entries of the zoo, one file per dataset with its `DATASET` and its `ENTRIES`, one line per entry."""
