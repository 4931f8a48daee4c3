"""Networks for the page: what the browser needs to run one, and what a reader should know about it."""

from __future__ import annotations

import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dctkd_zoo import models, onnx, registry, weights
from dctkd_zoo.errors import UnsupportedNetwork
from dctkd_zoo.onnx import export
from dctkd_zoo.predictor import Predictor
from dctkd_zoo.spec import Dataset, Entry
from dctkd_zoo.weights import licence
from eval.cards import facts
from eval.run import results_csv
from eval.run.results_csv import Row

FILTERS = ("bilinear", "bicubic")  # of Pillow, that pillow.js has


@dataclass(frozen=True)
class Network:
    """A network of the page: its ONNX file, its preprocessing for the browser, and facts for the reader.

    `entry`, `dataset` and `measured`, its row of the results file, are None for a network from elsewhere. `repo` is
    where it is on the Hub, if it is there.
    """

    predictor: Predictor
    onnx: bytes
    preprocessing: dict[str, Any]
    parameters: int
    licence: str | None
    repo: str | None
    entry: Entry | None
    dataset: Dataset | None
    measured: Row | None

    @property
    def name(self) -> str:
        """The entry's name, or the architecture of a network from elsewhere."""
        return self.predictor.name

    def for_browser(self) -> dict[str, Any]:
        """Return what the script needs to know, as JSON."""
        return {"name": self.name, "classes": self.predictor.classes, **self.preprocessing}


def describe(predictor: Predictor) -> Network:
    """Return a loaded network for the page; `UnsupportedNetwork` if a browser could not run or feed it."""
    checkpoint = predictor.weights
    assert checkpoint is not None, "a network of an entry or from a folder"
    config = weights.read_config(checkpoint.folder)
    entry = registry.get_entry(predictor.name) if registry.knows(predictor.name) else None
    card = facts.gather(entry, results_csv.read(results_csv.RESULTS)) if entry else None
    rows = card.measured("exact") if card else []
    exported = export.Network(predictor.name, predictor.network.model, checkpoint, predictor.classes)
    return Network(
        predictor,
        to_onnx(exported),
        preprocessing(exported),
        models.parameters(predictor.network),
        licence.of_config(config) or (card.licence if card else None),
        weights.published().get(predictor.name, {}).get("repo"),
        entry,
        card.dataset if card else None,
        next((row for row in rows if row.get("weights_sha256") == checkpoint.sha256), None),
    )


def preprocessing(exported: export.Network) -> dict[str, Any]:
    """Return a network's preprocessing for the script; `UnsupportedNetwork` if its filter is none of `FILTERS`."""
    prepared = exported.preprocessing()
    if prepared.interpolation not in FILTERS:
        raise UnsupportedNetwork(
            f"{exported.name} takes images resized {prepared.interpolation}: the page has only {' and '.join(FILTERS)}"
        )
    return asdict(prepared)


def to_onnx(exported: export.Network) -> bytes:
    """Return a network as an ONNX file with its activation maps, in as few bytes as its weights need."""
    with tempfile.TemporaryDirectory(prefix="demo.") as folder:
        path = Path(folder) / onnx.FLOAT
        export.to_onnx(exported, export.Form(maps=True, fold=False), path)
        return halved(path.read_bytes())


def halved(model: bytes) -> bytes:
    """Return an ONNX file with all weights that float16 represents exactly stored as float16; it computes the same.

    Bundled weights are stored that way. A cast before the first layer restores float32.
    """
    onnx_package = onnx.optional("onnx")
    proto = onnx_package.load_model_from_string(model)
    casts, float32 = [], onnx_package.TensorProto.FLOAT
    for tensor in proto.graph.initializer:
        values = onnx_package.numpy_helper.to_array(tensor)
        with np.errstate(over="ignore"):
            half = values.astype(np.float16) if values.dtype == np.float32 else values
        if half.dtype == values.dtype or not np.array_equal(half.astype(np.float32), values):
            continue
        name = tensor.name
        tensor.CopyFrom(onnx_package.numpy_helper.from_array(half, f"{name}.float16"))
        casts.append(onnx_package.helper.make_node("Cast", [f"{name}.float16"], [name], to=float32))
    nodes = [*casts, *proto.graph.node]
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)
    del proto.graph.value_info[:]
    onnx_package.checker.check_model(proto)
    return bytes(proto.SerializeToString())
