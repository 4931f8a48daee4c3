"""Unpacking of zip and tar archives into a folder: all of their files or none, and nothing outside the folder.

Members are copied out one by one instead of with `extractall`: only plain files and folders are ever created, so no
link can redirect a later member, whatever Python's version guards against by itself.
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

# Errors that the names in an archive cause: a file where a folder should be, or names that the disk does not accept.
UNFIT = {errno.EEXIST, errno.EISDIR, errno.ENOTDIR, errno.ENOTEMPTY, errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL}
CHUNK = 1 << 20
BLOCK = 4096  # minimum bytes of a file on disk
RATIO = 200  # maximum size of the content, relative to the archive; images hardly compress
SMALL = 64 << 20  # bytes of content that any archive may have
RESERVE = 256 << 20  # bytes left free on the disk
NAME, DEPTH = 1024, 64  # maximum letters of a member's name, and folders in it
OWN = frozenset({".fetched", ".unpacking"})  # top-level names reserved for this package
LONG_HEADER = 1 << 20  # maximum bytes of a tar's extended header, which is read into memory
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
    """A tar header whose extensions are limited in size."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        result = super().frombuf(buf, encoding, errors)
        if result.type in HEADERS and result.size > LONG_HEADER:
            raise tarfile.ReadError(f"a header of {result.size:,} bytes")
        return result


def unpack(archive: Path, folder: Path, advance: Callable[[int, int], None]) -> tuple[str, ...]:
    """Unpack `archive` into `folder`, replacing files of the same name; return its top-level names.

    `DatasetError` for an archive that is broken, has a member that is not a file within the folder, or holds more than
    the disk can take or images can expand to; then nothing of it is in the folder.
    """
    staging = folder / ".unpacking"
    shutil.rmtree(staging, ignore_errors=True)  # left by a killed run
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
    except Exception as error:  # the readers may raise anything for damaged bytes
        raise DatasetError(f"{archive}: the archive is broken: {reason_of(error)}") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _unpack_all(archive: Path, staging: Path, advance: Callable[[int, int], None]) -> None:
    size, written, chunk = archive.stat().st_size, 0, b""
    room = shutil.disk_usage(staging).free - RESERVE
    bound, why = max(RATIO * size, SMALL), f"{RATIO} times its own {size:,} bytes"
    if room < bound:
        bound, why = room, f"the {room + RESERVE:,} bytes that are free in {staging.parent}, less a reserve"
    with archive.open("rb") as raw:
        for member in _members(archive, raw):
            target = staging / _inside(archive, member.name)
            written += BLOCK
            if member.folder:
                target.mkdir(parents=True, exist_ok=True)
            else:
                target.parent.mkdir(parents=True, exist_ok=True)
                with member.open() as source, target.open("wb") as file:
                    while written <= bound and (chunk := source.read(CHUNK)):
                        written += len(chunk)
                        file.write(chunk)
            if written > bound:
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
            if tar.fileobj.read(tarfile.BLOCKSIZE) != bytes(
                tarfile.BLOCKSIZE
            ):  # iteration ends silently at a bad header
                raise tarfile.ReadError(f"after {tar.offset:,} bytes there is neither a member nor the mark of its end")


def read_zip(archive: Path, wanted: Callable[[str], bool]) -> dict[str, bytes]:
    """Return the content of the files of a zip whose names are `wanted`, in memory.

    `DatasetError` for a broken archive, or one that holds more than XML and images can expand to.
    """
    try:
        with zipfile.ZipFile(archive) as packed:
            infos = [info for info in packed.infolist() if wanted(info.filename)]
            size = archive.stat().st_size
            if sum(info.file_size for info in infos) > max(RATIO * size, SMALL):
                raise DatasetError(f"{archive}: refused: it holds more than {RATIO} times its own {size:,} bytes")
            return {info.filename: packed.read(info) for info in infos}  # no more bytes of each than it declares
    except DatasetError:
        raise
    except Exception as error:  # the reader may raise anything for damaged bytes
        raise DatasetError(f"{archive}: {reason_of(error)}; copy it again") from error


def _zipped(archive: Path, packed: zipfile.ZipFile, info: zipfile.ZipInfo) -> _Member:
    if stat.S_ISLNK(info.external_attr >> 16):
        raise _refused(archive, info.filename, "is a link")
    return _Member(info.filename, info.is_dir(), lambda: packed.open(info))


def _tarred(archive: Path, tar: tarfile.TarFile, info: tarfile.TarInfo) -> _Member:
    if not (info.isdir() or info.isreg() or info.issym() or info.islnk()):
        raise _refused(archive, info.name, "is neither a file nor a folder")

    def content() -> IO[bytes]:
        try:
            file = tar.extractfile(info)  # for a link, the file in this archive that it points to
        except (KeyError, RecursionError) as error:
            raise _refused(
                archive, info.name, f"links to {info.linkname!r}, which is not a file of the archive"
            ) from error
        if file is None:
            raise _refused(archive, info.name, f"links to the folder {info.linkname!r}")
        return file

    return _Member(info.name, info.isdir(), content)


def _inside(archive: Path, name: str) -> PurePosixPath:
    path = PureWindowsPath(name)  # handles both kinds of separators, and drives
    if path.anchor or ".." in path.parts:
        raise _refused(archive, name, "lies outside the archive's folder")
    if len(name) > NAME or len(path.parts) > DEPTH:
        raise _refused(archive, f"{name[:40]}...", f"has more than {NAME} letters or {DEPTH} folders in its name")
    if path.parts[:1] and path.parts[0].casefold() in OWN:
        raise _refused(archive, name, "has a name reserved for downloads")
    return PurePosixPath(name)


def _refused(archive: Path, name: str, why: str) -> DatasetError:
    return DatasetError(f"{archive}: refused, nothing was unpacked: member {name!r} {why}")


def _move(source: Path, target: Path) -> None:
    if source.is_dir() and target.is_dir():  # two archives may share a folder
        for path in source.iterdir():
            _move(path, target / path.name)
    else:
        source.replace(target)
