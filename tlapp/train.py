"""The training loop: a model, photos and a plan in; events out. The head first, then what is unfrozen.

No files, prints, threads or widgets: the caller saves `TrainState` between events, and hands it back to resume.
All randomness of an epoch follows from the plan's seed and the epoch's number alone.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from tlapp.backbones import Classifier
from tlapp.errors import TrainingDiverged
from tlapp.events import EpochFinished, Event, Progress
from tlapp.features import PLAIN, Photos, Source, Stopped, cache, deepen, plan_cache
from tlapp.plan import Plan

ShouldStop = Callable[[], bool]


@dataclass
class TrainState:
    """Where a training stands after `epoch` epochs: all that it takes to go on.

    `learned` and `best` are `Classifier.learned()` of the last and the best epoch of the phase; `optimizer`
    is the optimiser's state by parameter name.
    """

    epoch: int = 0
    best_epoch: int = 0
    best_loss: float = math.inf
    best_accuracy: float = 0.0
    learned: dict[str, Tensor] = field(default_factory=dict)
    best: dict[str, Tensor] = field(default_factory=dict)
    optimizer: dict[str, Tensor] = field(default_factory=dict)
    stopped: bool = False


@dataclass(frozen=True)
class Phase:
    """Epochs `first` to `last` in which the same parameters learn; `start` is the first block that runs."""

    name: str
    first: int
    last: int
    start: int
    patience: int


def train(
    model: Classifier,
    train_photos: Photos,
    validation_photos: Photos,
    plan: Plan,
    should_stop: ShouldStop,
    state: TrainState | None = None,
) -> Iterator[Event]:
    """Train `model` in place; when this ends, it holds the best weights of the last phase reached.

    Args:
        model: with `freeze` already done, on the device to train on.
        should_stop: asked before every batch; True ends the training within one, keeping the best so far.
        state: of an earlier training of the same plan and photos, to go on from; filled as epochs finish.

    Yields:
        Progress while views are cached, EpochFinished after each epoch.

    Raises:
        TrainingDiverged: the loss is not finite; `state.best` holds the best weights so far.
    """
    state = TrainState() if state is None else state
    state.stopped = False
    try:
        if any(_is_on(phase, state) for phase in phases(plan, model)):  # a resumed run may have nothing left to do
            sources = yield from _prepare(model, train_photos, validation_photos, plan, should_stop, state.epoch)
            for phase in phases(plan, model):
                if _is_on(phase, state):
                    yield from _run_phase(model, phase, sources[phase.name], plan, should_stop, state)
    except Stopped:
        state.stopped = True
    if state.best:
        model.restore(state.best)
    model.eval()


def phases(plan: Plan, model: Classifier) -> list[Phase]:
    """The head alone, then, where blocks are unfrozen, everything unfrozen."""
    n = plan.n_head_epochs
    if plan.head_only:
        return [Phase("head", 1, n, model.n_blocks, plan.patience)]
    head = [Phase("head", 1, n, model.n_blocks, 0)] if n else []
    return [*head, Phase("fine-tune", n + 1, plan.epochs, model.prefix, plan.patience)]


def _is_on(phase: Phase, state: TrainState) -> bool:
    """Whether the next epoch is one of this phase."""
    waited = state.epoch - state.best_epoch if state.epoch >= phase.first else 0
    return phase.first - 1 <= state.epoch < phase.last and not (phase.patience and waited >= phase.patience)


def _run_phase(
    model: Classifier,
    phase: Phase,
    sources: tuple[Source, Source],
    plan: Plan,
    should_stop: ShouldStop,
    state: TrainState,
) -> Iterator[Event]:
    train_source, validation_source = sources
    if state.epoch == phase.first - 1:  # a new phase starts from the best of the one before
        model.restore(state.best)
        state.best_loss, state.optimizer = math.inf, {}
    else:
        model.restore(state.learned)
    optimizer = _optimizer(model, plan, phase)
    _restore_optimizer(optimizer, model, state.optimizer)
    criterion = _criterion(plan, train_source.photos.labels, model.head.linear.out_features)
    seconds: list[float] = []
    while _is_on(phase, state):
        epoch, started = state.epoch + 1, time.monotonic()
        train_loss, train_accuracy = _learn(model, train_source, optimizer, criterion, plan, epoch, should_stop)
        loss, accuracy = _validate(model, validation_source, plan.batch_size, should_stop)
        seconds.append(max(time.monotonic() - started, 1e-9))
        is_best = loss < state.best_loss
        state.epoch, state.learned = epoch, model.learned()
        state.optimizer = _optimizer_state(optimizer, model)
        if is_best:
            state.best_epoch, state.best_loss, state.best_accuracy = epoch, loss, accuracy
            state.best = state.learned
        # Epochs of a later phase take their own time, and none has been timed yet.
        left = (phase.last - epoch) * sum(seconds) / len(seconds) if phase.last == plan.epochs else None
        yield EpochFinished(
            epoch, plan.epochs, phase.name, train_loss, train_accuracy, loss, accuracy, is_best, state.best_epoch,
            seconds[-1], len(train_source.photos) / seconds[-1], left,
        )  # fmt: skip


def _learn(
    model: Classifier,
    source: Source,
    optimizer: torch.optim.Optimizer,
    criterion: nn.Module,
    plan: Plan,
    epoch: int,
    should_stop: ShouldStop,
) -> tuple[float, float]:
    """One pass over the training photos; mean loss and accuracy as seen while learning."""
    model.train()
    device = model.head.linear.weight.device
    generator = torch.Generator().manual_seed(plan.seed * 1_000_003 + epoch)
    model.head.dropout.generator.manual_seed(plan.seed * 1_000_003 + epoch)
    total, right = 0.0, 0
    for positions in batches(torch.randperm(len(source.photos), generator=generator), plan.batch_size):
        if should_stop():
            raise Stopped
        inputs, labels = source.batch(positions, epoch, device)
        logits = model(inputs, source.start)
        loss = criterion.to(device)(logits, labels)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise TrainingDiverged(
                f"The training diverged in epoch {epoch}: its loss is no longer a finite number. "
                f"Lower the learning rate (head_rate is {plan.head_rate:g}, fine_tune_rate {plan.fine_tune_rate:g}) "
                "and train again."
            )
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        total += value * len(positions)
        right += int((logits.argmax(1) == labels).sum())
    return total / len(source.photos), right / len(source.photos)


def batches(order: Tensor, size: int) -> list[list[int]]:
    """Cut an order of photos into batches; a last batch of one, which BatchNorm cannot use, joins the one before."""
    cut = [part.tolist() for part in order.split(size)]
    if len(cut) > 1 and len(cut[-1]) == 1:
        last = cut.pop()
        cut[-1] += last
    return cut


def _validate(model: Classifier, source: Source, batch_size: int, should_stop: ShouldStop) -> tuple[float, float]:
    """Mean cross-entropy and accuracy on the plain views, without smoothing or class weights."""
    model.eval()
    device = model.head.linear.weight.device
    total, right = 0.0, 0
    for part in torch.arange(len(source.photos)).split(max(batch_size, 32)):
        if should_stop():
            raise Stopped
        inputs, labels = source.batch(part.tolist(), 1, device)
        with torch.no_grad():
            logits = model(inputs, source.start)
        total += float(nn.functional.cross_entropy(logits, labels, reduction="sum"))
        right += int((logits.argmax(1) == labels).sum())
    if not math.isfinite(total):
        raise TrainingDiverged(
            "The training diverged: the validation loss is no longer a finite number. Lower the learning rate and "
            "train again."
        )
    return total / len(source.photos), right / len(source.photos)


Sources = dict[str, tuple[Source, Source]]


def _prepare(
    model: Classifier, train_photos: Photos, validation_photos: Photos, plan: Plan, should_stop: ShouldStop, epoch: int
) -> Generator[Progress, None, Sources]:
    """Training and validation inputs of each phase, cached as far as the plan's memory goes."""
    device = model.head.linear.weight.device
    end, prefix = model.n_blocks, model.prefix
    what = plan_cache(model.entry, plan, prefix, len(train_photos), len(validation_photos))
    sources: Sources = {}

    def run(photos: Photos, stop: int, draws: list[int], stage: str) -> Generator[Progress, None, Tensor]:
        return cache(model, photos, stop, draws, device, should_stop, stage)

    def draws(views: int) -> list[int]:
        return [PLAIN] if plan.augmentation.is_off else list(range(views))

    tail, validation_tail = None, None
    if what.views:
        tail = yield from run(train_photos, prefix, draws(what.views), "caching training views")
        validation_tail = yield from run(validation_photos, prefix, [PLAIN], "caching validation photos")
    if not plan.head_only:
        sources["fine-tune"] = (
            Source(model, train_photos, prefix, tail),
            Source(model, validation_photos, prefix, validation_tail, plain=True),
        )
    if epoch < plan.n_head_epochs:
        if prefix == end:
            pooled, validation_pooled = tail, validation_tail
        elif tail is not None and validation_tail is not None:
            pooled = deepen(model, tail, prefix, device, should_stop)
            validation_pooled = deepen(model, validation_tail, prefix, device, should_stop)
        else:
            fitting = plan_cache(model.entry, plan, end, len(train_photos), len(validation_photos)).views
            pooled = yield from run(train_photos, end, draws(max(1, fitting)), "caching views for the head")
            validation_pooled = yield from run(validation_photos, end, [PLAIN], "caching validation photos")
        sources["head"] = (
            Source(model, train_photos, end, pooled),
            Source(model, validation_photos, end, validation_pooled, plain=True),
        )
    return sources


