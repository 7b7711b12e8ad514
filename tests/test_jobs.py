"""Runs on threads and in processes: stopped, killed, queued, resumed, and never lost."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from conftest import SHARED, SIDES, fill, model_file, quick, until, watch
from safetensors.torch import save

from tlapp import catalog, dataset, jobs, journal, predict, runs, train, workspace
from tlapp.errors import DataError, RunError, UserError, WeightsError
from tlapp.events import EpochFinished, Progress, Queued, Resumed, RunFailed, RunFinished, RunStarted, RunStopped
from tlapp.plan import AUGMENTATIONS, instant, suggest
from tlapp.runs import Run
from tlapp.sitting import _read_state

BUT_TOP = catalog.get(catalog.INCLUDED).block_names[:-1]
FINE_TUNE = {"frozen": BUT_TOP, "epochs": 4, "batch_size": 4, "dropout": 0.5}
ENDLESS = {"epochs": 10_000, "patience": 0}


@pytest.fixture
def data(tmp_path, small_pictures):
    """Eight training photos, in a folder that a test may delete."""
    return dataset.scan(fill(tmp_path / "photos", SIDES))


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    """unbroken(data, settings) → what becomes of such a run if nothing interrupts it; each is trained but once."""
    home, known = tmp_path_factory.mktemp("unbroken"), {}

    def trained(data, settings):
        key = repr(settings)
        if key not in known:
            run = jobs.start(dataset.scan(data.source, home=home), quick(data, **settings), home)
            watch(run)
            known[key] = outcome(run)
        return known[key]

    return trained


@contextlib.contextmanager
def line_held(home):
    """Meanwhile no run of the workspace gets its turn."""
    (home / "runs").mkdir(parents=True, exist_ok=True)
    with workspace.lock(home / "runs" / "training.lock"):
        yield


def kinds(events):
    return [type(event) for event in events]


def epochs(events):
    return [event for event in events if isinstance(event, EpochFinished)]


def outcome(run):
    """What must not depend on how often a run was interrupted."""
    report = run.report()
    return {name: report[name] for name in report if name != "seconds"}


def test_a_run_tells_its_events_in_order_and_leaves_a_model(trained):
    events = trained.events
    assert [kind for kind in kinds(events) if kind is not Progress] == [
        RunStarted,
        EpochFinished,
        EpochFinished,
        EpochFinished,
        RunFinished,
    ]
    stages = list(dict.fromkeys(event.stage for event in events if isinstance(event, Progress)))
    assert stages == [
        "reading the photos",
        "caching training views",
        "caching validation photos",
        "calibrating",
        "scoring test photos",
    ]
    assert kinds(events)[0] is RunStarted
    assert (events[0].n_train, events[0].n_validation, events[0].n_test) == (8, 4, 8)
    assert [event.epoch for event in epochs(events)] == [1, 2, 3]
    assert events[-1].accuracy == trained.run.report()["accuracy"]
    assert trained.run.state() == "finished"
    assert trained.run.has_model()
    assert sorted(os.listdir(trained.run.path)) == [
        "events.jsonl",
        next(path.name for path in trained.run.path.glob("learned-*.safetensors")),
        "line",
        "lock",
        model_file(trained.run).name,
        "plan.json",
        "report.json",
    ]


def test_whoever_follows_later_is_told_the_same(trained):
    assert list(jobs.follow(trained.run)) == trained.events


def test_stop_keeps_the_best_so_far_and_says_so(data):
    run = jobs.start(data, quick(data, **ENDLESS))
    for event in jobs.follow(run):
        if isinstance(event, EpochFinished):
            jobs.stop(run)
    assert isinstance(event, RunStopped)
    done = epochs(run.events()[0])
    assert (event.best_epoch, event.epochs) == (done[-1].best_epoch, done[-1].epoch)
    assert event.validation_accuracy == done[event.best_epoch - 1].validation_accuracy
    assert event.accuracy == run.report()["accuracy"]
    assert run.state() == "stopped"
    assert predict.load(run).classes == ("blues", "reds")


def test_stop_in_the_first_epoch_leaves_no_model_and_resume_begins_again(data, stop_at):
    whole = jobs.start(data, quick(data, batch_size=4))
    watch(whole)
    stop_at(4)  # training views, validation photos, first batch, second batch
    run = jobs.start(data, quick(data, batch_size=4))
    events = watch(run)
    assert events[-1] == RunStopped(0, 0)
    assert not epochs(events)
    assert any(isinstance(e, Progress) and e.stage == "caching validation photos" and e.done for e in events)
    assert not run.has_model()
    with pytest.raises(RunError, match="has no model yet"):
        predict.load(run)
    again = watch(jobs.resume(run))
    assert Resumed not in kinds(again)
    assert isinstance(again[-1], RunFinished)
    assert outcome(run) == outcome(whole)


@pytest.mark.parametrize(
    ("look", "settings"),
    [(3, FINE_TUNE), (8, FINE_TUNE), (12, FINE_TUNE), (15, FINE_TUNE), (13, FINE_TUNE | {"frozen": ()})],
    ids=["while caching", "in the head", "in fine-tuning", "in fine-tuning, later", "with nothing frozen"],
)
def test_a_resumed_run_ends_with_the_result_of_an_unbroken_one(data, stop_at, unbroken, look, settings):
    whole = unbroken(data, settings)
    stop_at(look)
    started = time.monotonic()
    run = jobs.start(data, quick(data, **settings))
    stopped = watch(run)[-1]
    assert isinstance(stopped, RunStopped)
    events = watch(jobs.resume(run))
    resumed = [event for event in events if isinstance(event, Resumed)]
    assert resumed == ([Resumed(stopped.epochs)] if stopped.epochs else [])
    assert [e.epoch for e in epochs(events)] == [1, 2, 3, 4]
    assert isinstance(events[-1], RunFinished)
    assert outcome(run) == whole
    assert stopped.seconds < events[-1].seconds < time.monotonic() - started


@pytest.mark.parametrize("epoch", [1, 2, 3, 4])
def test_a_run_cut_off_between_its_best_and_its_last_state_goes_on_from_the_pair_before(
    data, monkeypatch, unbroken, epoch
):
    """Epoch 3 is the first of fine-tuning, which must begin from the best of the head."""
    whole = unbroken(data, FINE_TUNE)
    save = Run.save

    def cut(run, name, content):
        if name == "last" and last_epoch(run) == epoch - 1:
            raise OSError(5, "cut off")
        save(run, name, content)

    monkeypatch.setattr(Run, "save", cut)
    run = jobs.start(data, quick(data, **FINE_TUNE))
    assert isinstance(watch(run)[-1], RunFailed)
    monkeypatch.setattr(Run, "save", save)
    events = watch(jobs.resume(run))
    assert [e.epoch for e in epochs(events)] == [1, 2, 3, 4]
    assert isinstance(events[-1], RunFinished)
    assert outcome(run) == whole
    assert not list(run.path.glob("*.state"))


def test_one_best_state_is_kept_besides_the_last(data, stop_at):
    stop_at(16)
    run = jobs.start(data, quick(data, **FINE_TUNE))
    end = watch(run)[-1]
    assert end.epochs == 3
    assert sorted(path.name for path in run.path.glob("*.state")) == [f"best-{end.best_epoch}.state", "last.state"]


def test_the_seconds_of_each_sitting_are_counted_once(data):
    run, known, seconds = jobs.start(data, quick(data, **ENDLESS)), 0, [0.0]
    for sitting in range(3):
        started = time.monotonic()
        if sitting:
            jobs.resume(run)
        for number, event in enumerate(jobs.follow(run)):
            if isinstance(event, EpochFinished) and number >= known:
                jobs.stop(run)
        known = number + 1
        assert isinstance(event, RunStopped)
        seconds.append(event.seconds)
        assert 0 < seconds[-1] - seconds[-2] < time.monotonic() - started + 0.1


def test_a_finished_or_working_run_is_not_resumed(data, own_run):
    with pytest.raises(RunError, match="is finished; there is nothing to resume"):
        jobs.resume(own_run)
    run = jobs.start(data, quick(data, **ENDLESS))
    with pytest.raises(RunError, match="at work already"):
        jobs.resume(run)
    jobs.stop(run)
    watch(run)


def test_a_run_whose_copy_of_the_photos_is_gone_is_not_resumed(data, stop_at):
    stop_at(3)
    run = jobs.start(data, quick(data))
    watch(run)
    shutil.rmtree(data.folder)
    with pytest.raises(DataError, match=r"copy of the photos .* is gone"):
        jobs.resume(run)
    assert not run.is_live()


def test_a_damaged_saved_state_ends_the_resumed_run_in_a_sentence(data, stop_at):
    stop_at(8)
    run = jobs.start(data, quick(data, epochs=5, batch_size=4))
    watch(run)
    path = run.path / "last.state"
    path.write_bytes(path.read_bytes()[:-1])
    end = watch(jobs.resume(run))[-1]
    assert isinstance(end, RunFailed)
    assert "saved state" in end.message
    assert predict.load(run)


def test_stopping_a_run_that_has_ended_is_harmless(own_run):
    jobs.stop(own_run)
    assert not own_run.stop_asked()
    assert own_run.state() == "finished"


def test_runs_wait_in_line_and_know_their_place(data, home):
    with line_held(home):
        first = jobs.start(data, quick(data))
        second = jobs.start(data, quick(data))
        third = jobs.start(data, quick(data))
        until(lambda: third.events()[0])
        assert second.events()[0] == [Queued(1)]
        assert third.events()[0] == [Queued(2)]
        assert {run.state() for run in (first, second, third)} == {"running"}
    for event in jobs.follow(second):
        if isinstance(event, RunStarted):
            assert first.state() == "finished"
    assert isinstance(event, RunFinished)
    events = watch(third)
    places = [event.place for event in events if isinstance(event, Queued)]
    assert places == sorted(places, reverse=True)
    assert isinstance(events[-1], RunFinished)
    ends = [(run.path / "report.json").stat().st_mtime_ns for run in (first, second, third)]
    assert ends == sorted(ends)


def test_a_waiting_run_leaves_those_alone_that_had_ended(data, home, own_run, monkeypatch):
    with line_held(home):
        run = jobs.start(data, quick(data))
        until(lambda: run.events()[0] == [Queued(1)])
        asked, is_live = [], Run.is_live
        monkeypatch.setattr(Run, "is_live", lambda run: asked.append(run) or is_live(run))
        time.sleep(3 * jobs.QUEUE_SECONDS)
        assert own_run not in asked
    assert isinstance(watch(run)[-1], RunFinished)


def test_a_waiting_run_can_be_stopped_and_the_next_moves_up(data, home):
    with line_held(home):
        first = jobs.start(data, quick(data))
        waiting, last = jobs.start(data, quick(data)), jobs.start(data, quick(data))
        until(lambda: Queued(2) in last.events()[0])
        jobs.stop(waiting)
        assert watch(waiting)[-1] == RunStopped(0, 0)
        assert not any(isinstance(event, RunStarted) for event in waiting.events()[0])
        until(lambda: Queued(1) in last.events()[0])
    for run in (first, last):
        assert isinstance(watch(run)[-1], RunFinished)


@pytest.fixture
def short_line(monkeypatch):
    """Two may wait behind the one that trains."""
    assert jobs.MOST_WAITING == 16
    monkeypatch.setattr(jobs, "MOST_WAITING", 2)


def test_as_many_runs_wait_as_may_and_one_more_is_refused_and_leaves_nothing(data, home, short_line, stop_at):
    with line_held(home):
        line = [jobs.start(data, quick(data)) for _ in range(3)]
        with pytest.raises(RunError, match="2 runs wait their turn already, and no more may"):
            jobs.start(data, quick(data))
        assert runs.all_runs(home) == line
        jobs.stop(line[1])
        watch(line[1])
        again = jobs.start(data, quick(data))
        with pytest.raises(RunError, match="no more may"):
            jobs.resume(line[1])
        assert line[1].state() == "stopped"
        jobs.close()
    assert again.state() == "stopped"


@pytest.mark.parametrize("act", ["start", "resume"])
def test_of_two_at_once_one_alone_gets_the_last_place_in_the_line(data, home, short_line, act):
    with line_held(home):
        stopped = [jobs.start(data, quick(data)) for _ in range(2)]
        jobs.close()
        line, ends, both = [jobs.start(data, quick(data)) for _ in range(2)], [], threading.Barrier(2)

        def ask(run):
            both.wait()
            try:
                ends.append(jobs.start(data, quick(data)) if act == "start" else jobs.resume(run))
            except RunError as error:
                ends.append(error)

        asking = [threading.Thread(target=ask, args=(run,)) for run in stopped]
        for thread in asking:
            thread.start()
        for thread in asking:
            thread.join()
        assert sorted(type(end).__name__ for end in ends) == ["Run", "RunError"]
        assert sum(run.is_live() for run in runs.all_runs(home)) == len(line) + 1
        jobs.close()


def test_the_source_folder_may_vanish_during_training(data, home):
    with line_held(home):
        run = jobs.start(data, quick(data))
        shutil.rmtree(data.source)
    assert isinstance(watch(run)[-1], RunFinished)
    assert run.report()["n"] == 8


def test_a_diverged_run_fails_in_a_sentence_and_its_best_is_kept(data):
    run = jobs.start(data, quick(data, head_rate=10.0, weight_decay=10.0, epochs=60, patience=0))
    end = watch(run)[-1]
    assert isinstance(end, RunFailed)
    assert "diverged" in end.message
    assert "learning rate" in end.message
    assert end.best_epoch == run.report()["best_epoch"] >= 1
    assert run.state() == "failed"
    assert predict.load(run)


def test_a_run_stopped_in_the_first_epoch_of_fine_tuning_says_which_was_kept(data, stop_at):
    stop_at(11)  # four for the cache, three for each of two epochs of the head, then the next batch
    run = jobs.start(data, quick(data, **FINE_TUNE))
    end = watch(run)[-1]
    assert [e.phase for e in epochs(run.events()[0])] == ["head", "head"]
    assert (end.best_epoch, end.epochs) == (epochs(run.events()[0])[-1].best_epoch, 2)
    assert run.report()["best_epoch"] == end.best_epoch > 0


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (
            ZeroDivisionError("division by zero"),
            ["program (ZeroDivisionError)", "tlapp.log", "`tlapp doctor`"],
        ),
        (RuntimeError("CUDA out of memory. Tried to allocate"), ["memory did not suffice", "batch_size"]),
        (OSError(28, "No space left on device", "x"), ["disk is full"]),
    ],
    ids=["bug", "memory", "disk"],
)
def test_a_fault_on_the_thread_becomes_a_sentence_not_a_traceback(data, monkeypatch, capfd, fault, words):
    def faulty(*_):
        raise fault

    monkeypatch.setattr(train, "train", faulty)
    run = jobs.start(data, quick(data))
    end = watch(run)[-1]
    assert isinstance(end, RunFailed)
    assert all(word in end.message for word in words), end.message
    assert "Traceback" not in end.message + "".join(capfd.readouterr())
    assert run.state() == "failed"
    lines = journal.recent(data.folder.parent.parent)
    assert [line["run"] for line in lines if line["event"] == "run_failed"] == [run.id]
    faults = [line["traceback"] for line in lines if line["event"] == "fault"]
    assert len(faults) == isinstance(fault, ZeroDivisionError)
    assert all("faulty" in text for text in faults)


def test_a_save_that_the_file_system_refuses_fails_the_run_in_a_sentence(data, home):
    with line_held(home):
        run = jobs.start(data, quick(data))
        (run.path / "best-1.state").mkdir()
    end = watch(run)[-1]
    assert isinstance(end, RunFailed)
    assert "file system reported a fault" in end.message


def test_a_lost_copy_of_the_photos_fails_the_run_in_a_sentence(data, home):
    with line_held(home):
        run = jobs.start(data, quick(data))
        os.truncate(data.folder / "photos.bin", 0)
    end = watch(run)[-1]
    assert isinstance(end, RunFailed)
    assert "copy of the photos" in end.message
    assert end.best_epoch == 0


def test_missing_weights_are_refused_at_the_start_and_nothing_is_fetched(data, home, tmp_path):
    with pytest.raises(WeightsError, match=f"tlapp weights get resnet18.*{catalog.INCLUDED}"):
        jobs.start(data, suggest(data, "resnet18"))
    with pytest.raises(WeightsError, match=r"nowhere\.pth does not exist"):
        jobs.start(data, quick(data, backbone="resnet18", frozen=(), weights="nowhere.pth"))
    assert runs.all_runs(home) == []
    assert not (tmp_path / "torch").exists()


def test_a_weights_file_in_the_home_folder_is_found(data, home, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    shutil.copy(catalog.weights_path(catalog.get(catalog.INCLUDED)), tmp_path / "w.pth")
    with line_held(home):
        run = jobs.start(data, quick(data, weights="~/w.pth"))
        assert run.plan.weights == str(tmp_path / "w.pth")
        jobs.stop(run)
        watch(run)
    with pytest.raises(UserError, match="no home folder for the beginning of ~nobody-here"):
        jobs.start(data, quick(data, weights="~nobody-here/w.pth"))


def test_a_weights_file_is_found_again_from_another_folder(data, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    shutil.copy(catalog.weights_path(catalog.get(catalog.INCLUDED)), tmp_path / "here" / "w.pth")
    monkeypatch.chdir(tmp_path / "here")
    run = jobs.start(data, quick(data, weights="w.pth"))
    monkeypatch.chdir(tmp_path)
    assert run.plan.weights == str(tmp_path / "here" / "w.pth")
    assert isinstance(watch(run)[-1], RunFinished)


# --- other processes

CHILD = """
import json, sys
from pathlib import Path
import pytest
from conftest import dataset, jobs, quick, shrink_pictures
from tlapp.runs import Run

