"""A full disk, a failing disk, a folder that may not be written: at every write of every action, one after the other.

    python -m benchmarks reliability faults [--every 1]

The file operations of an action in the workspace are counted; then it is done once for each, and for each of three
errors, with that one operation failing (`_disk.c`, made with gcc and preloaded, so that no code of Python's or of a
library's is passed by). Afterwards all files that were there are looked at byte by byte. Needs Linux and gcc.
"""

from __future__ import annotations

import ctypes
import dataclasses
import errno
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import _common
from benchmarks._common import ROOT, Row, Rows
from benchmarks.reliability import PAGE, _small
from benchmarks.reliability._moments import forked
from tlapp import runs
from tlapp.errors import UserError, explain_oserror
from tlapp.events import RunFailed, RunFinished, RunStopped
from tlapp.runs import Run

ERRORS = (errno.ENOSPC, errno.EIO, errno.EACCES)
REPORT = {"accuracy": 0.5, "seconds": 1.0}
FIGURES = {
    "changed": "files that were there and are neither as before nor as after success",
    "leftovers": "leftovers at once",
    "restarted": "after a restart",
    "unreadable": "unreadable runs",
    "speechless": "without a sentence",
}


def main(arguments: list[str]) -> None:
    """Make every operation fail that was not yet made to, then the table."""
    parser = _common.parser("reliability faults", "ENOSPC, EIO and EACCES at every write in turn.")
    parser.add_argument("--every", type=int, default=1, help="try only every n-th operation")
    parser.add_argument("--actions", nargs="*", choices=ACTIONS, default=list(ACTIONS))
    parser.set_defaults(page=PAGE, out=ROOT / "benchmarks" / "results" / "reliability-faults.jsonl", threads=1)
    options = parser.parse_args(arguments)
    os.environ["TLAPP_LOG"] = "off"  # it is none of what is saved: a line that cannot be written is lost in silence
    rows = Rows(options.out, ("action", "error", "every"), options.threads)
    if not options.render:
        with tempfile.TemporaryDirectory(prefix="tlapp-faults-") as place:
            if "LD_PRELOAD" not in os.environ:
                _again_with(Path(place) / "disk.so", arguments)
            else:
                _measure(rows, Path(place), options.actions, options.every)
    rows = Rows(options.out, ("action", "error", "every"), options.threads)
    render([row for row in rows.of_one_machine() if row["every"] == options.every], options.page)


