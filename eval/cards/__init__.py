"""eval.cards."""
