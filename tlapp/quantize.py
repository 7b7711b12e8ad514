"""A float ONNX graph → the same graph with its convolutions in INT8, for a smaller file and quicker answers.

Static quantisation of ONNX Runtime in QDQ form, weights by output channel. Knows one graph and the pictures that its
ranges are taken from; knows nothing of runs, photos' files, or what the loss of precision costs.
"""

from __future__ import annotations

import os
import platform
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # read when it is imported; its builds report to their maker unless told so
import onnxruntime
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from tlapp.graph import INPUT

MOST_TIMED = 40
PRECISE = ("session.x64quantprecision", "1")
"""The option of ONNX Runtime with which sums of INT8 products do not overflow; it takes twice the time."""
_BETWEEN = ("Add", "Clip", "MaxPool", "Relu")
"""What stands between convolutions and can stay in INT8; else an activation's range would be that before it is cut."""


def to_int8(model: bytes, pixels: np.ndarray) -> bytes:
    """The graph with its convolutions, and what lies between them, in INT8; everything else stays float32.

    Activations are unsigned, as most are cut at 0; weights are signed, in all of their 8 bits: with 7, which would do
    without `PRECISE` on x86 processors without VNNI, one photo in twenty is called otherwise.

    Args:
        model: as `graph.to_onnx` gives.
        pixels: uint8 (photos, side, side, 3), the plain views that each activation's range is taken from, at least one.
    """
    with tempfile.TemporaryDirectory(prefix="tlapp-") as place:
        given, shaped, made = (Path(place) / f"{name}.onnx" for name in ("given", "shaped", "made"))
        given.write_bytes(model)
        quant_pre_process(given, shaped, skip_optimization=True, skip_symbolic_shape=True)
        quantize_static(
            shaped, made, _Photos(pixels), quant_format=QuantFormat.QDQ, calibrate_method=CalibrationMethod.MinMax,
            activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8, per_channel=True,
            op_types_to_quantize=["Conv", *_BETWEEN], nodes_to_quantize=_convolutional(onnx.load(shaped)),
        )  # fmt: skip
        return _named_as(onnx.load_from_string(model), onnx.load(made))


def spread(indices: np.ndarray, labels: np.ndarray, most: int) -> np.ndarray:
    """Some of the photos, as many of each class, spread over those of the class: int64 (up to `most`,).

    Of a class with fewer, all; of each at least one, even if there are more classes than `most`.

    Args:
        indices, labels: int64 (photos,).
    """
    classes = np.unique(labels)
    found = []
    for label in classes:
        own = indices[labels == label]
        n = min(len(own), max(1, most // len(classes)))
        found.append(own[np.linspace(0, len(own) - 1, n).round().astype(int)])
    return np.concatenate(found)


def may_overflow() -> bool:
    """Whether sums of INT8 products may overflow here: on x86, where nothing says that the processor has VNNI."""
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return False
    try:
        return "vnni" not in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return True


def time_ratio(model: bytes, rounded: bytes, pixels: np.ndarray) -> float:
    """Time for a photo of the INT8 graph over that of the other: each photo is asked of both in turn; of medians.

    As the bundle's program runs them.

    Args:
        pixels: uint8 (photos, side, side, 3), at least one.
    """
    options = onnxruntime.SessionOptions()
    if may_overflow():
        options.add_session_config_entry(*PRECISE)
    sessions = [
        onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"]) for graph in (rounded, model)
    ]
    times: list[list[float]] = [[], []]
    for photo in [pixels[0], *pixels[:MOST_TIMED]]:  # the first time, memory is laid out
        for session, spent in zip(sessions, times, strict=True):
            start = time.perf_counter()
            session.run(None, {INPUT: photo[None]})
            spent.append(time.perf_counter() - start)
    quick, usual = (float(np.median(spent[1:])) for spent in times)
    return quick / usual


def _convolutional(model: onnx.ModelProto) -> list[str]:
    """Names of the nodes from the first convolution up to the pooling; those of the head bear the same types."""
    constant = {one.name for one in model.graph.initializer}
    maps: set[str] = set()
    names = []
    for node in model.graph.node:  # in the order of computing, as ONNX demands
        inputs = {name for name in node.input if name and name not in constant}
        if node.op_type == "Conv" or (node.op_type in _BETWEEN and inputs and inputs <= maps):
            maps.update(node.output)
            names.append(node.name)
    return names


def _named_as(given: onnx.ModelProto, made: onnx.ModelProto) -> bytes:
    """The new graph under the name and with the metadata of the first."""
    made.producer_name, made.producer_version = given.producer_name, given.producer_version
    del made.metadata_props[:]
    made.metadata_props.extend(given.metadata_props)
    onnx.checker.check_model(made)
    return bytes(made.SerializeToString())


class _Photos(CalibrationDataReader):
    """One photo after the other, as the quantiser asks for them."""

    def __init__(self, pixels: np.ndarray) -> None:
        self.left: Iterator[np.ndarray] = iter(pixels[:, None])

    def get_next(self) -> dict[str, np.ndarray] | None:
        """The inputs of the next run of the graph; None after the last."""
        photo = next(self.left, None)
        return None if photo is None else {INPUT: photo}
