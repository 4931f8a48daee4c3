"""Generated text in Markdown files, a whole page or blocks between markers: written, or checked to be up to date."""

from __future__ import annotations

import argparse
import difflib
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from dctkd_zoo._io import atomic, paths
from dctkd_zoo.cli import shell
from dctkd_zoo.errors import ZooError


def blocks(text: str, made: Mapping[str, str]) -> str:
    """Replace what stands between `<!-- NAME -->` and `<!-- /NAME -->`, for each name of `made`.

    `ZooError` where a name has not exactly one such block.
    """
    for name, new in made.items():
        parts = re.split(rf"(<!-- /?{name} -->)", text)
        if parts[1::2] != [f"<!-- {name} -->", f"<!-- /{name} -->"]:
            raise ZooError(f"one <!-- {name} --> with one <!-- /{name} --> after it is needed")
        text = "".join([*parts[:2], f"\n\n{new.strip()}\n\n", *parts[3:]])
    return text


def command(
    path: Path,
    filled: Callable[[str], str],
    program: str,
    words: str | None,
    arguments: list[str] | None = None,
    whole: bool = False,
) -> int:
    """Write a generated page, or with `--check` print how it would change; return 1 if it is stale.

    A page that is generated as a `whole` need not exist.
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
