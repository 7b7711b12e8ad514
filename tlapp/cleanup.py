"""What lies in the workspace and could go, in kinds that a person understands; and its deletion, once they said so.

Nothing goes that is needed: by a run, by what was decided about photos, by whoever looked at it within a day. What was
found is looked for again, under the locks that runs, photos and folders are made under, and goes only if it is as it
was. Each item goes whole: it is renamed first. Links are neither listed nor followed. Knows no widgets.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import re
import secrets
import shutil
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tlapp import dataset as datasets
from tlapp import decisions, history, readings, runs, workspace
from tlapp.dataset import Dataset
from tlapp.errors import DataError, RunError, UsageError, printable
from tlapp.events import RunFinished
from tlapp.runs import TRASH, Run

SHIELD_SECONDS = 24 * 3600
"""Photos and weights that were made or looked at within this time stay: a page or program may be about to use them.
So do runs without a model: a person may be about to resume them."""

DELETED = ".deleted"
STORES = (
    ("uploads", "page-"), ("incoming", "upload-"), ("incoming", "answers-"), ("incoming", "run-"),
    ("exports", "bundle-"), ("datasets", ".incoming-"),
)  # fmt: skip
"""Where `workspace.own_folder` makes folders, and how their names begin."""

_GOING = ("runs", f"runs/{TRASH}", "datasets", "weights", *sorted({store for store, _ in STORES} - {"datasets"}))
_DATASET, _OF_DATASET = re.compile("[0-9a-f]{16}"), ("dataset.json", "photos.bin", "added.bin")
_WEIGHTS = re.compile(r"[a-z0-9_]+-[0-9a-f]{12}\.\w+")

Stamp = tuple[tuple[str, int, int], ...]


@dataclass(frozen=True)
class Item:
    """One thing that could go: what it is called, its files or folders, the bytes that are free once all of its kind
    are gone, and what tells whether it has changed.
    """

    name: str
    paths: tuple[Path, ...]
    n_bytes: int
    stamp: tuple[Stamp, ...]


@dataclass(frozen=True)
class Kind:
    """Items of one kind: its name on the command line and in words, and what is lost with it, in a sentence."""

    name: str
    title: str
    lost: str
    items: tuple[Item, ...]

    @property
    def n_bytes(self) -> int:
        """What is free once all are gone."""
        return sum(item.n_bytes for item in self.items)


@dataclass(frozen=True)
class Done:
    """What was deleted, by the names of its items, the bytes that it freed, and what stayed, as it is needed by now."""

    deleted: tuple[str, ...]
    n_bytes: int
    kept: tuple[str, ...]


WORDS = {
    "removed": ("Removed runs", "They can no longer be brought back."),
    "unfinished": ("Runs without a model that were stopped, failed or interrupted", "They can no longer be resumed."),
    "states": ("What finished runs no longer need", "Nothing is lost."),
    "photos": ("Photos that no run learned from", "The app's copies go; load your own files again to use them."),
    "weights": ("Weights that no run starts from", "A run must be continued, or the file given, anew to use them."),
    "leftovers": ("Leftovers of programs that were killed", "Nothing is lost."),
}
"""Title and loss of each kind, in the order in which they are shown."""

HARMLESS = ("states", "leftovers")
"""Kinds with which nothing is lost."""


def plan(home: Path, looked_at: Collection[str] = ()) -> tuple[Kind, ...]:
    """What could be deleted; nothing is. `looked_at`: ids of datasets that must stay, as a page shows them."""
    found = {name: tuple(_FINDERS[name](home, looked_at)) for name in WORDS}
    return tuple(Kind(name, *WORDS[name], _counted(items)) for name, items in found.items())


def apply(home: Path, planned: Iterable[Kind], kinds: Collection[str], looked_at: Collection[str] = ()) -> Done:
    """Delete the items of these kinds that are as they were planned and still not needed. Raises UsageError."""
    check(kinds)
    chosen = [kind for kind in planned if kind.name in kinds]
    gone, kept, moved = list[Item](), list[Item](), list[Path]()
    with _nothing_is_made(home):
        for kind in chosen:
            now = {item.paths: item.stamp for item in _FINDERS[kind.name](home, looked_at)}
            for item in kind.items:
                taken = _take_away(item) if now.get(item.paths) == item.stamp else None
                (kept if taken is None else gone).append(item)
                moved += taken or []
                if taken and kind.name == "leftovers":
                    moved += [lock for path in item.paths if (lock := path.with_name(f"{path.name}.lock")).exists()]
    for path in moved:
        _remove(path)
    return Done(_names(gone), sum(item.n_bytes for item in gone), _names(kept))


def finish(home: Path) -> None:
    """Remove what a clean-up that was killed had taken away. For the start of the page and of a run."""
    halves = [path for store in _GOING for path in _entries(home / store / DELETED) if _is_own(home, home / store)]
    if halves:
        with _nothing_is_made(home):  # who cleans up at the moment may still put something back
            halves = [path for path in halves if path.exists()]
        for path in halves:
            _remove(path)


def _names(items: Iterable[Item]) -> tuple[str, ...]:
    return tuple(item.name for item in items)


def check(kinds: Collection[str]) -> None:
    """Raise UsageError where one is none."""
    if strange := [name for name in kinds if name not in WORDS]:
        raise UsageError(f"There is nothing of the kind '{printable(strange[0])}'. There are {', '.join(WORDS)}.")


@contextlib.contextmanager
def _nothing_is_made(home: Path) -> Iterator[None]:
    """Meanwhile no run begins, nothing is decided about photos, and no folder of `own_folder` is made."""
    with contextlib.ExitStack() as stack:
        if (home / "runs").is_dir():
            stack.enter_context(runs.making(home))
        if (home / "datasets").is_dir():
            stack.enter_context(decisions.deciding(home / "datasets"))
        for store, prefix in STORES:
            if (home / store).is_dir():
                stack.enter_context(workspace.making(home / store, prefix))
        yield


# --- what could go: each gives items whose bytes are counted by `_counted`


def _removed(home: Path, _: Collection[str]) -> Iterator[Item]:
    for run in _runs(home, TRASH):
        yield _item(_named(run), run.path)


def _unfinished(home: Path, _: Collection[str]) -> Iterator[Item]:
    for run in _runs(home):
        with contextlib.suppress(RunError, OSError):
            is_over = run.state() in ("stopped", "failed", "interrupted") and not run.has_model()
            if is_over and not _is_recent(run.path):
                yield _item(_named(run), run.path)


def _states(home: Path, _: Collection[str]) -> Iterator[Item]:
    for run in _runs(home):
        states = sorted(run.path.glob("*.state"))
        with contextlib.suppress(RunError, OSError):
            if states and not run.is_live() and any(isinstance(e, RunFinished) for e in run.events()[0]):
                yield _item(f"{_named(run)}: {len(states)} saved states", *states)


def _runs(home: Path, within: str = "") -> list[Run]:
    """The runs whose folders lie in the workspace itself."""
    folder = home / "runs" / within
    return [run for run in runs.all_runs(home, within) if run.path in _entries(folder)] if _is_own(home, folder) else []


def _photos(home: Path, looked_at: Collection[str]) -> Iterator[Item]:
    load = functools.cache(datasets.load)
    there: dict[str, Dataset | None] = {}
    for folder in _folders(home / "datasets"):
        if not _DATASET.fullmatch(folder.name) or not any((folder / name).exists() for name in _OF_DATASET):
            continue  # the workspace may be a folder of the person's
        there[folder.name] = None
        with contextlib.suppress(DataError):
            there[folder.name] = load(folder)
    used = _used_by_runs(home) | set(looked_at)
    needed = {name for name, found in there.items() if name in used or _is_kept(home / "datasets" / name, found, load)}
    needed |= {found.original for name in needed if (found := there.get(name))}
    for name, found in there.items():
        if name not in needed:
            words = f"{len(found.photos):,} photos of {printable(Path(found.source).name)}" if found else "damaged"
            yield _item(f"{words} ({name})", home / "datasets" / name)


def _is_kept(folder: Path, found: Dataset | None, load: Callable[[Path], Dataset]) -> bool:
    """Whether it was looked at of late, or holds what was decided about photos, or ones that were added."""
    if _is_recent(folder):
        return True
    if found is None:
        return any((folder / name).exists() for name in ("decisions.csv", "waiting.csv"))
    is_noted = readings.path_of(found).is_file() or readings.waiting_path(found).is_file()
    is_reading = not found.original and (is_noted or decisions.has_added(found))
    return is_reading and not decisions.is_outdated(found, load)


def _used_by_runs(home: Path) -> set[str]:
    """Ids of the datasets of all runs, those in the trash and those of other versions too."""
    return {str(header.get("dataset")) for header in _headers(home)}


def _headers(home: Path) -> Iterator[dict[str, object]]:
    """plan.json of every run; a run that is moved to the trash or back meanwhile is not missed."""
    for within in ("", TRASH, ""):
        for run in runs.all_runs(home, within):
            with contextlib.suppress(ValueError, FileNotFoundError, RecursionError):
                values = json.loads((run.path / "plan.json").read_bytes())
                if isinstance(values, dict):
                    yield values


def _weights(home: Path, _: Collection[str]) -> Iterator[Item]:
    plans = [header.get("plan") for header in _headers(home)]
    used = {Path(str(one.get("weights", ""))).name for one in plans if isinstance(one, dict)}
    for path in _entries(home / "weights"):
        if path.is_file() and _WEIGHTS.fullmatch(path.name) and path.name not in used and not _is_recent(path):
            yield _item(path.name, path)


def _leftovers(home: Path, _: Collection[str]) -> Iterator[Item]:
    for store, prefix in STORES:
        for folder in workspace.left_behind(home / store, prefix) if _is_own(home, home / store) else []:
            yield _item(f"{store}/{folder.name}", folder)
    for folder in runs.never_begun(home) if _is_own(home, home / "runs") else []:
        yield _item(f"runs/{folder.name}", folder)
    for folder in [home, home / "weights", *_folders(home / "datasets"), *_folders(home / "runs")]:
        for path in _entries(folder):
            if path.name.startswith(".tmp-") and path.is_file() and not _is_recent(path):
                yield _item(path.relative_to(home).as_posix(), path)


_FINDERS: dict[str, Callable[[Path, Collection[str]], Iterator[Item]]] = {
    "removed": _removed, "unfinished": _unfinished, "states": _states, "photos": _photos, "weights": _weights,
    "leftovers": _leftovers,
}  # fmt: skip


def _named(run: Run) -> str:
    name = history.about(run).name
    return f"{run.id} · {name}" if name else run.id


def _is_own(home: Path, folder: Path) -> bool:
    """Whether no link leads there from the workspace."""
    return folder.resolve() == home.resolve() / folder.relative_to(home)


def _entries(folder: Path) -> list[Path]:
    """What lies in a folder of the workspace, without links; nothing of a folder that is a link itself."""
    if folder.is_symlink() or not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if not path.is_symlink())


def _folders(store: Path) -> list[Path]:
    return [path for path in _entries(store) if path.is_dir() and not path.name.startswith(".")]


# --- as it is on the disk


def _item(name: str, *paths: Path) -> Item:
    return Item(name, paths, 0, tuple(map(_stamp, paths)))


def _stamp(path: Path) -> Stamp:
    """Another value whenever something in there has changed."""
    return tuple(sorted((name, stat.st_mtime_ns, stat.st_size) for name, stat in _files(path)))


def _files(path: Path) -> list[tuple[str, os.stat_result]]:
    """What is in a folder, however deep, or the file itself: names below it, and facts; links are not followed.

    Locks of runs are left out, as looking touches them.
    """
    found = list[tuple[str, os.stat_result]]()
    with contextlib.suppress(OSError):  # it is being removed
        if path.is_symlink() or not path.is_dir():
            return [("", path.lstat())]
        for place, _, names in os.walk(path):
            inside = os.path.relpath(place, path)
            found += [(f"{inside}/{name}", os.lstat(os.path.join(place, name))) for name in names if name != "lock"]
    return found


def _counted(items: Iterable[Item]) -> tuple[Item, ...]:
    """The items with their bytes. Of files with several names, the one with which the last of these goes has them."""
    links, found = Counter[tuple[int, int]](), []
    for item in items:
        n_bytes = 0
        for stat in (stat for path in item.paths for _, stat in _files(path)):
            links[stat.st_dev, stat.st_ino] += 1
            n_bytes += stat.st_size if links[stat.st_dev, stat.st_ino] == stat.st_nlink else 0
        found.append(Item(item.name, item.paths, n_bytes, item.stamp))
    return tuple(found)


def _is_recent(path: Path) -> bool:
    """Whether it, or a file in it, was written or marked as used within the shield's time, or later than now."""
    times = [stat.st_mtime for _, stat in _files(path)]
    return not times or time.time() - max(times) < SHIELD_SECONDS


