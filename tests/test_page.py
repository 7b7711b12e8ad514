"""The page in a real browser: from photos to a prediction by mouse, and what must survive on the way."""

import os
import re
import shutil
import time

import pytest
from conftest import drop_on, fill, is_local, photo, quick, until

from tlapp import catalog, dataset, demo, jobs, runs, tune, ui, workspace
from tlapp.events import EpochFinished, Judged
from tlapp.plan import Augmentation
from tlapp.settings import SGD_ONLY
from tlapp.tune import Trial, Tuned
from tlapp.ui import preview

LONG = {"epochs": "9000", "patience": "0"}
BLOCKS = catalog.get(catalog.INCLUDED).block_names


@pytest.fixture(scope="module")
def served(tmp_path_factory, browser):
    """One served page; each test has a workspace of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TLAPP_HOME", str(tmp_path_factory.mktemp("page")))
        page = ui.launch(port=0, browser=False, wait=False)
        yield page
        page.close()


@pytest.fixture(scope="module")
def window(served, browser):
    """One browser profile, so that the page's scripts are read once, and what it did that it must not."""
    context = browser.new_context(viewport={"width": 1280, "height": 800}, service_workers="block")
    context.set_default_timeout(60_000)
    wrong = []
    context.on("request", lambda request: is_local(request.url) or wrong.append(request.url))
    context.on("weberror", lambda error: wrong.append(str(error.error)))
    yield context, wrong
    context.close()


@pytest.fixture
def page(window, served):
    """A page without a past. By its end no request has left this machine and no script has failed."""
    context, wrong = window
    page = context.new_page()
    page.set_viewport_size({"width": 1280, "height": 800})
    origin = {"origin": served.url.rstrip("/"), "storageTypes": "local_storage,cookies,indexeddb"}
    context.new_cdp_session(page).send("Storage.clearDataForOrigin", origin)
    yield page
    for one in context.pages:
        one.close()
    context.clear_permissions()
    said = wrong.copy()
    wrong.clear()
    assert not said


@pytest.fixture
def site(served, page, home, small_pictures, request):
    """The page, opened, with small pictures; whatever still trains at the end is stopped."""
    page.goto(served.url + getattr(request, "param", ""))
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
    if SGD_ONLY & set(values):
        until(lambda: choice(page, "set-solver", "sgd").is_checked(), 30)
    page.locator("#train:not([disabled])").wait_for()


def choice(page, group, value):
    """One of the radio buttons of a group."""
    return page.locator(f"#{group} input[value='{value}']")


def chosen(page, *groups):
    """What stands chosen in each of these groups of radio buttons, if anything; of one group, that alone."""
    look = "groups => groups.map(g => document.querySelector(`#${g} input:checked`)?.value ?? null)"
    values = page.evaluate(look, groups)
    return values if len(groups) > 1 else values[0]


def learning(page):
    """The blocks without a tick."""
    ticks = page.locator("#blocks input").evaluate_all("boxes => boxes.map(box => box.checked)")
    return [name for name, is_frozen in zip(BLOCKS, ticks, strict=True) if not is_frozen]


@pytest.fixture
def calm(monkeypatch):
    """Epochs take a moment each, so that a long run leaves the processor to the page."""
    append = runs.Run.append

    def slowly(run, event):
        append(run, event)
        if isinstance(event, EpochFinished):
            time.sleep(0.05)

    monkeypatch.setattr(runs.Run, "append", slowly)


def start_long(page, folder):
    """A run of thousands of epochs, so that there is always something to stop."""
    load(page, folder)
    set_numbers(page, **LONG)
    page.locator("#train").click()
    page.locator("#status dd", has_text=re.compile(r"^([2-9]|\d\d+) of 9000")).wait_for()


def own_runs(home):
    """The runs that a person started, not those that make the instant model."""
    return [run for run in runs.all_runs(home) if not run.plan.is_instant]


def the_run(home):
    return until(lambda: own_runs(home), 30)[-1]


def the_instant(home):
    (run,) = [run for run in runs.all_runs(home) if run.plan.is_instant]
    return run


def train_to_the_end(page, home):
    """Press Train and wait until the score of that very run is shown; the run."""
    n = len(own_runs(home))
    page.locator("#train").click()
    run = until(lambda: own_runs(home)[n:], 30)[0]
    page.locator("#status", has_text=run.id).locator(".tl-score").wait_for()
    return run


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
    site.locator("#train:not([disabled])", has_text=re.compile("Train · about")).wait_for()
    run = train_to_the_end(site, home)
    assert re.search(r"\d+ of 24", site.locator("#status").inner_text())
    assert run.state() == "finished"
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
    assert "each held out while the head was chosen" in site.locator("#score").inner_text()
    assert {run.id, the_instant(home).id} <= set(site.locator("#runs").inner_text().split())


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


