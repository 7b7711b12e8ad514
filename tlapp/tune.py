"""Which blocks to freeze: a sweep of depths and learning rates on cached activations, within a time budget.

Judged on validation photos alone. Yields what it finds as it goes; knows no runs, threads or widgets.
"""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Any

import torch

from tlapp import backbones, catalog, estimate, evaluate, recipe, speed
from tlapp import train as training
from tlapp.augment import Views
from tlapp.dataset import Dataset
from tlapp.errors import TrainingDiverged
from tlapp.events import Progress
from tlapp.features import PLAIN, Photos, Source, Stopped, Store, batches_of, plan_cache
from tlapp.features import draws as drawn_views
from tlapp.plan import Plan
from tlapp.recipe import Linear, Pool
from tlapp.speed import Frozen
from tlapp.train import Phase, TrainState

BUDGET = 120.0
RATES = (3e-4, 1e-4, 1e-3)
EPOCHS, PATIENCE = 8, 3
N_VIEWS = 2


@dataclass(frozen=True)
class Trial:
    """One depth and rate: what it takes and what it gives.

    Attributes:
        learning: the blocks that learned beside the head.
        rate: learning rate of the last of them; 0 for the exact head alone.
        accuracy, n: on the `n` validation photos.
        loss: mean log loss there, in nats.
        seconds: of training, without the caching that all trials share (of the head alone: with its one view).
        megabytes: of memory for activations, gradients and the optimiser, as counted in one step.
        is_cut: whether the budget ended it before its last epoch.
    """

    learning: tuple[str, ...]
    rate: float
    accuracy: float
    n: int
    loss: float
    seconds: float
    megabytes: float
    is_cut: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, the accuracy with its interval."""
        return {**dataclasses.asdict(self), **evaluate.stated(self.accuracy, self.n)}


@dataclass(frozen=True)
class Tuned:
    """The end of a sweep: all trials, the best of them, and the plan that it makes."""

    trials: tuple[Trial, ...]
    best: Trial
    plan: Plan


def sweep(
    dataset: Dataset, plan: Plan, budget: float = BUDGET, should_stop: Callable[[], bool] = lambda: False
) -> Iterator[Progress | Trial | Tuned]:
    """Try which blocks should learn, and how fast; `plan` gives photos, backbone and augmentation.

    The exact head alone comes first; then ever more of the last blocks at one rate, as long as the
    budget is likely to hold it; then other rates, for the best depth first.

    Args:
        budget: seconds.
        should_stop: True ends the sweep within a batch, with what was found.

    Raises:
        WeightsError, DataError, RunError.
    """
    deadline = time.monotonic() + budget
    sweeper = _Sweeper(dataset, plan, lambda: should_stop() or time.monotonic() > deadline)
    trials: list[Trial] = []
    try:
        for found in sweeper.all(deadline):
            if isinstance(found, Trial):
                trials.append(found)
            yield found
    except Stopped:
        pass
    if trials:
        best = max(trials, key=lambda t: (t.accuracy, -len(t.learning), -t.loss))
        yield Tuned(tuple(trials), best, planned(plan, best))


def planned(plan: Plan, trial: Trial) -> Plan:
    """The plan that trains the trial's blocks at its rate; its head learns by gradient descent, not exactly."""
    frozen = tuple(name for name in catalog.get(plan.backbone).block_names if name not in trial.learning)
    if not trial.learning:
        return dataclasses.replace(plan, solver="exact", frozen=frozen)
    return dataclasses.replace(plan, solver="sgd", frozen=frozen, fine_tune_rate=trial.rate)


def named(trial: Trial) -> str:
    """What learns in a trial: "head alone", "stage7, top, head"."""
    return ", ".join([*trial.learning, "head"]) if trial.learning else "head alone"


