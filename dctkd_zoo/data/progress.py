"""Progress bars: on stderr of a terminal, and disabled elsewhere."""

from __future__ import annotations

from typing import Any

from rich.console import Console

from dctkd_zoo import distributed


def progress_options() -> dict[str, Any]:
    """Return keyword arguments for `rich.progress.track` and `Progress`."""
    console = Console(stderr=True)
    return {"console": console, "transient": True, "disable": not (console.is_terminal and distributed.is_primary())}
