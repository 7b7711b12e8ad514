"""One sitting of a run, on the caller's thread: prepare, train, save as it goes, score on the test photos, deliver.

Reports to the run's folder and asks it whether to stop. Knows no threads, locks or queues; they are `jobs`'s.
"""

from __future__ import annotations

import json
import time

import torch
from safetensors.torch import load, save

from tlapp import backbones, calibration, catalog, evaluate, features, lineage, recipe, scoring, speed, told, weightfile
from tlapp import dataset as datasets
from tlapp.augment import Views
from tlapp.backbones import Classifier
from tlapp.dataset import Dataset, Split
from tlapp.errors import RunError
from tlapp.events import Progress, Resumed, RunFinished, RunStarted, RunStopped
from tlapp.plan import Plan
from tlapp.predict import Predictor
from tlapp.recipe import Result
from tlapp.runs import Run
from tlapp.train import TrainState


def train_run(run: Run) -> None:
    """Prepare, train, save as it goes, score on the test photos, deliver."""
    started = time.monotonic()
    plan = run.plan
    dataset = datasets.load(run.dataset_folder)
    split = plan.split(dataset)
    entry = catalog.get(plan.backbone)
    device = speed.device(plan.device)
    model = backbones.load(
        entry, len(dataset.classes), weights=plan.weights, dropout=plan.dropout, seed=plan.seed, classes=dataset.classes
    )
    model.freeze(plan.frozen)
    model = model.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    views = Views.of(plan)
    state, result = _read_state(run), Result()
    sizes = len(split.train), len(split.validation), len(split.test)
    run.append(RunStarted(device.type, plan.epochs, *sizes, _caching(model, plan, device, split)))
    if state.epoch:
        run.append(Resumed(state.epoch))
    spent, saved = _seconds_before(run), state.epoch
    work = recipe.train if plan.solver != "sgd" else told.train
    try:
        for event in work(model, dataset, split, views, plan, run.stop_asked, state, result):
            if state.epoch > saved:
                _save_state(run, state)
                saved = state.epoch
            run.append(event)
    finally:
        if result.best:
            model.renew_head(result.several)
            model.restore(result.best)
            model.mirror = result.mirror
            _deliver(run, dataset, split, model, views, result, spent + time.monotonic() - started)
    seconds = spent + time.monotonic() - started
    if not result.best:
        run.append(RunStopped(0, 0))
        return
    ended = RunStopped if state.stopped else RunFinished
    accuracies = result.accuracy, run.report()["accuracy"]
    run.append(ended(result.best_epoch, result.epochs, *accuracies, seconds, result.n, len(split.test)))
    if not state.stopped:
        run.drop_states()


def _caching(model: Classifier, plan: Plan, device: torch.device, split: Split) -> str:
    """What is computed once, in words."""
    size = speed.quickest(model.entry, device, plan.precision).itemsize
    if plan.solver == "sgd":
        return features.plan_cache(model.entry, plan, model.prefix, len(split.train), len(split.validation), size).text
    return recipe.cache_plan(model.entry, plan, len(split.train), len(split.validation), size)[1].text


def _deliver(
    run: Run,
    dataset: Dataset,
    split: Split,
    model: Classifier,
    views: Views,
    result: Result,
    seconds: float,
) -> None:
    """Score the best weights on the test photos and save the network with its report."""
    tensors = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    recorded = {"classes": json.dumps(dataset.classes), "depth": "several" if model.several else "last"}
    recorded["mirror"] = "on" if model.mirror else "off"
    predictor = Predictor(model, views, dataset.classes, result.learned)  # which merges layers for speed

    def report_progress(done: int, total: int) -> None:
        run.append(Progress("scoring test photos", done, total))

    probabilities, strange = scoring.look(predictor, dataset, split.test, report_progress)
    labels = dataset.labels[split.test]
    photos = []
    for place, (index, row) in enumerate(zip(split.test, probabilities, strict=True)):
        photo = dataset.photos[int(index)]
        answer = predictor.answer(photo.name, row, None if strange is None else float(strange[place]))
        photos.append({
            "file": photo.name, "side": "test", "class": dataset.classes[photo.label],
            "label": answer.label, "probability": answer.probability, "strangeness": answer.strangeness,
        })  # fmt: skip
    scores = evaluate.score(labels, probabilities)
    report = {
        **scores.to_dict(dataset.classes),
        "validation_accuracy": result.accuracy,
        "validation": evaluate.stated(result.accuracy, result.n),
        "best_epoch": result.best_epoch,
        "epochs": result.epochs,
        **result.facts,
        "calibration": calibration.measure(labels, probabilities, result.temperature),
        **({"unknown": result.learned.costs()} if result.learned else {}),
        "seconds": seconds,
        "n_train": len(split.train),
        "n_validation": len(split.validation),
        "n_test": len(split.test),
        "photos": photos,
    }
    n_learned = [lineage.n_learned(run.plan, dataset, part) for part in (split.train, split.validation)]
    if sum(n_learned):
        report["n_validation_learned"], report["n_learned"] = n_learned[1], sum(n_learned)
        known = n_learned[1] if result.n == len(split.validation) else sum(n_learned)
        report["compared"] = report.get("compared", {}) | {"n_learned": known}
    elif result.cross_validated is not None:
        n_right = int(scores.confusion.trace())
        report["cross_validated"] = evaluate.cross_validated(result.cross_validated, result.n, n_right, len(labels))
    learned = result.learned.to_bytes() if result.learned else b""
    run.deliver(weightfile.with_metadata(save(tensors), recorded), report, learned)


def _seconds_before(run: Run) -> float:
    """What earlier sittings of a resumed run took, as the last of them said."""
    return max((event.seconds for event in run.events()[0] if isinstance(event, RunStopped)), default=0.0)


def _save_state(run: Run, state: TrainState) -> None:
    """The best under its epoch, then the last, which names it: cut off anywhere, `last` has the best it knew."""
    best = _best_name(state.best_epoch)
    if state.best_epoch == state.epoch:
        run.save(best, save(state.best))
    tensors = {f"learned|{name}": value for name, value in state.learned.items()}
    tensors |= {f"optimizer|{name}": value for name, value in state.optimizer.items()}
    tensors |= {
        "epoch": _number(state.epoch),
        "best_epoch": _number(state.best_epoch),
        "best_loss": _number(state.best_loss),
        "best_right": state.best_right,
    }
    last = save({name: value.contiguous() for name, value in tensors.items()}, {"best": best})
    run.save("last", last)
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
    if "best_right" not in values:
        raise RunError(f"Run {run.id} was begun by an earlier version, which kept too little to go on. Train again.")
    state = TrainState(
        epoch=int(values["epoch"]),
        best_epoch=int(values["best_epoch"]),
        best_loss=float(values["best_loss"]),
        best_right=values["best_right"],
        best=load(best),
    )
    for name, value in values.items():
        kind, _, rest = name.partition("|")
        if kind in ("learned", "optimizer"):
            getattr(state, kind)[rest] = value
    return state
