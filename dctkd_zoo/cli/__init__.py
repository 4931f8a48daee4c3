"""Commands of `python -m dctkd_zoo`, one module each: `add` declares the arguments, a function runs the command."""
