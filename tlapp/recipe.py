"""The recipe: an exact head on cached features of a few views, then, for `auto`, the last stage fine-tuned.

What is chosen is chosen on validation photos and folds of the training photos, never on test photos. Yields events
like `train`, whose epochs it uses; knows no files of runs, threads or widgets.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tlapp import heads, unknown
from tlapp import plan as plans
from tlapp import pool as pools
from tlapp import train as training
from tlapp.augment import Views
from tlapp.backbones import Classifier
from tlapp.catalog import Backbone
from tlapp.crossval import Options
from tlapp.dataset import Dataset
from tlapp.errors import TrainingDiverged
from tlapp.events import EpochFinished, Event, Judged, Progress, Trying
from tlapp.features import MIRRORED, CachePlan, Source, Stopped, Store, cache, deepen, draws, plan_cache
from tlapp.heads import Choice
from tlapp.photos import Split
from tlapp.plan import Plan
from tlapp.pool import Cached, Pool
from tlapp.speed import Frozen, quickest
from tlapp.train import Phase, ShouldStop, TrainState
from tlapp.unknown import Learned


@dataclass
class Result:
    """What there is to deliver so far.

    `best`: `Classifier.learned()` to restore, empty while there is nothing; `several`, `mirror`: of the model that
    these fit. `accuracy`: on `n` validation photos or those of held-out folds; `cross_validated`: of a head on `n`
    photos, held out again and again (`Pool.cross_validated`). `temperature`: what the scores were divided by, on the
    photos of `accuracy`. `learned`: what tells strangers; None while unknown. `facts`: what the report adds.
    """

    best: dict[str, Tensor] = field(default_factory=dict)
    best_epoch: int = 0
    epochs: int = 0
    accuracy: float = 0.0
    n: int = 0
    cross_validated: float | None = None
    several: bool = False
    mirror: bool = False
    temperature: float = 1.0
    learned: Learned | None = None
    facts: dict[str, Any] = field(default_factory=dict)


def train(
    model: Classifier,
    dataset: Dataset,
    split: Split,
    views: Views,
    plan: Plan,
    should_stop: ShouldStop,
    state: TrainState,
    result: Result,
) -> Iterator[Event]:
    """Fit the exact head, and for `auto` try to fine-tune the last stage; `result` holds what to deliver.

    Args:
        model: all blocks frozen, on its device; its head is replaced.
        state: of the fine-tuning, as in `train.train`; what it stands at is gone on from.
    """
    state.stopped = False
    pool = Pool(dataset, split, views, plan)
    try:
        cached, tail = yield from _cache(model, pool, plan, should_stop)
        fitted = yield from _fit(model, pool, cached, plan, should_stop, result)
        if tail is not None:
            yield from _fine_tune(model, pool, tail, fitted, plan, should_stop, state, result)
    except Stopped:
        state.stopped = True


def cache_plan(entry: Backbone, plan: Plan, n_train: int, n_validation: int, size: int) -> tuple[int, CachePlan]:
    """Before which block outputs are cached, and how, at `size` bytes a number.

    Before the last stage where it is to be fine-tuned and its inputs can be kept, else after all blocks.
    """
    n, end = n_train + n_validation, len(entry.blocks)
    if plan.solver == "auto" and n_train >= plans.WORTH_TUNING:
        what = plan_cache(entry, plan, end - entry.tail, n, 0, size)
        if what.views:
            return end - entry.tail, what
    return end, plan_cache(entry, plan, end, n, 0)


def tries_tuning(entry: Backbone, plan: Plan, n_train: int, n_validation: int, size: int) -> bool:
    """Whether fine-tuning is tried after the exact head."""
    return cache_plan(entry, plan, n_train, n_validation, size)[0] < len(entry.blocks)


def _cache(
    model: Classifier, pool: Pool, plan: Plan, should_stop: ShouldStop
) -> Generator[Progress, None, tuple[Cached, Store | None]]:
    """Features of all views; the inputs of the last stage too where it is to be fine-tuned."""
    entry, device, end = model.entry, model.head.linear.weight.device, model.n_blocks
    quick = quickest(entry, device, plan.precision)
    model.renew_head(several=plan.depth != "last")
    n_validation = int(pool.is_validation.sum())
    start, what = cache_plan(entry, plan, len(pool.indices) - n_validation, n_validation, quick.itemsize)
    numbers, stage = draws(plan, max(1, what.views)), "caching views"
    whole = Frozen(model, start if start < end else 0, end, device, quick)
    if start < end:
        before = Frozen(model, 0, start, device, quick)
        tail = yield from cache(before, pool.photos, numbers, what.on_disk, should_stop, stage)
        pooled = deepen(whole, tail, should_stop, what.on_disk)
        return Cached(lambda places: pooled.get(0, places), pooled, 1, whole.model), tail
    plain = yield from pools.plain_features(whole, pool, plan, should_stop)
    others = None
    if numbers[1:]:
        others = yield from cache(whole, pool.photos, numbers[1:], what.on_disk, should_stop, stage)
    return Cached(plain, others, 0, whole.model), None


Linear = tuple[Tensor, Tensor]
"""Weight (classes, features) and bias (classes,)."""


@dataclass(frozen=True)
class Fitted:
    """The chosen head, fitted without the validation part of the pool; which photos it and the instant model were
    right about when these were held out: bool (photos,).
    """

    without_validation: Linear
    right: np.ndarray
    instant: np.ndarray
    loss: float


def _fit(
    model: Classifier, pool: Pool, cached: Cached, plan: Plan, should_stop: ShouldStop, result: Result
) -> Generator[Event, None, Fitted]:
    """Choose the head on held-out photos, show how it learns, and fit it on all photos of the pool."""
    yield Progress("choosing the head", 0, 1)
    features, known = cached.of(np.arange(len(pool.indices))), pool.fold >= 0
    choice = pool.choose(features, _options(plan, features.n_views, model), should_stop)
    n_steps, without = yield from _learning_curve(pool, cached, choice)
    *_, on_all = heads.fit(features, pool.labels, pool.weights, pool.n_classes, choice)
    set_head(model, on_all)
    right = pool.right(choice)
    instant = right if plan.is_instant else pools.instant_right(pool, cached, should_stop)
    result.accuracy, result.n = float(right[known].mean()), int(known.sum())
    result.best, result.best_epoch, result.epochs = model.learned(), n_steps, n_steps
    result.several, result.mirror, result.temperature = model.several, choice.mirror, choice.temperature
    remembered = unknown.Known.of(pool, known)
    plain = cached.of(remembered.places, 1).all()[:, -choice.width :]
    usual = remembered.usual(plain, choice.energies[remembered.places])
    result.learned = remembered.remember(plain, usual)
    result.facts = {
        "head": choice.head, "depth": "several" if model.several else "last", "mirror": choice.mirror, "l2": choice.l2,
        "fine_tuned": False, "held_out_loss": choice.loss, "compared": pools.comparison(right[known], instant[known]),
    }  # fmt: skip
    result.cross_validated = pool.cross_validated(features, choice, should_stop)  # stopped here, there is a model
    return Fitted(without, right, instant, choice.loss)


def fit_plain(model: Classifier, pool: Pool, plan: Plan, should_stop: ShouldStop) -> Generator[Progress, None, Fitted]:
    """An exact head on the last block's features of the plain views. May raise Stopped."""
    cached = yield from pools.plain_cached(model, pool, plan, should_stop)
    options = Options(["ridge", "logistic"], [model.entry.features], [False])
    choice = pool.choose(cached.of(np.arange(len(pool.indices))), options, should_stop)
    inside = np.flatnonzero(pool.fold != 0)
    *_, without = _fitting(pool, cached, inside, choice)
    return Fitted(without, pool.right(choice), pool.right(choice), choice.loss)


