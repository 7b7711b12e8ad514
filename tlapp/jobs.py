"""Runs on threads of their own: start, stop, resume, follow.

A run outlives whoever started it: it reports to its folder, and anyone, in this process or another, follows it
there. One training at a time in a workspace; the others wait their turn in order. Torch is imported on the
run's thread, with `sitting`, which does the work.
"""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import filelock

from tlapp import catalog, cleanup, footprint, history, journal, lineage, memory, room, runs, weightfile, workspace
from tlapp import dataset as datasets
from tlapp.dataset import Dataset
from tlapp.errors import DataError, OutOfMemory, RunError, UserError, WeightsError, explain_oserror, printable
from tlapp.events import EpochFinished, Event, Progress, Queued, RunFailed, RunFinished, RunStopped
from tlapp.plan import Plan
from tlapp.runs import Run

POLL_SECONDS = 0.1
QUEUE_SECONDS = 0.5
MOST_WAITING = 16
"""Runs behind the one that trains."""


def start(dataset: Dataset, plan: Plan, home: Path | None = None) -> Run:
    """Begin a run in the background, or queue it behind those that train already.

    Raises:
        WeightsError: the backbone's weights are not on this machine; nothing is fetched here.
        DataError: a class has too few photos for the plan's split, or their copy is gone.
        RunError: as many runs wait as may, or the disk has no room for the model.
    """
    home = home or workspace.home()
    if plan.weights:
        weights = workspace.expand(plan.weights).absolute()
        if not weights.is_file():
            raise WeightsError(f"The weights file {printable(str(weights))} does not exist. Check the path.")
        plan = lineage.continued(dataclasses.replace(plan, weights=str(weights)))
    else:
        catalog.check_weights(catalog.get(plan.backbone))
    learned = lineage.learned_from(plan, dataset)
    runs.sweep(home)
    cleanup.finish(home)
    history.empty_trash(home)
    header = {
        "plan": plan.to_dict(),
        "dataset": dataset.id,
        "source": dataset.source,
        "classes": list(dataset.classes),
        "created": time.strftime("%Y-%m-%d %H:%M:%S"),
        "learned_from": learned,
    }
    if before := weightfile.of_file(Path(plan.weights)).get("run") if plan.weights else None:
        header["started_from"] = before
    room.check_model(home, footprint.of_run(plan, len(dataset.classes), len(dataset.photos)).kept)
    run, lock = runs.create(home, header, admit=lambda: _admit(home, dataset, plan))
    facts = {"backbone": plan.backbone, "solver": plan.solver, "dataset": dataset.id, "photos": len(dataset.photos)}
    journal.note("run_created", home, run=run.id, **facts)
    _launch(home, run, lock)
    return run


def _admit(home: Path, dataset: Dataset, plan: Plan) -> None:
    """Raise where there may not be one more run, or what it needs was cleaned away since it was asked for."""
    _check_line(home)
    copy = home / "datasets" / dataset.id
    if not (copy / "dataset.json").is_file():
        raise DataError(f"The app's copy of the photos at {printable(str(copy))} is gone. Load them again.")
    if plan.weights and not Path(plan.weights).is_file():
        raise WeightsError(f"The weights file {printable(plan.weights)} does not exist. Check the path.")


def _check_line(home: Path) -> None:
    n = sum(run.is_live() for run in runs.all_runs(home))
    if n > MOST_WAITING:
        raise RunError(
            f"{n - 1} runs wait their turn already, and no more may. Wait until the next one begins, or stop one that "
            "waits, then start this one again."
        )


def resume(run: Run, home: Path | None = None) -> Run:
    """Go on with a stopped, failed or killed run from its last finished epoch, in the background.

    Raises:
        RunError: it finished, is being worked on, was removed, or as many runs wait as may.
        DataError: its copy of the photos is gone.
    """
    _check_there(run)
    home = home or run.path.parent.parent
    is_of_here = run.path.parent == home / "runs"
    if is_of_here:
        runs.sweep(home)
    lock = run.lock()
    with runs.making(home) if is_of_here else contextlib.nullcontext():  # two at once are not both the last in line
        _check_line(home)
        try:
            lock.acquire(timeout=1)
        except filelock.Timeout:
            raise RunError(f"Run {run.id} is at work already. Follow it, or stop it first.") from None
    try:
        _check_there(run)
        run.mend()
        if any(isinstance(event, RunFinished) for event in run.events()[0]):
            raise RunError(f"Run {run.id} is finished; there is nothing to resume. Start a new run instead.")
        datasets.load(run.dataset_folder)
        _check_start(run)
        if is_of_here:
            with runs.making(home):
                runs.join_line(run)
        run.forget_stop()
    except BaseException:
        lock.release()
        raise
    _launch(home, run, lock)
    return run


def _check_there(run: Run) -> None:
    """Raise RunError where somebody removed it."""
    if not (run.path / "plan.json").exists():
        raise RunError(f"There is no run {run.id} any more. `tlapp runs` lists them.")


