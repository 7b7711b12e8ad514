"""Runs named, annotated, removed, brought back; nothing of a run is lost or left half done."""

import itertools
import json
import os
import shutil
import time

import pytest
from conftest import quick

from tlapp import dataset, history, jobs, runs
from tlapp.errors import RunError
from tlapp.history import About, about, describe
from tlapp.plan import AUGMENTATIONS, Plan, instant, suggest
from tlapp.runs import Run


def test_a_name_and_a_note_are_kept_apart_and_taken_away_again(own_run):
    assert about(own_run) == About()
    describe(own_run, name="  first \t try\n")
    describe(own_run, note="line one  \n\nline two\n")
    assert about(own_run) == About("first try", "line one\n\nline two")
    describe(own_run, name="")
    assert about(Run(own_run.path)) == About("", "line one\n\nline two")


def test_control_characters_and_what_turns_the_writing_become_escapes(own_run):
    made = describe(own_run, name="a\x07b\u202ec\x00", note="x\x1b[31m\ny")
    assert made == About("a\\x07b\\u202ec\\x00", "x\\x1b[31m\ny")
    assert about(own_run) == made


@pytest.mark.parametrize(("what", "most"), [("name", history.MOST_NAME), ("note", history.MOST_NOTE)])
def test_a_name_or_note_too_long_is_refused_and_changes_nothing(own_run, what, most):
    describe(own_run, **{what: "a" * most})
    with pytest.raises(RunError, match=rf"The {what} has {most + 1:,} characters.*Shorten it"):
        describe(own_run, **{what: "b" * (most + 1)})
    assert getattr(about(own_run), what) == "a" * most


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"name": 3, "note": ""}', b"\xff", b"{}"])
def test_a_damaged_name_is_no_name_and_harms_no_run(own_run, content):
    (own_run.path / "about.json").write_bytes(content)
    assert about(own_run) == About()
    assert describe(own_run, name="anew").name == "anew"


@pytest.mark.parametrize(("settings", "words"), [
    ({"solver": "auto"}, "auto"),
    ({"solver": "exact"}, "head (exact)"),
    ({}, "head (sgd)"),
    ({"frozen": ("stem", "layer1", "layer2", "layer3")}, "layer4, head"),
    ({"frozen": ("stem", "layer1")}, "layer2 to head"),
    ({"frozen": ("layer1", "layer4")}, "3 of 5 blocks, head"),
    ({"frozen": ()}, "all blocks"),
])  # fmt: skip
def test_what_learns_is_said_in_a_few_words(settings, words):
    every = ("stem", "layer1", "layer2", "layer3", "layer4")
    assert history.approach(Plan(**{"backbone": "resnet18", "frozen": every, **settings})) == words


def test_the_instant_model_is_called_so(trained):
    assert history.approach(instant(trained.data)) == "head (instant)"
    assert history.approach(suggest(trained.data)) == "auto"


def test_a_removed_run_is_gone_from_the_list_and_comes_back_whole(own_run, home):
    describe(own_run, name="precious")
    before = {path.name: path.read_bytes() for path in own_run.path.iterdir()}
    history.remove(own_run)
    assert runs.all_runs(home) == []
    assert [run.id for run in history.removed(home)] == [own_run.id]
    with pytest.raises(RunError, match="There is no run"):
        runs.find(own_run.id, home)
    back = history.restore(home, str(int(own_run.id.split("-")[0])))
    assert back == own_run
    assert {path.name: path.read_bytes() for path in back.path.iterdir()} == before
    assert back.model()
    assert history.removed(home) == []


def test_a_run_at_work_is_not_removed(own_run, home):
    with own_run.lock(), pytest.raises(RunError, match=r"is at work\. Stop it first"):
        history.remove(own_run)
    assert runs.all_runs(home) == [own_run]


@pytest.mark.parametrize("act", [history.remove, lambda run: describe(run, name="x")])
def test_what_is_done_to_a_run_that_is_gone_is_refused_and_leaves_no_trace(own_run, act):
    shutil.rmtree(own_run.path)
    with pytest.raises(RunError, match=r"no run .* any more"):
        act(own_run)
    assert not own_run.path.exists()


def test_a_run_comes_back_where_an_empty_folder_took_its_place(own_run, home):
    history.remove(own_run)
    with pytest.raises(RunError):
        jobs.resume(own_run)
    assert history.restore(home, own_run.id).model()


def test_a_number_in_the_trash_is_not_given_again(own_run, home):
    history.remove(own_run)
    run, lock = runs.create(home, own_run_header(home, own_run))
    lock.release()
    assert int(run.id.split("-")[0]) == int(own_run.id.split("-")[0]) + 1


def own_run_header(home, run):
    return json.loads((home / "runs" / runs.TRASH / run.id / "plan.json").read_bytes())


def test_what_was_never_removed_is_not_restored(own_run, home):
    with pytest.raises(RunError, match=r"There is no removed run `\\u202ex`.*tlapp runs removed"):
        history.restore(home, "\u202ex")


def test_the_trash_keeps_runs_for_a_week_counted_from_their_removal(own_run, home):
    old, new = own_run, Run(home / "runs" / "0002-aaaaaa")
    shutil.copytree(old.path, new.path)
    os.utime(new.path, (0, 0))  # an old run
    history.remove(old)
    history.remove(new)
    long_ago = time.time() - (history.KEPT_DAYS + 2) * history.DAY
    os.utime(home / "runs" / runs.TRASH / old.id, (long_ago, long_ago))
    history.empty_trash(home)
    assert [run.id for run in history.removed(home)] == [old.id, new.id]
    looked_yesterday(home)
    history.empty_trash(home)
    assert [run.id for run in history.removed(home)] == [new.id]


def looked_yesterday(home):
    """The app was opened a day ago too, and looked at the clock."""
    path = home / "runs" / runs.TRASH / history.LOOKED
    path.touch()
    os.utime(path, (time.time() - 1.1 * history.DAY,) * 2)


@pytest.mark.parametrize("year", [365, -365])
def test_a_clock_that_is_wrong_for_a_moment_empties_no_trash(own_run, home, monkeypatch, year):
    history.remove(own_run)
    looked_yesterday(home)
    with monkeypatch.context() as patch:
        wrong = itertools.count(time.time() + year * history.DAY, 3600)
        patch.setattr(time, "time", lambda: next(wrong))
        for _ in range(3):
            history.empty_trash(home)
    history.empty_trash(home)
    assert history.restore(home, own_run.id).model()


def test_what_was_removed_while_the_clock_was_ahead_stays(own_run, home):
    history.remove(own_run)
    future = time.time() + 365 * history.DAY
    os.utime(home / "runs" / runs.TRASH / own_run.id, (future, future))
    looked_yesterday(home)
    history.empty_trash(home)
    assert [run.id for run in history.removed(home)] == [own_run.id]


def test_the_trash_of_a_workspace_without_one_is_empty(home):
    history.empty_trash(home)
    assert history.removed(home) == []


def test_a_new_run_empties_the_trash_of_what_is_too_old(own_run, home, trained, small_pictures):
    history.remove(own_run)
    os.utime(home / "runs" / runs.TRASH / own_run.id, (0, 0))
    looked_yesterday(home)
    data = dataset.load(home / "datasets" / trained.data.id)
    run = jobs.start(data, quick(data, epochs=1, augmentation=AUGMENTATIONS["off"]))
    jobs.stop(run)
    jobs.close()
    assert history.removed(home) == []
