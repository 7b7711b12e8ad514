"""A saved run → a `Predictor` → the class of a photo. Always float32; never trains.

Photos come in by the same door and in the same plain view as in training.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import copy
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors

from tlapp import backbones, catalog, images, tables, tasks, weightfile
from tlapp.augment import Views
from tlapp.errors import PictureError, RunError
from tlapp.intake import read_file
from tlapp.runs import KEEP, Run, is_unknown
from tlapp.unknown import Learned

BATCH = 4
NONE = "none of these"
"""What is said of a photo of which no class may be right."""


@dataclass(frozen=True)
class Prediction:
    """The answer for one photo; `probabilities` by class name, in the model's order, summing to 1.

    `strangeness`: the share of held-out photos of the classes that are less strange, 0 to 1; `unknown`: whether that
    is more than the part of them to be kept, so that the photo is called "none of these". None of older runs.
    """

    file: str
    label: str
    probability: float
    probabilities: dict[str, float]
    unknown: bool | None = None
    strangeness: float | None = None

    def keeping(self, part: float) -> Prediction:
        """The same answer where this part of known photos is to be kept."""
        return replace(self, unknown=is_unknown(self.strangeness, part))

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Unreadable:
    """A photo without an answer; "`file` `reason`" reads as a sentence."""

    file: str
    reason: str

    def __str__(self) -> str:
        return f"{self.file} {self.reason}."

    def to_dict(self) -> dict[str, Any]:
        """As JSON: `file` and the sentence, `error`."""
        return {"file": self.file, "error": str(self)}


class Predictor:
    """A trained network that classifies photos, in float32. It takes the model over: BatchNorm layers are merged."""

    def __init__(
        self, model: backbones.Classifier, views: Views, classes: tuple[str, ...],
        learned: Learned | None = None, keep: float = KEEP,
    ) -> None:  # fmt: skip
        self.model = model.eval().requires_grad_(False)
        for block in self.model.blocks.values():
            backbones.fold(block)
        self.views = views
        self.classes = classes
        self.learned, self.keep = learned, keep

    def keeping(self, part: float) -> Predictor:
        """The same network, shared, where this part of known photos is to be kept."""
        other = copy(self)
        other.keep = part
        return other

    def probabilities(self, photos: Sequence[np.ndarray]) -> np.ndarray:
        """uint8 (H, W, 3) RGB arrays as `images.load` gives → float64 (photos, classes), rows summing to 1."""
        return self.look(photos)[0]

    def look(self, photos: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray | None]:
        """As `probabilities`, with the strangeness of each photo: float64 (photos,); None of older runs."""
        features, scores = self.outputs(photos)
        known = self.learned
        strangeness = known.strangeness(features.numpy(), scores.numpy()) if known else None
        return scores.softmax(1).numpy(), strangeness

    def outputs(self, photos: Sequence[np.ndarray]) -> tuple[torch.Tensor, torch.Tensor]:
        """Features as the head normalises them, float32 (photos, features); scores, float64 (photos, classes)."""
        head = self.model.head
        features, scores = [torch.zeros(0, sum(head.widths))], [torch.zeros(0, len(self.classes)).double()]
        for first in range(0, len(photos), BATCH):
            seen, found = self._run([self.views.plain(photo) for photo in photos[first : first + BATCH]])
            features.append(seen)
            scores.append(found)
        return torch.cat(features), torch.cat(scores)

    def name_views(self, views: Sequence[torch.Tensor]) -> list[str]:
        """The class of each view already drawn, uint8 (3, H, W), all of one size, at least one."""
        return [self.classes[best] for best in self._run(views)[1].argmax(1).tolist()]

    def _run(self, views: Sequence[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """One batch, as `outputs`."""
        inputs = self.views.normalise(views).to(self.model.head.linear.weight.device)
        with torch.inference_mode():
            seen, scores = self.model.look(inputs)
            return seen.cpu(), scores.double().cpu()

    def predict(self, photo: np.ndarray, file: str = "") -> Prediction:
        """Classify one picture that is already decoded by `images.load`."""
        return self.predict_all([(file, photo)])[0]

    def predict_all(self, photos: Sequence[tuple[str, np.ndarray]]) -> list[Prediction]:
        """Classify pictures, each with the name of its file."""
        rows, strange = self.look([photo for _, photo in photos])
        values = [None] * len(rows) if strange is None else strange.tolist()
        return [self.answer(file, row, v) for (file, _), row, v in zip(photos, rows, values, strict=True)]

    def predict_files(
        self, paths: Iterable[str | Path], seen: Callable[[Path, np.ndarray], object] = lambda path, photo: None
    ) -> Iterator[Prediction | Unreadable]:
        """Classify photos on disk, in order; an unreadable one does not keep the others from an answer.

        `seen` is shown each photo that could be decoded, before its answer.
        """
        waiting: list[tuple[str, np.ndarray]] = []
        for path, photo in tasks.ahead(_decode, map(Path, paths)):
            if isinstance(photo, np.ndarray):
                seen(path, photo)
                waiting.append((str(path), photo))
            if len(waiting) == BATCH or not isinstance(photo, np.ndarray):
                yield from self.predict_all(waiting)
                waiting = []
            if not isinstance(photo, np.ndarray):
                yield Unreadable(str(path), photo)
        yield from self.predict_all(waiting)

    def answer(self, file: str, probabilities: np.ndarray, strangeness: float | None = None) -> Prediction:
        """One row of `look` in words."""
        best = int(probabilities.argmax())
        by_name = {name: float(p) for name, p in zip(self.classes, probabilities, strict=True)}
        unknown = is_unknown(strangeness, self.keep)
        return Prediction(file, self.classes[best], float(probabilities[best]), by_name, unknown, strangeness)


def _decode(path: Path) -> np.ndarray | str:
    """A photo, or the reason why it cannot be read."""
    try:
        return images.load(read_file(path))
    except PictureError as error:
        return str(error)


def to_csv(answers: Iterable[Prediction | Unreadable], classes: tuple[str, ...]) -> str:
    """A table with one row a photo."""
    rows: list[list[object]] = [["file", "label", "probability", "unknown", *classes, "error"]]
    for answer in answers:
        if isinstance(answer, Unreadable):
            blank = [""] * (3 + len(classes))
            rows.append([answer.file, *blank, str(answer)])
        else:
            shares = [answer.probabilities[name] for name in classes]
            rows.append([answer.file, answer.label, answer.probability, NONE if answer.unknown else "", *shares, ""])
    return tables.to_csv(rows)


def load(run: Run) -> Predictor:
    """The predictor of a run that has a model. Raises RunError if it has none or is damaged."""
    data = run.model()
    plan, classes = run.plan, run.classes
    entry = catalog.get(plan.backbone)
    try:
        recorded = weightfile.recorded(data)
        made_for = json.loads(recorded["classes"])
        model = backbones.build(entry, len(classes), several=recorded.get("depth") == "several")
        model.load_state_dict(load_safetensors(data))
        model.mirror = recorded.get("mirror") == "on"
    except (SafetensorError, RuntimeError, ValueError, LookupError) as error:
        raise RunError(f"The model of run {run.id} does not fit its plan. Train again.") from error
    if made_for != list(classes):
        raise RunError(f"The model of run {run.id} does not fit its plan: it was made for other classes. Train again.")
    model = model.to(memory_format=torch.channels_last)
    return Predictor(model, Views.of(plan), classes, _learned(run, sum(model.head.widths)), run.keep())


def _learned(run: Run, width: int) -> Learned | None:
    """What tells strangers to the run, if it has that."""
    data = run.learned()
    try:
        found = None if data is None else Learned.from_bytes(data)
    except ValueError as error:
        raise RunError(f"What tells strangers to run {run.id} cannot be read. Train again.") from error
    if found is not None and found.features.shape[1] != width:
        raise RunError(f"What tells strangers to run {run.id} does not fit its model. Train again.")
    return found
