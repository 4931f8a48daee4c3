"""A Hub data set read as a stream, by timm's reader `hfids` -> Split; nothing of it is kept on disk.

It is read in order, and names, labels and columns are as in `hfds`. Labels are read first, without the images.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from dctkd_zoo.data.sources.hfds import check_columns, open_reader
from dctkd_zoo.data.split import Split, Stream
from dctkd_zoo.errors import DatasetMissing


def read(root: Path, split: str, name: str = "") -> Split:
    """The split "train" or "test" of the set `name`, else of that in the folder `root`; ids are `test/0000001`."""
    from datasets import Image
    from datasets.utils.file_utils import xopen

    def bytes_at(path: str) -> bytes:
        with xopen(path, "rb") as file:  # on the Hub, or within an archive there
            data: bytes = file.read()
        return data

    reader = open_reader("hfids", name, root, split, num_samples=1)  # they are counted, for a stream need not know
    part, stream = _opened(reader.builder, ("test", "validation") if split == "test" else (split,), name or str(root))
    features = stream.features or stream._resolve_features().features  # which some formats tell with their first row
    check_columns(features, name or str(root))
    labels = [row["label"] for row in stream.select_columns(["label"])]
    encoded = stream.select_columns(["image"]).cast_column("image", Image(decode=False))

    def start() -> Iterator[bytes]:
        for row in encoded:
            image = row["image"]
            yield image["bytes"] or bytes_at(image["path"])

    stamp = hashlib.sha256(f"{reader.builder.cache_dir}\n{part}".encode()).hexdigest()
    names = getattr(features["label"], "names", None)
    images = Stream(len(labels), start, f"{name or root}, {split}", stamp)
    ids = tuple(f"{split}/{index:07d}" for index in range(len(labels)))
    return Split(tuple(names or map(str, range(max(labels) + 1))), ids, np.array(labels, np.int64), images)


def _opened(builder: Any, parts: tuple[str, ...], what: str) -> tuple[str, Any]:
    """The first of `parts` that there is, and its stream."""
    for part in parts:
        try:
            return part, builder.as_streaming_dataset(part)
        except ValueError as error:
            reason = error
    raise DatasetMissing(f"{what} has no split {parts[0]}: {reason}")
