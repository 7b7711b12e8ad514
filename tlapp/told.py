"""Gradient descent as the settings say, beside the instant model, then calibrated on the validation photos.

Yields events; knows no files of runs, threads or widgets.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor

from tlapp import pool as pools
from tlapp import train as training
from tlapp import unknown
from tlapp.augment import Views
from tlapp.backbones import Classifier
from tlapp.dataset import Dataset
from tlapp.events import Event, Progress
from tlapp.features import MIRRORED, PLAIN, Photos, Stopped
from tlapp.photos import Split
from tlapp.plan import Plan
from tlapp.pool import Cached, Pool
from tlapp.recipe import Result
from tlapp.train import ShouldStop, TrainState


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
    """Train what is unfrozen by gradient descent, as `train.train` does, and see how the instant model compares."""
    facts: dict[str, Any] = {"fine_tuned": bool(plan.learning)}
    state.stopped, cached = False, None
    pool = Pool(dataset, split, views, plan)
    try:
        cached = yield from pools.plain_cached(model, pool, plan, should_stop)
        instant = pools.instant_right(pool, cached, should_stop)[pool.is_validation]
        sides = [Photos(dataset, indices, views, plan.seed) for indices in (split.train, split.validation)]
        yield from training.train(model, sides[0], sides[1], plan, should_stop, state)
        facts["compared"] = pools.comparison(state.best_right.numpy(), instant)
    except Stopped:
        state.stopped = True
    finally:
        result.best, result.best_epoch, result.epochs = state.best, state.best_epoch, state.epoch
        result.n = len(split.validation)
        result.accuracy, result.mirror, result.facts = state.best_accuracy, plan.mirror == "on", facts
    if state.best:
        yield from _calibrate(model, pool, None if plan.learning or result.mirror else cached, plan, result)


def _calibrate(model: Classifier, pool: Pool, cached: Cached | None, plan: Plan, result: Result) -> Iterator[Progress]:
    """Look once more at all photos with the best weights, even of a run that was stopped: its answers need it."""
    yield Progress("calibrating", 0, 1)
    model.restore(result.best)
    width = sum(model.head.widths)

    def inputs(places: Sequence[int], draw: int) -> Tensor:
        return cached.plain(places)[:, -width:] if cached else pool.photos.inputs(places, (PLAIN, MIRRORED)[draw])

    start = model.n_blocks if cached else 0
    judge = unknown.Judge(model, start, inputs, pool, pool.is_validation, plan.precision)
    result.temperature, usual = judge.calibrate(result.mirror)
    unknown.sharpen(model, result.temperature)
    result.best, result.learned = model.learned(), judge.known.remember(judge.features(), usual)
    yield Progress("calibrating", 1, 1)
