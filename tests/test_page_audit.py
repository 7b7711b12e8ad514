"""The panel "Check your photos": what it shows, and what the person decides there."""

import shutil

import pytest
from conftest import fill, until
from sites import answer, choose, chosen, load_path, tab

from tlapp import audit, dataset, decisions, evaluate, runs, workspace
from tlapp.audit import Flaws, Report, Suspect
from tlapp.decisions import EXCLUDE, KEEP, RELABEL, TOGETHER
from tlapp.events import Progress
from tlapp.forecast import Curve, Point
from tlapp.shortcuts import Shortcut

CURVE = Curve(
    (Point(2, 0.7, 0.6, 0.8, 16), Point(6, 0.86, 0.8, 0.9, 16)),
    Point(8, 0.88, 0.83, 0.93, 16),
    Point(28, 0.9, 0.85, 0.95, 16),
)


def nothing(data, **found):
    """A report that found what is given, and nothing else."""
    given = {"near": (), "suspects": (), "outliers": (), "flaws": Flaws((), (), (), (), ()), "shortcuts": ()}
    return Report(**{**given, "curve": CURVE, "seconds": 2.0, **found})


@pytest.fixture
def finds(monkeypatch):
    """finds(lambda data: report): the audit ends at once, with that report."""

    def arrange(report):
        def prepared(data, *_, should_stop=lambda: False, **__):
            yield Progress("reading the photos", 1, 2)
            should_stop()
            return report(data)

        monkeypatch.setattr(audit, "audit", prepared)

    return arrange


def check(site, folder):
    load_path(site, folder)
    site.locator("#check-photos:not([disabled])").click()
    site.locator("#check-verdict", has_text="looked at in").wait_for()


def photos(site, n):
    site.locator("#top-data", has_text=f"{n} photos").wait_for()


def noted(home):
    """What is decided, newest last, as (kind, value)."""
    found = [decisions.read(path) for path in (home / "datasets").glob("*/decisions.csv")]
    return [(d.kind, d.value) for one in found for d in one]


def three_suspects(data):
    """The first red photo is said to be blue, and the first two blue ones to be red."""
    blue = [i for i, p in enumerate(data.photos) if data.classes[p.label] == "blues"]
    red = [i for i, p in enumerate(data.photos) if data.classes[p.label] == "reds"]
    doubted = [Suspect(red[0], 1, 0, 0.05), Suspect(blue[0], 0, 1, 0.1), Suspect(blue[1], 0, 1, 0.2)]
    return nothing(data, suspects=(*doubted, Suspect(blue[2], 0, 0, 0.9)))


def everything(data):
    """Something of every kind."""
    flaws = Flaws((2,), (3,), (4,), (5,), ((6, 0.4),))
    told = (Shortcut("image size", "reds", 0.92, 0.85, 0.96, 16),)
    return nothing(data, near=((0, 1), (7, 8)), outliers=(9,), flaws=flaws, shortcuts=told)


def test_the_check_itself_runs_on_real_photos_and_can_be_cancelled(site, folder, monkeypatch):
    known = audit.audit

    def endless(data, *_, should_stop):
        while not should_stop():
            yield Progress("reading the photos", 1, 2)

    monkeypatch.setattr(audit, "audit", endless)
    load_path(site, folder)
    site.locator("#check-hint", has_text="what more photos would bring. Takes about 5 s.").wait_for()
    site.locator("#check-photos").click()
    site.locator("#check-progress", has_text="Reading the photos · 1 of 2").wait_for()
    site.locator("#check-cancel").click()
    site.locator("#check-progress", has_text="Checking was cancelled; nothing has changed.").wait_for()
    monkeypatch.setattr(audit, "audit", known)
    site.locator("#check-photos:not([disabled])").click()
    site.locator("#check-verdict", has_text="16 photos looked at in").wait_for()
    assert "Takes" not in site.locator("#check-hint").inner_text()
    site.locator("#check-ahead", has_text="What to shoot next").wait_for()
    site.locator("#check-cancel").wait_for(state="hidden")


