"""Photos that join a dataset with their right class: learned from, never tested on, everything else as it was."""

import os
import shutil
import threading
import time

import numpy as np
import pytest
from conftest import COLOURS, fill, photo, seal, watch
from PIL import Image

from tlapp import additions, dataset, decisions, jobs, plan, readings
from tlapp.additions import Addition
from tlapp.augment import Views
from tlapp.decisions import EXCLUDE, KEEP, RELABEL, TOGETHER
from tlapp.errors import DataError
from tlapp.pool import Pool


@pytest.fixture
def data(tmp_path):
    return dataset.scan(fill(tmp_path / "photos", {"reds": 10, "blues": 10}))


@pytest.fixture
def new(tmp_path):
    return Addition("new.png", photo(tmp_path / "new.png", COLOURS["reds"], 500), "reds")


def again(tmp_path):
    """What follows when the folder is read again."""
    return additions.as_noted(dataset.scan(tmp_path / "photos")).dataset


def test_a_photo_joins_as_a_training_photo_and_the_others_stay_where_they_were(data, new):
    joined = additions.add(data, [new])
    (added,) = joined.photos
    assert joined.refused == ()
    assert (added.name, added.side, added.added) == ("new.png", "train", True)
    assert joined.dataset.photos[:20] == data.photos
    assert joined.dataset.photos[20] == added
    assert joined.dataset.pixels(20).shape == (48, 60, 3)
    assert all(np.array_equal(joined.dataset.pixels(i), data.pixels(i)) for i in range(20))
    assert dataset.load(joined.dataset.folder) == joined.dataset
    assert len(dataset.load(data.folder).photos) == 20


def test_an_added_photo_is_never_drawn_and_the_test_photos_stay_the_same(data, tmp_path):
    many = [Addition(f"{i}.png", photo(tmp_path / f"{i}.png", COLOURS["reds"], 500 + i), "reds") for i in range(8)]
    grown = additions.add(data, many).dataset
    for seed in range(20):
        before, after = data.split(seed=seed), grown.split(seed=seed)
        assert set(range(20, 28)) <= set(after.train.tolist()), seed
        assert np.array_equal(after.test, before.test), seed
        assert np.array_equal(after.validation, before.validation), seed


def test_what_belongs_with_an_added_photo_is_learned_from_too(data, new):
    grown = additions.add(data, [new]).dataset
    made = decisions.decide(grown, [decisions.about(grown.photos[i], TOGETHER, "one scene") for i in (3, 20)])
    assert made.groups[20] == made.groups[3]
    for seed in range(5):
        assert {3, 20} <= set(made.split(seed=seed).train.tolist()), seed


def test_a_near_copy_of_any_photo_does_not_join_as_that_may_be_held_back(tmp_path):
    small = dataset.scan(fill(tmp_path / "photos", {"reds": 3, "blues": 3}))
    (tmp_path / "copy.png").write_bytes((tmp_path / "photos/reds/000.png").read_bytes() + b"\0")
    joined = additions.add(small, [Addition("copy.png", tmp_path / "copy.png", "reds")])
    assert joined.dataset is small
    (said,) = joined.refused
    assert said.startswith("`copy.png` is a near copy of `reds/000.png`, or of the same burst")


def test_an_undone_decision_does_not_come_back_when_the_same_photo_joins_again(data, new):
    out = decisions.about(data.photos[0], EXCLUDE)
    left = decisions.decide(data, [out])
    assert len(additions.add(left, [new]).dataset.photos) == len(data.photos)
    back = decisions.undo(left, [out])
    again = additions.add(back, [new]).dataset
    assert len(again.photos) == len(data.photos) + 1
    assert data.photos[0].sha256 in {photo.sha256 for photo in again.photos}


def test_added_photos_are_learned_from_and_never_chosen_by(data, new):
    made = additions.add(data, [new]).dataset
    chosen = plan.instant(made)
    pool = Pool(made, chosen.split(made), Views.of(chosen), chosen)
    (place,) = np.flatnonzero(pool.is_added)
    assert made.photos[pool.indices[place]].added
    assert pool.fold[place] == -1


