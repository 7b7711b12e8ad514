"""All runs on the page: named, annotated, deleted with Undo, compared, and their settings loaded back."""

import json
import re
import shutil
from dataclasses import replace

import gradio as gr
import pytest
from conftest import fill, until
from sites import chosen, load, picked, tab

from tlapp import dataset as datasets
from tlapp import decisions, history, jobs, lineage, runs
from tlapp.plan import Augmentation, Plan, instant
from tlapp.runs import Run
from tlapp.ui import app, form, recall, weights

HOSTILE = "<img src=x onerror=alert(1)> **b**"
EVERY = ("stem", "stage1", "stage2", "stage3", "stage4", "stage5", "stage6", "stage7", "top")
ODD = Plan(
    "efficientnet_lite0", EVERY[:-2], solver="sgd", framing="letterbox", epochs=17, dropout=0.35, seed=5,
    augmentation=Augmentation(rotation=45, erasing=0.3), test_fraction=0.3, split_seed=11, class_weighting="balanced",
    schedule="cosine",
)  # fmt: skip
"""Unlike what is suggested, wherever a widget shows it."""


@pytest.fixture
def other(own_run):
    """A second run on the same photos: wrong about the first test photo, its plan is `ODD`."""
    path = own_run.path.with_name("0002-bbbbbb")
    shutil.copytree(own_run.path, path)
    header, report = (json.loads((path / name).read_bytes()) for name in ("plan.json", "report.json"))
    header["plan"] = ODD.to_dict()
    for one in report["photos"]:
        one["label"] = one["class"]
    first = report["photos"][0]
    first["label"] = next(name for name in report["classes"] if name != first["class"])
    (path / "plan.json").write_text(json.dumps(header))
    (path / "report.json").write_text(json.dumps(report))
    report["photos"][0]["label"], report["photos"][1]["label"] = first["class"], first["label"]
    report["photos"][1]["label"] = next(n for n in report["classes"] if n != report["photos"][1]["class"])
    (own_run.path / "report.json").write_text(json.dumps(report))
    return Run(path)


def open_results(page):
    tab(page, "3 Results")
    page.locator("#runs tr[data-run]").first.wait_for()


def take(page, run):
    """Choose a run in the table, unless it is chosen."""
    if not page.locator(f"#runs .tl-chosen[data-run='{run.id}']").count():
        page.locator(f"#runs tr[data-run='{run.id}'] td").nth(2).click()
    page.locator("#one-run-title", has_text=run.id).wait_for()
    page.evaluate("() => new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(drawn)))")
    until(lambda: page.locator("#run-name textarea, #run-name input").input_value() == history.about(run).name, 30)


def name_it(page, name):
    box = page.locator("#run-name textarea, #run-name input")
    box.fill(name)
    box.blur()


def compare_with(page, run):
    page.locator("#compare-with input").click()
    page.get_by_role("option", name=re.compile(run.id)).click()


def rows(page):
    return page.locator("#runs tr[data-run]").evaluate_all("rows => rows.map(row => row.dataset.run)")


def test_a_name_and_a_note_are_saved_when_left_and_shown_again_and_keys_work_the_table(site, own_run, other):
    open_results(site)
    take(site, other)
    name_it(site, "  the odd   one ")
    site.locator("#runs td[data-of=Name]", has_text="the odd one").wait_for()
    until(lambda: "the odd one" in picked(site, "pick-run"), 30)
    site.locator("#run-note textarea, #run-note input").fill("tried grey bars")
    take(site, own_run)  # which leaves the note
    until(lambda: history.about(other).note == "tried grey bars", 30)
    assert site.locator("#run-name textarea, #run-name input").input_value() == ""
    site.reload()
    open_results(site)
    take(site, other)
    assert site.locator("#run-name textarea, #run-name input").input_value() == "the odd one"
    assert site.locator("#run-note textarea, #run-note input").input_value() == "tried grey bars"
    until(lambda: "the odd one" in picked(site, "pick-run"), 30)
    assert history.about(own_run) == history.About()
    site.locator(f"#runs tr[data-run='{own_run.id}'] button").press("Enter")
    site.locator(f"#runs .tl-chosen[data-run='{own_run.id}']").wait_for()
    until(lambda: own_run.id in picked(site, "pick-run"), 30)
    history.describe(other, name="even")
    site.locator(f"#runs tr[data-run='{other.id}'] button").focus()
    site.keyboard.press("Enter")
    site.locator("#runs td[data-of=Name]", has_text="even").wait_for()
    assert site.evaluate("document.activeElement.closest('[data-run]')?.dataset.run") == other.id


