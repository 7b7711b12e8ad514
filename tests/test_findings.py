"""What the panel says of an audit's report and of the decisions taken, before any page shows it."""

import shutil

import pytest
from conftest import fill, photo

from tlapp import additions, dataset, decisions
from tlapp.additions import Addition
from tlapp.audit import Flaws, Report, Suspect
from tlapp.decisions import EXCLUDE, RELABEL, TOGETHER
from tlapp.forecast import Curve
from tlapp.ui import findings
from tlapp.ui.findings import Look


def report(**found):
    given = {"near": (), "suspects": (), "outliers": (), "flaws": Flaws((), (), (), (), ()), "shortcuts": ()}
    return Report(**{**given, "curve": Curve(), **found})


def look(base, current=None, **found):
    return Look(base, current or base, report(**found), decisions.of(base), 20, 0, "photo")


@pytest.fixture
def data(tmp_path):
    return dataset.scan(fill(tmp_path / "photos", {"reds": 8, "blues": 8}))


@pytest.mark.parametrize("out", [0, 1, 2])
def test_of_near_copies_one_stays_even_where_the_person_left_one_out(data, out):
    current = decisions.decide(data, [decisions.about(data.photos[out], EXCLUDE)])
    section = findings.found(look(data, current, near=((0, 1, 2),)))["near"]
    done = decisions.decide(current, section.new)
    assert len({p.name for p in data.photos[:3]} & {p.name for p in done.photos}) == 1


def test_copies_of_a_class_too_small_to_keep_together_are_still_called_a_leak(tmp_path):
    base = dataset.scan(fill(tmp_path / "photos", {"reds": 8, "blues": 4}))
    blues = tuple(i for i, p in enumerate(base.photos) if base.classes[p.label] == "blues")
    before = findings.found(look(base, near=(blues,)))["leaks"]
    assert "1 group of near copies, or of one burst, has members both" in before.words
    current = decisions.decide(base, before.new)
    after = findings.found(look(base, current, near=(blues,)))["leaks"]
    assert "too small to keep them on one side" in after.words
    assert {d.kind for d in decisions.of(base)} == {TOGETHER}


@pytest.fixture
def two_homes(tmp_path):
    """Two files of the same bytes in two classes, and one of which a copy lies beside it."""
    folder = fill(tmp_path / "photos", {"reds": 6, "blues": 6})
    shutil.copy(folder / "reds" / "000.png", folder / "blues" / "same.png")
    shutil.copy(folder / "reds" / "001.png", folder / "reds" / "twice.png")
    (folder / "reds" / "broken.png").write_bytes(b"nothing")
    return dataset.scan(folder)


def test_a_file_in_two_classes_is_asked_about_first_and_left_out_until_then(two_homes):
    doubted = Suspect(0, 0, 1, 0.1)
    shown = look(two_homes, suspects=(doubted,))
    first, second = shown.contradicted
    assert second == doubted
    assert shown.is_disputed(first)
    assert "The very same file stands in <code>blues</code> and in <code>reds</code>" in findings.suspect(shown, first)
    assert len(two_homes.photos) == 11
    name = two_homes.every[first.index].name
    made = decisions.decide(two_homes, [decisions.about(two_homes.every[first.index], RELABEL, "reds")])
    assert {p.name: made.classes[p.label] for p in made.photos}[name] == "reds"
    assert [s for s in look(two_homes, made, suspects=(doubted,)).waiting] == [doubted]


def test_exact_copies_are_shown_by_the_one_that_is_used_and_broken_files_by_name(two_homes):
    sections = findings.found(look(two_homes))
    assert "1 file with the very bytes of another" in sections["copies"].words
    assert "reds/twice.png" in sections["copies"].body
    assert sections["copies"].body.count("<img") == 1
    assert "reds/broken.png" in sections["unreadable"].body
    assert "1 file without a photo" in sections["unreadable"].words
    assert not sections["copies"].act
    assert not sections["unreadable"].act


def test_what_is_tested_stays_right_beside_a_photo_whose_class_was_settled(two_homes):
    disputed = two_homes.every[len(two_homes.photos)]
    made = decisions.decide(two_homes, [decisions.about(disputed, RELABEL, "reds")])
    split = made.split(0.2, 0.2, 0)
    tested = {made.photos[i].name for i in split.test}
    assert {two_homes.every[i].name for i in look(two_homes, made).tested} == tested


