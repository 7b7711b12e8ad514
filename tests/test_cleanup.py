"""What lies in the workspace and could go: what is needed stays, what goes goes whole, nothing goes by surprise."""

import io
import json
import os
import shutil
import subprocess
import sys
import threading
import time

import pytest
from conftest import fill, photo, quick, until, watch
from test_jobs import line_held

from tlapp import additions, cleanup, dataset, decisions, history, jobs, runs, workspace
from tlapp.decisions import EXCLUDE
from tlapp.errors import DataError, RunError, UsageError
from tlapp.events import RunStopped

DAY = 24 * 3600


@pytest.fixture
def data(tmp_path, home, small_pictures):
    """Photos that nobody has looked at for two days."""
    return aged(dataset.scan(fill(tmp_path / "photos", {"reds": 4, "blues": 4})))


def aged(thing, days=2):
    """A dataset, folder or file, as if all of it had been written so long ago."""
    path = getattr(thing, "folder", thing)
    for one in [path, *path.rglob("*")]:
        os.utime(one, (time.time() - days * DAY,) * 2)
    return thing


def names(home, kind, looked_at=()):
    return [item.name for found in cleanup.plan(home, looked_at) if found.name == kind for item in found.items]


def clean(home, *kinds, looked_at=()):
    return cleanup.apply(home, cleanup.plan(home, looked_at), kinds or list(cleanup.WORDS), looked_at)


def unfinished(home, data, ended=True):
    """A run that was stopped two days ago before it learned anything."""
    run, lock = runs.create(home, {"plan": quick(data).to_dict(), "dataset": data.id, "source": "x", "classes": []})
    if ended:
        run.append(RunStopped(0, 0))
    lock.release()
    aged(run.path)
    return run


def test_photos_that_nobody_needs_are_listed_with_their_size_and_go(data, home):
    (kind,) = [kind for kind in cleanup.plan(home) if kind.name == "photos"]
    assert [item.name for item in kind.items] == [f"8 photos of photos ({data.id})"]
    on_disk = sum(path.stat().st_size for path in data.folder.iterdir())
    assert kind.n_bytes == on_disk > 8 * 48 * 60 * 3
    done = clean(home, "photos")
    assert (done.deleted, done.n_bytes, done.kept) == ((f"8 photos of photos ({data.id})",), on_disk, ())
    assert not data.folder.exists()
    assert not (home / "datasets" / cleanup.DELETED).exists()


def test_photos_of_a_run_stay_even_while_it_lies_in_the_trash(own_run, home):
    aged(own_run.dataset_folder)
    assert names(home, "photos") == []
    history.remove(own_run)
    assert names(home, "photos") == []
    assert clean(home, "removed").deleted == (own_run.id,)
    assert len(names(home, "photos")) == 1


def test_photos_that_a_page_shows_or_that_were_looked_at_of_late_stay(data, home):
    assert names(home, "photos", looked_at=[data.id]) == []
    assert clean(home, "photos", looked_at=[data.id]).deleted == ()
    planned = cleanup.plan(home)
    dataset.mark_used(data.folder)
    assert names(home, "photos") == []
    assert len(cleanup.apply(home, planned, ["photos"]).kept) == 1
    assert dataset.load(data.folder).pixels(0).size


def test_what_follows_from_decisions_goes_alone_and_frees_no_shared_pixels(data, home):
    made = aged(decisions.apply(data, [decisions.about(data.photos[0], EXCLUDE)]))
    both = next(kind for kind in cleanup.plan(home) if kind.name == "photos")
    assert len(both.items) == 2
    assert both.n_bytes < 1.5 * sum(path.stat().st_size for path in data.folder.iterdir())
    run = unfinished(home, made, ended=False)
    assert names(home, "photos") == []  # the run needs the one, which needs the other
    shutil.rmtree(run.path)
    unfinished(home, data)
    (kind,) = [kind for kind in cleanup.plan(home) if kind.name == "photos"]
    assert [item.paths for item in kind.items] == [(made.folder,)]
    assert kind.n_bytes < (data.folder / "photos.bin").stat().st_size


