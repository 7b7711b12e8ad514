"""One folder per run in the workspace: plan, events, weights, report. Every write atomic, every read checked.

::

    runs/0007-k3f9x2/
        plan.json                   settings, dataset, classes; written last, so a folder without it is no run
        events.jsonl                one event a line
        last.state                  where the training stands, with the best epoch; removed when the run ends for good
        best-12.state               the best weights so far, those of epoch 12, what learned alone; removed with it
        model-3f0c….safetensors     the whole network as delivered, named by the first 12 digits of its SHA-256
        learned-9a41….safetensors   the features of the photos learned from, named in the same way
        keep.json                   the part of known photos that the person wants answered, once they have said so
        report.json                 scores and every test photo's prediction, with the SHA-256 of both
        lock                        held by the living process that works on the run
        line                        when it came to wait, counted over all runs; a resumed one comes anew
        stop                        there while somebody asks the run to stop
        about.json                  the name and the note that the person gave it, which `history` reads and writes
    runs/.trash/0006-p2m8qd/        a run that was removed, as it was

The only room that knows the other names. Knows nothing of training; tensors pass through as safetensors bytes.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import secrets
import shutil
import string
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import filelock

from tlapp import events, journal, schema, weightfile, workspace
from tlapp.errors import PlanError, RunError, printable
from tlapp.events import Ended, Event, RunFailed, RunFinished, RunStopped
from tlapp.plan import Plan

TRASH = ".trash"
DELIVERED = ("model", "learned")
KEEP, KEEP_RANGE = 0.95, (0.8, 0.99)
MOST_LINE = 65536
_ID = re.compile(r"(\d{4,})-[a-z0-9]{6}")


@dataclass(frozen=True)
class Run:
    """A handle on a run's folder; everything is read from disk when asked for."""

    path: Path

    @property
    def id(self) -> str:
        """The folder's name."""
        return self.path.name

    def header(self) -> dict[str, Any]:
        """plan.json: `plan`, `dataset` (id), `source`, `classes`. Raises RunError."""
        values = _read_json(self.path / "plan.json", self.id, "run")
        kinds = {"schema": int, "plan": dict, "dataset": str, "source": str, "classes": list}
        if not all(isinstance(values.get(name), kind) for name, kind in kinds.items()):
            raise RunError(f"plan.json of run {self.id} is damaged. Train again.")
        return values

    @property
    def plan(self) -> Plan:
        """The run's settings. Raises RunError."""
        try:
            return Plan.from_dict(self.header()["plan"])
        except PlanError as error:
            raise RunError(f"The plan of run {self.id} is damaged ({error}).") from error

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in the order of the model's outputs."""
        return tuple(self.header()["classes"])

    @property
    def dataset_folder(self) -> Path:
        """The copy of the photos that the run learns from."""
        return self.path.parent.parent / "datasets" / str(self.header()["dataset"])

    def lock(self) -> filelock.BaseFileLock:
        """Held while a process works on the run."""
        return workspace.lock(self.path / "lock")

    def is_live(self) -> bool:
        """Whether a process works on it, waiting or training."""
        return workspace.is_locked(self.path / "lock")

    def turn(self) -> tuple[int, str]:
        """What orders the runs that wait: when it came, counted over all runs (0: an earlier version's), and its id."""
        try:
            return int((self.path / "line").read_bytes()), self.id
        except (OSError, ValueError):
            return 0, self.id

    def append(self, event: Event, is_news: bool = True) -> None:
        """Add an event at the end of the record, whole or not at all; durable when it is the end. Raises OSError.

        The log is told of it unless it happened elsewhere.
        """
        line = memoryview(events.to_json(event).encode("ascii") + b"\n")
        with open(self.path / "events.jsonl", "ab", buffering=0) as file:
            before = file.tell()
            try:
                while line:
                    line = line[file.write(line) :]
                if isinstance(event, Ended):
                    workspace.sync(file.fileno())
                    workspace.sync_folder(self.path)
            except OSError:
                file.truncate(before)  # or the next event would stand behind half a line
                raise
        if is_news:
            journal.told(self.path.parent.parent, self.id, event)

    def mend(self) -> None:
        """Cut off a last line that a killed process left unfinished."""
        path = self.path / "events.jsonl"
        if path.exists():
            data = path.read_bytes()
            whole = data[: data.rfind(b"\n") + 1]
            if len(whole) < len(data):
                workspace.write_atomic(path, whole)

    def events(self, start: int = 0) -> tuple[list[Event], int]:
        """The events from byte `start` on, and the byte to ask from next; an unfinished line is left for later."""
        try:
            with open(self.path / "events.jsonl", "rb") as file:
                file.seek(start)
                data = file.read()
        except FileNotFoundError:
            return [], start
        whole = data[: data.rfind(b"\n") + 1]
        found = []
        for line in whole.splitlines():
            try:
                event = events.from_json(line.decode("ascii"))
            except ValueError as error:
                raise RunError(f"The record of run {self.id} is damaged. Its model may still be used.") from error
            if event is not None:
                found.append(event)
        return found, start + len(whole)

    def stamp(self) -> tuple[tuple[str, int, int], ...]:
        """Another value whenever a file of the run has changed: their names, times and sizes."""
        try:
            with os.scandir(self.path) as entries:
                found = [(entry.name, entry.stat()) for entry in entries]
        except OSError:  # it is being removed
            return ()
        return tuple(sorted((name, stat.st_mtime_ns, stat.st_size) for name, stat in found))

    def state(self) -> str:
        """ "running" (or waiting its turn), "finished", "stopped", "failed" or "interrupted"."""
        if self.is_live():
            return "running"
        return state_after(next(reversed(self.events()[0]), None))

    def waits_for(self) -> int:
        """How many runs are before it in the line; 0 of one that does not wait. Raises RunError."""
        last = next(reversed(self.events()[0]), None)
        return last.place if isinstance(last, events.Queued) and self.is_live() else 0

    def ask_to_stop(self) -> None:
        """Ask the process that works on it, this one or another, to stop within a batch."""
        (self.path / "stop").touch()

    def stop_asked(self) -> bool:
        """Whether somebody asked."""
        return (self.path / "stop").exists()

    def forget_stop(self) -> None:
        """Take the request back, before going on."""
        (self.path / "stop").unlink(missing_ok=True)

    def save(self, name: str, content: bytes) -> None:
        """Write the state `name`: safetensors bytes behind the 64 digits of their SHA-256."""
        digest = hashlib.sha256(content).hexdigest().encode("ascii")
        workspace.write_atomic(self.path / f"{name}.state", digest + content)

    def read(self, name: str) -> bytes | None:
        """What `save` wrote, checked; None if there is none. Raises RunError if it is damaged."""
        path = self.path / f"{name}.state"
        if not path.exists():
            return None
        data = path.read_bytes()
        if hashlib.sha256(data[64:]).hexdigest().encode("ascii") != data[:64]:
            raise RunError(f"The saved state of run {self.id} is damaged ({path}). Train again.")
        return data[64:]

    def deliver(self, model: bytes, report: dict[str, Any], learned: bytes = b"") -> None:
        """Save the finished model and what it learned from, then the report with the SHA-256 of both; then remove
        earlier ones.

        Cut off anywhere, the report and the files that it means are all the earlier ones or all the new ones.
        """
        digests, paths = {}, []
        for name, content in (("model", model), ("learned", learned)):
            if content:
                digests[f"{name}_sha256"] = digest = hashlib.sha256(content).hexdigest()
                paths.append((self._path(name, digest), content))
        kept = {name: value for name, value in report.items() if name != "learned_sha256"}
        text = json.dumps({**kept, "schema": schema.REPORT, **digests}, indent=1)
        try:
            for path, content in paths:
                workspace.write_atomic(path, content)
            workspace.write_atomic(self.path / "report.json", text.encode("ascii"))
        finally:
            with contextlib.suppress(OSError):
                self._drop_undelivered()

    def _drop_undelivered(self) -> None:
        """Remove models, and what they learned from, that the report does not mean."""
        try:
            meant = json.loads((self.path / "report.json").read_bytes())
        except FileNotFoundError:
            meant = {}
        except ValueError:
            return
        if not isinstance(meant, dict):
            return
        for name in DELIVERED:
            for path in self.path.glob(f"{name}-*.safetensors"):
                if path != self._path(name, str(meant.get(f"{name}_sha256"))):
                    path.unlink(missing_ok=True)

    def _path(self, name: str, digest: str) -> Path:
        return self.path / f"{name}-{digest[:12]}.safetensors"

    def has_model(self) -> bool:
        """Whether it can predict."""
        return (self.path / "report.json").exists() and any(self.path.glob("model-*.safetensors"))

    def model(self) -> bytes:
        """The delivered network as safetensors bytes, its hash checked. Raises RunError."""
        return self._checked("model", str(self.report().get("model_sha256")))

    def learned(self) -> bytes | None:
        """The features of the photos it learned from, their hash checked; None of an older run. Raises RunError."""
        digest = self.report().get("learned_sha256")
        return None if digest is None else self._checked("learned", str(digest))

    def _checked(self, name: str, digest: str) -> bytes:
        what = {"model": "The model of run", "learned": "What tells strangers to run"}[name]
        try:
            data = self._path(name, digest).read_bytes()
        except (OSError, ValueError) as error:
            raise RunError(f"{what} {self.id} cannot be read. Train again.") from error
        if hashlib.sha256(data).hexdigest() != digest:
            raise RunError(f"{what} {self.id} is damaged: its bytes changed since it was saved. Train again.")
        return data

    def keep(self) -> float:
        """The part of known photos to answer, 0.8 to 0.99; the others are called "none of these"."""
        try:
            kept = float(json.loads((self.path / "keep.json").read_bytes())["keep"])
        except (OSError, ValueError, TypeError, KeyError):
            return KEEP
        return kept if KEEP_RANGE[0] <= kept <= KEEP_RANGE[1] else KEEP

    def set_keep(self, part: float) -> None:
        """Use this part from now on, on the page and the command line. Raises ValueError out of `KEEP_RANGE`."""
        if not KEEP_RANGE[0] <= part <= KEEP_RANGE[1]:
            raise ValueError(f"{part} is not from {KEEP_RANGE[0]} to {KEEP_RANGE[1]}")
        workspace.write_atomic(self.path / "keep.json", json.dumps({"keep": part}).encode("ascii"))

    def report(self) -> dict[str, Any]:
        """report.json. Raises RunError if the run has no model yet."""
        if not self.has_model():
            raise RunError(
                f"Run {self.id} has no model yet (it is {self.state()}). "
                f"Go on with it: `tlapp resume {self.id}`, or name another run (`tlapp runs`)."
            )
        return _read_json(self.path / "report.json", self.id, "report")

    def drop_states(self, but: Collection[str] = ()) -> None:
        """Remove what `save` wrote, all or all but these."""
        for path in self.path.glob("*.state"):
            if path.stem not in but:
                path.unlink(missing_ok=True)

    def tidy(self) -> None:
        """Remove what a killed process left unless a living one works on the run: states of a run that had finished
        or that another has replaced, models that no report means.
        """
        with contextlib.suppress(OSError, ValueError, KeyError, RunError), self.lock().acquire(timeout=0):
            self._drop_undelivered()
            if self._has_finished():
                self.drop_states()
            elif len(list(self.path.glob("*.state"))) > 2 and (last := self.read("last")):
                self.drop_states(but=("last", weightfile.recorded(last)["best"]))

    def _has_finished(self) -> bool:
        """Whether the record ends so, by its last line alone."""
        with contextlib.suppress(OSError, ValueError, RunError), open(self.path / "events.jsonl", "rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - MOST_LINE))
            line = file.read().splitlines()[-1:]
            return bool(line) and isinstance(events.from_json(line[0].decode("ascii")), RunFinished)
        return False


def state_after(last: Event | None) -> str:
    """The state of a run that nobody works on, after its last event."""
    kinds = {RunFinished: "finished", RunStopped: "stopped", RunFailed: "failed"}
    return kinds.get(type(last), "interrupted")


def is_unknown(strangeness: float | None, keep: float) -> bool | None:
    """Whether a photo is called "none of these", given the part of known photos to keep; None if nothing can tell."""
    return None if strangeness is None else strangeness > keep


def making(home: Path) -> filelock.BaseFileLock:
    """Held while a run is made: two processes never take one number, and whoever holds it knows of every run."""
    return workspace.lock(home / "runs" / "create.lock")


def create(
    home: Path,
    header: dict[str, Any],
    fill: Callable[[Run], None] = lambda run: None,
    admit: Callable[[], None] = lambda: None,
) -> tuple[Run, filelock.BaseFileLock]:
    """A new run with the next number, its lock held by the caller.

    `fill` may write to its folder before the run is one, `admit` may look whether there may be one more; what they
    raise leaves none.
    """
    folder = home / "runs"
    workspace.make_folder(folder)
    with making(home):
        admit()
        taken = [name for place in (folder, folder / TRASH) if place.is_dir() for name in os.listdir(place)]
        number = max((int(m[1]) for m in map(_ID.fullmatch, taken) if m), default=0) + 1
        tail = "".join(secrets.choice(string.ascii_lowercase + string.digits) for _ in range(6))
        run = Run(folder / f"{number:04d}-{tail}")
        run.path.mkdir()
        lock = run.lock()
        try:
            lock.acquire()
            fill(run)
            join_line(run)
            text = json.dumps({"schema": schema.RUN, **header}, indent=1)
            workspace.sync_folder(folder)
            workspace.write_atomic(run.path / "plan.json", text.encode("ascii"))
        except BaseException:
            shutil.rmtree(run.path, ignore_errors=True)
            lock.release()
            raise
    return run, lock


def all_runs(home: Path, within: str = "") -> list[Run]:
    """Every run, oldest first; `within` a folder beside them, such as `TRASH`."""
    folder = home / "runs" / within
    if not folder.is_dir():
        return []
    named = [(int(m[1]), m[0]) for m in map(_ID.fullmatch, os.listdir(folder)) if m]
    return [Run(folder / name) for _, name in sorted(named) if (folder / name / "plan.json").exists()]


def datasets_of(home: Path, places: Collection[str] = ("", TRASH)) -> set[str]:
    """Ids of the datasets that runs learned from; `places` as `within` of `all_runs`."""
    found = set()
    for run in [run for within in places for run in all_runs(home, within)]:
        with contextlib.suppress(RunError):
            found.add(str(run.header()["dataset"]))
    return found


def live_before(home: Path, run: Run) -> list[Run]:
    """The runs that wait or train and came before this one."""
    mine = run.turn()
    return [other for other in all_runs(home) if other.turn() < mine and other.is_live()]


def join_line(run: Run) -> None:
    """Put the run at the end of the line of those that wait. For who holds `making`."""
    last = max((other.turn()[0] for other in all_runs(run.path.parent.parent)), default=0)
    workspace.write_atomic(run.path / "line", str(last + 1).encode("ascii"))


def find(name: str, home: Path | None = None) -> Run:
    """A run by its id, its number, its folder, or `latest`: the newest finished one. Raises RunError.

    `home`: the workspace; default `workspace.home()`.
    """
    runs = all_runs(home or workspace.home())
    if name == "latest":
        newest = next((run for run in reversed(runs) if _is_finished(run)), None)
        if newest is None:
            raise RunError("There is no finished run yet. Start one with `tlapp train FOLDER`.")
        return newest
    for run in runs:
        if run.id == name or (name.isdecimal() and int(run.id.split("-")[0]) == int(name)):
            return run
    if (Path(name) / "plan.json").is_file():
        return Run(Path(name).absolute())
    raise RunError(f"There is no run `{printable(name)}`. `tlapp runs` lists them; `latest` is the newest finished.")


def _is_finished(run: Run) -> bool:
    try:
        return run.has_model() and run.state() == "finished"
    except RunError:
        return False


def sweep(home: Path) -> None:
    """Remove all that killed processes left in the workspace, such as folders that never became a run.

    Harms nothing that a living process works on. For the start of the page and of a run.
    """
    workspace.sweep(home)
    folder = home / "runs"
    if not folder.is_dir():
        return
    with making(home):  # a run in the making has no lock yet
        for entry in never_begun(home):
            shutil.rmtree(entry, ignore_errors=True)
            journal.note("cleaned_up", home, what="half a run", run=entry.name)
        for run in all_runs(home):
            with contextlib.suppress(OSError):  # it was removed meanwhile
                if _is_untidy(os.listdir(run.path)):
                    run.tidy()


def _is_untidy(names: Collection[str]) -> bool:
    """Whether a run's files are more than a report and what it means: states, or models beside it."""
    models = [name for name in names if name.endswith(".safetensors")]
    firsts = {name.split("-")[0] for name in models}
    return len(models) > len(firsts if "report.json" in names else ()) or any(n.endswith(".state") for n in names)


def never_begun(home: Path) -> list[Path]:
    """Folders that never became a run, as their process was killed. Certain only while `making` is held."""
    folder = home / "runs"
    entries = [folder / name for name in os.listdir(folder) if _ID.fullmatch(name)] if folder.is_dir() else []
    return [e for e in entries if e.is_dir() and not (e / "plan.json").exists() and not Run(e).is_live()]


def _read_json(path: Path, run_id: str, kind: str) -> dict[str, Any]:
    try:
        values = json.loads(path.read_bytes())
        if not isinstance(values, dict):
            raise ValueError("it is no object")
        return schema.upgraded(values, kind)
    except schema.NewerError as error:
        raise RunError(f"Run {run_id} was written by a newer version of tlapp. Update tlapp to open it.") from error
    except (OSError, ValueError, RecursionError) as error:
        raise RunError(f"{path.name} of run {run_id} is missing or damaged. Train again.") from error
