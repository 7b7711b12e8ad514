"""The Test tab in a real browser: many photos in a table, a live camera, and wrong answers put right."""

import csv
import itertools
import re
import shutil
import threading

import pytest
from conftest import COLOURS, drop_on, fill, photo, until
from sites import answer, choose, load, load_path, picked, tab

from tlapp import additions, cli, dataset, decisions, predict, runs
from tlapp.ui import sheets


@pytest.fixture
def test_tab(site, own_run):
    """The Test tab, with a trained model."""
    tab(site, "4 Test")
    site.locator("#photos .tl-drop[data-state=ready]").wait_for()
    site.locator("#try-test-photo:not([disabled])").wait_for()
    return site


def several(folder, n=16):
    return fill(folder, {"a": n // 2, "b/c": n - n // 2}, seed=900)


def rows(page, column):
    return page.locator(f".tl-answers tbody td:nth-child({column})").all_inner_texts()


def order(page):
    return page.locator(".tl-answers tbody tr").evaluate_all("rows => rows.map(row => Number(row.dataset.row))")


def sureness(page):
    cells = page.locator(".tl-answers tbody td:nth-child(3)")
    return cells.evaluate_all("cells => cells.map(cell => Number(cell.dataset.key))")


def sides(page):
    return page.locator(".tl-answers th[aria-sort]").evaluate_all("heads => heads.map(h => h.ariaSort)")


def correct(page, file, label):
    """Pick the right class of a photo in the table."""
    row = page.locator(".tl-answers tr", has_text=file)
    row.locator(".tl-wrong").click()
    row.locator(".tl-right").select_option(label=label)


def test_a_dropped_folder_is_answered_with_sub_folders_the_least_sure_first_and_its_csv_is_the_command_lines(
    test_tab, tmp_path, monkeypatch, own_run
):
    folder = several(tmp_path / "many")
    (folder / "broken.jpg").write_text("no photo")
    (folder / "empty").mkdir()
    drop_on(test_tab.locator("#photos .tl-drop"), folder)
    test_tab.locator(".tl-answers tbody tr").nth(15).wait_for()
    assert set(rows(test_tab, 4)) == {f"many/{p.relative_to(folder).as_posix()}" for p in folder.rglob("*.png")}
    assert sureness(test_tab) == sorted(sureness(test_tab))
    assert sides(test_tab) == ["none", "none", "ascending", "none"]
    said = test_tab.locator("#answers .tl-error").all_inner_texts()
    assert sorted(said) == ["many/broken.jpg is a text file, not a photo.", "many/empty is an empty folder."]
    (folder / "empty").rmdir()
    drop_on(test_tab.locator("#photos .tl-drop"), folder)
    until(lambda: test_tab.locator("#answers .tl-error").all_inner_texts() == said[:1], 60)
    with test_tab.expect_download() as download:
        test_tab.locator("#answers-csv").click()
    download.value.save_as(tmp_path / "page.csv")
    monkeypatch.chdir(tmp_path)
    assert cli.main(["predict", own_run.id, "many", "--csv", "line.csv"]) == 1
    assert (tmp_path / "page.csv").read_bytes() == (tmp_path / "line.csv").read_bytes()
    assert len(list(csv.reader((tmp_path / "page.csv").open()))) == 18


def test_the_table_is_sorted_by_click_and_by_keyboard(test_tab, tmp_path):
    drop_on(test_tab.locator("#photos .tl-drop"), several(tmp_path / "few", 6))
    test_tab.locator(".tl-answers tbody tr").nth(5).wait_for()
    assert order(test_tab) == list(range(6))
    test_tab.get_by_role("button", name="How sure").click()
    assert sureness(test_tab) == sorted(sureness(test_tab))
    assert sides(test_tab) == ["none", "none", "ascending", "none"]
    test_tab.keyboard.press("Enter")
    assert sureness(test_tab) == sorted(sureness(test_tab), reverse=True)
    assert sides(test_tab) == ["none", "none", "descending", "none"]
    test_tab.keyboard.press("Tab")
    test_tab.keyboard.press("Space")
    assert rows(test_tab, 4) == sorted(rows(test_tab, 4))
    test_tab.get_by_role("button", name="Class", exact=True).click()
    assert rows(test_tab, 2) == sorted(rows(test_tab, 2), key=lambda said: said.split()[-1])


def test_looking_shows_how_far_it_is_and_cancel_leaves_the_answers_of_before(test_tab, tmp_path, monkeypatch, home):
    zone = test_tab.locator("#photos .tl-drop")
    drop_on(zone, several(tmp_path / "first", 3))
    test_tab.locator(".tl-answers tbody tr").nth(2).wait_for()
    answers, calls, go_on = predict.Predictor.look, itertools.count(), threading.Event()

    def held_up(self, photos):
        if next(calls):
            go_on.wait(60)
        return answers(self, photos)

    monkeypatch.setattr(predict.Predictor, "look", held_up)
    drop_on(zone, several(tmp_path / "second", 10))
    test_tab.locator("#looking-progress", has_text="Looking at 4 of 10").wait_for()
    test_tab.locator("#cancel-looking").click()
    go_on.set()
    test_tab.locator("#looking-progress", has_text="Looking was cancelled").wait_for()
    assert test_tab.locator("#cancel-looking").is_hidden()
    assert all(name.startswith("first/") for name in rows(test_tab, 4))
    until(lambda: len([p for p in (home / "incoming").iterdir() if p.is_dir()]) == 1, 10)


def test_a_zip_is_answered_like_its_folder_and_more_photos_than_are_taken_are_refused(test_tab, tmp_path, monkeypatch):
    folder = several(tmp_path / "zipped" / "many", 5)
    path = shutil.make_archive(str(tmp_path / "many"), "zip", folder.parent)
    test_tab.locator("#photos input.files").set_input_files(path)
    test_tab.locator(".tl-answers tbody tr").nth(4).wait_for()
    assert sorted(rows(test_tab, 4)) == sorted(
        f"many/{p.relative_to(folder).as_posix()}" for p in folder.rglob("*.png")
    )
    monkeypatch.setattr(sheets, "MOST_AT_ONCE", 3)
    drop_on(test_tab.locator("#photos .tl-drop"), several(tmp_path / "many", 4))
    test_tab.locator("#looking-progress", has_text="These are 4 files; the page takes 3 at once").wait_for()


def test_the_camera_is_answered_live_and_stops_by_button_and_with_its_tab(test_tab):
    test_tab.context.grant_permissions(["camera"])
    playing = "document.querySelector('#live video').srcObject?.active ?? false"
    test_tab.locator("#live-box > button").click()
    test_tab.get_by_role("button", name="Start the live view").click()
    test_tab.locator("#live .rate", has_text=re.compile(r"\d frames/s")).wait_for()
    assert test_tab.locator("#live .tl-label").inner_text()
    assert test_tab.evaluate(playing)
    assert answer(test_tab)  # clicks elsewhere are not lost meanwhile
    print("\nlive:", test_tab.locator("#live .rate").inner_text())
    test_tab.locator("#live .stop").click()
    assert not test_tab.evaluate(playing)
    test_tab.get_by_role("button", name="Start the live view").click()
    test_tab.locator("#live .rate", has_text=re.compile(r"\d frames/s")).wait_for()
    stream = test_tab.evaluate_handle("document.querySelector('#live video').srcObject")
    tab(test_tab, "1 Data")
    until(lambda: not stream.evaluate("stream => stream.active"), 10)


@pytest.mark.parametrize(("width", "height"), [(390, 844), (1280, 720), (1280, 1600)])
def test_an_answer_below_the_fold_comes_into_view_and_one_in_view_stays_where_it_is(test_tab, tmp_path, width, height):
    test_tab.set_viewport_size({"width": width, "height": height})
    for name, colour in (("first.png", COLOURS["reds"]), ("second.png", COLOURS["blues"])):
        drop_on(test_tab.locator("#photos .tl-drop"), photo(tmp_path / name, colour, 5, (300, 300)))
        test_tab.locator(".tl-answer", has_text=name).wait_for()
        last, whole = test_tab.locator(".tl-correct"), test_tab.locator(".tl-answer")
        until(lambda part=last: part.bounding_box()["y"] + part.bounding_box()["height"] <= height, 10)
        assert whole.bounding_box()["y"] >= 0
    if height == 1600:
        assert test_tab.evaluate("scrollY") == 0


@pytest.fixture
def instant(site, tmp_path, home):
    """The Test tab of a browser whose photos have an instant model; the dataset."""
    folder = fill(tmp_path / "photos", {"reds": 8, "blues": 8})
    load(site, folder)
    until(lambda: [run for run in runs.all_runs(home) if run.has_model()], 60)
    tab(site, "4 Test")
    until(lambda: "Run" in picked(site, "pick-model"), 30)
    return dataset.load(runs.all_runs(home)[0].dataset_folder)


def decision_file(folder, one):
    """A CSV that leaves this photo out."""
    path = folder / "decisions.csv"
    path.write_text(decisions.to_text([decisions.about(one, decisions.EXCLUDE)]))
    return path


def newest(home):
    return dataset.load(runs.all_runs(home)[-1].dataset_folder)


def test_a_wrong_answer_put_right_joins_the_photos_the_model_learns_again_and_undo_keeps_a_later_decision(
    site, instant, tmp_path, home
):
    site.locator("#photos input.files").set_input_files(photo(tmp_path / "new.png", COLOURS["blues"], 700))
    site.locator(".tl-answer .tl-right").select_option(label="reds")
    site.locator("#to-add", has_text="new.png is reds").wait_for()
    site.locator("#to-add", has_text="The instant model is trained anew with them and answers from then on").wait_for()
    site.get_by_role("button", name="Add 1 photo and train again").click()
    site.locator("#added", has_text=re.compile(r"The new model, run 0002-\w+, is ready, [\d.]+ s after")).wait_for()
    print("\n", site.locator("#added").inner_text())
    made = newest(home)
    (added,) = [p for p in made.photos if p.added]
    assert (added.name, made.classes[added.label], added.side) == ("new.png", "reds", "train")
    until(lambda: "0002" in picked(site, "pick-model"), 30)
    site.locator("#old-answers", has_text="another model is chosen by now").wait_for()
    site.locator("#ask-again").click()
    site.locator(".tl-answer", has_text="run 0002").wait_for()
    site.locator("#undo-added").click()
    site.locator("#adding-progress", has_text="1 photo taken out again").wait_for()
    until(lambda: "0001" in picked(site, "pick-model"), 30)
    tab(site, "1 Data")
    site.locator("#top-data", has_text="16 photos").wait_for()
    tab(site, "4 Test")
    add_one(site, tmp_path, "again.png")
    tab(site, "1 Data")
    site.locator("#top-data", has_text="17 photos").wait_for()
    site.locator("#check-photos").click()
    choose(site, "#use-decisions", decision_file(tmp_path, instant.photos[0]))
    site.locator("#top-data", has_text="16 photos").wait_for()
    tab(site, "4 Test")
    undo_adding(site, 15)


def test_several_corrections_are_collected_and_those_there_already_are_said_so(site, instant, tmp_path, home):
    folder = several(tmp_path / "many", 4)
    shutil.copy(tmp_path / "photos/reds/003.png", folder / "known.png")
    drop_on(site.locator("#photos .tl-drop"), folder)
    site.locator(".tl-answers tbody tr").nth(4).wait_for()
    for file, label in (("a/000.png", "reds"), ("a/001.png", "blues"), ("known.png", "blues")):
        correct(site, file, label)
    site.get_by_role("button", name="Add 3 photos and train again").click()
    site.locator("#added", has_text="known.png is in your photos already").wait_for()
    site.locator("#added", has_text="2 photos joined your photos. The new model").wait_for()
    made = newest(home)
    assert {p.name: made.classes[p.label] for p in made.photos if p.added} == {
        "many/a/000.png": "reds", "many/a/001.png": "blues"
    }  # fmt: skip


def add_one(site, tmp_path, name="new.png"):
    """Have a photo joined as another class than it was answered."""
    site.locator("#photos input.files").set_input_files(photo(tmp_path / name, COLOURS["blues"], 700))
    site.locator(".tl-answer", has_text=name).locator(".tl-right").select_option(label="reds")
    site.locator("#add-photos").click()
    site.locator("#added", has_text="The new model").wait_for()


def undo_adding(site, left):
    """Take the photo out again that was added last; so many photos are left."""
    site.locator("#undo-added").click()
    site.locator("#adding-progress", has_text="1 photo taken out again").wait_for()
    tab(site, "1 Data")
    site.locator("#top-data", has_text=f"{left} photos").wait_for()


def test_what_was_added_is_there_when_the_folder_is_read_again_and_can_be_taken_out(site, instant, tmp_path, home):
    add_one(site, tmp_path)
    tab(site, "1 Data")
    fill(tmp_path / "photos", {"reds/more": 2}, seed=800)
    load_path(site, tmp_path / "photos")
    site.locator("#top-data", has_text="19 photos").wait_for()
    said = site.locator("#added-before")
    said.filter(has_text="1 photo that you added is in it: learned from, never tested on.").wait_for()
    site.get_by_role("button", name="Leave out what I added").click()
    site.locator("#top-data", has_text="18 photos").wait_for()
    said.filter(has_text="1 photo that you added is left out.").wait_for()
    load_path(site, tmp_path / "photos")
    site.locator("#cancel-reading").wait_for(state="hidden")
    site.locator("#top-data", has_text="18 photos").wait_for()
    site.get_by_role("button", name="Use what I added").click()
    site.locator("#top-data", has_text="19 photos").wait_for()
    tab(site, "4 Test")
    undo_adding(site, 18)
    site.locator("#move-added").wait_for(state="hidden")


def test_a_pick_taken_back_is_not_added_and_an_added_photo_that_cannot_join_again_is_named(site, instant, tmp_path):
    new = photo(tmp_path / "new.png", COLOURS["blues"], 700)
    site.locator("#photos input.files").set_input_files(new)
    site.locator(".tl-answer .tl-right").select_option(label="reds")
    site.locator("#add-photos").wait_for()
    site.locator(".tl-answer .tl-right").select_option(label="as it is")
    site.locator("#add-photos").wait_for(state="hidden")
    additions.add(instant, [additions.Addition("new.png", new, "reds")])
    shutil.copy(new, tmp_path / "photos" / "reds" / "own.png")
    tab(site, "1 Data")
    load_path(site, tmp_path / "photos")
    site.locator("#reading-progress", has_text="new.png is in your photos already, as reds/own.png").wait_for()


def test_a_model_of_other_classes_adds_nothing_and_says_why(site, own_run, tmp_path, home):
    load(site, fill(tmp_path / "photos", {"reds": 8, "greens": 8}))
    tab(site, "4 Test")
    until(lambda: "greens" in picked(site, "pick-model"), 60)
    site.locator("#pick-model input").click()
    site.get_by_role("option", name=re.compile(own_run.id)).click()
    site.locator("#photos input.files").set_input_files(photo(tmp_path / "new.png", COLOURS["blues"], 700))
    site.locator(".tl-answer .tl-right").select_option(label="reds")
    site.locator("#to-add", has_text="knows blues, reds; your photos in 1 Data are of greens, reds").wait_for()
    assert site.locator("#add-photos").is_disabled()


def test_hostile_file_names_are_shown_literally_in_the_table(test_tab, tmp_path):
    names = {"<img src=x onerror=alert(1)>.png": 1, "$a_$ **b**.png": 2, "ü 🐝.png": 3, "{{value}} ${value}.png": 4}
    dialogs = []
    test_tab.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
    for name, seed in names.items():
        photo(tmp_path / "many" / name, COLOURS["reds"], 800 + seed)
    (tmp_path / "many" / "<b>broken.png").write_text("no")
    drop_on(test_tab.locator("#photos .tl-drop"), tmp_path / "many")
    test_tab.locator(".tl-answers tbody tr").nth(3).wait_for()
    assert set(rows(test_tab, 4)) == {f"many/{name}" for name in names}
    assert "many/<b>broken.png" in test_tab.locator("#answers .tl-error").inner_text()
    correct(test_tab, "onerror", "blues")
    test_tab.locator("#to-add", has_text="There are no photos in this browser").wait_for()
    assert not dialogs
    assert test_tab.locator("img[src=x]").count() == 0


def test_a_phone_needs_no_sideways_scrolling_for_table_bars_and_live_view(test_tab, tmp_path):
    test_tab.set_viewport_size({"width": 390, "height": 800})
    drop_on(test_tab.locator("#photos .tl-drop"), several(tmp_path / ("a-long-name-" * 5), 4))
    test_tab.locator(".tl-answers tbody tr").nth(3).wait_for()
    test_tab.locator(".tl-wrong").first.click()
    test_tab.locator("#live-box > button").click()
    test_tab.locator("#live .start").wait_for()
    assert test_tab.evaluate("document.documentElement.scrollWidth") <= 390
    assert test_tab.locator(".tl-scroll").evaluate("e => e.scrollWidth <= e.clientWidth")
