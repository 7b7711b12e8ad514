"""One sitting of a run, on the caller's thread: prepare, train, save as it goes, score on the test photos, deliver.

Reports to the run's folder and asks it whether to stop. Knows no threads, locks or queues; they are `jobs`'s.
"""

from __future__ import annotations

import json
import time
from typing import Any

import torch
from safetensors.torch import load, save

from tlapp import backbones, catalog, evaluate, features, scoring
from tlapp import dataset as datasets
from tlapp import train as training
from tlapp.augment import Views
from tlapp.backbones import Classifier
from tlapp.dataset import Dataset, Split
from tlapp.errors import RunError
from tlapp.events import EpochFinished, Progress, Resumed, RunFinished, RunStarted, RunStopped
from tlapp.plan import Plan
from tlapp.predict import Predictor
from tlapp.runs import Run
from tlapp.train import TrainState


def train_run(run: Run) -> None:
    """Prepare, train, save as it goes, score on the test photos, deliver."""
    started = time.monotonic()
    plan = run.plan
    dataset = datasets.load(run.dataset_folder)
    split = plan.split(dataset)
    entry = catalog.get(plan.backbone)
    device = _device(plan)
    model = backbones.load(entry, len(dataset.classes), weights=plan.weights, dropout=plan.dropout, seed=plan.seed)
    model.freeze(plan.frozen)
    views = Views(plan.augmentation, entry)
    sides = [features.Photos(dataset, indices, views, plan.seed) for indices in (split.train, split.validation)]
    sizes = len(split.train), len(split.validation), len(split.test)
    state = _read_state(run)
    caching = features.plan_cache(entry, plan, model.prefix, sizes[0], sizes[1]).text
    run.append(RunStarted(device.type, plan.epochs, *sizes, caching))
    if state.epoch:
        run.append(Resumed(state.epoch))
    model = _on_device(model, device)
    spent = _seconds_before(run)
    try:
        for event in training.train(model, sides[0], sides[1], plan, run.stop_asked, state):
            if isinstance(event, EpochFinished):
                _save_state(run, state, event.is_best)
            run.append(event)
    finally:
        if state.best:
            model.restore(state.best)
            _deliver(run, dataset, split, model, views, state, spent + time.monotonic() - started)
    seconds = spent + time.monotonic() - started
    if not state.best:
        run.append(RunStopped(0, 0))
        return
    accuracy = run.report()["accuracy"]
    ended = RunStopped if state.stopped else RunFinished
    run.append(ended(state.best_epoch, state.epoch, state.best_accuracy, accuracy, seconds))
    if not state.stopped:
        run.drop_states()


def _device(plan: Plan) -> torch.device:
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if plan.device == "auto":
        return torch.device("cuda" if available["cuda"] else "cpu")
    if not available[plan.device]:
        raise RunError(f"The device {plan.device} is not available on this machine. Set device to cpu or auto.")
    return torch.device(plan.device)


def _on_device(model: Classifier, device: torch.device) -> Classifier:
    return model.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]


def _deliver(
    run: Run,
    dataset: Dataset,
    split: Split,
    model: Classifier,
    views: Any,
    state: TrainState,
    seconds: float,
) -> None:
    """Score the best weights on the test photos and save the network with its report."""
    predictor = Predictor(model, views, dataset.classes)

    def report_progress(done: int, total: int) -> None:
        run.append(Progress("scoring test photos", done, total))

    probabilities = scoring.classify(predictor, dataset, split.test, report_progress)
    labels = dataset.labels[split.test]
    photos = []
    for index, row in zip(split.test, probabilities, strict=True):
        photo = dataset.photos[int(index)]
        answer = predictor.answer(photo.name, row)
        photos.append({
            "file": photo.name, "side": "test", "class": dataset.classes[photo.label],
            "label": answer.label, "probability": answer.probability,
        })  # fmt: skip
    report = {
        **evaluate.score(labels, probabilities).to_dict(dataset.classes),
        "validation_accuracy": state.best_accuracy,
        "best_epoch": state.best_epoch,
        "epochs": state.epoch,
        "seconds": seconds,
        "n_train": len(split.train),
        "n_validation": len(split.validation),
        "n_test": len(split.test),
        "photos": photos,
    }
    tensors = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    run.deliver(save(tensors, metadata={"classes": json.dumps(dataset.classes)}), report)


def _seconds_before(run: Run) -> float:
    """What earlier sittings of a resumed run took, as the last of them said."""
    return max((event.seconds for event in run.events()[0] if isinstance(event, RunStopped)), default=0.0)


def _save_state(run: Run, state: TrainState, is_best: bool) -> None:
    """The best under its epoch, then the last, which names it: cut off anywhere, `last` has the best it knew."""
    best = _best_name(state.best_epoch)
    if is_best:
        run.save(best, save(state.best))
    tensors = {f"learned|{name}": value for name, value in state.learned.items()}
    tensors |= {f"optimizer|{name}": value for name, value in state.optimizer.items()}
    tensors |= {
        "epoch": _number(state.epoch),
        "best_epoch": _number(state.best_epoch),
        "best_loss": _number(state.best_loss),
        "best_accuracy": _number(state.best_accuracy),
    }
    run.save("last", save({name: value.contiguous() for name, value in tensors.items()}))
    run.drop_states(but=("last", best))


def _best_name(epoch: int) -> str:
    return f"best-{epoch}"


def _number(value: float) -> torch.Tensor:
    return torch.tensor(float(value), dtype=torch.float64)


def _read_state(run: Run) -> TrainState:
    """Where the run stood after its last whole epoch."""
    last = run.read("last")
    if last is None:
        return TrainState()
    values = load(last)
    best = run.read(_best_name(int(values["best_epoch"])))
    if best is None:
        raise RunError(f"The best weights so far of run {run.id} are gone. Train again.")
    state = TrainState(
        epoch=int(values["epoch"]),
        best_epoch=int(values["best_epoch"]),
        best_loss=float(values["best_loss"]),
        best_accuracy=float(values["best_accuracy"]),
        best=load(best),
    )
    for name, value in values.items():
        kind, _, rest = name.partition("|")
        if kind in ("learned", "optimizer"):
            getattr(state, kind)[rest] = value
    return state
