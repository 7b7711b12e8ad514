"""One dataset made of the photos of several. Knows nothing of what was decided about them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from itertools import chain, count
from pathlib import Path

from tlapp import dataset as datasets
from tlapp import workspace
from tlapp.photos import PIXELS, Dataset, Disputed, Photo

_ALL_FOR_TRAINING = (
    "Photos that came without a test part are all for training; the score comes from the test photos of the others."
)


def combine(parts: Sequence[Dataset], home: Path | None = None) -> Dataset:
    """One dataset of the photos of several; the parts stay as they are.

    Byte-identical photos are dealt with as in `dataset.scan`; one that is disputed in a part is what another part says.
    Where some parts have test photos, all of the others are for training. Raises DataError if what is left cannot be
    trained on.
    """
    store = (home or workspace.home()) / "datasets"
    skipped = [s for part in parts for s in part.skipped]
    notes = [note for part in parts for note in part.notes if note not in datasets.advice(part)]
    if len({datasets.has_test(part.photos) for part in parts}) > 1:
        notes.append(_ALL_FOR_TRAINING)
    notes = list(dict.fromkeys(notes))
    source = " + ".join(dict.fromkeys(part.source for part in parts))
    with workspace.own_folder(store, ".incoming-") as incoming:
        every, before = _copy_pixels(parts, incoming)
        found, disputed = datasets.without_copies(every, skipped, notes)
        said = {photo.sha256 for _, photo in every}
        disputed += [d for d in before if d.photo.sha256 not in said]
        return datasets.keep(datasets.finish(found, disputed, skipped, notes, source, incoming, False), store)


def _copy_pixels(parts: Sequence[Dataset], folder: Path) -> tuple[list[tuple[str, Photo]], list[Disputed]]:
    """All photos, one file of pixels after the other, and the disputed ones; names told apart."""
    found: list[tuple[str, Photo]] = []
    disputed: dict[str, Disputed] = {}
    taken: set[str] = set()
    with open(folder / PIXELS, "wb") as out:

        def copied(part: Dataset, index: int) -> Photo:
            photo = part.every[index]
            copy = dataclasses.replace(photo, name=free_name(photo.name, taken), offset=out.tell())
            taken.add(copy.name)
            out.write(part.pixels(index).data)
            return copy

        for part in parts:
            found += [(part.classes[photo.label], copied(part, i)) for i, photo in enumerate(part.photos)]
            for i, one in enumerate(part.disputed, len(part.photos)):
                disputed[one.photo.sha256] = Disputed(copied(part, i), one.classes)
        out.flush()
        workspace.sync(out.fileno())
    return found, list(disputed.values())


def free_name(name: str, taken: set[str]) -> str:
    """The name, numbered where it is taken."""
    numbered = (f"{name} ({number})" for number in count(2))
    return next(free for free in chain([name], numbered) if free not in taken)