def test_a_photo_that_is_there_already_is_said_so_whatever_its_name(data, tmp_path, new):
    (tmp_path / "again.png").write_bytes((tmp_path / "photos/reds/003.png").read_bytes())
    again = Addition("again.png", tmp_path / "again.png", "blues")
    joined = additions.add(data, [again])
    assert joined.dataset is data
    assert joined.refused == (
        f"`again.png` is in your photos already, as `{data.photos[13].name}` of the class `reds`.",
    )
    twice = additions.add(data, [new, Addition("twin.png", new.path, "blues")])
    assert len(twice.photos) == 1
    assert twice.refused == ("`twin.png` is a copy of `new.png`, which joins already.",)


def test_one_that_was_left_out_or_cannot_be_read_is_said_so_and_keeps_no_other(data, tmp_path, new):
    left = decisions.decide(data, [decisions.about(data.photos[0], EXCLUDE)])
    (tmp_path / "out.png").write_bytes((tmp_path / "photos/blues/000.png").read_bytes())
    (tmp_path / "text.png").write_text("no photo")
    given = [Addition(name, tmp_path / name, "reds") for name in ("out.png", "text.png", "gone.png")]
    joined = additions.add(left, [*given, new])
    assert [one.name for one in joined.photos] == ["new.png"]
    assert [sentence.split("`")[1] for sentence in joined.refused] == ["out.png", "text.png", "gone.png"]
    assert "left out as you decided" in joined.refused[0]


def test_a_near_copy_of_a_given_test_photo_does_not_join(tmp_path):
    data = dataset.scan(fill(tmp_path / "photos", {f"{s}/{c}": 6 for s in ("train", "test") for c in COLOURS}))
    tested = next(i for i, one in enumerate(data.photos) if one.side == "test")
    Image.fromarray(data.pixels(tested)).save(tmp_path / "near.bmp")
    joined = additions.add(data, [Addition("near.bmp", tmp_path / "near.bmp", "reds")])
    assert joined.dataset is data
    assert f"near copy of `{data.photos[tested].name}`" in joined.refused[0]


def test_a_name_that_is_taken_gets_a_number(data, tmp_path):
    taken = data.photos[0].name
    path = photo(tmp_path / "x.png", COLOURS["blues"], 600)
    (added,) = additions.add(data, [Addition(taken, path, "blues")]).photos
    assert added.name == f"{taken} (2)"


def test_decisions_hold_on_and_the_joined_photo_can_be_taken_back_and_join_again(data, new):
    decided = decisions.decide(
        data, [decisions.about(data.photos[0], EXCLUDE), decisions.about(data.photos[1], RELABEL, "reds")]
    )
    joined = additions.add(decided, [new])
    assert len(joined.dataset.photos) == 20
    assert decisions.of(joined.dataset) == decisions.of(decided)
    back = additions.take_back(joined.dataset, joined.photos)
    assert [p.sha256 for p in back.photos] == [p.sha256 for p in decided.photos]
    again = additions.add(decided, [new])
    assert again.dataset == joined.dataset


def test_a_class_that_is_not_there_is_refused_by_name(data, new):
    with pytest.raises(DataError, match="`greens` is no class of these photos"):
        additions.add(data, [Addition(new.name, new.path, "greens")])


def test_a_dataset_with_added_photos_alone_says_so_in_its_record(data, new):
    assert '"added"' not in (data.folder / "dataset.json").read_text()
    assert '"added": true' in (additions.add(data, [new]).dataset.folder / "dataset.json").read_text()


