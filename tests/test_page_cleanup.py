"""What lies on the disk, on the page; and several people, browsers and clicks on one workspace."""

import re
import shutil
import threading
import time
from functools import partial
from types import SimpleNamespace

import gradio as gr
import pytest
from conftest import fill, quick, until, watch
from sites import load, load_path, own_runs, tab
from test_cleanup import aged, unfinished
from test_jobs import line_held

from tlapp import dataset, export, history, jobs, predict, room, runs, ui
from tlapp.errors import DataError, RunError
from tlapp.events import Queued
from tlapp.ui import app, live, once, preview, results


def open_panel(page):
    tab(page, "3 Results")
    page.locator("#disk > button").click()
    page.locator("#count-again:not([disabled])").wait_for()


def ticks(page):
    return page.locator("#disk-kinds label").all_inner_texts()


@pytest.fixture
def old(tmp_path, home, small_pictures):
    """Photos that nobody needs, nor looked at for two days."""
    return aged(dataset.scan(fill(tmp_path / "old", {"reds": 4, "blues": 4}, seed=500)))


def test_the_panel_says_what_could_go_deletes_what_is_ticked_and_keeps_the_photos_of_the_page(
    own_run, site, old, folder, home
):
    load_path(site, folder)
    site.locator(".tl-class").first.wait_for()
    until(lambda: not any(run.is_live() for run in runs.all_runs(home)))
    shown = next(run for run in runs.all_runs(home) if run.id != own_run.id).dataset_folder
    for run in runs.all_runs(home)[1:]:
        shutil.rmtree(run.path)  # the photos that the page shows are of no run now
    aged(shown)
    stopped = unfinished(home, old)
    own_run.save("last", b"x" * 2_000_000)
    open_panel(site)
    assert [text.partition(":")[0] for text in ticks(site)] == [
        "Runs without a model that were stopped, failed or interrupted", "What finished runs no longer need",
    ]  # fmt: skip
    assert site.locator("#clean").inner_text() == "Delete 1 item, 2 MB"
    site.locator("#disk-kinds label", has_text="without a model").click()
    site.locator("#clean", has_text="Delete 2 items").click()
    site.locator("#disk-said .tl-info", has_text="Deleted 2 items").wait_for()
    assert not stopped.path.exists()
    until(lambda: stopped.id not in site.locator("#runs").inner_text(), 30)
    assert [text.partition(",")[0] for text in ticks(site)] == ["Photos that no run learned from: 1 item"]
    assert site.locator("#clean").is_disabled()
    site.locator("#disk-kinds label", has_text="Photos").click()
    site.locator("#clean", has_text="Delete 1 item").click()
    site.locator("#disk-said", has_text="Nothing can go").wait_for()
    assert not old.folder.exists()
    assert shown.exists()


def test_a_double_click_on_train_is_one_run_and_another_tab_gets_its_own_in_line(site, served, folder, home):
    load(site, folder)
    until(lambda: not any(run.is_live() for run in runs.all_runs(home)))
    second = site.context.new_page()
    second.goto(served.url)
    tab(second, "2 Train")
    second.locator("#train:not([disabled])").wait_for()
    with line_held(home):
        site.locator("#train").dblclick(delay=60)
        until(lambda: own_runs(home), 30)
        second.locator("#train").dblclick(delay=60)
        until(lambda: len(own_runs(home)) == 2, 30)
        first, later = own_runs(home)
        until(lambda: Queued(1) in later.events()[0])
        second.locator("#status", has_text=f"Run {later.id} waits its turn: 1 run before it.").wait_for()
        second.locator("#leave-line").click()
        second.locator("#leave-line").wait_for(state="hidden")
        watch(later)
        assert later.state() == "stopped"
        assert first.is_live()
        assert not first.stop_asked()
        time.sleep(0.5)
        assert len(own_runs(home)) == 2
        jobs.stop(first)
        watch(first)


