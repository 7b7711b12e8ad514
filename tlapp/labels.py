"""A CSV that names files and their classes, given by itself or lying at the top of a folder or zip of photos.

Its first line names the columns: `file` and `label`, if wanted `split` (train, val or test); others are passed over.
Paths are relative to the CSV's folder and stay in it. Without such a CSV the folders are the classes, as `layout` has
it. Looks into no other file, and knows nothing of pictures.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

from tlapp import tables
from tlapp.errors import DataError, PictureError, printable, some
from tlapp.intake import MAX_DEPTH, MAX_FILES, Listing, Report, is_junk, list_named, open_source, read_file
from tlapp.layout import SPLITS, Arranged, Placed, arrange, settle_sides

MAX_TABLE_BYTES = 20 * 1024**2
MAX_LABEL = 200


@dataclass(frozen=True)
class _Row:
    """What a line says; `file` is cleaned of backslashes and "./", `refused` says why the line is of no use."""

    file: str
    label: str
    side: str
    refused: str = ""


@contextmanager
def open_labelled(source: Path, shown: str = "", report: Report | None = None) -> Iterator[Arranged]:
    """The photos of a folder, zip or CSV with their classes; they can be read while the context is open.

    `shown` and `report` are those of `intake.open_source`. Raises DataError.
    """
    if source.suffix.lower() == ".csv" and source.is_file():
        try:
            data = read_file(source)
        except PictureError as error:
            raise DataError(f"{printable(shown or str(source))} {error}.") from error
        header = _header(data)
        if not header:
            raise DataError(
                f"{printable(shown or str(source))} is no list of labels. Its first line must name the columns `file` "
                "and `label`."
            )
        rows = _rows(data, header, source.name)
        names = dict.fromkeys(row.file for row in rows if row.file and not row.refused)
        yield _arranged(rows, list_named(source.parent, names, report), "", source.name)
    else:
        with open_source(source, shown, report) as listing:
            yield _of_listing(listing, shown or str(source))


def _of_listing(listing: Listing, shown: str) -> Arranged:
    """By the one table at the top, where there is one and it names files that are there; else by the folders."""
    folders = [PurePosixPath(file.name).parts[:-1] for file in listing.files]
    top = _common(folders)
    tables = {}
    for file, parts in zip(listing.files, folders, strict=True):
        if parts == top and file.name.lower().endswith(".csv"):
            try:
                data = file.read()
            except PictureError:
                continue  # named with the reason when it is tried as a photo
            if header := _header(data):
                tables[file.name] = data, header
    if len(tables) != 1:
        arranged = arrange(listing, shown)
        if tables:
            arranged.notes.append(f"{some(sorted(tables))} are all lists of labels, so none is used; keep one.")
        return arranged
    name, (data, header) = tables.popitem()
    rows, prefix = _rows(data, header, name), "".join(f"{part}/" for part in top)
    there = {file.name for file in listing.files}
    if not any(prefix + row.file in there for row in rows):
        with suppress(DataError):
            by_folder = arrange(listing, shown)
            if len({placed.class_name for placed in by_folder.placed}) > 1:
                return by_folder  # the table is of something else than these class folders
    listing.files = [file for file in listing.files if file.name != name]
    arranged = _arranged(rows, listing, prefix, name.removeprefix(prefix))
    named = {prefix + row.file for row in rows}
    table = some([name.removeprefix(prefix)])
    arranged.skipped += [(f.name, f"is not named in {table}") for f in listing.files if f.name not in named]
    return arranged


def _common(folders: list[tuple[str, ...]]) -> tuple[str, ...]:
    """The folder around all of these."""
    low, high = min(folders, default=()), max(folders, default=())
    same = next((i for i, (a, b) in enumerate(zip(low, high, strict=False)) if a != b), min(len(low), len(high)))
    return low[:same]


def _arranged(rows: list[_Row], listing: Listing, prefix: str, table: str) -> Arranged:
    """Lay the rows over the files, whose names begin with `prefix`; every row of no use is skipped by name."""
    shown = some([table])
    arranged = Arranged(skipped=list(listing.refused), notes=[f"The classes are those of {shown}."])
    files = {file.name: file for file in listing.files}
    refused = {name for name, _ in listing.refused}
    meant: dict[str, list[_Row]] = {}
    for row in rows:
        if row.refused:
            arranged.skipped.append((prefix + row.file if row.file else table, row.refused.format(shown)))
        else:
            meant.setdefault(prefix + row.file, []).append(row)
    for name, same in meant.items():
        if len(set(same)) > 1:
            reason = f"stands in {shown} with different labels or splits, so it is in none; keep one line"
            arranged.skipped.append((name, reason))
        elif name in files:
            arranged.placed.append(Placed(files[name], same[0].label, same[0].side))
            arranged.skipped += [(name, f"stands in {shown} more than once; it was taken once")] * (len(same) - 1)
        elif is_junk(name.removeprefix(prefix)):
            arranged.skipped.append((name, "is a hidden or system file; these are not read"))
        elif name not in refused:
            arranged.skipped.append((name, f"is named in {shown} but is not there; check its path"))
    if not arranged.placed:
        examples = arranged.skipped[len(listing.refused) :] or arranged.skipped
        why = f" For example `{printable(examples[0][0])}` {examples[0][1]}." if rows else ""
        raise DataError(f"No line of {shown} names a photo that can be used.{why}")
    settle_sides(arranged, f"marked {{}} in {_braced(shown)}", "the others")
    return arranged


def _header(data: bytes) -> tuple[str, list[str]] | None:
    """Delimiter and columns of the first line, as far as it is of a usual length, if these are a table's."""
    first = data[:4096].decode("utf-8-sig", "replace").splitlines()[:1]
    for delimiter in ",;\t":
        cells = next(csv.reader(first, delimiter=delimiter, skipinitialspace=True), [])
        columns = [cell.strip().lower() for cell in cells]
        if {"file", "label"} <= set(columns):
            return delimiter, columns
    return None


