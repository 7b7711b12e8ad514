"""Photos as a person wants them, written once more in the folders that torchvision's `ImageFolder` reads.

::

    DIR/
        train/<class>/<photo>       to learn from
        val/<class>/<photo>         to choose by
        test/<class>/<photo>        to report on
        manifest.csv                every photo: file, label, split, original, sha256, copy

The photos are the very bytes of the files that were read, not the app's smaller copies. The manifest is a CSV of labels
as `labels` reads it, so that the folder, read again, gives the same classes and sides. Knows nothing of networks.
"""

from __future__ import annotations

import hashlib
import io
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from PIL import Image

from tlapp import images, tables, workspace
from tlapp.dataset import Dataset, Photo, Skipped, Split
from tlapp.errors import DataError, PictureError, explain_oserror, printable, some
from tlapp.filenames import Names
from tlapp.intake import File
from tlapp.labels import MAX_LABEL, open_labelled

MANIFEST = "manifest.csv"
COLUMNS = ("file", "label", "split", "original", "sha256", "copy")
SIDES = {"train": "train", "validation": "val", "test": "test"}
"""The folder of each part of a split."""

EXACT, CONVERTED, KEPT = "exact", "converted", "kept"
"""What a photo's bytes are: those of the original; a PNG of it, as `ImageFolder` passes over its format; a PNG of the
app's own copy, as of a photo that was added on the page nothing else is kept."""

_ENDINGS = {"JPEG": ".jpg", "MPO": ".jpg", "PNG": ".png", "WEBP": ".webp", "BMP": ".bmp", "TIFF": ".tif", "PPM": ".ppm"}

Report = Callable[[int, int], object]


@dataclass(frozen=True)
class Copied:
    """What was written.

    Attributes:
        path: the folder.
        photos: how many are in it.
        classes: by the class's name its `folder` and its photos in `train`, `val` and `test`.
        left_out: files of the source that are not in it, each with the reason.
        notes: sentences on what a reader of the folder must know.
    """

    path: Path
    photos: int
    classes: dict[str, dict[str, Any]]
    left_out: tuple[Skipped, ...]
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        left_out = [{"file": skipped.name, "reason": skipped.reason} for skipped in self.left_out]
        return {
            "path": str(self.path), "photos": self.photos, "classes": self.classes, "left_out": left_out,
            "notes": list(self.notes),
        }  # fmt: skip


def copy(
    dataset: Dataset, split: Split, to: str | Path, test: str | Path | None = None,
    report: Report = lambda done, total: None,
) -> Copied:  # fmt: skip
    """Write the dataset's photos, divided as `split` says, to the folder `to`, which must not exist or be empty.

    Whole or not at all. `test`: the other source that was given for the test photos. Raises DataError: something is at
    `to`, it lies in the source or cannot be written, or an original is gone or has changed since it was read.
    """
    path = check(to, dataset.source, *([test] if test else []))
    folders = _folders(dataset)
    try:
        with _originals(dataset, test) as originals, workspace.whole_folder(path) as folder:
            for side in SIDES.values():
                for name in folders:
                    (folder / side / name).mkdir(parents=True)
            rows = list(_written(dataset, split, originals, folder, folders, report))
            text = tables.to_csv([COLUMNS, *rows])
            (folder / MANIFEST).write_bytes(text.encode("utf-8", "replace"))
    except OSError as error:
        raise DataError(explain_oserror(error)) from error
    return _told(dataset, split, path, folders, Counter(row[-1] for row in rows))


def check(to: str | Path, *sources: str | Path) -> Path:
    """The whole path of `to`. Raises DataError where nothing must be written: it is no empty folder, or in a source."""
    path = workspace.expand(to).absolute()
    shown = printable(str(path))
    if path.is_file() or path.is_symlink() or (path.is_dir() and any(path.iterdir())):
        raise DataError(f"{shown} exists already and is not an empty folder. Name another folder.")
    for root in (Path(source).resolve() for source in sources):
        if root.is_dir() and (path.resolve() == root or root in path.resolve().parents):
            raise DataError(f"{shown} lies in the folder of the photos themselves. Name a folder outside of it.")
    return path


def _folders(dataset: Dataset) -> list[str]:
    """The folder of each class."""
    names = Names()
    return [names.free(name) for name in dataset.classes]


