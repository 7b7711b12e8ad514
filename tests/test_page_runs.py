"""The page in a real browser, from training on: runs, results and tests of photos, on any screen, light and dark."""

import csv
import dataclasses
import io
import os
import re
import shutil

import numpy as np
import pytest
from conftest import drop_on, fill, photo, quick, until
from PIL import Image
from sites import (
    answer,
    choice,
    load,
    load_path,
    own_runs,
    picked,
    set_numbers,
    start_long,
    tab,
    the_instant,
    the_run,
    train_to_the_end,
)

from tlapp import dataset, jobs, pool, predict, runs
from tlapp.events import EpochFinished, Judged, Resumed
from tlapp.ui import matrix, sheets


def drawn(page):
    return page.locator("#plot svg").first.inner_html()


def test_a_run_streams_outlives_reload_and_page_stops_from_a_second_tab_and_resumes_where_it_was(
    site, served, folder, home, calm
):
    start_long(site, folder)
    before = drawn(site)
    until(lambda: drawn(site) != before, 30)
    site.locator("#strip", has_text="of 9000").wait_for()
    tab(site, "1 Data")
    assert site.locator("#strip").is_visible()
    site.reload()
    site.locator("#strip", has_text="of 9000").wait_for()
    second = site.context.new_page()
    second.goto(served.url)
    second.locator("#strip", has_text="of 9000").wait_for()
    epoch = the_run(home).events()[0][-1]
    site.goto("about:blank")
    second.goto("about:blank")
    until(lambda: the_run(home).events()[0][-1] != epoch and the_run(home).is_live(), 30)
    second.goto(served.url)
    second.locator("#strip-stop").click()
    until(lambda: the_run(home).state() == "stopped", 30)
    second.locator("#strip").wait_for(state="hidden")
    tab(second, "2 Train")
    second.locator("#status", has_text="Stopped after epoch").wait_for()
    run = the_run(home)
    assert run.has_model()
    stopped = run.events()[0][-1].epochs
    second.locator("#resume").click()
    second.locator("#status dd", has_text="of 9000").first.wait_for()
    resumed = until(lambda: [event for event in run.events()[0] if isinstance(event, Resumed)], 60)
    assert [event.epoch for event in resumed] == [stopped]
    assert own_runs(home) == [run]


def test_a_run_started_elsewhere_is_seen_and_stopped(site, folder, home, calm):
    load(site, folder)  # so that this browser looks at a run of its own, the instant model
    site.locator("#status", has_text="Instant model").wait_for()
    tab(site, "1 Data")
    data = dataset.scan(folder)
    run = jobs.start(data, quick(data, epochs=9000, patience=0))
    until(lambda: any(isinstance(event, EpochFinished) for event in run.events()[0]))
    tab(site, "2 Train")
    site.locator("#status dd", has_text="of 9000").first.wait_for()
    site.locator("#strip-stop").click()
    until(lambda: run.state() == "stopped", 30)
    site.locator("#status", has_text="Stopped after epoch").wait_for()


def test_a_damaged_run_is_named_and_another_ones_results_are_taken_home_as_files(site, own_run, home, tmp_path):
    other = home / "runs" / "0002-aaaaaa"
    shutil.copytree(own_run.path, other)
    (other / "report.json").write_text("{")
    tab(site, "3 Results")
    site.locator(".tl-score").wait_for()
    site.locator("#runs tr", has_text="0002-aaaaaa").filter(has_text="damaged").wait_for()
    tab(site, "4 Test")
    site.locator("#top-test", has_text=own_run.id).wait_for()
    tab(site, "3 Results")
    for label, start in (("Save curves (PNG)", b"\x89PNG"), ("Save confusion matrix (PNG)", b"\x89PNG"),
                         ("Save predictions (CSV)", b"file,class"), ("Save report (JSON)", b"{")):  # fmt: skip
        with site.expect_download() as download:
            site.get_by_role("button", name=label).click()
        download.value.save_as(tmp_path / "file")
        assert (tmp_path / "file").read_bytes().startswith(start), label


def test_without_photos_or_while_a_run_trains_trying_says_why_it_cannot_and_a_second_run_waits_and_says_so(
    site, folder, home, calm
):
    tab(site, "2 Train")
    site.locator("#why-not", has_text="There are no photos yet").wait_for()
    site.locator("#try-them").click()
    site.locator("#tried .tl-error", has_text="There are no photos yet. Load them in the Data tab.").wait_for()
    tab(site, "1 Data")
    start_long(site, folder)
    site.locator("#try-them").click()
    site.locator("#tried .tl-error", has_text="A run trains at the moment. Wait until it has ended").wait_for()
    site.locator("#train").click()
    site.locator("#status", has_text="Waits its turn: 1 run before it").wait_for()
    assert len(own_runs(home)) == 2
    jobs.close()
    site.locator("#status", has_text="Stopped").wait_for()


