"""Killed, out of space, without power, with a clock that jumps: what was saved stays, and nothing lies about.

Slices of the trials `kill`, `faults` and `power` of `python -m benchmarks reliability`.
"""

import builtins
import errno
import io
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import SIDES, fill, quick, watch

from benchmarks.reliability import _small, faults
from benchmarks.reliability._order import Order
from tlapp import additions, dataset, decisions, demo, history, jobs, lineage, runs, workspace
from tlapp.errors import UserError, explain_oserror
from tlapp.events import EpochFinished, Resumed, RunFailed, RunFinished, RunStopped
from tlapp.runs import Run

ROOT = Path(__file__).resolve().parents[1]
YEAR = 365 * 24 * 3600


@pytest.fixture(autouse=True)
def _no_log(monkeypatch):
    """The log is none of what is saved: a line that cannot be written is lost, and nobody is told."""
    monkeypatch.setenv("TLAPP_LOG", "off")


@pytest.fixture
def data(tmp_path, small_pictures):
    """Eight training photos in the test's own workspace."""
    return dataset.scan(fill(tmp_path / "photos", SIDES))


# --- killed


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the trial forks")
def test_a_run_killed_in_its_saves_loses_an_epoch_at_most_and_leaves_nothing(tmp_path):
    out = tmp_path / "rows.jsonl"
    command = [sys.executable, "-m", "benchmarks", "reliability", "kill", "--kills", "4", "--seed", "1"]
    command += ["--solvers", "head", "--out", str(out), "--page", str(tmp_path / "page.md")]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert sum(row["kills"] for row in rows) >= 4
    assert sum(row["inside"] for row in rows) >= 3
    for row in rows:
        assert (row["unreadable"], row["different"], row["leftovers"], row["faults"]) == (0, 0, 0, []), row
        assert row["lost"] <= 1, row


WRITER = """
import os, signal, sys
from pathlib import Path
from tlapp import workspace

def write(temporary):
    temporary.write_bytes(b"half")
    print("writing", flush=True)
    sys.stdin.readline()

home = Path(sys.argv[1])
with workspace.own_folder(home / "incoming", "upload-") as folder:
    (folder / "photo").write_bytes(b"photo")
    workspace.write_atomic(home / "datasets" / "0123456789abcdef" / "features-1.npy", write)
"""


def test_a_sweep_takes_what_a_killed_process_was_writing_but_nothing_of_a_living_one(home):
    place = home / "datasets" / "0123456789abcdef"
    place.mkdir(parents=True)
    (place / "dataset.json").write_text("{}")
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(home)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert writer.stdout.readline() == "writing\n"
        before = sorted(home.rglob("*"))
        runs.sweep(home)
        assert sorted(home.rglob("*")) == before
        assert any(path.name.startswith(".tmp-") for path in before)
    finally:
        writer.kill()
        writer.communicate()
    assert _small.leftovers(home) != []
    runs.sweep(home)
    assert _small.leftovers(home) == []
    assert os.listdir(place) == ["dataset.json"]


def test_what_an_earlier_version_writes_for_its_run_stays(own_run, home):
    """It locked the run, but no temporary file."""
    (own_run.path / ".tmp-abcdefgh").write_bytes(b"half")
    with own_run.lock():
        runs.sweep(home)
        assert (own_run.path / ".tmp-abcdefgh").exists()
    runs.sweep(home)
    assert not (own_run.path / ".tmp-abcdefgh").exists()


def test_a_writer_that_a_sweep_does_not_kill_ends_whole(home):
    """Temporary files come and go while another thread sweeps all the time."""
    done = threading.Event()

    def sweeper():
        while not done.is_set():
            workspace.sweep(home)

    (home / "weights").mkdir(parents=True)
    thread = threading.Thread(target=sweeper)
    thread.start()
    try:
        for number in range(100):
            workspace.write_atomic(home / "weights" / "w.safetensors", b"%d" % number)
            with workspace.own_folder(home / "incoming", "upload-") as folder:
                (folder / "photo").write_bytes(b"photo")
    finally:
        done.set()
        thread.join()
    assert (home / "weights" / "w.safetensors").read_bytes() == b"99"
    assert _small.leftovers(home) == []