def _options(plan: Plan, n_views: int, model: Classifier) -> Options:
    last, several = model.entry.features, sum(model.head.widths)
    widths = {"last": [last], "several": [several], "auto": sorted({last, several})}[plan.depth]
    may_mirror = MIRRORED in draws(plan, n_views)
    mirror = {"on": [True], "off": [False], "auto": [False, True] if may_mirror else [False]}[plan.mirror]
    kinds = ["ridge", "logistic"] if plan.head == "auto" else [plan.head]
    return Options(kinds, widths, mirror, plan.l2)


def _learning_curve(pool: Pool, cached: Cached, choice: Choice) -> Generator[EpochFinished, None, tuple[int, Linear]]:
    """A fit on all but fold 0, told step by step with the loss on both sides; how many steps it took, and the head."""
    inside, outside = np.flatnonzero(pool.fold != 0), np.flatnonzero(pool.fold == 0)
    sides = [
        (cached.of(part, 1).all()[:, -choice.width :], torch.from_numpy(pool.labels[part]))
        for part in (inside, outside)
    ]
    step, started = 0, time.monotonic()
    for head in _fitting(pool, cached, inside, choice):
        step, seconds = step + 1, max(time.monotonic() - started, 1e-6)
        learned, held_out = (_figures(x, labels, head) for x, labels in sides)
        pace = len(inside) / seconds
        sizes = len(inside), len(outside)
        yield EpochFinished(step, step, "head", *learned, *held_out, True, step, seconds, pace, None, *sizes)
        started = time.monotonic()
    return step, head


