"""Whether "90 %" means right nine times in ten: the temperature of a model's scores, and how far off it is.

NumPy in, NumPy and plain numbers out; knows nothing of networks, photos or files.
"""

from __future__ import annotations

import functools
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from tlapp import evaluate

TEMPERATURES = np.logspace(-2.5, 1.5, 81)
N_BINS = 15
ENOUGH = 300
"""Photos from which on bins are of equal width; fewer are put into bins of equal numbers, at least `A_BIN` each."""
A_BIN = 10


@dataclass(frozen=True)
class Bin:
    """Photos of similar certainty, from `low` to `high`: how sure the model was on average, and how often right."""

    low: float
    high: float
    n: int
    confidence: float
    accuracy: float


def log_odds(scores: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """Scores (photos, classes) → log-probabilities, float64."""
    scaled = scores / temperature
    scaled = scaled - scaled.max(1, keepdims=True)
    return scaled - np.log(np.exp(scaled).sum(1, keepdims=True))


def fit(scores: np.ndarray, labels: np.ndarray, weights: np.ndarray | None = None) -> tuple[float, float]:
    """The temperature that suits held-out scores best (Guo et al., ICML 2017), and its log loss in nats.

    The loss is that of targets with a photo's worth of doubt: where all photos are told apart, no certainty would be
    too much. The order of the classes stays as it is, as every score is divided by the same number.

    Args:
        scores: float64 (photos, classes).
        labels, weights: int64 and float64 (photos,); all weights the same where there are none.
    """
    weights = np.ones(len(labels)) if weights is None else weights
    doubt = 1 / (len(labels) + 2)

    @functools.cache
    def loss(i: int) -> float:
        found = log_odds(scores, TEMPERATURES[i])
        right = found[np.arange(len(labels)), labels]
        return -float(weights @ ((1 - doubt) * right + doubt * found.mean(1)) / weights.sum())

    first, last = 0, len(TEMPERATURES) - 1  # convex in 1 / temperature, so there is a single minimum
    while first < last:
        middle = (first + last) // 2
        falls = loss(middle) > loss(middle + 1)
        first, last = (middle + 1, last) if falls else (first, middle)
    return float(TEMPERATURES[first]), loss(first)


def bins(labels: np.ndarray, probabilities: np.ndarray) -> list[Bin]:
    """The photos by how sure the model was of its answer, least sure first; empty bins are left out."""
    sure, right = probabilities.max(1), probabilities.argmax(1) == labels
    if len(labels) >= ENOUGH:
        edges = np.linspace(0, 1, N_BINS + 1)
        place = np.minimum((sure * N_BINS).astype(int), N_BINS - 1)
        parts = [(np.flatnonzero(place == i), edges[i], edges[i + 1]) for i in range(N_BINS)]
    else:
        order = np.argsort(sure, kind="stable")
        chunks = np.array_split(order, max(1, min(N_BINS, len(order) // A_BIN)))
        parts = [(part, sure[part].min(), sure[part].max()) for part in chunks if len(part)]
    return [
        Bin(float(low), float(high), len(part), float(sure[part].mean()), float(right[part].mean()))
        for part, low, high in parts
        if len(part)
    ]


def error(found: list[Bin]) -> float:
    """The expected calibration error (Naeini et al., AAAI 2015): how far certainty is from accuracy, on average."""
    return sum(b.n * abs(b.confidence - b.accuracy) for b in found) / max(1, sum(b.n for b in found))


def measure(labels: np.ndarray, probabilities: np.ndarray, temperature: float) -> dict[str, Any]:
    """What the report says: `temperature`, `ece`, `ece_before` (without the temperature), `bins` (each with the
    interval of its accuracy).

    Args:
        labels: int64 (photos,) of test photos.
        probabilities: float64 (photos, classes), after the scores were divided by the temperature.
    """
    scores = temperature * np.log(np.maximum(probabilities, 1e-300))
    found = bins(labels, probabilities)
    return {
        "temperature": temperature,
        "ece": error(found),
        "ece_before": error(bins(labels, np.exp(log_odds(scores)))),
        "bins": [{**asdict(one), **evaluate.stated(one.accuracy, one.n)} for one in found],
    }
