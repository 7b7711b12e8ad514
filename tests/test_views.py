"""The preview's views, and the marks on those that the instant model takes for another class."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import fill, photo, until
from PIL import Image
from sites import choice, load, the_instant

from tlapp import catalog, dataset, images, predict
from tlapp.augment import Views, view_seed
from tlapp.plan import AUGMENTATIONS, suggest
from tlapp.ui import shelf, views
from tlapp.ui.views import Shown

ENTRY = catalog.get(catalog.INCLUDED)


def shown(found, draw=0, photo=0):
    return Shown(found.id, photo, draw, AUGMENTATIONS["strong"], ENTRY)


@pytest.fixture
def own(own_run):
    """A run with a model and its photos, in the test's workspace."""
    return own_run, dataset.load(own_run.dataset_folder)


def test_no_test_photo_is_offered_as_the_split_is_set(own):
    _, found = own
    for seed in range(3):
        chosen = replace(suggest(found), split_seed=seed)
        test = set(chosen.split(found).test.tolist())
        assert test
        assert set(views.offered(found, chosen)) == set(range(len(found.photos))) - test


def answers_with(monkeypatch, run, names):
    """Let the instant model be this run, naming the views so."""
    monkeypatch.setattr(shelf, "instant", lambda found, plan: run)
    monkeypatch.setattr(predict.Predictor, "name_views", lambda self, drawn: names)


def test_views_already_drawn_are_named_as_the_photos_they_show(trained, small_pictures):
    predictor = predict.load(trained.run)
    made = Views.of(trained.run.plan)
    pixels = [trained.data.pixels(i) for i in range(6)]
    named = predictor.name_views([made.plain(one) for one in pixels])
    assert named == [answer.label for answer in predictor.predict_all([("", one) for one in pixels])]
    assert len(set(named)) == 2


def test_what_is_marked_are_the_views_named_otherwise_than_the_original(monkeypatch, own, small_pictures):
    run, found = own
    answers_with(monkeypatch, run, ["reds", "reds", "blues", "reds", "reds", "blues", "reds", "reds"])
    html = views.marks(found, shown(found))
    cells = re.findall(r'<div(?: class="tl-turned")?>(.*?)</div>', html.split('<div class="tl-over">')[1])
    assert [n for n, cell in enumerate(cells) if cell] == [2, 5]
    assert "view 2 is </i>now blues" in html
    assert "calls the original reds, and 2 of 7 views something else" in html


def test_marks_are_for_the_very_views_of_the_grid_and_for_no_others(monkeypatch, own, small_pictures):
    run, found = own
    answers_with(monkeypatch, run, ["reds"] * 8)
    (key,) = re.findall('data-of="(.*?)"', views.grid(found, shown(found)))
    assert set(re.findall('data-of="(.*?)"', views.marks(found, shown(found)))) == {key}
    for other in (shown(found, draw=1), shown(found, photo=1)):
        assert key not in views.marks(found, other)


def test_the_model_is_shown_the_views_that_training_would_draw(monkeypatch, own, small_pictures):
    run, found = own
    seen = []
    answers_with(monkeypatch, run, None)
    monkeypatch.setattr(predict.Predictor, "name_views", lambda self, drawn: seen.extend(drawn) or ["reds"] * 8)
    views.marks(found, shown(found, draw=3))
    pixels, made = found.pixels(0), Views(AUGMENTATIONS["strong"], ENTRY)
    assert torch.equal(seen[0], made.plain(pixels))
    assert torch.equal(seen[4], made.draw(pixels, view_seed(3, found.photos[0].sha256, 3)))


def test_a_class_name_is_shown_literally_in_a_mark(monkeypatch, own, small_pictures):
    run, found = own
    answers_with(monkeypatch, run, ["reds", *["<b>x</b>"] * 7])
    assert "<b>x" not in views.marks(found, shown(found))


@pytest.fixture
def halves(tmp_path):
    """Photos of two colours; the first of the blues, which no test photo is, is red on its other half."""
    folder = fill(tmp_path / "photos", {"reds": 8, "blues": 8})
    first = min((folder / "blues").iterdir())
    red, blue = (images.load(photo(tmp_path / f"{c}.png", rgb, 90).read_bytes()) for c, rgb in
                 (("red", (200, 40, 40)), ("blue", (40, 40, 200))))  # fmt: skip
    Image.fromarray(np.concatenate([blue[:, :36], red[:, 36:]], axis=1)).save(first)
    return folder


def visible(site):
    """The views on show and the marks that can be seen on them, if these are for them."""
    marks = site.locator("#marks .tl-marks")
    if not marks.count() or marks.evaluate("e => getComputedStyle(e).visibility") != "visible":
        return None
    return site.locator(".tl-views").get_attribute("data-of"), marks.get_attribute("data-of")


def test_marks_come_once_the_instant_model_is_there_and_follow_the_slider(site, halves, home):
    load(site, halves)
    until(lambda: the_instant(home).state() == "finished")
    first = until(lambda: visible(site))
    assert first[0] == first[1]
    slider = site.locator("#aug-crop input[type=range]")
    slider.focus()
    slider.press("End")
    at_end = until(lambda: (now := visible(site)) and now != first and now)
    assert at_end[0] == at_end[1]
    until(lambda: site.locator(".tl-turned").count() and visible(site), 30)
    words = site.locator("#marks p").inner_text()
    assert f"calls the original blues, and {site.locator('.tl-turned').count()} of 7 views something else" in words
    picture = site.locator("#preview img").nth(int(re.sub(r"\D", "", site.locator(".tl-turned i").first.inner_text())))
    mark = site.locator(".tl-turned").first
    assert mark.bounding_box() == pytest.approx(picture.bounding_box(), abs=1)
    site.evaluate("document.querySelector('.tl-views').dataset.of = 'others'")
    assert visible(site) is None
    choice(site, "aug-strength", "off").check()
    until(lambda: visible(site) and "calls all 7 views" in site.locator("#marks p").inner_text())


def test_off_draws_the_plain_view_every_time(own, small_pictures):
    _, found = own
    pictures = re.findall('src="([^"]+)"', views.grid(found, Shown(found.id, 0, 0, AUGMENTATIONS["off"], ENTRY)))
    assert len(pictures) == 8
    assert len(set(pictures)) == 1


def test_photos_whose_folder_is_gone_are_gone_from_the_page_and_back_with_it(make_folder, home):
    data = dataset.scan(make_folder({"reds": 3, "blues": 3}))
    assert shelf.dataset(data.id) == data
    away = data.folder.rename(home / "away")
    assert shelf.dataset(data.id) is None
    away.rename(data.folder)
    assert shelf.dataset(data.id) == data