def test_hostile_names_and_notes_are_shown_literally(site, own_run, other):
    dialogs = []
    site.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
    history.describe(own_run, name=HOSTILE, note=HOSTILE)
    open_results(site)
    take(site, other)
    compare_with(site, own_run)
    site.locator("#compared-words").wait_for()
    assert HOSTILE in site.locator("#runs").inner_text()
    assert site.locator("#compared").inner_text().count(HOSTILE) >= 3
    site.locator("#compared summary").first.click()
    take(site, own_run)
    site.locator("#delete-run").click()
    site.locator("#deleted", has_text=HOSTILE).wait_for()
    assert not dialogs
    assert site.locator("img[src=x]").count() == 0


def test_a_run_is_deleted_but_not_at_work_undo_brings_it_back_and_without_the_last_the_page_says_so(
    site, own_run, other, home
):
    open_results(site)
    with own_run.lock():
        take(site, own_run)
        site.locator("#delete-run").click()
        site.locator("#said.tl-on", has_text="Stop it first").wait_for()
    assert runs.all_runs(home) == [own_run, other]
    take(site, other)
    site.locator("#delete-run").click()
    site.locator("#deleted", has_text=f"Run {other.id} is deleted").wait_for()
    until(lambda: rows(site) == [own_run.id], 30)
    until(lambda: own_run.id in picked(site, "pick-run"), 30)
    site.locator("#one-run-title", has_text=own_run.id).wait_for()
    assert runs.all_runs(home) == [own_run]
    site.locator("#undo-delete").click()
    until(lambda: rows(site) == [other.id, own_run.id], 30)
    site.locator("#deleted").wait_for(state="hidden")
    site.locator("#one-run-title", has_text=other.id).wait_for()
    until(lambda: other.id in picked(site, "pick-run"), 30)
    assert other.model()
    site.locator("#delete-run").click()
    until(lambda: rows(site) == [own_run.id], 30)
    site.locator("#one-run-title", has_text=own_run.id).wait_for()
    site.locator("#delete-run").click()
    site.locator("#runs", has_text="No run yet").wait_for()
    site.locator("#score", has_text="No finished run yet").wait_for()
    site.locator("#one-run").wait_for(state="hidden")
    assert runs.all_runs(home) == []


def test_two_runs_are_compared_the_counts_open_their_photos_and_one_without_a_model_by_its_settings(
    site, own_run, other
):
    open_results(site)
    take(site, own_run)
    compare_with(site, other)
    site.locator("#compared-words", has_text="1 fixed, 1 broken, 0 wrong in both, of 8 shared test photos.").wait_for()
    fixed = site.locator("#compared [data-kind=fixed]")
    assert not fixed.locator("figure").is_visible()
    fixed.locator("summary").click()
    fixed.locator("figure").wait_for()
    first = other.report()["photos"][0]
    assert f"is {first['class']}" in fixed.inner_text()
    assert f"{other.id}: {first['label']}" in fixed.inner_text()
    assert f"{own_run.id}: {first['class']}" in fixed.inner_text()
    assert fixed.locator("img").evaluate("image => image.naturalWidth") > 0
    settings = site.locator("#compared .tl-table tbody tr").all_inner_texts()
    assert any(row.split() == ["epochs", "3", "17"] for row in settings)
    assert not any(row.startswith("patience") for row in settings)
    assert site.locator("#compared polyline").count() == 4
    take(site, other)  # what was compared is no longer shown
    site.locator("#compared .tl-versus").wait_for(state="detached")
    (other.path / "report.json").unlink()
    compare_with(site, own_run)
    site.locator("#compared", has_text=f"there is no model of {other.id}").wait_for()
    assert "epochs" in site.locator("#compared .tl-table").inner_text()


