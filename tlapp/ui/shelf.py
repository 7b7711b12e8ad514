"""What pages look at, kept on the server under ids: datasets, run records, loaded models, thumbnails.

A page names ids alone, never paths; an id that is unknown or not well formed is None. Knows no widgets.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import functools
import io
import re
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from tlapp import catalog, runs, workspace
from tlapp import dataset as datasets
from tlapp.dataset import Dataset
from tlapp.errors import DataError, RunError
from tlapp.events import (
    Ended,
    EpochFinished,
    Event,
    Judged,
    Progress,
    Queued,
    Resumed,
    RunFinished,
    RunStarted,
    Trying,
)  # fmt: skip
from tlapp.plan import Plan
from tlapp.runs import Run

if TYPE_CHECKING:
    from tlapp.predict import Predictor


def dataset(name: Any) -> Dataset | None:
    """The dataset of that id, if the workspace has it."""
    if not isinstance(name, str) or not re.fullmatch("[0-9a-f]{16}", name):
        return None
    try:
        return _dataset(workspace.home() / "datasets" / name)
    except DataError:
        return None


def _dataset(folder: Path) -> Dataset:
    """As `dataset.load`, kept while the folder is there, which is in use from now on. Raises DataError."""
    try:
        datasets.mark_used(folder)
        return _loaded(folder, (folder / "dataset.json").stat().st_mtime_ns)
    except OSError:
        return datasets.load(folder)  # which says in a sentence what is wrong


@functools.lru_cache(maxsize=8)
def _loaded(folder: Path, _written: int) -> Dataset:
    return datasets.load(folder)


def dataset_of(run: Run) -> Dataset | None:
    """The photos a run learned from, if the workspace still has them."""
    try:
        return _dataset(run.dataset_folder)
    except (DataError, RunError):
        return None


def run(name: Any) -> Run | None:
    """The run of that id."""
    if not isinstance(name, str) or not re.fullmatch(r"\d{4,}-[a-z0-9]{6}", name):
        return None
    found = Run(workspace.home() / "runs" / name)
    return found if (found.path / "plan.json").exists() else None


def live() -> Run | None:
    """The run that trains now, else the first that waits."""
    living = (run for run in runs.all_runs(workspace.home()) if run.is_live())
    return min(living, key=Run.turn, default=None)


def newest() -> Run | None:
    """The run that was started last."""
    return next(iter(reversed(runs.all_runs(workspace.home()))), None)


@dataclass(frozen=True)
class Model:
    """A run that can predict, in short."""

    run: Run
    classes: tuple[str, ...]
    source: str
    accuracy: float
    n_test: int


def models() -> list[Model]:
    """Runs that can predict, newest first; damaged ones are left out."""
    found = []
    for one in reversed(runs.all_runs(workspace.home())):
        try:
            found.append(_model(one, (one.path / "report.json").stat().st_mtime_ns))
        except (RunError, OSError, KeyError, TypeError):
            continue
    return found


@functools.lru_cache(maxsize=1024)
def _model(run: Run, _written: int) -> Model:
    report, header = run.report(), run.header()
    return Model(run, run.classes, str(header["source"]), float(report["accuracy"]), int(report["n_test"]))


def model(name: Any) -> Model | None:
    """The model of that run; where it has none, the newest on the same photos, else the newest."""
    found = models()
    exact = next((m for m in found if m.run.id == name), None)
    own = None if exact else run(name)
    photos = photos_of(own) if own else None
    same = next((m for m in found if photos_of(m.run) == photos), None) if own else None
    return exact or same or next(iter(found), None)


def photos_of(run: Run) -> str:
    """What names the photos that a run is about, as they were before any decision."""
    try:
        found = dataset_of(run)
        return (found.original or found.id) if found else str(run.header()["dataset"])
    except RunError:
        return ""


def answering(name: Any) -> Run:
    """The run of that id, to ask about photos; before a page has chosen one, the newest model. Raises RunError."""
    if not name:
        newest = model(None)
        if newest is None:
            raise RunError("There is no model yet. Train one in the Train tab.")
        return newest.run
    found = run(name)
    if found is None:
        raise RunError("That run is gone. Choose another model.")
    return found


def instant(dataset: Dataset, plan: Plan) -> Run | None:
    """The newest run of that instant plan on these photos that has a model or is at work."""
    for run in reversed(runs.all_runs(workspace.home())):
        with contextlib.suppress(RunError):
            header = run.header()
            is_it = header["dataset"] == dataset.id and _seeded(run.plan) == _seeded(plan)
            if is_it and (run.has_model() or (run.is_live() and not run.stop_asked())):
                return run
    return None


def _seeded(plan: Plan) -> Plan:
    """The plan with the seed of its split said: the page says it always, a suggested plan leaves it to its seed."""
    return dataclasses.replace(plan, split_seed=plan.seed if plan.split_seed is None else plan.split_seed)


def may_be_timed(backbone: str, device: str) -> bool:
    """Whether this backbone's speed is known, or no instant run lives beside which it would come out slow."""
    if not makes_instant():
        return True
    from tlapp import speed

    return speed.is_measured(catalog.get(backbone), device)


def makes_instant() -> bool:
    """Whether the run that trains now makes an instant model."""
    run = live()
    try:
        return run is not None and run.plan.is_instant
    except RunError:
        return False


