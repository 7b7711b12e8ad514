"""A new photo is answered wherever it is dropped, by the model of the photos that are loaded."""

import re
from types import SimpleNamespace

import pytest
from conftest import COLOURS, drop_on, fill, photo, until
from sites import choice, load_path, own_runs, see_its_score, tab, the_instant

from tlapp import jobs, runs
from tlapp.errors import RunError
from tlapp.tasks import Cancelled
from tlapp.ui import shelf, test

ANSWER = "#answers .tl-label"


@pytest.fixture
def new_photo(tmp_path):
    return photo(tmp_path / "new" / "one.png", COLOURS["reds"], 77)


def test_from_a_folder_to_an_answer_it_takes_two_drops_and_a_folder_beside_its_zone_does_nothing(
    site, folder, new_photo, home
):
    assert site.locator("#try-anywhere").count() == 0 or site.locator("#try-anywhere").is_hidden(), "without photos"
    drop_on(site.locator("#drop .tl-drop"), folder)
    site.locator("#anywhere .tl-drop[data-state=ready]").wait_for()
    drop_on(site.locator("#overview"), folder)
    assert site.locator("#anywhere .tl-drop").get_attribute("data-state") == "ready"
    drop_on(site.locator("#overview"), new_photo)  # the page is still there, and takes what it should
    site.locator(ANSWER, has_text="reds").wait_for()
    assert site.locator(".tl-answers tbody tr").count() == 0
    assert f"one.png · run {the_instant(home).id} answers" in site.locator("#answers").inner_text()
    assert site.get_by_role("tab", name="4 Test").get_attribute("aria-selected") == "true"
    assert site.locator("#try-anywhere").is_hidden(), "the tab has a zone of its own"


def test_with_a_trained_model_it_takes_three(site, folder, new_photo, home):
    drop_on(site.locator("#drop .tl-drop"), folder)
    site.locator("#train-at-once:not([disabled])").click()
    run = until(lambda: own_runs(home), 60)[0]
    see_its_score(site, run)
    drop_on(site.locator("#status"), new_photo)
    site.locator(ANSWER, has_text="reds").wait_for()
    assert f"run {run.id} answers" in site.locator("#answers").inner_text()


def test_training_at_once_uses_what_is_set_in_2_train(site, folder, home):
    load_path(site, folder)
    site.locator("#train-at-once:not([disabled])").wait_for()
    tab(site, "2 Train")
    site.locator("#train:not([disabled])").wait_for()
    choice(site, "preset", "Feature extraction").check()
    until(lambda: choice(site, "aug-strength", "off").is_checked(), 30)
    tab(site, "1 Data")
    site.locator("#train-at-once").click()
    assert until(lambda: own_runs(home), 60)[0].plan.augmentation.is_off


def test_the_model_of_the_loaded_photos_answers_not_one_of_other_photos(site, own_run, tmp_path, new_photo, home):
    other = fill(tmp_path / "other", {"greens": 8, "reds": 8}, seed=500)
    load_path(site, other)
    site.locator("#anywhere .tl-drop[data-state=ready]").wait_for()
    drop_on(site.locator("#overview"), new_photo)
    site.locator(ANSWER).wait_for()
    instant = max((run for run in runs.all_runs(home) if run.plan.is_instant), key=lambda run: run.id)
    assert set(instant.classes) == {"greens", "reds"}
    assert f"run {instant.id} answers" in site.locator("#answers").inner_text()


def test_the_button_does_it_without_dropping_and_several_photos_beside_the_zones_make_a_table(
    site, folder, new_photo, tmp_path
):
    some = [photo(tmp_path / "new" / f"{i}.png", COLOURS["blues"], 90 + i) for i in range(3)]
    load_path(site, folder)
    with site.expect_file_chooser() as chooser:
        site.locator("#anywhere button.files").click()
    chooser.value.set_files(new_photo)
    site.locator(ANSWER, has_text="reds").wait_for()
    tab(site, "1 Data")
    site.locator("#anywhere .tl-drop[data-state=ready]").wait_for()
    drop_on(site.locator("#overview"), *some)
    until(lambda: site.locator(".tl-answers tbody tr").count() == 3)


def test_a_photo_whose_model_cannot_be_made_is_answered_by_a_sentence(site, folder, new_photo, monkeypatch):
    monkeypatch.setattr(jobs, "start", lambda *_: (_ for _ in ()).throw(RunError("No room.")))
    load_path(site, folder)
    site.locator("#anywhere .tl-drop[data-state=ready]").wait_for()
    drop_on(site.locator("#overview"), new_photo)
    said = site.locator("#looking-progress .tl-error")
    said.wait_for()
    assert re.search("There is no model of these photos yet", said.inner_text())


def test_cancel_ends_the_wait_for_an_instant_model(monkeypatch):
    run = SimpleNamespace(plan=SimpleNamespace(is_instant=True), has_model=lambda: False, is_live=lambda: True)
    monkeypatch.setattr(shelf, "dataset", lambda name: None)
    monkeypatch.setattr(shelf, "run", lambda name: run if name else None)
    asked = []

    def report(done, total, what):
        asked.append(what)
        if len(asked) == 3:
            raise Cancelled

    with pytest.raises(Cancelled):
        test._of_these_photos(None, "own", "", report)
    assert asked == ["the instant model is being made"] * 3
