"""On the page: a model taken along as a zip, and opened again."""

import re
import shutil
import threading
import zipfile

import pytest
from conftest import until
from sites import choose, picked, tab

from tlapp import export, graph, runs, webpage
from tlapp.agreement import Agreement
from tlapp.errors import RunError
from tlapp.ui.serve import uploads_folder


@pytest.fixture
def quick_export(monkeypatch):
    """Without the minutes of making the graph and of the proof, which tests/test_export.py has."""
    monkeypatch.setattr(graph, "to_onnx", lambda *_: b"a graph")
    monkeypatch.setattr(export, "_prove", lambda *_: export.Proof(5e-7, 4, 4))
    monkeypatch.setattr(export, "_add_int8", lambda *_: Agreement(8, 8, 7, 7, 0, 0, 0, 6_000_000, 16_000_000, 0.6, 4))
    monkeypatch.setattr(webpage, "page", lambda *_: b"<html>")


def downloads():
    """What lies there to be handed out, of the page that all tests of the module share."""
    return set((uploads_folder() / "downloads").glob("*"))


def test_a_model_is_exported_saved_and_opened_again_where_the_run_is_gone(
    site, own_run, home, quick_export, tmp_path, small_pictures
):
    score = own_run.report()["accuracy"]
    tab(site, "3 Results")
    site.locator(".tl-score").wait_for()
    for box in site.locator("#export-more input").all():
        box.click()
    site.locator("#export").click()
    site.locator("#exported", has_text="INT8 costs no accuracy on these photos").wait_for()
    site.locator("#exported", has_text="Run by itself on 4 validation photos, it calls all of them what").wait_for()
    with site.expect_download() as download:
        site.locator("#save-bundle").click()
    path = tmp_path / download.value.suggested_filename
    download.value.save_as(path)
    assert path.name == f"{own_run.id}.zip"
    assert {f"{own_run.id}/{name}" for name in ("model.onnx", "index.html")} <= set(zipfile.ZipFile(path).namelist())
    shutil.rmtree(own_run.path)
    site.reload()
    tab(site, "3 Results")
    site.locator("#runs", has_text="No run yet").wait_for()
    choose(site, "#open-bundle", path)
    site.locator(".tl-score").wait_for()
    (opened,) = runs.all_runs(home)
    site.locator("#one-run-title", has_text=opened.id).wait_for()
    assert opened.report()["accuracy"] == score
    site.locator("#counts .tl-confusion").wait_for()


def test_a_bundle_that_is_none_is_refused_by_its_name_and_changes_nothing(site, own_run, home, tmp_path):
    path = tmp_path / "my photos.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("cats/1.jpg", b"x")
    tab(site, "3 Results")
    site.locator(".tl-score").wait_for()
    choose(site, "#open-bundle", path)
    site.get_by_text(
        "`my photos.zip` cannot be opened as a bundle or run: there is no run.json or plan.json"
    ).wait_for()
    assert [run.id for run in runs.all_runs(home)] == [own_run.id]
    assert site.locator(".tl-score").is_visible()


@pytest.fixture
def held_proof(quick_export, monkeypatch):
    """The proof of an export waits: events that are set when it has begun, and to let it go on."""
    begun, go_on = threading.Event(), threading.Event()

    def prove(*_):
        begun.set()
        assert go_on.wait(60)
        return export.Proof(0.0, 4, 4)

    monkeypatch.setattr(export, "_prove", prove)
    return begun, go_on


def test_an_export_can_be_cancelled_and_one_that_fails_says_why(site, own_run, held_proof, monkeypatch, small_pictures):
    (begun, go_on), before = held_proof, downloads()
    tab(site, "3 Results")
    site.locator("#export").click()
    site.locator("#exported", has_text="Comparing its answers with the app's").wait_for()
    until(begun.is_set)
    with site.expect_response(lambda answer: "/run/" in answer.url):  # else the export may be over before it is told
        site.locator("#cancel-export").click()
    go_on.set()
    site.locator("#exported", has_text="The export was cancelled; nothing was written.").wait_for()
    site.locator("#export:not([disabled])").wait_for()
    assert not site.locator("#save-bundle").is_visible()

    def differs(*_):
        raise RunError("The bundle was not written: its answers differ.")

    monkeypatch.setattr(export, "_prove", differs)
    site.locator("#export").click()
    site.locator("#exported .tl-error", has_text="The bundle was not written: its answers differ.").wait_for()
    assert downloads() == before


def test_nothing_of_an_export_is_shown_under_another_run(site, own_run, held_proof, small_pictures):
    other = own_run.path.with_name("0002-bbbbbb")
    shutil.copytree(own_run.path, other)
    (begun, go_on), before = held_proof, downloads()
    tab(site, "3 Results")
    site.locator(".tl-score").wait_for()
    first = picked(site, "pick-run")
    site.locator("#export").click()
    site.locator("#exported", has_text="Comparing its answers with the app's").wait_for()
    until(begun.is_set)
    second = own_run.id if other.name in first else other.name
    site.locator("#pick-run input").click()
    site.get_by_role("option", name=re.compile(second)).click()
    site.locator("#export:not([disabled])").wait_for()
    go_on.set()
    until(lambda: downloads() == before)
    assert not re.search("[a-z]{3}", site.locator("#exported").inner_text())  # no word; Gradio may show seconds
    assert not site.locator("#save-bundle").is_visible()
    site.locator("#export").click()
    site.locator("#exported", has_text=f"Run {second} is ready: ").wait_for()
