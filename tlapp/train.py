"""The training loop: a model, photos and a plan in; events out. The head first, then what is unfrozen.

No files, prints, threads or widgets: the caller saves `TrainState` between events, and hands it back to resume.
All randomness of an epoch follows from the plan's seed and the epoch's number alone.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from tlapp import optimizers
from tlapp.backbones import Classifier
from tlapp.errors import TrainingDiverged
from tlapp.events import EpochFinished, Event, Progress
from tlapp.features import PLAIN, Photos, Source, Stopped, Store, cache, deepen, draws, plan_cache
from tlapp.optimizers import Phase
from tlapp.plan import Plan
from tlapp.sampling import batches, class_weights, order
from tlapp.speed import Frozen, autocast, quickest

ShouldStop = Callable[[], bool]


@dataclass
class TrainState:
    """Where a training stands after `epoch` epochs: all that it takes to go on.

    `learned` and `best` are `Classifier.learned()` of the last and the best epoch of the phase; `optimizer`
    is the optimiser's state by parameter name. `best_right`: whether each validation photo was right then, bool
    (photos,).
    """

    epoch: int = 0
    best_epoch: int = 0
    best_loss: float = math.inf
    best_right: Tensor = field(default_factory=lambda: torch.zeros(1, dtype=torch.bool))  # of none
    learned: dict[str, Tensor] = field(default_factory=dict)
    best: dict[str, Tensor] = field(default_factory=dict)
    optimizer: dict[str, Tensor] = field(default_factory=dict)
    stopped: bool = False

    @property
    def best_accuracy(self) -> float:
        """On the validation photos."""
        return _share(self.best_right)


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
                    yield from run_phase(model, phase, sources[phase.name], plan, should_stop, state)
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
    return [*head, Phase("fine-tune", n + 1, plan.epochs, model.prefix, plan.patience, head_is_fitted=n > 0)]


def _is_on(phase: Phase, state: TrainState) -> bool:
    """Whether the next epoch is one of this phase."""
    waited = state.epoch - state.best_epoch if state.epoch >= phase.first else 0
    return phase.first - 1 <= state.epoch < phase.last and not (phase.patience and waited >= phase.patience)


def run_phase(
    model: Classifier,
    phase: Phase,
    sources: tuple[Source, Source],
    plan: Plan,
    should_stop: ShouldStop,
    state: TrainState,
) -> Iterator[EpochFinished]:
    """The epochs of one phase that are still to come, on training and validation sources; may raise Stopped."""
    train_source, validation_source = sources
    if state.epoch == phase.first - 1:  # a new phase starts from the best of the one before
        model.restore(state.best or model.learned())
        state.best_loss, state.optimizer = math.inf, {}
    else:
        model.restore(state.learned)
    optimizer = optimizers.build(model, plan, phase)
    optimizers.restore(optimizer, model, state.optimizer)
    criterion = _criterion(plan, train_source.photos.labels, model.head.linear.out_features)
    seconds: list[float] = []
    while _is_on(phase, state):
        epoch, started = state.epoch + 1, time.monotonic()
        learned = _learn(model, train_source, optimizer, criterion, plan, phase, epoch, should_stop)
        train_loss, train_accuracy = learned
        loss, right = judge(model, validation_source, plan.batch_size, should_stop)
        seconds.append(max(time.monotonic() - started, 1e-9))
        is_best = loss < state.best_loss
        state.epoch, state.learned = epoch, model.learned()
        state.optimizer = optimizers.state_of(optimizer, model)
        if is_best:
            state.best_epoch, state.best_loss, state.best_right = epoch, loss, right
            state.best = state.learned
        # Epochs of a later phase take their own time, and none has been timed yet.
        left = (phase.last - epoch) * sum(seconds) / len(seconds) if phase.last == plan.epochs else None
        yield EpochFinished(
            epoch, plan.epochs, phase.name, train_loss, train_accuracy, loss, _share(right), is_best, state.best_epoch,
            seconds[-1], len(train_source.photos) / seconds[-1], left, len(train_source.photos), len(right),
        )  # fmt: skip


def _learn(
    model: Classifier,
    source: Source,
    optimizer: torch.optim.Optimizer,
    criterion: nn.Module,
    plan: Plan,
    phase: Phase,
    epoch: int,
    should_stop: ShouldStop,
) -> tuple[float, float]:
    """One pass over the training photos; mean loss and accuracy as seen while learning."""
    model.fixed_statistics = plan.batchnorm == "fixed"
    model.head.dropout.probability = plan.dropout
    model.train()
    device = model.head.linear.weight.device
    generator = torch.Generator().manual_seed(plan.seed * 1_000_003 + epoch)
    model.head.dropout.generator.manual_seed(plan.seed * 1_000_003 + epoch)
    total, right = 0.0, 0
    all_positions = batches(order(source.photos.labels, plan.sampling, generator), plan.batch_size)
    for step, positions in enumerate(all_positions):
        if should_stop():
            raise Stopped
        factor = optimizers.rate_factor(plan, phase, epoch - 1 + step / len(all_positions))
        for group in optimizer.param_groups:
            group["lr"] = group["full_rate"] * factor
        inputs, labels = source.batch(positions, epoch, device)
        with _on_gpu(device, plan):
            logits = model(inputs, source.start).float()
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


def _share(right: Tensor) -> float:
    return float(right.double().mean())


def _on_gpu(device: torch.device, plan: Plan) -> contextlib.AbstractContextManager[None]:
    """Lower precision where gradients are quicker for it: on a CUDA card that has bfloat16."""
    lower = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    wanted = lower and plan.precision in ("auto", "bfloat16")
    return autocast(device, torch.bfloat16 if wanted else torch.float32)


def judge(model: Classifier, source: Source, batch_size: int, should_stop: ShouldStop) -> tuple[float, Tensor]:
    """Mean cross-entropy, without smoothing or class weights, and whether each photo is right: bool (photos,).

    Raises Stopped, and TrainingDiverged where the loss is not finite.
    """
    model.eval()
    device = model.head.linear.weight.device
    total, right = 0.0, []
    for part in torch.arange(len(source.photos)).split(max(batch_size, 32)):
        if should_stop():
            raise Stopped
        inputs, labels = source.batch(part.tolist(), 1, device)
        with torch.no_grad():
            logits = model(inputs, source.start)
        total += float(nn.functional.cross_entropy(logits, labels, reduction="sum"))
        right.append((logits.argmax(1) == labels).cpu())
    if not math.isfinite(total):
        raise TrainingDiverged(
            "The training diverged: the validation loss is no longer a finite number. Lower the learning rate and "
            "train again."
        )
    return total / len(source.photos), torch.cat(right)


Sources = dict[str, tuple[Source, Source]]


def _prepare(
    model: Classifier, train_photos: Photos, validation_photos: Photos, plan: Plan, should_stop: ShouldStop, epoch: int
) -> Generator[Progress, None, Sources]:
    """Training and validation inputs of each phase, cached as far as the plan's memory goes."""
    device = model.head.linear.weight.device
    quick = quickest(model.entry, device, plan.precision)
    end, start = model.n_blocks, model.prefix
    what = plan_cache(model.entry, plan, start, len(train_photos), len(validation_photos), quick.itemsize)
    prefix = Frozen(model, 0, start, device, quick)
    sources: Sources = {}

    def run(part: Frozen, photos: Photos, numbers: list[int], stage: str) -> Generator[Progress, None, Store]:
        return cache(part, photos, numbers, what.on_disk, should_stop, stage)

    tail, validation_tail = None, None
    if what.views:
        tail = yield from run(prefix, train_photos, draws(plan, what.views), "caching training views")
        validation_tail = yield from run(prefix, validation_photos, [PLAIN], "caching validation photos")
    if not plan.head_only:
        sources["fine-tune"] = (
            Source(train_photos, start, tail, prefix),
            Source(validation_photos, start, validation_tail, prefix, plain=True),
        )
    if epoch < plan.n_head_epochs:
        whole = prefix if start == end else Frozen(model, 0, end, device, quick)
        if start == end:
            pooled, validation_pooled = tail, validation_tail
        elif tail is not None and validation_tail is not None:
            rest = Frozen(model, start, end, device, quick)
            pooled, validation_pooled = deepen(rest, tail, should_stop), deepen(rest, validation_tail, should_stop)
        else:
            fitting = plan_cache(model.entry, plan, end, len(train_photos), len(validation_photos)).views
            pooled = yield from run(whole, train_photos, draws(plan, max(1, fitting)), "caching views for the head")
            validation_pooled = yield from run(whole, validation_photos, [PLAIN], "caching validation photos")
        sources["head"] = (
            Source(train_photos, end, pooled, whole),
            Source(validation_photos, end, validation_pooled, whole, plain=True),
        )
    return sources


