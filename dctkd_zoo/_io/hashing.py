"""Files to their hashes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path


def sha256(path: Path) -> str:
    """Hex sha256 of a file: what the Hub keeps a large file (LFS) under."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def of_files(root: Path, patterns: Iterable[str]) -> str:
    """Hex sha256 of the files below `root` that the glob `patterns` find: of their names and their bytes."""
    result = hashlib.sha256()
    for path in sorted({path for pattern in patterns for path in root.glob(pattern)}):
        result.update(f"{path.relative_to(root).as_posix()}\t{sha256(path)}\n".encode())
    return result.hexdigest()


def git_sha1(path: Path) -> str:
    """Hex sha1 of a file as a blob of git: what the Hub keeps a small file under."""
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0%b" % (len(content), content), usedforsecurity=False).hexdigest()


def like(digest: str, path: Path) -> str:
    """The hash of a file by the function that `digest` is of: 40 digits are a blob's of git, 64 a sha256."""
    return git_sha1(path) if len(digest) == 40 else sha256(path)