@pytest.fixture
def littered(home, own_run, trained, small_pictures):
    """A workspace with what kills left in all its corners, and the runs: finished, and stopped after two epochs."""
    stopped, lock = runs.create(home, own_run.header())
    for name in ("best-1", "best-2", "last"):
        stopped.save(name, state_of("best-2"))
    stopped.append(RunStopped(2, 2))
    lock.release()
    own_run.save("last", state_of("best-3"))
    for place in ("", "runs", own_run.path, stopped.path, "datasets", f"datasets/{trained.data.id}", "weights", "demo"):
        (home / place).mkdir(exist_ok=True)
        (home / place / ".tmp-0abc_def").write_bytes(b"half")
    for run in (own_run, stopped):
        (run.path / "model-0123456789ab.safetensors").write_bytes(b"of no report")
    for store, prefix in (("datasets", ".incoming-"), ("incoming", "answers-"), ("exports", "bundle-")):
        (home / store / f"{prefix}0123abcd").mkdir(parents=True)
        (home / store / f"{prefix}0123abcd" / "file").touch()
        for name in ("create", "0123abcd", "ffff0000"):
            (home / store / f"{prefix}{name}.lock").touch()
    (home / "runs" / "0009-abcdef").mkdir()
    (home / "runs" / "0009-abcdef" / "lock").touch()
    (home / "datasets" / ".gone-0123").mkdir()
    return own_run, stopped


def state_of(best):
    """A state without tensors that names the best one."""
    head = json.dumps({"__metadata__": {"best": best}}).encode()
    return len(head).to_bytes(8, "little") + head


def test_nothing_that_a_kill_leaves_anywhere_in_the_workspace_outlives_the_next_start(littered, home):
    finished, stopped = littered
    model = finished.model()
    assert len(_small.leftovers(home)) > 20
    runs.sweep(home)
    assert _small.leftovers(home) == []
    assert finished.model() == model
    assert not list(finished.path.glob("*.state"))
    assert sorted(path.name for path in stopped.path.glob("*.state")) == ["best-2.state", "last.state"]
    assert [run.id for run in runs.all_runs(home)] == [finished.id, stopped.id]


@pytest.mark.parametrize("start", ["page", "run"])
def test_page_and_run_sweep_when_they_start(littered, home, data, start, monkeypatch):
    if start == "page":
        from tlapp import ui
        from tlapp.ui import serve

        monkeypatch.setattr(serve, "launch", lambda *_, **__: None)
        ui.launch()
    else:
        watch(jobs.start(data, quick(data, epochs=1)))
    assert _small.leftovers(home) == []


def test_a_sweep_asks_for_no_lock_of_a_run_that_left_nothing(own_run, home, monkeypatch):
    asked = []
    lock = Run.lock
    monkeypatch.setattr(Run, "lock", lambda run: asked.append(run) or lock(run))
    runs.sweep(home)
    assert asked == []


def test_what_a_person_keeps_beside_an_export_is_not_taken_for_a_leftover(tmp_path):
    for name in (".model-backups1", ".model-backups1/precious", ".model-other"):
        (tmp_path / name).mkdir()
    (tmp_path / ".model-notes123.txt").touch()
    before = sorted(path.name for path in tmp_path.rglob("*"))
    with workspace.whole_folder(tmp_path / "model") as folder:
        (folder / "file").write_bytes(b"whole")
    assert sorted(path.name for path in tmp_path.rglob("*")) == sorted([*before, "model", "file"])


# --- a disk that fails