def test_what_was_decided_about_photos_is_kept_until_a_newer_reading_has_it(data, home, tmp_path):
    decisions.decide(data, [decisions.about(data.photos[0], EXCLUDE)])
    for folder in cleanup._folders(home / "datasets"):
        aged(folder)
    assert [name.rpartition(" (")[0] for name in names(home, "photos")] == ["7 photos of photos"]
    photo(tmp_path / "photos" / "reds" / "new.png", (200, 40, 40), 99)
    newer = dataset.scan(tmp_path / "photos")
    assert newer.id != data.id
    additions.as_noted(newer)
    for folder in cleanup._folders(home / "datasets"):
        aged(folder)
    os.utime(decisions.path_of(newer), (time.time() - DAY - 60,) * 2)
    assert any(data.id in name for name in names(home, "photos"))
    assert not any(newer.id in name for name in names(home, "photos"))
    clean(home, "photos")
    assert len(additions.as_noted(dataset.scan(tmp_path / "photos")).dataset.photos) == len(newer.photos) - 1


def test_a_run_that_starts_after_the_plan_keeps_its_photos(data, home):
    planned = cleanup.plan(home)
    with line_held(home):
        run = jobs.start(data, quick(data))
        assert len(cleanup.apply(home, planned, ["photos"]).kept) == 1
        assert data.folder.is_dir()
        jobs.stop(run)
        watch(run)


def test_a_run_whose_photos_went_a_moment_before_is_refused_and_leaves_none(data, home):
    assert len(clean(home, "photos").deleted) == 1
    with pytest.raises(DataError, match=r"gone\. Load them again"):
        jobs.start(data, quick(data))
    assert runs.all_runs(home) == []


def test_whoever_is_first_a_run_never_loses_its_photos(tmp_path, home, small_pictures):
    folder = fill(tmp_path / "photos", {"reds": 4, "blues": 4})
    with line_held(home):
        for n in range(8):
            data = aged(dataset.scan(folder))
            planned = cleanup.plan(home)

            def work(planned=planned, n=n):
                time.sleep(n * 0.01)  # now the one is first, now the other
                cleanup.apply(home, planned, ["photos"])

            other = threading.Thread(target=work)
            other.start()
            try:
                run = jobs.start(data, quick(data))
            except DataError:
                run = None
            other.join()
            assert (run is not None) == data.folder.exists()
            if run:
                jobs.stop(run)
                watch(run)
                shutil.rmtree(run.path)