def test_a_run_that_fails_says_why(site, folder, home):
    load(site, folder)
    set_numbers(site, head_rate="10", weight_decay="10", epochs="3")
    data = dataset.load(next(path for path in (home / "datasets").iterdir() if path.is_dir()))
    shutil.move(data.folder / "photos.bin", data.folder / "gone")
    site.locator("#train").click()
    site.locator("#status .tl-error", has_text="copy of the photos").wait_for()


def test_a_run_worse_than_the_instant_model_says_so_and_the_button_takes_that(site, tmp_path, home):
    load(site, fill(tmp_path / "photos", {"reds": 15, "blues": 15, "greens": 15}))
    set_numbers(site, epochs="1", head_rate="1e-6")
    train_to_the_end(site, home)
    instant = the_instant(home)
    site.locator("#status", has_text=re.compile(r"[Tt]he instant model (does better on|is right about) \d+")).wait_for()
    site.locator("#take-instant").click()
    site.locator("#status", has_text=f"Run {instant.id}, on photos. Instant model.").wait_for()
    site.locator("#take-instant").wait_for(state="hidden")
    tab(site, "3 Results")
    until(lambda: instant.id in picked(site, "pick-run"), 30)
    tab(site, "4 Test")
    assert f"run {instant.id} answers" in answer(site)
    assert runs.all_runs(home)[0] == instant
    assert len(runs.all_runs(home)) == 2


def test_the_instant_model_that_a_letterboxed_run_offers_is_letterboxed_too(site, folder, home, monkeypatch):
    monkeypatch.setattr(pool, "comparison", lambda right, instant: {"n": 4, "run": 0, "instant": 4, "differ": 4})
    load(site, folder)
    choice(site, "set-framing", "letterbox").check()
    train_to_the_end(site, home)
    site.locator("#status", has_text="The instant model with grey bars does better on 4 photos, each asked").wait_for()
    site.locator("#take-instant").click()
    site.locator("#status", has_text="Instant model, with grey bars.").locator(".tl-score").wait_for()
    made = [run.plan.framing for run in runs.all_runs(home) if run.plan.is_instant]
    assert made == ["crop", "letterbox"]


def test_an_auto_run_on_a_hundred_photos_says_what_became_of_fine_tuning(site, tmp_path, home):
    sides = {"train": 50, "valid": 5, "test": 5}
    counts = {f"{side}/{name}": n for side, n in sides.items() for name in ("reds", "blues")}
    load(site, fill(tmp_path / "photos", counts))
    site.locator("#what-learns", has_text="may learn too, which is kept only if validation clearly improves").wait_for()
    run = train_to_the_end(site, home)
    (judged,) = [event for event in run.events()[0] if isinstance(event, Judged)]
    site.locator("#status", has_text=judged.in_words()).wait_for()
    tab(site, "3 Results")
    said = "on which fine-tuning was judged" if judged.kept else "each asked of a model that had not learned from it"
    site.locator("#score", has_text=said).wait_for()


HOSTILE = {
    "<img src=x onerror=alert(1)>": "<img src=x onerror=alert(1)>",
    "$a_$ **b** [c](javascript:alert(1))": "$a_$ **b** [c](javascript:alert(1))",
    "ünï çödé 🐝": "ünï çödé 🐝",
    os.fsdecode(b"caf\xe9"): r"caf\udce9",  # not UTF-8
}
"""Names of classes, and how they must be shown."""


