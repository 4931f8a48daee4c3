"""Exported networks run by onnxruntime: images in, the `Output` of the zoo out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dctkd_zoo._io import hashing
from dctkd_zoo.errors import CorruptFile, UnsupportedNetwork, ZooError, reason_of
from dctkd_zoo.features import Output
from dctkd_zoo.onnx import IMAGE, LOGITS, MAP, PIXELS, first_line, optional

FACTS: Mapping[str, type] = {  # metadata that evaluation needs; each is a string, or JSON of this type
    "name": str,
    "class_names": list,
    "input_size": list,
    "crop_pct": float,
    "interpolation": str,
    "mean": list,
    "std": list,
    "parameters": int,
    "weights_sha256": str,
}


@dataclass(frozen=True)
class OnnxNetwork:
    """An ONNX file that `dctkd_zoo export` wrote, run on the CPU: normalised images (N, 3, S, S) -> `Output`.

    Its maps have one channel: the root of the file's activation maps, whose activation map they are. None if the file
    has only logits. It has no embedding (N, 0).
    """

    path: Path
    session: Any
    facts: Mapping[str, Any]
    threads: int

    def __call__(self, images: Tensor) -> Output:
        """Return the `Output` of normalised images (N, 3, S, S), on the CPU."""
        logits, *maps = map(torch.from_numpy, self.run(self.feed(images)))
        roots = tuple(item.clamp(min=0).sqrt()[:, None] for item in maps)
        return Output(logits, roots, logits.new_zeros(len(logits), 0))

    def run(self, fed: Tensor) -> list[NDArray[np.float32]]:
        """Return the logits (N, K) and the activation maps (N, h, w) of images as the file takes them (`feed`)."""
        arrays: list[NDArray[np.float32]] = self.session.run(None, {self.input: fed.numpy()})
        return arrays

    def feed(self, images: Tensor) -> Tensor:
        """Return normalised images as the file takes them."""
        if self.input == PIXELS:
            return images.cpu().contiguous()
        return pixels(images.cpu(), self.facts["mean"], self.facts["std"])

    @property
    def input(self) -> str:
        """The name of its input."""
        name: str = self.session.get_inputs()[0].name
        return name

    @property
    def has_maps(self) -> bool:
        """Whether it has activation maps."""
        return len(self.session.get_outputs()) > 1

    @cached_property
    def sha256(self) -> str:
        """The sha256 of the file."""
        return hashing.sha256(self.path)


def pixels(images: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """Return the uint8 pixels (N, H, W, 3) that normalised images (N, 3, H, W) were made of."""
    offset, scale = (images.new_tensor(value).view(1, 3, 1, 1) for value in (mean, std))
    values = (images * scale + offset).mul(255).round().clamp(0, 255).byte()
    return values.permute(0, 2, 3, 1).contiguous()


def load(path: Path, threads: int = 1) -> OnnxNetwork:
    """Open an exported file, run on that many threads.

    `CorruptFile` if onnxruntime cannot read it, `UnsupportedNetwork` if it is not one that `dctkd_zoo export` wrote.
    """
    runtime = optional("onnxruntime")
    if not path.is_file():
        raise ZooError(f"{path}: no such file; `dctkd-zoo export NAME` writes ONNX files")
    options = runtime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 3  # errors only
    try:
        session = runtime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime's errors have no common class
        raise CorruptFile(f"{path}: onnxruntime cannot read it: {first_line(error)}: export it again") from error
    network = OnnxNetwork(path, session, _facts(path, session.get_modelmeta().custom_metadata_map), threads)
    names = [item.name for item in session.get_outputs()]
    expected = [LOGITS, *(f"{MAP}{level}" for level in range(1, len(names)))]
    if network.input not in (PIXELS, IMAGE) or len(session.get_inputs()) > 1 or names != expected:
        inputs = ", ".join(item.name for item in session.get_inputs())
        raise UnsupportedNetwork(f"{path}: maps {inputs} to {', '.join(names)}, but {PIXELS} to {LOGITS} is needed")
    return network


def _facts(path: Path, metadata: Mapping[str, str]) -> dict[str, Any]:
    missing = [name for name in FACTS if name not in metadata]
    if missing:
        raise UnsupportedNetwork(
            f"{path}: no {', '.join(missing)} in its metadata: only files of `dctkd-zoo export` can be used"
        )
    facts: dict[str, Any] = {}
    for name, kind in FACTS.items():
        try:
            facts[name] = metadata[name] if kind is str else json.loads(metadata[name])
        except ValueError as error:
            raise CorruptFile(f"{path}: metadata {name}: {reason_of(error)}: export it again") from error
        if not isinstance(facts[name], kind):
            raise CorruptFile(f"{path}: metadata {name} is {facts[name]!r:.60}: export it again")
    return facts