def test_what_was_added_holds_when_the_same_folder_is_read_again_with_more_photos(data, new, tmp_path):
    grown = additions.add(data, [new]).dataset
    again = additions.as_noted(dataset.scan(tmp_path / "photos")).dataset
    assert again == grown
    fill(tmp_path / "photos", {"reds/more": 5}, seed=900)
    joined = additions.as_noted(dataset.scan(tmp_path / "photos"))
    (photo,) = joined.photos
    assert (photo.name, photo.sha256, photo.added) == (new.name, grown.photos[-1].sha256, True)
    assert len(joined.dataset.photos) == 20 + 5 + 1
    assert np.array_equal(joined.dataset.pixels(25), grown.pixels(20))
    assert joined.dataset.classes[photo.label] == "reds"
    elsewhere = dataset.scan(shutil.copytree(tmp_path / "photos", tmp_path / "elsewhere"))
    assert additions.as_noted(elsewhere).dataset is elsewhere


def test_what_was_taken_out_or_undone_stays_out_when_the_folder_is_read_again(data, new, tmp_path):
    grown = additions.add(data, [new])
    out = additions.take_back(grown.dataset, grown.photos)
    assert again(tmp_path) == out
    assert additions.added(grown.dataset, out) == ((), grown.photos)
    back = additions.put_back(out, grown.photos)
    assert back == again(tmp_path) == grown.dataset
    assert additions.added(back, back) == (grown.photos, ())
    assert additions.undo(data, grown.dataset, grown.photos) == again(tmp_path) == data
    additions.add(data, [new])
    assert again(tmp_path) == grown.dataset


def test_what_was_decided_since_photos_were_added_holds_when_the_folder_is_read_again(data, new, tmp_path):
    decisions.decide(data, [decisions.about(data.photos[0], EXCLUDE)])
    grown = additions.add(data, [new]).dataset
    decisions.decide(
        grown, [decisions.about(data.photos[1], EXCLUDE), decisions.about(grown.photos[-1], TOGETHER, "x")]
    )
    fill(tmp_path / "photos", {"reds/more": 5}, seed=900)
    again = additions.as_noted(dataset.scan(tmp_path / "photos")).dataset
    assert {p.name for p in data.photos} - {p.name for p in again.photos} == {p.name for p in data.photos[:2]}
    assert again.photos[-1].together == "x"
    assert len(decisions.of(again)) == 3


def test_an_added_photo_that_cannot_join_again_is_said_so(data, tmp_path):
    paths = [photo(tmp_path / f"{i}.png", COLOURS["reds"], 500 + i) for i in range(3)]
    greens = fill(tmp_path / "photos", {"greens": 4}, seed=700)
    both = dataset.scan(greens)
    given = [Addition(f"{i}.png", path, "greens" if i == 2 else "reds") for i, path in enumerate(paths)]
    additions.add(both, given)
    shutil.rmtree(tmp_path / "photos" / "greens")
    shutil.copy(paths[0], tmp_path / "photos" / "blues" / "moved.png")
    near = tmp_path / "photos" / "reds" / "near.png"
    near.write_bytes(paths[1].read_bytes() + b"\0")
    joined = additions.as_noted(dataset.scan(tmp_path / "photos"))
    assert joined.photos == ()
    assert [said.split(",")[0] for said in joined.refused] == [
        "`0.png` is in your photos already",
        "`1.png` is a near copy of `reds/near.png`",
        "`2.png` was added as `greens`",
    ]
    assert sorted(p.name for p in joined.dataset.photos if p.added) == []


def test_a_damaged_copy_of_an_added_photo_keeps_the_folder_from_nothing(data, new, tmp_path):
    grown = additions.add(data, [new]).dataset
    (grown.folder / "added.bin").unlink()
    fill(tmp_path / "photos", {"reds/more": 5}, seed=900)
    joined = additions.as_noted(dataset.scan(tmp_path / "photos"))
    assert len(joined.dataset.photos) == 25
    assert joined.refused == ("`new.png` was added, and the app's copy of it is gone or damaged; add it again.",)


def test_what_was_decided_and_cannot_be_used_is_said_so(data, tmp_path):
    decisions.decide(data, [decisions.about(data.photos[0], EXCLUDE)])
    decisions.path_of(data).write_text("nonsense")
    joined = additions.as_noted(dataset.scan(tmp_path / "photos"))
    assert joined.dataset == data
    (said,) = joined.refused
    assert "What was decided about these photos before does not hold now." in said
    assert "is no list of decisions" in said


