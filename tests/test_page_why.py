"""Numbers of the confusion matrix open their photos, and a photo says why it was called what it was called."""

import re
import threading

from conftest import drop_on, photo
from sites import tab

from tlapp import dataset, explain
from tlapp.ui import why


def results(site):
    tab(site, "3 Results")
    site.locator("#score .tl-score").wait_for()


def test_a_number_of_the_matrix_opens_its_photos_and_a_photo_says_why_and_which_photos_are_nearest(own_run, site):
    results(site)
    numbers = site.locator(".tl-confusion td button")
    first, last = numbers.first, numbers.last
    assert re.fullmatch(r"blues called \w+: \d+", first.get_attribute("aria-label"))
    n = int(first.inner_text())
    first.click()
    site.locator("#cell h2", has_text="blues, called").wait_for()
    assert site.locator("#cell .tl-card").count() == n
    last.focus()
    site.keyboard.press("Enter")
    site.locator("#cell h2", has_text="reds, called").wait_for()
    assert "reds/" in site.locator("#cell").inner_text()
    site.locator("#cell .tl-card").first.click()
    dialog = site.locator("#why dialog[open]")
    dialog.wait_for()
    words = dialog.inner_text()
    assert re.search(r"Said \w+, \d+ %\.", words)
    assert "What the network sees" in words
    assert "What speaks for" in words
    assert "The nearest photos learned from" in words
    nearest = dialog.locator(".tl-near figcaption").all_inner_texts()
    distances = [float(re.search(r"distance (\d\.\d+)", one)[1]) for one in nearest]
    assert len(nearest) == 5
    assert distances == sorted(distances)
    assert dialog.locator("img").count() >= 7
    assert all(dialog.locator("img").evaluate_all("all => all.map(i => i.alt && i.naturalWidth > 0)"))
    site.keyboard.press("Escape")
    dialog.wait_for(state="hidden")


def test_an_answer_in_the_test_tab_says_why(own_run, site, tmp_path):
    tab(site, "4 Test")
    site.locator("#try-test-photo:not([disabled])").click()
    site.locator(".tl-ask-why").click()
    site.locator("#why dialog[open]", has_text="The nearest photos learned from").wait_for()
    site.get_by_role("button", name="Close").click()
    site.locator("#why dialog[open]").wait_for(state="hidden")
    drop_on(site.locator("#photos .tl-drop"), photo(tmp_path / "mine.png", (200, 40, 40), 77))
    site.locator(".tl-answer", has_text="mine.png").wait_for()
    site.locator(".tl-ask-why").click()
    site.locator("#why dialog[open]", has_text="mine.png").wait_for()
    site.keyboard.press("Escape")
    photo(tmp_path / "some" / "a.png", (40, 40, 200), 78)
    photo(tmp_path / "some" / "b.png", (200, 40, 40), 79)
    drop_on(site.locator("#photos .tl-drop"), tmp_path / "some")
    site.locator(".tl-answers", has_text="b.png").wait_for()
    site.locator(".tl-photo-why").nth(1).click()
    site.locator("#why dialog[open]", has_text="b.png").wait_for()


def test_that_it_looks_is_said_at_once_and_may_be_given_up(own_run, site, monkeypatch):
    results(site)
    heat_map, go_on = explain.heat_map, threading.Event()

    def held_up(*given):
        assert go_on.wait(60)
        return heat_map(*given)

    monkeypatch.setattr(explain, "heat_map", held_up)
    site.locator(".tl-confusion td button").first.click()
    waits, dialog = site.locator("#why-wait dialog[open]"), site.locator("#why dialog[open]")
    site.locator("#cell .tl-card").first.click()
    waits.filter(has_text="Looking for what spoke for the answer").wait_for()
    assert dialog.count() == 0
    site.keyboard.press("Escape")
    waits.wait_for(state="hidden")
    go_on.set()
    site.locator("#why dialog", has_text="What the network sees").wait_for(state="attached")
    assert dialog.count() == 0, "it was given up"
    go_on.clear()
    site.locator("#cell .tl-card").first.click()
    waits.wait_for()
    go_on.set()
    dialog.wait_for()
    assert waits.count() == 0
    site.keyboard.press("Escape")
    monkeypatch.setattr(explain, "heat_map", lambda *_: 1 / 0)
    site.locator("#cell .tl-card").first.click()
    waits.wait_for(state="hidden")
    site.locator("#said", has_text="A fault of the program").or_(
        site.get_by_text("A fault of the program")
    ).first.wait_for()
    assert dialog.count() == 0


def test_validation_photos_are_not_shown_as_learned_from_where_they_only_judged(own_run, small_pictures):
    found, split = dataset.load(own_run.dataset_folder), own_run.plan.split(dataset.load(own_run.dataset_folder))
    assert own_run.plan.solver == "sgd"
    photo = found.photos[int(split.validation[0])]
    html = why.dialog(own_run, found.pixels(int(split.validation[0])), photo.name, found.classes[photo.label])
    shown = set(re.findall('alt="\\w+: (.*?)"', html.split("tl-near")[1]))
    assert shown
    assert shown <= {found.photos[int(i)].name for i in split.train}


def test_of_two_photos_pressed_in_a_row_the_dialog_tells_of_the_second(own_run, site, monkeypatch):
    results(site)
    heat_map, go_on = explain.heat_map, [threading.Event(), threading.Event()]
    turns = iter(go_on)

    def held_up(*given):
        assert next(turns).wait(60)
        return heat_map(*given)

    monkeypatch.setattr(explain, "heat_map", held_up)
    site.locator(".tl-confusion td button").first.click()
    cards, waits = site.locator("#cell .tl-card"), site.locator("#why-wait dialog[open]")
    first, second = (cards.nth(n).locator(".tl-file").inner_text() for n in range(2))
    cards.nth(0).click()
    waits.wait_for()
    site.keyboard.press("Escape")
    cards.nth(1).click()
    waits.wait_for()
    go_on[0].set()
    site.locator("#why dialog", has_text=first).wait_for(state="attached")
    assert waits.count() == 1
    assert site.locator("#why dialog[open]").count() == 0
    go_on[1].set()
    site.locator("#why dialog[open]", has_text=second).wait_for()
    assert waits.count() == 0
