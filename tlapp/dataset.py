"""A folder or zip of photos → a `Dataset`: classes, photos, what was left out and why, and how it is split.

Every photo is decoded once into the app's own copy (shorter side 256, uint8), so that the person's folder is
never written to and may vanish while a run lives. Knows nothing of networks or plans.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
import unicodedata
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from tlapp import images, workspace
from tlapp.errors import DataError, PictureError, some
from tlapp.intake import File, open_source
from tlapp.layout import Placed, arrange

SCHEMA = 1
FEW = 15


@dataclass(frozen=True)
class Photo:
    """One accepted photo. `side` is "train", "validation" or "test" where its folder says so, else "".

    `height`, `width`: pixels of the copy, which starts at byte `offset`; `sha256` is of the file as submitted.
    """

    name: str
    label: int
    side: str
    sha256: str
    height: int
    width: int
    offset: int
    original_size: tuple[int, int]
    n_bytes: int


@dataclass(frozen=True)
class Skipped:
    """A submitted file that is not used; "`name` `reason`" reads as a sentence."""

    name: str
    reason: str


@dataclass(frozen=True)
class Split:
    """Indices into `Dataset.photos`: int64 arrays that share no element."""

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray


@dataclass(frozen=True)
class Dataset:
    """Accepted photos and their copy. len(photos) + len(skipped) = files submitted, junk aside."""

    source: str
    classes: tuple[str, ...]
    photos: tuple[Photo, ...]
    skipped: tuple[Skipped, ...]
    notes: tuple[str, ...]
    folder: Path

    @property
    def id(self) -> str:
        """Name of the copy in the workspace, made from the content: the same photos, the same id."""
        return self.folder.name

    @property
    def labels(self) -> np.ndarray:
        """Class index of every photo, int64, shape (photos,)."""
        return np.array([photo.label for photo in self.photos], dtype=np.int64)

    def class_counts(self) -> dict[str, int]:
        """Photos per class."""
        counts = Counter(photo.label for photo in self.photos)
        return {name: counts[i] for i, name in enumerate(self.classes)}

    def pixels(self, index: int) -> np.ndarray:
        """The copy of one photo: uint8, (height, width, 3), RGB. Raises DataError if the copy is gone."""
        photo = self.photos[index]
        try:
            return np.array(
                np.memmap(
                    self.folder / "photos.bin",
                    np.uint8,
                    mode="r",
                    offset=photo.offset,
                    shape=(photo.height, photo.width, 3),
                )
            )
        except (OSError, ValueError) as error:
            raise DataError(f"The app's copy of the photos at {self.folder} is gone. Load them again.") from error

    def split(self, test_fraction: float = 0.2, validation_fraction: float = 0.2, seed: int = 0) -> Split:
        """Divide the photos as their folders say, else at random within each class.

        Test photos: those of a test folder, else `test_fraction` of all. Validation photos: those of a
        validation folder, else `validation_fraction` of what is left to train on. At least one photo of each
        class goes to every part that is drawn.

        Raises:
            DataError: a class would have no photo to train on or none to choose by.
        """
        generator = np.random.default_rng(seed)
        labels, sides = self.labels, np.array([photo.side for photo in self.photos])
        test, validation = sides == "test", sides == "validation"
        pool = ~test & ~validation
        if not test.any():
            test = _draw(pool, labels, test_fraction, generator)
        if not validation.any():
            validation = _draw(pool & ~test, labels, validation_fraction, generator)
        train = pool & ~test & ~validation
        lacking = [name for i, name in enumerate(self.classes) if not (train & (labels == i)).any()]
        if lacking:
            raise DataError(
                f"Too few photos to train on in {some(lacking)}: each class needs one to train on, one to choose "
                "settings by and one to test with. Add photos or take the class out."
            )
        return Split(np.flatnonzero(train), np.flatnonzero(validation), np.flatnonzero(test))


Report = Callable[[int, int], None]


def scan(
    source: str | Path,
    test: str | Path | None = None,
    *,
    home: Path | None = None,
    report: Report | None = None,
    all_test: bool = False,
) -> Dataset:
    """Read a folder or a zip with one sub-folder per class, or `train/`, `val/`, `test/` of such.

    Args:
        source: the folder or zip. It is only read.
        test: another one whose photos all become test photos.
        home: workspace for the copy; default `workspace.home()`.
        report: called with (files done, files found) as the scan goes.
        all_test: every photo is a test photo and a single class will do (for `tlapp evaluate`).

    Raises:
        DataError: nothing to train on; the sentence says what was found and what to do.
    """
    store = (home or workspace.home()) / "datasets"
    store.mkdir(parents=True, exist_ok=True)
    workspace.sweep(store, ".incoming-")
    incoming = store / f".incoming-{uuid.uuid4().hex}"
    incoming.mkdir()
    try:
        with workspace.lock(incoming / "lock"):
            dataset = _ingest(Path(source), Path(test) if test else None, incoming, report, all_test)
            workspace.write_atomic(incoming / "dataset.json", _to_json(dataset).encode("ascii"))
        return _keep(dataset, store)
    finally:
        shutil.rmtree(incoming, ignore_errors=True)


def load(folder: Path) -> Dataset:
    """A dataset from its copy in the workspace. Raises DataError."""
    try:
        values = json.loads((folder / "dataset.json").read_bytes())
        photos = tuple(Photo(**{**p, "original_size": tuple(p["original_size"])}) for p in values["photos"])
        skipped = tuple(Skipped(**s) for s in values["skipped"])
        classes, notes = tuple(values["classes"]), tuple(values["notes"])
        return Dataset(values["source"], classes, photos, skipped, notes, folder)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"The app's copy of the photos at {folder} is gone or damaged. Load them again.") from error


def _ingest(source: Path, test: Path | None, incoming: Path, report: Report | None, all_test: bool) -> Dataset:
    skipped: list[Skipped] = []
    notes: list[str] = []
    found: list[tuple[str, Photo]] = []
    with open(incoming / "photos.bin", "wb") as out:
        for root in [source] + ([test] if test else []):
            with open_source(root) as listing:
                arranged = arrange(listing, root)
                if test and root is source and any(p.side == "test" for p in arranged.placed) and arranged.has_test:
                    raise DataError("The folder has its own test photos. Leave out --test, or that test folder.")
                notes += arranged.notes
                skipped += [Skipped(name, reason) for name, reason in arranged.skipped]
                for placed, decoded in _decode_all(arranged.placed, report):
                    if isinstance(decoded, str):
                        skipped.append(Skipped(placed.file.name, decoded))
                        continue
                    side = "test" if all_test or root is test else placed.side
                    if test and root is source and side == "test":
                        side = "validation"  # with test photos given, val/ is what choices are made on
                    name = f"{root.name}/{placed.file.name}" if root is test else placed.file.name
                    height, width = decoded.pixels.shape[:2]
                    photo = Photo(
                        name, -1, side, decoded.sha256, height, width, out.tell(), decoded.size, decoded.n_bytes
                    )  # fmt: skip
                    found.append((placed.class_name, photo))
                    out.write(decoded.pixels.data)
        out.flush()
        os.fsync(out.fileno())
    found = _without_copies(found, skipped, notes)
    return _finish(found, skipped, notes, source, incoming, all_test)


@dataclass(frozen=True)
class _Decoded:
    pixels: np.ndarray
    size: tuple[int, int]
    sha256: str
    n_bytes: int


def _decode(placed: Placed) -> _Decoded | str:
    """A photo, or the reason why not."""
    try:
        data = placed.file.read()
        pixels, size = images.load_sized(data)
    except PictureError as error:
        return str(error)
    return _Decoded(np.ascontiguousarray(pixels), size, hashlib.sha256(data).hexdigest(), len(data))


def _decode_all(placed: list[Placed], report: Report | None) -> Iterator[tuple[Placed, _Decoded | str]]:
    """Decode on a few threads, in order, never more than a few photos ahead of the consumer."""
    workers = min(4, os.cpu_count() or 1)
    if report:
        report(0, len(placed))
    with ThreadPoolExecutor(workers) as pool:
        waiting = iter(placed)
        ahead: list[tuple[Placed, Future[_Decoded | str]]] = []
        for done in range(1, len(placed) + 1):
            ahead += [(p, pool.submit(_decode, p)) for p in islice(waiting, 2 * workers - len(ahead))]
            photo, future = ahead.pop(0)
            yield photo, future.result()
            if report:
                report(done, len(placed))


def _without_copies(
    found: list[tuple[str, Photo]], skipped: list[Skipped], notes: list[str]
) -> list[tuple[str, Photo]]:
    """One of each byte-identical photo: the test photo before others; none where its classes disagree."""
    order = {"test": 0, "validation": 1, "train": 2, "": 3}
    same: dict[str, list[tuple[str, Photo]]] = {}
    for entry in sorted(found, key=lambda e: order[e[1].side]):
        same.setdefault(entry[1].sha256, []).append(entry)
    dropped: set[str] = set()
    for group in same.values():
        if len({name for name, _ in group}) > 1:
            names = sorted({name for name, _ in group})
            for _, photo in group:
                dropped.add(photo.name)
                reason = f"stands in {some(names)} with the same bytes, so its class is unknown; keep one"
                skipped.append(Skipped(photo.name, reason))
        else:
            for _, photo in group[1:]:
                dropped.add(photo.name)
                skipped.append(Skipped(photo.name, f"is a copy of `{group[0][1].name}`"))
    if dropped:
        notes.append(f"{_count(len(dropped), 'photo')} left out as exact copies of others.")
    return [entry for entry in found if entry[1].name not in dropped]


def _finish(
    found: list[tuple[str, Photo]],
    skipped: list[Skipped],
    notes: list[str],
    source: Path,
    folder: Path,
    all_test: bool,
) -> Dataset:
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
    skipped += [Skipped(p.name, "is of a class that has no photos to train on") for p in unknown]
    few = [name for name in classes if counts[name] < FEW]
    if few and not all_test:
        notes.append(f"Below {FEW} photos a class the score says little: {some(few)}.")
    notes += _lookalikes(classes)
    label = {name: i for i, name in enumerate(classes)}
    photos = tuple(dataclasses.replace(photo, label=label[name]) for name, photo in found if name in label)
    sides = {photo.side for photo in photos}
    if "test" not in sides and not all_test:
        notes.append("A part of each class is held back as test photos: the score comes from these alone.")
    return Dataset(str(source), classes, photos, tuple(skipped), tuple(notes), folder)


def _draw(pool: np.ndarray, labels: np.ndarray, fraction: float, generator: np.random.Generator) -> np.ndarray:
    """A mask of `fraction` of the pool, class by class, at least one each, never a class's last."""
    drawn = np.zeros_like(pool)
    for label in np.unique(labels[pool]):
        members = generator.permutation(np.flatnonzero(pool & (labels == label)))
        drawn[members[: min(max(1, round(fraction * len(members))), len(members) - 1)]] = True
    return drawn


def _lookalikes(classes: tuple[str, ...]) -> list[str]:
    """Warn of class names that differ only in case or in their Unicode form."""
    same: dict[str, list[str]] = {}
    for name in classes:
        same.setdefault(unicodedata.normalize("NFKC", name).casefold(), []).append(name)
    return [f"{some(names)} look the same but are separate classes." for names in same.values() if len(names) > 1]


def _keep(dataset: Dataset, store: Path) -> Dataset:
    """Move the finished copy to its place, named by its content; an equal copy that is there already stays."""
    digest = hashlib.sha256(_to_json(dataset).encode("ascii")).hexdigest()[:16]
    final = store / digest
    if not (final / "dataset.json").is_file():
        try:
            os.rename(dataset.folder, final)
            workspace.sync_folder(store)
        except OSError:
            if not (final / "dataset.json").is_file():  # not merely another process that was first
                raise
    return dataclasses.replace(dataset, folder=final)


def _to_json(dataset: Dataset) -> str:
    values = {"schema": SCHEMA, **dataclasses.asdict(dataclasses.replace(dataset, folder=Path()))}
    del values["folder"]
    return json.dumps(values)


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


__all__ = ["Dataset", "File", "Photo", "Skipped", "Split", "load", "scan"]