def test_only_the_pixels_of_added_photos_are_written(data, new, tmp_path):
    first = additions.add(data, [new]).dataset
    other = Addition("other.png", photo(tmp_path / "other.png", COLOURS["blues"], 700), "blues")
    second = additions.add(first, [other]).dataset
    assert all(os.path.samefile(one.folder / "photos.bin", data.folder / "photos.bin") for one in (first, second))
    assert [(one.folder / "added.bin").stat().st_size for one in (first, second)] == [60 * 48 * 3, 2 * 60 * 48 * 3]
    left = decisions.decide(second, [decisions.about(data.photos[0], EXCLUDE)])
    assert np.array_equal(left.pixels(19), first.pixels(20))
    assert np.array_equal(decisions.combine([left], without=[]).pixels(20), second.pixels(21))


def test_the_features_known_of_the_last_reading_are_carried_over(data, new, tmp_path):
    grown = additions.add(data, [new]).dataset
    np.save(grown.folder / "features-x.npy", np.arange(21, dtype=np.float32)[:, None])
    fill(tmp_path / "photos", {"reds/more": 1}, seed=900)
    again = additions.as_noted(dataset.scan(tmp_path / "photos")).dataset
    found = np.load(again.folder / "features-x.npy")[:, 0]
    of_name = {p.name: i for i, p in enumerate(grown.photos)}
    assert [found[i] for i, p in enumerate(again.photos) if p.name in of_name] == [
        of_name[p.name] for p in again.photos if p.name in of_name
    ]
    assert np.isnan(found).sum() == 1


def test_what_was_added_last_outlives_the_sweep_and_what_came_before_goes(data, new, tmp_path, home):
    first = additions.add(data, [new]).dataset
    other = Addition("other.png", photo(tmp_path / "other.png", COLOURS["blues"], 700), "blues")
    second = additions.add(first, [other]).dataset
    for one in (data, first, second):
        os.utime(one.folder / "dataset.json", (0, 0))
    decisions.sweep(home, set())
    assert [one.folder.is_dir() for one in (data, first, second)] == [True, False, True]
    assert additions.as_noted(dataset.scan(tmp_path / "photos")).dataset == second


def test_a_class_that_was_taken_out_comes_back_with_what_was_added_to_it_and_decided_about_it(tmp_path, home):
    data = dataset.scan(fill(tmp_path / "photos", {"reds": 6, "blues": 6, "greens": 6}))
    given = [Addition(f"{c}.png", photo(tmp_path / f"{c}.png", COLOURS[c], 900), c) for c in ("greens", "reds")]
    grown = additions.add(data, given).dataset
    green = next(p for p in data.photos if data.classes[p.label] == "greens")
    before = decisions.decide(grown, [decisions.about(green, EXCLUDE)])
    photos = {(p.name, before.classes[p.label]) for p in before.photos}
    fewer = decisions.combine([before], without=["greens"])
    assert fewer.class_counts() == {"blues": 6, "reds": 7}
    os.utime(grown.folder / "dataset.json", (0, 0))
    decisions.sweep(home, set())
    for _ in range(2):
        back = again(tmp_path)
        assert {(p.name, back.classes[p.label]) for p in back.photos} == photos


def test_what_was_decided_and_added_outlives_a_reading_with_photos_away(data, new, tmp_path):
    grown = additions.add(data, [new]).dataset
    before = decisions.decide(grown, [decisions.about(data.photos[i], EXCLUDE) for i in (0, 1)])
    (tmp_path / "photos" / data.photos[0].name).rename(tmp_path / "away.png")
    assert len(again(tmp_path).photos) == 20 - 2 + 1
    assert len(decisions.of(before)) == 2
    (tmp_path / "away.png").rename(tmp_path / "photos" / data.photos[0].name)
    assert again(tmp_path) == before
    assert len(decisions.of(before)) == 2


