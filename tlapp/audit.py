"""What in a dataset would spoil its model, found before training: near copies, leaks, wrong labels, shortcuts.

Works on the cached features of plain views, and tells; what is to be done about it, the person decides. Test photos
are looked at too, as their labels and copies spoil the score; nothing is fitted here that a model is made of.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tlapp import backbones, catalog, crossval, decisions, looks, shortcuts, speed
from tlapp import dataset as datasets
from tlapp import forecast as forecasts
from tlapp import plan as plans
from tlapp import pool as pools
from tlapp.augment import Views
from tlapp.catalog import Backbone
from tlapp.crossval import Options
from tlapp.dataset import Dataset, Skipped, Split
from tlapp.errors import some
from tlapp.events import Progress
from tlapp.forecast import Curve
from tlapp.heads import Features
from tlapp.shortcuts import Shortcut

NEAR = 0.92
"""Cosine of the features of near copies; the closest two different photos of the two sets measured stand at 0.914."""

FAR = 3.5
"""Robust deviations from the usual distance to the three nearest photos, from which on a photo is unlike all others."""

NEARER = 0.2
"""Part of the usual distance within a class that near copies may at most be apart."""

REPEATS = 3
BLURRED = 0.01
DARK, BRIGHT = 30, 225
CUT = 0.42
"""Part of a photo's longer side that the centre crop leaves out, above which it is told of: more than of the usual 3:2.
"""

_ROWS = 512
ShouldStop = Callable[[], bool]


@dataclass(frozen=True)
class Suspect:
    """A photo's label against what the rest of the data says of it. `index`: into the dataset's photos.

    `score`: the probability of its label when it was held out, as a part of what its class gets on average, at most 1:
    the lower, the more it is contradicted. `suggested`: the class that the rest of the data speaks for.
    """

    index: int
    label: int
    suggested: int
    score: float


@dataclass(frozen=True)
class Flaws:
    """Photos that show little, by their index. `cropped`: of which the centre crop leaves out much, most first, with
    the part of the longer side that is lost.
    """

    small: tuple[int, ...]
    blurred: tuple[int, ...]
    dark: tuple[int, ...]
    bright: tuple[int, ...]
    cropped: tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class Report:
    """What was found; photos by their index in `Dataset.photos`.

    `near`: groups of near copies. `suspects`: all photos, worst first. `outliers`: unlike all others, most first.
    `notes`: sentences on what could not be looked into.
    """

    near: tuple[tuple[int, ...], ...]
    suspects: tuple[Suspect, ...]
    outliers: tuple[int, ...]
    flaws: Flaws
    shortcuts: tuple[Shortcut, ...]
    curve: Curve
    seconds: float = 0.0
    notes: tuple[str, ...] = ()

    def contradicted(self) -> list[Suspect]:
        """The suspects of which the rest of the data says another class, worst first."""
        return [s for s in self.suspects if s.suggested != s.label]


def audit(
    dataset: Dataset, backbone: str = "auto", should_stop: ShouldStop = lambda: False
) -> Generator[Progress, None, Report]:
    """Look through a dataset. May raise `features.Stopped`.

    Raises:
        WeightsError: the backbone's weights are not on this machine.
    """
    started = time.monotonic()
    plan = replace(plans.instant(dataset, backbone), class_weighting="balanced")
    entry, device = catalog.get(plan.backbone), speed.device("auto")
    model = backbones.load(entry, len(dataset.classes), weights="", dropout=0.0, seed=0)
    model = model.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    model.freeze(plan.frozen)
    model.renew_head(several=True)
    everything = Split(np.arange(len(dataset.photos)), np.arange(0), np.arange(0))
    pool = pools.Pool(dataset, everything, Views.of(plan), plan)
    cached = yield from pools.plain_cached(model, pool, plan, should_stop)
    yield Progress("looking at each photo", 0, 1)
    rows = cached.of(pool.indices, 1).all()[:, -entry.features :].cpu()
    length = rows.norm(dim=1, keepdim=True).clamp_min(1e-9)
    directions = rows / length
    ties = [*_near(directions, dataset.labels), *dataset.ties["near copies"]]
    near = looks.grouped(len(dataset.photos), ties)
    outliers = _outliers(directions, near)
    groups = looks.grouped(len(dataset.photos), [*enumerate(near.tolist()), *enumerate(dataset.groups.tolist())])
    found = _flaws(dataset, entry)
    yield Progress("checking labels", 0, 1)
    suspects, l2 = _suspects(rows, dataset.labels, groups, len(dataset.classes), pool, should_stop)
    yield Progress("looking for shortcuts", 0, 1)
    told = shortcuts.find(shortcuts.measure(dataset), dataset.labels, dataset.classes, groups)
    yield Progress("measuring what more photos bring", 0, 1)
    ahead = forecasts.curve(rows, dataset.labels, groups, len(dataset.classes), l2, check=_check(should_stop))
    seconds, notes = time.monotonic() - started, _unexamined(dataset, groups)
    return Report(tuple(_members(near)), tuple(suspects), tuple(outliers), found, tuple(told), ahead, seconds, notes)


def _unexamined(dataset: Dataset, groups: np.ndarray) -> tuple[str, ...]:
    """What could not be looked into, in sentences."""
    labels, counts = dataset.labels, dataset.class_counts()
    alone = {dataset.classes[label] for label in set(labels[crossval.within_one(labels, groups)].tolist())}
    few = [name for name, n in counts.items() if n < shortcuts.FEW and name not in alone]
    notes = []
    if alone:
        notes.append(
            f"All photos of {some(sorted(alone))} belong together, as near copies or as a burst: neither their labels "
            "nor shortcuts could be checked."
        )
    if few:
        notes.append(f"Below {shortcuts.FEW} photos of a class no shortcut can be found: {some(few)}.")
    return tuple(notes)


def leaks(dataset: Dataset, report: Report | None, split: Split) -> list[tuple[int, ...]]:
    """Near copies and bursts that stand on both sides of the line between test photos and the others."""
    near = [(members[0], other) for members in (report.near if report else ()) for other in members[1:]]
    groups = looks.grouped(len(dataset.photos), [*enumerate(dataset.groups.tolist()), *near])
    is_test = np.zeros(len(dataset.photos), dtype=bool)
    is_test[split.test] = True
    return [members for members in _members(groups) if 0 < is_test[list(members)].sum() < len(members)]


def to_dict(dataset: Dataset, report: Report, split: Split | None) -> dict[str, Any]:
    """The report for JSON: files by their names, exact copies that were left out among the duplicates and leaks.

    `split`: None where the photos are too few for one.
    """

    def names(indices: tuple[int, ...] | list[int]) -> list[str]:
        return [dataset.photos[i].name for i in indices]

    equal = exact(dataset)
    copies = dict(equal)
    in_groups = [[n for name in names(members) for n in (name, *copies.pop(name, []))] for members in report.near]
    sides = {s.name: s.side for s in dataset.skipped if s.same_as} | {p.name: p.side for p in dataset.photos}
    torn = [
        [name, *others] for name, others in equal.items() if len({sides.get(n) == "test" for n in (name, *others)}) > 1
    ]
    return {
        "classes": dataset.class_counts(),
        "unreadable": [{"file": s.name, "reason": s.reason} for s in unreadable(dataset)],
        "duplicates": in_groups + [[name, *others] for name, others in copies.items()],
        "leaks": [names(members) for members in (leaks(dataset, report, split) if split else [])] + torn,
        "suspect_labels": [
            {
                "file": dataset.photos[s.index].name,
                "label": dataset.classes[s.label],
                "suggested": dataset.classes[s.suggested],
                "score": round(s.score, 4),
                "contradicted": s.suggested != s.label,
            }
            for s in report.suspects
        ],
        "outliers": names(report.outliers),
        "shortcuts": [
            {"feature": s.feature, "class": s.class_name, "chance": shortcuts.CHANCE, **_stated(s, shortcuts.METHOD)}
            for s in report.shortcuts
        ],
        "learning_curve": [_point(point) for point in report.curve.points],
        "now": _point(report.curve.now) if report.curve.now else None,
        "forecast": _point(report.curve.ahead) if report.curve.ahead else None,
        "notes": list(report.notes),
        **{kind: names(getattr(report.flaws, kind)) for kind in ("small", "blurred", "dark", "bright")},
        "cropped": [{"file": dataset.photos[i].name, "cut": round(cut, 3)} for i, cut in report.flaws.cropped],
    }


def unreadable(dataset: Dataset) -> list[Skipped]:
    """Files that are no photos or broken ones; not those left out as copies, by decision, or with their class."""
    other = (decisions.LEFT_OUT, datasets.NO_CLASS)
    return [s for s in dataset.skipped if not s.same_as and s.reason not in other]


def exact(dataset: Dataset) -> dict[str, list[str]]:
    """Files that were left out as byte-identical, by the name of the one that they are copies of."""
    found: dict[str, list[str]] = {}
    for skipped in dataset.skipped:
        if skipped.same_as and skipped.same_as != skipped.name:
            found.setdefault(skipped.same_as, []).append(skipped.name)
    return found


def _point(point: forecasts.Point) -> dict[str, Any]:
    ends = {"low": round(point.low, 4), "high": round(point.high, 4)}
    return {"per_class": point.per_class, **_stated(point, point.method), **ends}


def _stated(found: forecasts.Point | Shortcut, method: str) -> dict[str, Any]:
    """As `evaluate.stated`, with an interval that is not Wilson's."""
    interval = [round(found.low, 4), round(found.high, 4)]
    return {"accuracy": round(found.accuracy, 4), "n": found.n, "interval": interval, "method": method}


