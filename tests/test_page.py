"""The page in a real browser: from photos to a prediction by mouse, and what must survive on the way."""

import os
import re
import shutil

import pytest
from conftest import drop_on, fill, photo, quick, until

from tlapp import catalog, dataset, demo, jobs, runs, ui
from tlapp.events import EpochFinished
from tlapp.plan import Augmentation
from tlapp.ui import preview

LONG = {"epochs": "9000", "patience": "0"}


@pytest.fixture(scope="module")
def served(tmp_path_factory, browser):
    """One served page; each test has a workspace of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TLAPP_HOME", str(tmp_path_factory.mktemp("page")))
        page = ui.launch(port=0, browser=False, wait=False)
        yield page
        page.close()


@pytest.fixture
def site(served, page, home, small_pictures):
    """The page, opened, with small pictures; whatever still trains at the end is stopped."""
    page.goto(served.url)
    page.locator("#drop .tl-drop[data-state=ready]").wait_for()
    yield page
    page.close()
    jobs.close()


def tab(page, name):
    page.get_by_role("tab", name=name).click()


def load_path(page, folder):
    page.locator("#path input, #path textarea").fill(str(folder))
    page.locator("#read-path").click()


def load(page, folder):
    load_path(page, folder)
    page.locator(".tl-class").first.wait_for()
    tab(page, "2 Train")
    page.locator("#train:not([disabled])").wait_for()


def set_numbers(page, **values):
    """Type settings under "More"."""
    page.locator("#more > button").click()
    for name, value in values.items():
        box = page.locator(f"#set-{name} input")
        box.fill(value)
        box.press("Tab")
    page.locator("#train:not([disabled])").wait_for()


def start_long(page, folder):
    """A run of thousands of epochs, each a moment, so that there is always something to stop."""
    load(page, folder)
    set_numbers(page, **LONG)
    page.locator("#train").click()
    page.locator("#status dd", has_text=re.compile(r"^[2-9]\d* of 9000")).wait_for()


def the_run(home):
    return runs.all_runs(home)[-1]


@pytest.fixture
def folder(tmp_path):
    return fill(tmp_path / "photos", {"reds": 8, "blues": 8})


def test_from_the_demo_set_to_a_tested_photo_by_mouse_alone(site, home):
    site.locator("#demo").click()
    site.locator(".tl-class").nth(3).wait_for()
    assert site.locator(".tl-class").count() == len(demo.CLASSES)
    assert site.locator(".tl-class img").count() == 6 * len(demo.CLASSES)
    site.locator("#top-data", has_text="84 photos, 4 classes, 0 skipped").wait_for()
    site.locator("#to-train").click()
    site.locator("#train:not([disabled])", has_text=re.compile("Train · about")).click()
    site.locator("#to-test").wait_for()
    assert re.search(r"\d+ of 24", site.locator("#status").inner_text())
    assert the_run(home).state() == "finished"
    site.locator("#to-test").click()
    site.locator("#try-test-photo").click()
    site.locator(".tl-answer .tl-label").wait_for()
    shares = [int(re.sub(r"\D", "", text)) for text in site.locator(".tl-prob span:last-child").all_inner_texts()]
    assert len(shares) == 4
    assert 97 <= sum(shares) <= 103
    assert shares == sorted(shares, reverse=True)
    tab(site, "3 Results")
    cells = site.locator(".tl-confusion tbody td").all_inner_texts()
    assert sum(int(cell or 0) for cell in cells) == 24
    assert the_run(home).id in site.locator("#runs").inner_text()


def test_a_chosen_folder_reaches_the_page_with_its_classes_and_what_it_skipped(site, folder):
    (folder / "reds" / "notes.txt").write_text("not a photo")
    site.locator("#drop input.folder").set_input_files(folder)
    site.locator(".tl-class").nth(1).wait_for()
    assert site.locator(".tl-name").all_inner_texts() == ["blues", "reds"]
    site.get_by_text("Skipped 1 file").click()
    site.get_by_text("is a text file, not a photo").wait_for()


def test_a_dropped_folder_replaces_or_adds_and_a_class_can_be_taken_out(site, folder, tmp_path):
    drop_on(site.locator("#drop"), folder)
    site.locator("#top-data", has_text="16 photos, 2 classes").wait_for()
    site.locator("#change > button").click()
    site.get_by_label("add to the photos").check()
    drop_on(site.locator("#drop"), fill(tmp_path / "more", {"greens": 5, "reds": 3}, seed=500))
    site.locator("#top-data", has_text="24 photos, 3 classes").wait_for()
    site.locator("#class-out input").click()
    site.get_by_role("option", name="greens").click()
    site.locator("#take-out").click()
    site.locator("#top-data", has_text="19 photos, 2 classes").wait_for()
    site.locator("#forget").click()
    site.locator("#overview", has_text="No photos yet").wait_for()


def make(tmp_path, kind):
    """A source that cannot be trained on."""
    root = tmp_path / "source"
    if kind == "missing":
        return root
    root.mkdir()
    if kind == "flat":
        photo(root / "one.png", (1, 2, 3), 1)
    elif kind == "one class":
        fill(root, {"reds": 4})
    elif kind == "one photo":
        fill(root, {"reds": 4, "blues": 1})
    elif kind == "no zip":
        root = root / "photos.txt"
        root.write_text("hello")
    return root


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        ("missing", "does not exist. Give a folder"),
        ("empty", "is empty. Give a folder"),
        ("flat", "no sub-folders with photos"),
        ("one class", "usable photos of one class only"),
        ("one photo", "only one photo of"),
        ("no zip", "is a file, but not a zip"),
    ],
)
def test_a_source_that_cannot_be_used_is_answered_by_one_sentence(site, tmp_path, kind, sentence):
    load_path(site, make(tmp_path, kind))
    site.locator("#reading-progress .tl-error", has_text=sentence).wait_for()
    assert "Traceback" not in site.content()


def test_an_error_leaves_the_photos_and_settings_that_were_there(site, folder, tmp_path):
    load(site, folder)
    site.get_by_label("Fine-tune the last block").check()
    site.locator("#what-learns", has_text="Fine-tuning from top on").wait_for()
    tab(site, "1 Data")
    load_path(site, tmp_path / "nowhere")
    site.locator("#reading-progress .tl-error").wait_for()
    assert "16 photos" in site.locator("#top-data").inner_text()
    tab(site, "2 Train")
    assert site.get_by_label("Fine-tune the last block").is_checked()
    assert not site.locator("#blocks input").last.is_checked()


def views(page):
    return page.locator("#preview img").evaluate_all("images => images.map(image => image.src)")


def expected_views(home, degrees):
    """What the preview must show at this rotation, made by the library."""
    data = dataset.load(next(path for path in (home / "datasets").iterdir() if path.is_dir()))
    made = preview.views(data, 0, 0, Augmentation(rotation=degrees), catalog.get(catalog.INCLUDED))
    return re.findall('src="([^"]+)"', made)


def test_the_preview_follows_a_slider_by_mouse_and_keyboard_to_its_last_value(site, folder, home):
    load(site, folder)
    assert views(site) == expected_views(home, 0)
    slider = site.locator("#aug-rotation input[type=range]")
    box = slider.bounding_box()
    site.mouse.move(box["x"] + 2, box["y"] + box["height"] / 2)
    site.mouse.down()
    for step in range(1, 11):
        site.mouse.move(box["x"] + box["width"] * step / 10, box["y"] + box["height"] / 2)
    site.mouse.up()
    assert slider.input_value() == "180"
    until(lambda: views(site) == expected_views(home, 180), 30)
    slider.focus()
    for _ in range(12):
        site.keyboard.press("ArrowLeft")
    assert slider.input_value() == "120"
    until(lambda: views(site) == expected_views(home, 120), 30)
    until(lambda: site.get_by_label("custom").is_checked(), 30)
    for _ in range(24):
        site.keyboard.press("ArrowLeft")
    until(lambda: site.get_by_label("light").is_checked(), 30)


def test_ticks_presets_and_the_sentence_agree(site, folder):
    load(site, folder)
    boxes = site.locator("#blocks input")
    assert boxes.count() == 9
    assert all(box.is_checked() for box in boxes.all())
    site.get_by_label("Fine-tune the last block").check()
    until(lambda: [box.is_checked() for box in boxes.all()] == [True] * 8 + [False], 30)
    site.locator("#what-learns", has_text="Fine-tuning from top on").wait_for()
    site.get_by_label("Fine-tune everything").check()
    site.locator("#what-learns", has_text="Everything learns").wait_for()
    assert not any(box.is_checked() for box in boxes.all())
    for box in boxes.all():
        box.check()
    until(lambda: site.get_by_label("Feature extraction").is_checked(), 30)
    boxes.nth(3).uncheck()
    until(lambda: not site.get_by_label("Feature extraction").is_checked(), 30)
    site.locator("#what-learns", has_text="behind a learning block saves nothing").wait_for()


def test_a_resnet_without_weights_shows_its_blocks_and_why_it_cannot_train(site, folder):
    load(site, folder)
    site.get_by_label("ResNet-18").check()
    site.locator("#blocks", has_text="layer4").wait_for()
    assert site.locator("#blocks input").count() == 5
    site.locator("#weights", has_text="official weights (45 MB) are not on this machine").wait_for()
    site.locator("#train[disabled]").wait_for()
    site.locator("#why-not", has_text="fetch them").wait_for()
    site.get_by_label("EfficientNet-Lite0").check()
    site.locator("#train:not([disabled])").wait_for()


def test_a_fetch_that_fails_is_said_and_leaves_all_as_it_was(site, folder, monkeypatch):
    monkeypatch.setenv("TLAPP_WEIGHTS_MIRROR", "http://127.0.0.1:9")
    load(site, folder)
    site.get_by_label("ResNet-18").check()
    site.locator("#fetch").click()
    site.locator("#weights-said .tl-error", has_text="could not be fetched").wait_for()
    assert site.get_by_label("ResNet-18").is_checked()
    assert site.locator("#train").is_disabled()


def test_a_weights_file_of_the_persons_own_is_used(site, folder, tmp_path, home):
    import torch
    import torchvision

    load(site, folder)
    site.get_by_label("ResNet-18").check()
    (tmp_path / "bad.pth").write_bytes(b"no weights")
    choose(site, "#weights-file", tmp_path / "bad.pth")
    site.locator("#weights-said .tl-error", has_text="cannot be read").wait_for()
    torch.save(torchvision.models.resnet18().state_dict(), tmp_path / "mine.pth")
    choose(site, "#weights-file", tmp_path / "mine.pth")
    site.locator("#weights", has_text="your file").wait_for()
    set_numbers(site, epochs="2")
    site.locator("#train").click()
    site.locator("#to-test").wait_for()
    plan = the_run(home).plan
    assert plan.backbone == "resnet18"
    assert plan.weights.startswith(str(home / "weights"))


def test_a_wrong_setting_is_said_beside_the_button(site, folder):
    load(site, folder)
    site.locator("#more > button").click()
    site.locator("#set-epochs input").fill("0")
    site.locator("#set-epochs input").press("Tab")
    site.locator("#why-not", has_text="epochs is 0; it must be from 1").wait_for()
    assert site.locator("#train").is_disabled()


def choose(page, button, file):
    with page.expect_file_chooser() as chooser:
        page.locator(button).click()
    chooser.value.set_files(file)


def drawn(page):
    return page.locator("#plot svg").first.inner_html()


def test_a_run_streams_and_outlives_reload_and_page_and_stops_from_a_second_tab(site, served, folder, home):
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
    site.goto(served.url)
    tab(site, "2 Train")
    site.locator("#status", has_text="Stopped after epoch").wait_for()
    assert the_run(home).has_model()


def test_a_stopped_run_resumes_where_it_was(site, folder, home):
    start_long(site, folder)
    site.locator("#stop").click()
    site.locator("#status", has_text="Stopped after epoch").wait_for()
    stopped = the_run(home).events()[0][-1].epochs
    site.locator("#resume").click()
    site.locator("#status dd", has_text="of 9000").first.wait_for()
    until(lambda: any(type(e).__name__ == "Resumed" for e in the_run(home).events()[0]), 60)
    resumed = next(e for e in the_run(home).events()[0] if type(e).__name__ == "Resumed")
    assert resumed.epoch == stopped
    assert len(runs.all_runs(home)) == 1


def test_a_run_started_elsewhere_is_seen_and_stopped(site, folder, home):
    data = dataset.scan(folder)
    run = jobs.start(data, quick(data, epochs=9000, patience=0))
    until(lambda: any(isinstance(event, EpochFinished) for event in run.events()[0]))
    tab(site, "2 Train")
    site.locator("#status dd", has_text="of 9000").first.wait_for()
    site.locator("#strip-stop").click()
    until(lambda: run.state() == "stopped", 30)
    site.locator("#status", has_text="Stopped after epoch").wait_for()


def test_a_damaged_run_is_named_and_spoils_no_other(site, own_run, home):
    other = home / "runs" / "0002-aaaaaa"
    shutil.copytree(own_run.path, other)
    (other / "report.json").write_text("{")
    tab(site, "3 Results")
    site.locator(".tl-score").wait_for()
    assert "0002-aaaaaa" in site.locator("#runs").inner_text()
    tab(site, "4 Test")
    site.locator("#top-test", has_text=own_run.id).wait_for()


def test_results_are_taken_home_as_files(site, own_run, tmp_path):
    tab(site, "3 Results")
    site.locator("#make-files").click()
    for label, start in (("Curves (PNG)", b"\x89PNG"), ("Confusion matrix (PNG)", b"\x89PNG"),
                         ("Predictions (CSV)", b"file,class"), ("Report (JSON)", b"{")):  # fmt: skip
        with site.expect_download() as download:
            site.get_by_role("button", name=label).click()
        download.value.save_as(tmp_path / "file")
        assert (tmp_path / "file").read_bytes().startswith(start), label


def test_a_second_run_waits_and_says_so(site, folder, home):
    start_long(site, folder)
    site.locator("#train").click()
    site.locator("#status", has_text="Waits its turn: 1 run before it").wait_for()
    assert len(runs.all_runs(home)) == 2
    jobs.close()
    site.locator("#status", has_text="Stopped").wait_for()


def test_a_run_that_fails_says_why(site, folder, home):
    load(site, folder)
    set_numbers(site, head_rate="10", weight_decay="10", epochs="3")
    data = dataset.load(next(path for path in (home / "datasets").iterdir() if path.is_dir()))
    shutil.move(data.folder / "photos.bin", data.folder / "gone")
    site.locator("#train").click()
    site.locator("#status .tl-error", has_text="copy of the photos").wait_for()


HOSTILE = ["<img src=x onerror=alert(1)>", "$a_$ **b** [c](javascript:alert(1))", "ünï çödé 🐝"]


def test_hostile_names_are_shown_literally_everywhere(site, tmp_path, home):
    root = tmp_path / "photos"
    for n, name in enumerate(HOSTILE):
        for i in range(6):
            colour = ((200, 40, 40), (40, 40, 200), (40, 180, 40))[n]
            photo(root / name / f"<b>{i}<script>alert(1)<script>.png", colour, 10 * n + i)
    dialogs = []
    site.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
    load_path(site, root)
    site.locator(".tl-class").nth(2).wait_for()
    assert set(site.locator(".tl-name").all_inner_texts()) == set(HOSTILE)
    site.locator("#change > button").click()
    site.locator("#class-out input").click()
    options = site.get_by_role("option").all_text_contents()
    assert {option.replace("✓", "").strip() for option in options} == set(HOSTILE)
    site.keyboard.press("Escape")
    tab(site, "2 Train")
    site.locator("#preview", has_text="<b>0<script>").wait_for()
    site.locator("#train:not([disabled])").wait_for()
    set_numbers(site, epochs="1")
    site.locator("#train").click()
    site.locator("#to-test").wait_for()
    tab(site, "3 Results")
    site.locator(".tl-confusion").wait_for()
    heads = site.locator(".tl-confusion tbody th").all_text_contents()
    assert set(heads) == set(HOSTILE)
    tab(site, "4 Test")
    site.locator("#try-test-photo").click()
    site.locator(".tl-answer").wait_for()
    assert set(site.locator(".tl-prob span:first-child").all_inner_texts()) == set(HOSTILE)
    assert not dialogs
    assert site.locator("img[src=x]").count() == 0


def test_names_that_are_not_utf8_are_shown_as_escapes_and_break_nothing(site, tmp_path, home):
    name = os.fsdecode(b"caf\xe9")
    fill(tmp_path / "photos", {"reds": 6, name: 6})
    load(site, tmp_path / "photos")
    tab(site, "1 Data")
    assert site.locator(".tl-name").all_inner_texts() == [r"caf\udce9", "reds"]
    site.locator("#change > button").click()
    site.locator("#class-out input").click()
    site.get_by_role("option", name=r"caf\udce9").wait_for()
    site.keyboard.press("Escape")
    tab(site, "2 Train")
    set_numbers(site, epochs="1")
    site.locator("#train").click()
    site.locator("#to-test").click()
    site.locator("#try-test-photo").click()
    site.locator(".tl-prob", has_text=r"caf\udce9").wait_for()
    site.reload()
    tab(site, "3 Results")
    site.locator(".tl-confusion").wait_for()


def test_photos_are_tested_one_or_several_and_an_unreadable_one_is_named(site, own_run, tmp_path):
    site.reload()
    tab(site, "4 Test")
    site.locator("#photos .tl-drop[data-state=ready]").wait_for()
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


def test_a_photo_is_taken_with_the_camera(site, own_run):
    site.context.grant_permissions(["camera"])
    tab(site, "4 Test")
    site.locator("#camera-box > button").click()
    site.get_by_role("button", name=re.compile("Click to Access Webcam|access webcam", re.I)).click()
    until(lambda: site.locator("#camera video").evaluate("video => video.readyState >= 2 && video.videoWidth > 0"), 30)
    site.locator("#camera button[aria-label='capture photo']").click()
    site.locator(".tl-answer .tl-file", has_text="camera").wait_for()


def test_a_photo_is_pasted(site, own_run):
    site.reload()
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


def test_what_is_missing_is_said_and_led_to(site):
    tab(site, "4 Test")
    site.locator("#top-test", has_text="no model to test yet").wait_for()
    site.locator("#way-test").click()
    site.locator("#top-train", has_text="There are no photos yet").wait_for()
    site.locator("#way-train").click()
    site.locator("#drop .tl-drop[data-state=ready]").wait_for()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_phone_needs_no_sideways_scrolling_in_any_tab(site, served, own_run, theme):
    site.set_viewport_size({"width": 390, "height": 800})
    site.goto(f"{served.url}?__theme={theme}")
    site.locator("#drop .tl-drop[data-state=ready]").wait_for()
    site.locator("#demo").click()
    site.locator(".tl-class").first.wait_for()
    for name in ("1 Data", "2 Train", "3 Results", "4 Test"):
        tab(site, name)
        site.locator({"1": "#demo", "2": "#train", "3": ".tl-confusion", "4": "#try-test-photo"}[name[0]]).wait_for()
        assert site.evaluate("document.documentElement.scrollWidth") <= 390, name


def test_light_and_dark_are_switched_and_kept(site):
    is_dark = "document.body.classList.contains('dark')"
    before = site.evaluate(is_dark)
    site.locator("#theme").click()
    assert site.evaluate(is_dark) is not before
    site.reload()
    site.locator("#drop .tl-drop[data-state=ready]").wait_for()
    until(lambda: site.evaluate(is_dark) is not before, 30)


def test_dark_mode_is_dark_and_its_words_can_be_read(site, served, own_run):
    site.goto(f"{served.url}?__theme=dark")
    tab(site, "3 Results")
    site.locator(".tl-score").wait_for()
    assert luminance(site.evaluate("getComputedStyle(document.querySelector('gradio-app')).backgroundColor")) < 0.1
    for selector in (".tl-score", ".tl-table td", ".tl-confusion th", ".tl-hit"):
        colour = site.locator(selector).first.evaluate("e => getComputedStyle(e).color")
        assert luminance(colour) > 0.3, selector


def luminance(colour):
    red, green, blue = (int(part) / 255 for part in re.findall(r"\d+", colour)[:3])
    return 0.2126 * red**2.2 + 0.7152 * green**2.2 + 0.0722 * blue**2.2
