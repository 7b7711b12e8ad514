"""Two runs beside each other: settings that differ, and test photo by test photo what changed."""

import json
import shutil
from dataclasses import replace

import pytest

from tlapp import catalog, dataset, decisions
from tlapp.compare import compare
from tlapp.errors import RunError
from tlapp.runs import Run

BLOCKS = catalog.get(catalog.INCLUDED).block_names


@pytest.fixture
def other(own_run):
    """A second run, with another plan, whose answers a test sets."""
    path = own_run.path.with_name("0002-bbbbbb")
    shutil.copytree(own_run.path, path)
    change(path / "plan.json", lambda header: header["plan"].update(epochs=7, augmentation={"rotation": 12.5}))
    return Run(path)


def change(path, edit):
    values = json.loads(path.read_bytes())
    edit(values)
    path.write_text(json.dumps(values))


def answers(run, *labels):
    """The run says this of its test photos, in their order."""

    def edit(report):
        for photo, label in zip(report["photos"], labels, strict=True):
            photo["label"] = label

    change(run.path / "report.json", edit)


def truths(run):
    return [photo["class"] for photo in run.report()["photos"]]


def flipped(run, *wrong):
    """The true classes, wrong at these places."""
    swap = {"reds": "blues", "blues": "reds"}
    return [swap[name] if i in wrong else name for i, name in enumerate(truths(run))]


def test_photos_are_fixed_broken_or_wrong_in_both(own_run, other):
    answers(own_run, *flipped(own_run, 0, 1, 2))
    answers(other, *flipped(other, 2, 5))
    found = compare(own_run, other)
    files = [photo["file"] for photo in own_run.report()["photos"]]
    assert {pair.file for pair in found.fixed} == {files[0], files[1]}
    assert [pair.file for pair in found.broken] == [files[5]]
    assert [pair.file for pair in found.wrong] == [files[2]]
    assert found.n == len(files) == 8
    assert found.in_words().startswith("2 fixed, 1 broken, 1 wrong in both, of 8 shared test photos.")
    assert "may well be chance" in found.in_words()
    pair = found.broken[0]
    assert (pair.truth, pair.before) == (pair.before, truths(own_run)[5])
    assert pair.after != pair.truth
    back = compare(other, own_run)
    assert ([p.file for p in back.broken], back.n) == ([p.file for p in found.fixed], 8)


def test_a_difference_too_large_for_chance_is_said_to_be_none(own_run, other):
    answers(own_run, *flipped(own_run, *range(8)))
    answers(other, *flipped(other))
    assert compare(own_run, other).in_words().endswith("hardly chance.")


def test_only_settings_that_differ_are_listed_and_scores_have_their_counts(own_run, other):
    found = compare(own_run, other)
    names = [name for name, _, _ in found.settings]
    assert ("epochs", "3", "7") in found.settings
    assert ("augmentation.rotation", "0", "12.5") in found.settings
    assert all(name == "epochs" or name.startswith("augmentation.") for name in names)
    assert found.scores == ((own_run.report()["accuracy"], 8),) * 2
    assert compare(own_run, own_run).settings == ()


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (["a", "b"], ["a", "c"], [("learned", "2 photos", "2 photos, 1 of them others")]),
        (["a", "b"], ["a", "b", "c"], [("learned", "2 photos", "3 photos")]),
        (["a", "b"], ["a", "b"], []),
    ],
)
def test_weights_that_learned_from_as_many_other_photos_are_told_apart(own_run, other, before, after, said):
    change(own_run.path / "plan.json", lambda header: header["plan"].update(learned=[12 * one for one in before]))
    change(other.path / "plan.json", lambda header: header["plan"].update(learned=[12 * one for one in after]))
    assert [row for row in compare(own_run, other).settings if row[0] == "learned"] == said


