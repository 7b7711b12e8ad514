"""What the panel says of an audit's report and of the decisions taken, before any page shows it."""

import shutil

import pytest
from conftest import fill

from tlapp import dataset, decisions
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
    assert "have members both" in before.words or "has members both" in before.words
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
    name = two_homes.photo(first.index).name
    made = decisions.decide(two_homes, [decisions.about(two_homes.photo(first.index), RELABEL, "reds")])
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
    disputed = two_homes.photo(len(two_homes.photos))
    made = decisions.decide(two_homes, [decisions.about(disputed, RELABEL, "reds")])
    split = made.split(0.2, 0.2, 0)
    tested = {made.photos[i].name for i in split.test}
    assert {two_homes.photo(i).name for i in look(two_homes, made).tested} == tested
