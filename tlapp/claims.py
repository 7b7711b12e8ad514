"""What a bundle or a run folder from elsewhere claims, checked before anything here relies on it.

Every value has its type and bounds, a score is that of its own photos, and what is not known is left out. Values in,
values out: knows nothing of files or networks.
"""

from __future__ import annotations

import dataclasses
import json
from typing import Annotated, Any, TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from tlapp import evaluate, events, schema
from tlapp.events import EpochFinished, Event, RunFinished

MOST_CLASSES, MOST_PHOTOS = 1_000, 50_000
MOST_EVENTS, MOST_EPOCHS = 200_000, 100_000

Share = Annotated[float, Field(ge=0, le=1)]
Interval = tuple[Share, Share]
Name = Annotated[str, Field(max_length=4_096)]
Short = Annotated[str, Field(max_length=200)]
Count = Annotated[int, Field(ge=0, le=10**9)]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Classes = Annotated[list[Name], Field(min_length=2, max_length=MOST_CLASSES)]


class _Checked(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore", allow_inf_nan=False)


class _Stated(_Checked):
    accuracy: Share
    n: Annotated[int, Field(ge=1, le=10**9)]
    interval: Interval
    method: Short


class _Compared(_Checked):
    n: Annotated[int, Field(ge=1, le=10**9)]
    run: Count
    instant: Count
    differ: Count
    run_interval: Interval
    instant_interval: Interval
    method: Short


class _Bin(_Checked):
    low: Share
    high: Share
    n: Annotated[int, Field(ge=1)]
    confidence: Share
    accuracy: Share
    interval: Interval
    method: Short


class _Calibration(_Checked):
    temperature: Annotated[float, Field(gt=0, le=1e4)]
    ece: Share
    ece_before: Share
    bins: Annotated[list[_Bin], Field(max_length=1_000)]


class _Cost(_Checked):
    keep: Annotated[int, Field(ge=80, le=99)]
    kept: Count
    let_in: Count


class _Unknown(_Checked):
    held_out: Count
    strangers: Count
    costs: Annotated[list[_Cost], Field(min_length=20, max_length=20)]


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
    head: Short = ""
    depth: Short = "last"
    mirror: bool = False
    l2: Annotated[float, Field(ge=0)] = 0
    fine_tuned: bool = False
    held_out_loss: Annotated[float, Field(ge=0)] = 0
    compared: _Compared | None = None
    calibration: _Calibration | None = None
    unknown: _Unknown | None = None
    cross_validated: _Stated | None = None
    seconds: Annotated[float, Field(ge=0, le=1e9)]
    n_train: Count
    n_validation: Count
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
    name: Short = ""


Values = dict[str, Any]
_Kind = TypeVar("_Kind", bound=_Checked)


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
        found = kind.model_validate_json(json.dumps(values))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"][:4])
        raise ValueError(f"{where}: {first['msg'].lower()}") from None
    return found.model_dump(mode="json", by_alias=True, exclude_unset=True)


def record(text: bytes, told: Values) -> list[Event]:
    """The events of a record that a finished run can be shown by, and its end as its report has it.

    Lines of other kinds are left out. Raises ValueError.
    """
    lines = text.splitlines()
    if len(lines) > MOST_EVENTS:
        raise ValueError("its record is too long")
    found = [event for event in map(_event, lines) if event is not None]
    validation = told["validation"]
    return [*found, RunFinished(
        told["best_epoch"], told["epochs"], told["validation_accuracy"], told["accuracy"], told["seconds"],
        validation["n"], told["n_test"],
    )]  # fmt: skip


def _event(line: bytes) -> Event | None:
    event = events.from_json(line.decode("ascii"))
    if not isinstance(event, events.SHOWN):
        return None
    text = json.dumps(dataclasses.asdict(event), allow_nan=False)
    try:
        TypeAdapter(type(event)).validate_json(text, strict=True)
    except ValidationError as error:
        raise ValueError(f"its record: {error.errors()[0]['msg'].lower()}") from None
    if isinstance(event, EpochFinished) and not 1 <= event.epoch <= event.epochs <= MOST_EPOCHS:
        raise ValueError("its record has an epoch out of range")
    return event
