"""A predictor → one ONNX graph that answers as it does: from a photo's pixels to probabilities and strangeness.

Normalising, the network, its temperature, the mirrored second look and what tells strangers are all in the graph, so
that no program that runs it needs a second copy of them. Knows nothing of runs or folders.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import warnings
from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import Tensor, nn

from tlapp.predict import Predictor
from tlapp.unknown import NEAREST, Learned, Usual, spread

OPSET = 20
INPUT, OUTPUTS = "pixels", ("probabilities", "strangeness")


def to_onnx(predictor: Predictor, metadata: Mapping[str, object]) -> bytes:
    """The predictor as an ONNX model of opset 20, its batch of any size.

    Input `pixels`: uint8 (batch, side, side, 3), RGB, the plain view (`Views.plain`). Outputs: `probabilities`,
    float32 (batch, classes), rows summing to 1; `strangeness`, float32 (batch,), 0 to 1, where the predictor tells it.

    Args:
        metadata: goes into the model's own, as JSON where it is not text.
    """
    import onnx

    network = _Whole(predictor).eval()
    side = predictor.views.backbone.crop
    example = torch.zeros(2, side, side, 3, dtype=torch.uint8)
    with _quiet():
        program = torch.onnx.export(
            network, (example,), input_names=[INPUT], output_names=list(OUTPUTS[: 1 + (network.learned is not None)]),
            dynamo=True, opset_version=OPSET, dynamic_shapes={"pixels": {0: torch.export.Dim("batch")}},
            external_data=False, verbose=False,
        )  # fmt: skip
    assert program is not None
    model = program.model_proto
    model.producer_name, model.producer_version = "tlapp", ""
    texts = {k: v if isinstance(v, str) else json.dumps(v) for k, v in metadata.items()}
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, texts)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporter tells of its steps on the terminal; what goes wrong it raises."""
    log = logging.getLogger("torch.onnx")
    before = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(before)


class _Whole(nn.Module):
    """All that a predictor does with the plain view of a photo."""

    mean: Tensor
    std: Tensor

    def __init__(self, predictor: Predictor) -> None:
        super().__init__()
        self.model = predictor.model
        self.register_buffer("mean", predictor.views.mean)
        self.register_buffer("std", predictor.views.std)
        self.learned = _Strangeness(predictor.learned) if predictor.learned else None

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        seen, scores = self.model.look((pixels.permute(0, 3, 1, 2).float() - self.mean) / self.std)
        found = scores.softmax(1)
        return (found,) if self.learned is None else (found, self.learned(seen, scores))


class _Strangeness(nn.Module):
    """`Learned.strangeness`, of the same numbers."""

    features: Tensor
    known: Tensor

    def __init__(self, learned: Learned) -> None:
        super().__init__()
        usual: Usual = learned.usual
        self.register_buffer("features", torch.from_numpy(learned.features.T.copy()))
        self.register_buffer("known", torch.from_numpy(usual.scores.astype(np.float64)))
        self.near = min(NEAREST, len(learned.features))
        self.means = [float(values.mean()) for values in (usual.distances, usual.energies)]
        self.spreads = [spread(values) for values in (usual.distances, usual.energies)]
        self.tail = max(float(usual.scores.std()), 1.0)

    def forward(self, seen: Tensor, scores: Tensor) -> Tensor:
        alike = (seen / seen.norm(dim=1, keepdim=True).clamp_min(1e-12)) @ self.features
        distance = 1 - alike.topk(self.near, 1).values.double().mean(1)
        energy = -scores.double().logsumexp(1)
        total = (distance - self.means[0]) / self.spreads[0] + (energy - self.means[1]) / self.spreads[1]
        n = len(self.known)
        inside = (self.known[None] < total[:, None]).double().sum(1) / (n + 1)
        beyond = 1 - torch.exp(-(total - self.known[-1]).clamp_min(0) / self.tail) / (n + 1)
        return torch.where(total > self.known[-1], beyond, inside).float()
