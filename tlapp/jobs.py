"""Runs on threads of their own: start, stop, resume, follow.

A run outlives whoever started it: it reports to its folder, and anyone, in this process or another, follows it
there. One training at a time in a workspace; the others wait their turn in order. Torch is imported on the
run's thread. The only room with threads.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import threading
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import filelock

from tlapp import catalog, runs, workspace
from tlapp import dataset as datasets
from tlapp.dataset import Dataset, Split
from tlapp.errors import OutOfMemory, RunError, UserError, WeightsError, explain_oserror
from tlapp.events import (
    Ended,
    EpochFinished,
    Event,
    Progress,
    Queued,
    Resumed,
    RunFailed,
    RunFinished,
    RunStarted,
    RunStopped,
)
from tlapp.plan import Plan
from tlapp.runs import Run

if TYPE_CHECKING:
    import torch

    from tlapp.backbones import Classifier
    from tlapp.train import TrainState

POLL_SECONDS = 0.1


def start(dataset: Dataset, plan: Plan, home: Path | None = None) -> Run:
    """Begin a run in the background, or queue it behind those that train already.

    Raises:
        WeightsError: the backbone's weights are not on this machine; nothing is fetched here.
        DataError: a class has too few photos for the plan's split.
    """
    home = home or workspace.home()
    if plan.weights:
        weights = Path(plan.weights).absolute()
        if not weights.is_file():
            raise WeightsError(f"The weights file {weights} does not exist. Check the path.")
        plan = dataclasses.replace(plan, weights=str(weights))
    else:
        catalog.check_weights(catalog.get(plan.backbone))
    plan.split(dataset)
    runs.sweep(home)
    header = {
        "plan": plan.to_dict(),
        "dataset": dataset.id,
        "source": dataset.source,
        "classes": list(dataset.classes),
        "created": time.strftime("%Y-%m-%d %H:%M:%S"),
    }
    run, lock = runs.create(home, header)
    _launch(home, run, lock)
    return run


def resume(run: Run, home: Path | None = None) -> Run:
    """Go on with a stopped, failed or killed run from its last finished epoch, in the background.

    Raises:
        RunError: it finished, is being worked on, or its copy of the photos is gone.
    """
    lock = run.lock()
    try:
        lock.acquire(timeout=1)
    except filelock.Timeout:
        raise RunError(f"Run {run.id} is at work already. Follow it, or stop it first.") from None
    try:
        run.mend()
        if any(isinstance(event, RunFinished) for event in run.events()[0]):
            raise RunError(f"Run {run.id} is finished; there is nothing to resume. Start a new run instead.")
        datasets.load(run.dataset_folder)
        run.forget_stop()
    except BaseException:
        lock.release()
        raise
    _launch(home or run.path.parent.parent, run, lock)
    return run


def stop(run: Run) -> None:
    """Ask a run to end within a batch, keeping its best weights. Harmless if it has ended."""
    if run.is_live():
        run.ask_to_stop()


def follow(run: Run) -> Iterator[Event]:
    """Every event of a run from its beginning, then as they come, until no process works on it.

    Works across processes and after the fact. A run whose process was killed ends without an `Ended` event; a
    resumed one has that of its earlier sitting in the middle.
    """
    position = 0
    while True:
        live = run.is_live()
        found, position = run.events(position)
        yield from found
        if not live:
            return
        time.sleep(POLL_SECONDS)


def close() -> None:
    """Stop the runs that this process works on, and wait until their best weights are saved."""
    own = [(run, thread) for run, thread in _own.items() if thread.is_alive()]
    for run, _ in own:
        run.ask_to_stop()
    for _, thread in own:
        thread.join()


def device_words() -> str:
    """What a run with device "auto" would train on: "CPU, 2 threads". Imports torch."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    threads = torch.get_num_threads()
    return f"CPU, {threads} thread{'s' if threads > 1 else ''}"


_own: dict[Run, threading.Thread] = {}


def _launch(home: Path, run: Run, lock: filelock.BaseFileLock) -> None:
    thread = threading.Thread(target=_work, args=(home, run, lock), name=f"run-{run.id}", daemon=True)
    _own[run] = thread
    thread.start()


