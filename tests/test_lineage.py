"""A new run from an earlier run's weights: what it starts from, and that no photo learned before is tested on."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import COLOURS, fill, photo, quick, shrink_pictures, watch
from safetensors.torch import load, save_file

from tlapp import (
    backbones,
    bundles,
    card,
    catalog,
    cli,
    dataset,
    evaluate,
    export,
    graph,
    jobs,
    lineage,
    predict,
    runs,
    scoring,
)
from tlapp.errors import DataError, RunError, UserError
from tlapp.events import RunFinished
from tlapp.photos import Dataset, Photo
from tlapp.plan import Plan
from tlapp.ui import results

pytestmark = pytest.mark.usefixtures("small_pictures")


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    """A run whose last block learned, of eight photos of two classes; its photos and workspace."""
    root = tmp_path_factory.mktemp("tuned")
    folder = fill(root / "photos", {"reds": 10, "blues": 10})
    with pytest.MonkeyPatch.context() as patch:
        shrink_pictures(patch)
        data = dataset.scan(folder, home=root / "home")
        blocks = catalog.get("efficientnet_lite0").block_names
        run = jobs.start(
            data, quick(data, frozen=blocks[:-1], fine_tune_rate=1e-2, epochs=2, head_epochs=1), root / "home"
        )
        assert isinstance(watch(run)[-1], RunFinished)
    return root


@pytest.fixture
def old(tuned, home):
    """A copy of that run in the test's own workspace."""
    shutil.copytree(tuned / "home", home, dirs_exist_ok=True)
    (run,) = runs.all_runs(home)
    return run


def blocks(run):
    return {name: value for name, value in load(run.model()).items() if name.startswith("blocks.")}


def differ(one, other):
    return [name for name, value in one.items() if not torch.equal(value, other[name])]


def continuing(run, data, **settings):
    """A plan that starts from the run and hardly learns."""
    weights = str(lineage.weights_of(run))
    return lineage.continued(quick(data, weights=weights, epochs=1, head_rate=1e-6, dropout=0.0, **settings))


def test_a_run_starts_from_what_an_earlier_one_learned_head_and_blocks(old, tuned, tmp_path):
    data = dataset.scan(tuned / "photos")
    published = backbones.load(catalog.get("efficientnet_lite0"), 2).state_dict()
    new = jobs.start(data, continuing(old, data))
    assert isinstance(watch(new)[-1], RunFinished)
    assert differ(blocks(old), published)
    assert not differ(blocks(old), blocks(new))
    files = [photo(tmp_path / f"{n}.png", (50 * n, 40, 200 - 50 * n), n) for n in range(4)]
    before, after = (list(predict.load(run).predict_files(files)) for run in (old, new))
    for one, other in zip(before, after, strict=True):
        assert one.label == other.label
        assert one.probabilities == pytest.approx(other.probabilities, abs=0.02)


def test_no_photo_that_was_learned_from_is_tested_on_with_added_classes_and_photos(old, tuned, tmp_path):
    learned = {photo.sha256 for photo in learned_photos(old)}
    folder = shutil.copytree(tuned / "photos", tmp_path / "more")
    fill(folder, {"greens": 8, "reds/new": 4}, seed=500)
    data = dataset.scan(folder)
    new = jobs.start(data, continuing(old, data))
    assert isinstance(watch(new)[-1], RunFinished)
    split = new.plan.split(data)
    tested = [data.photos[int(i)] for i in split.test]
    assert {data.classes[photo.label] for photo in tested} == {"reds", "blues", "greens"}
    assert not learned & {photo.sha256 for photo in tested}
    assert len(split.train) + len(split.validation) + len(split.test) == len(data.photos)
    report = new.report()
    seen = sum(data.photos[int(i)].sha256 in learned for i in split.validation)
    assert report["n_validation_learned"] == seen > 0
    assert report["n_learned"] == len(learned)
    assert f"had learned from {seen} before this run began, so that this flatters" in results._score(new)
    assert "cross_validated" not in report
    assert set(new.header()["learned_from"]) >= {lineage.known_by(one) for one in learned}
    files = [photo(tmp_path / f"{name}.png", colour, 900) for name, colour in COLOURS.items()]
    known = [answer.probabilities for answer in predict.load(old).predict_files(files[:2])]
    now = [answer.probabilities for answer in predict.load(new).predict_files(files[:2])]
    for before, after in zip(known, now, strict=True):
        assert (before["reds"] > before["blues"]) == (after["reds"] > after["blues"])
    scored = scoring.evaluate_run(new, folder)
    assert any("took part in the training" in note for note in scored["notes"])


