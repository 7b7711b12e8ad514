"""What files a folder or a zip holds: named, filtered of junk, each readable within bounds.

Nothing is extracted or written; a member of a zip is read into memory and counted while it is read. Knows
nothing of classes, splits or pictures.
"""

from __future__ import annotations

import os
import stat
import struct
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO

from tlapp.errors import DataError, PictureError, explain_oserror, printable
from tlapp.images import MAX_BYTES

MAX_FILES = 50_000
MAX_TOTAL_BYTES = 20 * 1024**3
MAX_FILE_BYTES = MAX_BYTES
MAX_RATIO = 1000
"""A member of a zip above `RATIO_FROM` bytes that unpacks to more than so many times its packed size is refused."""

RATIO_FROM = 1024**2
MAX_CONTENTS_BYTES = 32 * 1024**2
"""Of a zip's list of contents: more than 600 for each of the most files."""

MAX_DEPTH = 30
"""Folders around a file: the names of all of them are kept, so that thousands in one path would fill the memory."""

_STEP = 200
_DAMAGED = "is damaged inside the zip; make the zip anew"
_JUNK = {"thumbs.db", "desktop.ini", "ehthumbs.db", "icon\r", "__macosx", "$recycle.bin", "@eadir"}

Report = Callable[[int, int, str], None]
"""Told (files done, files to do, what is in hand); what it raises ends the work. To do is 0 while it is unknown."""


@dataclass(frozen=True)
class File:
    """One file to read: its path inside the folder or zip, "/" between the parts."""

    name: str
    read: Callable[[], bytes]


@dataclass
class Listing:
    """All that was found. `refused` holds names that cannot even be opened, with the reason."""

    files: list[File] = field(default_factory=list)
    folders: set[str] = field(default_factory=set)
    refused: list[tuple[str, str]] = field(default_factory=list)
    n_junk: int = 0


@contextmanager
def open_source(source: Path, shown: str = "", report: Report | None = None) -> Iterator[Listing]:
    """List a folder or a zip; its files can be read while the context is open. Raises DataError.

    `shown` is what messages call it, if not its path. `report` is called every few hundred entries of a folder.
    """
    shown = shown or str(source)
    if source.is_dir():
        yield _list_folder(source, report)
    elif source.is_file():
        try:
            file = open(source, "rb")  # noqa: SIM115 - closed below
        except OSError as error:
            raise DataError(explain_oserror(error)) from error
        with file, _open_zip(file, shown) as archive:
            yield _list_zip(archive, _running_on(archive, file, shown))
    else:
        raise DataError(
            f"{printable(shown)} does not exist. Give a folder with one sub-folder per class, or a zip of it."
        )


def is_junk(name: str) -> bool:
    """Whether a path is something that systems strew about: dot files, `__MACOSX`, Thumbs.db."""
    return any(part.startswith(".") or part.lower() in _JUNK for part in PurePosixPath(name).parts)


def list_named(root: Path, names: Iterable[str], report: Report | None = None) -> Listing:
    """Those of the named files below a folder that are there; links on the way are not followed.

    The names are relative, without "..". Raises DataError if there are too many.
    """
    listing = Listing()
    links: dict[PurePosixPath, bool] = {}
    for seen, name in enumerate(names):
        _tell(report, seen)
        folders = [folder for folder in PurePosixPath(name).parents if folder.parts]
        for folder in folders:
            if folder not in links:
                links[folder] = os.path.islink(root / folder)
        if any(links[folder] for folder in folders):
            listing.refused.append((name, "lies behind a link to a folder; links are not followed"))
        elif os.path.lexists(root / name):
            _add_file(listing, name, root / name)
    return listing


def _tell(report: Report | None, seen: int) -> None:
    if report and seen % _STEP == 0:
        report(0, 0, f"{seen:,} found")