def repeat(
    model: Classifier, source: Source, plan: Plan, phase: Phase, epochs: int, should_stop: ShouldStop
) -> Iterator[Progress]:
    """The first epochs of a phase once more, on other photos, without choosing anything; may raise Stopped."""
    optimizer = optimizers.build(model, plan, phase)
    criterion = _criterion(plan, source.photos.labels, model.head.linear.out_features)
    stage = "learning from all photos"
    yield Progress(stage, 0, epochs)
    for epoch in range(1, epochs + 1):
        _learn(model, source, optimizer, criterion, plan, phase, epoch, should_stop)
        yield Progress(stage, epoch, epochs)
    model.eval()


def time_epoch(model: Classifier, source: Source, plan: Plan) -> float:
    """Seconds that an epoch will take: a batch is run forward and backward twice, and nothing is changed."""
    model.fixed_statistics = True
    model.train()
    device = model.head.linear.weight.device
    positions = list(range(min(plan.batch_size, len(source.photos))))
    for _ in range(2):  # the first warms up
        started = time.monotonic()
        inputs, labels = source.batch(positions, 1, device)
        with _on_gpu(device, plan):
            logits = model(inputs, source.start).float()
        loss = nn.functional.cross_entropy(logits, labels)
        loss.backward()
        float(loss.detach())  # waits for a GPU
        model.zero_grad(set_to_none=True)
        seconds = time.monotonic() - started
    return seconds * len(source.photos) / len(positions)


def _criterion(plan: Plan, labels: Tensor, n_classes: int) -> nn.Module:
    weight = None
    if plan.class_weighting == "balanced":
        weight = torch.from_numpy(class_weights(labels.numpy(), n_classes)).float()
    return nn.CrossEntropyLoss(weight=weight, label_smoothing=plan.label_smoothing)
