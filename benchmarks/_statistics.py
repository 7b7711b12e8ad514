"""Means over seeds with their intervals, and two arms compared photo by photo."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 10_000


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % interval; the interval is None where there is nothing to tell it from."""

    value: float
    interval: tuple[float, float] | None = None


def over_seeds(values: Sequence[float]) -> Estimate:
    """The mean of one value per seed, with Student's t interval: how far another seed or draw moves it."""
    from scipy.stats import t

    mean = statistics.mean(values)
    if len(values) < 2:
        return Estimate(mean)
    half = float(t.ppf(0.975, len(values) - 1)) * statistics.stdev(values) / len(values) ** 0.5
    return Estimate(mean, (mean - half, mean + half))


def paired(ours: Mapping[int, str], theirs: Mapping[int, str]) -> Estimate | None:
    """How many points ours is right more often than theirs, on the same test photos with the same seeds.

    Takes the marks of `Folder.marks` by seed. Seeds that one of the two lacks, and photos that one of them learned
    from, do not count. The interval is a bootstrap over photos: all seeds' answers to a photo are drawn together, as
    a photo that is hard for one seed is hard for the next.
    """
    seeds = sorted(ours.keys() & theirs.keys())
    if not seeds:
        return None
    pairs = [(np.array(list(ours[s])), np.array(list(theirs[s]))) for s in seeds]
    both = np.array([(a != "-") & (b != "-") for a, b in pairs])
    gain = np.array([(a == "1").astype(int) - (b == "1") for a, b in pairs]) * both
    total, counts = gain.sum(0), both.sum(0)
    n = int((counts > 0).sum())
    if not n:
        return None
    total, counts = total[counts > 0], counts[counts > 0]
    drawn = np.random.default_rng(0).multinomial(n, np.full(n, 1 / n), RESAMPLES)
    differences = 100 * (drawn @ total) / (drawn @ counts)
    low, high = np.quantile(differences, (0.025, 0.975))
    return Estimate(float(100 * total.sum() / counts.sum()), (float(low), float(high)))


def percent(estimate: Estimate) -> str:
    """A share as `94.1 (93.2 – 95.0)`, in percent."""
    interval = estimate.interval and tuple(100 * bound for bound in estimate.interval)
    return f"{100 * estimate.value:.1f}" + (f" ({interval[0]:.1f} – {interval[1]:.1f})" if interval else "")


def points(estimate: Estimate | None) -> str:
    """A difference as `+2.1 (+0.3 – +3.9)`, in points."""
    if estimate is None:
        return "–"
    interval = estimate.interval
    return f"{estimate.value:+.1f}" + (f" ({interval[0]:+.1f} – {interval[1]:+.1f})" if interval else "")


def middle(values: Sequence[float]) -> float:
    """The median."""
    return statistics.median(values)
