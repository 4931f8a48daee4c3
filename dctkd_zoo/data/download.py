"""URL -> file: resumed where the connection broke off, checked, and only then called by its name.

Written on the standard library: pooch, the usual choice, starts a broken download of 37 GB afresh.
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

Advance = Callable[[int, int | None], None]  # bytes done, bytes in all where that is known

TRIES = 5  # in a row that bring nothing new
PAUSE = 1.0  # s before the second of them, and as much more before each that follows
TIMEOUT = 60.0  # s without a byte
CHUNK = 1 << 20
DROPPED = (ConnectionError, HTTPException, TimeoutError, URLError)
PASSING = (408, 429)  # the statuses below 500 that a later request may not meet


def download(archive: Archive, target: Path, advance: Advance) -> str:
    """Fetch `archive` to `target`, through `<target>.part`, and return its sha256.

    `DatasetError` where the server refuses or stays silent, the disk has no room, or the hash differs twice.
    """
    part = target.with_name(f"{target.name}.part")
    for _ in range(2):  # a part left from an older version of the file spoils the first
        _receive_all(archive, part, advance)
        result = sha256(part)
        if archive.sha256 in (None, result):
            settle(part, target)
            return result
        part.unlink()
    raise DatasetError(f"{archive.url}: sha256 is {result}, {archive.sha256} expected, twice; the file was deleted")


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
            kept = f"{_size(part):,} bytes are kept and the same command goes on from there"
            raise DatasetError(
                f"{archive.url}: gave up after {TRIES} attempts: {reason_of(reason)}; {kept}"
            ) from reason
        time.sleep(PAUSE * failures)


def _receive(archive: Archive, part: Path, advance: Advance) -> None:
    """Append to `part` what it lacks; one of `DROPPED` where that does not arrive."""
    start = _size(part)
    try:
        response = _open(archive.url, start)
    except HTTPError as error:
        with error:
            if error.code == 416 and error.headers.get("Content-Range") == f"bytes */{start}":
                return  # the part is the whole file
            if error.code < 500 and error.code not in (*PASSING, 416):
                raise DatasetError(f"{archive.url}: the server answers {error.code} {error.reason}") from error
        if error.code == 416:  # more than there is: left from another file
            part.unlink()
        raise
    with response:
        if response.status != 206:  # a server that knows no ranges sends everything
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
    if total is not None and done < total:  # `read` takes a closed connection for the end
        raise ConnectionError(f"the connection broke off at {done:,} of {total:,} bytes")


def _check_room(archive: Archive, part: Path, total: int, start: int) -> None:
    # An archive and what was in it lie side by side for a while; images do not compress further.
    need = total - start + (total if archive.unpack else 0)
    free = shutil.disk_usage(part.parent).free
    if free < need:
        raise DatasetError(f"{archive.url}: needs {need:,} bytes in {part.parent}, {free:,} are free")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
