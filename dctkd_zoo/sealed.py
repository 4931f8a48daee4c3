"""JSON with the sha256 of its content: a file that was torn or flipped is told from one that was written so."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from dctkd_zoo import atomic
from dctkd_zoo.errors import CorruptCache


def write(path: Path, content: Any) -> None:
    """Make `content`, which JSON can hold, the content of `path`, sealed."""
    text = json.dumps(content)
    atomic.write_text(path, json.dumps({"sha256": _seal(text), "content": content}))


def read(path: Path) -> Any:
    """The content of a sealed file; `CorruptCache` where it is not what was written, `OSError` where it is missing."""
    try:
        told = json.loads(path.read_bytes())
        whole = told["sha256"] == _seal(json.dumps(told["content"]))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CorruptCache(f"{path} is damaged ({error}): delete it to have it made anew") from error
    if not whole:
        raise CorruptCache(f"{path} is damaged (its content does not match its sha256): delete it to have it made anew")
    return told["content"]


def _seal(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