def learned_photos(run):
    data = dataset.load(run.dataset_folder)
    split = run.plan.split(data)
    return [data.photos[int(i)] for part in (split.train, split.validation) for i in part]


def test_with_the_same_photos_the_test_photos_stay_the_test_photos(old, tuned):
    data = dataset.scan(tuned / "photos")
    before = old.plan.split(data)
    for seed in range(3):
        after = replace(continuing(old, data), seed=seed).split(data)
        assert after.test.tolist() == before.test.tolist()


def made(counts, seen, sides=None):
    """A dataset without files: photos of each class, of which so many have been learned from, and what those are."""
    photos, learned = [], []
    for label, (n, k) in enumerate(zip(counts, seen, strict=True)):
        for i in range(n):
            digits = f"{label:02d}{i:04d}".ljust(64, "0")
            photos.append(Photo(f"{label}/{i}", label, (sides or {}).get((label, i), ""), digits, 8, 8, 0))
            learned += [lineage.known_by(digits)] if i < k else []
    classes = tuple(str(i) for i in range(len(counts)))
    return Dataset("x", classes, tuple(photos), (), (), Path("/nowhere")), learned


@pytest.mark.parametrize(("counts", "seen"), [((50, 50), (40, 40)), ((50, 30), (40, 0)), ((20, 9), (19, 8))])
def test_as_many_are_tested_on_as_without_where_enough_are_new(counts, seen):
    data, learned = made(counts, seen)
    split = data.split(learned=learned)
    tested = [data.photos[int(i)] for i in split.test]
    assert not {lineage.known_by(photo.sha256) for photo in tested} & set(learned)
    per_class = np.bincount([photo.label for photo in tested])
    assert per_class.tolist() == [min(round(0.2 * n), n - k) for n, k in zip(counts, seen, strict=True)]
    assert sorted(np.concatenate([split.train, split.validation, split.test]).tolist()) == list(range(sum(counts)))


def test_without_weights_that_learned_the_split_is_what_it_was():
    data, learned = made((40, 30), (0, 0))
    assert learned == []
    for one, other in zip(vars(data.split()).values(), vars(data.split(learned=["f" * 12])).values(), strict=True):
        assert one.tolist() == other.tolist()


def test_a_class_of_which_all_was_learned_is_named():
    data, learned = made((20, 20), (20, 5))
    with pytest.raises(DataError, match=r"every photo of `0`.*Add photos of it that are new"):
        data.split(learned=learned)


def test_test_photos_of_a_folder_that_were_learned_from_are_not_tested_on():
    sides = {(label, i): "test" for label in (0, 1) for i in range(5)}
    data, learned = made((30, 30), (2, 2), sides)
    split = data.split(learned=learned)
    assert len(split.test) == 6
    assert not {lineage.known_by(data.photos[int(i)].sha256) for i in split.test} & set(learned)


def test_the_command_continues_and_says_from_what(old, tuned, home, capsys):
    arguments = ["train", str(tuned / "photos"), "--from", old.id, "--set", "solver=exact", "--set", "augmentation=off"]
    assert cli.main(arguments) == 0
    new = runs.all_runs(home)[-1]
    said = capsys.readouterr()
    assert "Starting from the network of run" in said.err
    assert not differ(blocks(old), blocks(new))
    assert set(new.plan.learned) == set(old.header()["learned_from"])
    report = new.report()
    assert "cross_validated" not in report, "of photos that the network had learned from"
    assert report["n_learned"] == report["compared"]["n_learned"] == len(old.header()["learned_from"])
    flatters = f"had learned from {report['n_learned']} before this run began, so that this flatters"
    assert flatters in said.out
    assert flatters in results._score(new)
    assert flatters in evaluate.beside_instant(report["compared"])
    assert f"trained further by {old.id} on {len(new.plan.learned)} photos" in card.how(new).replace("\\", "")
    shutil.rmtree(old.path)
    assert predict.load(new).predict(np.zeros((60, 60, 3), np.uint8)).label in new.classes
    for wrong, said in ((["--from", "99"], "no run"), (["--from", new.id, "--backbone", "resnet18"], "is of"),
                        (["--from", new.id, "--weights", "x.pth"], "two beginnings")):  # fmt: skip
        assert cli.main(["train", str(tuned / "photos"), *wrong]) in (1, 2)
        assert said in capsys.readouterr().err


