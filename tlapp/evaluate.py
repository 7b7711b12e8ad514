"""Scores from true classes and probabilities: NumPy in, NumPy and plain numbers out.

Knows nothing of networks, photos or files.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Scores:
    """What a model got right. `confusion[i, j]`: photos of class i that were called j, int64.

    `precision`, `recall`, `f1`: float64 (classes,); 0 where undefined, as scikit-learn has it. `n`: photos of
    each class.
    """

    accuracy: float
    confusion: np.ndarray
    precision: np.ndarray
    recall: np.ndarray
    f1: np.ndarray
    n: np.ndarray

    def to_dict(self, classes: tuple[str, ...]) -> dict[str, Any]:
        """Plain values for JSON: accuracy, n, classes, per_class, confusion (rows true, columns predicted)."""
        return {
            "accuracy": self.accuracy,
            "n": int(self.n.sum()),
            "classes": list(classes),
            "per_class": {
                name: {
                    "precision": float(self.precision[i]),
                    "recall": float(self.recall[i]),
                    "f1": float(self.f1[i]),
                    "n": int(self.n[i]),
                }
                for i, name in enumerate(classes)
            },
            "confusion": self.confusion.tolist(),
        }


def score(labels: np.ndarray, probabilities: np.ndarray) -> Scores:
    """Compare true class indices (photos,) with class probabilities (photos, classes).

    Raises ValueError for no photos.
    """
    if len(labels) == 0:
        raise ValueError("there are no photos to score")
    n_classes = probabilities.shape[1]
    predicted = probabilities.argmax(axis=1)
    pairs = np.bincount(labels * n_classes + predicted, minlength=n_classes**2)
    confusion = pairs.reshape(n_classes, n_classes)  # scikit-learn's would do, but costs 100 MB to import
    right, said, n = confusion.diagonal(), confusion.sum(axis=0), confusion.sum(axis=1)
    precision, recall, f1 = (right * factor / np.maximum(of, 1) for factor, of in ((1, said), (1, n), (2, said + n)))
    return Scores(float((predicted == labels).mean()), confusion, precision, recall, f1, n)


def interval(accuracy: float, n: int) -> tuple[float, float]:
    """The 95 % interval around an accuracy on `n` photos, in shares of 1 (Wilson, 1927)."""
    z = 1.96
    middle = (accuracy + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * (accuracy * (1 - accuracy) / n + z * z / (4 * n * n)) ** 0.5
    return max(0.0, middle - half), min(1.0, middle + half)


def beside_instant(compared: dict[str, int], framing: str = "crop") -> str:
    """How a run and the instant model do on the same photos held back (`compared` of a report), in a sentence.

    A letterboxed run is compared with an instant model that is letterboxed too: another one than that of the Data tab.
    """
    model = "instant model with grey bars" if framing == "letterbox" else "instant model"
    n, run, instant = (compared[name] for name in ("n", "run", "instant"))
    photos = f"{n:,} photo{'s' if n > 1 else ''} held back"
    if instant > run:
        return f"The {model} does better on {photos}: {instant} right against {run}."
    if run > instant:
        return f"This run does better than the {model} on {photos}: {run} right against {instant}."
    return f"This run does as well as the {model} on {photos}: each is right about {run}."