def _criterion(plan: Plan, labels: Tensor, n_classes: int) -> nn.Module:
    weight = None
    if plan.class_weighting == "balanced":
        counts = torch.bincount(labels, minlength=n_classes).clamp(min=1)
        weight = len(labels) / (n_classes * counts.float())
    return nn.CrossEntropyLoss(weight=weight, label_smoothing=plan.label_smoothing)


def _optimizer(model: Classifier, plan: Plan, phase: Phase) -> torch.optim.AdamW:
    """AdamW: the head at its rate, each unfrozen block at the fine-tune rate, lower towards the input."""
    groups = []

    def add(module: nn.Module, rate: float) -> None:
        parameters = [p for p in module.parameters() if p.requires_grad]
        for weights in (True, False):
            chosen = [p for p in parameters if (p.ndim > 1) == weights]
            if chosen:
                groups.append({"params": chosen, "lr": rate, "weight_decay": plan.weight_decay * weights})

    head_first = phase.name == "fine-tune" and plan.n_head_epochs > 0
    add(model.head, plan.fine_tune_rate if head_first else plan.head_rate)
    if phase.name == "fine-tune":
        rate = plan.fine_tune_rate
        for name in reversed(list(model.blocks)):
            if name not in model.frozen:
                add(model.blocks[name], rate)
                rate *= plan.rate_decay
    return torch.optim.AdamW(groups)


def _optimizer_state(optimizer: torch.optim.Optimizer, model: Classifier) -> dict[str, Tensor]:
    names: dict[Tensor, str] = {parameter: name for name, parameter in model.named_parameters()}
    return {
        f"{names[parameter]}|{key}": value.detach().cpu().clone()
        for parameter, values in optimizer.state.items()
        for key, value in values.items()
    }


def _restore_optimizer(optimizer: torch.optim.Optimizer, model: Classifier, state: dict[str, Tensor]) -> None:
    parameters = dict(model.named_parameters())
    for name, value in state.items():
        parameter, _, key = name.rpartition("|")
        target = parameters[parameter]
        optimizer.state[target][key] = value.clone() if key == "step" else value.clone().to(target.device)