def test_hostile_names_are_shown_literally_everywhere_and_those_not_utf8_as_escapes(site, tmp_path, home):
    root, names = tmp_path / "photos", set(HOSTILE.values())
    for n, name in enumerate(HOSTILE):
        for i in range(6):
            colour = ((200, 40, 40), (40, 40, 200), (40, 180, 40), (200, 200, 40))[n]
            photo(root / name / f"<b>{i}<script>alert(1)<script>.png", colour, 10 * n + i)
    dialogs = []
    site.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
    load_path(site, root)
    site.locator(".tl-class").nth(3).wait_for()
    assert set(site.locator(".tl-name").all_inner_texts()) == names
    site.locator("#change > button").click()
    site.locator("#class-out input").click()
    options = site.get_by_role("option").all_text_contents()
    assert {option.replace("✓", "").strip() for option in options} == names
    site.keyboard.press("Escape")
    tab(site, "2 Train")
    site.locator("#preview", has_text="<b>0<script>").wait_for()
    site.locator("#train:not([disabled])").wait_for()
    set_numbers(site, epochs="1")
    train_to_the_end(site, home)
    site.locator("#to-test").click()
    site.locator("#try-test-photo").click()
    site.locator(".tl-answer").wait_for()
    assert set(site.locator(".tl-prob span:first-child").all_inner_texts()) == names
    site.reload()
    tab(site, "3 Results")
    site.locator(".tl-confusion").wait_for()
    assert set(site.locator(".tl-confusion tbody th").all_text_contents()) == names
    assert not dialogs
    assert site.locator("img[src=x]").count() == 0


def test_photos_are_tested_one_or_several_pasted_or_from_the_camera_and_an_unreadable_one_is_named(
    own_run, site, tmp_path
):
    tab(site, "4 Test")
    site.locator("#photos .tl-drop[data-state=ready]").wait_for()
    site.evaluate(
        """async () => {
          const canvas = new OffscreenCanvas(64, 64), context = canvas.getContext('2d');
          context.fillStyle = 'rgb(200, 40, 40)'; context.fillRect(0, 0, 64, 64);
          const data = new DataTransfer();
          data.items.add(new File([await canvas.convertToBlob()], 'image.png', {type: 'image/png'}));
          document.dispatchEvent(new ClipboardEvent('paste', {clipboardData: data, bubbles: true}));
        }"""
    )
    site.locator(".tl-answer .tl-label").wait_for()
    zone = site.locator("#photos input.files")
    zone.set_input_files(photo(tmp_path / "red.png", (200, 40, 40), 77))
    site.locator(".tl-answer .tl-file", has_text="red.png").wait_for()
    (tmp_path / "broken.jpg").write_text("no photo")
    zone.set_input_files(
        [tmp_path / "red.png", photo(tmp_path / "blue.png", (40, 40, 200), 78), tmp_path / "broken.jpg"]
    )
    site.locator(".tl-answers tbody tr").nth(1).wait_for()
    assert "broken.jpg is a text file, not a photo" in site.locator("#answers .tl-error").inner_text()
    assert site.locator(".tl-answers tbody tr").count() == 2
    site.context.grant_permissions(["camera"])
    site.locator("#camera-box > button").click()
    site.get_by_role("button", name=re.compile("Click to Access Webcam|access webcam", re.I)).click()
    until(lambda: site.locator("#camera video").evaluate("video => video.readyState >= 2 && video.videoWidth > 0"), 30)
    site.locator("#camera button[aria-label='capture photo']").click()
    site.locator(".tl-answer .tl-file", has_text="camera").wait_for()


def test_what_is_missing_is_said_by_the_live_view_too_and_led_to_and_light_or_dark_is_kept(site):
    tab(site, "4 Test")
    site.locator("#top-test", has_text="no model to test yet").wait_for()
    site.context.grant_permissions(["camera"])
    site.locator("#live-box > button").click()
    site.get_by_role("button", name="Start the live view").click()
    site.locator("#live .failed", has_text="There is no model yet").wait_for()
    site.get_by_role("button", name="Start the live view").wait_for()
    site.locator("#way-test").click()
    site.locator("#top-train", has_text="There are no photos yet").wait_for()
    site.locator("#way-train").click()
    site.locator("#drop .tl-drop[data-state=ready]").wait_for()
    is_dark = "document.body.classList.contains('dark')"
    before = site.evaluate(is_dark)
    site.locator("#theme").click()
    assert site.evaluate(is_dark) is not before
    site.reload()
    site.locator("#drop .tl-drop[data-state=ready]").wait_for()
    until(lambda: site.evaluate(is_dark) is not before, 30)


@pytest.mark.parametrize("site", ["?__theme=light"], indirect=True)
def test_a_phone_needs_no_sideways_scrolling_in_any_tab_light_or_dark(own_run, site, tmp_path, known_trials):
    site.set_viewport_size({"width": 390, "height": 800})
    load(site, fill(tmp_path / "photos", {"reds": 6, "blues": 9, "a class whose name does not fit on a phone": 6}))
    site.locator("#try-them").click()
    site.locator(".tl-trials").wait_for()
    shows = {"1 Data": "#demo", "2 Train": ".tl-trials", "3 Results": ".tl-confusion", "4 Test": "#try-test-photo"}
    for theme in ("light", "dark"):
        assert site.evaluate("document.body.classList.contains('dark')") == (theme == "dark")
        for name, there in shows.items():
            tab(site, name)
            site.locator(there).wait_for()
            assert site.evaluate("document.documentElement.scrollWidth") <= 390, (name, theme)
        site.locator("#theme").click()


