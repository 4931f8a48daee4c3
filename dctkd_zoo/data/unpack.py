"""Zip or tar archive -> its files in a folder: all of them or none, and nothing outside the folder.

Members are copied out one by one instead of by `extractall`: only plain files and folders are ever
made, so no link can lead a later member astray, whatever Python's version guards against by itself.
"""

from __future__ import annotations

import lzma
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO

from dctkd_zoo.errors import DatasetError

BROKEN = (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError)


@dataclass(frozen=True)
class _Member:
    name: str
    folder: bool
    open: Callable[[], IO[bytes]]


def unpack(archive: Path, folder: Path, advance: Callable[[int, int], None]) -> tuple[str, ...]:
    """Put what is in `archive` into `folder`, replacing files of the same name; the names at its top.

    `DatasetError` for an archive that is broken or has a member that is not a file within the folder.
    """
    staging = folder / ".unpacking"
    shutil.rmtree(staging, ignore_errors=True)  # a killed run may have left it
    staging.mkdir(parents=True)
    try:
        _unpack_all(archive, staging, advance)
        names = tuple(sorted(path.name for path in staging.iterdir()))
        for name in names:
            _move(staging / name, folder / name)
        return names
    except BROKEN as error:
        raise DatasetError(f"{archive}: the archive is broken: {error}") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _unpack_all(archive: Path, staging: Path, advance: Callable[[int, int], None]) -> None:
    size = archive.stat().st_size
    with archive.open("rb") as raw:
        for member in _members(archive, raw):
            target = staging / _inside(archive, member.name)
            if member.folder:
                target.mkdir(parents=True, exist_ok=True)
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            with member.open() as source, target.open("wb") as file:
                shutil.copyfileobj(source, file)
            advance(raw.tell(), size)


def _members(archive: Path, raw: IO[bytes]) -> Iterator[_Member]:
    if zipfile.is_zipfile(raw):
        with zipfile.ZipFile(raw) as packed:
            yield from (_zipped(archive, packed, info) for info in packed.infolist())
    else:
        raw.seek(0)
        with tarfile.open(fileobj=raw) as tar:
            yield from (_tarred(archive, tar, info) for info in tar)


def _zipped(archive: Path, packed: zipfile.ZipFile, info: zipfile.ZipInfo) -> _Member:
    if stat.S_ISLNK(info.external_attr >> 16):
        raise _refused(archive, info.filename, "is a link")
    return _Member(info.filename, info.is_dir(), lambda: packed.open(info))


def _tarred(archive: Path, tar: tarfile.TarFile, info: tarfile.TarInfo) -> _Member:
    if not (info.isdir() or info.isreg() or info.issym() or info.islnk()):
        raise _refused(archive, info.name, "is neither a file nor a folder")

    def content() -> IO[bytes]:
        try:
            file = tar.extractfile(info)  # of a link: the file in this archive that it points to
        except (KeyError, RecursionError) as error:
            raise _refused(archive, info.name, f"links to {info.linkname!r}, no file of the archive") from error
        if file is None:
            raise _refused(archive, info.name, f"links to the folder {info.linkname!r}")
        return file

    return _Member(info.name, info.isdir(), content)


def _inside(archive: Path, name: str) -> PurePosixPath:
    path = PureWindowsPath(name)  # knows both kinds of separators, and drives
    if path.anchor or ".." in path.parts:
        raise _refused(archive, name, "lies outside the archive's folder")
    return PurePosixPath(name)


def _refused(archive: Path, name: str, why: str) -> DatasetError:
    return DatasetError(f"{archive}: refused, nothing was unpacked: member {name!r} {why}")


def _move(source: Path, target: Path) -> None:
    if source.is_dir() and target.is_dir():  # two archives may share a folder
        for path in source.iterdir():
            _move(path, target / path.name)
    else:
        source.replace(target)
