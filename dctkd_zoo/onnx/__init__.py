"""ONNX files of networks: written by `export`, run by `session`. Both need the extra `dctkd-zoo[onnx]`."""

from __future__ import annotations

import importlib
from typing import Any

from dctkd_zoo.errors import ZooError, reason_of

LOGITS, MAP = "logits", "map_"  # names of the outputs: `logits`, and `map_1` to `map_L` from shallow to deep
PIXELS, IMAGE = "pixel_values", "image"  # names of the input: normalised float32 (N, 3, H, W), or uint8 (N, H, W, 3)
FLOAT, HALF, INT8 = "model.onnx", "model_fp16.onnx", "model_quantized.onnx"  # as transformers.js names them
EVALUATION = "evaluation.json"  # how exact each file is, written by `dctkd_zoo export`
FOLDER = "onnx"


def optional(module: str) -> Any:
    """Import and return a module of the extra; `ZooError` says how to install it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ZooError(f"ONNX files need {module.partition('.')[0]}: pip install 'dctkd-zoo[onnx]'") from error


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message; exporters and runtimes add pages."""
    return reason_of(error).splitlines()[0]