@contextmanager
def _originals(dataset: Dataset, test: str | Path | None) -> Iterator[dict[str, list[File]]]:
    """The files that were read, by the names that photos have; they can be read while the context is open."""
    source = Path(dataset.source)
    if not source.is_absolute() or not source.exists():
        raise DataError(
            f"The photos that were read from {printable(dataset.source)} are not there any more, and the app keeps "
            "small copies alone. Give the folder, zip or CSV that they are in now."
        )
    found: dict[str, list[File]] = {}
    with ExitStack() as stack:
        for root, before in [(source, "")] + ([(Path(test), f"{Path(test).name}/")] if test else []):
            for placed in stack.enter_context(open_labelled(root)).placed:
                found.setdefault(before + placed.file.name, []).append(placed.file)
        yield found


def _written(
    dataset: Dataset, split: Split, originals: dict[str, list[File]], folder: Path, folders: list[str], report: Report
) -> Iterator[tuple[str, ...]]:
    """Write photo by photo; the line of the manifest of each."""
    names = [Names() for _ in folders]
    side_of = {int(i): side for part, side in SIDES.items() for i in getattr(split, part)}
    for done, (index, photo) in enumerate(enumerate(dataset.photos), 1):
        data, ending, how = _bytes_of(dataset, index, originals)
        name = names[photo.label].free(PurePosixPath(photo.name).stem, ending)
        file = f"{side_of[index]}/{folders[photo.label]}/{name}"
        (folder / file).write_bytes(data)
        label = _label(dataset.classes[photo.label], folders[photo.label])
        yield file, label, side_of[index], photo.name, hashlib.sha256(data).hexdigest(), how
        report(done, len(dataset.photos))


def _label(name: str, folder: str) -> str:
    """The class as the manifest calls it; a name that a CSV of labels cannot hold gives way to that of its folder."""
    return name if tables.read_back(name) and len(tables.read_back(name)) <= MAX_LABEL else folder


def _bytes_of(dataset: Dataset, index: int, originals: dict[str, list[File]]) -> tuple[bytes, str, str]:
    """A photo's bytes, the ending of its name, and what they are."""
    photo = dataset.photos[index]
    if photo.added:
        return _png(dataset.pixels(index)), ".png", KEPT
    data = _read(photo, originals.get(photo.name, []))
    ending = _ENDINGS.get(images.format_of(data), "")
    return (data, ending, EXACT) if ending else (_png(images.load(data, None)), ".png", CONVERTED)


def _read(photo: Photo, files: list[File]) -> bytes:
    shown = printable(photo.name)
    if not files:
        raise DataError(f"`{shown}` is not there any more. Nothing was written; put it back or read the photos again.")
    for file in files:
        try:
            data = file.read()
        except PictureError as error:
            raise DataError(f"`{shown}` {error}. Nothing was written.") from error
        if hashlib.sha256(data).hexdigest() == photo.sha256:
            return data
    raise DataError(f"`{shown}` has changed since it was read. Nothing was written; start again.")


def _png(pixels: images.Array) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def _told(dataset: Dataset, split: Split, path: Path, folders: list[str], forms: Counter[str]) -> Copied:
    counts = {side: Counter(dataset.labels[getattr(split, part)].tolist()) for part, side in SIDES.items()}
    classes = {
        name: {"folder": folders[i], **{side: counts[side][i] for side in SIDES.values()}}
        for i, name in enumerate(dataset.classes)
    }
    notes = []
    for side in SIDES.values():
        if empty := [name for name, found in classes.items() if not found[side]]:
            notes.append(f"{side}/ has no photos of {some(empty)}: ImageFolder reads it with allow_empty=True.")
    renamed = [name for name, found in classes.items() if found["folder"] != name]
    if renamed:
        notes.append(f"{some(renamed)} cannot be a folder's name everywhere; {MANIFEST} has the classes as they are.")
    for form, why in (
        (CONVERTED, "in a format that ImageFolder passes over"),
        (KEPT, "added on the page, so that the app's copy of 256 pixels is all there is"),
    ):
        if n := forms[form]:
            notes.append(f"{n} photo{'s were' if n > 1 else ' was'} {why}: written as PNG.")
    return Copied(path, len(dataset.photos), classes, dataset.skipped, tuple(notes))
