"""A run's folder: every write whole or not at all, every read checked, whoever else works there."""

import json
import os
import resource
import signal
import subprocess
import sys
import threading

import pytest
from conftest import model_file, until

from tlapp import runs, schema, workspace
from tlapp.errors import RunError
from tlapp.events import EpochFinished, Progress, Queued, RunFailed, RunFinished, RunStopped
from tlapp.plan import Plan
from tlapp.runs import Run

HEADER = {
    "plan": Plan(backbone="resnet18", frozen=("stem",)).to_dict(),
    "dataset": "0123",
    "source": "photos",
    "classes": ["reds", "blues"],
}
FINISHED = RunFinished(1, 1, 1.0, 1.0, 1.0)


@pytest.fixture
def make_run(home):
    """make_run(event, ...) → a run that nobody works on, with these events."""

    def make(*events, model=False):
        run, lock = runs.create(home, HEADER)
        for event in events:
            run.append(event)
        if model:
            run.deliver(b"weights", {"accuracy": 1.0})
        lock.release()
        return run

    return make


@pytest.fixture
def make_live_run(home):
    """A run whose lock this process holds until the test is over."""
    locks = []

    def make():
        run, lock = runs.create(home, HEADER)
        locks.append(lock)
        return run

    yield make
    for lock in locks:
        lock.release()


def test_ids_count_up_even_where_an_earlier_run_was_deleted(make_run, home):
    first, second = make_run(), make_run()
    assert [run.id[:5] for run in (first, second)] == ["0001-", "0002-"]
    for file in first.path.iterdir():
        file.unlink()
    first.path.rmdir()
    assert make_run().id.startswith("0003-")
    assert [run.id[:4] for run in runs.all_runs(home)] == ["0002", "0003"]