def _again_with(library: Path, arguments: list[str]) -> None:
    """This trial in a process that has the library in it from the start, as only such a one can."""
    source = Path(__file__).with_name("_disk.c")
    subprocess.run(["gcc", "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True)
    environment = {**os.environ, "LD_PRELOAD": str(library), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "benchmarks", "reliability", "faults", *arguments]
    subprocess.run(command, cwd=ROOT, env=environment, check=True, stdout=subprocess.DEVNULL)


def _measure(rows: Rows, place: Path, actions: list[str], every: int) -> None:
    trial = Trial.prepare(place)
    for action in actions:
        for number, error in enumerate(ERRORS):
            # Of a whole run, which takes seconds, each operation fails in one of the three ways.
            step = (every * len(ERRORS), 1 + number * every) if action == "a whole run" else (every, 1)
            take = lambda action=action, error=error, step=step: trial.fail_each(action, error, *step)  # noqa: E731
            rows.measure(take, action=action, error=errno.errorcode[error], every=every)


def _data(home: Path) -> Any:
    from tlapp import dataset

    (folder,) = (path for path in (home / "datasets").glob("[0-9a-f]*") if not _is_made(path))
    return dataset.load(folder)


def _is_made(folder: Path) -> bool:
    return '"original": ""' not in (folder / "dataset.json").read_text()


def _scan(home: Path) -> None:
    from tlapp import dataset

    dataset.scan(home.parent / "others", home=home)


def _decide(home: Path) -> None:
    from tlapp import decisions

    data = _data(home)
    decisions.decide(data, [decisions.about(data.photos[3], decisions.EXCLUDE)])


def _add(home: Path) -> None:
    from tlapp import additions

    data, path = _data(home), home.parent / "others" / "reds" / "000.png"
    additions.add(data, [additions.Addition("new.png", path, "reds")])


def _copy(home: Path) -> None:
    from tlapp import imagefolder

    data = _data(home)
    imagefolder.copy(data, _small.plan(data, "head").split(data), home / "exports" / "copy")


def _move(home: Path, name: str) -> None:
    from tlapp import export

    bundle = home.parent / "bundle"
    small = sorted(path.name for path in bundle.iterdir() if path.stat().st_size < 100_000)
    export._move(bundle, home / "exports" / name, small)


def _import(home: Path) -> None:
    from tlapp import bundles

    bundles.import_run(home.parent / "other.zip", home)


def _train(home: Path) -> None:
    from tlapp import jobs

    data = _data(home)
    run = jobs.start(data, dataclasses.replace(_small.plan(data, "head"), epochs=2), home)
    *_, event = jobs.follow(run)
    if isinstance(event, RunFailed):
        raise UserError(event.message)
    if not isinstance(event, RunFinished) and run.state() not in ("failed", "stopped", "interrupted"):
        raise AssertionError(f"the run ended as {run.state()}")


def _remove(home: Path) -> None:
    from tlapp import history

    history.remove(_run(home))


def _restore(home: Path) -> None:
    from tlapp import history

    history.restore(home, "3")


def _weights(home: Path) -> None:
    from tlapp import lineage

    lineage.weights_of(_run(home), home)


def _run(home: Path) -> Run:
    return runs.find("1", home)


def _stopped(home: Path) -> Run:
    return runs.find("2", home)


def _describe(home: Path) -> None:
    from tlapp import history

    history.describe(_run(home), name="another", note="words")


def _create(home: Path) -> None:
    runs.create(home, _run(home).header())[1].release()


ACTIONS: dict[str, Callable[[Path], Any]] = {
    "reading photos": _scan,
    "a new run": _create,
    "a whole run": _train,
    "saving a state": lambda home: _stopped(home).save("last", bytes(100_000)),
    "delivering a model": lambda home: _stopped(home).deliver(bytes(100_000), REPORT, bytes(1000)),
    "the end in the record": lambda home: _stopped(home).append(RunStopped(2, 2)),
    "the name of a run": _describe,
    "the part to answer": lambda home: _run(home).set_keep(0.9),
    "removing a run": _remove,
    "bringing it back": _restore,
    "a decision": _decide,
    "an added photo": _add,
    "weights of a run": _weights,
    "a bundle as a folder": lambda home: _move(home, "model"),
    "a bundle as a zip": lambda home: _move(home, "model.zip"),
    "opening a bundle": _import,
    "a copy of the photos": _copy,
}


@dataclass(frozen=True)
class Trial:
    """A workspace to copy for each try, with a finished and a stopped run."""

    place: Path

    @classmethod
    def prepare(cls, place: Path) -> Trial:
        """Import what children need; train once, stop once and export once in a child."""
        from tlapp import additions, bundles, export, imagefolder, sitting  # noqa: F401 - with torch, never used here

        _small.shrink()
        _small.draw(place / "photos")
        _small.draw(place / "others", seed=1000)
        trial = cls(place)
        forked(trial._fill)
        (place / "exports").mkdir()
        return trial

    def _fill(self) -> None:
        from tlapp import dataset, export, history, jobs

        home = self.place / "home"
        os.environ["TLAPP_HOME"] = str(home)
        data = dataset.scan(self.place / "photos", home=home)
        plan = dataclasses.replace(_small.plan(data, "head"), epochs=2)
        *_, event = jobs.follow(jobs.start(data, plan, home))
        run = _run(home)
        run.set_keep(0.85)
        history.describe(run, name="first", note="")
        other, lock = runs.create(home, run.header())
        other.save("last", b"state")
        other.append(RunStopped(1, 1))
        other.deliver(b"model", REPORT, b"learned")
        lock.release()
        third, lock = runs.create(home, run.header())
        lock.release()
        history.remove(third)
        export.export(run, self.place / "bundle")
        *_, event = jobs.follow(jobs.start(data, dataclasses.replace(plan, seed=1), home))
        elsewhere = runs.all_runs(home)[-1]
        export.export(elsewhere, self.place / "other.zip")
        shutil.rmtree(elsewhere.path)  # a model that is here is not taken again
        assert isinstance(event, RunFinished)

    def home(self) -> Path:
        """A workspace of its own for the next try."""
        shutil.rmtree(self.place / "try", ignore_errors=True)
        shutil.copytree(self.place / "home", self.place / "try")
        return self.place / "try"

    def fail_each(self, action: str, error: int, every: int, first: int) -> Row:
        """Do the action once for each operation, which fails; counts of what was found."""
        home, begun = self.home(), time.perf_counter()
        before = _hashes(home)
        n = forked(lambda: self.do(action, home, 0, error))[1]["operations"]
        after = _hashes(home)
        row: Row = {"operations": n, "tried": 0, **dict.fromkeys(FIGURES, 0), "faults": []}
        for at in range(first, n + 1, every):
            found = self.fail(action, error, at, before, after)
            row["tried"] += 1
            for name in FIGURES:
                row[name] += len(found[name])
                row["faults"] += [f"{at}, {name}: {one}" for one in found[name]]
        row["faults"] = row["faults"][:20]
        return {**row, "seconds": time.perf_counter() - begun}

    def fail(self, action: str, error: int, at: int, before: dict[str, str], after: dict[str, str]) -> Row:
        """One try."""
        home = self.home()
        said = forked(lambda: self.do(action, home, at, error))[1]["said"]
        now, left = _hashes(home), self._left(home)
        wanted = {path: {digest, after.get(path, "")} for path, digest in before.items()}
        changed = [path for path, known in wanted.items() if now.get(path, "") not in known]
        forked(lambda: runs.sweep(home))
        return {
            "changed": [path for path in changed if not _grew(path, home, self.place / "home")],
            "leftovers": left,
            "restarted": self._left(home),
            "unreadable": _small.unreadable(home),
            "speechless": [said] if _is_odd(said) else [],
        }

    def _left(self, home: Path) -> list[str]:
        return [path for path in _small.leftovers(home) if not path.startswith("exports/") or "/." in path]

    def do(self, action: str, home: Path, at: int, error: int) -> Row:
        """In a child: what the person would be told ("" where nothing failed), and how many operations there were."""
        os.environ["TLAPP_HOME"] = str(home)
        library = ctypes.CDLL(None)
        library.arm(str(home).encode(), at, error)
        try:
            ACTIONS[action](home)
            said = ""
        except UserError as fault:
            said = str(fault)
        except OSError as fault:
            said = explain_oserror(fault)
        n = library.armed()
        library.arm(b"", 0, 0)
        return {"said": said, "operations": n}


def _is_odd(said: str) -> bool:
    """Whether this is anything but a sentence or two for a person."""
    return bool(said) and (
        "\n" in said or "Traceback" in said or "fault of the program" in said or said[-1] not in ".)"
    )


def _hashes(home: Path) -> dict[str, str]:
    """What each file holds, but for the empty ones that only serve as locks."""
    files = (path for path in home.rglob("*") if path.is_file() and not path.is_symlink() and path.stat().st_size)
    return {path.relative_to(home).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def _grew(path: str, home: Path, before: Path) -> bool:
    """Whether it is a record of which all that was there still is, with whole lines behind it."""
    if not path.endswith("events.jsonl") or not (home / path).exists():
        return False
    text = (home / path).read_bytes()
    return text.startswith((before / path).read_bytes()) and text.endswith(b"\n")


def render(rows: list[Row], page: Path) -> None:
    """The section `faults` of the page."""
    lines = []
    for action in ACTIONS:
        own = [row for row in rows if row["action"] == action]
        if own:
            tried, figures = sum(row["tried"] for row in own), [sum(row[name] for row in own) for name in FIGURES]
            lines.append([action, f"{own[-1]['operations']}", f"{tried}", *map(str, figures)])
    text = (
        f"Made by `python -m benchmarks reliability faults` on {_common.words(rows[-1]['machine'])}: "
        f"{', '.join(errno.errorcode[error] for error in ERRORS)} at each operation that changes a file, in turn; "
        f"{sum(row['tried'] for row in rows):,} faults, {sum(row['seconds'] for row in rows):.0f} s."
    )
    table = _common.table(["action", "operations", "faults", *FIGURES.values()], lines)
    _common.write_section(page, "faults", f"{text}\n\n{table}")
