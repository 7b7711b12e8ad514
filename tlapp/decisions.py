"""What the person decided about photos: a small CSV beside the dataset, and the dataset that follows from it.

The photos stay as they were read; so every decision can be undone, edited in the CSV, and used again on
another reading of the same photos. The dataset that follows shares their pixels. Knows nothing of networks.
"""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import io
import os
import shutil
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tlapp import dataset as datasets
from tlapp import merge, tables, workspace
from tlapp.dataset import Dataset, Photo, Skipped
from tlapp.errors import DataError, PictureError, explain_oserror, printable, some
from tlapp.intake import read_file
from tlapp.photos import ADDED_PIXELS, PIXELS

KEEP, EXCLUDE, RELABEL, TOGETHER = "keep", "exclude", "relabel", "together"
KINDS = (KEEP, EXCLUDE, RELABEL, TOGETHER)
LEFT_OUT = "is left out, as you decided"
_COLUMNS = ("file", "photo", "decision", "value")
_DIGITS = 16
KEPT_DAYS = 7


@dataclass(frozen=True)
class Decision:
    """About one photo: `kind` "keep" (its label is right), "exclude" (`value`: why, or ""), "relabel" (`value`: the
    class) or "together" (`value`: a name shared by photos that are never to sit on two sides of a split).

    `photo`: the first digits of its SHA-256, by which it is found under any name; where it is "", the name counts.
    """

    file: str
    photo: str
    kind: str
    value: str = ""


def about(photo: Photo, kind: str, value: str = "") -> Decision:
    """A decision about this photo."""
    return Decision(photo.name, photo.sha256[:_DIGITS], kind, value)


def path_of(dataset: Dataset) -> Path:
    """The CSV of the dataset, or of the one that it was made of."""
    return _original_folder(dataset) / "decisions.csv"


def of(dataset: Dataset) -> list[Decision]:
    """All that was decided about the dataset's photos so far. Raises DataError if the CSV is damaged."""
    path = path_of(dataset)
    return read(path) if path.is_file() else []


def read(path: Path) -> list[Decision]:
    """The decisions of a CSV with the columns file, photo, decision and value. Raises DataError."""
    shown = printable(str(path))
    try:
        return _parsed(read_file(path).decode("utf-8-sig"), shown)
    except (PictureError, UnicodeDecodeError) as error:
        why = str(error) if isinstance(error, PictureError) else "is not a CSV of UTF-8 text"
        raise DataError(f"{shown} {why}.") from error


def _parsed(text: str, shown: str) -> list[Decision]:
    first = text.partition("\n")[0].lower().replace('"', "")
    heads = {mark: {cell.strip() for cell in first.split(mark)} for mark in ",;\t"}  # some spreadsheets save with ";"
    delimiter = next((mark for mark, cells in heads.items() if {"file", "decision"} <= cells), ",")
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True, strict=True)
    try:
        numbered = [(lines.line_num, cells) for cells in lines]
    except csv.Error as error:
        raise DataError(f"{shown} is damaged at line {lines.line_num} ({error}). Mend or remove that line.") from error
    head = [cell.strip().lower() for cell in numbered[0][1]] if numbered else []
    if not {"file", "decision"} <= set(head):
        raise DataError(f"{shown} is no list of decisions. Its first line must name the columns {', '.join(_COLUMNS)}.")
    found = []
    for number, cells in numbered[1:]:
        row = dict(zip(head, (tables.plain(cell.strip()) for cell in cells), strict=False))
        if not any(row.values()):
            continue
        kind = row.get("decision", "").lower()
        if kind not in KINDS:
            raise DataError(
                f"Line {number} of {shown} has the decision `{printable(kind)}`. It must be one of {', '.join(KINDS)}."
            )
        if kind in (RELABEL, TOGETHER) and not row.get("value"):
            raise DataError(f"Line {number} of {shown} has no value. A {kind} needs one.")
        photo = row.get("photo", "").removeprefix("sha256:")[:_DIGITS]
        found.append(Decision(row.get("file", ""), photo, kind, row.get("value", "")))
    return found


