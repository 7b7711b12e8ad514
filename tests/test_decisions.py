"""Decisions about photos: kept, undone, edited, used again; the photos as they were read never change."""

import os
import shutil
import threading
import time

import numpy as np
import pytest
import torch
from conftest import fill, quick
from conftest import photo as make_photo

from tlapp import additions, backbones, dataset, decisions, pool
from tlapp.augment import Views
from tlapp.catalog import BACKBONES, INCLUDED
from tlapp.decisions import EXCLUDE, KEEP, RELABEL, TOGETHER, about
from tlapp.errors import DataError
from tlapp.photos import Split


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
    assert len(decisions.use(data, decisions.read(path)).photos) == 21


def test_decisions_find_their_photos_under_other_names(data, tmp_path):
    decisions.decide(data, [about(data.photos[0], EXCLUDE)])
    shutil.copytree(tmp_path / "photos", tmp_path / "moved")
    (tmp_path / "moved" / data.photos[0].name).rename(tmp_path / "moved" / "blues" / "renamed.png")
    other = dataset.scan(tmp_path / "moved")
    assert "blues/renamed.png" not in names(decisions.use(other, decisions.read(decisions.path_of(data))))


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
        decisions.use(data, decisions.read(path))
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
    assert data.photos[1].name not in names(fewer), "it is of the class that went"


def test_a_photo_that_is_no_longer_of_the_class_taken_out_stays(data):
    green, blue = (next(p for p in data.photos if data.classes[p.label] == name) for name in ("greens", "blues"))
    moved = decisions.decide(data, [about(green, RELABEL, "reds"), about(blue, RELABEL, "greens")])
    fewer = decisions.combine([moved], without=["greens"])
    assert names(fewer) == {n: c for n, c in names(moved).items() if c != "greens"}
    assert names(fewer)[green.name] == "reds"
    assert names(decisions.undo(fewer, decisions.of(fewer)))[green.name] == "reds"


def test_a_photo_of_two_classes_is_used_once_its_class_is_said_and_undo_leaves_it_out_again(tmp_path):
    folder = fill(tmp_path / "photos", {"reds": 6, "blues": 6})
    shutil.copy(folder / "reds" / "000.png", folder / "blues" / "same.png")
    data = dataset.scan(folder)
    (one,) = data.disputed
    assert one.classes == ("blues", "reds")
    assert len(data.photos) + len(data.skipped) == 13
    made = decisions.decide(data, [about(one.photo, RELABEL, "reds")])
    assert names(made)[one.photo.name] == "reds"
    assert len(made.photos) + len(made.skipped) == 13
    assert [s.reason for s in made.skipped] == [f"is a copy of `{one.photo.name}`"]
    assert made.disputed == ()
    index = [p.name for p in made.photos].index(one.photo.name)
    assert np.array_equal(made.pixels(index), data.pixels(len(data.photos)))
    folder, n, at = decisions.places(made)
    assert (folder, n, at[index]) == (data.folder, 12, 11)
    assert decisions.places(data)[1] == 12
    assert decisions.undo(made, decisions.of(made)).id == data.id
    left = decisions.decide(data, [about(one.photo, EXCLUDE)])
    assert left.id == data.id
    assert dataset.load(data.folder).disputed == data.disputed


def test_a_photo_of_two_classes_stays_open_beside_more_photos_unless_they_say_what_it_is(tmp_path):
    folder = fill(tmp_path / "photos", {"reds": 6, "blues": 6})
    shutil.copy(folder / "reds" / "000.png", folder / "blues" / "same.png")
    data = dataset.scan(folder)
    more = fill(tmp_path / "more", {"reds": 3, "blues": 3}, seed=500)
    both = decisions.combine([data, dataset.scan(more)])
    (one,) = both.disputed
    assert np.array_equal(both.pixels(len(both.photos)), data.pixels(len(data.photos)))
    settled = decisions.decide(both, [about(one.photo, RELABEL, "blues")])
    assert names(settled)[one.photo.name] == "blues"
    decisions.undo(settled, decisions.of(settled))
    shutil.copy(folder / "reds" / "000.png", more / "reds" / "known.png")
    said = decisions.combine([data, dataset.scan(more)])
    assert said.disputed == ()
    assert names(said)["reds/known.png"] == "reds"


