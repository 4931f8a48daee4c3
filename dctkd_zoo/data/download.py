"""Resumable downloads: continued where the connection broke off, checked, and only then given their name.

They use the standard library: pooch, the usual choice, restarts a broken download of 37 GB from the beginning.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from dctkd_zoo._io.atomic import settle
from dctkd_zoo._io.hashing import sha256
from dctkd_zoo.errors import DatasetError, reason_of
from dctkd_zoo.spec import Archive

Advance = Callable[[int, int | None], None]  # called with the bytes done, and in all if known

TRIES = 5  # attempts in a row without progress
PAUSE = 1.0  # s before the second attempt, and as much more before each following one
TIMEOUT = 60.0  # s without a byte
CHUNK = 1 << 20
DROPPED = (ConnectionError, HTTPException, TimeoutError, URLError)
PASSING = (408, 429)  # statuses below 500 that may be temporary


def download(archive: Archive, target: Path, advance: Advance) -> str:
    """Download `archive` to `target`, through `<target>.part`, and return its sha256.

    `DatasetError` if the server refuses or does not answer, the disk is full, or the hash differs twice.
    """
    part = target.with_name(f"{target.name}.part")
    for _ in range(2):  # the first may fail for a part of an older version of the file
        _receive_all(archive, part, advance)
        result = sha256(part)
        if archive.sha256 in (None, result):
            settle(part, target)
            return result
        part.unlink()
    raise DatasetError(f"{archive.url}: sha256 is {result} instead of {archive.sha256}, twice; the file was deleted")


def _receive_all(archive: Archive, part: Path, advance: Advance) -> None:
    failures, most = 0, _size(part)
    while True:
        try:
            return _receive(archive, part, advance)
        except DROPPED as error:
            reason = error
        failures = 0 if _size(part) > most else failures + 1
        most = max(most, _size(part))
        if failures == TRIES:
            hint = f"{_size(part):,} bytes are kept, run the same command again to resume"
            raise DatasetError(
                f"{archive.url}: gave up after {TRIES} attempts: {reason_of(reason)}; {hint}"
            ) from reason
        time.sleep(PAUSE * failures)


def _receive(archive: Archive, part: Path, advance: Advance) -> None:
    """Append what is missing to `part`; one of `DROPPED` if it does not arrive."""
    start = _size(part)
    try:
        response = _open(archive.url, start)
    except HTTPError as error:
        with error:
            if error.code == 416 and error.headers.get("Content-Range") == f"bytes */{start}":
                return  # the part is already complete
            if error.code < 500 and error.code not in (*PASSING, 416):
                raise DatasetError(f"{archive.url}: the server answers {error.code} {error.reason}") from error
        if error.code == 416:  # longer than the file: left from another one
            part.unlink()
        raise
    with response:
        if response.status != 206:  # a server without range requests sends everything
            start = 0
        length = response.headers.get("Content-Length")
        total = None if length is None else start + int(length)
        if total is not None:
            _check_room(archive, part, total, start)
        _copy(response, part, start, total, advance)


def _open(url: str, start: int) -> HTTPResponse:
    headers = {"User-Agent": "dctkd_zoo"} | ({"Range": f"bytes={start}-"} if start else {})
    response: HTTPResponse = urlopen(Request(url, headers=headers), timeout=TIMEOUT)
    return response


def _copy(response: HTTPResponse, part: Path, start: int, total: int | None, advance: Advance) -> None:
    done = start
    with part.open("ab" if start else "wb") as file:
        while chunk := response.read(CHUNK):
            file.write(chunk)
            done += len(chunk)
            advance(done, total)
    if total is not None and done < total:  # `read` treats a closed connection as the end
        raise ConnectionError(f"the connection broke off at {done:,} of {total:,} bytes")


def _check_room(archive: Archive, part: Path, total: int, start: int) -> None:
    # An archive and its content are on disk together for a while; images do not compress further.
    need = total - start + (total if archive.unpack else 0)
    free = shutil.disk_usage(part.parent).free
    if free < need:
        raise DatasetError(f"{archive.url}: needs {need:,} bytes in {part.parent}, {free:,} are free")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
