"""Download and unpacking of a dataset's archives, each once."""

from __future__ import annotations

import json
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from dctkd_zoo._io.atomic import write_text
from dctkd_zoo._io.hashing import sha256
from dctkd_zoo.data.archive import unpack
from dctkd_zoo.data.download import download
from dctkd_zoo.data.progress import progress_options
from dctkd_zoo.errors import DatasetError, reason_of
from dctkd_zoo.spec import Archive, Dataset

FETCHED = ".fetched"  # holds archives while they arrive, and afterwards a record of each


def fetch(dataset: Dataset, root: Path) -> None:
    """Download and unpack the archives of `dataset` into `root`, its own folder; skip those that are there already.

    `DatasetError` if it has no archives, or if one is not available, does not fit on the disk, has another hash than
    expected, or is unsafe to unpack. What was received is kept, and the next call resumes from it.
    """
    if not dataset.archives:
        raise DatasetError(
            f"{dataset.name} has no archive to download; get it from {dataset.url} and put it into {root}"
        )
    (root / FETCHED).mkdir(parents=True, exist_ok=True)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, TimeRemainingColumn(), **progress_options()) as progress:
        for archive in dataset.archives:
            try:
                _provide(archive, root, progress)
            except OSError as error:
                raise DatasetError(
                    f"{archive.url}: {reason_of(error)}; run the same command again to resume"
                ) from error


def _provide(archive: Archive, root: Path, progress: Progress) -> None:
    name = unquote(PurePosixPath(urlsplit(archive.url).path).name)
    record = root / FETCHED / f"{name}.json"
    if _is_done(record, archive, root):
        progress.console.print(f"{escape(name)} is already there; to download it again, delete {escape(str(record))}")
        return
    target = root / FETCHED / name if archive.unpack else root / name
    content = _received(archive, target, progress)
    names = _unpacked(target, root, progress) if archive.unpack else (name,)
    write_text(record, json.dumps({"url": archive.url, "sha256": content, "names": names}, indent=1) + "\n")
    if archive.unpack:
        target.unlink()
    progress.console.print(f"{escape(name)} is in {escape(str(root))}, sha256 {content}")


def _is_done(record: Path, archive: Archive, root: Path) -> bool:
    if not record.is_file():
        return False
    recorded = json.loads(record.read_text())
    same = recorded["url"] == archive.url and archive.sha256 in (None, recorded["sha256"])
    return same and all((root / name).exists() for name in recorded["names"])


def _received(archive: Archive, target: Path, progress: Progress) -> str:
    """Download the archive to `target`, unless it is there, and return its sha256."""
    if target.is_file():  # left by a run that was stopped before unpacking it
        content = sha256(target)
        if archive.sha256 in (None, content):
            return content
    task = progress.add_task(escape(target.name), total=None)
    return download(archive, target, lambda done, total: progress.update(task, completed=done, total=total))


def _unpacked(target: Path, root: Path, progress: Progress) -> tuple[str, ...]:
    task = progress.add_task(f"unpacking {escape(target.name)}", total=None)
    try:
        return unpack(target, root, lambda done, total: progress.update(task, completed=done, total=total))
    except DatasetError:
        target.unlink()  # otherwise each run would find the broken archive
        raise