def _fitting(pool: Pool, cached: Cached, places: np.ndarray, choice: Choice) -> Iterator[Linear]:
    """The chosen head, step by step, on these photos of the pool."""
    return heads.fit(cached.of(places), pool.labels[places], pool.weights[places], pool.n_classes, choice)


def _figures(x: Tensor, labels: Tensor, head: Linear) -> tuple[float, float]:
    """Mean cross-entropy and accuracy."""
    scores = x @ head[0].T + head[1]
    loss = float(nn.functional.cross_entropy(scores, labels))
    return loss, float((scores.argmax(1) == labels).double().mean())


def set_head(model: Classifier, head: Linear) -> None:
    """Give the model a fitted head, on the last block or on all depths by its width."""
    weight, bias = head
    model.renew_head(several=weight.shape[1] > model.entry.features)
    with torch.no_grad():
        model.head.linear.weight.copy_(weight)
        model.head.linear.bias.copy_(bias)


def _fine_tune(
    model: Classifier, pool: Pool, tail: Store, fitted: Fitted, plan: Plan, should_stop: ShouldStop,
    state: TrainState, result: Result,
) -> Iterator[Event]:  # fmt: skip
    """Learn the last stage, from a head that never saw the validation photos; keep it if clearly better on these."""
    entry, offset, tuning = model.entry, result.epochs, plans.tuning(plan)
    inside, outside = np.flatnonzero(~pool.is_validation), np.flatnonzero(pool.is_validation)
    right = before = fitted.right[outside]
    judged = Judged(False, float(before.mean()), None, len(outside))
    if not _is_clearly_better(np.ones_like(before), before):
        yield judged
        return
    start = model.n_blocks - entry.tail
    model.freeze(entry.before_tail)
    pristine = model.learned()
    result.best = pristine  # should fine-tuning be given up, the last stage must be put back too
    sources = (
        Source(pool.part(inside), start, tail.select(inside)),
        Source(pool.part(outside), start, tail.select(outside), plain=True),
    )
    phase = Phase("fine-tune", 1, tuning.epochs, start, tuning.patience, head_is_fitted=True)
    epoch = training.time_epoch(model, sources[0], tuning)
    both = 2 + len(outside) * (1 + 1 / 3) / len(inside)  # once with validation, and once on all if it is kept
    yield Trying(", ".join(entry.block_names[start:]), tuning.epochs * epoch * both)
    set_head(model, fitted.without_validation)
    try:
        for event in training.run_phase(model, phase, sources, tuning, should_stop, state):
            number, best = event.epoch + offset, event.best_epoch + offset
            yield dataclasses.replace(event, epoch=number, epochs=event.epochs + offset, best_epoch=best)
        result.epochs = offset + state.epoch
        model.restore(state.best)
        right = training.judge(model, sources[1], tuning.batch_size, should_stop)[1].numpy()
        judged = dataclasses.replace(judged, kept=_is_clearly_better(right, before), after=float(right.mean()))
        if judged.kept:
            judge = unknown.Judge(
                model, start, lambda places, draw: tail.get(draw, places), pool, pool.is_validation, plan.precision
            )
            temperature, usual = judge.calibrate(plan.mirror == "on")
            model.restore(pristine)
            source = Source(pool.photos, start, tail)
            yield from training.repeat(model, source, tuning, phase, state.best_epoch, should_stop)
    except TrainingDiverged:
        judged = dataclasses.replace(judged, kept=False, after=None, diverged=True)
    yield judged
    if judged.kept:
        unknown.sharpen(model, temperature)
        result.temperature, result.learned = temperature, judge.known.remember(judge.features(), usual)
        result.best, result.best_epoch = model.learned(), offset + state.best_epoch
        result.accuracy, result.n, result.cross_validated = float(right.mean()), len(right), None
        compared = pools.comparison(right, fitted.instant[outside])
        result.mirror = plan.mirror == "on"  # what cross-validation found of the exact head says nothing of this one
        result.facts |= {"fine_tuned": True, "mirror": result.mirror, "compared": compared}


def _is_clearly_better(right: np.ndarray, before: np.ndarray) -> bool:
    """Whether more of the same photos are right, by more than a standard error of the difference: bool (photos,) each.

    A few photos more may be chance, above all of the best of several epochs.
    """
    won, lost = int((right & ~before).sum()), int((before & ~right).sum())
    return won - lost > (won + lost) ** 0.5