def test_a_class_that_lost_its_photos_to_others_is_gone_with_the_rest(data):
    greens = [p for p in data.photos if data.classes[p.label] == "greens"]
    moved = decisions.decide(data, [about(p, RELABEL, "blues") for p in greens])
    assert moved.classes == ("blues", "reds")
    more = fill(data.folder.parent / "more", {"whites": 4}, seed=900)
    other = dataset.scan(fill(more, {"reds": 3}, seed=950))
    fewer = decisions.combine([moved, other], without=["blues"])
    assert fewer.class_counts() == {"reds": 8 + 3, "whites": 4}


def test_decisions_about_none_of_the_photos_are_counted(data):
    given = [about(data.photos[0], KEEP), decisions.Decision("none.png", "", EXCLUDE)]
    assert decisions.strangers(data, given) == "1 of 2 decisions are about none of these photos."
    assert decisions.strangers(data, given[1:]) == "The one decision is about none of these photos."
    assert decisions.strangers(data, given[:1]) == ""


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


@pytest.mark.parametrize(
    ("kind", "value"), [(EXCLUDE, ""), (RELABEL, "greens"), (TOGETHER, "pair")], ids=[EXCLUDE, RELABEL, TOGETHER]
)
def test_undoing_gives_the_dataset_of_before_whatever_else_was_decided(data, kind, value):
    first = decisions.decide(data, [about(data.photos[20], EXCLUDE), about(data.photos[1], TOGETHER, "x")])
    then = decisions.decide(first, [about(data.photos[2], kind, value)])
    assert then.id != first.id
    assert decisions.undo(then, [about(data.photos[2], kind, value)]).id == first.id
    assert decisions.undo(first, [about(data.photos[1], TOGETHER)]).photos[1].together == ""


def test_photos_and_left_out_files_are_all_that_were_submitted(data, tmp_path):
    (tmp_path / "photos" / "reds" / "notes.png").write_text("no picture")
    shutil.copy(tmp_path / "photos" / "reds" / "000.png", tmp_path / "photos" / "reds" / "again.png")
    base = dataset.scan(tmp_path / "photos")
    left = decisions.decide(base, [about(base.photos[i], EXCLUDE) for i in (0, 9)])
    submitted = {p.relative_to(tmp_path / "photos").as_posix() for p in (tmp_path / "photos").rglob("*.png")}
    assert {photo.name for photo in left.photos} | {s.name for s in left.skipped} == submitted
    assert len(left.photos) + len(left.skipped) == len(submitted) == 24


def test_a_class_of_which_all_is_left_out_takes_its_test_photos_along(tmp_path):
    sides = {"train/reds": 4, "train/blues": 4, "train/greens": 3, "test/reds": 2, "test/blues": 2, "test/greens": 2}
    base = dataset.scan(fill(tmp_path / "photos", sides))
    gone = [photo for photo in base.photos if photo.name.startswith("train/greens")]
    left = decisions.decide(base, [about(photo, EXCLUDE) for photo in gone])
    assert left.classes == ("blues", "reds")
    assert len(left.photos) + len(left.skipped) == 17
    assert len(left.photos) == 12


def test_notes_are_those_of_what_is_left(tmp_path):
    base = dataset.scan(fill(tmp_path / "photos", {"reds": 15, "blues": 16}))
    left = decisions.decide(base, [about(base.photos[-1], EXCLUDE)])
    assert not any("Below 15" in note for note in base.notes)
    assert [note for note in left.notes if "Below 15" in note] == [
        "Below 15 photos a class the score says little: `reds`."
    ]
    assert len(left.notes) == len(set(left.notes)) == len(base.notes) + 1


