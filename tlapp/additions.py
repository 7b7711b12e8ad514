"""Photos that join a dataset, each with its right class: the dataset that follows, and what was there already.

They are learned from and never tested on. The photos that were there keep their numbers, names and places, so that
what was computed of them holds on. Knows nothing of networks.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from tlapp import dataset as datasets
from tlapp import decisions, looks, merge, readings, tasks, workspace
from tlapp.dataset import Dataset, Photo
from tlapp.decisions import EXCLUDE, UNDONE, WITHDRAW
from tlapp.errors import DataError, explain_oserror, printable, some
from tlapp.intake import File, read_file
from tlapp.layout import Placed
from tlapp.photos import ADDED_PIXELS, PIXELS
from tlapp.tasks import Report


@dataclass(frozen=True)
class Addition:
    """A photo at `path`, to be known as `name`, which is of the class `label`."""

    name: str
    path: Path
    label: str


@dataclass(frozen=True)
class Joined:
    """The dataset that follows, the photos that are new in it, and a sentence for each that did not join."""

    dataset: Dataset
    photos: tuple[Photo, ...]
    refused: tuple[str, ...]


_NOT_NOW = "What was decided about these photos before does not hold now."
_Found = tuple[str, str, datasets.Decoded | str]  # name, class, and the photo or the reason why not
_New = tuple[str, Photo, np.ndarray]  # class, photo, pixels


def add(dataset: Dataset, new: Sequence[Addition], report: Report = lambda done, total, what="": None) -> Joined:
    """Let photos join; what was decided about the others holds on. `dataset` stays as it is.

    Where none of them is new, the dataset that follows is `dataset`. Raises DataError if a class is none of the
    dataset's, or the disk is full.
    """
    strange = sorted({one.label for one in new} - set(dataset.classes))
    if strange:
        raise DataError(f"{some(strange)} is no class of these photos, so no photo can join as such.")

    def decoded() -> Iterator[_Found]:
        placed = [Placed(File(one.name, partial(read_file, one.path)), one.label, "train") for one in new]
        for done, (one, found) in enumerate(tasks.ahead(datasets.decode, placed)):
            report(done, len(placed))
            yield one.file.name, one.class_name, found

    base = decisions.original(dataset)
    joining, refused = _sifted(base, dataset, decoded())
    if not joining:
        return Joined(dataset, (), refused)
    made, photos = _grown(base, joining)
    earlier = [decisions.about(photo, kind) for photo in photos for kind in (WITHDRAW, EXCLUDE)]
    return Joined(decisions.undo(made, earlier), photos, refused)


def as_noted(base: Dataset) -> Joined:
    """What follows from all that was ever decided about these photos, with those that were added to them.

    `base`: photos as they were just read. Of each photo, and of each that was added, holds what the newest reading of
    the same source says that has it; see `readings`. Raises DataError if the disk is full.
    """
    found = list(readings.readings_of(base))
    noted, damaged = readings.holding(found)
    said = [f"{_NOT_NOW} {error}" for error in damaged]
    try:
        now = decisions.apply(base, decisions.fitting(base, noted))
    except DataError:  # it may hold once the added photos have joined
        now = base
    joining, refused = _sifted(base, now, _copies(base, _added_before(found)))
    made, photos = _grown(base, joining) if joining else (base, ())
    if photos:
        for reading in found:
            carry(reading, made)
    said += [
        f"`{printable(d.file)}` is not taken for {some([d.value])}, as you decided: there are no photos of that class."
        for d in decisions.unfit(made, noted)
    ]
    try:
        follows = decisions.renew(made)
    except DataError as error:
        follows = made
        said.append(f"{_NOT_NOW} {error}")
    return Joined(follows, photos, (*dict.fromkeys(said), *refused))


def beside(old: Dataset, base: Dataset) -> Joined:
    """Photos as they were just read, beside those that were there: what was noted of either or of both holds on."""
    new = as_noted(base)
    both = as_noted(decisions.original(decisions.combine([old, new.dataset])))
    return Joined(both.dataset, both.photos, tuple(dict.fromkeys([*new.refused, *both.refused])))


def unused(base: Dataset) -> tuple[int, int] | None:
    """How many added photos and decisions `as_noted` would use at most; None where nothing was ever noted."""
    found = list(readings.readings_of(base))
    noted, here = decisions.fitting(base, readings.holding(found)[0]), readings.digits_of(base)
    joining = {
        decisions.about(reading.photos[i], WITHDRAW).photo
        for reading, i in _added_before(found)
        if reading.classes[reading.photos[i].label] in base.classes
    } - here
    out = {d.photo for d in noted if d.kind in (EXCLUDE, WITHDRAW)}
    return (len(joining - out), sum(d.photo in joining | here for d in noted)) if found else None


def _added_before(found: Sequence[Dataset]) -> list[tuple[Dataset, int]]:
    """The photos that were added to readings of a source, the newest first, but for those of which that was undone.

    Each is given by the newest reading that has it, and its place there.
    """
    seen, there = set[str](), []
    for reading in found:
        undone = set[str]()
        with contextlib.suppress(DataError):  # a damaged CSV
            undone = {d.photo for d in readings.noted(reading) if d.kind == WITHDRAW and d.value == UNDONE}
        for i, photo in enumerate(reading.photos):
            if photo.added and photo.sha256 not in seen:
                seen.add(photo.sha256)
                if decisions.about(photo, WITHDRAW).photo not in undone:
                    there.append((reading, i))
    return there


def _copies(base: Dataset, there: Iterable[tuple[Dataset, int]]) -> Iterator[_Found]:
    """Photos that had been added to earlier readings, to join `base`, where these have not."""
    here = {photo.sha256 for photo in base.photos if photo.added}
    for reading, i in there:
        photo = reading.photos[i]
        name = reading.classes[photo.label]
        if photo.sha256 in here:
            continue
        if name not in base.classes:
            yield photo.name, name, f"was added as {some([name])}, of which there are no photos any more"
            continue
        try:
            yield photo.name, name, datasets.Decoded(reading.pixels(i), photo)
        except DataError:
            yield photo.name, name, "was added, and the app's copy of it is gone or damaged; add it again"


def added(base: Dataset, now: Dataset) -> tuple[tuple[Photo, ...], tuple[Photo, ...]]:
    """The photos that were added to `base`: those in what follows by decisions, and those that `take_back` left out."""
    there = {photo.sha256 for photo in now.photos}
    withdrawn = set[str]()
    with contextlib.suppress(DataError):
        withdrawn = {d.photo for d in decisions.of(base) if d.kind == WITHDRAW and d.value != UNDONE}
    every = [photo for photo in base.photos if photo.added]
    outside = [photo for photo in every if decisions.about(photo, WITHDRAW).photo in withdrawn]
    return tuple(photo for photo in every if photo.sha256 in there), tuple(outside)


def undo(before: Dataset, after: Dataset, photos: Sequence[Photo]) -> Dataset:
    """Take back that photos joined: they join no later reading either, until they are added again.

    `after`: the dataset that they are in by now. Where nothing else had joined since `before`, what follows is what now
    holds of that, else what is left of `after`. Raises DataError if they are not in `after`.
    """
    left, gone = take_back(after, photos, UNDONE), {photo.sha256 for photo in photos}
    others = [photo for photo in decisions.original(after).every if photo.sha256 not in gone]
    with contextlib.suppress(DataError):  # it is gone by now, or what holds leaves it nothing to train on
        base = decisions.original(before)
        if others == list(base.every):
            return decisions.renew(base)
    return left


def take_back(dataset: Dataset, photos: Sequence[Photo], how: str = "") -> Dataset:
    """Leave out photos that had joined; whatever else was decided holds on. Raises DataError if they are not there."""
    there = {photo.sha256 for photo in decisions.original(dataset).photos if photo.added}
    given = [decisions.about(photo, WITHDRAW, how) for photo in photos if photo.sha256 in there]
    if not given:
        raise DataError("These photos are not among yours any more, so there is nothing to take out.")
    return decisions.decide(dataset, given)


def put_back(dataset: Dataset, photos: Sequence[Photo]) -> Dataset:
    """Undo `take_back`. Raises DataError."""
    return decisions.undo(dataset, [decisions.about(photo, WITHDRAW) for photo in photos])


def carry(old: Dataset, new: Dataset) -> None:
    """Take the features over that are known of photos of `old`, so that they need not be computed again for `new`."""
    at = {photo.sha256: i for i, photo in enumerate(old.every)}
    pairs = [(at[p.sha256], i) for i, p in enumerate(new.every) if p.sha256 in at]
    places, targets = (np.array(side, dtype=np.int64) for side in zip(*pairs, strict=True))
    for path in old.folder.glob("features-*.npy"):
        target = new.folder / path.name
        with contextlib.suppress(OSError, ValueError, EOFError):  # else they are computed again
            rows = np.load(path)
            if target.exists() or len(rows) != len(at):
                continue
            carried = np.full((len(new.every), *rows.shape[1:]), np.nan, rows.dtype)
            carried[targets] = rows[places]
            workspace.write_array(target, carried)


def _sifted(base: Dataset, now: Dataset, given: Iterable[_Found]) -> tuple[list[_New], tuple[str, ...]]:
    """Those that can join `base`, from which `now` follows by decisions, and a sentence for each of the others."""
    known, names = _known(base, now), {photo.name for photo in base.every}
    joining: list[_New] = []
    refused = []
    for given_name, label, found in given:
        shown = f"`{printable(given_name)}`"
        if isinstance(found, str):
            refused.append(f"{shown} {found}.")
        elif found.photo.sha256 in known:
            refused.append(f"{shown} {known[found.photo.sha256]}.")
        elif twin := _twin(found.photo, now.photos):
            refused.append(
                f"{shown} is a near copy of `{printable(twin)}`, or of the same burst, which is in your photos already."
            )
        else:
            name = merge.free_name(given_name, names)
            names.add(name)
            known[found.photo.sha256] = f"is a copy of `{printable(name)}`, which joins already"
            photo = dataclasses.replace(found.photo, name=name, side="train", added=True)
            joining.append((label, photo, found.pixels))
    return joining, tuple(refused)


def _twin(photo: Photo, there: Sequence[Photo]) -> str:
    """The name of a photo that this one is a near copy of, or was taken in one burst with, or "".

    Such a one may be held back, for a test or to choose by: its copy must not be learned from, nor push it out there.
    """
    every = [photo, *there]
    pairs = looks.pairs([p.look for p in every]) + looks.bursts([p.camera for p in every], [p.taken for p in every])
    return next((every[max(pair)].name for pair in pairs if min(pair) == 0), "")


def _known(base: Dataset, dataset: Dataset) -> dict[str, str]:
    """Why a photo of these bytes cannot join, for each that is there."""
    now = {photo.sha256: photo for photo in dataset.photos}
    said = {}
    for photo in base.every:
        name = printable(photo.name)
        if found := now.get(photo.sha256):
            said[photo.sha256] = (
                f"is in your photos already, as `{name}` of the class `{printable(dataset.classes[found.label])}`"
            )
        elif photo.label < 0:
            said[photo.sha256] = f"is in your photos already, as `{name}`, in several classes"
        else:
            said[photo.sha256] = f"is in your photos already, as `{name}`, which is left out as you decided"
    return said


def _grown(base: Dataset, joining: Sequence[_New]) -> tuple[Dataset, tuple[Photo, ...]]:
    """The photos as they were read, and those that join behind them, whose pixels alone are written."""
    store = base.folder.parent
    try:
        with workspace.own_folder(store, ".incoming-") as incoming:
            decisions.link_pixels(base, incoming)
            before, start = incoming / ADDED_PIXELS, (incoming / PIXELS).stat().st_size
            earlier = before.read_bytes() if before.exists() else b""
            before.unlink(missing_ok=True)  # a link: what it names is the other dataset's
            placed = []
            with open(incoming / ADDED_PIXELS, "wb") as out:
                out.write(earlier)
                for name, photo, pixels in joining:
                    placed.append((name, dataclasses.replace(photo, offset=start + out.tell())))
                    out.write(pixels.data)
                out.flush()
                workspace.sync(out.fileno())
            found = [(base.classes[photo.label], photo) for photo in base.photos] + placed
            notes = [note for note in base.notes if note not in datasets.advice(base)]
            made = datasets.finish(found, base.disputed, list(base.skipped), notes, base.source, incoming, False)
            kept = datasets.keep(made, store)
    except OSError as error:
        raise DataError(explain_oserror(error)) from error
    carry(base, kept)
    return kept, kept.photos[len(base.photos) :]
