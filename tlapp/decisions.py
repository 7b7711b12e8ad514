"""The dataset that follows from what the person decided about photos; `readings` has the CSV that notes it.

The photos stay as they were read; so every decision can be undone, edited in the CSV, and used again on
another reading of the same photos. The dataset that follows shares their pixels. Knows nothing of networks.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import shutil
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path

import numpy as np

from tlapp import dataset as datasets
from tlapp import journal, merge, readings, workspace
from tlapp.dataset import Dataset, Photo, Skipped
from tlapp.errors import DataError, explain_oserror, printable, some
from tlapp.photos import ADDED_PIXELS, PIXELS
from tlapp.readings import (
    EXCLUDE,
    KEEP,
    KINDS,
    RELABEL,
    TOGETHER,
    UNDONE,
    WITHDRAW,
    Decision,
    about,
    of,
    original,
    path_of,
    read,
    to_text,
)

LEFT_OUT = "is left out, as you decided"
KEPT_DAYS = 7


def decide(dataset: Dataset, new: Sequence[Decision]) -> Dataset:
    """Note decisions, each in place of an earlier one about the same photo; the dataset that follows from all.

    Of earlier ones that was noted last counts, if beside another reading of the same source: see `readings`. Raises
    DataError, and notes nothing, where what is left cannot be trained on.
    """

    def changed(before: list[Decision], given: list[Decision]) -> list[Decision]:
        latest = {readings.slot(d): d for d in before}
        for decision in given:
            latest.pop(readings.slot(decision), None)
            latest[readings.slot(decision)] = decision
        return list(latest.values())

    _check(original(dataset), new)
    return _change(dataset, new, changed)


def undo(dataset: Dataset, old: Sequence[Decision]) -> Dataset:
    """Take back what was decided about the photos of `old`, of the same sort; the dataset that follows."""

    def changed(before: list[Decision], given: list[Decision]) -> list[Decision]:
        gone = {readings.slot(d) for d in given}
        return [d for d in before if readings.slot(d) not in gone]

    return _change(dataset, old, changed)


def renew(dataset: Dataset) -> Dataset:
    """Note what holds of the photos by all readings of their source; the dataset that follows. Raises DataError."""
    base = original(dataset)
    with _alone(base):
        return _note(base, readings.held(base), is_news=False)


def use(dataset: Dataset, given: Sequence[Decision]) -> Dataset:
    """Note those decisions that are about these photos; the dataset that follows. Raises DataError."""
    base = original(dataset)
    return decide(base, [about(photo, d.kind, d.value) for d, photo in readings.matched(base, given)])


def unfit(base: Dataset, given: Sequence[Decision]) -> list[Decision]:
    """Those that say of a photo that it is of a class of which there are none; they are noted and do nothing."""
    classes = readings.by_text(base.classes)
    return [d for d, _ in readings.matched(base, given) if d.kind == RELABEL and d.value not in classes]


def fitting(base: Dataset, given: Sequence[Decision]) -> list[Decision]:
    """All but the `unfit` ones."""
    strange = {id(decision) for decision in unfit(base, given)}
    return [decision for decision in given if id(decision) not in strange]


def sweep(home: Path, used: Collection[str]) -> None:
    """Remove datasets that decisions or additions made, that neither a run (`used`: their ids) nor another dataset
    needs, and that nobody made for a week; of those with added photos only such of which newer readings have all.
    """
    there, load = {}, functools.cache(datasets.load)
    for folder in (home / "datasets").glob("*/"):
        with contextlib.suppress(DataError):
            there[folder.name] = load(folder)

    def remove(name: str) -> None:
        with contextlib.suppress(OSError):
            if time.time() - (there[name].folder / "dataset.json").stat().st_mtime > KEPT_DAYS * 24 * 3600:
                workspace.remove_folder(there[name].folder)
                del there[name]
                journal.note("cleaned_up", home, what="dataset", dataset=name)

    for name in [name for name, found in there.items() if found.original and name not in used]:
        remove(name)
    used = {*used, *(found.original for found in there.values())}
    for name in [
        name for name, found in there.items() if name not in used and has_added(found) and is_outdated(found, load)
    ]:
        remove(name)


def is_outdated(dataset: Dataset, load: Callable[[Path], Dataset]) -> bool:
    """Whether newer readings of its source, of which something was noted too, have all of its photos."""
    left = {(photo.sha256, photo.added) for photo in dataset.every}
    for reading in readings.readings_of(dataset, load):
        if reading.folder == dataset.folder or not left:
            break
        left -= {(photo.sha256, photo.added) for photo in reading.every}
    return not left


def strangers(dataset: Dataset, given: Sequence[Decision]) -> str:
    """A sentence on those of the decisions that are about none of these photos; "" if there are none."""
    n = len(given) - len(readings.matched(original(dataset), given))
    if n == 0:
        return ""
    of_all = "The one decision is" if len(given) == 1 else f"{n} of {len(given)} decisions are"
    return f"{of_all} about none of these photos."


def combine(parts: Sequence[Dataset], without: Sequence[str] = ()) -> Dataset:
    """`merge.combine` of the parts as they were read; what was decided about their photos holds on.

    `without`: classes to take out, with the photos that are of them by now.
    """
    noted = [decision for part in parts for decision in readings.held(original(part))]
    base = merge.combine([_less(part, without) for part in parts], parts[0].folder.parent.parent)
    return use(base, fitting(base, noted))


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
    classes = readings.by_text(base.classes)
    _check(base, decisions)
    for decision, photo in readings.matched(base, decisions):
        if decision.kind == WITHDRAW and not photo.added:
            continue  # it stands in the folder by now
        chosen.setdefault(places[photo.offset], {})[readings.slot(decision)[0]] = decision
    n = len(base.photos)
    kinds = [(i < n, decision.kind) for i, of_photo in chosen.items() for decision in of_photo.values()]
    if all(kind != RELABEL and not (is_used and kind != KEEP) for is_used, kind in kinds):
        return base
    found: list[tuple[str, Photo]] = []
    skipped = list(base.skipped)
    for i, photo in enumerate(base.photos):
        label, together, joined = (chosen.get(i, {}).get(sort) for sort in ("label", "side", "joined"))
        if (label and label.kind == EXCLUDE) or joined:
            skipped.append(Skipped(photo.name, LEFT_OUT))
            continue
        class_name = classes[label.value] if label and label.kind == RELABEL else base.classes[photo.label]
        found.append((class_name, _held(photo, together)))
    disputed = []
    for i, one in enumerate(base.disputed, n):
        label, together = (chosen.get(i, {}).get(sort) for sort in ("label", "side"))
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


def _check(base: Dataset, given: Sequence[Decision]) -> None:
    """Raise DataError where one says of a photo that it is of a class of which there are none."""
    for decision, photo in readings.matched(base, unfit(base, given)):
        raise DataError(
            f"`{printable(decision.value)}` is no class of these photos, so `{printable(photo.name)}` cannot be of it. "
            f"The classes are {some(list(base.classes))}."
        )


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


def _change(
    dataset: Dataset, given: Sequence[Decision], changed: Callable[[list[Decision], list[Decision]], list[Decision]]
) -> Dataset:
    """Note changed decisions, with what was noted beside other readings since if it can be trained on."""
    base = original(dataset)
    with _alone(base):
        given, before = readings.by_digits(base, given), readings.held(base)
        try:
            return _note(base, changed(before, given))
        except DataError:
            alone = changed(readings.by_digits(base, of(base)), given)
            said = {readings.slot(decision) for decision in (*alone, *given)}
            return _note(base, alone, waiting=[d for d in before if readings.slot(d) not in said])


def _note(base: Dataset, noted: Sequence[Decision], is_news: bool = True, waiting: Sequence[Decision] = ()) -> Dataset:
    """Write decisions down once they have proved to leave something to train on; `waiting` ones are kept for later.

    Unless it `is_news`, nothing is written that stands there, nor that nothing is decided about photos of a folder.
    """
    path, text = path_of(base), to_text(noted)
    made = apply(base, fitting(base, readings.parsed(text, printable(str(path)))))  # as it will be read next time
    is_same = path.read_bytes() == text.encode() if path.exists() else not (noted or has_added(base))
    later = readings.waiting_path(base)
    if waiting:
        workspace.write_atomic(later, to_text(waiting).encode())
    if is_news or not is_same:
        workspace.write_atomic(path, text.encode())
        readings.make_newest(path)
    if not waiting:
        later.unlink(missing_ok=True)
    return made


def has_added(dataset: Dataset) -> bool:
    """Whether photos were added to it."""
    return any(photo.added for photo in dataset.every)


@contextlib.contextmanager
def _alone(base: Dataset) -> Iterator[None]:
    """Meanwhile nobody else decides about any reading: what is noted beside one speaks for the others too.

    Raises DataError where the disk is full or may not be written.
    """
    try:
        with deciding(base.folder.parent):
            yield
    except OSError as error:
        raise DataError(explain_oserror(error)) from error


def deciding(store: Path) -> contextlib.AbstractContextManager[object]:
    """Held while anything is decided about photos whose copies lie in `store`."""
    return workspace.lock(store / ".decisions.lock")


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
            workspace.sync_all(folder)


__all__ = [
    "EXCLUDE", "KEEP", "KINDS", "RELABEL", "TOGETHER", "UNDONE", "WITHDRAW", "Decision", "about", "of", "original",
    "path_of", "read", "to_text",
]  # fmt: skip