shrink_pictures(pytest.MonkeyPatch())
path, settings = sys.argv[1:]
if settings:
    data = dataset.scan(path)
    run = jobs.start(data, quick(data).with_settings(json.loads(settings)))
else:
    run = jobs.resume(Run(Path(path)))
print(run.path, flush=True)
for event in jobs.follow(run):
    pass
"""


@contextlib.contextmanager
def child(path, **settings):
    """Another process that starts a run (or, without settings, resumes it); gone in the end."""
    text = json.dumps({name: str(value) for name, value in settings.items()}) if settings else ""
    process = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(path), text], stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parent
    )
    try:
        yield process, Run(Path(process.stdout.readline().strip()))
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def last_epoch(run):
    done = epochs(run.events()[0])
    return done[-1].epoch if done else 0


def test_two_processes_share_the_workspace(data):
    with child(data.source, **ENDLESS) as (process, theirs):
        until(lambda: last_epoch(theirs) >= 1)
        assert theirs.state() == "running"
        with pytest.raises(RunError, match="at work already"):
            jobs.resume(theirs)
        ours = jobs.start(data, quick(data))
        until(lambda: ours.events()[0] == [Queued(1)])
        jobs.stop(theirs)
        end = watch(theirs)[-1]
        assert process.wait(30) == 0
    assert isinstance(end, RunStopped)
    assert theirs.has_model()
    assert isinstance(watch(ours)[-1], RunFinished)


# --- real photos


@pytest.mark.skipif(not (SHARED / "flowers-400").is_dir(), reason="the shared photos are not here")
def test_real_flowers_are_learned_far_better_than_chance(tmp_path):
    for folder in (SHARED / "flowers-400").iterdir():
        if folder.is_dir():
            (tmp_path / "flowers" / folder.name).mkdir(parents=True)
            for path in sorted(folder.iterdir())[:20]:
                shutil.copy(path, tmp_path / "flowers" / folder.name)
    data = dataset.scan(tmp_path / "flowers")
    plan = quick(data, epochs=30, augmentation=AUGMENTATIONS["off"])
    end = watch(jobs.start(data, plan))[-1]
    assert isinstance(end, RunFinished)
    assert len(data.classes) == 5
    assert end.accuracy >= 0.6


def test_who_needs_the_processor_alone_waits_for_an_instant_run_but_for_no_other(data, home, monkeypatch):
    looks = []

    def waiting():
        looks.append(1)
        if len(looks) == 2:
            line.release()

    line = workspace.lock(home / "runs" / "training.lock")
    (home / "runs").mkdir(parents=True)
    with line:
        run = jobs.start(data, instant(data))
        with jobs.alone(home, waiting):
            assert len(looks) >= 2
    assert isinstance(watch(run)[-1], RunFinished)
    with line_held(home):
        run = jobs.start(data, quick(data))
        with pytest.raises(RunError, match="A run trains at the moment"), jobs.alone(home, lambda: looks.append(1)):
            pass
        jobs.stop(run)


def test_a_run_that_an_earlier_version_left_in_the_middle_is_refused_in_a_sentence(own_run):
    number = torch.tensor(1.0, dtype=torch.float64)
    own_run.save("best-1", save({"x": number}))
    own_run.save("last", save({name: number.clone() for name in ("epoch", "best_epoch", "best_loss", "best_accuracy")}))
    with pytest.raises(RunError, match="begun by an earlier version, which kept too little"):
        _read_state(own_run)
