"""eval.pages."""