def _members(groups: np.ndarray) -> list[tuple[int, ...]]:
    found: dict[int, list[int]] = {}
    for i, name in enumerate(groups.tolist()):
        found.setdefault(name, []).append(i)
    return [tuple(members) for members in found.values() if len(members) > 1]


def _near(rows: Tensor, labels: np.ndarray) -> list[tuple[int, int]]:
    """Pairs of near copies. `rows`: of length 1.

    Where all photos of a class look much alike, as things on one ground do, near copies must be nearer than that.
    """
    some_rows, some_labels = rows[:: _every(len(rows))], torch.from_numpy(labels[:: _every(len(rows))])
    same = (some_labels[:, None] == some_labels).triu(1)
    apart = 1 - (some_rows @ some_rows.T)[same]
    usual = float(apart.median()) if len(apart) else 1.0
    near = max(NEAR, 1 - NEARER * usual)
    found = []
    for first in range(0, len(rows), _ROWS):
        alike = (rows[first : first + _ROWS] @ rows.T) >= near
        found += [(i + first, j) for i, j in torch.nonzero(alike).tolist() if i + first < j]
    return found


def _every(n: int) -> int:
    """A step that leaves about 1,000 of n."""
    return max(1, n // 1000)


def _outliers(rows: Tensor, groups: np.ndarray) -> list[int]:
    """Photos that are unlike all others, most first; of near copies one. `rows`: of length 1."""
    chosen = np.unique(groups)
    rows = rows[torch.from_numpy(chosen)]
    distance, count = np.zeros(len(rows)), min(3, len(rows) - 1)
    for first in range(0, len(rows) if count else 0, _ROWS):
        alike = rows[first : first + _ROWS] @ rows.T
        alike[torch.arange(len(alike)), first + torch.arange(len(alike))] = -1
        distance[first : first + len(alike)] = 1 - alike.topk(count, 1).values.mean(1).double().numpy()
    middle = np.median(distance)
    deviation = 1.4826 * np.median(np.abs(distance - middle))
    far = (distance - middle) / max(deviation, 1e-6)
    return [int(chosen[i]) for i in np.argsort(-far, kind="stable") if far[i] >= FAR]


def _flaws(dataset: Dataset, entry: Backbone) -> Flaws:
    small, blurred, dark, bright, cut = [], [], [], [], []
    for i, photo in enumerate(dataset.photos):
        pixels = dataset.pixels(i)
        grey = pixels @ np.array([0.299, 0.587, 0.114], dtype=np.float32)
        if min(photo.full_height or photo.height, photo.full_width or photo.width) < entry.crop / 2:
            small.append(i)
        if grey.mean() < DARK and np.percentile(grey, 98) < 128:
            dark.append(i)
        elif grey.mean() > BRIGHT and np.percentile(grey, 2) > 128:  # a dark thing on white is no flaw
            bright.append(i)
        elif sharpness(grey) < BLURRED:
            blurred.append(i)
        lost = 1 - entry.crop / entry.resize * min(photo.height, photo.width) / max(photo.height, photo.width)
        if lost > CUT:
            cut.append((i, lost))
    cut.sort(key=lambda pair: -pair[1])
    return Flaws(tuple(small), tuple(blurred), tuple(dark), tuple(bright), tuple(cut))


def sharpness(grey: np.ndarray) -> float:
    """Variance of the Laplacian over that of the picture: float (H, W) → about 0.001 (blurred) to 1."""
    inner = grey[1:-1, 1:-1]
    edges = 4 * inner - grey[:-2, 1:-1] - grey[2:, 1:-1] - grey[1:-1, :-2] - grey[1:-1, 2:]
    return float(edges.var() / max(float(grey.var()), 1.0))


def _suspects(
    rows: Tensor, labels: np.ndarray, groups: np.ndarray, n_classes: int, pool: pools.Pool, should_stop: ShouldStop
) -> tuple[list[Suspect], float]:
    """All photos by how much the rest of the data contradicts their labels, and the strength that suits the head.

    Probabilities come from cross-validation, repeated; a label's is set against its class's mean, as classes differ
    in how sure they can be (confident learning, Northcutt et al. 2021). Of a class that is one group nothing is said.
    """
    width = rows.shape[1]
    features = Features((1, len(rows), width), lambda _, first, last: rows[first:last])
    none, options = np.zeros(len(labels), dtype=bool), Options(["ridge"], [width], [False])
    chance, asked = np.zeros((len(labels), n_classes)), np.zeros(len(labels))
    strengths = []
    for seed in range(REPEATS):
        fold = crossval.folds(labels, groups, none, True, seed)
        fold[crossval.within_one(labels, fold)] = -1  # held out, it would leave nothing to know the class by
        if (fold >= 0).any():
            choice = crossval.choose(features, labels, fold, pool.weights, n_classes, options, _check(should_stop))
            chance += np.nan_to_num(choice.held_out)
            asked += fold >= 0
            strengths.append(choice.l2)
    chance /= np.maximum(asked, 1)[:, None]
    own, judged = chance[np.arange(len(labels)), labels], asked > 0
    usual = np.bincount(labels, own, n_classes) / np.maximum(np.bincount(labels, judged, n_classes), 1)
    score = np.where(judged, np.minimum(1.0, own / np.maximum(usual[labels], 1e-9)), 1.0)
    suggested = np.where(judged, chance.argmax(1), labels)
    order = np.argsort(score, kind="stable")
    found = [Suspect(int(i), int(labels[i]), int(suggested[i]), float(score[i])) for i in order]
    return found, float(np.median(strengths)) if strengths else 1.0


def _check(should_stop: ShouldStop) -> Callable[[], None]:
    def check() -> None:
        if should_stop():
            raise pools.Stopped

    return check
