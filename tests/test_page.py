"""The page in a real browser, up to training: photos, preview, ticks and settings; and the whole way by mouse."""

import re
import shutil

import pytest
from conftest import drop_on, fill, photo, until
from sites import (
    BLOCKS,
    TRIALS,
    answer,
    choice,
    choose,
    chosen,
    learning,
    load,
    load_path,
    own_runs,
    picked,
    set_numbers,
    tab,
    the_instant,
    train_to_the_end,
)

from tlapp import catalog, dataset, demo, runs, tune, workspace
from tlapp.errors import RunError
from tlapp.plan import Augmentation, suggest
from tlapp.tune import Trial
from tlapp.ui import shelf
from tlapp.ui.views import Shown, grid, offered


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
    assert "each asked of a model that had not learned from it" in site.locator("#score").inner_text()
    until(lambda: {run.id, the_instant(home).id} <= set(site.locator("#runs").inner_text().split()), 30)


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


def test_reloaded_the_page_stays_at_its_tab_and_fills_it(site, own_run):
    tab(site, "3 Results")
    site.locator("#score .tl-score").wait_for()
    site.reload()
    site.locator("#score .tl-score").wait_for()
    site.locator("#runs tr[data-run]").wait_for()


def test_one_panel_that_cannot_be_filled_is_said_and_the_others_are(site, folder, monkeypatch):
    load(site, folder)
    monkeypatch.setattr(shelf, "models", lambda: (_ for _ in ()).throw(RunError("The list of <models> is gone.")))
    site.reload()
    site.locator("#said.tl-on", has_text="The list of <models> is gone.").wait_for()
    tab(site, "1 Data")
    site.locator("#overview", has_text="reds").wait_for()
    for _ in range(2):
        site.locator("#said").click()
        site.locator("#said").wait_for(state="hidden")
        tab(site, "1 Data")
        tab(site, "4 Test")
        site.locator("#said.tl-on", has_text="The list of <models> is gone.").wait_for()


def test_a_click_that_cannot_be_done_is_answered_and_an_error_leaves_the_photos_and_settings_that_were_there(
    site, folder, tmp_path
):
    load(site, folder)
    choice(site, "preset", "Fine-tune the last block").check()
    site.locator("#what-learns", has_text="Fine-tuning from top on").wait_for()
    tab(site, "1 Data")
    site.locator("#change > button").click()
    site.locator("#take-out").click()
    site.locator("#said.tl-on", has_text="No class is chosen. Choose the class to take out.").wait_for()
    site.locator("#said").click()
    site.locator("#said").wait_for(state="hidden")
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


def test_the_instant_model_is_told_of_and_answers_before_train_is_pressed(site, busy, folder, home):
    load_path(site, folder)
    site.locator(
        "#top-data", has_text="16 photos, 2 classes, 0 skipped · the instant model waits for another run"
    ).wait_for()
    tab(site, "4 Test")
    site.locator("#top-test", has_text="no model to test yet").wait_for()
    busy.release()
    assert f"run {the_instant(home).id} answers" in answer(site)
    tab(site, "1 Data")
    site.locator(
        "#top-data", has_text=re.compile(r"instant model: \d+ %, \d of 4 test photos right, plausibly")
    ).wait_for()
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
        "#aug-strength input, #sliders input, #set-framing input, #backbone input, #preset input, #blocks input, "
        "#more input"
    ).evaluate_all("boxes => boxes.map(b => ['radio', 'checkbox'].includes(b.type) ? b.checked : b.value)")


def pick_run(page, group, run_id):
    """Choose a run of a list."""
    page.locator(f"#{group} input").click()
    page.get_by_role("option", name=run_id).click()
    until(lambda: run_id in picked(page, group), 30)


@pytest.fixture
def newer_run(own_run, home):
    """The id of a second finished run; ask for it before `site`, so that the page opens on both."""
    return shutil.copytree(own_run.path, home / "runs" / "0002-aaaaaa").name


def test_the_end_of_the_instant_run_changes_nothing_that_the_person_chose(newer_run, site, own_run, busy, folder, home):
    load_path(site, folder)
    site.locator("#top-data", has_text="the instant model waits").wait_for()
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
        until(lambda group=group: newer_run in picked(site, group), 30)
        pick_run(site, group, own_run.id)
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


def views(page):
    return page.locator("#preview img").evaluate_all("images => images.map(image => image.src)")


def expected_views(home, degrees, framing="crop"):
    """What the preview must show at this rotation, made by the library."""
    data = dataset.load(next(path for path in (home / "datasets").iterdir() if path.is_dir()))
    entry, first = catalog.get(catalog.INCLUDED), offered(data, suggest(data))[0]
    shown = Shown(data.id, first, 0, Augmentation(rotation=degrees), entry, framing)
    return re.findall('src="([^"]+)"', grid(data, shown))


def test_a_slider_leads_the_preview_by_mouse_and_keys_and_a_wrong_setting_is_said_beside_the_button(site, folder, home):
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
    site.locator("#more > button").click()
    site.locator("#set-epochs input").fill("0")
    site.locator("#set-epochs input").press("Tab")
    site.locator("#why-not", has_text="epochs is 0; it must be from 1").wait_for()
    assert site.locator("#train").is_disabled()