def predictor(run: Run) -> Predictor:
    """The run's model, kept loaded, with the line for strangers as it is now. Raises RunError."""
    run.report()  # says in a sentence if there is none
    return _predictor(run, (run.path / "report.json").stat().st_mtime_ns).keeping(run.keep())


@functools.lru_cache(maxsize=2)
def _predictor(run: Run, _written: int) -> Predictor:
    from tlapp import predict

    return predict.load(run)


@functools.lru_cache(maxsize=4096)
def _thumbnail(folder: Path, index: int, side: int) -> str:
    return data_uri(_dataset(folder).pixels(index), side)


def thumbnail(dataset: Dataset, index: int, side: int = 112) -> str:
    """A square picture of one photo as a data URI."""
    return _thumbnail(dataset.folder, index, side)


@functools.lru_cache(maxsize=512)
def _whole(folder: Path, index: int, most: int) -> str:
    picture = Image.fromarray(_dataset(folder).pixels(index))
    picture.thumbnail((most, most), Image.Resampling.BICUBIC)
    return data_uri(np.asarray(picture))


def whole(dataset: Dataset, index: int, most: int) -> str:
    """A picture of all of one photo as a data URI, its longer side `most` pixels at most."""
    return _whole(dataset.folder, index, most)


def data_uri(pixels: np.ndarray, side: int | None = None) -> str:
    """uint8 (H, W, 3) as a JPEG data URI; with `side`, its centre square scaled to that many pixels."""
    picture = Image.fromarray(pixels)
    if side:
        cut = min(picture.size)
        left, top = (picture.width - cut) // 2, (picture.height - cut) // 2
        picture = picture.resize((side, side), Image.Resampling.BICUBIC, (left, top, left + cut, top + cut))
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=82)
    return "data:image/jpeg;base64," + base64.b64encode(out.getvalue()).decode("ascii")


@dataclass
class Record:
    """A run as its events tell it so far; after a resume the epochs go on where it was resumed."""

    run: Run
    live: bool = False
    place: int = 0
    started: RunStarted | None = None
    progress: Progress | None = None
    epochs: list[EpochFinished] = field(default_factory=list)
    trying: Trying | None = None
    judged: Judged | None = None
    end: Ended | None = None
    position: int = 0
    seen: tuple[float, int] = (0.0, 0)

    def seconds_of_step_left(self) -> float | None:
        """Of the step that `progress` tells of, at the pace seen since; None until there is one."""
        if self.progress is None:
            return None
        since, first = self.seen
        done, passed = self.progress.done - first, time.monotonic() - since
        return (self.progress.total - self.progress.done) * passed / done if done > 0 and passed > 1 else None

    @property
    def n_epochs(self) -> int:
        """How many epochs there are at most, once it is known."""
        if self.epochs:
            return self.epochs[-1].epochs
        return self.started.epochs if self.started else 1

    @property
    def best(self) -> EpochFinished | None:
        """The best epoch of the phase that the run is in."""
        return next((e for e in reversed(self.epochs) if e.epoch == self.epochs[-1].best_epoch), None)

    @property
    def delivered(self) -> int:
        """The epoch whose weights the finished run delivers; 0 before its end."""
        return self.end.best_epoch if isinstance(self.end, RunFinished) else 0

    @property
    def dropped(self) -> bool:
        """Whether fine-tuning was tried and dropped."""
        return self.judged is not None and self.judged.dropped

    @property
    def can_resume(self) -> bool:
        """Whether it was stopped, failed or was interrupted."""
        return not self.live and not isinstance(self.end, RunFinished)

    def read(self) -> None:
        """Take in what has happened since the last look. Raises RunError if the record is damaged."""
        self.live = self.run.is_live()
        found, self.position = self.run.events(self.position)
        for event in found:
            self._take(event)

    def _take(self, event: Event) -> None:
        self.end = event if isinstance(event, Ended) else None
        self.place = event.place if isinstance(event, Queued) else 0
        if isinstance(event, Queued):
            self.progress = None
        elif isinstance(event, RunStarted):
            self.started, self.progress = event, None
            if self.run.plan.solver != "sgd":  # an exact head is fitted anew
                self.epochs, self.trying, self.judged = [], None, None
        elif isinstance(event, Resumed):
            self.epochs = [e for e in self.epochs if e.epoch <= event.epoch]
        elif isinstance(event, Trying):
            self.trying, self.progress = event, None
        elif isinstance(event, Judged):
            self.judged, self.progress = event, None
        elif isinstance(event, Progress):
            if self.progress is None or self.progress.stage != event.stage:
                self.seen = time.monotonic(), event.done
            self.progress = event
        elif isinstance(event, EpochFinished):
            self.progress = None
            self.epochs.append(event)


RECORDS = 64
_records: OrderedDict[Path, Record] = OrderedDict()
_one_reader = threading.Lock()


def record(run: Run) -> Record:
    """The run's record up to now, a copy; each event is read from disk once. Raises RunError."""
    with _one_reader:
        kept = _records.setdefault(run.path, Record(run))
        _records.move_to_end(run.path)
        while len(_records) > RECORDS:
            _records.popitem(last=False)
        kept.read()
        return dataclasses.replace(kept, epochs=list(kept.epochs))
