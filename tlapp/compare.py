"""Two runs beside each other: the settings that differ, the scores, and test photo by test photo what changed.

Reads what the runs saved; asks no model anything. Knows nothing of how a comparison is shown.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tlapp import catalog, evaluate
from tlapp import dataset as datasets
from tlapp.dataset import Dataset
from tlapp.errors import DataError, RunError
from tlapp.plan import Plan
from tlapp.runs import Run


@dataclass(frozen=True)
class Pair:
    """A test photo that two runs answered: what it is, and what each said, how sure (shares of 1).

    `file`: its name in the later dataset of the two, that of `Comparison.after`.
    """

    file: str
    truth: str
    before: str
    after: str
    sure_before: float
    sure_after: float


@dataclass(frozen=True)
class Comparison:
    """What sets the run `after` apart from the run `before`, which may be the newer one.

    Attributes:
        before, after: the runs.
        scores: test accuracy of each with its number of test photos; None without a model.
        settings: name and both values, as words, of what differs.
        hinders: a sentence on why there is no comparison by photo, else "".
        n: test photos that both were asked about.
        n_relabelled: of these, how many had another class then; they are judged by the class of `after`.
        fixed, broken, wrong: pairs wrong before and right after; right before and wrong after; wrong in both.
    """

    before: Run
    after: Run
    scores: tuple[tuple[float, int] | None, tuple[float, int] | None]
    settings: tuple[tuple[str, str, str], ...]
    hinders: str = ""
    n: int = 0
    n_relabelled: int = 0
    fixed: tuple[Pair, ...] = ()
    broken: tuple[Pair, ...] = ()
    wrong: tuple[Pair, ...] = ()

    def in_words(self) -> str:
        """The diff by photo as sentences."""
        if self.hinders:
            return self.hinders
        of = f"of {self.n:,} shared test photo{'s' if self.n != 1 else ''}"
        words = f"{len(self.fixed)} fixed, {len(self.broken)} broken, {len(self.wrong)} wrong in both, {of}."
        if self.n_relabelled:
            words += f" {self.n_relabelled} of them changed class in between and are judged by the present one."
        return f"{words} {self._chance()}".strip()

    def _chance(self) -> str:
        """What a two-sided sign test says of the photos that changed (McNemar's exact test)."""
        if not self.fixed and not self.broken:
            return ""
        if evaluate.sign_test(len(self.fixed), len(self.broken)) <= evaluate.HARDLY_CHANCE:
            return "So clear a difference is hardly chance."
        return "So small a difference may well be chance."

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        pairs = {name: [vars(pair) for pair in getattr(self, name)] for name in ("fixed", "broken", "wrong")}
        runs = {"before": self.before.id, "after": self.after.id}
        scores = [None if score is None else evaluate.stated(*score) | {"n_test": score[1]} for score in self.scores]
        settings = [{"name": name, "before": old, "after": new} for name, old, new in self.settings]
        counts = {"n": self.n, "n_relabelled": self.n_relabelled, "hinders": self.hinders}
        return {**runs, "scores": scores, "settings": settings, **counts, **pairs}


def compare(before: Run, after: Run) -> Comparison:
    """What differs between two runs. Raises RunError where what they saved is damaged."""
    reports = [run.report() if run.has_model() else None for run in (before, after)]
    try:
        scores = [(float(r["accuracy"]), int(r["n_test"])) if r else None for r in reports]
        plain = Comparison(before, after, (scores[0], scores[1]), tuple(_differences(before, after)))
        if None in reports:
            without = " and ".join(run.id for run, r in zip((before, after), reports, strict=True) if r is None)
            return dataclasses.replace(plain, hinders=f"Not compared by photo: there is no model of {without}.")
        return _by_photo(plain, *(r["photos"] for r in reports if r))
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(f"The report of run {before.id} or of run {after.id} is damaged. Train again.") from error


def _by_photo(plain: Comparison, old: list[dict[str, Any]], new: list[dict[str, Any]]) -> Comparison:
    key_old, key_new = _keys(plain.before, plain.after)
    answered = _unambiguous(old, key_old)
    found: dict[str, list[Pair]] = {"fixed": [], "broken": [], "wrong": []}
    n = n_relabelled = 0
    for key, now in _unambiguous(new, key_new).items():
        then = answered.get(key)
        if then is None:
            continue
        n += 1
        truth = str(now["class"])
        n_relabelled += then["class"] != truth
        was_right, is_right = then["label"] == truth, now["label"] == truth
        if not (was_right and is_right):
            kind = "fixed" if is_right else "broken" if was_right else "wrong"
            said = str(then["label"]), str(now["label"]), float(then["probability"]), float(now["probability"])
            found[kind].append(Pair(str(now["file"]), truth, *said))
    if n == 0:
        return dataclasses.replace(plain, hinders="Not compared by photo: the two runs share no test photo.")
    fixed, broken, wrong = (tuple(sorted(pairs, key=lambda p: -p.sure_after)) for pairs in found.values())
    return dataclasses.replace(plain, n=n, n_relabelled=n_relabelled, fixed=fixed, broken=broken, wrong=wrong)


Key = Callable[[str], str | None]


def _keys(before: Run, after: Run) -> tuple[Key, Key]:
    """For each run what a photo is known by, from its name: its content, or the name where that is all there is."""
    if before.header()["dataset"] and before.dataset_folder == after.dataset_folder:
        return str, str
    of_before, of_after = _photos(before), _photos(after)
    if of_before and of_after:
        contents = [{photo.name: photo.sha256 for photo in found.photos} for found in (of_before, of_after)]
        return contents[0].get, contents[1].get
    if before.header()["source"] == after.header()["source"]:
        return str, str
    return (lambda name: None), (lambda name: None)


def _photos(run: Run) -> Dataset | None:
    try:
        return datasets.load(run.dataset_folder)
    except DataError:
        return None


def _unambiguous(photos: list[dict[str, Any]], key: Key) -> dict[str, dict[str, Any]]:
    """The answers by what their photos are known by."""
    keys = [key(photo["file"]) for photo in photos]
    times = Counter(keys)
    return {k: photo for k, photo in zip(keys, photos, strict=True) if k is not None and times[k] == 1}


def _differences(before: Run, after: Run) -> list[tuple[str, str, str]]:
    """The settings that differ, and the photos if these do."""
    photos = (_of(before), _of(after))
    if photos[0] == photos[1]:  # what tells them apart is said only where nothing else does
        photos = (f"{photos[0]}, {before.header()['dataset']}", f"{photos[1]}, {after.header()['dataset']}")
    rows = [("photos", *photos)]
    values = [_flat(run.plan) for run in (before, after)]
    values[1]["learned"] += _others(before.plan.learned, after.plan.learned)
    rows += [(name, values[0][name], values[1][name]) for name in values[0]]
    return [row for row in rows if row[1] != row[2]]


def _others(before: Collection[str], after: Collection[str]) -> str:
    """How many of as many photos are others; said only where their number does not tell."""
    n = len(set(after) - set(before)) if len(after) == len(before) else 0
    return f", {n:,} of them others" if n else ""


def _of(run: Run) -> str:
    name, found = Path(run.header()["source"]).name, _photos(run)
    return f"{name}: {len(found.photos):,} photos, {len(found.classes)} classes" if found else name


def _flat(plan: Plan) -> dict[str, str]:
    """Every setting in words; the seed of the split said, as the page says it always."""
    seed = plan.seed if plan.split_seed is None else plan.split_seed
    values = dataclasses.replace(plan, split_seed=seed).flat()
    values["learned"] = f"{values['learned']:,} photos"
    return {name: in_words(value) for name, value in values.items()} | {"frozen": _frozen(plan)}


def _frozen(plan: Plan) -> str:
    """The frozen blocks, neighbours as "stem to stage7"."""
    names = catalog.get(plan.backbone).block_names
    spans = [list(group) for frozen, group in itertools.groupby(names, plan.frozen.__contains__) if frozen]
    return ", ".join(s[0] if len(s) == 1 else f"{s[0]} to {s[-1]}" for s in spans) or "none"


def in_words(value: Any) -> str:
    """The value of a setting as it is shown."""
    if isinstance(value, tuple | list):
        return ", ".join(value) or "none"
    return f"{value:.12g}" if isinstance(value, int | float) else str(value)
