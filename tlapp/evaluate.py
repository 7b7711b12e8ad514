"""Scores from true classes and probabilities: NumPy in, NumPy and plain numbers out.

Knows nothing of networks, photos or files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

METHOD = "95 %, Wilson"
WORTH = 0.7
CROSS_VALIDATED = "95 %, Wilson, of cross-validation repeated 5 times and the test photos, counted at 0.7"


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
        """Plain values for JSON: accuracy with its interval, n, classes, per_class, confusion (rows true, columns
        predicted).
        """
        return {
            **stated(self.accuracy, int(self.n.sum())),
            "n": int(self.n.sum()),
            "classes": list(classes),
            "per_class": {name: self._of_class(i) for i, name in enumerate(classes)},
            "confusion": self.confusion.tolist(),
        }

    def _of_class(self, i: int) -> dict[str, Any]:
        """F1 is 2 j / (1 + j), where j is the share of photos called right among those that are of the class or called
        so: its interval follows from that of j.
        """
        right, said, n = (int(x) for x in (self.confusion[i, i], self.confusion[:, i].sum(), self.n[i]))
        either = said + n - right
        low, high = interval(right / either, either) if either else (0.0, 1.0)
        return {
            "precision": float(self.precision[i]),
            "precision_interval": list(interval(right / said, said)) if said else [0.0, 1.0],
            "recall": float(self.recall[i]),
            "recall_interval": list(interval(right / n, n)) if n else [0.0, 1.0],
            "f1": float(self.f1[i]),
            "f1_interval": [2 * low / (1 + low), 2 * high / (1 + high)],
            "n": n,
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


def interval(accuracy: float, n: float) -> tuple[float, float]:
    """The 95 % interval around an accuracy on `n` photos, in shares of 1 (Wilson, 1927)."""
    z = 1.96
    middle = (accuracy + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * (accuracy * (1 - accuracy) / n + z * z / (4 * n * n)) ** 0.5
    return max(0.0, middle - half), min(1.0, middle + half)


def stated(accuracy: float, n: int) -> dict[str, Any]:
    """An accuracy on `n` photos and what chance allows, for JSON: `accuracy`, `interval`, `method`."""
    return {"accuracy": accuracy, "interval": list(interval(accuracy, n)), "method": METHOD}


def cross_validated(held_out: float, n_held_out: int, n_right: int, n_test: int) -> dict[str, Any]:
    """The accuracy on all photos, each asked of a model that had not seen it, for JSON: as `stated`, and `n`.

    Args:
        held_out: mean accuracy in repeated cross-validation on `n_held_out` photos.
        n_right: of the `n_test` test photos.

    Answers of models that share photos depend on each other: the interval is that of `WORTH` of the photos. How often
    it holds is measured in benchmarks/honesty.py.
    """
    n = n_held_out + n_test
    accuracy = (held_out * n_held_out + n_right) / n
    return {"accuracy": accuracy, "interval": list(interval(accuracy, WORTH * n)), "method": CROSS_VALIDATED, "n": n}


def percent(share: float) -> str:
    """A share of 1 as whole per cent; 100 only where it is all."""
    return f"{100 if share == 1 else min(99, round(100 * share))}%"


def plausibly(interval: Sequence[float], to: str = "–") -> str:
    """An interval in words: "plausibly 84–97 %"."""
    low, high = (round(100 * share) for share in interval)
    return f"plausibly {low}{to}{high} %" if low < high else f"plausibly {low} %"


def beside_instant(compared: dict[str, int], framing: str = "crop") -> str:
    """How a run and the instant model do on the same photos held back (`compared` of a report), in a sentence.

    A letterboxed run is compared with an instant model that is letterboxed too: another one than that of the Data tab.
    """
    model = "instant model with grey bars" if framing == "letterbox" else "instant model"
    n, run, instant = (compared[name] for name in ("n", "run", "instant"))
    photos = f"{n:,} photo{'s' if n > 1 else ''} held back"
    if 0 < abs(run - instant) <= compared.get("differ", abs(run - instant)) ** 0.5:
        first, then = ("This run", f"the {model}") if run > instant else (f"The {model}", "this run")
        best, other = max(run, instant), min(run, instant)
        return f"{first} is right about {best} of {photos}, {then} about {other}: a difference that may be chance."
    if instant > run:
        return f"The {model} does better on {photos}: {instant} right against {run}."
    if run > instant:
        return f"This run does better than the {model} on {photos}: {run} right against {instant}."
    return f"This run does as well as the {model} on {photos}: each is right about {run}."
