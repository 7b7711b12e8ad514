"""What a bundle or a run folder from elsewhere claims, checked before anything here relies on it.

Every value has its type and bounds, a score is that of its own photos, what one value implies is there too, and what is
not known is left out. Bytes in, values out: knows nothing of files or networks.
"""

from __future__ import annotations

import dataclasses
import json
from typing import Annotated, Any, Literal, TypeVar

import numpy as np
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from tlapp import evaluate, events, schema
from tlapp.events import EpochFinished, Event, Judged, RunFinished, RunStarted, Trying

MOST_CLASSES, MOST_PHOTOS, MOST_LEARNED = 1_000, 50_000, 1_000_000
MOST_EVENTS, MOST_EPOCHS = 20_000, 100_000
MOST_BYTES = {"report": 32 * 1024**2, "header": 32 * 1024**2, "record": 64 * 1024**2, "words": 64 * 1024}
"""Of a file, by what it is: report.json; plan.json or run.json, with a million photos of earlier runs; events.jsonl;
about.json or keep.json.
"""
MOST_LINES, MOST_OF_LINE = 200_000, 64 * 1024
"""Of a record: lines of any kind, as a run's folder has its progress too, and bytes of one."""
MOST_OBJECTS, MOST_VALUES = 400_000, 4_000_000
"""Objects and lists, and values, of a file of JSON: each takes much more memory than room in the file."""
KEEPS = list(range(80, 100))
"""The per cent of known photos whose cost a report tells."""


def _short_enough(name: str) -> str:
    if len(name) > 4_096:
        raise ValueError("too long")
    return name


Share = Annotated[float, Field(ge=0, le=1)]
Interval = Annotated[list[Share], Field(min_length=2, max_length=2)]
Name = Annotated[str, AfterValidator(_short_enough)]
"""Of a file or folder. It may hold bytes that are not UTF-8, as `os.fsdecode` gives them: so there is no Field."""
Short = Annotated[str, Field(max_length=200)]
Count = Annotated[int, Field(ge=0, le=10**9)]
Some = Annotated[int, Field(ge=1, le=10**9)]
Amount = Annotated[float, Field(ge=0, le=1e9)]
Loss = Annotated[float, Field(ge=0, le=1e6)]
Epoch = Annotated[int, Field(ge=1, le=MOST_EPOCHS)]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Digits = Annotated[str, Field(pattern=r"^[0-9a-f]{12}$")]
Classes = Annotated[list[Name], Field(min_length=2, max_length=MOST_CLASSES)]