def _list_folder(root: Path, report: Report | None) -> Listing:
    listing = Listing()
    seen = 0

    def failed(error: OSError) -> None:
        name = os.path.relpath(error.filename, root) if error.filename else "?"
        if name == ".":
            raise DataError(explain_oserror(error)) from error
        listing.refused.append((name, "cannot be opened: there is no permission to read it"))

    for folder, subfolders, names in os.walk(root, followlinks=False, onerror=failed):
        relative = PurePosixPath(Path(folder).relative_to(root).as_posix())
        for sub in sorted(subfolders):
            _tell(report, seen)
            seen += 1
            name = (relative / sub).as_posix()
            if is_junk(name):
                subfolders.remove(sub)
                listing.n_junk += 1
            elif os.path.islink(os.path.join(folder, sub)):
                listing.refused.append((name, "is a link to a folder; links are not followed"))
            else:
                listing.folders.add(name)
        subfolders.sort()
        for name in sorted(names):
            _tell(report, seen)
            seen += 1
            _add_file(listing, (relative / name).as_posix(), Path(folder) / name)
    return listing


def _add_file(listing: Listing, name: str, path: Path) -> None:
    if is_junk(name):
        listing.n_junk += 1
        return
    try:
        mode = path.lstat().st_mode
    except OSError:
        listing.refused.append((name, "vanished or cannot be opened"))
        return
    if stat.S_ISLNK(mode):
        listing.refused.append((name, "is a link; links are not followed, so put the photo itself there"))
    elif not stat.S_ISREG(mode):
        listing.refused.append((name, "is not an ordinary file"))
    else:
        listing.files.append(File(name, lambda: read_file(path)))
    if len(listing.files) > MAX_FILES:
        raise DataError(f"There are more than {MAX_FILES:,} files in there. Point to a smaller folder.")


def read_file(path: Path) -> bytes:
    """The bytes of a photo on disk. Raises PictureError."""
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except IsADirectoryError:
        raise PictureError("is a folder, not a photo") from None
    except FileNotFoundError:
        raise PictureError("does not exist; check the path") from None
    except PermissionError:
        raise PictureError("cannot be opened: there is no permission to read it") from None
    except OSError as error:
        raise PictureError(f"cannot be read ({error.strerror})") from None
    if len(data) > MAX_FILE_BYTES:
        raise PictureError(f"is larger than {MAX_FILE_BYTES // 1024**2} MB")
    return data


def _open_zip(file: IO[bytes], shown: str) -> zipfile.ZipFile:
    shown = printable(shown)
    if not zipfile.is_zipfile(file):
        raise DataError(
            f"{shown} is a file, but not a zip. Give a folder with one sub-folder per class, or a zip of such a folder."
        )
    _refuse_many(file)
    try:
        return zipfile.ZipFile(file)
    except Exception as error:  # a damaged list of contents raises many kinds
        raise DataError(f"The zip {shown} is damaged ({error}). Copy it again or make it anew.") from error