def _rows(data: bytes, header: tuple[str, list[str]], shown: str) -> list[_Row]:
    """The lines below the first, blank ones left out. Raises DataError."""
    delimiter, columns = header
    shown = printable(shown)
    if len(data) > MAX_TABLE_BYTES:
        raise DataError(f"{shown} is larger than {MAX_TABLE_BYTES // 1024**2} MB. Make a smaller list of labels.")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise DataError(f"{shown} is not UTF-8 text. Save it as “CSV UTF-8” and try again.") from None
    at = [columns.index(name) if name in columns else None for name in ("file", "label", "split")]
    rows: list[_Row] = []
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True)
    try:
        next(lines)
        for cells in lines:
            if any(cell.strip() for cell in cells):
                rows.append(_row(*("" if i is None or i >= len(cells) else tables.plain(cells[i].strip()) for i in at)))
            if len(rows) > MAX_FILES:
                raise DataError(f"{shown} has more than {MAX_FILES:,} lines. Make a smaller list of labels.")
    except csv.Error as error:
        raise DataError(f"{shown} is damaged at line {lines.line_num:,} ({error}). Mend or remove that line.") from None
    return rows


def _row(file: str, label: str, split: str) -> _Row:
    path = PurePosixPath(file.replace("\\", "/"))
    name, side = path.as_posix() if path.parts else "", SPLITS.get(split.lower(), "")
    if not name:
        refused = "has a line that names no file"
    elif PureWindowsPath(file).anchor or path.is_absolute() or ".." in path.parts:
        refused = "leads out of the folder of {}"
    elif len(path.parts) > MAX_DEPTH:
        refused = f"lies more than {MAX_DEPTH} folders deep"
    elif not label:
        refused = "has no label in {}"
    elif len(label) > MAX_LABEL:
        refused = f"has a label of more than {MAX_LABEL} letters in {{}}"
    elif split and not side:
        refused = "has a split in {} that is none of train, val and test"
    else:
        refused = ""
    return _Row(name, label, side, refused)


def _braced(text: str) -> str:
    return re.sub("[{}]", lambda found: found[0] * 2, text)
