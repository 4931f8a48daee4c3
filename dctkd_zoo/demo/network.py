"""Networks for the page: what the browser needs to run one, and what a reader should know about it."""

from __future__ import annotations

import copy
import importlib
import math
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from timm.data.config import resolve_model_data_config
from torch import Tensor, nn

from dctkd_zoo import models, registry, weights
from dctkd_zoo.attention import activation_map
from dctkd_zoo.errors import UnsupportedNetwork, ZooError, reason_of
from dctkd_zoo.features import FeatureExtractor
from dctkd_zoo.predict import Predictor
from dctkd_zoo.spec import Dataset, Entry
from dctkd_zoo.weights import licence
from eval.cards import facts
from eval.run import results_csv
from eval.run.results_csv import Row

FILTERS = ("bilinear", "bicubic")  # of Pillow, that pillow.js has
OPSET = 18


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
    config = weights.read_config(predictor.weights.folder)
    entry = registry.get_entry(predictor.name) if registry.knows(predictor.name) else None
    card = facts.gather(entry, results_csv.read(results_csv.RESULTS)) if entry else None
    sha256 = predictor.weights.sha256
    rows = card.measured("exact") if card else []
    return Network(
        predictor,
        to_onnx(predictor),
        preprocessing(predictor),
        models.parameters(predictor.network),
        licence.of_config(config) or (card.licence if card else None),
        weights.published().get(predictor.name, {}).get("repo"),
        entry,
        card.dataset if card else None,
        next((row for row in rows if row.get("weights_sha256") == sha256), None),
    )


def preprocessing(predictor: Predictor) -> dict[str, Any]:
    """Return the preprocessing in a network's `config.json`: short side to `resize` px, centre crop of `size` px.

    `UnsupportedNetwork` if it is anything else than a bilinear or bicubic resize and a square centre crop of RGB.
    """
    config = resolve_model_data_config(predictor.network.model)
    channels, height, width = config["input_size"]
    given = f"{channels} x {height} x {width}, {config['interpolation']}, crop_mode {config['crop_mode']}"
    resize = math.floor(height / config["crop_pct"])
    is_centre_crop = channels == 3 and height == width <= resize and config["crop_mode"] == "center"
    if not is_centre_crop or config["interpolation"] not in FILTERS:
        raise UnsupportedNetwork(
            f"{predictor.name} takes {given}: the page has only square centre crops of RGB images, resized "
            + " or ".join(FILTERS)
        )
    return {
        "size": height,
        "resize": resize,
        "interpolation": config["interpolation"],
        "mean": config["mean"],
        "std": config["std"],
    }


class _WithMaps(nn.Module):
    def __init__(self, network: FeatureExtractor) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        output = self.network(images)
        return (output.logits, *map(activation_map, output.maps))


def to_onnx(predictor: Predictor) -> bytes:
    """Return a network as an ONNX file: `pixel_values` (1, 3, S, S) -> `logits` (1, K) and `map_1` ... (1, h, w).

    Batch norms are not folded, so that weights that were stored as float16 still fit into it: see `halved`.
    """
    for package in ("onnx", "onnxscript"):
        _optional(package)
    side = resolve_model_data_config(predictor.network.model)["input_size"][1]
    module, images = _WithMaps(copy.deepcopy(predictor.network).cpu()).eval(), torch.zeros(1, 3, side, side)
    with torch.no_grad(), warnings.catch_warnings(action="ignore"), tempfile.TemporaryDirectory() as folder:
        names = ["logits", *(f"map_{level}" for level in range(1, len(module(images))))]
        path = Path(folder) / "model.onnx"
        try:
            torch.onnx.export(
                module,
                (images,),
                path,
                dynamo=True,
                optimize=False,
                opset_version=OPSET,
                input_names=["pixel_values"],
                output_names=names,
                external_data=False,
                verbose=False,
            )
        except Exception as error:  # the exporter wraps whatever a network's code or an unknown operator raises
            first = reason_of(error).splitlines()[0]
            raise UnsupportedNetwork(f"{predictor.name}: torch cannot export it: {first}") from error
        return halved(path.read_bytes())


def halved(model: bytes) -> bytes:
    """Return an ONNX file with all weights that float16 represents exactly stored as float16; it computes the same.

    Bundled weights are stored that way. A cast before the first layer restores float32.
    """
    onnx = _optional("onnx")
    proto = onnx.load_model_from_string(model)
    casts = []
    for tensor in proto.graph.initializer:
        values = onnx.numpy_helper.to_array(tensor)
        with np.errstate(over="ignore"):
            half = values.astype(np.float16) if values.dtype == np.float32 else values
        if half.dtype == values.dtype or not np.array_equal(half.astype(np.float32), values):
            continue
        name = tensor.name
        tensor.CopyFrom(onnx.numpy_helper.from_array(half, f"{name}.float16"))
        casts.append(onnx.helper.make_node("Cast", [f"{name}.float16"], [name], to=onnx.TensorProto.FLOAT))
    nodes = [*casts, *proto.graph.node]
    for node in nodes:  # lines of code with their paths
        node.ClearField("metadata_props")
        node.ClearField("doc_string")
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)
    del proto.graph.value_info[:]
    onnx.checker.check_model(proto)
    return bytes(proto.SerializeToString())


def _optional(package: str) -> Any:
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise ZooError(f"the page needs {package}: pip install 'dctkd-zoo[onnx]'") from error
