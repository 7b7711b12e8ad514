"""Photos that join a dataset, each with its right class: the dataset that follows, and what was there already.

They are learned from and never tested on. The photos that were there keep their numbers, names and places, so that
what was computed of them holds on. Knows nothing of networks.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from tlapp import dataset as datasets
from tlapp import decisions, looks, merge, tasks, workspace
from tlapp.dataset import Dataset, Photo
from tlapp.decisions import EXCLUDE
from tlapp.errors import DataError, explain_oserror, printable, some
from tlapp.intake import File, read_file
from tlapp.layout import Placed
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


def add(dataset: Dataset, new: Sequence[Addition], report: Report = lambda done, total, what="": None) -> Joined:
    """Let photos join; what was decided about the others holds on. `dataset` stays as it is.

    Where none of them is new, the dataset that follows is `dataset`. Raises DataError if a class is none of the
    dataset's, or the disk is full.
    """
    strange = sorted({one.label for one in new} - set(dataset.classes))
    if strange:
        raise DataError(f"{some(strange)} is no class of these photos, so no photo can join as such.")
    base, refused = decisions.original(dataset), []
    known = _known(base, dataset)
    joining: list[tuple[str, Photo, np.ndarray]] = []
    names = {photo.name for photo in base.every}
    placed = [Placed(File(one.name, partial(read_file, one.path)), one.label, "train") for one in new]
    for done, (one, decoded) in enumerate(tasks.ahead(datasets.decode, placed)):
        report(done, len(placed))
        shown = f"`{printable(one.file.name)}`"
        if isinstance(decoded, str):
            refused.append(f"{shown} {decoded}.")
        elif decoded.photo.sha256 in known:
            refused.append(f"{shown} {known[decoded.photo.sha256]}.")
        elif twin := _twin(decoded.photo, dataset.photos):
            refused.append(
                f"{shown} is a near copy of `{printable(twin)}`, or of the same burst, which is in your photos already."
            )
        else:
            name = merge.free_name(one.file.name, names)
            names.add(name)
            known[decoded.photo.sha256] = f"is a copy of `{printable(name)}`, which joins already"
            photo = dataclasses.replace(decoded.photo, name=name, side="train", added=True)
            joining.append((one.class_name, photo, decoded.pixels))
    if not joining:
        return Joined(dataset, (), tuple(refused))
    try:
        made, photos = _grown(base, joining)
    except OSError as error:
        raise DataError(explain_oserror(error)) from error
    carry(base, made)
    return Joined(decisions.note_only(made, decisions.of(dataset)), photos, tuple(refused))


def take_back(dataset: Dataset, photos: Sequence[Photo]) -> Dataset:
    """Leave out photos that had joined; whatever else was decided holds on. Raises DataError if they are not there."""
    there = {photo.sha256 for photo in dataset.photos}
    if not all(photo.sha256 in there for photo in photos):
        raise DataError("Other photos were loaded since, so there is nothing to take out of these.")
    return decisions.decide(dataset, [decisions.about(photo, EXCLUDE) for photo in photos])


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


def _grown(base: Dataset, joining: Sequence[tuple[str, Photo, np.ndarray]]) -> tuple[Dataset, tuple[Photo, ...]]:
    """The photos as they were read, and those that join behind them."""
    store = base.folder.parent
    with workspace.own_folder(store, ".incoming-") as incoming:
        shutil.copyfile(base.folder / "photos.bin", incoming / "photos.bin")
        placed = []
        with open(incoming / "photos.bin", "ab") as out:
            for name, photo, pixels in joining:
                placed.append((name, dataclasses.replace(photo, offset=out.tell())))
                out.write(pixels.data)
            out.flush()
            os.fsync(out.fileno())
        found = [(base.classes[photo.label], photo) for photo in base.photos] + placed
        notes = [note for note in base.notes if note not in datasets.advice(base)]
        made = datasets.finish(found, base.disputed, list(base.skipped), notes, base.source, incoming, False)
        kept = datasets.keep(made, store)
    return kept, kept.photos[len(base.photos) :]
