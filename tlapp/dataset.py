"""A folder, zip or CSV of photos → a `Dataset`: classes, photos, what was left out and why, and how it is split.

Every photo is decoded once into the app's own copy (shorter side 256, uint8), so that the person's folder is
never written to and may vanish while a run lives. Knows nothing of networks or plans.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
import time
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tlapp import images, journal, looks, room, tasks, workspace
from tlapp.errors import DataError, PictureError, printable, some
from tlapp.intake import Report
from tlapp.labels import open_labelled
from tlapp.layout import Placed, subfolder
from tlapp.photos import ADDED_PIXELS, PIXELS, Dataset, Disputed, Photo, Skipped, Split

SCHEMA = 1
FEW = 15
TRIED = 8
"""Photos that are looked at before all are read, where the disk may be too small."""

NO_CLASS = "is of a class that has no photos to train on"


def scan(
    source: str | Path,
    test: str | Path | None = None,
    *,
    home: Path | None = None,
    report: Report | None = None,
    all_test: bool = False,
    refused: Sequence[Skipped] = (),
    shown_as: str = "",
) -> Dataset:
    """Read a folder or a zip with one sub-folder per class, or `train/`, `val/`, `test/` of such, or a CSV of labels.

    Args:
        source: the folder, zip or CSV (`labels` says how it is read). It is only read.
        test: another one whose photos all become test photos.
        home: workspace for the copy; default `workspace.home()`.
        report: called with (files done, files found, class) as the scan goes, (0, 0, how many are found) before;
            what it raises ends the scan.
        all_test: every photo is a test photo and a single class will do (for `tlapp evaluate`).
        refused: files that were submitted but did not come this far; they count as skipped.
        shown_as: what to call the source in sentences and records, where its path means nothing to the person.

    Raises:
        DataError: nothing to train on; the sentence says what was found and what to do.
    """
    if test and not Path(test).exists():
        raise DataError(
            f"{printable(str(test))}, for the test photos, does not exist. Check the path, or leave it out."
        )
    began, store = time.monotonic(), (home or workspace.home()) / "datasets"
    with workspace.own_folder(store, ".incoming-") as incoming:
        dataset = _ingest(Path(source), Path(test) if test else None, incoming, report, all_test, refused, shown_as)
        kept = keep(dataset, store)
    facts = {"photos": len(kept.photos), "classes": len(kept.classes), "skipped": len(kept.skipped)}
    journal.note("dataset_read", store.parent, dataset=kept.id, **facts, seconds=time.monotonic() - began)
    return kept


def load(folder: Path) -> Dataset:
    """A dataset from its copy in the workspace. Raises DataError."""
    try:
        values = json.loads((folder / "dataset.json").read_bytes())
        photos = tuple(Photo(**p) for p in values["photos"])
        disputed = tuple(Disputed(Photo(**d["photo"]), tuple(d["classes"])) for d in values.get("disputed", []))
        skipped = tuple(Skipped(**s) for s in values["skipped"])
        classes, notes = tuple(values["classes"]), tuple(values["notes"])
        return Dataset(values["source"], classes, photos, skipped, notes, folder, values.get("original", ""), disputed)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"The app's copy of the photos at {folder} is gone or damaged. Load them again.") from error


def mark_used(folder: Path) -> None:
    """Note that somebody looks at the copy, so that `cleanup` leaves it for a day. Raises FileNotFoundError."""
    try:
        (folder / "used").touch()
    except FileNotFoundError:
        raise
    except OSError:  # a disk that cannot be written to loses nothing to a clean-up either
        pass


def _ingest(
    source: Path,
    test: Path | None,
    incoming: Path,
    report: Report | None,
    all_test: bool,
    refused: Sequence[Skipped],
    shown_as: str,
) -> Dataset:
    skipped = list(refused)
    notes: list[str] = []
    found: list[tuple[str, Photo]] = []
    with open(incoming / PIXELS, "wb") as out:
        for root in [source] + ([test] if test else []):
            shown = shown_as if shown_as and root is source else str(root)
            with open_labelled(root, shown, report) as arranged:
                if test and root is source and any(p.side == "test" for p in arranged.placed) and arranged.has_test:
                    raise DataError(
                        "The folder has its own test photos. Leave out the separate ones, or that test folder."
                    )
                if test and root is source and test.exists() and test.samefile(source):
                    raise DataError("The test photos are the very photos to train on. Give other ones, or none.")
                notes += arranged.notes
                skipped += [Skipped(name, reason) for name, reason in arranged.skipped]
                _check_room(incoming, arranged.placed)
                for placed, decoded in _decode_all(arranged.placed, report):
                    if isinstance(decoded, str):
                        skipped.append(Skipped(placed.file.name, decoded))
                        continue
                    side = "test" if all_test or root is test else placed.side
                    if test and root is source and side == "test":
                        side = "validation"  # with test photos given, val/ is what choices are made on
                    name = f"{root.name}/{placed.file.name}" if root is test else placed.file.name
                    below = subfolder(placed.file.name, placed.class_name)
                    photo = dataclasses.replace(decoded.photo, name=name, side=side, offset=out.tell(), subfolder=below)
                    found.append((placed.class_name, photo))
                    out.write(decoded.pixels.data)
        out.flush()
        workspace.sync(out.fileno())
    found, disputed = without_copies(found, skipped, notes)
    return finish(found, disputed, skipped, notes, shown_as or os.path.abspath(source), incoming, all_test)


def _check_room(folder: Path, placed: Sequence[Placed]) -> None:
    """Raise DataError where the copies would not fit on the disk, before they are made.

    Where it may be scarce, a few photos are looked at first: of small pictures, the copies are small.
    """
    if placed and room.is_scarce(folder, len(placed) * room.PHOTO):
        tried = [decode(one) for one in placed[:: math.ceil(len(placed) / TRIED)]]
        found = [one.pixels.nbytes for one in tried if isinstance(one, Decoded)]
        room.check_photos(folder.parent.parent, len(placed), len(placed) * sum(found) / len(tried))


@dataclass(frozen=True)
class Decoded:
    """The copy of a photo, and the photo but for where it came from and lies."""

    pixels: np.ndarray
    photo: Photo


def decode(placed: Placed) -> Decoded | str:
    """A photo, or the reason why not."""
    try:
        data = placed.file.read()
        pixels = images.load(data)
    except PictureError as error:
        return str(error)
    facts, (height, width) = images.facts(data), pixels.shape[:2]
    photo = Photo(
        "", -1, "", hashlib.sha256(data).hexdigest(), height, width, 0, len(data), facts.height, facts.width,
        facts.camera, facts.taken, looks.look(pixels),
    )  # fmt: skip
    return Decoded(np.ascontiguousarray(pixels), photo)


def _decode_all(placed: list[Placed], report: Report | None) -> Iterator[tuple[Placed, Decoded | str]]:
    """Decode on a few threads, in order, never more than a few photos ahead of the consumer."""
    if report:
        report(0, len(placed), "")
    for done, (photo, decoded) in enumerate(tasks.ahead(decode, placed), 1):
        yield photo, decoded
        if report:
            report(done, len(placed), photo.class_name)


def without_copies(
    found: list[tuple[str, Photo]], skipped: list[Skipped], notes: list[str]
) -> tuple[list[tuple[str, Photo]], list[Disputed]]:
    """One of each byte-identical photo: the test photo before others; where their classes disagree, it is disputed."""
    order = {"test": 0, "validation": 1, "train": 2, "": 3}
    same: dict[str, list[int]] = {}
    for position in sorted(range(len(found)), key=lambda i: order[found[i][1].side]):
        same.setdefault(found[position][1].sha256, []).append(position)
    dropped: dict[int, str] = {}
    first_of: dict[int, str] = {}
    disputed = []
    for first, *others in same.values():
        names, photo = sorted({found[i][0] for i in (first, *others)}), found[first][1]
        first_of |= dict.fromkeys((first, *others), photo.name)
        if len(names) > 1:
            reason = f"stands in {some(names)} with the same bytes, so its class is unknown; keep one"
            dropped |= dict.fromkeys((first, *others), reason)
            disputed.append(Disputed(dataclasses.replace(photo, label=-1), tuple(names)))
        else:
            dropped |= dict.fromkeys(others, is_copy_of(photo.name))
    skipped += [Skipped(found[i][1].name, why, first_of[i], found[i][1].side) for i, why in dropped.items()]
    n_copies = len(dropped) - sum(first_of[i] in {d.photo.name for d in disputed} for i in dropped)
    if n_copies:
        notes.append(
            f"{_count(n_copies, 'photo')} left out as {'an exact copy' if n_copies == 1 else 'exact copies'} of others."
        )
    if disputed:
        notes.append(
            f"{_count(len(disputed), 'photo')} in more than one class with the same bytes: left out until you say."
        )
    return [entry for i, entry in enumerate(found) if i not in dropped], disputed


def is_copy_of(name: str) -> str:
    """Why a copy of the photo of that name is not used."""
    return f"is a copy of `{name}`"


def finish(
    found: list[tuple[str, Photo]],
    disputed: Sequence[Disputed],
    skipped: list[Skipped],
    notes: list[str],
    source: str | Path,
    folder: Path,
    all_test: bool,
    original: str = "",
) -> Dataset:
    """A dataset of photos with the names of their classes, whose pixels lie in `folder`.

    Raises DataError where they cannot be trained on.
    """
    counts = Counter(name for name, photo in found if all_test or photo.side != "test")
    classes = tuple(sorted(counts))
    if not classes:
        why = f" For example `{skipped[0].name}` {skipped[0].reason}." if skipped else ""
        raise DataError(f"None of the {_count(len(skipped), 'file')} can be used as a photo.{why}")
    if len(classes) == 1 and not all_test:
        raise DataError(
            f"There are usable photos of one class only, {some([classes[0]])}. To learn a difference the app needs "
            "at least two sub-folders of photos, one for each class."
        )
    single = [name for name in classes if counts[name] == 1]
    if single and not all_test:
        raise DataError(
            f"There is only one photo of {some(single)}. A class needs at least three, to train on, to choose "
            "settings by and to test with. Add photos or take the class out."
        )
    unknown = [photo for name, photo in found if name not in counts]
    skipped += [Skipped(p.name, NO_CLASS) for p in unknown]
    label = {name: i for i, name in enumerate(classes)}
    photos = tuple(dataclasses.replace(photo, label=label[name]) for name, photo in found if name in label)
    open_ = tuple(d for d in disputed if set(d.classes) <= set(classes))
    dataset = Dataset(str(source), classes, photos, tuple(skipped), tuple(notes), folder, original, open_)
    return dataset if all_test else dataclasses.replace(dataset, notes=(*notes, *advice(dataset)))


def advice(dataset: Dataset) -> list[str]:
    """What the classes and sides give reason to say."""
    said = []
    learned = Counter(dataset.classes[photo.label] for photo in dataset.photos if photo.side != "test")
    few = [name for name in dataset.classes if learned[name] < FEW]
    if few:
        said.append(f"Below {FEW} photos a class the score says little: {some(few)}.")
    said += _lookalikes(dataset.classes)
    if not has_test(dataset.photos):
        said.append("A part of each class is set apart as test photos: the score comes from these alone.")
        return said
    tested = {dataset.classes[photo.label] for photo in dataset.photos if photo.side == "test"}
    untested = [name for name in dataset.classes if name not in tested]
    if untested:
        said.append(f"The score says nothing of {some(untested)}: no test photos there.")
    return said


def has_test(photos: Sequence[Photo]) -> bool:
    """Whether some of them are test photos by their folder."""
    return any(photo.side == "test" for photo in photos)


def _lookalikes(classes: tuple[str, ...]) -> list[str]:
    """Warn of class names that differ only in case or in their Unicode form."""
    same: dict[str, list[str]] = {}
    for name in classes:
        same.setdefault(unicodedata.normalize("NFKC", name).casefold(), []).append(name)
    return [f"{some(names)} look the same but are separate classes." for names in same.values() if len(names) > 1]


def keep(dataset: Dataset, store: Path) -> Dataset:
    """Move the finished copy to its place, named by its content; an equal copy that is there already stays.

    One that is there but broken gets the new files, one by one, so that whoever reads it meanwhile is not disturbed.
    """
    text = _to_json(dataset).encode("ascii")
    workspace.write_atomic(dataset.folder / "dataset.json", text)
    final = store / hashlib.sha256(text).hexdigest()[:16]
    if not (_is_same(final, dataset.folder) and _made_now(final)):
        try:
            os.rename(dataset.folder, final)
        except OSError:
            if not final.is_dir():
                raise
            for name in _files(dataset.folder):
                os.replace(dataset.folder / name, final / name)
            workspace.sync_folder(final)
        workspace.sync_folder(store)
    return dataclasses.replace(dataset, folder=final)


def _made_now(folder: Path) -> bool:
    """Note that the copy was made now, too; whether it is still there."""
    try:
        os.utime(folder / "dataset.json")
    except OSError:
        return (folder / "dataset.json").exists()
    return True


def _is_same(folder: Path, new: Path) -> bool:
    """Whether `folder` holds all that the new copy does, going by the sizes of its files."""
    try:
        return all((folder / name).stat().st_size == (new / name).stat().st_size for name in _files(new))
    except OSError:
        return False


def _files(folder: Path) -> list[str]:
    """What a copy is made of, in the order to put it in place: the list of its photos last, and added photos first, as
    a copy of an earlier version has them in `PIXELS`, which serves as long as it stands.
    """
    return [*(name for name in (ADDED_PIXELS, PIXELS) if (folder / name).exists()), "dataset.json"]


def _to_json(dataset: Dataset) -> str:
    values = {"schema": SCHEMA, **dataclasses.asdict(dataclasses.replace(dataset, folder=Path()))}
    del values["folder"]
    for photo in [*values["photos"], *(one["photo"] for one in values["disputed"])]:
        if not photo["added"]:
            del photo["added"]  # so that datasets without such photos keep the ids that they had
    return json.dumps(values)


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


__all__ = ["Dataset", "Disputed", "Photo", "Skipped", "Split", "load", "scan"]