def test_two_browsers_add_to_one_folder_and_neither_loses_nor_undoes_what_is_the_others(data, new, tmp_path):
    other = Addition("other.png", photo(tmp_path / "other.png", COLOURS["blues"], 700), "blues")
    mine = additions.add(data, [new])
    theirs = additions.add(data, [other])
    decisions.decide(theirs.dataset, [decisions.about(data.photos[0], EXCLUDE)])
    both = again(tmp_path)
    assert sorted(p.name for p in both.photos if p.added) == ["new.png", "other.png"]
    left = additions.undo(data, mine.dataset, mine.photos)
    assert len(left.photos) == 19
    assert [p.name for p in again(tmp_path).photos if p.added] == ["other.png"]
    assert len(again(tmp_path).photos) == 19 + 1
    assert [p.name for p in additions.undo(data, both, theirs.photos).photos if p.added] == []
    assert [p for p in again(tmp_path).photos if p.added] == []
    assert additions.add(data, [new]).photos == mine.photos
    assert [p.name for p in again(tmp_path).photos if p.added] == ["new.png"]


def test_an_undo_takes_out_what_joined_and_leaves_what_joined_and_was_decided_since(data, new, tmp_path):
    other = Addition("other.png", photo(tmp_path / "other.png", COLOURS["blues"], 700), "blues")
    first = additions.add(data, [new])
    second = additions.add(first.dataset, [other])
    now = decisions.decide(second.dataset, [decisions.about(data.photos[0], EXCLUDE)])
    left = additions.undo(data, now, first.photos)
    assert [p.name for p in left.photos if p.added] == ["other.png"]
    assert len(left.photos) == 20
    assert {p.sha256 for p in again(tmp_path).photos} == {p.sha256 for p in left.photos}


def test_a_label_of_a_class_that_is_gone_waits_for_it_and_all_else_holds(tmp_path):
    data = dataset.scan(fill(tmp_path / "photos", {"reds": 6, "blues": 6, "greens": 6}))
    grown = additions.add(data, [Addition("n.png", photo(tmp_path / "n.png", COLOURS["reds"], 900), "reds")]).dataset
    blues = [p for p in data.photos if data.classes[p.label] == "blues"]
    said = [(RELABEL, "greens"), (EXCLUDE, ""), (RELABEL, "reds")]
    before = decisions.decide(grown, [decisions.about(p, *one) for p, one in zip(blues, said, strict=False)])
    (tmp_path / "photos" / "greens").rename(tmp_path / "greens")
    joined = additions.as_noted(dataset.scan(tmp_path / "photos"))
    assert joined.refused == (
        f"`{blues[0].name}` is not taken for `greens`, as you decided: there are no photos of that class.",
    )
    assert joined.dataset.class_counts() == {"blues": 4, "reds": 6 + 1 + 1}
    still = decisions.decide(joined.dataset, [decisions.about(blues[3], EXCLUDE)])
    assert still.class_counts() == {"blues": 3, "reds": 8}
    (tmp_path / "greens").rename(tmp_path / "photos" / "greens")
    assert again(tmp_path) == decisions.decide(before, [])
    assert again(tmp_path).class_counts() == {"blues": 2, "greens": 7, "reds": 8}


def test_added_photos_join_where_what_was_decided_leaves_nothing_to_train_on(tmp_path):
    data = dataset.scan(fill(tmp_path / "photos", {"reds": 6, "blues": 6, "greens": 6}))
    grown = additions.add(data, [Addition("n.png", photo(tmp_path / "n.png", COLOURS["reds"], 900), "reds")]).dataset
    blues = [p for p in data.photos if data.classes[p.label] == "blues"]
    decisions.decide(grown, [decisions.about(p, EXCLUDE) for p in blues])
    shutil.rmtree(tmp_path / "photos" / "greens")
    joined = additions.as_noted(dataset.scan(tmp_path / "photos"))
    assert joined.dataset.class_counts() == {"blues": 6, "reds": 7}
    (said,) = joined.refused
    assert "does not hold now. There are usable photos of one class only" in said
    assert decisions.decide(joined.dataset, [decisions.about(blues[0], EXCLUDE)]).class_counts()["blues"] == 5
    fill(tmp_path / "photos", {"reds": 6, "blues": 6, "greens": 6})
    back = additions.as_noted(dataset.scan(tmp_path / "photos"))
    assert back.dataset.class_counts() == {"greens": 6, "reds": 7}, "what was decided before holds again"
    assert back.refused == ()


