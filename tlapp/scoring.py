"""Score a saved run on photos: its own test photos again, or any labelled folder.

Joins dataset, predict and evaluate; knows nothing of how the answer is shown.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tlapp import dataset as datasets
from tlapp import evaluate, lineage, predict
from tlapp.dataset import Dataset
from tlapp.errors import DataError, RunError, some
from tlapp.predict import BATCH, Predictor
from tlapp.runs import Run

Report = Callable[[int, int], None]


def classify(predictor: Predictor, dataset: Dataset, indices: np.ndarray, report: Report | None = None) -> np.ndarray:
    """Class probabilities of these photos: float64 (photos, classes)."""
    return look(predictor, dataset, indices, report)[0]


def look(
    predictor: Predictor, dataset: Dataset, indices: np.ndarray, report: Report | None = None
) -> tuple[np.ndarray, np.ndarray | None]:
    """As `classify`, with the strangeness of each photo: float64 (photos,); None where the model cannot tell."""
    rows = [predictor.look([])]
    for first in range(0, len(indices), BATCH):
        part = indices[first : first + BATCH]
        rows.append(predictor.look([dataset.pixels(int(i)) for i in part]))
        if report:
            report(first + len(part), len(indices))
    strange = [found for _, found in rows if found is not None]
    return np.concatenate([found for found, _ in rows]), np.concatenate(strange) if strange else None


def evaluate_run(run: Run, folder: str | Path | None = None, report: Report | None = None) -> dict[str, Any]:
    """Scores of a run as in `Scores.to_dict`, with `n_right`, `n_skipped` and `notes` (sentences).

    Args:
        folder: one sub-folder per class, all of it test; None: the run's own test photos.

    Raises:
        RunError, DataError.
    """
    predictor = predict.load(run)
    if folder is None:
        own = _own(run)
        return _scores(predictor, own, run.plan.split(own).test, own.labels, 0, [], report)
    with tempfile.TemporaryDirectory(prefix="tlapp-") as home:
        other = datasets.scan(folder, home=Path(home), all_test=True)
        index = {name: i for i, name in enumerate(predictor.classes)}
        known = np.array([i for i, p in enumerate(other.photos) if other.classes[p.label] in index], dtype=np.int64)
        if not len(known):
            raise DataError(
                f"No sub-folder of {folder} is named as a class of run {run.id}: {some(list(predictor.classes), 10)}."
            )
        labels = np.array([index.get(other.classes[p.label], -1) for p in other.photos])
        n_skipped = len(other.skipped) + len(other.photos) - len(known)
        return _scores(predictor, other, known, labels, n_skipped, _notes(run, other, predictor, known), report)


def _own(run: Run) -> Dataset:
    """The run's own photos. Raises RunError where they did not come along with it, DataError where they are gone."""
    try:
        return datasets.load(run.dataset_folder)
    except DataError as error:
        if "origin" not in run.header():
            raise
        raise RunError(
            f"Run {run.id} came from elsewhere without its photos. Name a folder to score it on: "
            f"tlapp evaluate {run.id} FOLDER."
        ) from error


def _scores(
    predictor: Predictor, dataset: Dataset, indices: np.ndarray, labels: np.ndarray, n_skipped: int,
    notes: list[str], report: Report | None,
) -> dict[str, Any]:  # fmt: skip
    scores = evaluate.score(labels[indices], classify(predictor, dataset, indices, report))
    return {
        **scores.to_dict(predictor.classes),
        "n_right": int(np.trace(scores.confusion)),
        "n_skipped": n_skipped,
        "notes": notes,
    }


def _notes(run: Run, other: Dataset, predictor: Predictor, known: np.ndarray) -> list[str]:
    """What a reader of the score must know."""
    notes = [f"Skipped {s.name}: it {s.reason}." for s in other.skipped[:5]]
    foreign = [name for name in other.classes if name not in predictor.classes]
    if foreign:
        notes.append(f"Left out {some(foreign)}: the run knows no such class.")
    try:
        learned = frozenset(lineage.of(run))
    except RunError:
        return [*notes, "It is not known which photos the run learned from; on these the score would flatter."]
    seen = sum(lineage.known_by(other.photos[int(i)].sha256) in learned for i in known)
    if seen:
        notes.append(f"{seen} of these {len(known)} photos took part in the training, so the score flatters.")
    return notes
