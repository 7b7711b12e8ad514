"""Whether classes can be told apart by what says nothing of their subject: size, light, camera, border.

If such a thing is enough, a network may learn it instead of the subject, and fail on photos taken elsewhere. Sees a
handful of numbers a photo; knows no network.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tlapp.dataset import Dataset

CLEAR = 0.75
"""What the low end of the interval must reach: roses are told from other flowers by their colour for 0.76."""

FEW = 8
"""Photos of a class below which nothing is said of it."""

CHANCE = 0.5
METHOD = "95 %, Agresti-Coull of balanced accuracy on photos held out, a burst counted as one"
_FOLDS = 5
_L2 = 0.1
_BORDER = 8


@dataclass(frozen=True)
class Shortcut:
    """`class_name` is told from the rest by `feature` alone: balanced accuracy on `n` photos held out, with its 95 %
    interval; chance is 0.5.
    """

    feature: str
    class_name: str
    accuracy: float
    low: float
    high: float
    n: int


def measure(dataset: Dataset) -> dict[str, np.ndarray]:
    """What a model without eyes would see of each photo: float64 (photos, numbers) for each feature."""
    photos = dataset.photos
    light, colour, border = [], [], []
    for i in range(len(photos)):
        pixels = dataset.pixels(i)
        mean = pixels.reshape(-1, 3).mean(0)
        light.append([mean @ (0.299, 0.587, 0.114)])
        colour.append(mean)
        edge = _border(pixels)
        border.append([*edge.mean(0), *edge.std(0)])
    cameras = sorted({photo.camera for photo in photos})
    height = np.array([photo.full_height or photo.height for photo in photos], dtype=np.float64)
    width = np.array([photo.full_width or photo.width for photo in photos], dtype=np.float64)
    return {
        "image size": np.log(np.c_[height, width]),
        "aspect ratio": np.log(width / height)[:, None],
        "brightness": np.array(light),
        "mean colour": np.array(colour),
        "file size": np.log1p(np.array([[photo.n_bytes] for photo in photos], dtype=np.float64)),
        "camera": np.array([[photo.camera == name for name in cameras[:20]] for photo in photos], dtype=np.float64),
        "border pixels": np.array(border),
    }


def find(measured: dict[str, np.ndarray], labels: np.ndarray, classes: tuple[str, ...], groups: np.ndarray,
         seed: int = 0) -> list[Shortcut]:  # fmt: skip
    """The clear ones, clearest first. With two classes, what tells one apart tells the other: it is named once.

    Args:
        measured: of `measure`.
        labels, groups: int64 (photos,); a group is held out whole.
    """
    counts = np.bincount(labels, minlength=len(classes))
    asked = [label for label, n in enumerate(counts) if n >= FEW and len(labels) - n >= FEW]
    asked = asked[-1:] if len(classes) == 2 else asked
    found = []
    for feature, values in measured.items():
        rows = _quadratic(values)
        if not rows.shape[1]:
            continue
        for label in asked:
            accuracy, low, high = _told_apart(rows, labels == label, groups, seed)
            if low >= CLEAR:
                found.append(Shortcut(feature, classes[label], accuracy, low, high, len(labels)))
    return sorted(found, key=lambda shortcut: -shortcut.low)


def _border(pixels: np.ndarray) -> np.ndarray:
    wide = min(_BORDER, *(side // 2 for side in pixels.shape[:2]))
    inside = np.zeros(pixels.shape[:2], dtype=bool)
    inside[wide:-wide, wide:-wide] = True
    return pixels[~inside]


def _quadratic(values: np.ndarray) -> np.ndarray:
    """Standardised numbers, their squares and products; those that do not vary left out."""
    spread = values.std(0)
    x = (values - values.mean(0))[:, spread > 1e-9] / spread[spread > 1e-9]
    products = [x[:, i] * x[:, j] for i in range(x.shape[1]) for j in range(i, x.shape[1])] if x.shape[1] <= 6 else []
    return np.c_[x, np.stack(products, 1)] if products else x


def _told_apart(rows: np.ndarray, target: np.ndarray, groups: np.ndarray, seed: int) -> tuple[float, float, float]:
    """Balanced accuracy of ridge regression on groups held out, and its 95 % interval."""
    generator = np.random.default_rng(seed)
    names, of_name = np.unique(groups, return_inverse=True)
    folds = generator.permutation(np.arange(len(names)) % _FOLDS)[of_name]
    said = np.zeros(len(target), dtype=bool)
    for k in range(_FOLDS):
        inside, outside = folds != k, folds == k
        n_yes, n_no = int(target[inside].sum()), int((~target[inside]).sum())
        if not (n_yes and n_no and outside.any()):
            continue
        weight = np.where(target[inside], 0.5 / n_yes, 0.5 / n_no)
        mean = weight @ rows[inside]
        x, y = rows[inside] - mean, np.where(target[inside], 1.0, -1.0)
        gram = (x * weight[:, None]).T @ x + _L2 * np.eye(x.shape[1]) / len(x) ** 0.5
        said[outside] = (rows[outside] - mean) @ np.linalg.solve(gram, x.T @ (weight * y)) > 0
    rates, variance = [], 0.0
    for side in (target, ~target):
        rates.append(float((said == target)[side].mean()))
        n = len(np.unique(groups[side]))  # photos of a group are held out together: they say what one would
        guarded = (rates[-1] * n + 2) / (n + 4)  # Agresti and Coull: a few photos all right are no certainty
        variance += guarded * (1 - guarded) / (n + 4) / 4
    accuracy, half = sum(rates) / 2, 1.96 * variance**0.5
    return accuracy, max(0.0, accuracy - half), min(1.0, accuracy + half)
