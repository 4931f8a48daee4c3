"""The commands of `python -m dctkd_zoo`, a module each: `add` its arguments, run it, print what came of it."""
