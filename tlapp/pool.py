"""The photos to learn from and choose by, with their folds and features, and how the instant model does on them.

Features of plain views are kept beside the dataset, for every run and sweep to come. Knows heads and cached
features; nothing of gradient descent.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tlapp import crossval, decisions, evaluate, workspace
from tlapp.augment import Views
from tlapp.backbones import Classifier
from tlapp.crossval import Options
from tlapp.dataset import Dataset
from tlapp.events import Progress
from tlapp.features import PLAIN, Photos, Stopped, Store, cache, run_over
from tlapp.heads import Choice, Features
from tlapp.photos import Split
from tlapp.plan import Plan
from tlapp.sampling import class_weights
from tlapp.speed import Frozen, quickest

MANY, ENOUGH, REPEATS = 400, 10, 5
"""Photos beyond which cross-validation is not asked for a score, photos of a class that it needs, and its repeats."""

ShouldStop = Callable[[], bool]
Get = Callable[[Sequence[int]], Tensor]
"""Places in the pool → pooled features, float32 (photos, features)."""


class Pool:
    """All photos that are not for testing: indices into the dataset, labels, folds; fold 0 is the validation part."""

    def __init__(self, dataset: Dataset, split: Split, views: Views, plan: Plan) -> None:
        self.indices = np.sort(np.concatenate([split.train, split.validation]))
        self.is_validation = np.isin(self.indices, split.validation)
        self.labels = dataset.labels[self.indices]
        self.n_classes = len(dataset.classes)
        self.photos = Photos(dataset, self.indices, views, plan.seed)
        given = any(photo.side == "validation" for photo in dataset.photos)
        self.groups = dataset.grouping(plan.split_by)[self.indices]
        self.fold = crossval.folds(self.labels, self.groups, self.is_validation, not given, plan.seed)
        self.is_added = np.array([dataset.photos[i].added for i in self.indices], dtype=bool)
        self.fold[self.is_added] = -1  # they were picked for being called wrong: no fair sample to choose by
        self.weights = np.ones(len(self.indices))
        if plan.class_weighting == "balanced":
            self.weights = class_weights(self.labels, self.n_classes)[self.labels]

    def part(self, chosen: np.ndarray) -> Photos:
        """Some of the photos, by their places in the pool."""
        p = self.photos
        return Photos(p.dataset, self.indices[chosen], p.views, p.seed)

    def choose(
        self, features: Features, options: Options, should_stop: ShouldStop, fold: np.ndarray | None = None
    ) -> Choice:
        """The head that does best on held-out photos, of other folds if given. May raise Stopped."""

        def check() -> None:
            if should_stop():
                raise Stopped

        fold = self.fold if fold is None else fold
        return crossval.choose(features, self.labels, fold, self.weights, self.n_classes, options, check)

    def cross_validated(self, features: Features, choice: Choice, should_stop: ShouldStop) -> float | None:
        """The chosen head's mean accuracy on photos held out, over `REPEATS` deals of folds. May raise Stopped.

        None where the photos are many, so that test photos alone say enough; where a class has too few, so that a model
        of four fifths of them does worse than one of all; or where folders gave the parts, which then differ in kind.
        """
        by_class = np.bincount(self.labels, minlength=self.n_classes)
        sides = any(photo.side and not photo.added for photo in self.photos.dataset.photos)
        alone = crossval.within_one(self.labels, self.groups).any()
        if sides or alone or len(self.labels) > MANY or by_class.min() < ENOUGH:
            return None
        options = Options([choice.head], [choice.width], [choice.mirror], choice.l2)
        none = np.zeros(len(self.labels), dtype=bool)
        right = []
        for seed in range(REPEATS):
            fold = crossval.folds(self.labels, self.groups, none, True, seed)
            fold[self.is_added] = -1
            right.append(self.right(self.choose(features, options, should_stop, fold))[fold >= 0].mean())
        return float(np.mean(right))

    def right(self, choice: Choice) -> np.ndarray:
        """Whether the head was right about each photo when it was held out: bool (photos,); False if it never was."""
        return choice.held_out.argmax(1) == self.labels


@dataclass(frozen=True)
class Cached:
    """Pooled features of the pool's views: the plain one, and the others in a store, from its row `first` on."""

    plain: Get
    others: Store | None
    first: int
    model: Classifier

    def of(self, photos: np.ndarray, n_views: int | None = None) -> Features:
        """Normalised features of these photos of the pool (their places), all views or the first ones."""
        count = 1 + (len(self.others) - self.first if self.others else 0)
        head = self.model.head

        def read(view: int, first: int, last: int) -> Tensor:
            chosen = photos[first:last].tolist()
            if view == 0:
                return head.normalise(self.plain(chosen))
            assert self.others is not None
            return head.normalise(self.others.get(view - 1 + self.first, chosen))

        return Features((n_views or count, len(photos), sum(head.widths)), read)