def test_a_later_decision_holds_over_one_that_was_written_by_hand_with_a_name_alone(data):
    path, name = decisions.path_of(data), data.photos[0].name
    path.write_text(f"file,decision\n{name},exclude\n")
    kept = decisions.decide(data, [about(data.photos[0], KEEP)])
    assert kept.id == data.id
    assert [(d.file, d.kind) for d in decisions.of(data)] == [(name, KEEP)]
    path.write_text(f"file,decision\n{name},exclude\n")
    assert decisions.undo(data, [about(data.photos[0], EXCLUDE)]).id == data.id
    path.write_text(f"file,decision\n{name},exclude\n")
    assert decisions.undo(data, decisions.of(data)).id == data.id
    assert decisions.of(data) == []


def test_of_several_lines_about_a_photo_the_last_holds(data, tmp_path):
    path, one = tmp_path / "mine.csv", data.photos[0]
    path.write_text(f"file,photo,decision\n{one.name},,exclude\n,sha256:{one.sha256[:16]},keep\n")
    assert decisions.use(data, decisions.read(path)).id == data.id
    assert decisions.apply(data, decisions.read(path)).id == data.id


@pytest.mark.parametrize("odd", ["=1+1", "'=1", "-2", " wide  ", "two\nlines", "tab\t", 'quo"te', "semi;colon, comma"])
def test_classes_and_photos_of_odd_names_are_found_again(tmp_path, odd):
    photos = [make_photo(tmp_path / "photos" / odd / f"{odd}{i}.png", (200, 40, 40), i) for i in range(4)]
    fill(tmp_path / "photos", {"blues": 5}, seed=50)
    base = dataset.scan(tmp_path / "photos")
    (name,) = set(base.classes) - {"blues"}
    blue = next(p for p in base.photos if base.classes[p.label] == "blues")
    changed = decisions.decide(base, [about(blue, RELABEL, name)])
    assert names(changed)[blue.name] == name
    left = decisions.decide(
        changed, [about(next(p for p in base.photos if p != blue and p.label != blue.label), EXCLUDE)]
    )
    assert names(left)[blue.name] == name
    assert len(left.photos) == len(photos) + 4
    by_name = tmp_path / "names.csv"
    rows = [decisions.Decision(d.file, "", d.kind, d.value) for d in decisions.of(left)]
    by_name.write_text(decisions.to_text(rows))
    decisions.undo(left, decisions.of(left))
    assert decisions.use(base, decisions.read(by_name)).id == left.id


def test_names_for_what_belongs_together_stay_the_same_from_one_decision_to_the_next(data):
    held = data
    for member in data.photos[:3]:
        held = decisions.decide(held, [about(member, TOGETHER, " two\nlines")])
    assert len({photo.together for photo in held.photos[:3]}) == 1
    assert len(set(held.groups[:3])) == 1


@pytest.mark.parametrize("mark", [";", "\t"])
def test_a_csv_saved_with_another_delimiter_is_read(data, tmp_path, mark):
    path = tmp_path / "mine.csv"
    rows = [("file", "photo", "decision", "value"), (data.photos[0].name, "", "relabel", "greens")]
    path.write_text("\ufeff" + "\r\n".join(mark.join(row) for row in rows), encoding="utf-8", newline="")
    assert names(decisions.use(data, decisions.read(path)))[data.photos[0].name] == "greens"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('file,decision\na.png,keep\n"b.png,keep\nc.png,keep\n', "is damaged at line 4 "),
        ('file,decision\na.png,keep\nb.png,"keep"x\n', "is damaged at line 3 "),
        ('file,decision\n"two\nlines.png",keep\nb.png,burn\n', "^Line 4 of .* has the decision `burn`"),
        ("file,decision\n\n\nb.png\n", "^Line 4 of .* has the decision ``"),
        ("file,decision,value\na.png,keep,\nb.png,together, \n", "^Line 3 of .* has no value"),
    ],
)
def test_damage_is_told_in_one_sentence_with_its_line(data, text, words):
    decisions.path_of(data).write_text(text)
    with pytest.raises(DataError, match=words) as caught:
        decisions.decide(data, [about(data.photos[0], KEEP)])
    assert "\n" not in str(caught.value)
    assert decisions.path_of(data).read_text() == text