def settings_shown(page):
    page.locator("#set-schedule input").first.wait_for()
    read = "ids => ids.map(id => document.querySelector(`#${id} input`).value)"
    numbers = page.evaluate(read, ["aug-rotation", "aug-erasing", "set-epochs", "set-dropout", "set-seed"])
    ticks = page.locator("#blocks input").evaluate_all("boxes => boxes.map(box => box.checked)")
    groups = ("set-framing", "set-solver", "set-schedule", "set-class_weighting", "aug-strength")
    return [float(n) for n in numbers], ticks, chosen(page, *groups)


def as_odd():
    frozen = [name in ODD.frozen for name in EVERY]
    return [45, 30, 17, 0.35, 5], frozen, ["letterbox", "sgd", "cosine", "balanced", "custom"]


def test_a_runs_settings_fill_the_train_tab_and_the_split(site, own_run, other, tmp_path):
    load(site, fill(tmp_path / "mine", {"reds": 8, "blues": 8}, 500))
    site.locator("#more > button").click()
    assert settings_shown(site) != as_odd()
    open_results(site)
    take(site, other)
    site.locator("#load-settings").click()
    until(lambda: site.get_by_role("tab", name="2 Train").get_attribute("aria-selected") == "true", 30)
    until(lambda: settings_shown(site) == as_odd(), 30)
    site.locator("#recalled", has_text=f"The settings of run {other.id} were loaded").wait_for()
    until(lambda: site.evaluate("window.scrollY") == 0, 30)
    site.locator("#what-learns", has_text="stage7").wait_for()
    site.locator("#train:not([disabled])").wait_for()
    tab(site, "1 Data")
    site.locator("#change > button").click()
    assert site.locator("#split-seed input").input_value() == "11"
    assert site.locator("#test-fraction input[type=number]").input_value() == "30"
    site.locator("#split .tl-key", has_text="4 test").wait_for()
    assert "2 classes" in site.locator("#top-data").inner_text()
    tab(site, "2 Train")
    n = len(jobs.runs.all_runs(own_run.path.parent.parent))
    site.locator("#train").click()
    made = until(lambda: runs.all_runs(own_run.path.parent.parent)[n:], 30)[-1]
    assert made.plan == replace(ODD, test_fraction=made.plan.test_fraction)
    assert made.plan.test_fraction == pytest.approx(0.3)


def test_where_no_photos_are_loaded_those_of_the_run_come_with_its_settings(site, own_run, other):
    open_results(site)
    take(site, other)
    site.locator("#load-settings").click()
    site.locator("#train:not([disabled])").wait_for()
    site.locator("#more > button").click()
    until(lambda: settings_shown(site) == as_odd(), 30)
    tab(site, "1 Data")
    assert site.locator(".tl-class").count() == 2
    site.locator("#change > button").click()
    assert site.locator("#split-seed input").input_value() == "11"


def test_a_run_with_another_class_starts_from_the_network_of_an_earlier_one(site, own_run, tmp_path):
    load(site, fill(tmp_path / "mine", {"reds": 8, "blues": 8, "greens": 8}, 500))
    header = json.loads((own_run.path / "plan.json").read_bytes())
    header["plan"]["frozen"] = list(EVERY[:-1])  # as if its last block had learned
    (own_run.path / "plan.json").write_text(json.dumps(header))
    open_results(site)
    take(site, own_run)
    site.locator("#continue").click()
    site.locator("#recalled", has_text=f"those of run {own_run.id}, starts from the network that it learned").wait_for()
    site.locator("#weights", has_text=f"It starts from the network of run {own_run.id}.").wait_for()
    home = own_run.path.parent.parent
    n = len(runs.all_runs(home))
    site.locator("#train:not([disabled])").click()
    made = until(lambda: runs.all_runs(home)[n:], 30)[-1]
    assert list(made.plan.learned) == own_run.header()["learned_from"]
    assert lineage.weights_of(own_run) == form.weights_folder() / made.plan.weights.rpartition("/")[2]
    assert made.plan == replace(
        own_run.plan, weights=made.plan.weights, learned=made.plan.learned, split_seed=0, precision=made.plan.precision
    )


