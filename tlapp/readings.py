"""What the person decided about photos, as noted beside each reading of them, and which readings are of one source.

A reading is a dataset as it was read, or as photos were added to it; its CSV says what was decided about its photos.
"""

from __future__ import annotations

import contextlib
import csv
import io
import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tlapp import dataset as datasets
from tlapp import tables
from tlapp.dataset import Dataset, Photo
from tlapp.errors import DataError, PictureError, printable
from tlapp.intake import read_file

KEEP, EXCLUDE, RELABEL, TOGETHER, WITHDRAW = "keep", "exclude", "relabel", "together", "withdraw"
KINDS = (KEEP, EXCLUDE, RELABEL, TOGETHER, WITHDRAW)
UNDONE = "undone"
_COLUMNS = ("file", "photo", "decision", "value")
_DIGITS = 16


@dataclass(frozen=True)
class Decision:
    """About one photo: `kind` "keep" (its label is right), "exclude" (`value`: why, or ""), "relabel" (`value`: the
    class), "together" (`value`: a name shared by photos that are never to sit on two sides of a split) or "withdraw"
    (an added photo is left out, whatever else is decided about it; `value`: `UNDONE` if it joins no later reading).

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


def waiting_path(dataset: Dataset) -> Path:
    """The CSV of decisions that these photos would leave nothing to train on with; they count once others are there."""
    return _original_folder(dataset) / "waiting.csv"


def noted(dataset: Dataset) -> list[Decision]:
    """As `of`, with those that wait. Raises DataError if a CSV is damaged."""
    path = waiting_path(dataset)
    return [*of(dataset), *(read(path) if path.is_file() else [])]


def read(path: Path) -> list[Decision]:
    """The decisions of a CSV with the columns file, photo, decision and value. Raises DataError."""
    shown = printable(str(path))
    try:
        return parsed(read_file(path).decode("utf-8-sig"), shown)
    except (PictureError, UnicodeDecodeError) as error:
        why = str(error) if isinstance(error, PictureError) else "is not a CSV of UTF-8 text"
        raise DataError(f"{shown} {why}.") from error


def parsed(text: str, shown: str) -> list[Decision]:
    """The decisions of the text of such a CSV, which sentences call `shown`. Raises DataError."""
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


def _original_folder(dataset: Dataset) -> Path:
    return dataset.folder.parent / (dataset.original or dataset.id)


def slot(decision: Decision) -> tuple[str, str]:
    """What a later decision takes the place of."""
    sort = {TOGETHER: "side", WITHDRAW: "joined"}.get(decision.kind, "label")
    return sort, decision.photo or decision.file


def matched(base: Dataset, decisions: Iterable[Decision]) -> list[tuple[Decision, Photo]]:
    """The decisions that are about photos of this dataset, with these."""
    by_digits = {photo.sha256[:_DIGITS]: photo for photo in base.every}
    names = by_text([photo.name for photo in base.every])
    by_own_name = {photo.name: photo for photo in base.every}
    by_name = {text: by_own_name[name] for text, name in names.items()}
    pairs = [(d, by_digits.get(d.photo[:_DIGITS]) if d.photo else by_name.get(d.file)) for d in decisions]
    return [(decision, photo) for decision, photo in pairs if photo]


def by_digits(base: Dataset, decisions: Sequence[Decision]) -> list[Decision]:
    """The same decisions; those that a person wrote with a file name alone get their photo's digits."""
    found = {id(d): about(photo, d.kind, d.value) for d, photo in matched(base, decisions)}
    return [found.get(id(d), d) for d in decisions]


def by_text(names: Iterable[str]) -> dict[str, str]:
    """Names by themselves, and by what the CSV makes of them."""
    own = {name: name for name in names}
    return {tables.read_back(name): name for name in own} | own


def are_of_one_source(one: Dataset, other: Dataset) -> bool:
    """Whether they have photos in common, and the same path, or one has no path, as it was dropped on the page.

    Photos that were put together from several sources are of the same one only if all of these are the same.
    """
    sources = (one.source, other.source)
    if one.source != other.source and (any(" + " in name for name in sources) or all(map(os.path.isabs, sources))):
        return False
    photos = {photo.sha256 for photo in one.every}
    return any(photo.sha256 in photos for photo in other.every)


def readings_of(base: Dataset, load: Callable[[Path], Dataset] = datasets.load) -> Iterator[Dataset]:
    """The readings of the source of `base` that something was noted about, `base` among them, the newest note first."""
    written = {}
    for path in base.folder.parent.glob("*/decisions.csv"):
        with contextlib.suppress(OSError):  # swept meanwhile
            written[path.parent] = path.stat().st_mtime_ns, path.parent == base.folder
    for folder in sorted(written, key=lambda folder: written[folder], reverse=True):
        with contextlib.suppress(DataError):
            found = base if folder == base.folder else load(folder)
            if are_of_one_source(base, found):
                yield found


def make_newest(path: Path) -> None:
    """Give a CSV that was just written a time after those of all others, wherever the clock stood when they were.

    Which says what holds would else be an earlier one, written while the clock was ahead. Raises OSError.
    """
    others = [0]
    for other in path.parent.parent.glob("*/decisions.csv"):
        with contextlib.suppress(OSError):  # swept meanwhile
            others += [other.stat().st_mtime_ns] if other != path else []
    if path.stat().st_mtime_ns <= max(others):
        os.utime(path, ns=(max(others) + 1000, max(others) + 1000))


def holding(readings: Iterable[Dataset]) -> tuple[list[Decision], list[str]]:
    """What holds, and a sentence for each CSV that is damaged.

    `readings`: the newest first. Of each photo that says the newest one that has it, be it that nothing is decided.
    """
    held, damaged, said = list[Decision](), list[str](), set[str]()
    for reading in readings:
        try:
            found = by_digits(reading, noted(reading))
        except DataError as error:
            damaged.append(str(error))
            continue
        there = digits_of(reading) - said
        held += [decision for decision in found if decision.photo in there]
        said |= there
    return held, damaged


def held(base: Dataset) -> list[Decision]:
    """What is noted beside `base`; what was noted since beside other readings of its source takes the place of that.

    Raises DataError if the CSV of `base` is damaged.
    """
    own, here = by_digits(base, of(base)), digits_of(base)
    newer = itertools.takewhile(lambda reading: reading.folder != base.folder, readings_of(base))
    now = [decision for decision in holding([*newer, base])[0] if decision.photo in here]
    return [*(decision for decision in own if decision.photo not in here), *now]


def digits_of(dataset: Dataset) -> set[str]:
    """By which decisions name the photos of which there are copies."""
    return {photo.sha256[:_DIGITS] for photo in dataset.every}