def test_on_a_phone_the_preview_stays_in_sight_beside_the_slider_that_is_moved(site, folder):
    site.set_viewport_size({"width": 390, "height": 800})
    load(site, folder)
    site.locator("#preview img").first.wait_for()
    for number in range(11):
        slider = site.locator("#sliders input[type=range]").nth(number)
        slider.focus()
        views, moved = site.locator("#preview .tl-views").bounding_box(), slider.bounding_box()
        assert views["y"] >= 0
        assert views["y"] + views["height"] <= moved["y"] <= 800 - moved["height"], number


def test_on_a_phone_nothing_of_the_sliders_lies_above_the_preview(site, folder):
    site.set_viewport_size({"width": 390, "height": 800})
    load(site, folder)
    site.locator("#preview img").first.wait_for()
    above = """() => {
      const preview = document.querySelector('#preview');
      return [...document.querySelectorAll('#sliders :is(label span, input)')].map((part) => {
        scrollTo(0, scrollY + part.getBoundingClientRect().top - 100);
        const {x, y, width, height} = part.getBoundingClientRect();
        return preview.contains(document.elementFromPoint(x + width / 2, y + height / 2));
      });
    }"""
    covered = site.evaluate(above)
    assert len(covered) >= 33
    assert all(covered)


@pytest.mark.parametrize(("n", "fits"), [(2, True), (6, True), (40, False)])
def test_on_a_phone_the_matrix_of_six_classes_fits_and_a_larger_one_shows_that_there_is_more(site, own_run, n, fits):
    site.set_viewport_size({"width": 390, "height": 800})
    tab(site, "3 Results")
    site.locator(".tl-confusion").wait_for()
    classes = [f"sunflower {i}" for i in range(n)]
    html = matrix.confusion({"confusion": (10 * np.eye(n, dtype=int) + 1).tolist(), "classes": classes})
    site.locator("#counts section").evaluate("(part, html) => { part.outerHTML = html; }", html)
    scroll = site.locator("#counts .tl-scroll")
    assert scroll.evaluate("e => e.scrollWidth <= e.clientWidth") == fits
    strip = site.locator("#counts .tl-scroll").bounding_box()
    strip |= {"x": strip["x"] + strip["width"] - 8, "width": 8, "height": 12}  # beside the heads, where nothing stands
    shot = Image.open(io.BytesIO(site.screenshot(clip=strip))).convert("L")
    darkest, lightest = shot.getextrema()
    assert (lightest - darkest > 40) != fits, "the edge is shaded where there is more"
    assert site.locator("#details .tl-scroll").evaluate("e => e.scrollWidth <= e.clientWidth")


def test_a_number_typed_beside_a_slider_is_taken_whatever_was_typed_on_the_way(site, own_run):
    refused = []
    site.on("response", lambda response: response.ok or refused.append(response.url))
    tab(site, "3 Results")
    site.locator("#keep-cost", has_text="Answers about 95 %").wait_for()
    box = site.locator("#keep input[type=number]")
    for typed, taken in (("80", 80), ("91", 91), ("8", 80), ("985", 99), ("", 99), ("85", 85)):
        box.press("Control+a")
        box.press("Delete")
        box.press_sequentially(typed)
        if typed != str(taken):
            box.press("Tab")
        site.locator("#keep-cost", has_text=f"Answers about {taken} %").wait_for()
        until(lambda taken=taken: own_run.keep() == taken / 100, 30)
        assert box.input_value() == str(taken)
    assert not refused


@pytest.mark.parametrize("site", ["?__theme=dark"], indirect=True)
def test_dark_mode_is_dark_and_its_words_can_be_read(own_run, site, folder, known_trials):
    load(site, folder)
    site.locator("#try-them").click()
    site.locator(".tl-trials").wait_for()
    for selector in (".tl-trials th", ".tl-trials td", ".tl-best th", "#tried caption"):
        colour = site.locator(selector).last.evaluate("e => getComputedStyle(e).color")
        assert luminance(colour) > (0.3 if "caption" not in selector else 0.15), selector
    tab(site, "3 Results")
    site.locator("#score .tl-score").wait_for()
    assert luminance(site.evaluate("getComputedStyle(document.querySelector('gradio-app')).backgroundColor")) < 0.1
    for selector in ("#score .tl-score", "#details .tl-table td", ".tl-confusion th", ".tl-hit", "#keep-cost p"):
        colour = site.locator(selector).first.evaluate("e => getComputedStyle(e).color")
        assert luminance(colour) > 0.3, selector