def to_text(decisions: Iterable[Decision]) -> str:
    """The CSV of these decisions."""
    rows = [(d.file, f"sha256:{d.photo}" if d.photo else "", d.kind, d.value) for d in decisions]
    return tables.to_csv([_COLUMNS, *rows])


def original(dataset: Dataset) -> Dataset:
    """The photos as they were read, before any decision. Raises DataError if they are gone."""
    return datasets.load(_original_folder(dataset)) if dataset.original else dataset


def decide(dataset: Dataset, new: Sequence[Decision]) -> Dataset:
    """Note decisions, each in place of an earlier one about the same photo; the dataset that follows from all.

    Raises DataError, and notes nothing, where what is left cannot be trained on.
    """

    def changed(before: list[Decision], given: list[Decision]) -> list[Decision]:
        latest = {_slot(d): d for d in before}
        for decision in given:
            latest.pop(_slot(decision), None)
            latest[_slot(decision)] = decision
        return list(latest.values())

    return _change(dataset, new, changed)


def undo(dataset: Dataset, old: Sequence[Decision]) -> Dataset:
    """Take back what was decided about the photos of `old`, of the same sort; the dataset that follows."""

    def changed(before: list[Decision], given: list[Decision]) -> list[Decision]:
        gone = {_slot(d) for d in given}
        return [d for d in before if _slot(d) not in gone]

    return _change(dataset, old, changed)


def note_only(dataset: Dataset, decisions: Sequence[Decision]) -> Dataset:
    """Note these decisions in place of all that were noted before; the dataset that follows. Raises DataError."""
    return _change(dataset, decisions, lambda before, given: given)


def use(dataset: Dataset, given: Sequence[Decision]) -> Dataset:
    """Note those decisions that are about these photos; the dataset that follows. Raises DataError."""
    base = original(dataset)
    return decide(base, [about(photo, d.kind, d.value) for d, photo in _matched(base, given)])


def last_of(base: Dataset) -> Dataset | None:
    """The photos of the same folder, zip or CSV as they were when something was noted of them last, before decisions.

    That is this very reading, another one that has photos in common with it, or one that photos were added to.
    """
    photos = {photo.sha256 for photo in base.every}
    found = sorted(base.folder.parent.glob("*/decisions.csv"), key=lambda path: path.stat().st_mtime_ns, reverse=True)
    for path in found:
        with contextlib.suppress(DataError):
            last = datasets.load(path.parent)
            if last.source == base.source and any(photo.sha256 in photos for photo in last.every):
                return last
    return None


def holding(base: Dataset, last: Dataset) -> list[Decision]:
    """What was decided about the photos of `last`, and of `base` about those that `last` did not have.

    Raises DataError if a CSV is damaged.
    """
    there = {photo.sha256[:_DIGITS] for photo in last.every}
    own = _by_digits(base, of(base))
    return [*(d for d in own if d.photo not in there), *_by_digits(last, of(last))]


def note_those_about(base: Dataset, given: Sequence[Decision]) -> Dataset:
    """`note_only` of those decisions that are about these photos."""
    return note_only(base, [about(photo, d.kind, d.value) for d, photo in _matched(base, given)])


def sweep(home: Path, used: Collection[str]) -> None:
    """Remove datasets that decisions or additions made, that no run (`used`: their ids) needs, and that nobody made for
    a week; those stay that hold what was added to the photos of a source last.
    """
    for folder in (home / "datasets").glob("*/"):
        with contextlib.suppress(OSError, DataError):
            old = time.time() - (folder / "dataset.json").stat().st_mtime > KEPT_DAYS * 24 * 3600
            if old and folder.name not in used:
                found = datasets.load(folder)
                is_grown = any(photo.added for photo in found.photos)
                if found.original or (is_grown and last_of(found) != found):
                    shutil.rmtree(folder, ignore_errors=True)


