"""What becomes of runs once they are there: named, annotated, removed and brought back.

Knows what runs wrote into their folders, and writes two things there itself: `about.json`, the name and the note that
the person gave a run, and `runs/.trash/`, where a removed run lies for `KEPT_DAYS`. Loads no model.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import filelock

from tlapp import catalog, journal, workspace
from tlapp.errors import RunError, printable
from tlapp.plan import Plan
from tlapp.runs import TRASH, Run, all_runs

KEPT_DAYS = 7
DAY = 24 * 3600
LOOKED = "looked"
MOST_NAME, MOST_NOTE = 80, 2000


@dataclass(frozen=True)
class About:
    """What the person says of a run: a name of one line and a note, "" where there is none."""

    name: str = ""
    note: str = ""


def about(run: Run) -> About:
    """The run's name and note; a file that cannot be read has none."""
    try:
        values = json.loads((run.path / "about.json").read_bytes())
        return About(_one_line(values["name"])[:MOST_NAME], _lines(values["note"])[:MOST_NOTE])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return About()


def describe(run: Run, name: str | None = None, note: str | None = None) -> About:
    """Give the run a name, a note or both; None leaves what there is, "" takes it away.

    Control characters become escapes, and white space in a name single spaces. Raises RunError.
    """
    before = about(run)
    new = About(
        before.name if name is None else _one_line(name),
        before.note if note is None else _lines(note),
    )
    for what, value, most in (("name", new.name, MOST_NAME), ("note", new.note, MOST_NOTE)):
        if len(value) > most:
            raise RunError(f"The {what} has {len(value):,} characters; a run's {what} may have {most:,}. Shorten it.")
    if not (run.path / "plan.json").exists():
        raise RunError(f"There is no run {run.id} any more. `tlapp runs` lists them.")
    if new != before:
        text = json.dumps({"name": new.name, "note": new.note}, indent=1)
        workspace.write_atomic(run.path / "about.json", text.encode("ascii"))
    return new


def _one_line(text: str) -> str:
    return printable(" ".join(text.split()))


def _lines(text: str) -> str:
    return "\n".join(printable(line.rstrip()) for line in text.strip().splitlines())


def approach(plan: Plan) -> str:
    """How a run of the plan learns, in a few words: "auto", "head (instant)", "top, head", "all blocks"."""
    if plan.solver == "auto":
        return "auto"
    if plan.head_only:
        return f"head ({'instant' if plan.is_instant else plan.solver})"
    blocks, learning = catalog.get(plan.backbone).block_names, plan.learning
    if learning == blocks:
        return "all blocks"
    if len(learning) == 1:
        return f"{learning[0]}, head"
    is_tail = learning == blocks[-len(learning) :]
    return f"{learning[0]} to head" if is_tail else f"{len(learning)} of {len(blocks)} blocks, head"


# --- removed and brought back


def remove(run: Run) -> None:
    """Move the run into the trash, from where `restore` brings it back. Raises RunError while it is at work."""
    with _held(run):
        trash = run.path.parent / TRASH
        workspace.make_folder(trash)
        os.utime(run.path)  # the days in the trash count from now
        _move(run.path, trash / run.id)
    journal.note("run_removed", run.path.parent.parent, run=run.id)


def _move(path: Path, to: Path) -> None:
    path.rename(to)
    workspace.sync_folder(to.parent)
    workspace.sync_folder(path.parent)


@contextlib.contextmanager
def _held(run: Run) -> Iterator[None]:
    """Nobody works on the run meanwhile."""
    if not (run.path / "plan.json").exists():
        raise RunError(f"There is no run {run.id} any more. `tlapp runs` lists them.")
    lock = run.lock()
    try:
        lock.acquire(timeout=1)
    except filelock.Timeout:
        raise RunError(f"Run {run.id} is at work. Stop it first, then remove it.") from None
    try:
        yield
    finally:
        lock.release()


def removed(home: Path) -> list[Run]:
    """The runs in the trash, oldest first; `Run` reads them there as anywhere."""
    return all_runs(home, TRASH)


def restore(home: Path, name: str) -> Run:
    """Bring a removed run back, by its id or number. Raises RunError if it is not in the trash."""
    for run in removed(home):
        if run.id == name or (name.isdecimal() and int(run.id.split("-")[0]) == int(name)):
            back = Run(home / "runs" / run.id)
            if back.path.exists() and not (back.path / "plan.json").exists():
                shutil.rmtree(back.path)  # who asked for its lock meanwhile made an empty folder
            with contextlib.suppress(FileNotFoundError):  # somebody was quicker, or it was deleted for good
                _move(run.path, back.path)
                journal.note("run_restored", home, run=back.id)
                return back
    raise RunError(
        f"There is no removed run `{printable(name)}`. Removed runs are kept for {KEPT_DAYS} days; "
        "`tlapp runs removed` lists them."
    )


def empty_trash(home: Path) -> None:
    """Remove for good what has been in the trash for longer than `KEPT_DAYS`.

    That must be so by two looks at the clock at least a day apart, this one and an earlier one: a clock that is wrong
    for a moment removes nothing. What was removed while the clock was ahead stays until that time has come.
    """
    trash = home / "runs" / TRASH
    if not trash.is_dir():
        return
    looked, now = trash / LOOKED, time.time()
    with contextlib.suppress(OSError):
        before = looked.stat().st_mtime if looked.exists() else math.inf
        if 0 <= now - before < DAY:
            return
        for entry in trash.iterdir() if before < now else ():
            if before - entry.stat().st_mtime > KEPT_DAYS * DAY and entry != looked:
                workspace.remove_folder(entry)
                journal.note("cleaned_up", home, what="removed run", run=entry.name)
        looked.touch()
        os.utime(looked, (now, now))
