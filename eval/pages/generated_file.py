"""A page whose text is generated, in whole or between markers, to what keeps it so: made anew, or checked."""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Callable
from pathlib import Path

from dctkd_zoo._io import atomic, paths
from dctkd_zoo.cli import shell


def command(
    path: Path,
    filled: Callable[[str], str],
    program: str,
    words: str | None,
    arguments: list[str] | None = None,
    whole: bool = False,
) -> int:
    """Fill a page in, or with `--check` tell how it would change; 1 where it is stale.

    One that is generated as a `whole` need not be there.
    """
    parser = argparse.ArgumentParser(prog=program, description=words)
    parser.add_argument("--check", action="store_true", help="change nothing; fail and show what would change")
    return shell.run(lambda: _fill(path, filled, parser.parse_args(arguments).check, whole))


def _fill(path: Path, filled: Callable[[str], str], check: bool, whole: bool) -> int:
    old = "" if whole and not path.exists() else path.read_text(encoding="utf-8")
    new = filled(old)
    if not check:
        paths.refuse_installed(path, "make it in a checkout of the project")
        if new != old:
            atomic.write_text(path, new)
        return 0
    named = (path.name, f"{path.name} as it should be")
    diff = difflib.unified_diff(old.splitlines(True), new.splitlines(True), *named)
    sys.stdout.writelines(diff)
    return int(new != old)
