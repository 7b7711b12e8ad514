"""A saved run → a `Predictor` → the class of a photo. Always float32; never trains.

Photos come in by the same door and in the same plain view as in training.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors

from tlapp import backbones, catalog, images
from tlapp.augment import Views
from tlapp.errors import PictureError, RunError
from tlapp.intake import read_file
from tlapp.runs import Run

BATCH = 16


@dataclass(frozen=True)
class Prediction:
    """The answer for one photo; `probabilities` by class name, in the model's order, summing to 1."""

    file: str
    label: str
    probability: float
    probabilities: dict[str, float]


@dataclass(frozen=True)
class Unreadable:
    """A photo without an answer; "`file` `reason`" reads as a sentence."""

    file: str
    reason: str


class Predictor:
    """A trained network that classifies photos."""

    def __init__(self, model: backbones.Classifier, views: Views, classes: tuple[str, ...]) -> None:
        self.model = model.eval()
        self.views = views
        self.classes = classes

    def probabilities(self, photos: Sequence[np.ndarray]) -> np.ndarray:
        """uint8 (H, W, 3) RGB arrays as `images.load` gives → float64 (photos, classes), rows summing to 1."""
        rows = []
        device = self.model.head.linear.weight.device
        for first in range(0, len(photos), BATCH):
            batch = torch.stack([self.views.plain(p) for p in photos[first : first + BATCH]])
            inputs = self.views.normalise(batch).contiguous(memory_format=torch.channels_last).to(device)
            with torch.no_grad():
                rows.append(self.model(inputs).double().softmax(1).cpu().numpy())
        return np.concatenate(rows) if rows else np.zeros((0, len(self.classes)))

    def predict(self, photo: np.ndarray, file: str = "") -> Prediction:
        """Classify one picture that is already decoded by `images.load`."""
        return self.answer(file, self.probabilities([photo])[0])

    def predict_files(self, paths: Iterable[Path]) -> Iterator[Prediction | Unreadable]:
        """Classify photos on disk, in order; an unreadable one does not keep the others from an answer."""
        for path in paths:
            try:
                photo = images.load(read_file(path))
            except PictureError as error:
                yield Unreadable(str(path), str(error))
            else:
                yield self.predict(photo, str(path))

    def answer(self, file: str, probabilities: np.ndarray) -> Prediction:
        """One row of `probabilities` in words."""
        best = int(probabilities.argmax())
        by_name = {name: float(p) for name, p in zip(self.classes, probabilities, strict=True)}
        return Prediction(file, self.classes[best], float(probabilities[best]), by_name)


def load(run: Run) -> Predictor:
    """The predictor of a run that has a model. Raises RunError if it has none or is damaged."""
    data = run.model()
    plan, classes = run.plan, run.classes
    entry = catalog.get(plan.backbone)
    model = backbones.build(entry, len(classes))
    try:
        model.load_state_dict(load_safetensors(data))
        made_for = _classes(data)
    except (SafetensorError, RuntimeError, ValueError, LookupError) as error:
        raise RunError(f"The model of run {run.id} does not fit its plan. Train again.") from error
    if made_for != list(classes):
        raise RunError(f"The model of run {run.id} does not fit its plan: it was made for other classes. Train again.")
    return Predictor(model.to(memory_format=torch.channels_last), Views(plan.augmentation, entry), classes)


def _classes(model: bytes) -> Any:
    """The names that a delivered model carries; the header of safetensors is JSON behind its length in 8 bytes."""
    header = json.loads(model[8 : 8 + int.from_bytes(model[:8], "little")])
    return json.loads(header["__metadata__"]["classes"])