def test_undoing_a_section_takes_back_what_it_did_and_no_more(data):
    """By hand photo 1 is left out and 2 kept; the copies that the section leaves out come back, these two stay."""
    first, second, third, other = data.photos[:4]
    by_hand = decisions.decide(data, [decisions.about(second, EXCLUDE), decisions.about(third, decisions.KEEP)])
    section = findings.found(look(data, by_hand, near=((0, 1, 2, 3),)))["near"]
    assert {d.file for d in section.new} == {other.name}, "one of the copies stays, the kept one is not asked about"
    done = decisions.decide(by_hand, section.new)
    assert other.name not in {p.name for p in done.photos}
    again = findings.found(look(data, done, near=((0, 1, 2, 3),)))["near"]
    assert (again.new, again.act) == ((), "")
    back = decisions.undo(done, again.done)
    assert {p.name for p in back.photos} == {p.name for p in data.photos} - {second.name}
    assert sorted(d.kind for d in decisions.of(data)) == [EXCLUDE, decisions.KEEP]
    assert first.name in {p.name for p in back.photos}


def test_a_photo_that_two_sections_name_is_left_out_by_the_first_and_comes_back_with_it(data):
    found = {"outliers": (5,), "flaws": Flaws((), (5, 6), (), (), ())}
    current = decisions.decide(data, findings.found(look(data, **found))["outliers"].new)
    blurred = findings.found(look(data, current, **found))["blurred"]
    assert blurred.act == "Leave it out"
    current = decisions.decide(current, blurred.new)
    current = decisions.undo(current, findings.found(look(data, current, **found))["blurred"].done)
    assert data.photos[5].name not in {p.name for p in current.photos}
    current = decisions.undo(current, findings.found(look(data, current, **found))["outliers"].done)
    assert current.id == data.id


def test_what_the_person_put_together_keeps_its_name_when_near_copies_join_it(data):
    patient = [decisions.about(data.photos[i], TOGETHER, "patient 1") for i in (0, 5)]
    current = decisions.decide(data, patient)
    section = findings.found(look(data, current, near=((0, 1),)))
    new = section["leaks"].new if "leaks" in section else ()
    assert {d.value for d in new} <= {"patient 1"}
    joined = decisions.decide(current, new or [decisions.about(data.photos[1], TOGETHER, "patient 1")])
    assert len({joined.groups[i] for i in (0, 1, 5)}) == 1


def test_the_last_judged_label_is_not_one_that_a_section_left_out(data):
    doubted = (Suspect(0, 0, 1, 0.1), Suspect(1, 0, 1, 0.2))
    current = decisions.decide(data, [decisions.about(data.photos[0], decisions.KEEP)])
    section = findings.found(look(data, current, suspects=doubted, outliers=(1,)))["outliers"]
    current = decisions.decide(current, section.new)
    assert look(data, current, suspects=doubted).last.kind == decisions.KEEP


def test_copies_of_a_photo_whose_class_was_changed_are_of_one_class(data):
    blue = next(i for i, p in enumerate(data.photos) if data.classes[p.label] == "blues")
    red = next(i for i, p in enumerate(data.photos) if data.classes[p.label] == "reds")
    found = {"near": ((blue, red),)}
    assert "more than one class" in findings.found(look(data, **found))["near"].words
    current = decisions.decide(data, [decisions.about(data.photos[red], RELABEL, "blues")])
    section = findings.found(look(data, current, **found))["near"]
    assert "more than one class" not in section.words


def test_what_could_not_be_looked_into_is_said_beside_the_verdict(data):
    note = "Below 8 photos of a class no shortcut can be found: `reds`."
    shown = look(data, notes=(note,))
    words = findings.verdict(shown, {})
    assert "no shortcut can be found" in words
    assert "no near copies" not in words
    assert "no near copies" in findings.verdict(look(data), {})


def test_undo_all_brings_no_photo_back_whose_addition_was_undone(tmp_path):
    data = dataset.scan(fill(tmp_path / "photos", {"reds": 3, "blues": 3}))
    names = ("n.png", "o.png")
    new = [Addition(name, photo(tmp_path / name, (200, 40, 40), 900 + i), "reds") for i, name in enumerate(names)]
    joined = additions.add(data, new)
    left = additions.undo(data, joined.dataset, joined.photos[:1])
    now = decisions.decide(left, [decisions.about(data.photos[0], decisions.EXCLUDE)])
    found = Look(decisions.original(now), now, None, decisions.of(now), 20, 0, "photo")
    back = decisions.undo(now, found.to_undo)
    assert [p.name for p in back.photos if p.added] == ["o.png"]
    assert len(back.photos) == 7
