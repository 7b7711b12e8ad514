"""What more photos would bring: accuracy against photos per class, measured on cached features, and carried on.

Every point is a head fitted on so many photos of each class and asked about photos of folds held out. Knows rows of
features; nothing of files or networks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tlapp import evaluate
from tlapp.crossval import within_one
from tlapp.heads import one_hot, solve

MORE = 20
"""Photos of each class that the question is about."""

MEASURED = "95 %, Agresti-Coull, and the spread of repeats that held out and learned from other photos"
FORESEEN = "95 % of the last measured point, and half of the rise beyond it"
MOST = 160
_FOLDS = 5
_Z = 1.96


@dataclass(frozen=True)
class Point:
    """Accuracy where every class has `per_class` photos to learn from, with its 95 % interval, made by `method`.

    `n`: photos that were asked, each of them held out; of what is foreseen, those of the last measured point.
    """

    per_class: int
    accuracy: float
    low: float
    high: float
    n: int
    method: str = MEASURED

    def brief(self, to: str = "–") -> str:
        """As `evaluate.brief`."""
        return evaluate.brief(self.accuracy, self.n, (self.low, self.high), to)


@dataclass(frozen=True)
class Curve:
    """Measured points; what the photos of the smallest class bring, and what `MORE` beyond them would: None if there
    is no trend. Points are measured on fewer photos than there are, as some are held out.
    """

    points: tuple[Point, ...] = ()
    now: Point | None = None
    ahead: Point | None = None


def curve(
    rows: Tensor, labels: np.ndarray, groups: np.ndarray, n_classes: int, l2: float, seed: int = 0, repeats: int = 4,
    check: Callable[[], None] = lambda: None,
) -> Curve:  # fmt: skip
    """Measure the curve.

    Args:
        rows: normalised features, float32 (photos, d).
        labels, groups: int64 (photos,); a group is held out whole.
        l2: strength of the ridge heads.
        check: called between fits; what it raises ends the work.

    Where a class is one group there is none. Photos of folds that leave too few of a class are not asked about.
    """
    if within_one(labels, groups).any():
        return Curve()
    smallest = int(np.bincount(labels, minlength=n_classes).min())
    generator = np.random.default_rng(seed)
    right: dict[int, list[np.ndarray]] = {}
    for _ in range(repeats):
        names, of_name = np.unique(groups, return_inverse=True)
        fold = generator.permutation(np.arange(len(names)) % _FOLDS)[of_name]
        inside = [[generator.permutation(np.flatnonzero((fold != k) & (labels == c))) for c in range(n_classes)]
                  for k in range(_FOLDS)]  # fmt: skip
        for size in _sizes(smallest):
            answers = np.full(len(labels), np.nan)
            for k, classes in enumerate(inside):
                check()
                out, chosen = np.flatnonzero(fold == k), np.concatenate([members[:size] for members in classes])
                if len(out) and all(len(members) >= size for members in classes):
                    answers[out] = _answers(rows, labels, chosen, out, n_classes, l2) == labels[out]
            if not np.isnan(answers).all():
                right.setdefault(size, []).append(answers)
    points = [_point(size, np.stack(found)) for size, found in sorted(right.items()) if len(found) > 1]
    trend = _trend(points, len(labels))
    return Curve(tuple(points), *((trend(smallest), trend(smallest + MORE)) if trend else ()))


def _sizes(smallest: int) -> list[int]:
    """Photos per class to try, up to what folds leave of the smallest class."""
    most = min(int(0.75 * smallest), MOST)
    return [*(size for size in (2, 5, 10, 20, 40, 80) if size <= 0.8 * most), most] if most >= 2 else []


def _answers(
    rows: Tensor, labels: np.ndarray, chosen: np.ndarray, out: np.ndarray, n_classes: int, l2: float
) -> np.ndarray:
    x, target = rows[chosen], one_hot(labels[chosen], n_classes)
    mean = x.mean(0)
    x, target, strength = x - mean, target - target.mean(0), l2 * len(chosen)
    if len(x) <= x.shape[1]:
        weight = x.T @ solve(x @ x.T, [strength], target)[0]
    else:
        weight = solve(x.T @ x, [strength], x.T @ target)[0]
    return torch.argmax((rows[out] - mean) @ weight, 1).numpy()  # classes are of equal size here: no bias


def _point(size: int, right: np.ndarray) -> Point:
    """`right`: 1, 0 or NaN (not asked), (repeats, photos). The interval takes in which photos were asked, and which
    were learned from.
    """
    each = np.nanmean(right, axis=1)
    accuracy, n = float(each.mean()), int((~np.isnan(right)).any(0).sum())
    guarded = (accuracy * n + 2) / (n + 4)
    half = _Z * (guarded * (1 - guarded) / (n + 4) + each.var(ddof=1) / len(right)) ** 0.5
    return Point(size, accuracy, max(0.0, accuracy - half), min(1.0, accuracy + half), n)


def _trend(points: list[Point], n: int) -> Callable[[int], Point] | None:
    """The error carried on as a power of the number of photos, as learning curves fall (Hestness et al. 2017).

    The interval is that of the last point, and half of what is foreseen beyond it.
    """
    if len(points) < 3:
        return None
    used, last = points[-4:], points[-1]
    sizes = np.log([p.per_class for p in used])
    errors = np.log([max(1 - p.accuracy, 0.5 / n) for p in used])
    slope, offset = np.polyfit(sizes, errors, 1)
    slope = min(slope, 0.0)  # more photos do no harm
    begin = min(float(np.exp(offset + slope * sizes[-1])), max(1 - last.accuracy, 0.5 / n))

    def at(size: int) -> Point:
        error = begin * float(np.exp(slope * (np.log(size) - np.log(last.per_class))))
        accuracy = max(1 - error, last.accuracy)
        half = (last.high - last.low) / 2 + (accuracy - last.accuracy) / 2
        return Point(size, accuracy, max(0.0, accuracy - half), min(1.0, accuracy + half), last.n, FORESEEN)

    return at