def _work(home: Path, run: Run, lock: filelock.BaseFileLock) -> None:
    """The thread: whatever happens is in the run's record before its lock is freed."""
    try:
        with _turn(home, run) as my_turn:
            if my_turn:
                _train(run)
            else:
                last = _last_epoch(run)
                run.append(RunStopped(last.best_epoch, last.epoch) if last else RunStopped(0, 0))
    except Exception as error:
        with contextlib.suppress(OSError):
            if not isinstance(error, UserError | OSError | MemoryError):
                text = traceback.format_exc()
                (run.path / "error.txt").write_text(text, encoding="utf-8", errors="backslashreplace")
            last = _last_epoch(run)
            run.append(RunFailed(_sentence(error, run), last.best_epoch if last else 0))
    finally:
        lock.release()


def _sentence(error: Exception, run: Run) -> str:
    """What to tell the person of any exception."""
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, MemoryError) or "out of memory" in str(error).lower() or "allocate memory" in str(error):
        return str(
            OutOfMemory("The memory did not suffice. Lower batch_size or cache_mb, or freeze more blocks, and resume.")
        )
    if isinstance(error, OSError):
        return explain_oserror(error)
    return (
        f"The run ended on a fault of the program ({type(error).__name__}). What was learned is kept: resume it. "
        f"Details are in {run.path / 'error.txt'}."
    )


def _last_epoch(run: Run) -> EpochFinished | None:
    epochs = [event for event in run.events()[0] if isinstance(event, EpochFinished)]
    return epochs[-1] if epochs else None


@contextlib.contextmanager
def _turn(home: Path, run: Run) -> Iterator[bool]:
    """Wait until no earlier run is live and the workspace's training lock is ours; False if stopped waiting."""
    training = workspace.lock(home / "runs" / "training.lock")
    told = 0
    while not run.stop_asked():
        place = runs.live_before(home, run)
        if place == 0:
            try:
                training.acquire(timeout=POLL_SECONDS)
            except filelock.Timeout:
                place = 1
            else:
                try:
                    yield True
                finally:
                    training.release()
                return
        if place != told:
            run.append(Queued(place))
            told = place
        time.sleep(POLL_SECONDS)
    yield False


def _train(run: Run) -> None:
    """Prepare, train, save as it goes, score on the test photos, deliver."""
    from tlapp import backbones, features
    from tlapp import train as training
    from tlapp.augment import Views

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
        run.drop_checkpoints()


def _device(plan: Plan) -> torch.device:
    import torch

    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if plan.device == "auto":
        return torch.device("cuda" if available["cuda"] else "cpu")
    if not available[plan.device]:
        raise RunError(f"The device {plan.device} is not available on this machine. Set device to cpu or auto.")
    return torch.device(plan.device)


def _on_device(model: Classifier, device: torch.device) -> Classifier:
    import torch

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
    from safetensors.torch import save

    from tlapp import evaluate, scoring
    from tlapp.predict import Predictor

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
    """Best first, then last: whatever is cut off between them, `last` never knows of a best that is not there."""
    from safetensors.torch import save

    if is_best:
        run.save("best", save({**state.best, "epoch": _number(state.best_epoch)}))
    tensors = {f"learned|{name}": value for name, value in state.learned.items()}
    tensors |= {f"optimizer|{name}": value for name, value in state.optimizer.items()}
    tensors |= {
        "epoch": _number(state.epoch),
        "best_epoch": _number(state.best_epoch),
        "best_loss": _number(state.best_loss),
        "best_accuracy": _number(state.best_accuracy),
    }
    run.save("last", save({name: value.contiguous() for name, value in tensors.items()}))


def _number(value: float) -> torch.Tensor:
    import torch

    return torch.tensor(float(value), dtype=torch.float64)


def _read_state(run: Run) -> TrainState:
    """Where the run stood after its last whole epoch."""
    from safetensors.torch import load

    from tlapp.train import TrainState

    last, best = run.read("last"), run.read("best")
    if last is None or best is None:
        return TrainState()
    values = load(last)
    best_values = load(best)
    state = TrainState(
        epoch=int(values["epoch"]),
        best_epoch=int(values["best_epoch"]),
        best_loss=float(values["best_loss"]),
        best_accuracy=float(values["best_accuracy"]),
    )
    for name, value in values.items():
        kind, _, rest = name.partition("|")
        if kind in ("learned", "optimizer"):
            getattr(state, kind)[rest] = value
    del best_values["epoch"]
    state.best = best_values
    return state


__all__ = ["Ended", "follow", "resume", "start", "stop"]