def test_every_finding_is_a_section_and_the_ends_of_long_photos_are_kept_by_one_click_and_cut_off_by_another(
    site, folder, finds
):
    finds(everything)
    check(site, folder)
    sections = site.locator(".tl-finding h3").all_inner_texts()
    assert sections[0] == "Near copies"
    assert {"Unlike all others", "Very small", "Blurred", "Very dark", "Very bright"} < set(sections)
    assert {"Ends cut off", "Shortcuts", "What to shoot next"} < set(sections)
    assert site.locator("#found-near .tl-group img").count() == 4
    assert site.locator("#found-near img").first.get_attribute("alt").startswith("blues: ")
    near = site.locator("#found-near").inner_text()
    assert "1 group holds photos of more than one class" in near
    assert "“How a photo fills the square” in 2 Train" in site.locator("#found-cropped").inner_text()
    shortcut = site.locator("#found-shortcuts").inner_text()
    assert "reds are told apart by image size alone: 92 % of 16 (85–96 %), where guessing gives 50 %" in shortcut
    ahead = site.locator("#check-ahead").inner_text()
    said = "20 more photos of each class, 28 instead of 8, would bring about 90 % (plausibly 85–95 %)"
    now = f"from about 88 % (plausibly 83–93 %): foreseen from 16 photos, {evaluate.UNSEEN}."
    assert f"{said}, {now} That is within what chance allows" in ahead
    assert not site.locator("#labels").is_visible()
    for _ in range(2):  # before 2 Train was ever seen, and after
        site.locator("#act-cropped", has_text="Show all of each photo").click()
        site.locator("#act-cropped", has_text="Undo").wait_for()
        tab(site, "2 Train")
        until(lambda: chosen(site, "set-framing") == "letterbox", 30)
        tab(site, "1 Data")
        site.locator("#act-cropped", has_text="Undo").click()
        site.locator("#act-cropped", has_text="Show all of each photo").wait_for()
        tab(site, "2 Train")
        until(lambda: chosen(site, "set-framing") == "crop", 30)
        site.locator("#preview img").first.wait_for()
        tab(site, "1 Data")


def test_one_sentence_says_that_nothing_is_found_and_one_refuses_what_would_leave_nothing_to_train_on(
    site, folder, finds, home
):
    finds(nothing)
    check(site, folder)
    site.locator("#check-verdict", has_text="Nothing was found that would spoil your model").wait_for()
    assert site.locator(".tl-finding h3").all_inner_texts() == ["What to shoot next"]
    finds(lambda data: nothing(data, outliers=tuple(i for i, p in enumerate(data.photos) if p.label == 0)))
    site.locator("#check-photos:not([disabled])").click()
    site.locator("#act-outliers", has_text="Leave these 8 out").click()
    site.locator("#check-said .tl-error", has_text="usable photos of one class only").wait_for()
    assert site.locator("#check-said").bounding_box()["y"] < 800
    assert "16 photos" in site.locator("#top-data").inner_text()
    assert not noted(home)


def test_acting_takes_photos_out_and_undo_brings_them_back_while_the_rest_stays(site, folder, finds, home):
    finds(everything)
    check(site, folder)
    slider = site.locator("#test-fraction input[type=number]")
    slider.fill("30")
    slider.press("Tab")
    site.locator("#act-near", has_text="Leave it out").click()
    site.locator("#undo-near").wait_for()
    site.locator("#act-near").wait_for(state="hidden")
    photos(site, 15)
    assert site.locator("#found-near .tl-out").count() == 1
    site.locator("#act-outliers", has_text="Leave it out").click()
    photos(site, 14)
    site.locator("#undo-near").scroll_into_view_if_needed()
    place = site.locator("#undo-near").bounding_box()["y"]
    site.locator("#undo-near").click()
    photos(site, 15)
    site.locator("#act-near", has_text="Leave it out").wait_for()
    assert abs(site.locator("#act-near").bounding_box()["y"] - place) < 2
    assert noted(home) == [(EXCLUDE, "unlike all others")]
    assert site.locator("#found-outliers .tl-out").count() == 1
    assert slider.input_value() == "30"
    site.locator("#undo-all").click()
    photos(site, 16)
    assert not noted(home)


def test_labels_are_judged_by_keys_and_what_is_judged_does_not_come_again(site, folder, finds, home):
    finds(three_suspects)
    check(site, folder)
    site.locator("#label-photo", has_text="1 of 3").wait_for()
    shown = site.locator("#label-photo").inner_text()
    assert "Labelled reds; the other photos say blues. Hardly anything speaks for reds." in shown
    assert "reds/000.png" in shown
    site.locator("#path input, #path textarea").press("k")  # is typed
    site.locator("h1").click()
    site.keyboard.press("k")
    site.locator("#label-photo", has_text="2 of 3").wait_for()
    assert noted(home) == [(KEEP, "")]
    site.locator("#label-change", has_text="It is reds (R)").wait_for()
    site.keyboard.press("r")
    site.locator("#label-photo", has_text="3 of 3").wait_for()
    assert noted(home) == [(KEEP, ""), (RELABEL, "reds")]
    site.locator(".tl-count", has_text="9 photos").wait_for()
    site.keyboard.press("x")
    site.locator("#label-photo", has_text="All 3 labels are decided.").wait_for()
    photos(site, 15)
    site.keyboard.press("u")
    site.locator("#label-photo", has_text="3 of 3").wait_for()
    photos(site, 16)
    site.reload()
    site.locator("#label-photo", has_text="3 of 3").wait_for()
    site.locator("#decided-count", has_text="2 decisions: 0 left out, 1 of another class, 1 kept").wait_for()
    site.keyboard.press("x")
    site.locator("#label-photo", has_text="All 3 labels are decided.").wait_for()
    assert noted(home) == [(KEEP, ""), (RELABEL, "reds"), (EXCLUDE, "")]