def make(root, kind):
    """A source that cannot be trained on."""
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


SENTENCES = {
    "missing": "does not exist. Give a folder",
    "empty": "is empty. Give a folder",
    "flat": "no sub-folders with photos",
    "one class": "usable photos of one class only",
    "one photo": "only one photo of",
    "no zip": "is a file, but not a zip",
}


def test_a_source_that_cannot_be_used_is_answered_by_one_sentence(site, tmp_path, home):
    for kind, sentence in SENTENCES.items():
        load_path(site, make(tmp_path / kind, kind))
        site.locator("#reading-progress .tl-error", has_text=sentence).wait_for()
        assert site.locator("#reading-progress .tl-error").count() == 1
        assert "Traceback" not in site.content()
    assert not runs.all_runs(home)


def test_an_error_leaves_the_photos_and_settings_that_were_there(site, folder, tmp_path):
    load(site, folder)
    choice(site, "preset", "Fine-tune the last block").check()
    site.locator("#what-learns", has_text="Fine-tuning from top on").wait_for()
    tab(site, "1 Data")
    load_path(site, tmp_path / "nowhere")
    site.locator("#reading-progress .tl-error").wait_for()
    assert "16 photos" in site.locator("#top-data").inner_text()
    tab(site, "2 Train")
    assert chosen(site, "preset") == "Fine-tune the last block"
    assert learning(site) == ["top"]


@pytest.fixture
def busy(home):
    """Something else trains in this workspace, so that runs wait; `release()` lets them."""
    (home / "runs").mkdir(parents=True, exist_ok=True)
    lock = workspace.lock(home / "runs" / "training.lock")
    with lock:
        yield lock


def answer(page):
    """The answer to one of the test photos, in words."""
    page.locator("#try-test-photo:not([disabled])").click()
    page.locator(".tl-answer .tl-label").wait_for()
    return page.locator(".tl-answer").inner_text()


def test_the_instant_model_is_told_of_and_answers_before_train_is_pressed(site, busy, folder, home):
    load_path(site, folder)
    site.locator("#top-data", has_text="16 photos, 2 classes, 0 skipped · the instant model is being made").wait_for()
    tab(site, "4 Test")
    site.locator("#top-test", has_text="no model to test yet").wait_for()
    busy.release()
    assert f"run {the_instant(home).id} answers" in answer(site)
    tab(site, "1 Data")
    site.locator("#top-data", has_text=re.compile(r"instant model: \d+ %, \d of 4 test photos right")).wait_for()
    assert not own_runs(home)


def test_loading_the_same_photos_again_makes_no_second_instant_model(site, folder, home):
    load(site, folder)
    made = the_instant(home)
    tab(site, "1 Data")
    site.locator("#change > button").click()
    site.locator("#forget").click()
    site.locator("#overview", has_text="No photos yet").wait_for()
    load(site, folder)
    tab(site, "1 Data")
    site.locator("#top-data", has_text="instant model:").wait_for()
    assert runs.all_runs(home) == [made]


def settings(page):
    """All that is set in the Train tab."""
    return page.locator(
        "#aug-strength input, #sliders input, #backbone input, #preset input, #blocks input, #more input"
    ).evaluate_all("boxes => boxes.map(b => ['radio', 'checkbox'].includes(b.type) ? b.checked : b.value)")


def test_the_end_of_the_instant_run_changes_nothing_that_the_person_chose(site, own_run, busy, folder, home):
    shutil.copytree(own_run.path, home / "runs" / "0002-aaaaaa")
    load_path(site, folder)
    site.locator("#top-data", has_text="is being made").wait_for()
    tab(site, "2 Train")
    site.locator("#train:not([disabled])").wait_for()  # what suits the photos is set
    choice(site, "preset", "Fine-tune the last block").check()
    until(lambda: learning(site) == ["top"], 30)
    choice(site, "aug-strength", "strong").check()
    set_numbers(site, dropout="0.5", seed="7")
    until(lambda: chosen(site, "preset") == "Fine-tune the last block + augmentation", 30)
    before = settings(site)
    for name, group in (("4 Test", "pick-model"), ("3 Results", "pick-run")):
        tab(site, name)
        until(lambda group=group: "0002-aaaaaa" in picked(site, group), 30)
        site.locator(f"#{group} input").click()
        site.get_by_role("option", name=own_run.id).click()
    site.locator("#score .tl-score").wait_for()
    busy.release()
    until(lambda: re.search(rf"{the_instant(home).id}\s+finished", site.locator("#runs").inner_text()), 30)
    tab(site, "4 Test")
    assert f"run {own_run.id} answers" in answer(site)
    assert own_run.id in picked(site, "pick-model")
    tab(site, "3 Results")
    assert own_run.id in picked(site, "pick-run")
    tab(site, "2 Train")
    site.locator("#train:not([disabled])").wait_for()
    assert settings(site) == before