class _Sweeper:
    """The photos, the network as it came, and what is cached of both."""

    def __init__(self, dataset: Dataset, plan: Plan, should_stop: Callable[[], bool]) -> None:
        self.entry = catalog.get(plan.backbone)
        self.plan = dataclasses.replace(
            plan, solver="sgd", frozen=self.entry.block_names, views=N_VIEWS, epochs=EPOCHS, head_epochs=0,
            patience=PATIENCE, dropout=0.0,
        )  # fmt: skip
        self.should_stop = should_stop
        self.device = speed.device(plan.device)
        self.speed = estimate.probe(plan)
        model = backbones.load(self.entry, len(dataset.classes), weights=plan.weights, seed=plan.seed)
        self.model = model.to(device=self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.pristine = self.model.learned()
        views = Views.of(plan)
        split = plan.split(dataset)
        self.pool = Pool(dataset, split, views, self.plan)
        self.sides = [Photos(dataset, part, views, plan.seed) for part in (split.train, split.validation)]
        self.numbers = drawn_views(self.plan, N_VIEWS)

    def all(self, deadline: float) -> Iterator[Progress | Trial]:
        """Every trial that the time allows."""
        started = time.monotonic()
        fitted = yield from recipe.fit_plain(self.model, self.pool, self.plan, self.should_stop)
        right = fitted.right[self.pool.is_validation]
        yield Trial((), 0.0, float(right.mean()), len(right), fitted.loss, time.monotonic() - started, 0.0)
        cuts = self.affordable(deadline - time.monotonic())
        stores = yield from self.cache(cuts)
        found: dict[int, Trial] = {}
        for rate in RATES:
            for cut in sorted(cuts, key=lambda cut: -found[cut].accuracy if cut in found else -cut):
                if cut in found and time.monotonic() + found[cut].seconds > deadline:
                    continue
                trial = self.trial(cut, rate, fitted.without_validation, stores.get(cut))
                if trial is not None:
                    found.setdefault(cut, trial)
                    yield trial
                if self.should_stop():
                    return

    def affordable(self, budget: float) -> list[int]:
        """First learning blocks, last ones first, for which caching and one rate are likely to fit the budget."""
        n_train, n_validation = map(len, self.sides)
        cuts: list[int] = []
        total = kept = 0.0
        for cut in range(len(self.entry.blocks) - 1, -1, -1):
            what = plan_cache(self.entry, self.plan, cut, n_train, n_validation, self.speed.itemsize)
            kept += what.megabytes
            if cut and (what.views < len(self.numbers) or kept > self.plan.cache_mb + self.plan.disk_mb):
                continue  # these outputs are too large to keep; the whole network needs none
            tail = sum(self.speed.blocks[cut:])
            total += EPOCHS * (n_train * estimate.LEARNING + n_validation) * tail
            caching = (len(self.numbers) * n_train + n_validation) * sum(self.speed.frozen[:cut])
            if total + caching > budget:
                break
            cuts.append(cut)
        return cuts

    def cache(self, cuts: list[int]) -> Generator[Progress, None, dict[int, tuple[Store, Store]]]:
        """Outputs before each cut but the first, of the training views and of the validation photos, in one pass."""
        ends = sorted(cut for cut in cuts if cut)
        if not ends:
            return {}
        quick = speed.quickest(self.entry, self.device, self.plan.precision)
        parts = [Frozen(self.model, a, b, self.device, quick) for a, b in itertools.pairwise([0, *ends])]
        kept: list[dict[int, Store]] = [{}, {}]
        size = sum(self.entry.blocks[cut - 1].elements for cut in ends) * quick.itemsize
        on_disk = size * (len(self.numbers) * len(self.sides[0]) + len(self.sides[1])) > self.plan.cache_mb * 1e6
        works = [(0, row, draw) for row, draw in enumerate(self.numbers)] + [(1, 0, PLAIN)]
        done, total = 0, sum(len(self.sides[side]) for side, _, _ in works)
        for side, row, draw in works:
            photos, stores = self.sides[side], kept[side]
            for positions in batches_of(len(photos)):
                if self.should_stop():
                    raise Stopped
                out = photos.inputs(positions, draw)
                for cut, part in zip(ends, parts, strict=True):
                    out = part(out)
                    if cut not in stores:
                        n_draws = len(self.numbers) if side == 0 else 1
                        stores[cut] = Store(n_draws, len(photos), out.shape[1:], out.dtype, on_disk)
                    stores[cut].put(row, positions[0], out)
                done += len(positions)
                yield Progress("caching views for all depths", done, total)
        return {cut: (kept[0][cut], kept[1][cut]) for cut in ends}

    def trial(self, cut: int, rate: float, head: Linear, stores: tuple[Store, Store] | None) -> Trial | None:
        """Train the blocks from `cut` on, from the network as it came and the exact head; None if no epoch ended."""
        plan = dataclasses.replace(self.plan, frozen=self.entry.block_names[:cut], fine_tune_rate=rate)
        self.model.freeze(plan.frozen)
        learned, judged = stores or (None, None)
        sources = Source(self.sides[0], cut, learned), Source(self.sides[1], cut, judged, plain=True)
        phase = Phase("fine-tune", 1, EPOCHS, cut, PATIENCE, head_is_fitted=True)
        megabytes = self.memory(sources[0], plan)
        self.model.restore(self.pristine)
        recipe.set_head(self.model, head)
        state, started = TrainState(), time.monotonic()
        is_cut = False
        try:
            for _ in training.run_phase(self.model, phase, sources, plan, self.should_stop, state):
                pass
        except TrainingDiverged:
            pass
        except Stopped:
            if not state.epoch:
                raise
            is_cut = True
        if not state.best:
            return None
        score, seconds = (state.best_accuracy, len(state.best_right)), time.monotonic() - started
        return Trial(plan.learning, rate, *score, state.best_loss, seconds, megabytes, is_cut)

    def memory(self, source: Source, plan: Plan) -> float:
        """Megabytes that a step holds: what backward needs, and four numbers for each that learns."""
        self.model.fixed_statistics = True  # nothing may move yet
        self.model.train()
        inputs, _ = source.batch(range(min(plan.batch_size, len(source.photos))), 1, self.device)
        held = speed.held_by(lambda: self.model(inputs, source.start))
        learning = sum(p.numel() for p in self.model.parameters() if p.requires_grad)
        return (held + 16 * learning) / 1e6