def test_a_run_of_another_process_keeps_its_photos(data, home):
    code = (
        "import sys; from pathlib import Path; from tlapp import dataset, jobs, plan\n"
        "data = dataset.load(Path(sys.argv[1])); run = jobs.start(data, plan.suggest(data, 'efficientnet_lite0'))\n"
        "print(run.id, flush=True); sys.stdin.read(); jobs.close()"
    )
    planned = cleanup.plan(home)
    with line_held(home):
        other = subprocess.Popen(
            [sys.executable, "-c", code, str(data.folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert other.stdout.readline()
        assert len(cleanup.apply(home, planned, ["photos"]).kept) == 1
        assert data.folder.is_dir()
        other.communicate("")


def test_runs_without_a_model_go_and_one_at_work_or_with_a_model_stays(own_run, data, home):
    stopped, killed, works = unfinished(home, data), unfinished(home, data, False), unfinished(home, data)
    with works.lock():
        assert names(home, "unfinished") == [stopped.id, killed.id]
        planned = cleanup.plan(home)
        with killed.lock():  # it is resumed meanwhile
            done = cleanup.apply(home, planned, ["unfinished"])
    assert (done.deleted, done.kept) == ((stopped.id,), (killed.id,))
    assert [run.id for run in runs.all_runs(home)] == [own_run.id, killed.id, works.id]
    with pytest.raises(RunError, match=r"no run .* any more"):
        jobs.resume(stopped)
    assert not stopped.path.exists()


def test_a_run_that_a_person_may_be_about_to_resume_stays_for_a_day(data, home):
    run = unfinished(home, data)
    assert names(home, "unfinished") == [run.id]
    run.save("last", b"fifty epochs")
    assert names(home, "unfinished") == []
    assert clean(home, "unfinished").deleted == ()


def test_a_run_that_changed_since_stays_whole(data, home):
    run = unfinished(home, data)
    planned = cleanup.plan(home)
    history.describe(run, note="I want to go on with this one")
    assert cleanup.apply(home, planned, ["unfinished"]).kept == (run.id,)
    assert history.about(run).note


def test_a_change_between_the_last_look_and_the_renaming_brings_it_back(data, home, monkeypatch):
    planned, away = cleanup.plan(home), cleanup._away

    def looked_at(path):
        dataset.mark_used(path)
        return away(path)

    monkeypatch.setattr(cleanup, "_away", looked_at)
    assert len(cleanup.apply(home, planned, ["photos"]).kept) == 1
    assert dataset.load(data.folder).pixels(0).size


def test_states_of_finished_runs_go_and_those_of_others_stay(own_run, data, home):
    own_run.save("last", b"x" * 1000)
    stopped = unfinished(home, data)
    stopped.save("last", b"x")
    assert names(home, "states") == [f"{own_run.id}: 1 saved states"]
    assert clean(home, "states").n_bytes == 1064
    assert own_run.read("last") is None
    assert own_run.model()
    assert stopped.read("last") == b"x"


def test_weights_that_a_run_starts_from_stay(own_run, home):
    weights = home / "weights"
    weights.mkdir()
    for name in ("used-000000000000.pth", "other-000000000000.pth", "fresh-000000000000.pth"):
        (weights / name).write_bytes(b"1234")
    for name in ("used", "other"):
        aged(weights / f"{name}-000000000000.pth")
    header = json.loads((own_run.path / "plan.json").read_bytes())
    header["plan"]["weights"] = str(weights / "used-000000000000.pth")
    (own_run.path / "plan.json").write_text(json.dumps(header))
    assert clean(home, "weights").deleted == ("other-000000000000.pth",)
    assert sorted(path.name for path in weights.iterdir()) == ["fresh-000000000000.pth", "used-000000000000.pth"]


def test_leftovers_of_killed_programs_go_and_what_lives_stays(own_run, home):
    left = [home / "uploads/page-dead", home / "incoming/answers-dead", home / "datasets/.incoming-dead"]
    left += [home / "exports/bundle-dead", home / "runs/0009-abcdef"]
    for folder in left:
        folder.mkdir(parents=True)
        (folder / "file").write_bytes(b"12")
    (own_run.path / ".tmp-old").write_bytes(b"123")
    aged(own_run.path / ".tmp-old")
    (own_run.path / ".tmp-new").write_bytes(b"123")
    with workspace.own_folder(home / "exports", "other-"), workspace.own_folder(home / "uploads", "page-") as living:
        for folder in left[:1]:
            folder.mkdir(exist_ok=True)  # making the other one has swept it
            (folder / "file").write_bytes(b"12")
        done = clean(home, "leftovers")
        assert living.is_dir()
    assert len(done.deleted) == len(left) + 1
    assert done.n_bytes == 2 * len(left) + 3
    assert not any(folder.exists() for folder in left)
    assert (own_run.path / ".tmp-new").exists()


def test_links_are_neither_listed_nor_followed(data, home, tmp_path):
    outside = tmp_path / "outside"
    shutil.copytree(data.folder, outside / "0123456789abcdef")
    aged(outside / "0123456789abcdef")
    (home / "datasets" / "0123456789abcdef").symlink_to(outside / "0123456789abcdef")
    (data.folder / "link").symlink_to(outside)
    os.utime(data.folder / "link", (0, 0), follow_symlinks=False)
    assert len(clean(home).deleted) == 1
    assert not data.folder.exists()
    assert (outside / "0123456789abcdef" / "photos.bin").exists()
    (home / "datasets" / "0123456789abcdef").unlink()
    shutil.rmtree(home / "datasets")
    (home / "datasets").symlink_to(outside)
    (outside / ".deleted" / "x").mkdir(parents=True)
    assert clean(home).deleted == ()


def test_a_deletion_that_is_cut_off_is_no_dataset_and_ends_with_the_next_start(data, home, monkeypatch):
    monkeypatch.setattr(cleanup, "_remove", lambda path: None)  # killed before this
    clean(home, "photos")
    assert not data.folder.exists()
    monkeypatch.undo()
    assert names(home, "photos") == []
    assert any((home / "datasets" / cleanup.DELETED).iterdir())
    cleanup.finish(home)
    assert not (home / "datasets" / cleanup.DELETED).exists()


def test_what_lies_in_a_workspace_that_is_a_folder_of_the_persons_stays(data, home):
    own = [
        home / "datasets" / "flowers" / "1.jpg",
        home / "datasets" / ("ab" * 8) / "1.jpg",
        home / "weights" / "my.pth",
    ]
    for path in own:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"mine")
    aged(home)
    clean(home)
    assert all(path.is_file() for path in own)


def test_an_unknown_kind_is_refused_and_nothing_goes(data, home):
    with pytest.raises(UsageError, match=r"no.*'photo'.*photos"):
        clean(home, "photos", "photo")
    assert data.folder.exists()


def test_a_workspace_that_is_new_has_nothing_to_delete(home):
    assert [kind.items for kind in cleanup.plan(home)] == [()] * len(cleanup.WORDS)
    assert cleanup.apply(home, cleanup.plan(home), list(cleanup.WORDS)) == cleanup.Done((), 0, ())


# --- the command


def test_the_command_says_what_could_go_and_deletes_with_yes_alone(tlapp, data, home):
    code, out, _ = tlapp("clean")
    assert code == 0
    assert out.splitlines()[0].startswith(
        "photos: Photos that no run learned from, 1 item, 0.1 MB. The app's copies go"
    )
    assert out.splitlines()[-1] == "Nothing is deleted yet: name what may go, as in `tlapp clean photos`."
    assert tlapp("clean", "photos")[1].splitlines()[-1] == "Nothing is deleted yet: --yes deletes it."
    assert tlapp("clean", "--yes")[0] == 2
    assert json.loads(tlapp("clean", "--json")[1])["deleted"] == []
    assert data.folder.exists()
    assert "1 item deleted" in tlapp("clean", "--yes", "photos")[1]
    assert not data.folder.exists()
    assert tlapp("clean")[1].startswith("Nothing can go")


def test_the_command_asks_at_a_terminal_and_takes_only_yes(tlapp, data, home, monkeypatch):
    for answer, remains in (("\n", True), ("no\n", True), ("y\n", False)):
        terminal = io.StringIO(answer)
        terminal.isatty = lambda: True
        monkeypatch.setattr("sys.stdin", terminal)
        monkeypatch.setattr("sys.stderr.isatty", lambda: True)
        _, out, err = tlapp("clean", "photos")
        assert "Delete 1 item, 0.1 MB, for good? [y/N]" in err
        assert data.folder.exists() == remains
        assert ("Nothing was deleted." in out) == remains


def test_the_command_refuses_a_kind_that_there_is_none_of(tlapp, data):
    code, out, err = tlapp("clean", "--yes", "fotos")
    assert (code, out) == (2, "")
    assert "removed, unfinished, states, photos, weights, leftovers" in err
    assert data.folder.exists()


def test_the_list_of_runs_says_who_waits_and_behind_how_many(tlapp, data, home):
    with line_held(home):
        line = [jobs.start(data, quick(data)) for _ in range(3)]
        until(lambda: line[2].events()[0])
        assert [row["waits_for"] for row in json.loads(tlapp("runs", "--json")[1])] == [1, 1, 2]
        last = tlapp("runs")[1].splitlines()[-1]
        assert (last.split()[1], last.endswith("waits: 2 runs before it")) == ("waiting", True)
        jobs.close()
    assert [row["waits_for"] for row in json.loads(tlapp("runs", "--json")[1])] == [0, 0, 0]