def strangers(dataset: Dataset, given: Sequence[Decision]) -> str:
    """A sentence on those of the decisions that are about none of these photos; "" if there are none."""
    n = len(given) - len(_matched(original(dataset), given))
    if n == 0:
        return ""
    of_all = "The one decision is" if len(given) == 1 else f"{n} of {len(given)} decisions are"
    return f"{of_all} about none of these photos."


def combine(parts: Sequence[Dataset], without: Sequence[str] = ()) -> Dataset:
    """`merge.combine` of the parts as they were read; what was decided about their photos holds on.

    `without`: classes to take out, with the photos that are of them by now.
    """
    noted = [decision for part in parts for decision in _by_digits(original(part), of(part))]
    base = merge.combine([_less(part, without) for part in parts], parts[0].folder.parent.parent)
    classes = _by_text(base.classes)
    return use(base, [d for d in noted if d.kind != RELABEL or d.value in classes])


def _less(part: Dataset, without: Sequence[str]) -> Dataset:
    """The photos as they were read, less those that are of the classes `without` as decided; one that was of such a
    class and no longer is, is of its new class from the start.
    """
    base, now = original(part), {photo.offset: part.classes[photo.label] for photo in part.photos}
    kept = []
    for photo in base.photos:
        name = base.classes[photo.label]
        of_class = now.get(photo.offset, name)
        if of_class not in without:
            label = base.classes.index(of_class) if name in without else photo.label
            kept.append(dataclasses.replace(photo, label=label))
    disputed, skipped = [], list(base.skipped)
    for one in base.disputed:
        of_class = now.get(one.photo.offset, "")
        if not set(one.classes) & set(without):
            disputed.append(one)
        elif of_class and of_class not in without:
            kept.append(dataclasses.replace(one.photo, label=base.classes.index(of_class)))
            skipped = _settled(skipped, one.photo.name)
    return dataclasses.replace(base, photos=tuple(kept), disputed=tuple(disputed), skipped=tuple(skipped))


def apply(base: Dataset, decisions: Sequence[Decision]) -> Dataset:
    """The dataset that follows from decisions about the photos of `base`, which stays. Raises DataError."""
    chosen: dict[int, dict[str, Decision]] = {}
    places = _places(base)
    classes = _by_text(base.classes)
    for decision, photo in _matched(base, decisions):
        if decision.kind == RELABEL and decision.value not in classes:
            raise DataError(
                f"`{printable(decision.value)}` is no class of these photos, so `{printable(photo.name)}` cannot be "
                f"of it. The classes are {some(list(base.classes))}."
            )
        chosen.setdefault(places[photo.offset], {})[_slot(decision)[0]] = decision
    n = len(base.photos)
    kinds = [(i < n, decision.kind) for i, of_photo in chosen.items() for decision in of_photo.values()]
    if all(kind != RELABEL and not (is_used and kind != KEEP) for is_used, kind in kinds):
        return base
    found: list[tuple[str, Photo]] = []
    skipped = list(base.skipped)
    for i, photo in enumerate(base.photos):
        label, together = (chosen.get(i, {}).get(slot) for slot in ("label", "side"))
        if label and label.kind == EXCLUDE:
            skipped.append(Skipped(photo.name, LEFT_OUT))
            continue
        class_name = classes[label.value] if label and label.kind == RELABEL else base.classes[photo.label]
        found.append((class_name, _held(photo, together)))
    disputed = []
    for i, one in enumerate(base.disputed, n):
        label, together = (chosen.get(i, {}).get(slot) for slot in ("label", "side"))
        if label and label.kind == RELABEL:
            skipped = _settled(skipped, one.photo.name)
            found.append((classes[label.value], _held(one.photo, together)))
        else:
            disputed.append(one)
    notes = [note for note in base.notes if note not in datasets.advice(base)]
    store = base.folder.parent
    with workspace.own_folder(store, ".incoming-") as incoming:
        link_pixels(base, incoming)
        made = datasets.finish(found, disputed, skipped, notes, base.source, incoming, False, base.id)
        return datasets.keep(made, store)