def _check_start(run: Run) -> None:
    """Raise RunError where the weights that the run started from are gone."""
    weights = run.plan.weights
    if weights and not Path(weights).is_file():
        raise RunError(
            f"The weights that run {run.id} started from are gone ({printable(weights)}). Put the file back, or start "
            "a new run."
        )


@contextlib.contextmanager
def alone(home: Path | None = None, waiting: Callable[[], object] = lambda: None) -> Iterator[None]:
    """Meanwhile no run trains; those that are started wait.

    An instant run, which nobody asked for and which soon ends, is waited for; meanwhile `waiting` is called, and what
    it raises ends the wait. Raises RunError if another run trains.
    """
    home = home or workspace.home()
    training = workspace.lock(home / "runs" / "training.lock")
    patience = time.monotonic() + 1  # a run that has ended holds the lock a moment longer
    while not training.is_locked:
        try:
            training.acquire(timeout=POLL_SECONDS)
        except filelock.Timeout:
            live = next((run for run in runs.all_runs(home) if run.is_live()), None)
            if not (live and live.plan.is_instant) and (live or time.monotonic() > patience):
                raise RunError("A run trains at the moment. Wait until it has ended, or stop it, then try.") from None
            waiting()
    try:
        yield
    finally:
        training.release()


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


def unsaid(run: Run) -> str:
    """What ended a run of this process whose record could not be written, such as on a full disk; else ""."""
    return _unsaid.get(run, "")


def device_words() -> str:
    """What a run with device "auto" would train on: "CPU, 2 threads". Imports torch."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    threads = torch.get_num_threads()
    return f"CPU, {threads} thread{'s' if threads > 1 else ''}"


_own: dict[Run, threading.Thread] = {}
_unsaid: dict[Run, str] = {}


def _launch(home: Path, run: Run, lock: filelock.BaseFileLock) -> None:
    thread = threading.Thread(target=_work, args=(home, run, lock), name=f"run-{run.id}", daemon=True)
    for ended in [other for other, its in list(_own.items()) if not its.is_alive()]:
        _own.pop(ended, None)
    _own[run] = thread
    _unsaid.pop(run, None)
    thread.start()


def _work(home: Path, run: Run, lock: filelock.BaseFileLock) -> None:
    """The thread: whatever happens is in the run's record before its lock is freed."""
    try:
        with _turn(home, run) as my_turn:
            if my_turn:
                from tlapp import sitting

                sitting.train_run(run)
            else:
                last = _last_epoch(run)
                run.append(RunStopped(last.best_epoch, last.epoch) if last else RunStopped(0, 0))
    except BaseException as error:  # SystemExit too: whoever looks at the run must be told
        is_known = isinstance(error, UserError | OSError) or memory.is_short(error)
        details = "" if is_known else journal.fault(error, home, run=run.id)
        said = _sentence(error, run, details)
        try:
            last = _last_epoch(run)
            run.append(RunFailed(said, last.best_epoch if last and run.has_model() else 0))
        except (OSError, RunError):  # the record cannot be written, or is damaged
            _unsaid[run] = said
    finally:
        lock.release()
    memory.give_back()


def _sentence(error: BaseException, run: Run, details: str) -> str:
    """What to tell the person of any exception; `details` say where those of a fault are."""
    if isinstance(error, UserError):
        return str(error)
    if memory.is_short(error):
        with contextlib.suppress(RunError):  # of a damaged record
            return str(OutOfMemory(memory.advice(error, run.plan, _stage(run))))
        return memory.SHORT
    if memory.is_gpu_lost(error):
        return memory.GPU_LOST
    if isinstance(error, OSError):
        return explain_oserror(error)
    return (
        f"The run ended on a fault of the program ({type(error).__name__}). What was learned is kept: resume it. "
        f"{details}"
    )


def _stage(run: Run) -> str:
    """What the run said last that it was doing; "" where that was an epoch."""
    last = next(reversed(run.events()[0]), None)
    return last.stage if isinstance(last, Progress) and last.done < last.total else ""


def _last_epoch(run: Run) -> EpochFinished | None:
    epochs = [event for event in run.events()[0] if isinstance(event, EpochFinished)]
    return epochs[-1] if epochs else None


@contextlib.contextmanager
def _turn(home: Path, run: Run) -> Iterator[bool]:
    """Wait until the earlier runs have ended and the workspace's training lock is ours; False if stopped waiting."""
    training = workspace.lock(home / "runs" / "training.lock")
    told = 0
    earlier = runs.live_before(home, run)
    while not run.stop_asked():
        if not earlier:
            try:
                training.acquire(timeout=0)
            except filelock.Timeout:
                pass
            else:
                try:
                    yield True
                finally:
                    training.release()
                return
        place = max(1, len(earlier))  # the lock may be held by `alone`
        if place != told:
            run.append(Queued(place))
            told = place
        time.sleep(QUEUE_SECONDS)
        mine = run.turn()
        earlier = [other for other in earlier if other.turn() < mine and other.is_live()]  # not if resumed meanwhile
    yield False
