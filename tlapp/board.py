"""A run as event files that TensorBoard reads: curves, scores, settings, pictures.

Every run has a sub-folder of its own, named by its id, so that TensorBoard shows runs side by side. All that is written
follows from the run's own record, so a run may be written while it trains, afterwards, or again once it was resumed;
the training knows nothing of it. TensorBoard comes with the extra `tensorboard`; it and torch are imported by `check`
and by whoever opens a board.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from tlapp import figures, images, workspace
from tlapp.errors import DataError, UserError, explain_oserror, printable
from tlapp.events import EpochFinished, Event, Judged, Progress, RunFailed, RunFinished, RunStarted, RunStopped
from tlapp.runs import Run

_ENDING = ".tlapp"
_METRICS = ("accuracy/test", "accuracy/held out", "loss/validation")


def check(to: str | Path) -> Path:
    """The folder for event files, made if it is not there; so that what hinders is said before a run begins.

    Raises UserError: TensorBoard is not installed, or nothing can be written at `to`.
    """
    _writer()
    path = workspace.expand(to).absolute()
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise DataError(explain_oserror(error)) from error
    return path


def _writer() -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise UserError('TensorBoard is not installed. Get it with: pip install "tlapp[tensorboard]".') from error
    return SummaryWriter


class Board:
    """The event files of one run below `to`; those that were written of it before are written anew.

    Raises UserError without TensorBoard, OSError where nothing can be written; so does `add`.
    """

    def __init__(self, run: Run, to: str | Path) -> None:
        self.run, self.path = run, Path(to) / printable(run.id)
        self.epochs: list[EpochFinished] = []
        self._best, self._dropped = 0, False
        self._last: dict[str, int] = {}
        self._said: set[tuple[str, str]] = set()
        self._now = _began(run)
        writer = _writer()
        for earlier in self.path.glob(f"events.out.tfevents.*{_ENDING}"):
            earlier.unlink(missing_ok=True)
        self._to = writer(str(self.path), filename_suffix=_ENDING)
        self._settings()

    def add(self, event: Event) -> None:
        """Write what an event tells; one that was told before, as by a run that was resumed, is passed over."""
        if isinstance(event, EpochFinished):
            self._epoch(event)
        elif isinstance(event, Progress) and event.total > 0:
            self._scalar(f"progress/{event.stage}", event.done / event.total, event.done)
        elif isinstance(event, RunStarted):
            photos = f"{event.n_train} training, {event.n_validation} validation and {event.n_test} test photos"
            self._text("photos", f"{photos} on {event.device}. {event.caching}")
        elif isinstance(event, Judged):
            self._text("fine-tuning", event.in_words())
            self._dropped = event.dropped
        elif isinstance(event, RunFinished | RunStopped):
            self._end(event)
        elif isinstance(event, RunFailed):
            self._text("failed", event.message)

    def close(self) -> None:
        """Add the pictures, where the run has a model by now, and write all of it out."""
        try:
            if self.run.has_model():
                self._pictures()
        finally:
            self._to.close()

    def abandon(self) -> None:
        """Close what cannot be written any more."""
        with contextlib.suppress(OSError):
            self._to.close()

    def _epoch(self, event: EpochFinished) -> None:
        if self.epochs and event.epoch <= self.epochs[-1].epoch:
            return
        for tag, value in (
            ("loss/training", event.train_loss),
            ("loss/validation", event.validation_loss),
            ("accuracy/training", event.train_accuracy),
            ("accuracy/validation", event.validation_accuracy),
            ("progress/best epoch", event.best_epoch),
            ("speed/photos per second", event.photos_per_second),
        ):
            self._scalar(tag, value, event.epoch, event.seconds)
        self._now += event.seconds
        self.epochs.append(event)
        self._to.flush()

    def _end(self, event: RunFinished | RunStopped) -> None:
        step = self.epochs[-1].epoch if self.epochs else 0
        self._best = event.best_epoch
        for tag, value in (("accuracy/test", event.accuracy), ("accuracy/held out", event.validation_accuracy)):
            if value is not None:
                self._scalar(tag, value, step)
        self._to.flush()

    def _scalar(self, tag: str, value: float, step: int, seconds: float = 0.0) -> None:
        """One point of a curve; its steps only rise, so nothing is in it twice."""
        if step > self._last.get(tag, -1):
            self._to.add_scalar(tag, value, step, self._now + seconds)
            self._last[tag] = step

    def _text(self, tag: str, text: str) -> None:
        """Shown literally: TensorBoard takes text for Markdown, in which four spaces begin what is not."""
        if (tag, text) not in self._said:
            step = sum(said == tag for said, _ in self._said)
            self._said.add((tag, text))
            lines = "\n".join(f"    {printable(line)}" for line in text.splitlines())
            self._to.add_text(tag, lines, step, self._now)

    def _settings(self) -> None:
        """The plan as text, and as what TensorBoard compares runs by."""
        from torch.utils.tensorboard.summary import hparams

        header, settings = self.run.header(), _flat(self.run.plan.flat())
        self._text("settings", "\n".join(f"{name} = {value}" for name, value in settings.items()))
        self._text("classes", "\n".join(map(printable, header["classes"])))
        self._text("source", header["source"])
        settings = {name: printable(value) if isinstance(value, str) else value for name, value in settings.items()}
        for summary in hparams(settings, dict.fromkeys(_METRICS, 0)):
            self._to.file_writer.add_summary(summary, walltime=self._now)

    def _pictures(self) -> None:
        step = self.epochs[-1].epoch if self.epochs else 0
        with tempfile.TemporaryDirectory(prefix="tlapp-") as folder:
            path = Path(folder) / "figure.png"
            figures.confusion(np.array(self.run.report()["confusion"]), self.run.classes, path)
            self._picture("confusion", path, step)
            if self.epochs:
                figures.curves(self.epochs, path, self._best, self._dropped)
                self._picture("curves", path, step)

    def _picture(self, tag: str, path: Path, step: int) -> None:
        self._to.add_image(tag, images.load(path.read_bytes(), None), step, self._now, dataformats="HWC")


def write(run: Run, to: str | Path) -> dict[str, Any]:
    """Write what there is of a run, also of one that still trains: `run`, `path`, `epochs` and `files`.

    Raises UserError.
    """
    try:
        board = Board(run, check(to))
        for event in run.events()[0]:
            board.add(event)
        board.close()
        names = sorted(name for name in os.listdir(board.path) if name.endswith(_ENDING))
    except OSError as error:
        raise DataError(explain_oserror(error)) from error
    return {"run": run.id, "path": str(board.path), "epochs": len(board.epochs), "files": names}


def _began(run: Run) -> float:
    """When the run was made, in seconds; what it tells is dated from there, as its record has no other times."""
    try:
        return time.mktime(time.strptime(str(run.header()["created"]), "%Y-%m-%d %H:%M:%S"))
    except (KeyError, ValueError, OverflowError):
        return (run.path / "plan.json").stat().st_mtime


def _flat(values: dict[str, Any]) -> dict[str, Any]:
    """The plan's settings by name: numbers as they are, all else as text."""
    words = {name: ", ".join(v) if isinstance(v, list) else "none" if v is None else v for name, v in values.items()}
    return {name: v if isinstance(v, int | float) else str(v) for name, v in words.items()}
