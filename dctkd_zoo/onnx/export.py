"""Export of a network with its preprocessing: ONNX in float32, float16 and int8, or a program of torch.export."""

from __future__ import annotations

import copy
import json
import logging
import math
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from timm.data.config import resolve_model_data_config
from torch import Tensor, nn

from dctkd_zoo import models, weights
from dctkd_zoo.data.loader import normalise
from dctkd_zoo.errors import UnsupportedNetwork
from dctkd_zoo.features import run
from dctkd_zoo.onnx import IMAGE, LOGITS, MAP, PIXELS, first_line, optional
from dctkd_zoo.weights import Weights

OPSET = 18  # the newest that torch's exporter writes without converting
VERSION: str = sys.modules["dctkd_zoo"].__version__
CALIBRATION = 256  # training images that the ranges of int8 are taken from


@dataclass(frozen=True)
class Preprocessing:
    """Preprocessing of evaluation: the short side to `resize` px, a square centre crop of `size` px, normalisation.

    `crop_pct` is timm's form of the same: `resize` is `size / crop_pct`, rounded down.
    """

    size: int
    resize: int
    crop_pct: float
    interpolation: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def transformers(self) -> dict[str, Any]:
        """Return it as a `preprocessor_config.json` of transformers and transformers.js."""
        return {
            "image_processor_type": "CLIPImageProcessor",  # the one whose steps are these
            "do_convert_rgb": True,
            "do_resize": True,
            "size": {"shortest_edge": self.resize},
            "resample": int(Image.Resampling[self.interpolation.upper()]),
            "do_center_crop": True,
            "crop_size": {"height": self.size, "width": self.size},
            "do_rescale": True,
            "rescale_factor": 1 / 255,
            "do_normalize": True,
            "image_mean": list(self.mean),
            "image_std": list(self.std),
        }


@dataclass(frozen=True)
class Network:
    """A network to export, in evaluation mode on the CPU; `name` is an entry's, or else its architecture's."""

    name: str
    model: nn.Module
    weights: Weights
    classes: tuple[str, ...]

    def preprocessing(self) -> Preprocessing:
        """Return the preprocessing in its `config.json`; `UnsupportedNetwork` if that is no square centre crop."""
        config = resolve_model_data_config(self.model)
        channels, height, width = config["input_size"]
        if channels != 3 or height != width or config["crop_mode"] != "center":
            raise UnsupportedNetwork(
                f"{self.name} takes {channels} x {height} x {width} with crop_mode {config['crop_mode']}: only square "
                "centre crops of RGB images can be exported"
            )
        crop_pct, mean, std = config["crop_pct"], tuple(config["mean"]), tuple(config["std"])
        return Preprocessing(height, math.floor(height / crop_pct), crop_pct, config["interpolation"], mean, std)

    def metadata(self) -> dict[str, str]:
        """Return what a file says of itself: names and numbers as JSON, each under its name."""
        config = weights.read_config(self.weights.folder)
        prepared = self.preprocessing()
        facts = {
            "name": self.name,
            "class_names": list(self.classes),
            "license": (config.get("pretrained_cfg") or {}).get("license"),
            "input_size": [3, prepared.size, prepared.size],
            "resize": prepared.resize,
            "crop_pct": prepared.crop_pct,
            "interpolation": prepared.interpolation,
            "mean": list(prepared.mean),
            "std": list(prepared.std),
            "parameters": models.parameters(self.model),
            "weights_sha256": self.weights.sha256,
            "dctkd_zoo_version": VERSION,
        }
        return {name: value if isinstance(value, str) else json.dumps(value) for name, value in facts.items()}


@dataclass(frozen=True)
class Form:
    """Input and outputs of an exported network: activation maps besides the logits, uint8 images, float16 weights.

    Without `fold`, batch norms stay nodes of their own and weights keep their bits.
    """

    maps: bool = False
    uint8: bool = False
    half: bool = False
    fold: bool = True