def test_a_label_that_was_judged_on_another_page_is_not_asked_about_for_ever(site, folder, finds, home):
    finds(three_suspects)
    check(site, folder)
    other = site.context.new_page()
    other.goto(site.url)
    other.locator("#label-photo", has_text="1 of 3").wait_for()
    other.locator("#label-keep").click()
    other.locator("#label-photo", has_text="2 of 3").wait_for()
    site.locator("#label-out").click()  # about the photo that is asked about here
    site.locator("#label-photo", has_text="2 of 3").wait_for()
    assert noted(home) == [(EXCLUDE, "")]
    site.locator("#label-keep").click()
    site.locator("#label-photo", has_text="3 of 3").wait_for()
    other.locator("#label-keep").click()
    other.locator("#label-photo", has_text="3 of 3").wait_for()
    assert noted(home) == [(EXCLUDE, ""), (KEEP, "")]


def test_a_file_in_two_classes_is_given_one_by_a_key(site, tmp_path, finds, home):
    folder = fill(tmp_path / "photos", {"reds": 6, "blues": 6})
    shutil.copy(folder / "reds" / "000.png", folder / "blues" / "same.png")
    finds(nothing)
    check(site, folder)
    site.locator("#label-photo", has_text="The very same file stands in blues and in reds.").wait_for()
    site.locator("#label-keep", has_text="It is blues (K)").wait_for()
    photos(site, 11)
    site.locator("h1").click()
    site.keyboard.press("r")
    photos(site, 12)
    assert noted(home) == [(RELABEL, "reds")]
    site.locator("#label-photo", has_text="The one label is decided.").wait_for()
    site.keyboard.press("u")
    site.locator("#label-photo", has_text="The very same file").wait_for()
    photos(site, 11)
    site.keyboard.press("k")
    photos(site, 12)
    assert noted(home) == [(RELABEL, "blues")]


def test_another_class_can_be_chosen_and_hostile_names_are_shown_literally(site, tmp_path, finds, home):
    hostile, third = "<img src=x onerror=fail()>", "<b>greens"
    fill(tmp_path / "photos", {hostile: 5, "blues": 5, third: 5})
    finds(lambda data: nothing(data, suspects=(Suspect(0, data.photos[0].label, 2, 0.1),), near=((0, 1),),
                               outliers=(5,), shortcuts=(Shortcut("camera", hostile, 0.9, 0.8, 1.0, 16),)))  # fmt: skip
    check(site, tmp_path / "photos")
    site.locator("#label-photo").wait_for()
    assert hostile in site.locator("#found-shortcuts").inner_text()
    words = site.locator("#label-keep").inner_text() + site.locator("#label-change").inner_text()
    assert hostile in words or third in words
    other = site.get_by_label("Another class:")
    assert site.locator("#label-other", has_text="Another class:").is_visible()
    heights = [site.locator(part).bounding_box()["height"] for part in ("#label-other", "#label-keep")]
    assert abs(heights[0] - heights[1]) < 2
    other.click()
    option = site.get_by_role("option")
    chosen = option.inner_text()
    option.click()
    site.locator("#label-photo", has_text="The one label is decided.").wait_for()
    assert noted(home) == [(RELABEL, chosen.replace("✓", "").strip())]
    assert site.locator("img[src=x]").count() == 0


def test_near_copies_on_both_sides_are_kept_on_one_side(site, folder, finds, home):
    def torn(data):
        split = data.split(0.2, 0.2, 0)
        mate = next(i for i in split.train if data.photos[i].label == data.photos[split.test[0]].label)
        return nothing(data, near=((int(split.test[0]), int(mate)),))

    finds(torn)
    check(site, folder)
    site.locator("#found-leaks", has_text="1 group of near copies, or of one burst, has members both").wait_for()
    site.locator("#act-leaks", has_text="Keep near copies on one side").click()
    site.locator("#found-leaks", has_text="All near copies are kept on one side").wait_for()
    assert [kind for kind, _ in noted(home)] == [TOGETHER, TOGETHER]
    until(lambda: any(any(p.together for p in one.photos) for one in kept(home)), 30)
    site.locator("#undo-leaks").click()
    site.locator("#act-leaks", has_text="Keep near copies on one side").wait_for()
    assert not noted(home)


def kept(home):
    return [dataset.load(path.parent) for path in (home / "datasets").glob("*/dataset.json")]