def _refuse_many(file: IO[bytes]) -> None:
    """Go by the end of the zip, as to read a list of a million entries takes a while and much memory."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - 2**16 - 200))
    tail = file.read()
    end = tail.rfind(b"PK\x05\x06")
    large = tail.rfind(b"PK\x06\x06", 0, max(end, 0))
    try:
        entries, length = struct.unpack_from("<HI", tail, end + 10)
        if large >= 0:
            entries, length = struct.unpack_from("<QQ", tail, large + 32)
    except struct.error:
        return
    if entries > MAX_FILES or (length > MAX_CONTENTS_BYTES and length <= size):
        raise DataError(f"The zip holds more than {MAX_FILES:,} entries. Make a smaller one.")


def _running_on(archive: zipfile.ZipFile, file: IO[bytes], shown: str) -> set[int]:
    """Where those entries begin whose own header makes them reach into the next: that header is damaged.

    Raises DataError where the list of contents itself lets entries share bytes: so a small zip unpacks to anything.
    Newer versions of Python refuse both, each member by itself.
    """
    infos = sorted(archive.infolist(), key=lambda info: info.header_offset)
    following = [info.header_offset for info in infos[1:]] + [archive.start_dir]
    found = set()
    for info, end in zip(infos, following[: len(infos)], strict=True):  # an empty zip has none
        if info.header_offset + 30 + len(info.orig_filename) + info.compress_size > end:
            raise DataError(
                f"The zip {printable(shown)} is damaged or a trap: some of its entries overlap. Make it anew."
            )
        file.seek(max(0, info.header_offset))
        header = file.read(30)
        if header[:4] == b"PK\x03\x04" and len(header) == 30:
            before = 30 + sum(struct.unpack("<HH", header[26:]))
            if info.header_offset + before + info.compress_size > end:
                found.add(info.header_offset)
    return found


def _list_zip(archive: zipfile.ZipFile, damaged: set[int]) -> Listing:
    listing = Listing()
    budget = _Budget(MAX_TOTAL_BYTES)
    seen: set[str] = set()
    if len(archive.infolist()) > MAX_FILES:
        raise DataError(f"The zip holds more than {MAX_FILES:,} entries. Make a smaller one.")
    for info in archive.infolist():
        name = info.filename.replace("\\", "/")
        path = PurePosixPath(name)
        is_folder = name.endswith("/")
        if not path.parts:
            if not is_folder:
                listing.refused.append((name, "is an entry of the zip without a name"))
        elif is_junk(name) and ".." not in path.parts:
            listing.n_junk += not is_folder
        elif path.is_absolute() or ".." in path.parts or ":" in path.parts[0]:
            listing.refused.append((name, "has a path that leads out of the zip"))
        elif len(path.parts) > MAX_DEPTH:
            listing.refused.append((name, f"lies more than {MAX_DEPTH} folders deep"))
        elif is_folder:
            listing.folders.add(path.as_posix())
        elif stat.S_ISLNK(info.external_attr >> 16):
            listing.refused.append((name, "is a link; links are not followed"))
        elif info.flag_bits & 0x1:
            listing.refused.append((name, "is locked with a password; make a zip without one"))
        elif info.file_size > max(RATIO_FROM, MAX_RATIO * info.compress_size):
            listing.refused.append((name, f"would unpack to more than {MAX_RATIO:,} times its size in the zip"))
        elif info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            # zipfile reads bzip2 and LZMA too, but unpacks them into memory without a bound.
            listing.refused.append((name, "is packed in a way that is not read; make an ordinary zip"))
        elif info.header_offset in damaged:
            listing.refused.append((name, _DAMAGED))
        elif path.as_posix() in seen:
            listing.refused.append((name, "stands in the zip more than once; the first was taken"))
        else:
            seen.add(path.as_posix())
            listing.files.append(File(path.as_posix(), partial(_read_member, archive, info, budget)))
    for file in listing.files:
        listing.folders.update(p.as_posix() for p in PurePosixPath(file.name).parents if p.parts)
    return listing


@dataclass
class _Budget:
    left: int


def _read_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, budget: _Budget) -> bytes:
    """Read one member, never more than its bounds whatever its header claims."""
    try:
        with archive.open(info) as member:
            data = member.read(MAX_FILE_BYTES + 1)
    except (NotImplementedError, RuntimeError):
        raise PictureError("is packed in a way that is not read; make an ordinary zip") from None
    except Exception:  # each way of packing raises kinds of its own
        raise PictureError(_DAMAGED) from None
    if len(data) > MAX_FILE_BYTES:
        raise PictureError(f"is larger than {MAX_FILE_BYTES // 1024**2} MB")
    budget.left -= len(data)
    if budget.left < 0:
        raise DataError(f"The zip unpacks to more than {MAX_TOTAL_BYTES // 1024**3} GB. Make a smaller one.")
    return data