class Disk:
    """While open, counts what changes a file below `home`, and makes the `chosen` operation fail with `code`."""

    def __init__(self, home, monkeypatch, chosen=0, code=errno.ENOSPC):
        self.home, self.patch, self.chosen, self.code = f"{home}{os.sep}", monkeypatch, chosen, code
        self.n, self.log = 0, []

    def tick(self, what, *paths):
        if str(paths[-1]).startswith(self.home):
            self.n += 1
            self.log.append((what, str(paths[-1])))
            if self.n == self.chosen:
                raise OSError(self.code, os.strerror(self.code), str(paths[-1]))

    def done(self, what, *paths):
        """It went well."""

    def __enter__(self):
        disk, opens = self, io.open
        self.context = self.patch.context()
        patch = self.context.__enter__()

        class Raw(io.FileIO):
            def write(self, data):
                half = disk.n + 1 == disk.chosen
                super().write(data[: len(data) // 2]) if half else None
                disk.tick("write", self.name)
                disk.done("write", self.name)
                return super().write(data)

        def opened(path, mode="r", buffering=-1, *rest, **named):
            if isinstance(path, int) or not set(mode) & set("wax") or not str(path).startswith(disk.home):
                return opens(path, mode, buffering, *rest, **named)
            disk.tick("open", path)
            disk.done("open", path)
            raw = Raw(path, mode.replace("b", ""))
            return raw if buffering == 0 else io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)

        def counted(name, real, *places):
            def counting(*arguments, **named):
                paths = [arguments[place] for place in places]
                if name != "mkdir" or not os.path.isdir(paths[0]):
                    disk.tick(name, *paths)
                real(*arguments, **named)
                disk.done(name, *paths)

            return counting

        def synced(fd, sync=os.fsync):
            disk.tick("fsync", os.readlink(f"/proc/self/fd/{fd}"))
            sync(fd)
            disk.done("fsync", os.readlink(f"/proc/self/fd/{fd}"))

        def temporary(*, prefix, dir, make=tempfile.mkstemp):
            disk.tick("mkstemp", dir / prefix)
            return make(prefix=prefix, dir=dir)

        patch.setattr(builtins, "open", opened)
        patch.setattr(io, "open", opened)
        patch.setattr(os, "fsync", synced)
        patch.setattr(tempfile, "mkstemp", temporary)
        for name, *places in (("replace", 0, 1), ("rename", 0, 1), ("link", 0, 1), ("mkdir", 0), ("chmod", 0)):
            patch.setattr(os, name, counted(name, getattr(os, name), *places))
        return self

    def __exit__(self, *raised):
        self.context.__exit__(None, None, None)


class FullInSave(Disk):
    """A disk that has no room when a run makes its n-th save."""

    def __init__(self, home, monkeypatch, save):
        super().__init__(home, monkeypatch)
        self.save, self.saves, self.was_full = save, 0, False

    def tick(self, what, *paths):
        self.saves += what == "mkstemp" and "/runs/" in str(paths[0])
        if what == "write" and self.saves == self.save and not self.was_full:
            self.was_full = True
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(paths[0]))


ACTIONS = {
    "state": lambda run, _: run.save("last", state_of("best-1")),
    "delivery": lambda run, _: run.deliver(b"other weights", {"accuracy": 0.5}, b"other features"),
    "end": lambda run, _: run.append(RunStopped(1, 1)),
    "new run": lambda run, _: runs.create(run.path.parents[1], run.header())[1].release(),
    "keep": lambda run, _: run.set_keep(0.9),
    "name": lambda run, _: history.describe(run, name="another"),
    "trash": lambda run, _: history.remove(run),
    "weights": lambda run, _: lineage.weights_of(run),
    "decision": lambda _, data: decisions.decide(data, [decisions.about(data.photos[1], decisions.KEEP)]),
    "photos": lambda _, data: dataset.scan(Path(data.source)),
    "addition": lambda _, data: additions.add(
        data, [additions.Addition("new.png", Path(data.source).parent / "new.png", "reds")]
    ),
}


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="asks Linux which file is open")
@pytest.mark.parametrize("code", faults.ERRORS, ids=errno.errorcode.get)
@pytest.mark.parametrize("act", ACTIONS.values(), ids=ACTIONS)
def test_whichever_write_fails_what_was_there_stays_and_the_person_gets_a_sentence(
    act, code, own_run, data, home, monkeypatch, tmp_path
):
    fill(tmp_path, {"others/reds": 2}, seed=500)
    (tmp_path / "others" / "reds" / "001.png").rename(tmp_path / "new.png")
    if act is ACTIONS["photos"]:
        fill(tmp_path / "photos", {"train/reds": 6}, seed=700)
    own_run.save("last", b"the state before")
    own_run.set_keep(0.85)
    before, chosen, n_said = faults._hashes(home), 0, 0
    while True:
        chosen, said = chosen + 1, ""
        with Disk(home, monkeypatch, chosen, code) as disk:
            try:
                act(own_run, data)
            except UserError as error:
                said = str(error)
            except OSError as error:
                said = explain_oserror(error)
        if disk.n < chosen:
            break
        left = [path for path in _small.leftovers(home) if not path.endswith(".state")]
        assert left == [], (chosen, left)
        assert _small.unreadable(home) == []
        n_said += bool(said)
        assert not faults._is_odd(said), said
        now = faults._hashes(home)
        changed = {path for path, digest in before.items() if now.get(path) != digest}
        if changed:  # the fault came after the rename: all of it is new, and only a folder was not synced
            assert (disk.log[-1][0], disk.n) == ("fsync", chosen), changed
            break
    assert n_said > 1 or act is ACTIONS["end"]


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="asks Linux which file is open")
@pytest.mark.parametrize("save", [3, 6, -2, 0], ids=["first state", "later state", "model", "report"])
def test_a_run_whose_disk_is_full_fails_in_one_sentence_that_the_page_shows_and_goes_on_from_there(
    data, home, monkeypatch, save
):
    from tlapp.ui import live, shelf

    with FullInSave(home, monkeypatch, 0) as disk:
        whole = jobs.start(data, quick(data))
        watch(whole)
    with FullInSave(home, monkeypatch, save if save > 0 else disk.saves + save):
        run = jobs.start(data, quick(data))
        end = watch(run)[-1]
    assert isinstance(end, RunFailed)
    assert end.message.startswith("The disk is full (")
    assert "Traceback" not in end.message
    assert "The disk is full (" in live._status(shelf.record(run))
    runs.sweep(home)
    assert isinstance(watch(jobs.resume(run))[-1], RunFinished)
    assert _small.outcome(run) == _small.outcome(whole)
    assert _small.leftovers(home) == []