def picked(page, group):
    """What a list to choose from shows."""
    return page.locator(f"#{group} input").input_value()


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
    expected = expected_views(home, 180)
    until(lambda: views(site) == expected, 30)
    slider.focus()
    for _ in range(12):
        site.keyboard.press("ArrowLeft")
    assert slider.input_value() == "120"
    expected = expected_views(home, 120)
    until(lambda: views(site) == expected, 30)
    until(lambda: site.get_by_label("custom").is_checked(), 30)
    for _ in range(24):
        site.keyboard.press("ArrowLeft")
    until(lambda: site.get_by_label("light").is_checked(), 30)


def test_ticks_presets_and_the_sentence_agree(site, folder):
    load(site, folder)
    boxes = site.locator("#blocks input")
    assert boxes.count() == 9
    assert all(box.is_checked() for box in boxes.all())
    choice(site, "preset", "Fine-tune everything").check()
    site.locator("#what-learns", has_text="Everything learns").wait_for()
    assert learning(site) == list(BLOCKS)
    choice(site, "preset", "Fine-tune the last block").check()
    site.locator("#what-learns", has_text="Fine-tuning from top on").wait_for()
    assert learning(site) == ["top"]
    boxes.last.check()
    until(lambda: chosen(site, "preset") == "Feature extraction", 30)
    boxes.nth(3).uncheck()
    until(lambda: chosen(site, "preset") is None, 30)
    site.locator("#what-learns", has_text="behind a learning block saves nothing").wait_for()


def test_each_preset_sets_ticks_solver_and_augmentation_in_one_click(site, folder):
    load(site, folder)
    site.locator("#more > button").click()
    presets = {"Feature extraction": [], "Fine-tune the last block": ["top"], "Fine-tune everything": list(BLOCKS)}
    for name, blocks in presets.items():
        for more, strength in (("", "off"), (" + augmentation", "light")):
            choice(site, "preset", name + more).check()
            wanted = (blocks, "sgd" if blocks else "exact", strength, name + more)
            until(lambda wanted=wanted: shown(site) == wanted, 30)
            assert site.locator("#aug-crop input[type=number]").input_value() == ("0" if strength == "off" else "36")
    choice(site, "preset", "Auto").check()
    until(lambda: shown(site) == ([], "auto", "light", "Auto"), 30)
    choice(site, "preset", "Feature extraction").check()
    until(lambda: shown(site) == ([], "exact", "off", "Feature extraction"), 30)
    choice(site, "aug-strength", "strong").check()
    until(lambda: shown(site) == ([], "exact", "strong", "Feature extraction + augmentation"), 30)
    choice(site, "preset", "Fine-tune the last block + augmentation").check()
    until(lambda: shown(site) == (["top"], "sgd", "strong", "Fine-tune the last block + augmentation"), 30)


def shown(page):
    """What learns, by which solver, how strongly augmented, and the preset that this is said to be."""
    return learning(page), *chosen(page, "set-solver", "aug-strength", "preset")


def test_solver_ticks_and_settings_of_gradient_descent_follow_each_other(site, folder):
    load(site, folder)
    set_numbers(site, dropout="0.3")
    until(lambda: shown(site) == ([], "sgd", "light", "Feature extraction + augmentation"), 30)
    choice(site, "set-solver", "auto").check()
    until(lambda: shown(site) == ([], "auto", "light", "Auto"), 30)
    ticks = site.locator("#blocks input")
    ticks.nth(8).uncheck()
    until(lambda: shown(site) == (["top"], "sgd", "light", "Fine-tune the last block + augmentation"), 30)
    ticks.nth(8).check()
    until(lambda: shown(site) == ([], "exact", "light", "Feature extraction + augmentation"), 30)
    ticks.nth(3).uncheck()
    until(lambda: shown(site) == ([BLOCKS[3]], "sgd", "light", None), 30)
    choice(site, "set-solver", "exact").check()
    until(lambda: shown(site) == ([], "exact", "light", "Feature extraction + augmentation"), 30)
    choice(site, "set-class_weighting", "balanced").check()
    site.locator("#train:not([disabled])").wait_for()
    assert shown(site) == ([], "exact", "light", "Feature extraction + augmentation")


