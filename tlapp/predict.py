"""A saved run → a `Predictor` → the class of a photo. Always float32; never trains.

Photos come in by the same door and in the same plain view as in training.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors

from tlapp import backbones, catalog, images, tables, tasks
from tlapp.augment import Views
from tlapp.errors import PictureError, RunError
from tlapp.intake import read_file
from tlapp.runs import Run

BATCH = 4


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
    """A trained network that classifies photos, in float32. It takes the model over: BatchNorm layers are merged."""

    def __init__(self, model: backbones.Classifier, views: Views, classes: tuple[str, ...]) -> None:
        self.model = model.eval().requires_grad_(False)
        for block in self.model.blocks.values():
            backbones.fold(block)
        self.views = views
        self.classes = classes

    def probabilities(self, photos: Sequence[np.ndarray]) -> np.ndarray:
        """uint8 (H, W, 3) RGB arrays as `images.load` gives → float64 (photos, classes), rows summing to 1."""
        rows = []
        device = self.model.head.linear.weight.device
        for first in range(0, len(photos), BATCH):
            inputs = self.views.normalise([self.views.plain(p) for p in photos[first : first + BATCH]]).to(device)
            with torch.inference_mode():
                scores = self.model(inputs)
                if self.model.mirror:
                    scores = (scores + self.model(inputs.flip(3))) / 2
                rows.append(scores.double().softmax(1).cpu().numpy())
        return np.concatenate(rows) if rows else np.zeros((0, len(self.classes)))

    def predict(self, photo: np.ndarray, file: str = "") -> Prediction:
        """Classify one picture that is already decoded by `images.load`."""
        return self.answer(file, self.probabilities([photo])[0])

    def predict_files(
        self, paths: Iterable[Path], seen: Callable[[Path, np.ndarray], object] = lambda path, photo: None
    ) -> Iterator[Prediction | Unreadable]:
        """Classify photos on disk, in order; an unreadable one does not keep the others from an answer.

        `seen` is shown each photo that could be decoded, before its answer.
        """
        waiting: list[tuple[str, np.ndarray]] = []
        for path, photo in tasks.ahead(_decode, paths):
            if isinstance(photo, np.ndarray):
                seen(path, photo)
                waiting.append((str(path), photo))
            if len(waiting) == BATCH or not isinstance(photo, np.ndarray):
                yield from self._answers(waiting)
                waiting = []
            if not isinstance(photo, np.ndarray):
                yield Unreadable(str(path), photo)
        yield from self._answers(waiting)

    def _answers(self, photos: list[tuple[str, np.ndarray]]) -> Iterator[Prediction]:
        rows = self.probabilities([photo for _, photo in photos])
        for (file, _), row in zip(photos, rows, strict=True):
            yield self.answer(file, row)

    def answer(self, file: str, probabilities: np.ndarray) -> Prediction:
        """One row of `probabilities` in words."""
        best = int(probabilities.argmax())
        by_name = {name: float(p) for name, p in zip(self.classes, probabilities, strict=True)}
        return Prediction(file, self.classes[best], float(probabilities[best]), by_name)


def _decode(path: Path) -> np.ndarray | str:
    """A photo, or the reason why it cannot be read."""
    try:
        return images.load(read_file(path))
    except PictureError as error:
        return str(error)


def to_csv(answers: Iterable[Prediction | Unreadable], classes: tuple[str, ...]) -> str:
    """A table with one row a photo."""
    rows: list[list[object]] = [["file", "label", "probability", *classes, "error"]]
    for answer in answers:
        if isinstance(answer, Unreadable):
            blank = [""] * (2 + len(classes))
            rows.append([answer.file, *blank, f"{answer.file} {answer.reason}."])
        else:
            shares = [answer.probabilities[name] for name in classes]
            rows.append([answer.file, answer.label, answer.probability, *shares, ""])
    return tables.to_csv(rows)


def load(run: Run) -> Predictor:
    """The predictor of a run that has a model. Raises RunError if it has none or is damaged."""
    data = run.model()
    plan, classes = run.plan, run.classes
    entry = catalog.get(plan.backbone)
    try:
        recorded = _recorded(data)
        made_for = json.loads(recorded["classes"])
        model = backbones.build(entry, len(classes), several=recorded.get("depth") == "several")
        model.load_state_dict(load_safetensors(data))
        model.mirror = recorded.get("mirror") == "on"
    except (SafetensorError, RuntimeError, ValueError, LookupError) as error:
        raise RunError(f"The model of run {run.id} does not fit its plan. Train again.") from error
    if made_for != list(classes):
        raise RunError(f"The model of run {run.id} does not fit its plan: it was made for other classes. Train again.")
    return Predictor(model.to(memory_format=torch.channels_last), Views.of(plan), classes)


def _recorded(model: bytes) -> dict[str, str]:
    """What a delivered model says of itself; the header of safetensors is JSON behind its length in 8 bytes."""
    header = json.loads(model[8 : 8 + int.from_bytes(model[:8], "little")])
    return header["__metadata__"]