def test_a_full_disk_while_photos_are_read_is_one_sentence_for_whoever_asked_the_page(data, home, monkeypatch):
    import gradio as gr

    from tlapp.ui import api

    fill(Path(data.source), {"train/reds": 6}, seed=700)
    with Disk(home, monkeypatch, chosen=3), pytest.raises(gr.Error) as raised:
        api._told(api.load_dataset)(data.source)
    assert str(raised.value.message).startswith("The disk is full (")
    assert _small.leftovers(home) == []


def test_a_record_that_took_half_a_line_takes_the_next_event_whole(own_run, home, monkeypatch):
    before = own_run.events()[0]
    with Disk(home, monkeypatch, chosen=2), pytest.raises(OSError, match="No space left"):
        own_run.append(RunStopped(1, 1))
    own_run.append(RunFailed("The disk is full."))
    assert own_run.events()[0] == [*before, RunFailed("The disk is full.")]


# --- without power


class Seen(Disk):
    """While open, tells an `Order` what happens to files below `home`."""

    def __init__(self, home, monkeypatch):
        super().__init__(home, monkeypatch)
        self.order = Order(str(home))

    def done(self, what, *paths):
        names = [str(path) for path in paths]
        if what in ("open", "write"):
            self.order.wrote(*names, is_new=what == "open")
        elif what == "fsync":
            self.order.synced(*names)
        elif what in ("replace", "rename"):
            self.order.renamed(*names)
        elif what in ("mkdir", "link"):
            self.order.made(names[-1])


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="asks Linux which file is open")
@pytest.mark.parametrize("act", [*ACTIONS.values(), "export", "demo"], ids=[*ACTIONS, "export", "demo"])
def test_bytes_are_on_the_disk_before_their_name_and_the_name_before_all_is_said(
    act, own_run, data, home, monkeypatch, tmp_path
):
    fill(tmp_path, {"others/reds": 2}, seed=500)
    (tmp_path / "others" / "reds" / "001.png").rename(tmp_path / "new.png")
    with Seen(home, monkeypatch) as seen:
        if act == "export":
            with workspace.whole_folder(home / "exports" / "model") as folder:
                (folder / "inner").mkdir()
                (folder / "inner" / "file").write_bytes(b"bytes")
        elif act == "demo":
            monkeypatch.setattr(demo, "TRAIN", range(1))
            monkeypatch.setattr(demo, "TEST", range(1, 2))
            demo.make(home)
        else:
            act(own_run, data)
    for path in (path for path in seen.order.dirty | seen.order.names if not os.path.lexists(path)):
        seen.order.removed(path)
    assert seen.order.syncs > 0
    assert seen.order.end() == []