def test_a_run_without_a_model_is_compared_by_its_settings_alone(own_run, other):
    (other.path / "report.json").unlink()
    found = compare(own_run, other)
    assert found.hinders == f"Not compared by photo: there is no model of {other.id}."
    assert found.in_words() == found.hinders
    assert found.scores[1] is None
    assert ("epochs", "3", "7") in found.settings


def test_photos_are_known_by_their_content_where_decisions_changed_the_dataset(own_run, other, home):
    answers(own_run, *flipped(own_run, 0))
    data = dataset.load(own_run.dataset_folder)
    files = [photo["file"] for photo in own_run.report()["photos"]]
    photos = {photo.name: photo for photo in data.photos}
    decided = decisions.decide(
        data,
        [
            decisions.about(photos[files[0]], decisions.RELABEL, flipped(own_run, 0)[0]),
            decisions.about(photos[files[1]], decisions.EXCLUDE),
        ],
    )
    change(other.path / "plan.json", lambda header: header.update(dataset=decided.id))

    def leave_out(report):
        report["photos"] = [
            {**photo, "class": flipped(own_run, 0)[0], "label": flipped(own_run, 0)[0]} if i == 0 else photo
            for i, photo in enumerate(report["photos"])
            if i != 1
        ]

    change(other.path / "report.json", leave_out)
    found = compare(own_run, other)
    assert (found.n, found.n_relabelled, found.fixed, found.broken) == (7, 1, (), ())
    assert "1 of them changed class in between" in found.in_words()
    assert found.settings[0][0] == "photos"


def test_runs_on_other_photos_share_no_test_photo_whatever_the_files_are_called(own_run, other, make_folder):
    elsewhere = dataset.scan(make_folder({"test/reds": 4, "test/blues": 4, "train/reds": 4, "train/blues": 4}, "new"))
    change(other.path / "plan.json", lambda h: h.update(dataset=elsewhere.id, source=elsewhere.source))
    found = compare(own_run, other)
    assert found.in_words() == "Not compared by photo: the two runs share no test photo."
    shutil.rmtree(elsewhere.folder)
    assert compare(own_run, other).hinders == found.hinders


def test_where_the_copies_are_gone_photos_of_one_source_go_by_their_names(own_run, other):
    shutil.rmtree(own_run.dataset_folder)
    assert compare(own_run, other).n == 8
    change(other.path / "plan.json", lambda header: header.update(dataset="0" * 16))
    assert compare(own_run, other).n == 8


@pytest.mark.parametrize("spoil", [lambda r: r.pop("photos"), lambda r: r.update(photos=[{}]),
                                   lambda r: r.update(accuracy="high")])  # fmt: skip
def test_a_damaged_report_is_said_in_a_sentence(own_run, other, spoil):
    change(other.path / "report.json", spoil)
    with pytest.raises(RunError, match=r"The report of run .* is damaged"):
        compare(own_run, other)


def test_a_comparison_is_plain_values_for_json(own_run, other):
    answers(own_run, *flipped(own_run, 0))
    answers(other, *truths(other))
    found = json.loads(json.dumps(compare(own_run, other).to_dict()))
    assert (found["before"], found["after"], found["n"]) == (own_run.id, other.id, 8)
    assert set(found["fixed"][0]) == {"file", "truth", "before", "after", "sure_before", "sure_after"}
    assert {"name": "epochs", "before": "3", "after": "7"} in found["settings"]
    assert replace(compare(own_run, other), n=1).in_words().count("1 shared test photo.")


@pytest.mark.parametrize(
    ("learns", "words"),
    [(["stage3", "stage5"], "stem to stage2, stage4, stage6 to top"), (["top"], "stem to stage7"), (BLOCKS, "none")],
)
def test_frozen_blocks_are_named_by_their_spans(own_run, other, learns, words):
    frozen = [name for name in BLOCKS if name not in learns]
    change(other.path / "plan.json", lambda header: header["plan"].update(frozen=frozen, solver="sgd"))
    assert dict((name, after) for name, _, after in compare(own_run, other).settings)["frozen"] == words
