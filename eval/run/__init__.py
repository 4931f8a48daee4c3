"""eval.run."""
