"""Scores from true classes and probabilities: NumPy in, NumPy and plain numbers out.

Knows nothing of networks, photos or files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import comb
from typing import Any

import numpy as np

METHOD = "95 %, Wilson"
Z = 1.96
"""Standard errors to either side that 95 % lie within."""
UNSEEN = "each asked of a model that had not learned from it"
"""Of photos that were asked in cross-validation, or on validation: what is said behind their number."""
WORTH = 0.7
HARDLY_CHANCE = 0.05
"""What `sign_test` gives at most where a difference is hardly chance."""
CROSS_VALIDATED = "95 %, Wilson, of cross-validation repeated 5 times and the test photos, counted at 0.7"


def asked(n_learned: int) -> str:
    """How photos beside the test photos were asked about; `n_learned` of them the network had learned from before, as a
    run that continues another one starts from it.
    """
    if not n_learned:
        return UNSEEN
    return f"of which the network had learned from {n_learned:,} before this run began, so that this flatters"


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
        """Plain values for JSON: accuracy as `stated`, classes, per_class, confusion (rows true, columns predicted)."""
        return {
            **stated(self.accuracy, int(self.n.sum())),
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
    return of_counts(pairs.reshape(n_classes, n_classes))  # scikit-learn's would do, but costs 100 MB to import


def of_counts(confusion: np.ndarray) -> Scores:
    """The scores that follow from a confusion matrix: int64 (classes, classes), rows true, of at least one photo."""
    right, said, n = confusion.diagonal(), confusion.sum(axis=0), confusion.sum(axis=1)
    precision, recall, f1 = (right * factor / np.maximum(of, 1) for factor, of in ((1, said), (1, n), (2, said + n)))
    return Scores(float(right.sum() / n.sum()), confusion, precision, recall, f1, n)


def interval(accuracy: float, n: float) -> tuple[float, float]:
    """The 95 % interval around an accuracy on `n` photos, in shares of 1 (Wilson, 1927)."""
    z = Z
    middle = (accuracy + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * (accuracy * (1 - accuracy) / n + z * z / (4 * n * n)) ** 0.5
    return max(0.0, middle - half), min(1.0, middle + half)


def stated(accuracy: float, n: int) -> dict[str, Any]:
    """An accuracy on `n` photos and what chance allows, for JSON: `accuracy`, `n`, `interval`, `method`."""
    return {"accuracy": accuracy, "n": n, "interval": list(interval(accuracy, n)), "method": METHOD}


def cross_validated(held_out: float, n_held_out: int, n_right: int, n_test: int) -> dict[str, Any]:
    """The accuracy on all photos, each asked of a model that had not seen it, for JSON: as `stated`.

    Args:
        held_out: mean accuracy in repeated cross-validation on `n_held_out` photos.
        n_right: of the `n_test` test photos.

    Answers of models that share photos depend on each other: the interval is that of `WORTH` of the photos. How often
    it holds is measured in benchmarks/honesty.py.
    """
    n = n_held_out + n_test
    accuracy = (held_out * n_held_out + n_right) / n
    return {"accuracy": accuracy, "n": n, "interval": list(interval(accuracy, WORTH * n)), "method": CROSS_VALIDATED}


def sign_test(one: int, other: int) -> float:
    """How likely so one-sided a difference would be if neither were better: McNemar's exact test, two-sided, 0 to 1.

    Args:
        one, other: photos that only the one, and only the other, is right about.
    """
    n, less = one + other, min(one, other)
    return min(1.0, 2 * sum(comb(n, k) for k in range(less + 1)) / 2**n)


def percent(share: float) -> str:
    """A share of 1 as whole per cent: "93 %"; 100 only where it is all."""
    return f"{100 if share == 1 else min(99, round(100 * share))} %"


def span(interval: Sequence[float], to: str = "–") -> str:
    """An interval as whole per cent: "84–97 %". `to`: " to " on a terminal, which may lack the dash."""
    low, high = (round(100 * share) for share in interval)
    return f"{low}{to}{high} %" if low < high else f"{low} %"


def plausibly(interval: Sequence[float], to: str = "–") -> str:
    """An interval in words: "plausibly 84–97 %"."""
    return f"plausibly {span(interval, to)}"


def in_words(accuracy: float, n: int, of: str = "photos", to: str = "–") -> str:
    """An accuracy with its counts and what chance allows: "93 %, 56 of 60 photos right, plausibly 84–97 %"."""
    right = f"{round(accuracy * n):,} of {n:,} {of} right"
    return f"{percent(accuracy)}, {right}, {plausibly(interval(accuracy, n), to)}"


def brief(accuracy: float, n: int, of: Sequence[float] = (), to: str = "–") -> str:
    """The same where there is little room: "93 % of 60 (84–97 %)". `of`: its interval, if that is not Wilson's.

    Records of an earlier version do not tell how many photos an epoch was judged on: 0, which gives the share alone.
    """
    return f"{percent(accuracy)} of {n:,} ({span(of or interval(accuracy, n), to)})" if n else percent(accuracy)


def counted(right: int, n: int) -> str:
    """A count of `n` photos and what chance allows of its share: "56 (84 to 97 %)"."""
    return f"{right:,} ({span(interval(right / n, n), ' to ')})"


def beside_instant(compared: dict[str, Any], framing: str = "crop") -> str:
    """How a run and the instant model do on the same photos (`compared` of a report), in a sentence.

    One does better only where chance alone hardly (in less than 5 of 100 cases) gives such a difference. A letterboxed
    run is compared with an instant model that is letterboxed too: another one than that of the Data tab.
    """
    model = "instant model with grey bars" if framing == "letterbox" else "instant model"
    n, run, instant = (compared[name] for name in ("n", "run", "instant"))
    photos = f"{n:,} photo{'s' if n > 1 else ''}, {asked(compared.get('n_learned', 0))}"
    best, other = counted(max(run, instant), n), counted(min(run, instant), n)
    apart = abs(run - instant)
    first, then = ("This run", f"the {model}") if run > instant else (f"The {model}", "this run")
    if apart == 0:
        return f"This run does as well as the {model} on {photos}: each is right about {best}."
    if apart <= Z * compared.get("differ", apart) ** 0.5:
        first = first[0].lower() + first[1:]
        return f"On {photos}: {first} is right about {best}, {then} about {other}, a difference that may be chance."
    if run > instant:
        return f"This run does better than the {model} on {photos}: {best} right against {other}."
    return f"The {model} does better on {photos}: {best} right against {other}."
