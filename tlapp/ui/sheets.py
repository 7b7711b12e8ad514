"""Photos that a browser asked about, with their answers and files, kept until it asks about others.

A page names a sheet by its id alone. Knows predictions and files; no widgets.
"""

from __future__ import annotations

import contextlib
import dataclasses
import secrets
import shutil
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tlapp import workspace
from tlapp.dataset import Skipped
from tlapp.errors import DataError, PictureError
from tlapp.intake import is_junk, open_source
from tlapp.runs import KEEP, Run
from tlapp.tasks import Report
from tlapp.ui import answers, shelf
from tlapp.ui.drop import gather
from tlapp.ui.serve import uploads_folder

if TYPE_CHECKING:
    from tlapp.predict import Prediction, Unreadable

MOST_AT_ONCE = 2000
KEPT = 8
"""Sheets of all browsers; the one that was made first goes first, its files with it."""

_SIDE = 80  # of a photo in the table: shown at 64, and 2,000 of them are to fit the page
_sheets: dict[str, Sheet] = {}
_changing = threading.Lock()


@dataclass
class Sheet:
    """`files`: names and places of the photos; `answers` of `run` to them, and to files that never came so far;
    `pictures` by name; `right`: the class that a person picked, by the number of the answer; `kept`: the part of known
    photos to keep when the answers were shown last.
    """

    run: Run
    files: list[tuple[str, Path]]
    refused: list[Skipped]
    answers: list[Prediction | Unreadable] = field(default_factory=list)
    pictures: dict[str, str] = field(default_factory=dict)
    right: dict[int, str] = field(default_factory=dict)
    kept: float = KEEP
    stack: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def ask(self, report: Report) -> None:
        """Have the run answer for all files; what `report` raises ends it. Raises RunError."""
        from tlapp.predict import Unreadable

        predictor, names = shelf.predictor(self.run), {path: name for name, path in self.files}
        side, found, pictures = None if len(self.files) == 1 else _SIDE, [], {}
        report(0, len(self.files))

        def seen(path: Path, photo: Any) -> None:
            pictures[names[path]] = shelf.data_uri(photo, side)

        for done, answer in enumerate(predictor.predict_files(names, seen), 1):
            found.append(dataclasses.replace(answer, file=names[Path(answer.file)]))
            report(done, len(self.files))
        found += [Unreadable(skipped.name, skipped.reason) for skipped in self.refused]
        self.answers, self.pictures = found, pictures

    @property
    def is_stale(self) -> bool:
        """Whether the line for strangers was moved since the answers were shown."""
        return self.kept != self.run.keep()

    def as_of_now(self) -> list[Prediction | Unreadable]:
        """The answers, with the line for strangers as it is now."""
        from tlapp.predict import Prediction

        kept = self.run.keep()
        return [a.keeping(kept) if isinstance(a, Prediction) else a for a in self.answers]

    def html(self) -> str:
        """The answers, and why some files have none."""
        from tlapp.predict import Prediction

        self.kept, told = self.run.keep(), self.as_of_now()
        good = [(i, a, self.pictures[a.file]) for i, a in enumerate(told) if isinstance(a, Prediction)]
        bad = [str(a) for a in told if not isinstance(a, Prediction)]
        shown, classes = answers.failures(bad), self.run.classes
        if len(good) == 1 and len(self.files) == 1:
            number, answer, source = good[0]
            right = self.right.get(number, "")
            return shown + answers.one(answer, source, self.run.id, classes=classes, right=right)
        return shown + (answers.table(good, self.run.id, classes, self.right) if good else "")

    def csv(self) -> Path:
        """The answers as a file that the page may hand out, as `tlapp predict --csv` writes them."""
        from tlapp import predict

        folder = uploads_folder() / "downloads" / secrets.token_hex(8)
        folder.mkdir(parents=True)
        self.stack.callback(shutil.rmtree, folder, ignore_errors=True)
        path = folder / "answers.csv"
        path.write_bytes(predict.to_csv(self.as_of_now(), self.run.classes).encode("utf-8", "replace"))
        return path


def get(name: Any) -> Sheet | None:
    """The sheet of that id, if it is still kept."""
    return _sheets.get(name) if isinstance(name, str) else None


def of_upload(value: Any, run: Run, report: Report) -> tuple[str, Sheet]:
    """The run's answers for what the drop zone sent, and the new sheet's id. Raises DataError, RunError."""
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(workspace.own_folder(workspace.home() / "incoming", "answers-"))
        source, refused = gather(value, folder, uploads_folder())
        files = _unpacked(source, folder, refused, report) if source != folder else _inside(folder)
        sheet = Sheet(run, files, refused)
        sheet.ask(report)
        sheet.stack = stack.pop_all()
    return _keep(sheet), sheet


def of_file(name: str, path: Path, run: Run) -> tuple[str, Sheet]:
    """The run's answer for one file, of which a copy is kept, and the new sheet's id."""
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(workspace.own_folder(workspace.home() / "incoming", "answers-"))
        shutil.copyfile(path, folder / "photo")
        sheet = Sheet(run, [(name, folder / "photo")], [])
        sheet.ask(lambda done, total, what="": None)
        sheet.stack = stack.pop_all()
    return _keep(sheet), sheet


def anew(sheet: Sheet, run: Run, report: Report) -> Sheet:
    """The same sheet with another run's answers; what was picked as right stays if that run knows such a class."""
    other = dataclasses.replace(sheet, run=run)
    other.ask(report)
    sheet.run, sheet.answers, sheet.pictures = run, other.answers, other.pictures
    sheet.right = {row: label for row, label in sheet.right.items() if label in run.classes}
    return sheet


def forget(name: Any) -> None:
    """Drop a sheet with its files; one that is gone is no matter."""
    with _changing:
        sheet = _sheets.pop(name, None) if isinstance(name, str) else None
    if sheet:
        sheet.stack.close()


def _keep(sheet: Sheet) -> str:
    name = secrets.token_hex(16)
    with _changing:
        _sheets[name] = sheet
        old = list(_sheets)[:-KEPT]
    for other in old:
        forget(other)
    return name


def _inside(folder: Path) -> list[tuple[str, Path]]:
    paths = [p for p in sorted(folder.rglob("*")) if p.is_file() and not is_junk(str(p.relative_to(folder)))]
    _check_number(paths)
    return [(path.relative_to(folder).as_posix(), path) for path in paths]


def _unpacked(zipped: Path, folder: Path, refused: list[Skipped], report: Report) -> list[tuple[str, Path]]:
    """The photos of a zip as files under names of our own."""
    found = []
    with open_source(zipped, zipped.name) as listing:
        _check_number(listing.files)
        refused += [Skipped(name, reason) for name, reason in listing.refused]
        for number, file in enumerate(listing.files):
            report(0, 0, f"{number:,} of {len(listing.files):,} unpacked")
            try:
                (folder / f"{number}.unpacked").write_bytes(file.read())
            except PictureError as error:
                refused.append(Skipped(file.name, str(error)))
            else:
                found.append((file.name, folder / f"{number}.unpacked"))
    zipped.unlink()
    return found


def _check_number(files: Sequence[Any]) -> None:
    if len(files) > MOST_AT_ONCE:
        raise DataError(
            f"These are {len(files):,} files; the page takes {MOST_AT_ONCE:,} at once. "
            "For more use the command line: tlapp predict RUN FOLDER --csv OUT."
        )
