"""What lies in a workspace, and whether it can be read: runs, datasets, leftovers, locks.

Only looks: it writes nothing and takes no lock, so the workspace may be broken or read-only. Reads no photo and no
model, but for their sizes; models are hashed where it is asked to look deep. Whatever lies there, it raises nothing.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tlapp import catalog, journal, runs, workspace
from tlapp import dataset as datasets
from tlapp.errors import DataError, RunError, UserError, explain_oserror
from tlapp.events import Event, RunFinished
from tlapp.photos import ADDED_PIXELS, PIXELS
from tlapp.runs import Run

_HALVES = {"datasets": ".incoming-", "uploads": "page-", "exports": "bundle-", "incoming": ""}
"""Where folders are made before they are moved to their place or removed, and how their names begin."""


@dataclass(frozen=True)
class Part:
    """How much of the workspace is of one kind: `count` runs, datasets or entries, and their files."""

    kind: str
    count: int
    files: int
    megabytes: float


@dataclass(frozen=True)
class One:
    """A run or a dataset: its `state`, or why it cannot be read in `error`, else ""."""

    id: str
    state: str
    error: str


@dataclass(frozen=True)
class Held:
    """A lock that a process holds: which process, and what command it is, where that can be told."""

    lock: str
    process: int | None
    command: str


def parts(home: Path) -> Iterator[Part]:
    """Everything in the workspace, by kind; what has several names counts once."""
    seen: set[tuple[int, int]] = set()
    trash = home / "runs" / runs.TRASH
    kinds: dict[str, list[Path]] = {"runs": _inside(home / "runs", but=trash), "trash": _inside(trash)}
    for entry in _inside(home):
        if entry.name.startswith(journal.NAME):
            kinds.setdefault("log", []).append(entry)
        elif entry.name != "runs":
            inside = entry.is_dir() and not entry.is_symlink()
            kinds.setdefault(entry.name if inside else "other", []).extend(_inside(entry) if inside else [entry])
    for kind, entries in kinds.items():
        sizes = [size for entry in entries for size in _sizes(entry, seen)]
        count = sum(entry.is_dir() for entry in entries) or len(entries)
        yield Part(kind, count, len(sizes), sum(sizes) / 1e6)


def _inside(folder: Path, but: Path | None = None) -> list[Path]:
    with contextlib.suppress(OSError):
        return sorted(entry for entry in folder.iterdir() if entry != but)
    return []


def _sizes(path: Path, seen: set[tuple[int, int]]) -> Iterator[int]:
    """Bytes of each file in it that was not seen before. Links are not followed."""
    with contextlib.suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            for entry in _inside(path):
                yield from _sizes(entry, seen)
            return
        stat = path.lstat()
        if (stat.st_dev, stat.st_ino) not in seen:
            seen.add((stat.st_dev, stat.st_ino))
            yield stat.st_size


def all_runs(home: Path, deep: bool) -> Iterator[tuple[One, str]]:
    """Each run, and the id of the photos that it learned from."""
    with contextlib.suppress(OSError):
        for run in runs.all_runs(home):
            dataset = ""
            try:
                dataset = str(run.header()["dataset"])
                yield One(run.id, _state_of(run, deep), ""), dataset
            except (UserError, OSError) as error:
                why = explain_oserror(error) if isinstance(error, OSError) else str(error)
                yield One(run.id, "damaged", why), dataset
            except Exception as error:  # nothing that lies in a folder may keep the others from being looked at
                yield One(run.id, "damaged", f"Run {run.id} cannot be read ({type(error).__name__})."), dataset


def _state_of(run: Run, deep: bool) -> str:
    """Raises RunError or OSError where something of it cannot be read."""
    catalog.get(run.plan.backbone)
    last = _last_event(run, deep)
    if run.has_model():
        report = run.report()
        digest = str(report.get("model_sha256"))
        found = run.path / f"model-{digest[:12]}.safetensors"
        if not found.is_file() or not found.stat().st_size:
            raise RunError(f"The model of run {run.id} cannot be read. Train again.")
        if deep:
            run.model()
            run.learned()
    elif isinstance(last, RunFinished):
        raise RunError(f"Run {run.id} is finished, but its model or report is gone. Train again.")
    return "running" if _is_held(run.path / "lock") else runs.state_after(last)


def _last_event(run: Run, deep: bool) -> Event | None:
    """The last event of a record that is JSON all through; looking deep, that has known events all through."""
    try:
        data = (run.path / "events.jsonl").read_bytes()
    except FileNotFoundError:
        return None
    lines = data[: data.rfind(b"\n") + 1].splitlines()
    start = sum(len(line) + 1 for line in lines[:-1])
    try:
        json.loads(b"[" + b",".join(lines) + b"]")  # a fraction of the time that events take to make
    except (ValueError, RecursionError):
        start = 0
    return next(reversed(run.events(0 if deep else start)[0]), None)


def used_in_trash(home: Path) -> set[str]:
    """Ids of the photos that removed runs learned from."""
    with contextlib.suppress(OSError):
        return runs.datasets_of(home, (runs.TRASH,))
    return set()


def all_datasets(home: Path) -> Iterator[tuple[One, str]]:
    """Each dataset, and the id of the one that it was made from, or ""."""
    for folder in _inside(home / "datasets"):
        if folder.name.startswith(".") or not folder.is_dir():
            continue
        try:
            found = datasets.load(folder)
            there = sum((folder / name).stat().st_size for name in (PIXELS, ADDED_PIXELS) if (folder / name).exists())
            if there < max(photo.offset + photo.height * photo.width * 3 for photo in found.every):
                raise DataError(f"The app's copy of the photos at {folder} is cut short. Load them again.")
            yield One(folder.name, "whole", ""), found.original
        except (DataError, OSError) as error:
            why = explain_oserror(error) if isinstance(error, OSError) else str(error)
            yield One(folder.name, "damaged", why), ""
        except Exception as error:
            why = f"The app's copy of the photos at {folder} cannot be read ({type(error).__name__})."
            yield One(folder.name, "damaged", why), ""


def leftovers(home: Path) -> Iterator[str]:
    """Half-made folders and unfinished files that no process works on."""
    for store in ("runs", *_HALVES):
        for entry in _inside(home / store):
            if not entry.is_dir() or entry.name == runs.TRASH:
                continue
            if _is_held(entry / "lock") or _is_held(entry.with_name(f"{entry.name}.lock")):
                continue
            is_run = store == "runs"
            if not (entry / "plan.json").exists() if is_run else entry.name.startswith(_HALVES[store]):
                yield str(entry.relative_to(home))
            else:
                yield from (str(path.relative_to(home)) for path in _inside(entry) if path.name.startswith(".tmp-"))


def locks(home: Path, lines: list[dict[str, Any]]) -> Iterator[Held]:
    """The locks that processes hold; `lines` of the log tell what these do."""
    commands = {line.get("process"): line.get("command") for line in lines if line["event"] == "command_started"}
    places = [home, *(home / store for store in ("runs", "datasets", "uploads", "exports", "incoming"))]
    files = [path for place in places for path in _inside(place) if path.name.endswith(".lock")]
    files += [entry / "lock" for entry in _inside(home / "runs")]
    for path in filter(_is_held, files):
        process = _holder(path)
        yield Held(str(path.relative_to(home)), process, str(commands.get(process) or ""))


def _is_held(path: Path) -> bool:
    """As `workspace.is_locked`, but where that is possible without writing to the file or keeping others out."""
    if not path.is_file():
        return False
    if os.name != "posix":
        with contextlib.suppress(OSError):
            return workspace.is_locked(path)
        return False
    import fcntl

    with contextlib.suppress(OSError), open(path, "rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _holder(path: Path) -> int | None:
    """Which process holds the lock, where Linux tells."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        inode = str(path.stat().st_ino)
        for line in Path("/proc/locks").read_text("ascii").splitlines():
            parts = line.split()
            if parts[1] == "FLOCK" and parts[5].rpartition(":")[2] == inode and int(parts[4]) > 0:
                return int(parts[4])
    return None