def _take_away(item: Item) -> list[Path] | None:
    """Rename it out of the way; where to. None, and all is as it was, where somebody works on it or has changed it."""
    taken = list[tuple[Path, Path]]()
    folders = {path if path.is_dir() else path.parent for path in item.paths}
    with contextlib.ExitStack() as stack:
        try:
            for folder in folders:
                if (folder / "plan.json").exists():
                    stack.enter_context(Run(folder).lock().acquire(timeout=0.1))
            for path in item.paths:
                taken.append((path, _away(path)))
            if tuple(_stamp(place) for _, place in taken) == item.stamp:
                return [place for _, place in taken]
        except OSError:  # a lock that is held is one too
            pass
        for path, place in reversed(taken):
            with contextlib.suppress(OSError):
                place.rename(path)
    return None


def _away(path: Path) -> Path:
    trash = path.parent / DELETED
    trash.mkdir(exist_ok=True)
    if trash.is_symlink():
        raise OSError("a link stands where deleted things go")
    place = trash / f"{path.name}-{secrets.token_hex(4)}"
    path.rename(place)
    return place


def _remove(path: Path) -> None:
    """For good; what cannot be removed now is a leftover."""
    with contextlib.suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink()
    with contextlib.suppress(OSError):
        path.parent.rmdir()