def test_settings_of_a_run_whose_photos_are_gone_ask_for_photos_first(site, own_run):
    open_results(site)
    take(site, own_run)
    shutil.rmtree(own_run.dataset_folder)
    site.locator("#load-settings").click()
    site.locator("#said.tl-on", has_text="Load photos in 1 Data").wait_for()
    assert site.get_by_role("tab", name="3 Results").get_attribute("aria-selected") == "true"


def test_a_kept_weights_file_comes_back_and_another_is_asked_for(home):
    kept = form.weights_folder() / f"{ODD.backbone}-0123456789ab.pth"
    kept.parent.mkdir(parents=True)
    kept.write_bytes(b"weights")
    with gr.Blocks():
        data = {"test_fraction": gr.Slider(), "split_seed": gr.Number(), "split_by": gr.Radio()}
        numbers = {name: form.field_of(setting) for name, setting in form.SETTINGS.items()}
        panel, strength, preset = weights.build(), gr.Radio(), gr.Radio()
        fields = {**data, **numbers, **form.augmentation_sliders(), "backbone": gr.Radio(), "weights": panel.name}
        fields["frozen"] = gr.CheckboxGroup()
    found = recall.fill(replace(ODD, weights=str(kept)), fields, strength, preset, panel, None)
    assert (found[panel.name], found[panel.said], found[strength]) == (kept.name, "", "custom")
    for other in (kept.with_name(f"{ODD.backbone}-ffffffffffff.pth"), kept.parent.parent / kept.name):
        found = recall.fill(replace(ODD, weights=str(other)), fields, strength, preset, panel, None)
        assert found[panel.name] == ""
        assert "Give it again" in found[panel.said]


def test_a_phone_shows_all_of_it_without_sideways_scrolling(site, own_run, other):
    history.describe(other, name="a-name-that-is-long-and-has-no-space-in-it-to-break-a-line-at-all")
    site.set_viewport_size({"width": 390, "height": 800})
    open_results(site)
    take(site, own_run)
    compare_with(site, other)
    site.locator("#compared [data-kind=fixed] summary").click()
    wide = "ids => ids.map(id => { const e = document.querySelector(id); return e.scrollWidth - e.clientWidth; })"
    assert site.evaluate(wide, ["html", "#runs .tl-runs", "#runs .html-container", "#compared .tl-scroll"]) == [0] * 4
    for part in ("#load-settings", "#continue", "#delete-run", "#run-name", "#run-note", "#compare-with"):
        box = site.locator(part).bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= 390, part


def test_stopped_instant_runs_of_photos_as_they_stood_are_removed_for_good(own_run, home, small_pictures):
    data = datasets.load(own_run.dataset_folder)
    decided = decisions.decide(data, [decisions.about(data.photos[0], decisions.EXCLUDE)])
    names = {}
    for name, of, end, plan in (
        ("stale", data, jobs.RunStopped(0, 0), instant(data)),
        ("failed", data, jobs.RunFailed("no memory"), instant(data)),
        ("present", decided, jobs.RunStopped(0, 0), instant(decided)),
        ("own", data, jobs.RunStopped(0, 0), replace(instant(data), epochs=3)),
    ):
        header = {"plan": plan.to_dict(), "dataset": of.id, "source": of.source, "classes": list(of.classes)}
        names[name], lock = runs.create(home, header)
        names[name].append(end)
        lock.release()
    app._stop_older(decided)
    assert set(runs.all_runs(home)) == {own_run, *names.values()} - {names["stale"]}
