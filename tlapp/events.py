"""What a run tells while it lives: small frozen values, written one per line and replayed to whoever watches.

An event knows nothing of files, widgets or torch. `to_json` and `from_json` are each other's inverse: what `to_json`
adds, the interval of every accuracy, follows from the event.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Any

from tlapp import evaluate


@dataclass(frozen=True)
class Event:
    """The root of all events."""

    def stated(self) -> dict[str, Any]:
        """What stands beside its accuracies in JSON: intervals and how they were made."""
        return {}


@dataclass(frozen=True)
class Queued(Event):
    """The run waits; `place` others are before it."""

    place: int


@dataclass(frozen=True)
class RunStarted(Event):
    """Training begins. `caching` says in words what is computed once and what every epoch."""

    device: str
    epochs: int
    n_train: int
    n_validation: int
    n_test: int
    caching: str


@dataclass(frozen=True)
class Resumed(Event):
    """A stopped or interrupted run goes on after `epoch` finished epochs."""

    epoch: int


@dataclass(frozen=True)
class Progress(Event):
    """`done` of `total` photos or views of a stage: "caching views", "scoring test photos"."""

    stage: str
    done: int
    total: int


@dataclass(frozen=True)
class EpochFinished(Event):
    """One pass over the training photos.

    Losses are mean cross-entropy in nats, accuracies fractions of 1, times seconds. The training figures are
    taken while learning (with augmentation and dropout), so they may stand below validation. `seconds_left`
    assumes that no early stop happens; it is None while the head learns before fine-tuning, whose epochs have not
    been timed yet. `phase` is "head" or "fine-tune"; `is_best` compares within its phase, by validation loss.
    `n_train`, `n_validation`: photos that the accuracies rest on; 0 in records of an earlier version.
    """

    epoch: int
    epochs: int
    phase: str
    train_loss: float
    train_accuracy: float
    validation_loss: float
    validation_accuracy: float
    is_best: bool
    best_epoch: int
    seconds: float
    photos_per_second: float
    seconds_left: float | None
    n_train: int = 0
    n_validation: int = 0

    def stated(self) -> dict[str, Any]:
        """`train_interval`, `validation_interval`, `method`."""
        sides = {
            "train": (self.train_accuracy, self.n_train),
            "validation": (self.validation_accuracy, self.n_validation),
        }
        known = {f"{side}_interval": evaluate.interval(*score) for side, score in sides.items() if score[1]}
        return {**known, "method": evaluate.METHOD} if known else {}

    def validation(self, to: str = "–") -> str:
        """The validation accuracy, brief: "93 % of 60 (84–97 %)"."""
        return evaluate.brief(self.validation_accuracy, self.n_validation, to=to)


@dataclass(frozen=True)
class Trying(Event):
    """`blocks` ("stage7, top") are about to be fine-tuned, for about `seconds` at most, by the time of a step."""

    blocks: str
    seconds: float


@dataclass(frozen=True)
class Judged(Event):
    """Fine-tuning is over: kept if validation accuracy `after` it is clearly above that `before` it, on `n` photos.

    `after` is None where it `diverged`, and where it was not tried, as `before` leaves too little to gain.
    """

    kept: bool
    before: float
    after: float | None
    n: int
    diverged: bool = False

    def stated(self) -> dict[str, Any]:
        """`before_interval`, `after_interval` if there is one, `method`."""
        scores = {"before": self.before, "after": self.after}
        known = {f"{when}_interval": evaluate.interval(it, self.n) for when, it in scores.items() if it is not None}
        return {**known, "method": evaluate.METHOD}

    @property
    def dropped(self) -> bool:
        """Whether fine-tuning was tried and is not in the model that is kept."""
        return self.diverged or (self.after is not None and not self.kept)

    def in_words(self) -> str:
        """A sentence for the person."""
        if self.diverged:
            return "Fine-tuning diverged and is dropped."
        before = evaluate.counted(round(self.before * self.n), self.n)
        if self.after is None:
            return f"Fine-tuning is not tried: of the {self.n} validation photos {before} are right already."
        after = evaluate.counted(round(self.after * self.n), self.n)
        verdict = "kept" if self.kept else "dropped, as it is not clearly better"
        return (
            f"Fine-tuning is {verdict}: of the {self.n} validation photos {before} were right before it, {after} after."
        )


@dataclass(frozen=True)
class Ended(Event):
    """The root of the three ends of a run."""


class _Scored(Ended):
    """An end with accuracies: on `n_test` test photos, and on `n_held_out` on which the choices were made."""

    validation_accuracy: float | None
    accuracy: float | None
    n_held_out: int
    n_test: int

    def stated(self) -> dict[str, Any]:
        """Both as `evaluate.stated`, the second as `validation`."""
        if self.accuracy is None or self.validation_accuracy is None or not self.n_test:
            return {}
        validation = evaluate.stated(self.validation_accuracy, self.n_held_out)
        return {**evaluate.stated(self.accuracy, self.n_test), "validation": validation}


@dataclass(frozen=True)
class RunFinished(_Scored):
    """All epochs done or stopped early by patience; the best weights are saved and scored."""

    best_epoch: int
    epochs: int
    validation_accuracy: float
    accuracy: float
    seconds: float
    n_held_out: int = 0
    n_test: int = 0


@dataclass(frozen=True)
class RunStopped(_Scored):
    """Stopped by the person after `epochs` epochs. With none finished there is no model (`best_epoch` 0)."""

    best_epoch: int
    epochs: int
    validation_accuracy: float | None = None
    accuracy: float | None = None
    seconds: float = 0.0
    n_held_out: int = 0
    n_test: int = 0


@dataclass(frozen=True)
class RunFailed(Ended):
    """`message` is one sentence for the person; the best weights of `best_epoch` (0: none) are kept."""

    message: str
    best_epoch: int = 0


SHOWN = (RunStarted, EpochFinished, Trying, Judged)
"""What a finished run is shown by, beside its report."""

_KINDS: dict[str, type[Event]] = {
    kind.__name__: kind
    for kind in (
        Queued,
        RunStarted,
        Resumed,
        Progress,
        EpochFinished,
        Trying,
        Judged,
        RunFinished,
        RunStopped,
        RunFailed,
    )
}


def to_json(event: Event) -> str:
    """One line of strict ASCII JSON, without the line end."""
    values = {"event": type(event).__name__, **dataclasses.asdict(event), **event.stated()}
    return json.dumps(values, allow_nan=False)


def from_json(line: str) -> Event | None:
    """The event of a line, or None for a kind that this version does not know. Raises ValueError on garbage."""
    values: dict[str, Any] = json.loads(line)
    if not isinstance(values, dict):
        raise ValueError("an event is an object")
    kind = _KINDS.get(str(values.pop("event", "")))
    if kind is None:
        return None
    known = {field.name for field in dataclasses.fields(kind)}
    try:
        return kind(**{name: value for name, value in values.items() if name in known})
    except TypeError as error:
        raise ValueError(str(error)) from error