def test_how_a_photo_fills_the_square_is_previewed_kept_by_presets_and_trained(site, folder, home):
    load(site, folder)
    assert chosen(site, "set-framing") == "crop"
    choice(site, "set-framing", "letterbox").check()
    expected = expected_views(home, 0, "letterbox")
    assert set(expected).isdisjoint(expected_views(home, 0)), "the plain view, which comes first, too"
    until(lambda: views(site) == expected, 30)
    for preset, strength in (("Feature extraction", "off"), ("Auto", "light")):
        choice(site, "preset", preset).check()
        until(lambda strength=strength: chosen(site, "aug-strength") == strength, 30)
        assert chosen(site, "set-framing") == "letterbox"
    until(lambda: views(site) == expected, 30)
    run = train_to_the_end(site, home)
    assert (run.plan.framing, run.plan.solver, the_instant(home).plan.framing) == ("letterbox", "auto", "crop")
    said = site.locator("#status").inner_text()
    assert "last stage if it helps, with grey bars." in said
    assert "instant model with grey bars" in said
    choice(site, "set-framing", "crop").check()
    until(lambda: views(site) == expected_views(home, 0), 30)


def test_the_table_under_the_ticks_says_what_each_costs_and_presets_and_the_sentence_agree_with_them(site, folder):
    load(site, folder)
    rows = site.locator(".tl-costs tbody tr")
    assert rows.count() == len(BLOCKS) + 1
    assert site.locator(".tl-costs .tl-quiet").count() == len(BLOCKS)
    site.locator("#blocks input").last.uncheck()
    site.locator(".tl-costs tr:not(.tl-quiet) th", has_text="top").wait_for()
    assert "learns" in rows.nth(len(BLOCKS) - 1).inner_text()
    total = rows.last.inner_text()
    assert re.search(r"[\d,]+ a photo", total)
    assert "MB" in total
    site.locator("#costs .tl-warn", has_text="the network may learn them by heart").wait_for()
    site.locator("#blocks input").last.check()
    site.locator("#costs .tl-warn").wait_for(state="hidden")
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
    boxes.nth(0).uncheck()
    site.locator("#what-learns", has_text="stem learns, so that nothing is computed once").wait_for()
    assert "Everything learns" not in site.locator("#what-learns").inner_text()


def test_a_preset_sets_ticks_solver_and_augmentation_in_one_click_and_they_follow_each_other(site, folder):
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
    choice(site, "preset", "Feature extraction").check()
    until(lambda: shown(site) == ([], "exact", "off", "Feature extraction"), 30)
    choice(site, "preset", "Auto").check()
    until(lambda: shown(site) == ([], "auto", "light", "Auto"), 30)
    site.locator("#set-dropout input").fill("0.3")
    site.locator("#set-dropout input").press("Tab")
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


LATE = """(() => {
  const send = window.fetch;
  window.fetch = async (...given) => {
    const answer = await send(...given), url = given[0].url ?? String(given[0]);
    if (!url.includes('queue/data')) return answer;
    const wait = new TransformStream({
      async transform(part, out) { await new Promise(go => setTimeout(go, 40)); out.enqueue(part); }
    });
    return new Response(answer.body.pipeThrough(wait), answer);
  };
})()"""
"""Whatever the queue sends arrives a moment late."""


def test_no_click_is_lost_where_what_the_server_sends_arrives_late(site, folder):
    site.add_init_script(LATE)
    site.reload()
    site.locator("#drop .tl-drop[data-state=ready]").wait_for()
    load(site, folder)
    presets = {"Fine-tune the last block": ["top"], "Fine-tune everything": list(BLOCKS)}
    for pause in range(0, 320, 40):
        site.locator("#redraw").click()
        site.wait_for_timeout(pause)  # no wait for anything: the click comes at every moment of the answer before it
        name = list(presets)[pause // 40 % 2]
        choice(site, "preset", name).check()
        until(lambda name=name: learning(site) == presets[name], 30)


def shown(page):
    """What learns, by which solver, how strongly augmented, and the preset that this is said to be."""
    return learning(page), *chosen(page, "set-solver", "aug-strength", "preset")


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
    site.locator("#try-budget input").fill("30")
    site.locator("#try-them").click()
    site.locator("#tried", has_text="of 30 s").wait_for()
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
    site.locator("#set-epochs input").wait_for()
    before = settings(site)
    site.locator("#try-them").click()
    site.locator("#tried", has_text="head alone: 90 % of 60 (80–95 %) validation").wait_for()
    site.locator("#try-cancel").click()
    site.locator("#tried", has_text="Trying was cancelled; nothing has changed.").wait_for()
    site.locator("#try-cancel").wait_for(state="hidden")
    assert settings(site) == before
    monkeypatch.setattr(tune, "sweep", known)
    site.locator("#try-them").click()
    site.locator(".tl-trials").wait_for()
    rows = site.locator(".tl-trials tbody tr").all_inner_texts()
    assert [" ".join(row.split()) for row in rows] == [
        "head alone 90 % of 60 (80–95 %) exact 0 s –",
        "top, head ✓ 95 % of 60 (86–98 %) 0.001 12 s 130 MB",
        "stage6, stage7, top, head 85 % of 60 (74–92 %) 0.001 100 s, cut short 2000 MB",
    ]
    until(lambda: shown(site) == (["top"], "sgd", "light", "Fine-tune the last block + augmentation"), 30)
    assert site.locator("#set-fine_tune_rate input").input_value() == "0.001"


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
