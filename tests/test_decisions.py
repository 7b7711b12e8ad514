"""Decisions about photos: kept, undone, edited, used again; the photos as they were read never change."""

import os
import shutil
import threading

import numpy as np
import pytest
from conftest import fill

from tlapp import dataset, decisions
from tlapp.decisions import EXCLUDE, KEEP, RELABEL, TOGETHER, about
from tlapp.errors import DataError


@pytest.fixture
def data(tmp_path):
    return dataset.scan(fill(tmp_path / "photos", {"reds": 8, "blues": 8, "greens": 6}))


def names(found):
    return {photo.name: found.classes[photo.label] for photo in found.photos}


def test_a_photo_that_is_left_out_is_named_and_undoing_brings_it_back(data, tmp_path):
    before = {path: path.read_bytes() for path in (tmp_path / "photos").rglob("*") if path.is_file()}
    left = decisions.decide(data, [about(data.photos[3], EXCLUDE)])
    assert len(left.photos) == 21
    assert [(s.name, s.reason) for s in left.skipped] == [(data.photos[3].name, decisions.LEFT_OUT)]
    assert left.original == data.id != left.id
    assert decisions.undo(left, decisions.of(left)).id == data.id
    assert decisions.of(data) == []
    assert before == {path: path.read_bytes() for path in (tmp_path / "photos").rglob("*") if path.is_file()}


def test_a_label_is_changed_and_a_later_decision_takes_the_place_of_an_earlier(data):
    photo = data.photos[0]
    changed = decisions.decide(data, [about(photo, RELABEL, "greens")])
    assert names(changed)[photo.name] == "greens"
    kept = decisions.decide(changed, [about(photo, KEEP)])
    assert kept.id == data.id
    assert [d.kind for d in decisions.of(kept)] == [KEEP]


def test_pixels_are_shared_and_lie_where_they_lay(data):
    left = decisions.decide(data, [about(data.photos[0], EXCLUDE)])
    assert os.path.samefile(left.folder / "photos.bin", data.folder / "photos.bin")
    for i, photo in enumerate(left.photos):
        assert np.array_equal(left.pixels(i), data.pixels([p.name for p in data.photos].index(photo.name)))


def test_what_is_put_together_stays_on_one_side_beside_a_new_label(data):
    members = [photo for photo in data.photos if data.classes[photo.label] == "reds"][:4]
    held = decisions.decide(data, [about(photo, TOGETHER, "burst") for photo in members])
    held = decisions.decide(held, [about(members[0], RELABEL, "blues")])
    assert names(held)[members[0].name] == "blues"
    wanted = {photo.name for photo in members}
    for seed in range(10):
        split = held.split(0.3, seed=seed)
        sides = [{held.photos[i].name for i in part} & wanted for part in (split.train, split.validation, split.test)]
        assert sum(map(bool, sides)) == 1


def test_an_exclusion_that_leaves_nothing_to_learn_is_refused_and_not_noted(data):
    greens = [photo for photo in data.photos if data.classes[photo.label] == "greens"]
    decisions.decide(data, [about(greens[0], KEEP)])
    with pytest.raises(DataError, match="only one photo of `greens`"):
        decisions.decide(data, [about(photo, EXCLUDE) for photo in greens[1:]])
    assert [d.kind for d in decisions.of(data)] == [KEEP]
    without = decisions.decide(data, [about(photo, EXCLUDE) for photo in greens])
    assert without.classes == ("blues", "reds")


def test_a_class_that_there_is_not_is_refused(data):
    with pytest.raises(DataError, match="`yellows` is no class of these photos"):
        decisions.decide(data, [about(data.photos[0], RELABEL, "yellows")])


def test_the_csv_can_be_edited_by_hand_with_file_names_alone(data, tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text(f"file,decision,value\n{data.photos[0].name},Exclude,\n\nother.png,exclude,\n")
    assert len(decisions.use(data, path).photos) == 21


def test_decisions_find_their_photos_under_other_names(data, tmp_path):
    decisions.decide(data, [about(data.photos[0], EXCLUDE)])
    shutil.copytree(tmp_path / "photos", tmp_path / "moved")
    (tmp_path / "moved" / data.photos[0].name).rename(tmp_path / "moved" / "blues" / "renamed.png")
    other = dataset.scan(tmp_path / "moved")
    assert "blues/renamed.png" not in names(decisions.use(other, decisions.path_of(data)))


def test_hostile_names_survive_the_csv(tmp_path):
    folder = fill(tmp_path / "photos", {"=reds": 4, "blues": 4})
    (folder / "=reds" / "000.png").rename(folder / "=reds" / '=cmd|"x", y.png')
    data = dataset.scan(folder)
    odd = next(photo for photo in data.photos if "cmd" in photo.name)
    held = decisions.decide(data, [about(odd, TOGETHER, "-1"), about(data.photos[-1], RELABEL, "=reds")])
    assert "\n\"'=reds" in decisions.path_of(data).read_text()
    assert {(d.file, d.value) for d in decisions.of(held)} == {(odd.name, "-1"), (data.photos[-1].name, "=reds")}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no list of decisions"),
        ("a,b\n", "no list of decisions"),
        ("file,decision\nx.png,burn\n", "Line 2 of .* has the decision `burn`"),
        ("file,decision,value\nx.png,relabel,\n", "Line 2 of .* has no value"),
    ],
)
def test_a_csv_that_is_no_list_of_decisions_is_explained(data, tmp_path, text, words):
    path = tmp_path / "bad.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=words):
        decisions.use(data, path)
    path.write_bytes(b"file,decision\n\xff\xfe,keep\n")
    with pytest.raises(DataError, match="UTF-8"):
        decisions.read(path)
    with pytest.raises(DataError, match="does not exist"):
        decisions.read(tmp_path / "none.csv")


def test_decisions_hold_on_when_photos_are_added_and_a_class_is_taken_out(data, tmp_path):
    photo = data.photos[0]
    left = decisions.decide(data, [about(photo, EXCLUDE), about(data.photos[1], RELABEL, "greens")])
    more = dataset.scan(fill(tmp_path / "more", {"reds": 3, "blues": 3}, seed=500))
    both = decisions.combine([left, more])
    assert len(both.photos) == 21 + 6
    assert names(both)[data.photos[1].name] == "greens"
    assert photo.name in names(decisions.undo(both, decisions.of(both)))
    fewer = decisions.combine([left], without=["greens"])
    assert fewer.classes == ("blues", "reds")
    assert photo.name not in names(fewer)
    assert names(fewer)[data.photos[1].name] == "blues"


def test_two_who_decide_at_once_lose_nothing(data):
    def decide(photos):
        for photo in photos:
            decisions.decide(data, [about(photo, KEEP)])

    threads = [threading.Thread(target=decide, args=(data.photos[i::2],)) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(decisions.of(data)) == len(data.photos)


def test_what_is_computed_of_the_photos_is_kept_in_one_place(data):
    left = decisions.decide(data, [about(data.photos[2], EXCLUDE)])
    folder, n, at = decisions.places(left)
    assert (folder, n) == (data.folder, 22)
    assert [data.photos[i].sha256 for i in at] == [photo.sha256 for photo in left.photos]
    shutil.rmtree(data.folder)
    folder, n, at = decisions.places(left)
    assert (folder, n, at.tolist()) == (left.folder, 21, list(range(21)))
