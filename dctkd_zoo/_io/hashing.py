"""Hashes of files: sha256, and git's sha1 of blobs."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path


def sha256(path: Path) -> str:
    """Return the hex sha256 of a file, the Hub's hash of a large file (LFS)."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def of_files(root: Path, patterns: Iterable[str]) -> str:
    """Return the hex sha256 of the names and contents of the files below `root` that match the glob `patterns`."""
    result = hashlib.sha256()
    for path in sorted({path for pattern in patterns for path in root.glob(pattern)}):
        result.update(f"{path.relative_to(root).as_posix()}\t{sha256(path)}\n".encode())
    return result.hexdigest()


def git_sha1(path: Path) -> str:
    """Return the hex sha1 of a file as a git blob, the Hub's hash of a small file."""
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0%b" % (len(content), content), usedforsecurity=False).hexdigest()


def like(digest: str, path: Path) -> str:
    """Return the same kind of hash of a file as `digest`: git's sha1 for 40 digits, sha256 for 64."""
    return git_sha1(path) if len(digest) == 40 else sha256(path)