def test_where_folders_give_the_test_photos_the_copies_outside_are_left_out(site, tmp_path, finds, home):
    fill(tmp_path / "photos", {"train/reds": 5, "train/blues": 5, "test/reds": 3, "test/blues": 3})

    def torn(data):
        sides = {side: next(i for i, p in enumerate(data.photos) if p.side == side) for side in ("train", "test")}
        return nothing(data, near=(tuple(sorted(sides.values())),))

    finds(torn)
    check(site, tmp_path / "photos")
    site.locator("#act-leaks", has_text="Leave it out").click()
    photos(site, 15)
    (out,) = [d for path in (home / "datasets").glob("*/decisions.csv") for d in decisions.read(path)]
    assert (out.kind, out.file.split("/")[0]) == (EXCLUDE, "train")


def test_decisions_are_saved_as_a_file_and_used_from_one(site, folder, tmp_path, finds, home):
    load_path(site, folder)
    site.locator("#decided-count", has_text="0 decisions").wait_for()
    file = tmp_path / "mine.csv"
    file.write_text("file,decision,value\nreds/000.png,exclude,\nreds/001.png,relabel,blues\nelse.png,keep,\n")
    with site.expect_file_chooser() as chooser:
        site.locator("#use-decisions").click()
    chooser.value.set_files(file)
    photos(site, 15)
    site.locator("#decided-count", has_text="2 decisions: 1 left out, 1 of another class").wait_for()
    with site.expect_download() as download:
        site.locator("#save-decisions").click()
    assert [d.kind for d in decisions.read(download.value.path())] == [EXCLUDE, RELABEL]
    site.locator("#check-said", has_text="1 of 3 decisions are about none of these photos.").wait_for()
    file.write_text("nonsense")
    with site.expect_file_chooser() as chooser:
        site.locator("#use-decisions").click()
    chooser.value.set_files(file)
    site.locator("#check-said", has_text="mine.csv is no list of decisions").wait_for()
    photos(site, 15)


def test_settings_of_training_survive_a_decision_which_holds_on_when_photos_are_added(site, folder, tmp_path, finds):
    finds(everything)
    check(site, folder)
    tab(site, "2 Train")
    site.locator("#train:not([disabled])").wait_for()
    site.locator("#set-framing input[value='letterbox']").check()
    tab(site, "1 Data")
    site.locator("#act-outliers").click()
    photos(site, 15)
    tab(site, "2 Train")
    site.locator("#train:not([disabled])").wait_for()
    assert site.locator("#set-framing input[value='letterbox']").is_checked()
    tab(site, "1 Data")
    site.locator("#change > button").click()
    site.get_by_label("add to the photos").check()
    load_path(site, fill(tmp_path / "more", {"greens": 5, "reds": 3}, seed=500))
    photos(site, 23)
    site.locator("#decided-count", has_text="1 decision: 1 left out").wait_for()
    site.locator("#check-photos", has_text="Check my photos").wait_for()


def test_a_class_with_far_more_photos_is_told_of_before_any_check(site, tmp_path):
    load_path(site, fill(tmp_path / "photos", {"reds": 4, "blues": 13}))
    site.locator("#check-hint", has_text="blues has 3 times as many photos as reds").wait_for()


def test_an_older_instant_run_is_stopped_when_a_decision_changes_the_photos(site, folder, finds, home):
    (home / "runs").mkdir(parents=True, exist_ok=True)
    finds(everything)
    with workspace.lock(home / "runs" / "training.lock"):  # so that runs wait
        load_path(site, folder)
        until(lambda: runs.all_runs(home), 30)
        site.locator("#check-photos").wait_for()
        file = folder.parent / "mine.csv"
        file.write_text("file,decision\nreds/000.png,exclude\n")
        with site.expect_file_chooser() as chooser:
            site.locator("#use-decisions").click()
        chooser.value.set_files(file)
        until(lambda: len(runs.all_runs(home)) == 2, 30)
        first, second = runs.all_runs(home)
        until(lambda: not first.is_live(), 30)
        assert second.is_live()
    until(second.has_model, 60)


def test_after_undo_the_instant_model_of_the_photos_as_they_stand_answers_again(site, folder, finds, home):
    finds(everything)
    check(site, folder)
    (first,) = until(lambda: runs.all_runs(home), 30)
    until(first.has_model, 60)
    file = folder.parent / "mine.csv"
    file.write_text("file,decision\nreds/000.png,exclude\n")
    choose(site, "#use-decisions", file)
    second = until(lambda: runs.all_runs(home)[1:], 30)[0]
    tab(site, "4 Test")
    site.locator("#top-test", has_text=second.id).wait_for()
    tab(site, "1 Data")
    site.locator("#undo-all").click()
    photos(site, len(list(folder.rglob("*.png"))))
    tab(site, "4 Test")
    site.locator("#top-test", has_text=first.id).wait_for()
    until(lambda: first.id in site.locator("#pick-model input").input_value(), 30)
    assert f"run {first.id} answers" in answer(site)