def plain_features(whole: Frozen, pool: Pool, plan: Plan, should_stop: ShouldStop) -> Generator[Progress, None, Get]:
    """Pooled features of the pool's plain views, computed once for a dataset. May raise Stopped.

    They lie beside the dataset's photos, under a name made of all that they follow from. More than `cache_mb` of them
    are computed anew each time, and wait on the disk.
    """
    folder, n, at = decisions.places(pool.photos.dataset)
    width, stage, places = sum(whole.model.head.widths), "reading the photos", at[pool.indices]
    if 4 * n * width > plan.cache_mb * 1e6:
        large = yield from cache(whole, pool.photos, [PLAIN], True, should_stop, stage)
        return lambda chosen: large.get(0, chosen)
    weights = workspace.sha256(workspace.expand(plan.weights)) if plan.weights else whole.model.entry.weights_sha256
    text = f"2 {plan.backbone} {weights} {whole.way} {whole.device.type} {whole.model.depths}"
    if pool.photos.views.framing != "crop":
        text += f" {pool.photos.views.framing}"
    path = folder / f"features-{hashlib.sha256(text.encode()).hexdigest()[:16]}.npy"
    known = np.full((n, width), np.nan, np.float32)
    with contextlib.suppress(OSError, ValueError, EOFError):
        found = np.load(path)
        known = found if found.shape == known.shape else known
    missing = np.isnan(known[places, 0])
    if missing.any():
        to_fill = places[missing]

        def put(_: int, first: int, rows: Tensor) -> None:
            known[to_fill[first : first + len(rows)]] = rows.cpu().numpy()

        yield from run_over(whole, pool.part(missing), [PLAIN], put, should_stop, stage)
        with contextlib.suppress(OSError):  # a full disk only costs the time to compute them again
            workspace.write_array(path, known)
    return lambda chosen: torch.from_numpy(known[places[list(chosen)]])


def plain_cached(
    model: Classifier, pool: Pool, plan: Plan, should_stop: ShouldStop
) -> Generator[Progress, None, Cached]:
    """Features of the plain views alone, of all depths. `model`: with its blocks as they came. May raise Stopped."""
    device = model.head.linear.weight.device
    quick = quickest(model.entry, device, plan.precision)
    whole = Frozen(model, 0, model.n_blocks, device, quick, several=True)
    plain = yield from plain_features(whole, pool, plan, should_stop)
    return Cached(plain, None, 0, whole.model)


def instant_right(pool: Pool, cached: Cached, should_stop: ShouldStop) -> np.ndarray:
    """Whether the instant model is right about each photo of the pool when it has not learned from it: bool."""
    features = cached.of(np.arange(len(pool.indices)), 1)
    widths = sorted({cached.model.entry.features, features.width})
    return pool.right(pool.choose(features, Options(["ridge"], widths, [False]), should_stop))


def comparison(right: np.ndarray, instant: np.ndarray) -> dict[str, Any]:
    """How many of the same held-out photos (`n`) a `run` and the `instant` model are right about, each with its
    interval, and on how many they `differ` in that, as the report has it: bool (photos,) each.
    """
    n, counts = len(instant), {"run": int(right.sum()), "instant": int(instant.sum())}
    intervals = {f"{name}_interval": list(evaluate.interval(count / n, n)) for name, count in counts.items()}
    return {"n": n, **counts, "differ": int((right != instant).sum()), **intervals, "method": evaluate.METHOD}
