"""A saved run answers as it did when it was trained, for photos and for whole folders."""

import json

import numpy as np
import pytest
import torch
from conftest import fill, model_file, photo, quick, watch
from PIL import Image
from safetensors.torch import load, save

from tlapp import backbones, catalog, dataset, images, jobs, predict, runs, scoring
from tlapp.augment import Views
from tlapp.errors import DataError, RunError
from tlapp.events import RunFinished
from tlapp.plan import AUGMENTATIONS
from tlapp.predict import Prediction, Unreadable

pytestmark = pytest.mark.usefixtures("small_pictures")


@pytest.fixture(scope="module")
def report(trained):
    return trained.run.report()


def test_a_loaded_run_gives_the_probabilities_of_its_training(trained, report):
    predictor = predict.load(trained.run)
    test = trained.run.plan.split(trained.data).test
    found = predictor.probabilities([trained.data.pixels(int(i)) for i in test])
    assert [trained.data.photos[int(i)].name for i in test] == [row["file"] for row in report["photos"]]
    assert found.max(axis=1) == pytest.approx([row["probability"] for row in report["photos"]], abs=1e-6)
    assert [predictor.classes[i] for i in found.argmax(axis=1)] == [row["label"] for row in report["photos"]]


def test_a_photo_on_disk_is_answered_as_its_copy_was_at_training(trained, report):
    paths = [trained.folder / row["file"] for row in report["photos"]]
    answers = list(predict.load(trained.run).predict_files(paths))
    assert [answer.label for answer in answers] == [row["label"] for row in report["photos"]]
    assert [answer.probability for answer in answers] == pytest.approx(
        [row["probability"] for row in report["photos"]], abs=1e-5
    )


def test_an_answer_does_not_depend_on_the_photos_beside_it(trained):
    predictor = predict.load(trained.run)
    pixels = [trained.data.pixels(i) for i in range(len(trained.data.photos))]
    assert len(pixels) > predict.BATCH
    together = predictor.probabilities(pixels)
    alone = np.concatenate([predictor.probabilities([one]) for one in pixels])
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_probabilities_are_named_by_class_and_sum_to_one(trained):
    answer = predict.load(trained.run).predict(trained.data.pixels(0), "a.png")
    assert list(answer.probabilities) == ["blues", "reds"]
    assert sum(answer.probabilities.values()) == pytest.approx(1)
    assert answer.probability == max(answer.probabilities.values()) == answer.probabilities[answer.label]


def test_the_network_is_loaded_in_float32_and_at_rest(trained):
    model = predict.load(trained.run).model
    floats = [value for value in model.state_dict().values() if value.is_floating_point()]
    assert floats
    assert {value.dtype for value in floats} == {torch.float32}
    assert not any(module.training for module in model.modules())


def test_an_unreadable_photo_keeps_no_other_from_its_answer_and_the_order_stays(trained, tmp_path):
    good = [photo(tmp_path / f"{i}.png", colour, i) for i, colour in enumerate([(200, 40, 40), (40, 40, 200)])]
    text, empty = tmp_path / "text.jpg", tmp_path / "empty.jpg"
    text.write_text("hello")
    empty.touch()
    paths = [text, good[0], tmp_path / "missing.jpg", empty, good[1], tmp_path]
    answers = list(predict.load(trained.run).predict_files(paths))
    assert [answer.file for answer in answers] == [str(path) for path in paths]
    assert [type(answer) for answer in answers] == [
        Unreadable, Prediction, Unreadable, Unreadable, Prediction, Unreadable
    ]  # fmt: skip
    assert [answers[i].label for i in (1, 4)] == ["reds", "blues"]
    assert [answers[i].reason.split(";")[0] for i in (0, 2, 3, 5)] == [
        "is a text file, not a photo", "does not exist", "is empty (0 bytes)", "is a folder, not a photo"
    ]  # fmt: skip


def test_no_photos_give_no_answers(trained):
    assert predict.load(trained.run).probabilities([]).shape == (0, 2)