TRIALS = (
    Trial((), 0.0, 0.9, 0.8, 0.96, 0.3, 0.2, 0.0),
    Trial(("top",), 1e-3, 0.95, 0.86, 0.99, 0.2, 12.5, 130.0),
    Trial(("stage6", "stage7", "top"), 1e-3, 0.85, 0.74, 0.92, 0.4, 100.0, 2000.0, True),
)


@pytest.fixture
def known_trials(monkeypatch):
    """The sweep ends at once, with `TRIALS`, of which the second is the best."""

    def sweep(data, plan, *_):
        yield from TRIALS
        yield Tuned(TRIALS, TRIALS[1], tune.planned(plan, TRIALS[1]))

    monkeypatch.setattr(tune, "sweep", sweep)


def test_trying_shows_a_row_for_each_trial_and_sets_the_best(site, folder, monkeypatch):
    steps, sweep = [], tune.sweep

    def recorded(*given):
        for step in sweep(*given):
            steps.append(step)
            yield step

    monkeypatch.setattr(tune, "sweep", recorded)
    monkeypatch.setattr(tune, "RATES", tune.RATES[:1])
    load(site, folder)
    choice(site, "preset", "Fine-tune everything").check()
    until(lambda: learning(site) == list(BLOCKS), 30)
    site.locator("#try-budget input").fill("5")
    site.locator("#try-them").click()
    site.locator("#tried", has_text="of 5 s").wait_for()
    site.locator(".tl-trials").wait_for()
    trials, best = [step for step in steps if isinstance(step, Trial)], steps[-1].best
    assert len(trials) > 1
    assert site.locator(".tl-trials tbody tr").count() == len(trials)
    assert site.locator(".tl-best th").inner_text() == f"{tune.named(best)} ✓"
    until(lambda: learning(site) == list(best.learning), 30)
    site.locator("#train:not([disabled])").wait_for()


def test_trying_sets_ticks_solver_and_rate_of_the_best_and_can_be_cancelled(site, folder, monkeypatch, known_trials):
    known = tune.sweep

    def endless(data, plan, budget, should_stop):
        yield TRIALS[0]
        until(should_stop)

    monkeypatch.setattr(tune, "sweep", endless)
    load(site, folder)
    site.locator("#more > button").click()
    before = settings(site)
    site.locator("#try-them").click()
    site.locator("#tried", has_text="head alone: 90 % of the validation photos").wait_for()
    site.locator("#try-cancel").click()
    site.locator("#tried", has_text="Trying was cancelled; nothing has changed.").wait_for()
    site.locator("#try-cancel").wait_for(state="hidden")
    assert settings(site) == before
    monkeypatch.setattr(tune, "sweep", known)
    site.locator("#try-them").click()
    site.locator(".tl-trials").wait_for()
    rows = site.locator(".tl-trials tbody tr").all_inner_texts()
    assert [" ".join(row.split()) for row in rows] == [
        "head alone 90 % (80%–96%) exact 0 s –",
        "top, head ✓ 95 % (86%–99%) 0.001 12 s 130 MB",
        "stage6, stage7, top, head 85 % (74%–92%) 0.001 100 s, cut short 2000 MB",
    ]
    until(lambda: shown(site) == (["top"], "sgd", "light", "Fine-tune the last block + augmentation"), 30)
    assert site.locator("#set-fine_tune_rate input").input_value() == "0.001"


def test_trying_says_why_it_cannot_without_photos_and_while_a_run_trains(site, folder, calm):
    tab(site, "2 Train")
    site.locator("#why-not", has_text="There are no photos yet").wait_for()
    site.locator("#try-them").click()
    site.locator("#tried .tl-error", has_text="There are no photos yet. Load them in the Data tab.").wait_for()
    tab(site, "1 Data")
    start_long(site, folder)
    site.locator("#try-them").click()
    site.locator("#tried .tl-error", has_text="A run trains at the moment. Wait until it has ended").wait_for()