def luminance(colour):
    red, green, blue = (int(part) / 255 for part in re.findall(r"\d+", colour)[:3])
    return 0.2126 * red**2.2 + 0.7152 * green**2.2 + 0.0722 * blue**2.2


def test_the_line_for_strangers_says_what_it_costs_and_is_used_by_the_answers(site, own_run):
    tab(site, "3 Results")
    site.locator("#certainty .tl-reliability circle").first.wait_for()
    cost = site.locator("#keep-cost")
    cost.filter(has_text="Answers about 95 % of the photos of your classes: of 4 validation photos").wait_for()
    tested = site.locator("#keep-tested")
    assert re.search(r"On the test photos, .* turned away \d of 8", tested.inner_text())
    slider = site.locator("#keep input[type=range]")
    slider.fill("80")
    cost.filter(has_text="Answers about 80 %").wait_for()
    until(lambda: own_run.keep() == 0.8, 30)
    until(lambda: not tested.inner_text(), 30)  # while the line is chosen, test photos have no say
    site.locator("#test-keep").click()
    tested.filter(has_text="On the test photos").wait_for()
    site.locator("#test-keep").wait_for(state="hidden")
    tab(site, "4 Test")
    site.locator("#try-test-photo").click()
    site.locator("#answers .tl-prob").first.wait_for()
    tab(site, "3 Results")
    site.reload()
    tab(site, "3 Results")
    until(lambda: slider.input_value() == "80", 30)


def test_cards_and_answers_that_are_shown_follow_the_line(site, own_run, tmp_path):
    report = own_run.report()
    for one in report["photos"]:
        one["strangeness"] = 0.9
    own_run.deliver(own_run.model(), report, own_run.learned())
    tab(site, "4 Test")
    drop_on(site.locator("#photos .tl-drop"), fill(tmp_path / "many", {"a": 3}, seed=900))
    site.locator(".tl-answers tbody tr").nth(2).wait_for()
    sheet = list(sheets._sheets.values())[-1]
    sheet.answers = [dataclasses.replace(answer, strangeness=0.9, unknown=False) for answer in sheet.answers]
    site.locator(".tl-wrong").first.click()
    site.locator(".tl-right").select_option(label="reds")
    site.locator("#to-add").filter(has_text="no photos in this browser").wait_for()
    tab(site, "3 Results")
    site.locator("#counts button[data-pick]").first.click()
    marks = site.locator("#cell .tl-none")
    marks.first.wait_for(state="attached")
    assert not marks.first.is_visible()

    def unknown():
        with site.expect_download() as download:
            site.get_by_role("button", name="Save predictions (CSV)").click()
        return sum(row["unknown"] == "true" for row in csv.DictReader(download.value.path().open()))

    photos = len(report["photos"])
    assert unknown() == 0
    site.locator("#keep input[type=range]").fill("85")
    until(lambda: own_run.keep() == 0.85, 30)
    assert unknown() == photos
    assert not marks.first.is_visible()
    site.locator("#test-keep").click()
    marks.first.wait_for()
    site.locator("#keep input[type=range]").fill("86")
    marks.first.wait_for(state="hidden")
    until(lambda: own_run.keep() == 0.86, 30)
    tab(site, "4 Test")
    site.locator(".tl-answers td", has_text="None of these, perhaps").nth(2).wait_for()
    assert site.locator(".tl-right").evaluate("list => list.selectedOptions[0].textContent") == "reds"
    with site.expect_download() as download:
        site.locator("#answers-csv").click()
    assert download.value.path().read_text().count("none of these") == 3


def test_the_answer_for_a_test_photo_follows_a_line_that_was_moved_elsewhere(site, own_run, monkeypatch):
    look = predict.Predictor.look
    monkeypatch.setattr(
        predict.Predictor, "look", lambda self, photos: (look(self, photos)[0], np.full(len(photos), 0.9))
    )
    tab(site, "4 Test")
    assert "None of these" not in answer(site)
    file = site.locator(".tl-answer .tl-file").last.inner_text()
    own_run.set_keep(0.8)
    tab(site, "3 Results")
    tab(site, "4 Test")
    site.locator(".tl-answer .tl-label", has_text="None of these, perhaps").wait_for()
    assert site.locator(".tl-answer .tl-file").last.inner_text() == file