class _Checked(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore", allow_inf_nan=False)


class _Stated(_Checked):
    accuracy: Share
    n: Some
    interval: Interval
    method: Short


class _Compared(_Checked):
    n: Some
    run: Count
    instant: Count
    differ: Count
    run_interval: Interval
    instant_interval: Interval
    method: Short
    n_learned: Count = 0


class _Bin(_Checked):
    low: Share
    high: Share
    n: Some
    confidence: Share
    accuracy: Share
    interval: Interval
    method: Short


class _Calibration(_Checked):
    temperature: Annotated[float, Field(gt=0, le=1e4)]
    ece: Share
    ece_before: Share
    bins: Annotated[list[_Bin], Field(min_length=1, max_length=1_000)]


class _Cost(_Checked):
    keep: Annotated[int, Field(ge=80, le=99)]
    kept: Count
    let_in: Count


class _Unknown(_Checked):
    held_out: Count
    strangers: Count
    costs: Annotated[list[_Cost], Field(min_length=len(KEEPS), max_length=len(KEEPS))]


class _Photo(_Checked):
    file: Name
    side: Short = "test"
    class_: Annotated[Name, Field(alias="class")]
    label: Name
    probability: Share
    strangeness: Share | None = None


class _Report(_Checked):
    classes: Classes
    confusion: list[list[Count]]
    accuracy: Share
    validation_accuracy: Share
    validation: _Stated
    best_epoch: Count
    epochs: Count
    head: Literal["ridge", "logistic"] | None = None
    depth: Literal["last", "several"] | None = None
    mirror: bool | None = None
    l2: Amount | None = None
    fine_tuned: bool | None = None
    held_out_loss: Loss | None = None
    compared: _Compared | None = None
    calibration: _Calibration | None = None
    unknown: _Unknown | None = None
    cross_validated: _Stated | None = None
    seconds: Amount
    n_train: Count
    n_validation: Count
    n_learned: Count = 0
    n_validation_learned: Count = 0
    n_test: Annotated[int, Field(ge=1, le=MOST_PHOTOS)]
    photos: Annotated[list[_Photo], Field(min_length=1, max_length=MOST_PHOTOS)]
    model_sha256: Digest
    learned_sha256: Digest | None = None


class _Header(_Checked):
    plan: dict[str, Any]
    dataset: Annotated[str, Field(pattern=r"^([0-9a-f]{16})?$")]
    source: Name
    classes: Classes
    created: Short = ""
    run: Short = ""
    keep: Annotated[float, Field(ge=0.8, le=0.99)] | None = None
    learned_from: Annotated[list[Digits], Field(max_length=MOST_LEARNED)] | None = None
    name: Short = ""
    started_from: Short = ""


class _Started(_Checked):
    device: Short
    epochs: Epoch
    n_train: Count
    n_validation: Count
    n_test: Count
    caching: Annotated[str, Field(max_length=2_000)]


class _Epoch(_Checked):
    epoch: Epoch
    epochs: Epoch
    phase: Short
    train_loss: Loss
    train_accuracy: Share
    validation_loss: Loss
    validation_accuracy: Share
    is_best: bool
    best_epoch: Epoch
    seconds: Amount
    photos_per_second: Amount
    seconds_left: Amount | None
    n_train: Count
    n_validation: Count


class _Trying(_Checked):
    blocks: Annotated[str, Field(max_length=2_000)]
    seconds: Amount


class _Judged(_Checked):
    kept: bool
    before: Share
    after: Share | None
    n: Some
    diverged: bool


_EVENTS: dict[type[Event], type[_Checked]] = {
    RunStarted: _Started, EpochFinished: _Epoch, Trying: _Trying, Judged: _Judged,
}  # fmt: skip

Values = dict[str, Any]
_Kind = TypeVar("_Kind", bound=_Checked)


def read(data: bytes, what: str) -> Values:
    """The object in a file of JSON, if that is not too much to read. `what`: one of `MOST_BYTES`. Raises ValueError."""
    if len(data) > MOST_BYTES[what]:
        raise ValueError(f"its {what} is larger than {MOST_BYTES[what] // 1024:,} kB")
    if data.count(b"[") + data.count(b"{") > MOST_OBJECTS or data.count(b",") > MOST_VALUES:
        raise ValueError(f"its {what} holds too many values")
    values = json.loads(data)
    if not isinstance(values, dict):
        raise ValueError(f"its {what} is no object")
    return values


def header(values: Values, kind: str) -> Values:
    """plan.json of a run or run.json of a bundle, of any known schema. Raises schema.NewerError or ValueError."""
    found = _checked(_Header, schema.upgraded(values, kind))
    if len(set(found["classes"])) < len(found["classes"]):
        raise ValueError("a class is named twice")
    return found


def report(values: Values, classes: list[str]) -> Values:
    """report.json, of any known schema, of a model with these classes. Raises schema.NewerError or ValueError."""
    found = _checked(_Report, schema.upgraded(values, "report"))
    n, photos = len(classes), found["photos"]
    if found["classes"] != classes:
        raise ValueError("it is of other classes")
    _check_implied(found)
    confusion = found["confusion"]
    if len(confusion) != n or any(len(row) != n for row in confusion):
        raise ValueError("its confusion matrix does not fit its classes")
    place = {name: i for i, name in enumerate(classes)}
    counted = np.zeros((n, n), dtype=np.int64)
    for photo in photos:
        if photo["class"] not in place or photo["label"] not in place:
            raise ValueError(f"a photo is of a class that it does not have, {photo['class']!r} or {photo['label']!r}")
        counted[place[photo["class"]], place[photo["label"]]] += 1
    scores = evaluate.of_counts(counted).to_dict(tuple(classes))
    if scores["confusion"] != confusion or scores["n"] != found["n_test"]:
        raise ValueError("its confusion matrix is not that of its photos")
    if abs(scores["accuracy"] - found["accuracy"]) > 1e-9:
        raise ValueError("its score is not that of its photos")
    return {**found, **scores}


def _checked(kind: type[_Kind], values: Values) -> Values:
    """What the kind knows of the values. Raises ValueError."""
    try:
        found = kind.model_validate(values)
    except ValidationError as error:
        first = _first(error)
        where = ".".join(str(part) for part in first["loc"][:4])
        raise ValueError(f"{where}: {first['msg'].lower()}") from None
    known = found.model_dump(by_alias=True, exclude_unset=True)
    return {name: value for name, value in known.items() if value is not None}


def _first(error: ValidationError) -> Any:
    """The first of what pydantic found, without the value itself, which may be anything."""
    return error.errors(include_url=False, include_context=False, include_input=False)[0]


def _check_implied(found: Values) -> None:
    """Raise ValueError where a report has one thing but not what goes with it."""
    if "head" in found:
        missing = [name for name in ("depth", "mirror", "fine_tuned", "compared") if name not in found]
        if missing:
            raise ValueError(f"it has a head, but not {missing[0]}")
    compared = found.get("compared")
    if compared and max(compared[name] for name in ("run", "instant", "differ")) > compared["n"]:
        raise ValueError("compared: more photos than were asked")
    unknown = found.get("unknown")
    if not unknown:
        return
    costs = unknown["costs"]
    if [row["keep"] for row in costs] != KEEPS:
        raise ValueError("unknown.costs: they are not those of 80 to 99 per cent")
    if any(row["kept"] > unknown["held_out"] or row["let_in"] > unknown["strangers"] for row in costs):
        raise ValueError("unknown.costs: more photos than were asked")
    if any("strangeness" not in photo for photo in found["photos"]):  # null: of an earlier version
        raise ValueError("a photo has no strangeness, though the model tells strangers")


def record(text: bytes, told: Values) -> list[Event]:
    """The events of a record that a finished run can be shown by; its beginning and end as its report, `told`, has it.

    Lines of other kinds are left out. Raises ValueError.
    """
    if len(text) > MOST_BYTES["record"] or text.count(b"\n") > MOST_LINES:
        raise ValueError("its record is too long")
    found: list[Event] = []
    for line in text.splitlines():
        event = _event(line)
        if event is not None:
            found.append(_counted(event, told) if isinstance(event, RunStarted) else event)
        if len(found) > MOST_EVENTS:
            raise ValueError("its record is too long")
    if not any(isinstance(event, RunStarted) for event in found):
        epochs = min(max(1, told["epochs"]), MOST_EPOCHS)
        found.insert(0, _counted(RunStarted("another machine", epochs, 0, 0, 0, ""), told))
    validation = told["validation"]
    return [*found, RunFinished(
        told["best_epoch"], told["epochs"], told["validation_accuracy"], told["accuracy"], told["seconds"],
        validation["n"], told["n_test"],
    )]  # fmt: skip


def _counted(event: RunStarted, told: Values) -> RunStarted:
    return dataclasses.replace(event, **{name: told[name] for name in ("n_train", "n_validation", "n_test")})


def _event(line: bytes) -> Event | None:
    if len(line) > MOST_OF_LINE:
        raise ValueError("its record has a line that is too long")
    event = events.from_json(line.decode("ascii"))
    if not isinstance(event, events.SHOWN):
        return None
    try:
        _EVENTS[type(event)].model_validate(vars(event))
    except ValidationError as error:
        raise ValueError(f"its record: {_first(error)['msg'].lower()}") from None
    if isinstance(event, EpochFinished) and event.epoch > event.epochs:
        raise ValueError("its record has an epoch out of range")
    return event