def test_a_run_that_left_the_network_as_published_is_followed_by_one_like_any_other(old, tuned, home, capsys):
    plain = ["train", str(tuned / "photos"), "--instant"]
    assert cli.main(plain) == 0
    first = runs.all_runs(home)[-1]
    assert cli.main([*plain, "--from", first.id]) == 0
    second = runs.all_runs(home)[-1]
    assert f"All blocks of run {first.id} stayed frozen" in capsys.readouterr().err
    assert (second.plan, second.report()["photos"]) == (first.plan, first.report()["photos"])
    assert "n_learned" not in second.report()
    assert not lineage.is_published(old)


def test_a_model_that_came_as_a_bundle_without_its_photos_is_continued(old, tuned, home, tmp_path, monkeypatch):
    monkeypatch.setattr(graph, "to_onnx", lambda *_: b"a graph")
    monkeypatch.setattr(export, "_prove", lambda *_: export.Proof(0.0, 1, 1))
    export.export(old, tmp_path / "bundle")
    learned = old.header()["learned_from"]
    shutil.rmtree(home)
    run = bundles.import_run(tmp_path / "bundle")
    assert run.header()["learned_from"] == learned
    data = dataset.scan(tuned / "photos")
    assert continuing(run, data).learned == tuple(learned)


def test_where_it_is_not_known_what_was_learned_a_run_is_not_continued(old):
    header = json.loads((old.path / "plan.json").read_text())
    del header["learned_from"]
    (old.path / "plan.json").write_text(json.dumps(header))
    assert lineage.weights_of(old).is_file(), "its photos tell"
    shutil.rmtree(old.dataset_folder)
    with pytest.raises(RunError, match="not known which photos"):
        lineage.weights_of(old)


@pytest.mark.parametrize("harm", ["another backbone", "not finite", "no head"])
def test_weights_of_a_run_that_do_not_fit_are_refused(old, harm):
    path = lineage.weights_of(old)
    values = load(path.read_bytes())
    if harm == "not finite":
        values["blocks.top.0.weight"][:] = torch.nan
    elif harm == "no head":
        del values["head.linear.weight"]
    save_file(values, path.with_name("harmed.safetensors"))
    entry = catalog.get("resnet18" if harm == "another backbone" else "efficientnet_lite0")
    with pytest.raises(UserError, match="weights file"):
        backbones.load(entry, 2, weights=path.with_name("harmed.safetensors"))


def test_a_test_folder_of_which_all_photos_of_a_class_were_learned_from_is_refused():
    sides = {(label, i): "test" for label in (0, 1) for i in range(5)}
    data, learned = made((30, 30), (5, 2), sides)
    with pytest.raises(DataError, match="every photo of `0`"):
        data.split(learned=learned)


def test_a_score_on_photos_that_an_opened_model_learned_from_is_said_to_flatter(old, tuned, home, monkeypatch):
    shutil.rmtree(old.dataset_folder)
    said = scoring.evaluate_run(old, tuned / "photos")["notes"]
    n = len(old.header()["learned_from"])
    assert f"{n} of these 20 photos took part in the training, so the score flatters." in said


def test_a_run_whose_start_is_gone_is_not_resumed_and_says_why(old, tuned):
    data = dataset.scan(tuned / "photos")
    plan = continuing(old, data)
    new, lock = runs.create(old.path.parent.parent, {
        "plan": plan.to_dict(), "dataset": data.id, "source": "x", "classes": list(data.classes),
    })  # fmt: skip
    lock.release()
    lineage.weights_of(old).unlink()
    with pytest.raises(RunError, match=r"weights that run .* started from are gone"):
        jobs.resume(new)


def test_a_plan_keeps_what_its_weights_learned_from(tmp_path):
    plan = Plan("resnet18", (), learned=("0" * 12, "1" * 12))
    assert Plan.from_json(plan.to_json()) == plan
    with pytest.raises(UserError, match="12 digits"):
        replace(plan, learned=("0",))
    with pytest.raises(UserError, match="no setting `learned`"):
        plan.with_settings({"learned": "x"})
