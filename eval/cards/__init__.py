"""Model cards, rendered from the catalog and eval/results.csv."""