def test_runs_created_at_once_get_numbers_of_their_own(home):
    together = threading.Barrier(8)
    made = []

    def create():
        together.wait()
        for _ in range(3):
            run, lock = runs.create(home, HEADER)
            made.append(run.id)
            lock.release()

    threads = [threading.Thread(target=create) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(int(name[:4]) for name in made) == list(range(1, 25))


def test_after_number_9999_comes_10000_and_is_the_newest(make_run, home):
    (home / "runs" / "9999-abcdef").mkdir(parents=True)
    (home / "runs" / "9999-abcdef" / "plan.json").write_text("{}")
    assert make_run().id.startswith("10000-")
    assert [run.id[:5] for run in runs.all_runs(home)] == ["9999-", "10000"]


def test_a_new_run_gives_back_its_plan_and_classes(make_run):
    run = make_run()
    assert run.plan == Plan(backbone="resnet18", frozen=("stem",))
    assert run.classes == ("reds", "blues")
    assert run.dataset_folder == run.path.parent.parent / "datasets" / "0123"


@pytest.fixture
def small_disk():
    """Until the test is over, the system refuses to make a file longer than 64 kB."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (65536, hard))
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_save_that_fails_half_way_leaves_the_previous_file_and_no_leftover(make_run, small_disk):
    run = make_run()
    run.save("best", b"previous")
    names = sorted(os.listdir(run.path))
    small_disk()
    with pytest.raises(OSError, match="large"):
        run.save("best", bytes(1_000_000))
    assert run.read("best") == b"previous"
    assert sorted(os.listdir(run.path)) == names


def test_a_delivery_that_fails_half_way_leaves_the_previous_model(make_run, small_disk):
    run = make_run(FINISHED, model=True)
    small_disk()
    with pytest.raises(OSError, match="large"):
        run.deliver(bytes(1_000_000), {"accuracy": 0.5})
    assert run.model() == b"weights"
    assert run.report()["accuracy"] == 1.0


def test_a_second_delivery_whose_report_fails_leaves_the_previous_model_usable(make_run, small_disk):
    run = make_run(FINISHED, model=True)
    small_disk()
    with pytest.raises(OSError, match="large"):
        run.deliver(b"other weights", {"accuracy": 0.5, "photos": "x" * 100_000})
    assert run.model() == b"weights"
    assert run.report()["accuracy"] == 1.0


def test_a_second_delivery_replaces_the_first(make_run):
    run = make_run(FINISHED, model=True)
    run.deliver(b"other weights", {"accuracy": 0.5})
    assert run.model() == model_file(run).read_bytes() == b"other weights"
    assert run.report()["accuracy"] == 0.5
    run.deliver(b"other weights", {"accuracy": 0.6})
    assert run.model() == b"other weights"


def test_states_are_dropped_but_for_those_named(make_run):
    run = make_run(FINISHED, model=True)
    for name in ("best-1", "best-12", "last"):
        run.save(name, b"state")
    run.drop_states(but=("last", "best-12"))
    assert [run.read(name) for name in ("best-1", "best-12", "last")] == [None, b"state", b"state"]
    run.drop_states()
    assert not list(run.path.glob("*.state"))
    assert run.model() == b"weights"


def test_a_write_cut_off_by_an_exception_leaves_the_previous_file(tmp_path):
    path = tmp_path / "file"
    workspace.write_atomic(path, b"previous")

    def broken(temporary):
        temporary.write_bytes(b"half")
        raise KeyError("cut off")

    with pytest.raises(KeyError):
        workspace.write_atomic(path, broken)
    assert path.read_bytes() == b"previous"
    assert os.listdir(tmp_path) == ["file"]


def test_whoever_reads_while_a_file_is_replaced_reads_the_whole_previous_one(make_run):
    run = make_run()
    run.save("best", b"previous")
    with open(run.path / "best.state", "rb") as reader:
        run.save("best", b"next")
        assert reader.read().endswith(b"previous")
    assert run.read("best") == b"next"


def flip_a_bit(path, position):
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)


def test_one_flipped_bit_in_the_model_is_refused(make_run):
    run = make_run(FINISHED, model=True)
    flip_a_bit(model_file(run), 3)
    with pytest.raises(RunError, match=f"model of run {run.id} is damaged"):
        run.model()


@pytest.mark.parametrize("position", [0, 70, -1])
def test_one_flipped_bit_in_the_saved_state_is_refused(make_run, position):
    run = make_run()
    run.save("last", bytes(100))
    flip_a_bit(run.path / "last.state", position)
    with pytest.raises(RunError, match=f"saved state of run {run.id} is damaged"):
        run.read("last")


def test_an_empty_saved_state_is_refused_in_a_sentence(make_run):
    run = make_run()
    run.save("last", bytes(100))
    (run.path / "last.state").write_bytes(b"")
    with pytest.raises(RunError, match=f"saved state of run {run.id} is damaged"):
        run.read("last")


def test_a_model_without_its_report_is_no_model(make_run):
    run = make_run(FINISHED, model=True)
    (run.path / "report.json").unlink()
    assert not run.has_model()
    with pytest.raises(RunError, match="has no model yet"):
        run.model()


def test_a_run_of_a_newer_version_is_refused_in_a_sentence(make_run):
    run = make_run()
    newer = {**json.loads((run.path / "plan.json").read_text()), "schema": schema.RUN + 1}
    (run.path / "plan.json").write_text(json.dumps(newer))
    with pytest.raises(RunError, match="newer version of tlapp"):
        run.header()


def test_a_plan_of_a_newer_version_is_refused_in_a_sentence(make_run):
    run = make_run()
    header = json.loads((run.path / "plan.json").read_text())
    header["plan"]["schema"] += 1
    (run.path / "plan.json").write_text(json.dumps(header))
    with pytest.raises(RunError, match="newer version of tlapp"):
        _ = run.plan


DAMAGED = {
    "empty": b"",
    "cut": b'{"schema": 1, "plan": {"backb',
    "no object": b"[]",
    "no keys": b"{}",
    "not text": b"\xff\xfe\x00",
    "wrong kinds": b'{"schema": "1", "plan": 3, "dataset": 4, "source": [], "classes": "ab"}',
    "no plan": json.dumps({"schema": 1, **HEADER, "plan": {}}).encode(),
    "odd plan": json.dumps({"schema": 1, **HEADER, "plan": {**HEADER["plan"], "epochs": "ten"}}).encode(),
}


@pytest.mark.parametrize("text", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_plan_is_a_sentence(make_run, text):
    run = make_run()
    (run.path / "plan.json").write_bytes(text)
    with pytest.raises(RunError, match=f"run {run.id} is (missing or )?damaged"):
        _ = run.plan


def test_a_run_is_found_by_id_number_folder_and_latest(make_run, home):
    first, second = make_run(FINISHED, model=True), make_run(FINISHED, model=True)
    make_run(RunStopped(1, 1), model=True)
    make_run(RunFailed("no"))
    assert runs.find(first.id, home) == first
    assert runs.find("1", home) == runs.find("0001", home) == first
    assert runs.find(str(second.path), home) == second
    assert runs.find("latest", home) == second


def test_a_run_folder_that_was_moved_is_found_by_its_path(make_run, home, tmp_path, monkeypatch):
    run = make_run(FINISHED, model=True)
    run.path.rename(tmp_path / "kept")
    monkeypatch.chdir(tmp_path)
    assert runs.find("kept", home).model() == b"weights"


@pytest.mark.parametrize("name", ["7", "0001-zzzzzz", "nowhere", "²", "", "../..", "a\0b"])
def test_a_run_that_is_not_there_is_a_sentence(make_run, home, name):
    make_run()
    with pytest.raises(RunError, match="There is no run"):
        runs.find(name, home)


def test_latest_without_a_finished_run_is_a_sentence(make_run, home):
    with pytest.raises(RunError, match="no finished run yet"):
        runs.find("latest", home)
    make_run(RunStopped(1, 1), model=True)
    with pytest.raises(RunError, match="no finished run yet"):
        runs.find("latest", home)


def test_latest_reads_no_run_older_than_it(make_run, home, monkeypatch):
    _old, newest, stopped = make_run(FINISHED, model=True), make_run(FINISHED, model=True), make_run(RunStopped(1, 1))
    asked, ask = [], Run.has_model
    monkeypatch.setattr(Run, "has_model", lambda run: asked.append(run) or ask(run))
    assert runs.find("latest", home) == newest
    assert asked == [stopped, newest]


def test_latest_passes_over_a_run_with_a_damaged_record(make_run, home):
    good, bad = make_run(FINISHED, model=True), make_run(FINISHED, model=True)
    (bad.path / "events.jsonl").write_bytes(b"not json\n")
    with pytest.raises(RunError, match=f"record of run {bad.id} is damaged"):
        bad.state()
    assert runs.find("latest", home) == good


def test_the_sweep_removes_leftovers_but_nothing_of_live_runs(make_run, make_live_run, home):
    done, live = make_run(FINISHED, model=True), make_live_run()
    for run in (done, live):
        run.save("last", b"state")
        (run.path / ".tmp-abc_0123").write_bytes(b"half")
    dead, starting = home / "runs" / "0005-aaaaaa", make_live_run()
    dead.mkdir()
    (dead / "lock").touch()
    (starting.path / "plan.json").unlink()
    foreign = home / "runs" / "my notes"
    foreign.mkdir()
    (foreign / ".tmp-mine").touch()
    runs.sweep(home)
    assert not dead.exists()
    assert starting.path.exists()
    assert (foreign / ".tmp-mine").exists()
    assert list(home.rglob(".tmp-abc*")) == [live.path / ".tmp-abc_0123"]  # an earlier version may be writing it
    assert live.read("last") == b"state"
    assert not list(done.path.glob("*.state"))
    assert done.model() == b"weights"


def test_a_sweep_never_takes_a_run_in_the_making(home):
    stop = threading.Event()

    def sweeper():
        while not stop.wait(0.001):
            runs.sweep(home)

    thread = threading.Thread(target=sweeper)
    thread.start()
    try:
        for _ in range(20):
            run, lock = runs.create(home, HEADER)
            assert run.classes == ("reds", "blues")
            lock.release()
    finally:
        stop.set()
        thread.join()
    assert len(runs.all_runs(home)) == 20


def test_an_unfinished_last_line_is_left_for_later(make_run):
    run = make_run(Queued(1))
    record = run.path / "events.jsonl"
    whole = len(record.read_bytes())
    with open(record, "ab") as file:
        file.write(b'{"event": "Progress", "sta')
    assert run.events() == ([Queued(1)], whole)
    with open(record, "ab") as file:
        file.write(b'ge": "s", "done": 1, "total": 2}\n')
    assert run.events(whole) == ([Progress("s", 1, 2)], len(record.read_bytes()))


def test_mending_cuts_off_what_a_kill_left_unfinished(make_run):
    run = make_run(Queued(1))
    with open(run.path / "events.jsonl", "ab") as file:
        file.write(b'{"event": "Progress", "sta')
    run.mend()
    run.append(Queued(2))
    assert run.events()[0] == [Queued(1), Queued(2)]
    run.mend()
    assert run.events()[0] == [Queued(1), Queued(2)]


def test_events_of_a_later_version_are_passed_over(make_run):
    run = make_run(Queued(1))
    with open(run.path / "events.jsonl", "ab") as file:
        file.write(b'{"event": "Sang", "song": 1}\n{"event": "Queued", "place": 2, "mood": "good"}\n')
    assert run.events()[0] == [Queued(1), Queued(2)]


def test_a_run_that_comes_anew_stands_behind_those_that_wait(make_run, make_live_run, home):
    first = make_run()
    second = make_live_run()
    assert runs.live_before(home, first) == []
    runs.join_line(first)
    assert runs.live_before(home, first) == [second]
    assert runs.live_before(home, second) == []


def test_the_state_is_that_of_the_last_end(make_run, make_live_run):
    epoch = EpochFinished(1, 2, "head", 1, 1, 1, 1, True, 1, 1, 1, 1)
    assert make_run(epoch, FINISHED).state() == "finished"
    assert make_run(epoch, RunStopped(1, 1)).state() == "stopped"
    assert make_run(RunFailed("no")).state() == "failed"
    assert make_run(epoch).state() == "interrupted"
    assert make_run(RunStopped(1, 1), epoch).state() == "interrupted"
    assert make_run().state() == "interrupted"
    assert make_live_run().state() == "running"


HOLDER = """
import json, sys, time
from pathlib import Path
from tlapp import runs
run, lock = runs.create(Path(sys.argv[1]), json.loads(sys.argv[2]))
print(run.id, flush=True)
time.sleep(600)
"""


def test_a_run_of_another_process_is_live_until_that_process_is_killed(make_run, home):
    before = make_run()
    child = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(home), json.dumps(HEADER)], stdout=subprocess.PIPE, text=True
    )
    try:
        run = Run(home / "runs" / child.stdout.readline().strip())
        after = make_run()
        assert run.is_live()
        assert run.state() == "running"
        assert [runs.live_before(home, r) for r in (before, run, after)] == [[], [], [run]]
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
    until(lambda: not run.is_live(), 5)
    assert run.state() == "interrupted"
    assert runs.live_before(home, after) == []