def test_the_loaded_weights_are_those_delivered_with_batchnorm_merged(trained):
    delivered = backbones.build(catalog.get(catalog.INCLUDED), 2).eval()
    delivered.load_state_dict(load(model_file(trained.run).read_bytes()))
    loaded = predict.load(trained.run).model
    assert not [name for name in loaded.state_dict() if "running_mean" in name]
    assert torch.equal(loaded.head.linear.weight, delivered.head.linear.weight)
    x = torch.randn(2, 3, 56, 56, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(loaded(x), delivered(x), rtol=1e-4, atol=1e-4)


def test_a_model_that_does_not_fit_its_plan_is_refused_in_a_sentence(own_run):
    header = json.loads((own_run.path / "plan.json").read_text())
    header["classes"] = ["a", "b", "c"]
    (own_run.path / "plan.json").write_text(json.dumps(header))
    with pytest.raises(RunError, match="does not fit its plan"):
        predict.load(own_run)


@pytest.mark.parametrize("classes", [["reds", "blues"], ["blues", "greens"]], ids=["another order", "another name"])
def test_a_model_made_for_other_classes_is_refused_in_a_sentence(own_run, classes):
    header = json.loads((own_run.path / "plan.json").read_text())
    (own_run.path / "plan.json").write_text(json.dumps({**header, "classes": classes}))
    with pytest.raises(RunError, match="made for other classes"):
        predict.load(own_run)


def test_a_model_that_carries_no_classes_is_refused(own_run):
    model = save(load(own_run.model()))
    own_run.deliver(model, {"accuracy": 1.0})
    with pytest.raises(RunError, match="does not fit its plan"):
        predict.load(own_run)


def test_a_pickle_in_place_of_the_model_is_refused(own_run):
    torch.save({"a": torch.zeros(1)}, model_file(own_run))
    with pytest.raises(RunError, match="damaged"):
        predict.load(own_run)
    data = model_file(own_run).read_bytes()
    own_run.deliver(data, {"accuracy": 1.0})
    with pytest.raises(RunError, match="does not fit its plan"):
        predict.load(own_run)


def test_scoring_a_run_on_its_own_test_photos_repeats_its_report(trained, report):
    scores = scoring.evaluate_run(trained.run)
    for name in ("accuracy", "n", "classes", "per_class", "confusion"):
        assert scores[name] == report[name]
    assert scores["n_right"] == round(report["accuracy"] * report["n"])
    assert (scores["n_skipped"], scores["notes"]) == (0, [])


def test_a_folder_is_scored_class_by_class(trained, tmp_path):
    folder = fill(tmp_path / "more", {"reds": 3, "blues": 2}, seed=900)
    seen = []
    scores = scoring.evaluate_run(trained.run, folder, lambda done, total: seen.append((done, total)))
    assert {name: row["n"] for name, row in scores["per_class"].items()} == {"blues": 2, "reds": 3}
    assert scores["n"] == 5
    assert np.trace(scores["confusion"]) == scores["n_right"] == round(scores["accuracy"] * 5)
    assert seen[-1] == (5, 5)
    assert scores["notes"] == []


def test_photos_of_a_class_are_counted_under_it_even_where_the_folder_lacks_others(trained, tmp_path):
    """The folder's own numbering of classes must not be taken for the run's."""
    scores = scoring.evaluate_run(trained.run, fill(tmp_path / "more", {"reds": 3}, seed=900))
    assert scores["confusion"][0] == [0, 0]
    assert sum(scores["confusion"][1]) == 3
    assert scores["accuracy"] == 1.0


def test_a_class_that_the_run_does_not_know_is_left_out_and_said(trained, tmp_path):
    folder = fill(tmp_path / "more", {"reds": 3, "greens": 2}, seed=900)
    (folder / "reds" / "text.jpg").write_text("hello")
    scores = scoring.evaluate_run(trained.run, folder)
    assert (scores["n"], scores["n_skipped"]) == (3, 3)
    assert "Left out `greens`: the run knows no such class." in scores["notes"]
    assert any("reds/text.jpg" in note for note in scores["notes"])


def test_a_folder_without_any_class_of_the_run_is_refused(trained, tmp_path):
    with pytest.raises(DataError, match=r"No sub-folder of .* is named as a class .*`blues`, `reds`"):
        scoring.evaluate_run(trained.run, fill(tmp_path / "more", {"greens": 2}))


def test_photos_that_took_part_in_the_training_are_pointed_out(trained):
    scores = scoring.evaluate_run(trained.run, trained.folder / "train")
    assert "8 of these 8 photos took part in the training, so the score flatters." in scores["notes"]
    assert scoring.evaluate_run(trained.run, trained.folder / "test")["notes"] == []


def test_scoring_a_folder_leaves_nothing_in_the_workspace(trained, tmp_path, own_run, home):
    before = sorted((home / "datasets").iterdir())
    scoring.evaluate_run(own_run, fill(tmp_path / "more", {"reds": 3}, seed=900))
    assert sorted((home / "datasets").iterdir()) == before
    assert runs.all_runs(home) == [own_run]


# --- letterbox


@pytest.fixture(scope="module")
def ends(tmp_path_factory):
    """Wide grey photos, the class of which only the colour of both ends tells: a crop of the middle never sees it."""
    root, noise = tmp_path_factory.mktemp("ends"), np.random.default_rng(0)
    for folder, n in {"train/reds": 8, "train/blues": 8, "test/reds": 6, "test/blues": 6}.items():
        (root / "photos" / folder).mkdir(parents=True)
        for i in range(n):
            pixels = noise.integers(100, 156, (64, 192, 3), dtype=np.uint8)
            pixels[:, :48] = pixels[:, -48:] = (200, 40, 40) if "reds" in folder else (40, 40, 200)
            Image.fromarray(pixels).save(root / "photos" / folder / f"{i}.png")
    return root


def trained_on(ends, home, **settings):
    data = dataset.scan(ends / "photos", home=home)
    run = jobs.start(data, quick(data, **settings), home)
    assert isinstance(watch(run)[-1], RunFinished)
    return data, run


@pytest.mark.parametrize(
    "settings",
    [
        {"solver": "exact", "mirror": "on", "augmentation": AUGMENTATIONS["light"]},
        {"solver": "auto", "head": "ridge"},
        {"solver": "sgd", "epochs": 6, "head_rate": 0.05, "mirror": "on", "patience": 0},
    ],
    ids=lambda settings: settings["solver"],
)
def test_a_letterboxed_run_learns_from_the_ends_of_long_photos_and_answers_by_them(ends, home, settings):
    data, run = trained_on(ends, home, framing="letterbox", **settings)
    report, predictor = run.report(), predict.load(run)
    assert report["accuracy"] == report["validation_accuracy"] == 1.0
    assert predictor.views.framing == "letterbox"
    again = scoring.evaluate_run(run)
    assert (again["accuracy"], again["confusion"]) == (1.0, report["confusion"])
    assert scoring.evaluate_run(run, ends / "photos" / "test")["accuracy"] == 1.0
    paths = [ends / "photos" / row["file"] for row in report["photos"]]
    answers = list(predictor.predict_files(paths))
    assert [answer.label for answer in answers] == [row["class"] for row in report["photos"]]
    expected = [row["probability"] for row in report["photos"]]
    assert [answer.probability for answer in answers] == pytest.approx(expected, abs=1e-5)
    views = Views.of(run.plan)
    inputs = views.normalise([views.plain(data.pixels(0))])
    with torch.inference_mode():
        scores = predictor.model(inputs)
        if predictor.model.mirror:
            scores = (scores + predictor.model(inputs.flip(3))) / 2
    assert predictor.probabilities([data.pixels(0)]) == pytest.approx(scores.double().softmax(1).numpy(), abs=1e-6)


def test_a_run_that_crops_cannot_know_what_lies_at_the_ends(ends, home):
    _, run = trained_on(ends, home, solver="exact")
    assert run.report()["accuracy"] < 1.0
    header = json.loads((run.path / "plan.json").read_text())
    assert header["plan"].pop("framing") == "crop"
    (run.path / "plan.json").write_text(json.dumps(header))
    assert run.plan.framing == predict.load(run).views.framing == "crop", "as every run that is older than framing"
    assert scoring.evaluate_run(run)["confusion"] == run.report()["confusion"]


# --- pictures larger than they are kept


def test_a_photo_larger_than_the_copy_is_shrunk_by_the_same_door(trained, tmp_path):
    path = photo(tmp_path / "large.jpg", (200, 40, 40), 5, size=(800, 600))
    pixels = images.load(path.read_bytes())
    assert min(pixels.shape[:2]) == images.SHORT_SIDE
    predictor = predict.load(trained.run)
    assert next(predictor.predict_files([path])) == predictor.predict(pixels, str(path))