def _held(photo: Photo, together: Decision | None) -> Photo:
    return dataclasses.replace(photo, together=together.value if together else "")


def _places(base: Dataset) -> dict[int, int]:
    """The index of each photo, the disputed ones last, by where its pixels lie."""
    return {photo.offset: i for i, photo in enumerate(base.every)}


def _settled(skipped: Sequence[Skipped], name: str) -> list[Skipped]:
    """The skipped files without the disputed photo of that name, of which the others are plain copies now."""
    left = (s for s in skipped if s.name != name)
    return [dataclasses.replace(s, reason=datasets.is_copy_of(name)) if s.same_as == name else s for s in left]


def places(dataset: Dataset) -> tuple[Path, int, np.ndarray]:
    """Where what is computed of a dataset's photos is kept, for how many photos, and which of them are its own.

    All datasets that decisions made of one share a place: what a network says of a photo follows from its pixels.
    """
    if dataset.original:
        try:
            base = original(dataset)
            at = _places(base)
            return base.folder, len(at), np.array([at[photo.offset] for photo in dataset.photos])
        except (DataError, KeyError):  # deleted by hand: the dataset lives on by itself
            pass
    return dataset.folder, len(dataset.every), np.arange(len(dataset.photos))


def _original_folder(dataset: Dataset) -> Path:
    return dataset.folder.parent / (dataset.original or dataset.id)


def _slot(decision: Decision) -> tuple[str, str]:
    """What a later decision takes the place of."""
    return "side" if decision.kind == TOGETHER else "label", decision.photo or decision.file


def _matched(base: Dataset, decisions: Iterable[Decision]) -> list[tuple[Decision, Photo]]:
    """The decisions that are about photos of this dataset, with these."""
    by_digits = {photo.sha256[:_DIGITS]: photo for photo in base.every}
    names = _by_text([photo.name for photo in base.every])
    by_own_name = {photo.name: photo for photo in base.every}
    by_name = {text: by_own_name[name] for text, name in names.items()}
    pairs = [(d, by_digits.get(d.photo[:_DIGITS]) if d.photo else by_name.get(d.file)) for d in decisions]
    return [(decision, photo) for decision, photo in pairs if photo]


def _by_digits(base: Dataset, decisions: Sequence[Decision]) -> list[Decision]:
    """The same decisions; those that a person wrote with a file name alone get their photo's digits."""
    found = {id(d): about(photo, d.kind, d.value) for d, photo in _matched(base, decisions)}
    return [found.get(id(d), d) for d in decisions]


def _by_text(names: Iterable[str]) -> dict[str, str]:
    """Names by themselves, and by what the CSV makes of them."""
    own = {name: name for name in names}
    return {tables.read_back(name): name for name in own} | own


def _change(
    dataset: Dataset, given: Sequence[Decision], changed: Callable[[list[Decision], list[Decision]], list[Decision]]
) -> Dataset:
    """Write down changed decisions once they have proved to leave something to train on."""
    base, path = original(dataset), path_of(dataset)
    with workspace.lock(path.with_suffix(".lock")):
        text = to_text(changed(_by_digits(base, of(base)), _by_digits(base, given)))
        made = apply(base, _parsed(text, printable(str(path))))  # as it will be read next time
        try:
            workspace.write_atomic(path, text.encode())
        except OSError as error:
            raise DataError(explain_oserror(error)) from error
    return made


def link_pixels(dataset: Dataset, folder: Path) -> None:
    """Have the pixels of the dataset's photos in `folder` too, without a copy of them where the disk can do so."""
    for name in (PIXELS, ADDED_PIXELS):
        source = dataset.folder / name
        try:
            os.link(source, folder / name)
        except FileNotFoundError:
            if name == PIXELS:
                raise
        except OSError:  # a disk that knows no links
            shutil.copyfile(source, folder / name)