def test_an_exclusion_that_is_refused_leaves_the_file_and_the_store_as_they_were(data):
    decisions.decide(data, [about(data.photos[0], EXCLUDE)])
    before = decisions.path_of(data).read_bytes(), sorted(p.name for p in data.folder.parent.iterdir())
    with pytest.raises(DataError):
        decisions.decide(data, [about(photo, EXCLUDE) for photo in data.photos if photo.label])
    assert before == (decisions.path_of(data).read_bytes(), sorted(p.name for p in data.folder.parent.iterdir()))


def test_two_who_decide_and_undo_at_once_lose_nothing(data):
    first, second = data.photos[:6], data.photos[6:12]
    decisions.decide(data, [about(photo, KEEP) for photo in first])
    failed = []

    def each(change, photos):
        try:
            for photo in photos:
                change(data, [about(photo, TOGETHER if change is decisions.decide else KEEP, "all")])
        except Exception as error:
            failed.append(error)

    work = ((decisions.undo, first), (decisions.decide, second))
    threads = [threading.Thread(target=each, args=args) for args in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert sorted(d.file for d in decisions.of(data)) == sorted(photo.name for photo in second)


def test_combined_photos_keep_what_was_put_together_and_the_parts_keep_their_own(data, tmp_path):
    more = dataset.scan(fill(tmp_path / "more", {"reds": 4, "blues": 4}, seed=500))
    held = decisions.decide(data, [about(photo, TOGETHER, "burst") for photo in data.photos[:3]])
    other = decisions.decide(more, [about(more.photos[0], EXCLUDE)])
    both = decisions.combine([held, other])
    assert sum(photo.together == "burst" for photo in both.photos) == 3
    assert len(both.photos) + len(both.skipped) == 30
    assert [len(decisions.of(part)) for part in (data, more, both)] == [3, 1, 4]


def test_features_of_a_decided_dataset_are_those_of_the_original_without_another_look(
    data, small_pictures, monkeypatch
):
    looked, run_over = [], pool.run_over

    def counted(whole, photos, *rest):
        looked.append(len(photos))
        return run_over(whole, photos, *rest)

    def features(found):
        plan, everything = quick(found), np.arange(len(found.photos))
        model = backbones.load(BACKBONES[INCLUDED], len(found.classes), weights="", several=True)
        part = pool.Pool(found, Split(everything, everything[:0], everything[:0]), Views.of(plan), plan)
        steps = pool.plain_cached(model, part, plan, lambda: False)
        while True:
            try:
                next(steps)
            except StopIteration as done:
                return done.value.plain(everything.tolist())

    monkeypatch.setattr(pool, "run_over", counted)
    every = features(data)
    left = decisions.decide(data, [about(data.photos[0], EXCLUDE), about(data.photos[9], RELABEL, "reds")])
    assert [photo.sha256 for photo in left.photos] == [photo.sha256 for photo in data.photos[1:]]
    assert torch.equal(features(left), every[1:])
    assert looked == [22]
    shutil.rmtree(data.folder)  # the photos decided about live on, and are looked at anew
    torch.testing.assert_close(features(left), every[1:], rtol=1e-3, atol=1e-3)
    assert looked == [22, 21]


def test_what_was_decided_holds_when_the_same_folder_is_read_again_with_more_photos(tmp_path):
    folder = fill(tmp_path / "photos", {"reds": 8, "blues": 8})
    first = dataset.scan(folder)
    gone = first.photos[3]
    decisions.decide(first, [about(gone, EXCLUDE)])
    assert len(additions.as_noted(dataset.scan(folder)).dataset.photos) == 15
    fill(folder, {"reds/more": 10}, seed=700)
    again = additions.as_noted(dataset.scan(folder)).dataset
    assert gone.name not in names(again)
    assert len(again.photos) == 25
    back = decisions.undo(again, decisions.of(again))
    assert len(additions.as_noted(decisions.original(back)).dataset.photos) == 26, "what was taken back stays so"
    elsewhere = shutil.copytree(folder, tmp_path / "elsewhere")
    assert len(additions.as_noted(dataset.scan(elsewhere)).dataset.photos) == 26


def test_the_last_word_about_a_photo_holds_whichever_reading_it_was_about(tmp_path):
    folder = fill(tmp_path / "photos", {"reds": 8, "blues": 8})
    first = dataset.scan(folder)
    one, other = first.photos[3], first.photos[12]
    decisions.decide(first, [about(one, EXCLUDE), about(other, EXCLUDE)])
    (folder / one.name).rename(tmp_path / "aside.png")
    fewer = additions.as_noted(dataset.scan(folder)).dataset
    decisions.undo(fewer, [about(other, EXCLUDE)])
    (tmp_path / "aside.png").rename(folder / one.name)
    again = additions.as_noted(dataset.scan(folder)).dataset
    assert set(names(first)) - set(names(again)) == {one.name}


def test_another_folder_of_the_same_name_takes_nothing_over(tmp_path):
    decided = dataset.scan(fill(tmp_path / "one", {"reds": 4, "blues": 4}), shown_as="photos")
    decisions.decide(decided, [decisions.Decision("reds/001.png", "", EXCLUDE)])
    other = dataset.scan(fill(tmp_path / "other", {"reds": 4, "blues": 4}, seed=900), shown_as="photos")
    assert additions.as_noted(other).dataset is other
    assert decisions.of(other) == []


def test_datasets_of_old_decisions_go_and_those_that_are_needed_stay(data, home):
    made = [decisions.decide(data, [about(photo, EXCLUDE)]) for photo in data.photos[:3]]
    weeks_ago = time.time() - 3 * decisions.KEPT_DAYS * 24 * 3600
    for one in (data, *made[:2]):
        os.utime(one.folder / "dataset.json", (weeks_ago, weeks_ago))
    decisions.sweep(home, {made[1].id})
    assert [one.folder.is_dir() for one in (data, *made)] == [True, False, True, True]
    assert len(decisions.of(made[2])) == 3


def test_the_photo_that_a_hand_written_line_means_is_that_of_its_own_folder(tmp_path):
    one = dataset.scan(fill(tmp_path / "one", {"reds": 4, "blues": 4}))
    other = dataset.scan(fill(tmp_path / "other", {"reds": 4, "blues": 4}, seed=900))
    name = "reds/001.png"
    chosen = decisions.use(other, [decisions.Decision(name, "", EXCLUDE)])
    both = decisions.combine([one, chosen])
    out = next(p for p in other.photos if p.name == name)
    assert out.sha256 not in {p.sha256 for p in both.photos}
    assert len(both.photos) == 15


def test_a_settled_photo_of_two_classes_stays_when_the_other_class_is_taken_out(tmp_path):
    folder = fill(tmp_path / "photos", {"reds": 6, "blues": 6, "greens": 6})
    shutil.copy(folder / "reds" / "000.png", folder / "blues" / "same.png")
    data = dataset.scan(folder)
    (one,) = data.disputed
    settled = decisions.decide(data, [about(one.photo, RELABEL, "reds")])
    fewer = decisions.combine([settled], without=["blues"])
    assert fewer.class_counts() == {"greens": 6, "reds": 6}