@pytest.mark.parametrize("knows_it", [True, False])
def test_on_macos_the_disk_itself_is_asked_to_keep_what_was_written(tmp_path, monkeypatch, knows_it):
    asked = []

    def fcntl(descriptor, command, *_):
        asked.append(command)
        if not knows_it:
            raise OSError(errno.ENOTSUP, "Operation not supported")

    monkeypatch.setattr(workspace, "fcntl", SimpleNamespace(F_FULLFSYNC=51, fcntl=fcntl))
    monkeypatch.setattr(os, "fsync", lambda descriptor: asked.append("fsync"))
    workspace.sync_folder(tmp_path)
    assert asked == ([51] if knows_it else [51, "fsync"])


@pytest.mark.parametrize(
    ("missing", "fault"), [("file", "before the rename"), ("folder", "never synced")], ids=["file", "folder"]
)
def test_the_order_tells_a_sync_that_is_missing(missing, fault):
    order = Order("/home")
    order.wrote("/home/.tmp-1", is_new=True)
    if missing != "file":
        order.synced("/home/.tmp-1")
    order.renamed("/home/.tmp-1", "/home/file")
    if missing != "folder":
        order.synced("/home")
    assert [fault in words for words in order.end()] == [True]


# --- stopped, started again, with a clock that jumps


def test_a_run_stopped_in_its_first_epoch_goes_on_after_a_restart_as_if_nothing_had_been(data, home, stop_at):
    whole = jobs.start(data, quick(data))
    watch(whole)
    stop_at(4)
    run = jobs.start(data, quick(data))
    assert watch(run)[-1] == RunStopped(0, 0)
    runs.sweep(home)
    assert (run.state(), run.has_model()) == ("stopped", False)
    events = watch(jobs.resume(runs.find(run.id, home)))
    assert not any(isinstance(event, Resumed) for event in events)
    assert isinstance(events[-1], RunFinished)
    assert _small.outcome(run) == _small.outcome(whole)


@pytest.mark.parametrize("jump", [YEAR, -YEAR], ids=["ahead", "back"])
def test_a_clock_that_jumps_a_year_changes_neither_seconds_nor_order_nor_result(data, home, monkeypatch, jump):
    whole = jobs.start(data, quick(data))
    watch(whole)
    real, begun = time.time, time.monotonic()
    jumped = []

    def told(run, event, append=Run.append):
        if isinstance(event, EpochFinished):
            jumped.append(jump)
        append(run, event)

    monkeypatch.setattr(Run, "append", told)
    monkeypatch.setattr(time, "time", lambda: real() + sum(jumped))
    run = jobs.start(data, quick(data))
    end = watch(run)[-1]
    later = jobs.start(data, quick(data))
    watch(later)
    assert 0 < end.seconds < time.monotonic() - begun
    assert all(0 < event.seconds < 60 for event in run.events()[0] if isinstance(event, EpochFinished))
    assert [one.id for one in runs.all_runs(home)] == [whole.id, run.id, later.id]
    assert runs.find("latest", home) == later
    assert _small.outcome(run) == _small.outcome(later) == _small.outcome(whole)
    assert {one.state() for one in runs.all_runs(home)} == {"finished"}


def test_what_was_decided_last_holds_though_the_clock_was_ahead_before(data, home):
    """The note of another reading of the source bears a time that is yet to come."""
    more = dataset.scan(fill(Path(data.source), {"train/reds": 6}, seed=0))
    decisions.decide(more, [decisions.about(photo(more, "train/reds/000.png"), decisions.EXCLUDE)])
    future = time.time() + YEAR
    os.utime(decisions.path_of(more), (future, future))
    found = decisions.decide(data, [decisions.about(photo(data, "train/reds/000.png"), decisions.KEEP)])
    assert [one.kind for one in decisions.of(found)] == [decisions.KEEP]
    again = decisions.renew(more)
    assert [one.kind for one in decisions.of(again)] == [decisions.KEEP]


def photo(found, name):
    (one,) = (one for one in found.every if one.name == name)
    return one
