"""How strange a photo is to a model: how far from the photos it learned from, and how little any class calls for it.

The distance is the mean cosine distance to the three nearest of them (Sun et al., ICML 2022), the energy that of Liu
et al. (NeurIPS 2020). Each is measured in standard deviations of held-out photos of the known classes; a photo's
strangeness is the share of these that their mean calls less strange. Knows neither files nor widgets.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import load, save
from torch import Tensor

from tlapp import calibration, crossval, heads
from tlapp.backbones import Classifier
from tlapp.crossval import Options
from tlapp.features import batches_of
from tlapp.heads import ROWS_AT_ONCE, Features
from tlapp.pool import Pool
from tlapp.speed import Frozen, quickest

NEAREST = 3
MOST_KEPT = 5_000
"""Photos learned from that are kept with a model."""
MOST_LEFT_OUT, MOST_ASKED = 10, 600
"""Classes that are left out in turn to see how their photos would fare as strangers, and photos that take part."""


def energy(scores: np.ndarray) -> np.ndarray:
    """Class scores (photos, classes) → float64 (photos,), low where some class calls loudly."""
    scores = scores.astype(np.float64)
    top = scores.max(1)
    return -(top + np.log(np.exp(scores - top[:, None]).sum(1)))


def unit(features: np.ndarray) -> np.ndarray:
    """Rows of length 1, float32."""
    features = features.astype(np.float32)
    return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)


def spread(known: np.ndarray) -> float:
    """The standard deviation by which values are measured, of known ones; bounded, as these may be all alike."""
    return max(float(known.std()), abs(float(known.mean())) / 20, 1e-6)


@dataclass(frozen=True)
class Usual:
    """Distances and energies of known photos when they were held out: float64 (photos,) each, at least one."""

    distances: np.ndarray
    energies: np.ndarray

    @cached_property
    def scores(self) -> np.ndarray:
        """How strange each is, in standard deviations, the least strange first: float64 (photos,)."""
        return np.sort(self._score(self.distances, self.energies))

    def _score(self, distances: np.ndarray, energies: np.ndarray) -> np.ndarray:
        total = np.zeros(len(distances))
        for values, known in ((distances, self.distances), (energies, self.energies)):
            total += (values - known.mean()) / spread(known)
        return total

    def strangeness(self, distances: np.ndarray, energies: np.ndarray) -> np.ndarray:
        """The share of photos of the classes that are less strange: float64 (photos,), 0 to 1.

        Counted among the held-out ones as if there were one more (so that a line keeps the part it promises of new
        photos too: Vovk et al. 2005); beyond the strangest of them by an exponential tail.
        """
        known, scores = self.scores, self._score(distances, energies)
        beyond = np.maximum(scores - known[-1], 0) / max(float(known.std()), 1.0)
        inside = np.searchsorted(known, scores) / (len(known) + 1)
        return np.where(scores > known[-1], 1 - np.exp(-beyond) / (len(known) + 1), inside)


@dataclass(frozen=True)
class Learned:
    """The photos a model learned from or was chosen by, as its head sees them, and what is usual among them.

    Attributes:
        features: float32 (photos, features), rows of length 1.
        indices: int64 (photos,), into the run's dataset.
        usual: of held-out photos.
        strangers: float64, strangeness of held-out photos to a model that was not told of their class; may be empty.
    """

    features: np.ndarray
    indices: np.ndarray
    usual: Usual
    strangers: np.ndarray

    def nearest(self, features: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """The k nearest photos learned from, nearest first: indices into the dataset and cosine distances (0 to 2).

        Args:
            features: (photos, features), as the head normalises them.

        Returns:
            int64 and float32, each (photos, k), or narrower where fewer photos were learned from.
        """
        distances = 1 - unit(features) @ self.features.T
        order = np.argsort(distances, axis=1, kind="stable")[:, :k]
        return self.indices[order], np.take_along_axis(distances, order, 1)

    def strangeness(self, features: np.ndarray, scores: np.ndarray) -> np.ndarray:
        """Normalised features (photos, features) and class scores (photos, classes) → float64 (photos,), 0 to 1."""
        alike = torch.from_numpy(unit(features)) @ torch.from_numpy(self.features).T
        near = alike.topk(min(NEAREST, len(self.features)), 1).values.double().mean(1).numpy()
        return self.usual.strangeness(1 - near, energy(scores))

    def costs(self) -> dict[str, Any]:
        """What each line would cost, for the report: `held_out` and `strangers`, how many there are; `costs`: at each
        per cent of known photos to `keep`, how many of the first are `kept` and how many of the others are `let_in`.
        """
        known = self.usual.strangeness(self.usual.distances, self.usual.energies)
        rows = [
            {
                "keep": keep,
                "kept": int((known <= keep / 100).sum()),
                "let_in": int((self.strangers <= keep / 100).sum()),
            }
            for keep in range(80, 100)
        ]
        return {"held_out": len(known), "strangers": len(self.strangers), "costs": rows}

    def to_bytes(self) -> bytes:
        """As safetensors, the features in float16."""
        return save({
            "features": self.features.astype(np.float16), "indices": self.indices, "strangers": self.strangers,
            "distances": self.usual.distances, "energies": self.usual.energies,
        })  # fmt: skip

    @classmethod
    def from_bytes(cls, data: bytes) -> Learned:
        """What `to_bytes` gave. Raises ValueError if it is something else."""
        try:
            found = load(data)
            usual = Usual(found["distances"], found["energies"])
            made = cls(unit(found["features"]), found["indices"], usual, found["strangers"])
        except (SafetensorError, LookupError, ValueError) as error:
            raise ValueError("these are not the features of photos") from error
        made._check()
        return made

    def _check(self) -> None:
        """Raise ValueError where the arrays are not what they should be."""
        n = len(self.features)
        numbers = (self.features, self.usual.distances, self.usual.energies, self.strangers)
        is_whole = (
            self.features.ndim == 2 and n > 0 and self.indices.shape == (n,) and self.indices.dtype == np.int64
            and self.usual.distances.shape == self.usual.energies.shape and self.usual.distances.ndim == 1
            and len(self.usual.distances) > 0 and self.strangers.ndim == 1
            and all(np.issubdtype(one.dtype, np.floating) and np.isfinite(one).all() for one in numbers)
            and self.indices.min() >= 0
        )  # fmt: skip
        if not is_whole:
            raise ValueError("these are not the features of photos")


@dataclass(frozen=True)
class Known:
    """The photos of a pool that are remembered: all, or `MOST_KEPT` of them.

    Attributes:
        places: int64 (photos,), into the pool; the other arrays belong to these.
        indices, labels, groups: int64 (photos,), as in the pool.
        fold: int64 (photos,), -1 where a photo was never held out.
    """

    places: np.ndarray
    indices: np.ndarray
    labels: np.ndarray
    groups: np.ndarray
    fold: np.ndarray
    n_classes: int

    @classmethod
    def of(cls, pool: Pool, held: np.ndarray) -> Known:
        """Of a pool, `held` bool (photos,) of it being held out."""
        n = len(pool.indices)
        at = np.linspace(0, n - 1, min(n, MOST_KEPT)).round().astype(int)
        fold = np.where(held, pool.fold, -1)[at]
        return cls(at, pool.indices[at], pool.labels[at], pool.groups[at], fold, pool.n_classes)

    def part(self, at: np.ndarray) -> Known:
        """Those at these positions, of the same classes."""
        arrays = (values[at] for values in (self.places, self.indices, self.labels, self.groups, self.fold))
        places, indices, labels, groups, fold = arrays
        return Known(places, indices, labels, groups, fold, self.n_classes)

    def without(self, label: int) -> Known:
        """All classes but this one."""
        rest = self.part(np.flatnonzero(self.labels != label))
        return replace(rest, labels=rest.labels - (rest.labels > label), n_classes=self.n_classes - 1)

    def usual(self, features: Tensor, energies: np.ndarray) -> Usual:
        """Of held-out photos; near copies of a photo (its group) do not count as its neighbours.

        Args:
            features: float32 (photos, features), as the head normalises them.
            energies: float64 (photos,), of which those of held-out photos count.
        """
        rows, asked = unit(features.numpy()), np.flatnonzero(self.fold >= 0)
        distances = np.empty(len(asked))
        for first in range(0, len(asked), ROWS_AT_ONCE):
            part = asked[first : first + ROWS_AT_ONCE]
            near = rows[part] @ rows.T
            near[self.groups[part][:, None] == self.groups] = -1
            near = np.partition(near, -min(NEAREST, len(rows)), axis=1)[:, -NEAREST:]
            there = np.maximum((near > -1).sum(1), 1)  # of a small set with large groups there may be fewer
            distances[first : first + len(part)] = 1 - np.where(near > -1, near, 0).sum(1) / there
        return Usual(distances, energies[asked])

    def remember(self, features: Tensor, usual: Usual) -> Learned:
        """What is kept with the model that these features are of, as its head normalises them."""
        at = np.linspace(0, len(features) - 1, min(len(features), MOST_ASKED)).round().astype(int)
        strangers = self.part(at)._strangers(features[at])
        return Learned(unit(features.numpy()), self.indices, usual, strangers)

    def _strangers(self, features: Tensor) -> np.ndarray:
        """Strangeness of held-out photos to a ridge head and neighbours that know all classes but theirs."""
        if self.n_classes < 3:
            return np.zeros(0)
        found, n = [np.zeros(0)], min(self.n_classes, MOST_LEFT_OUT)
        for label in np.linspace(0, self.n_classes - 1, n).round().astype(int).tolist():
            others, asked = self.without(label), features[torch.from_numpy((self.labels == label) & (self.fold >= 0))]
            if (others.fold >= 0).any():
                rows = features[torch.from_numpy(self.labels != label)]
                found.append(others._strangeness_of(asked, rows))
        return np.concatenate(found)

    def _strangeness_of(self, strange: Tensor, rows: Tensor) -> np.ndarray:
        """Of strange photos, to a ridge head on these photos, `rows` their features."""
        inside = Features((1, *rows.shape), lambda _, first, last: rows[first:last])
        weights, options = np.ones(len(rows)), Options(["ridge"], [rows.shape[1]], [False], l2=1.0)
        choice = crossval.choose(inside, self.labels, self.fold, weights, self.n_classes, options)
        *_, (weight, bias) = heads.fit(inside, self.labels, weights, self.n_classes, choice)
        learned = Learned(unit(rows.numpy()), self.indices, self.usual(rows, choice.energies), np.zeros(0))
        return learned.strangeness(strange.numpy(), (strange @ weight.T + bias).numpy())


Get = Callable[[Sequence[int], int], Tensor]
"""Places in the pool and a draw (0 the plain view, 1 its mirror image) → inputs of a block."""


class Judge:
    """A network that learned by gradient descent: calibrated on photos it did not learn from, and remembered.

    Args:
        start: block whose inputs `get` gives; n_blocks: pooled features.
        held: bool (photos of the pool,), those that it does not learn from.
    """

    def __init__(self, model: Classifier, start: int, get: Get, pool: Pool, held: np.ndarray, precision: str) -> None:
        self.model, self.start, self.get, self.precision = model, start, get, precision
        self.known = Known.of(pool, held)

    def calibrate(self, mirror: bool) -> tuple[float, Usual]:
        """The temperature of the model as it is now, and what is usual of held-out photos."""
        known, linear, held = self.known, self.model.head.linear, np.flatnonzero(self.known.fold >= 0)
        features = self.features()
        asked = [features[held], *([self._features(known.places[held], 1)] if mirror else [])]
        with torch.no_grad():
            scores = torch.stack([linear(rows.to(linear.weight.device)) for rows in asked]).mean(0).double()
        temperature = calibration.fit(scores.cpu().numpy(), known.labels[held])[0]
        energies = np.full(len(known.places), np.nan)
        energies[held] = energy(scores.cpu().numpy() / temperature)
        return temperature, known.usual(features, energies)

    def features(self) -> Tensor:
        """Of the photos remembered, as the head normalises them: float32 (photos, features)."""
        return self._features(self.known.places, 0)

    def _features(self, places: np.ndarray, draw: int) -> Tensor:
        model, device = self.model, self.model.head.linear.weight.device
        way = quickest(model.entry, device, self.precision)
        whole = Frozen(model, self.start, model.n_blocks, device, way) if self.start < model.n_blocks else None
        rows = []
        for part in batches_of(len(places)):
            inputs = self.get(places[list(part)].tolist(), draw)
            rows.append(model.head.normalise(whole(inputs) if whole else inputs).cpu())
        return torch.cat(rows)


def sharpen(model: Classifier, temperature: float) -> None:
    """Divide the scores by the temperature for good; no answer changes, only how sure it is."""
    with torch.no_grad():
        for values in (model.head.linear.weight, model.head.linear.bias):
            values.div_(temperature)
