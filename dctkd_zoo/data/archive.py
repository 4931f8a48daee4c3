"""Zip or tar archive -> its files in a folder: all of them or none, and nothing outside the folder.

Members are copied out one by one instead of by `extractall`: only plain files and folders are ever
made, so no link can lead a later member astray, whatever Python's version guards against by itself.
"""

from __future__ import annotations

import errno
import shutil
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO, Self

from dctkd_zoo.errors import DatasetError, reason_of

# What the names in an archive lead to: a file where a folder is due, and names that a disk does not take.
UNFIT = {errno.EEXIST, errno.EISDIR, errno.ENOTDIR, errno.ENOTEMPTY, errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL}
CHUNK = 1 << 20
BLOCK = 4096  # bytes that a file takes at least
RATIO, SMALL = (
    200,
    64 << 20,
)  # what comes out, in sizes of the archive, and bytes that any may hold; images hardly shrink
RESERVE = 256 << 20  # bytes of the disk that are left to others
NAME, DEPTH = 1024, 64  # letters of a member's name, and folders in it
OWN = frozenset({".fetched", ".unpacking"})  # names at the top that this package keeps for itself
LONG_HEADER = 1 << 20  # bytes of a tar's extended header, which is read into memory
HEADERS = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)


@dataclass(frozen=True)
class _Member:
    name: str
    folder: bool
    open: Callable[[], IO[bytes]]


class _Header(tarfile.TarInfo):
    """One whose extensions do not fill the memory."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        result = super().frombuf(buf, encoding, errors)
        if result.type in HEADERS and result.size > LONG_HEADER:
            raise tarfile.ReadError(f"a header of {result.size:,} bytes")
        return result


def unpack(archive: Path, folder: Path, advance: Callable[[int, int], None]) -> tuple[str, ...]:
    """Put what is in `archive` into `folder`, replacing files of the same name; the names at its top.

    `DatasetError` for an archive that is broken, has a member that is not a file within the folder, or holds more
    than the disk does, or than images can: before anything of it is in the folder.
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
    except DatasetError:
        raise
    except OSError as error:
        if error.errno is not None and error.errno not in UNFIT:
            raise
        raise DatasetError(f"{archive}: the archive is broken: {reason_of(error)}") from error
    except Exception as error:  # the readers raise whatever damaged bytes lead them to
        raise DatasetError(f"{archive}: the archive is broken: {reason_of(error)}") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _unpack_all(archive: Path, staging: Path, advance: Callable[[int, int], None]) -> None:
    size, taken, chunk = archive.stat().st_size, 0, b""
    room = shutil.disk_usage(staging).free - RESERVE
    bound, why = max(RATIO * size, SMALL), f"{RATIO} times its own {size:,} bytes"
    if room < bound:
        bound, why = room, f"the {room + RESERVE:,} bytes that are free in {staging.parent}, less a reserve"
    with archive.open("rb") as raw:
        for member in _members(archive, raw):
            target = staging / _inside(archive, member.name)
            taken += BLOCK
            if member.folder:
                target.mkdir(parents=True, exist_ok=True)
            else:
                target.parent.mkdir(parents=True, exist_ok=True)
                with member.open() as source, target.open("wb") as file:
                    while taken <= bound and (chunk := source.read(CHUNK)):
                        taken += len(chunk)
                        file.write(chunk)
            if taken > bound:
                raise DatasetError(f"{archive}: refused, nothing was unpacked: it holds more than {why}")
            advance(raw.tell(), size)


def _members(archive: Path, raw: IO[bytes]) -> Iterator[_Member]:
    if zipfile.is_zipfile(raw):
        with zipfile.ZipFile(raw) as packed:
            yield from (_zipped(archive, packed, info) for info in packed.infolist())
    else:
        raw.seek(0)
        with tarfile.open(fileobj=raw, tarinfo=_Header) as tar:
            yield from (_tarred(archive, tar, info) for info in tar)
            assert tar.fileobj is not None
            tar.fileobj.seek(tar.offset)
            if tar.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):  # iteration just ends at a bad header
                raise tarfile.ReadError(f"after {tar.offset:,} bytes there is neither a member nor the mark of its end")


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
    if len(name) > NAME or len(path.parts) > DEPTH:
        raise _refused(archive, f"{name[:40]}...", f"has more than {NAME} letters or {DEPTH} folders in its name")
    if path.parts[:1] and path.parts[0].casefold() in OWN:
        raise _refused(archive, name, "has a name that is kept for what is being fetched")
    return PurePosixPath(name)


def _refused(archive: Path, name: str, why: str) -> DatasetError:
    return DatasetError(f"{archive}: refused, nothing was unpacked: member {name!r} {why}")


def _move(source: Path, target: Path) -> None:
    if source.is_dir() and target.is_dir():  # two archives may share a folder
        for path in source.iterdir():
            _move(path, target / path.name)
    else:
        source.replace(target)