def test_of_two_readings_the_later_word_holds_when_the_earlier_is_put_together_with_others(data, new):
    grown, one = additions.add(data, [new]).dataset, decisions.about(data.photos[0], EXCLUDE)
    first = decisions.decide(data, [one])
    decisions.undo(grown, [one])
    left = decisions.combine([first])
    assert data.photos[0].sha256 in {photo.sha256 for photo in left.photos}


def test_two_who_decide_at_once_beside_two_readings_lose_nothing(data, new):
    grown = additions.add(data, [new]).dataset

    def decide(dataset, photos):
        for one in photos:
            decisions.decide(dataset, [decisions.about(one, KEEP)])

    threads = [threading.Thread(target=decide, args=(d, data.photos[i::2])) for i, d in enumerate((data, grown))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    noted = {d.photo for d in readings.held(data)}
    assert noted == readings.digits_of(data)


def test_a_dataset_that_is_made_again_is_not_swept(data, home):
    one = decisions.about(data.photos[0], EXCLUDE)
    made = decisions.decide(data, [one])
    os.utime(made.folder / "dataset.json", (0, 0))
    assert decisions.decide(data, [one]) == made
    decisions.sweep(home, set())
    assert made.folder.is_dir()


def test_what_cannot_be_used_is_not_offered(tmp_path):
    data = dataset.scan(fill(tmp_path / "photos", {"reds": 6, "blues": 6, "greens": 6}))
    grown = additions.add(data, [Addition("n.png", photo(tmp_path / "n.png", COLOURS["reds"], 900), "greens")]).dataset
    decisions.decide(grown, [decisions.about(data.photos[-1], RELABEL, "greens")])
    assert additions.unused(data) == (1, 1)
    shutil.rmtree(tmp_path / "photos" / "greens")
    assert additions.unused(dataset.scan(tmp_path / "photos")) == (0, 0)


def test_leaving_out_what_was_added_and_using_it_again_gives_what_was(data, new, tmp_path):
    other = Addition("other.png", photo(tmp_path / "other.png", COLOURS["reds"], 700), "reds")
    joined = additions.add(data, [new, other])
    one, two = joined.photos
    before = decisions.decide(joined.dataset, [decisions.about(one, EXCLUDE), decisions.about(two, RELABEL, "blues")])
    inside, outside = additions.added(joined.dataset, before)
    assert (inside, outside) == ((two,), ())
    out = additions.take_back(before, inside)
    assert len(out.photos) == 20
    inside, outside = additions.added(joined.dataset, out)
    assert (inside, outside) == ((), (two,))
    assert additions.put_back(out, outside) == before
    back = additions.take_back(before, joined.photos)
    assert len(back.photos) == 20, "one was left out by hand already, the other goes all the same"
    with pytest.raises(DataError, match="nothing to take out"):
        additions.take_back(data, joined.photos)


def test_an_added_photo_that_was_left_out_is_used_once_it_stands_in_the_folder(data, new, tmp_path):
    joined = additions.add(data, [new])
    additions.undo(data, joined.dataset, joined.photos)
    shutil.copy(new.path, tmp_path / "photos" / "reds" / "own.png")
    assert "reds/own.png" in {p.name for p in again(tmp_path).photos}


def test_what_a_dataset_in_use_was_made_of_outlives_the_sweep(data, new, home):
    joined = additions.add(data, [new])
    made = decisions.decide(joined.dataset, [decisions.about(data.photos[0], EXCLUDE)])
    other = decisions.decide(made, [decisions.about(data.photos[1], EXCLUDE)])
    additions.add(joined.dataset, [Addition("more.png", photo(home / "more.png", COLOURS["reds"], 800), "reds")])
    for one in (joined.dataset, made, other):
        os.utime(one.folder / "dataset.json", (0, 0))
    decisions.sweep(home, {made.id})
    assert [one.folder.is_dir() for one in (joined.dataset, made, other)] == [True, True, False]
    assert len(decisions.of(made)) == 2
    decisions.sweep(home, set())
    decisions.sweep(home, set())
    assert not joined.dataset.folder.is_dir()


def test_what_is_read_beside_other_photos_comes_with_what_was_noted_of_it(data, new, tmp_path):
    grown = additions.add(data, [new]).dataset
    decisions.decide(grown, [decisions.about(data.photos[0], EXCLUDE)])
    old = dataset.scan(fill(tmp_path / "other", {"reds": 6, "blues": 6}, seed=3000))
    both = additions.beside(old, dataset.scan(tmp_path / "photos"))
    assert [p.name for p in both.dataset.photos if p.added] == ["new.png"]
    assert len(both.dataset.photos) == 12 + 20
    more = Addition("more.png", photo(tmp_path / "more.png", COLOURS["reds"], 800), "reds")
    wanted = additions.add(both.dataset, [more]).dataset
    both = additions.beside(old, dataset.scan(tmp_path / "photos"))
    assert (both.dataset, both.refused) == (wanted, ())
    shutil.copy(new.path, tmp_path / "photos" / "reds" / "own.png")
    said = additions.beside(old, dataset.scan(tmp_path / "photos")).refused
    assert said[0] == "`new.png` is in your photos already, as `reds/own.png` of the class `reds`."


@pytest.mark.parametrize(("first", "then"), [("photos", ""), ("", "photos"), ("photos", "album")])
def test_what_was_noted_of_a_dropped_folder_holds_for_its_path_and_the_other_way_round(new, tmp_path, first, then):
    folder = fill(tmp_path / "photos", {"reds": 6, "blues": 6})
    grown = additions.add(dataset.scan(folder, shown_as=first), [new])
    found = additions.as_noted(dataset.scan(folder, shown_as=then))
    assert [p.sha256 for p in found.photos] == [p.sha256 for p in grown.photos]


def test_cancel_leaves_everything_as_it_was(data, new, home):
    def cancel(*_):
        raise KeyboardInterrupt

    before = sorted((home / "datasets").iterdir())
    with pytest.raises(KeyboardInterrupt):
        additions.add(data, [new], cancel)
    assert sorted((home / "datasets").iterdir()) == before


def test_retraining_runs_the_network_over_the_new_photos_alone(data, new, small_pictures, monkeypatch):
    from tlapp import pool

    watch(jobs.start(data, plan.instant(data)))
    joined = additions.add(data, [new]).dataset
    seen = []
    run_over = pool.run_over

    def counted(whole, photos, *rest):
        seen.append(len(photos))
        yield from run_over(whole, photos, *rest)

    monkeypatch.setattr(pool, "run_over", counted)
    started = time.monotonic()
    run = jobs.start(joined, plan.instant(joined))
    assert watch(run)[-1].accuracy is not None
    print(f"retrained in {time.monotonic() - started:.2f} s")
    assert seen == [1]
    assert seal(joined, run.plan).sealed.isdisjoint({20})


def test_a_copy_of_an_earlier_version_serves_at_every_moment_of_its_repair(data, new, tmp_path, monkeypatch):
    grown = additions.add(data, [new]).dataset
    pixels, whole, behind = grown.pixels(20), grown.folder / "photos.bin", grown.folder / "added.bin"
    both = whole.read_bytes() + behind.read_bytes()
    whole.unlink()
    behind.unlink()
    whole.write_bytes(both)  # as it was once kept: all photos in one file
    replace, seen = os.replace, []

    def replaced(*paths):
        replace(*paths)
        seen.append(np.array_equal(dataset.load(grown.folder).pixels(20), pixels))

    monkeypatch.setattr(os, "replace", replaced)
    assert additions.add(data, [new]).dataset == grown
    assert len(seen) >= 3
    assert all(seen)
    assert len(whole.read_bytes()) < len(both)