def test_a_resnet_without_weights_says_why_it_cannot_train_and_that_a_fetch_failed(site, folder, monkeypatch):
    monkeypatch.setenv("TLAPP_WEIGHTS_MIRROR", "http://127.0.0.1:9")
    load(site, folder)
    site.get_by_label("ResNet-18").check()
    site.locator("#blocks", has_text="layer4").wait_for()
    assert site.locator("#blocks input").count() == 5
    site.locator("#weights", has_text="official weights (45 MB) are not on this machine").wait_for()
    site.locator("#train[disabled]").wait_for()
    site.locator("#why-not", has_text="fetch them").wait_for()
    site.locator("#fetch").click()  # which fails, and leaves all as it was
    site.locator("#weights-said .tl-error", has_text="could not be fetched").wait_for()
    assert site.get_by_label("ResNet-18").is_checked()
    assert site.locator("#train").is_disabled()
    site.get_by_label("EfficientNet-Lite0").check()
    site.locator("#train:not([disabled])").wait_for()


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
    plan = train_to_the_end(site, home).plan
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


def test_a_run_streams_and_outlives_reload_and_page_and_stops_from_a_second_tab(site, served, folder, home, calm):
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
    assert the_run(home).has_model()


def test_a_stopped_run_resumes_where_it_was(site, folder, home, calm):
    start_long(site, folder)
    site.locator("#stop").click()
    site.locator("#status", has_text="Stopped after epoch").wait_for()
    stopped = the_run(home).events()[0][-1].epochs
    site.locator("#resume").click()
    site.locator("#status dd", has_text="of 9000").first.wait_for()
    until(lambda: any(type(e).__name__ == "Resumed" for e in the_run(home).events()[0]), 60)
    resumed = next(e for e in the_run(home).events()[0] if type(e).__name__ == "Resumed")
    assert resumed.epoch == stopped
    assert len(own_runs(home)) == 1


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


def test_a_second_run_waits_and_says_so(site, folder, home, calm):
    start_long(site, folder)
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
    site.locator("#status", has_text=re.compile(r"The instant model does better on \d+ photos held back")).wait_for()
    site.locator("#take-instant").click()
    site.locator("#status", has_text=f"Run {instant.id}, on photos. Instant model.").wait_for()
    site.locator("#take-instant").wait_for(state="hidden")
    tab(site, "3 Results")
    until(lambda: instant.id in picked(site, "pick-run"), 30)
    tab(site, "4 Test")
    assert f"run {instant.id} answers" in answer(site)
    assert runs.all_runs(home)[0] == instant
    assert len(runs.all_runs(home)) == 2


def test_an_auto_run_on_a_hundred_photos_says_what_became_of_fine_tuning(site, tmp_path, home):
    sides = {"train": 50, "valid": 5, "test": 5}
    counts = {f"{side}/{name}": n for side, n in sides.items() for name in ("reds", "blues")}
    load(site, fill(tmp_path / "photos", counts))
    site.locator("#what-learns", has_text="may learn too, which is kept only if validation clearly improves").wait_for()
    run = train_to_the_end(site, home)
    (judged,) = [event for event in run.events()[0] if isinstance(event, Judged)]
    became = "kept" if judged.kept else "dropped"
    site.locator("#status", has_text=f"Fine-tuning is {became}").wait_for()
    tab(site, "3 Results")
    said = "on which fine-tuning was judged" if judged.kept else "each held out while the head was chosen"
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


def test_photos_are_tested_one_or_several_and_an_unreadable_one_is_named(own_run, site, tmp_path):
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


def test_a_photo_is_pasted(own_run, site):
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


def test_light_and_dark_are_switched_and_kept(site):
    is_dark = "document.body.classList.contains('dark')"
    before = site.evaluate(is_dark)
    site.locator("#theme").click()
    assert site.evaluate(is_dark) is not before
    site.reload()
    site.locator("#drop .tl-drop[data-state=ready]").wait_for()
    until(lambda: site.evaluate(is_dark) is not before, 30)


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
    for selector in ("#score .tl-score", "#details .tl-table td", ".tl-confusion th", ".tl-hit"):
        colour = site.locator(selector).first.evaluate("e => getComputedStyle(e).color")
        assert luminance(colour) > 0.3, selector


def luminance(colour):
    red, green, blue = (int(part) / 255 for part in re.findall(r"\d+", colour)[:3])
    return 0.2126 * red**2.2 + 0.7152 * green**2.2 + 0.0722 * blue**2.2
