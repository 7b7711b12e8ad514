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
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

    if len(labels) == 0:
        raise ValueError("there are no photos to score")
    indices = np.arange(probabilities.shape[1])
    predicted = probabilities.argmax(axis=1)
    precision, recall, f1, n = precision_recall_fscore_support(labels, predicted, labels=indices, zero_division=0)
    accuracy = float((predicted == labels).mean())
    return Scores(accuracy, confusion_matrix(labels, predicted, labels=indices), precision, recall, f1, n)


def margin(accuracy: float, n: int) -> float:
    """Half the width of a 95 % interval around an accuracy on `n` photos, in share of 1 (Agresti and Coull, 1998)."""
    adjusted = (accuracy * n + 2) / (n + 4)
    return 2 * (adjusted * (1 - adjusted) / (n + 4)) ** 0.5