def test_two_presses_at_once_of_one_page_are_one_run_and_of_two_pages_two(old, home):
    found = []
    with line_held(home):
        both = threading.Barrier(3)

        def press(page):
            both.wait()
            found.append((page, once.start(page, old, quick(old)).id))

        threads = [threading.Thread(target=press, args=(page,)) for page in ("one", "one", "two")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        of = {page: {run for name, run in found if name == page} for page in ("one", "two")}
        assert [len(runs) for runs in of.values()] == [1, 1]
        assert of["one"] != of["two"]
        jobs.close()


def test_several_people_are_told_that_they_share_a_workspace_and_one_alone_is_not(home):
    said = [str(block.value) for block in app.build_app(is_shared=True).blocks.values() if hasattr(block, "value")]
    alone = [str(block.value) for block in app.build_app().blocks.values() if hasattr(block, "value")]
    assert any(app.SHARED in text for text in said)
    assert not any(app.SHARED in text for text in alone)


def test_whoever_must_sign_in_is_told_so_on_the_page(home, monkeypatch):
    asked = []
    monkeypatch.setattr(app, "build_app", lambda takes_paths, is_shared: asked.append(is_shared))
    monkeypatch.setattr(ui.serve, "launch", lambda build, *_, **__: build())
    ui.launch(auth="me:long-enough-password")
    ui.launch()
    assert asked == [True, False]


def test_a_nearly_full_disk_is_said_before_training(old, monkeypatch):
    usage = SimpleNamespace(free=30_000_000)
    monkeypatch.setattr(room.shutil, "disk_usage", lambda path: usage)
    assert "nearly full" in preview.summary(old, quick(old))[0]
    usage.free = 300_000_000
    assert "nearly full" not in preview.summary(old, quick(old))[0]


@pytest.mark.parametrize("is_of_here", [True, False])
def test_where_the_workspace_lies_is_told_only_to_who_sits_at_the_machine(own_run, home, is_of_here):
    count = handlers(app.build_app(takes_paths=is_of_here))["cleanup.count"]
    told = [where for where, *_ in count("", SimpleNamespace(session_hash="x"))]
    assert told
    assert all("share one workspace" in where and (str(home) in where) == is_of_here for where in told)


# --- two people at once, on the same run


@pytest.fixture(scope="module")
def page():
    return app.build_app()


def handlers(page):
    """Every handler of the page by its module and name."""
    found = {}
    for function in page.fns.values():
        inner = function.fn.func if isinstance(function.fn, partial) else function.fn
        if inner is not None:
            found[f"{inner.__module__.removeprefix('tlapp.ui.')}.{inner.__name__}"] = function.fn
    return found


ASKED = {
    "history.remove": (), "history.show_difference": ("0001-aaaaaa",), "results.make": (),
    "recall.ask": ("",), "recall.continuing": ("",), "api.predict": ([],), "api.export": (), "api.stop": (),
    "api.run_status": (),
}  # fmt: skip


@pytest.mark.parametrize("name", ASKED)
def test_what_is_asked_of_a_run_that_somebody_deleted_is_one_sentence(own_run, page, name):
    history.remove(own_run)
    with pytest.raises(gr.Error) as told:
        handlers(page)[name](own_run.id, *ASKED[name])
    assert re.fullmatch(r"[A-Z][^\n]+[.)]", str(told.value.message))
    assert "fault of the program" not in told.value.message
    assert not own_run.path.exists()


def test_what_shows_a_run_that_somebody_deleted_shows_none(own_run, page):
    history.remove(own_run)
    on = handlers(page)
    assert on["results.show"](own_run.id, "")[0] == results.NOTHING
    assert on["results.refresh"](own_run.id, own_run.id, "")[1] == results.NOTHING
    assert "No run yet" in on["live.view"](own_run.id, f"{own_run.id} 3 3 1 False")[2]
    assert on["results.show_cell"](own_run.id, SimpleNamespace(pick="0 1")) == ""
    (told,) = on["takeaway.export"](own_run.id, [], SimpleNamespace(session_hash="x"))
    assert "That run is gone" in told[0]


# --- answers that come late


def test_what_is_open_of_a_report_stays_where_that_is_shown_once_more_and_goes_with_another(own_run, page):
    show = handlers(page)["results.show"]

    def kept(before):
        filled = show(own_run.id, before)
        return [part == gr.skip() for part in (filled[2], *filled[-3:-1])]  # photos of a cell, an export and its zip

    shown = show(own_run.id, "")[-1]
    assert kept("") == kept(shown) == [True] * 3
    assert kept("0002-aaaaaa 0123456789abcdef True") == [False] * 3
    own_run.deliver(own_run.model(), own_run.report() | {"seconds": 7777.0})  # resumed, and no epoch was better
    assert kept(shown) == [False] * 3
    shown = show(own_run.id, "")[-1]
    shutil.rmtree(own_run.dataset_folder)
    assert kept(shown) == [False] * 3


def test_a_handler_that_is_told_what_was_pressed_is_told_of_every_press(page):
    """Gradio hands the last of several presses that of the first where it lets the others wait."""
    told = [f for f in page.fns.values() if "gr.EventData" in getattr(f.fn, "__annotations__", {}).values()]
    assert len(told) >= 6
    assert {f.trigger_mode for f in told} == {"multiple"}


def test_the_end_of_a_run_is_no_news_to_a_page_that_was_opened_after_it(own_run, page):
    def look(before):
        return handlers(page)["live.view"](own_run.id, before)

    drawn, ended = 1, 8
    opened = look(live.OLD)
    assert [opened[ended], look(opened[drawn])[ended]] == ["", ""]
    assert look(f"{own_run.id} 2 3 1 True 900")[ended].startswith(own_run.id)


def test_a_run_deleted_while_somebody_works_with_it_ends_in_a_sentence_and_nothing_half(own_run, home, tmp_path):
    history.remove(own_run)
    target = tmp_path / "model.zip"
    acts = [lambda: predict.load(own_run), lambda: export.export(own_run, target), lambda: jobs.resume(own_run)]
    for act in (*acts, lambda: history.describe(own_run, "x"), lambda: history.remove(own_run)):
        with pytest.raises((RunError, DataError), match=own_run.id):
            act()
    assert not target.exists()
    assert not own_run.path.exists()
    assert history.restore(home, own_run.id).model()


def test_of_two_who_bring_a_run_back_the_second_is_told_so(own_run, home, monkeypatch):
    history.remove(own_run)
    (found,) = history.removed(home)
    monkeypatch.setattr(history, "removed", lambda home: [found])  # both have seen it there
    history.restore(home, own_run.id)
    with pytest.raises(RunError, match="no removed run"):
        history.restore(home, own_run.id)
