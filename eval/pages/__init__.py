"""The generated tables of README.md and RESULTS.md."""