class Exportable(nn.Module):
    """A network as it is exported: images -> (logits (N, K), then a map (N, h, w) per level), all float32.

    Images are normalised (N, 3, S, S), or with `uint8` pixels (N, S, S, 3).
    """

    def __init__(self, network: Network, form: Form) -> None:
        super().__init__()
        prepared = network.preprocessing()
        self.model = copy.deepcopy(network.model).half() if form.half else network.model
        self.form, self.mean, self.std = form, prepared.mean, prepared.std
        side = prepared.size
        self.example = torch.zeros(2, side, side, 3, dtype=torch.uint8) if form.uint8 else torch.zeros(2, 3, side, side)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return the logits and maps."""
        if self.form.uint8:
            images = normalise(images, self.mean, self.std).contiguous()
        if self.form.half:
            images = images.half()
        if not self.form.maps:
            return (self.model(images).float(),)
        output = run(self.model, images)
        return (output.logits.float(), *output.activation_maps())


def to_onnx(network: Network, form: Form, path: Path) -> None:
    """Write a network as one ONNX file for batches of any size, with its metadata."""
    for module_name in ("onnx", "onnxscript"):  # before the network is traced
        optional(module_name)
    module = Exportable(network, form)
    with _quiet(), torch.inference_mode():
        outputs = len(module(module.example))
    names = [LOGITS, *(f"{MAP}{level}" for level in range(1, outputs))]
    try:
        with _quiet(), torch.no_grad():
            torch.onnx.export(
                module,
                (module.example,),
                path,
                dynamo=True,
                optimize=form.fold,
                opset_version=OPSET,
                input_names=[IMAGE if form.uint8 else PIXELS],
                output_names=names,
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                external_data=False,
                verbose=False,
            )
    except Exception as error:  # the exporter wraps whatever a network's code or an unknown operator raises
        raise UnsupportedNetwork(f"{network.name}: torch cannot export it: {first_line(error)}") from error
    _describe(path, network.metadata())


def to_int8(source: Path, path: Path, batches: Sequence[Tensor]) -> None:
    """Quantise a float32 ONNX file to int8 (static QDQ, per channel), calibrated on batches that it takes.

    Activations are unsigned: with signed ones onnxruntime runs most convolutions of these networks in float32. Maps are
    computed from the quantised layers in float32.
    """
    quantization = optional("onnxruntime.quantization")
    prepare = optional("onnxruntime.quantization.shape_inference").quant_pre_process
    proto = optional("onnx").load(source)
    name, metadata = proto.graph.input[0].name, {item.key: item.value for item in proto.metadata_props}

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc, name-defined]
        feeds = iter(batches)

        def get_next(self) -> dict[str, Any] | None:
            batch = next(self.feeds, None)
            return None if batch is None else {name: batch.numpy()}

    with tempfile.TemporaryDirectory(prefix="int8.") as folder, _quiet():
        prepared = Path(folder) / source.name
        prepare(source, prepared, skip_symbolic_shape=True)
        quantization.quantize_static(
            prepared,
            path,
            Reader(),
            quant_format=quantization.QuantFormat.QDQ,
            per_channel=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            calibrate_method=quantization.CalibrationMethod.MinMax,
        )
    _describe(path, metadata)


def to_program(network: Network, form: Form, path: Path) -> None:
    """Write a network as a program of `torch.export` for batches of any size; its metadata is `metadata.json` in it."""
    module = Exportable(network, form)
    with _quiet(), torch.no_grad():
        try:
            program = torch.export.export(module, (module.example,), dynamic_shapes=({0: torch.export.Dim("batch")},))
        except Exception as error:  # a network's code may do what cannot be exported
            raise UnsupportedNetwork(f"{network.name}: torch cannot export it: {first_line(error)}") from error
        for node in program.graph.nodes:  # lines of code with their paths
            node.meta.pop("stack_trace", None)
        torch.export.save(program, path, extra_files={"metadata.json": json.dumps(network.metadata())})


def read_program(path: Path) -> tuple[nn.Module, dict[str, Any]]:
    """Return the module and the metadata of a program that this process has just written: loading can unpickle."""
    extra = {"metadata.json": ""}
    with _quiet():  # torch 2.9 warns of its own buffers
        module = torch.export.load(path, extra_files=extra).module()
    return module, json.loads(extra["metadata.json"])


def with_labels(config: Mapping[str, Any], classes: Sequence[str]) -> dict[str, Any]:
    """Return a `config.json` with `id2label` and `label2id`, which transformers.js reads and timm does not."""
    names = {str(label): name for label, name in enumerate(classes)}
    return {**config, "id2label": names, "label2id": {name: label for label, name in enumerate(classes)}}


def _describe(path: Path, metadata: Mapping[str, str]) -> None:
    """Give a file its metadata, and take out what the exporter says of each node: lines of code with their paths."""
    onnx = optional("onnx")
    proto = onnx.load(path)
    graph = proto.graph
    for part in (proto, graph, *graph.node, *graph.value_info, *graph.input, *graph.output, *graph.initializer):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    proto.producer_name, proto.producer_version = "dctkd_zoo", VERSION
    onnx.helper.set_model_props(proto, dict(metadata))
    onnx.checker.check_model(proto, full_check=True)
    onnx.save(proto, path)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporters' warnings about themselves away from the user."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        logging.disable(level)
