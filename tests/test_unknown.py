"""Strangers are told from photos of the classes, by every kind of model, on the page and beside it."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import SHARED, fill, quick, watch

from tlapp import calibration, dataset, jobs, plan, predict, scoring, unknown
from tlapp.errors import RunError
from tlapp.plan import AUGMENTATIONS
from tlapp.predict import Prediction
from tlapp.ui import matrix, results, serve, shelf, sure
from tlapp.unknown import Learned, Usual

SETTINGS = {
    "instant": {"solver": "exact", "head": "ridge", "mirror": "off"},
    "exact, mirrored": {"solver": "exact", "mirror": "on", "augmentation": AUGMENTATIONS["light"]},
    "head by descent": {"solver": "sgd", "epochs": 4, "head_rate": 0.05},
    "last block by descent": {"solver": "sgd", "epochs": 2, "head_rate": 0.05, "mirror": "on", "frozen": ("stem",)},
}


def finished(data, **settings):
    run = jobs.start(data, quick(data, **settings))
    assert type(watch(run)[-1]).__name__ == "RunFinished"
    return run


@pytest.fixture
def reds_and_blues(tmp_path):
    return dataset.scan(fill(tmp_path / "photos", {"reds": 14, "blues": 14}))


def greens():
    generator = np.random.default_rng(7)
    return [
        np.clip(np.array((40, 180, 40)) + generator.integers(-40, 40, (64, 80, 3)), 0, 255).astype(np.uint8)
        for _ in range(6)
    ]


@pytest.mark.usefixtures("small_pictures")
@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_a_photo_of_no_class_is_stranger_than_those_of_the_classes(reds_and_blues, settings):
    run = finished(reds_and_blues, **settings)
    predictor, test = predict.load(run), run.plan.split(reds_and_blues).test
    _, known = scoring.look(predictor, reds_and_blues, test)
    probabilities, strange = predictor.look(greens())
    assert strange.min() >= known.max()
    assert strange.mean() > known.mean()
    assert [row["strangeness"] for row in run.report()["photos"]] == pytest.approx(known.tolist(), abs=0.11)
    answer = predictor.predict(greens()[0])
    assert answer.unknown is bool(strange[0] > 0.95)
    assert answer.strangeness == pytest.approx(strange[0], abs=1e-4)
    assert probabilities.sum(1) == pytest.approx(np.ones(6))


@pytest.mark.usefixtures("small_pictures")
@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_the_photos_learned_from_are_kept_and_find_themselves(reds_and_blues, settings):
    run = finished(reds_and_blues, **settings)
    predictor, split = predict.load(run), run.plan.split(reds_and_blues)
    learned = predictor.learned
    assert learned.indices.tolist() == sorted([*split.train.tolist(), *split.validation.tolist()])
    assert np.linalg.norm(learned.features, axis=1) == pytest.approx(np.ones(len(learned.indices)), abs=1e-3)
    asked = learned.indices[[0, 5]]
    features, _ = predictor.outputs([reds_and_blues.pixels(int(i)) for i in asked])
    indices, distances = learned.nearest(features.numpy(), 5)
    assert indices.shape == distances.shape == (2, 5)
    assert indices[:, 0].tolist() == asked.tolist()
    assert distances[:, 0] == pytest.approx([0, 0], abs=2e-3)
    assert (np.diff(distances) >= 0).all()
    same_class = reds_and_blues.labels[indices] == reds_and_blues.labels[asked][:, None]
    assert same_class.all()


@pytest.mark.usefixtures("small_pictures")
def test_descent_delivers_calibrated_scores_and_the_same_answers(reds_and_blues):
    run = finished(reds_and_blues, **SETTINGS["head by descent"])
    temperature = run.report()["calibration"]["temperature"]
    predictor, validation = predict.load(run), run.plan.split(reds_and_blues).validation
    _, scores = predictor.outputs([reds_and_blues.pixels(int(i)) for i in validation])
    labels = reds_and_blues.labels[validation]
    again, loss = calibration.fit(scores.numpy(), labels)
    assert again == pytest.approx(1, rel=0.13), "there is nothing left to scale"
    assert loss <= calibration.fit(temperature * scores.numpy(), labels)[1] + 1e-6
    assert torch.equal((temperature * scores).argmax(1), scores.argmax(1))


def known(n=200, seed=0):
    generator = np.random.default_rng(seed)
    return Usual(generator.gamma(4, 0.05, n), generator.normal(-3, 1, n))


def test_the_line_keeps_the_part_it_promises():
    usual, others = known(), known(2000, seed=1)
    held_out = usual.strangeness(usual.distances, usual.energies)
    assert 0.95 <= (held_out <= 0.95).mean() <= 0.96
    found = usual.strangeness(others.distances, others.energies)
    assert (found <= 0.95).mean() == pytest.approx(0.95, abs=0.04)
    assert (found.min(), found.max()) == (pytest.approx(0, abs=0.01), pytest.approx(1, abs=0.01))


def test_the_line_keeps_its_promise_of_new_photos_even_where_few_were_held_out():
    kept = []
    for seed in range(400):
        usual, others = known(8, seed), known(50, 1000 + seed)
        kept.append((usual.strangeness(others.distances, others.energies) <= 0.95).mean())
    assert 0.9 < np.mean(kept) < 0.98


def test_ever_stranger_photos_are_told_apart_beyond_the_strangest_known():
    usual, far = known(), np.linspace(0.6, 2, 20)
    assert (np.diff(usual.strangeness(far, np.zeros(20))) > 0).all()


def test_a_single_held_out_photo_turns_nothing_usual_away():
    usual = Usual(np.array([0.3]), np.array([-2.0]))
    assert usual.strangeness(np.array([0.3, 0.2, 0.9]), np.array([-2.0, -2.5, 0.0])).round(2).tolist() == [
        0.0,
        0.0,
        1.0,
    ]


def test_costs_count_held_out_photos_and_strangers_at_every_line():
    learned = Learned(np.eye(4, dtype=np.float32), np.arange(4), known(), np.array([0.5, 0.9, 1.0]))
    costs = learned.costs()
    assert (costs["held_out"], costs["strangers"]) == (200, 3)
    assert [row["keep"] for row in costs["costs"]] == list(range(80, 100))
    assert {row["keep"]: row["let_in"] for row in costs["costs"]} == {k: 1 + (k >= 90) for k in range(80, 100)}
    assert all(row["kept"] >= 2 * row["keep"] for row in costs["costs"])


def test_near_copies_do_not_vouch_for_each_other():
    rows = torch.tensor([[1.0, 0, 0], [1, 0.01, 0], [0, 1, 0], [0, 0, 1], [0, 1, 1]])
    where = unknown.Known(
        np.arange(5), np.arange(5), np.array([0, 0, 1, 1, 1]), np.array([0, 0, 2, 3, 4]), np.zeros(5, int), 2
    )
    apart = replace(where, groups=np.arange(5))
    one, other = (k.usual(rows, np.zeros(5)).distances for k in (where, apart))
    assert (one[:2] > other[:2] + 0.3).all()
    assert one[2:] == pytest.approx(other[2:])


@pytest.mark.usefixtures("small_pictures")
def test_a_run_of_an_earlier_version_answers_without_unknown(own_run):
    report = own_run.report()
    del report["calibration"], report["unknown"]
    own_run.deliver(own_run.model(), report)
    assert not list(own_run.path.glob("learned-*"))
    answer = predict.load(own_run).predict(greens()[0], "a.png")
    assert isinstance(answer, Prediction)
    assert (answer.unknown, answer.strangeness) == (None, None)
    assert sure.OLD in sure._certainty(own_run.report())


@pytest.mark.usefixtures("small_pictures")
@pytest.mark.parametrize("harm", ["cut", "gone"])
def test_damaged_features_are_named_in_a_sentence(own_run, harm):
    (path,) = own_run.path.glob("learned-*.safetensors")
    path.unlink() if harm == "gone" else path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(RunError, match=r"What tells strangers to run .* Train again\."):
        predict.load(own_run)


@pytest.mark.usefixtures("small_pictures")
@pytest.mark.parametrize("content", [b"no tensors", Learned(np.eye(3), np.arange(3), known(), np.zeros(0)).to_bytes()])
def test_features_of_something_else_are_refused(own_run, content):
    own_run.deliver(own_run.model(), own_run.report(), content)
    with pytest.raises(RunError, match="What tells strangers to run"):
        predict.load(own_run)


@pytest.mark.usefixtures("small_pictures")
def test_the_line_that_was_chosen_is_used_by_every_later_prediction(own_run):
    assert predict.load(own_run).keep == own_run.keep() == 0.95
    own_run.set_keep(0.8)
    predictor = predict.load(own_run)
    assert predictor.keep == own_run.keep() == 0.8
    row = np.array([0.9, 0.1])
    assert predictor.answer("a", row, 0.85).unknown
    own_run.set_keep(0.9)
    assert not predict.load(own_run).answer("a", row, 0.85).unknown


@pytest.mark.usefixtures("small_pictures")
def test_another_line_loads_no_network_and_disturbs_no_one_who_asks(own_run, monkeypatch):
    load, loaded = predict.load, []
    monkeypatch.setattr(predict, "load", lambda run: (loaded.append(run), load(run))[1])
    first = shelf.predictor(own_run)
    own_run.set_keep(0.8)
    second = shelf.predictor(own_run)
    assert (first.keep, second.keep, second.model is first.model) == (0.95, 0.8, True)
    assert loaded == [own_run]


def test_an_answer_follows_the_line_and_one_that_cannot_tell_stays_so():
    answer = Prediction("a", "reds", 0.9, {"reds": 0.9, "blues": 0.1}, False, 0.85)
    assert [answer.keeping(part).unknown for part in (0.8, 0.9)] == [True, False]
    old = Prediction("a", "reds", 0.9, {"reds": 0.9, "blues": 0.1})
    assert old.keeping(0.8) == old


@pytest.mark.usefixtures("small_pictures")
def test_the_table_and_the_cards_of_a_run_know_what_is_none_of_these(own_run, tmp_path, monkeypatch):
    monkeypatch.setattr(serve, "uploads_folder", lambda: tmp_path / "uploads")
    report = own_run.report()
    for place, one in enumerate(report["photos"]):
        one["strangeness"] = [0.85, 0.5, None][min(place, 2)]
    own_run.deliver(own_run.model(), report, own_run.learned())

    def told():
        rows = list(csv.DictReader(results._predictions(own_run).open()))
        return [row["unknown"] for row in rows[:3]]

    def marked():
        html = matrix.cards(own_run, "all", [0, 1, 2])
        return html.count("none of these</span>"), html.count(" hidden>none of these</span>")

    assert (told(), marked()) == (["false", "false", ""], (2, 2))
    own_run.set_keep(0.8)
    assert (told(), marked()) == (["true", "false", ""], (2, 1))


@pytest.mark.parametrize("text", ["", "[]", "{", '{"keep": 7}', '{"keep": null}'])
def test_a_damaged_line_counts_as_none(own_run, text):
    (own_run.path / "keep.json").write_text(text)
    assert own_run.keep() == 0.95


def test_a_line_out_of_range_is_refused(own_run):
    with pytest.raises(ValueError, match="not from"):
        own_run.set_keep(0.5)


def test_the_page_says_what_the_line_costs(own_run):
    report = own_run.report()
    report["unknown"] = {"held_out": 60, "strangers": 48, "costs": [{"keep": 95, "kept": 57, "let_in": 12}]}
    report["photos"] = [{"strangeness": i / 40} for i in range(1, 41)]
    said = sure._cost(report, 95)
    assert (
        "Answers about 95 % of the photos of your classes: of 60 validation photos, 57 get an answer and 3 would be "
        "called none of these." in said
    )
    assert "25 % would be let in (12 of 48)" in said
    assert "test" not in said, "a choice is made here"
    assert "On the test photos, which have no say in this, it turned away 2 of 40." in sure._tested(report, 95)
    exact = sure._cost(report | {"head": "ridge", "fine_tuned": False}, 95)
    assert "of 60 photos, each asked of a model that had not learned from it, 57 get an answer" in exact
    report["unknown"]["strangers"] = 0
    assert "cannot be measured with two classes" in sure._cost(report, 95)


def test_the_page_says_what_certainty_is_worth_and_draws_it(trained):
    said = sure._certainty(json.loads(json.dumps(trained.run.report())))
    assert "it is right" in said
    assert said.count("<circle") == len(trained.run.report()["calibration"]["bins"])
    assert "expected calibration error" in said


@pytest.mark.skipif(not (SHARED / "flowers-400").is_dir(), reason="the photos are not on this machine")
def test_real_insects_are_told_from_the_flowers_that_were_learned(tmp_path):
    for name in ("daisy", "roses", "tulips"):
        target = tmp_path / "photos" / name
        target.mkdir(parents=True)
        for path in sorted((SHARED / "flowers-400" / name).iterdir())[:30]:
            (target / path.name).write_bytes(path.read_bytes())
    data = dataset.scan(tmp_path / "photos")
    run = jobs.start(data, plan.instant(data))
    watch(run)
    insects = sorted((SHARED / "ants-bees").rglob("*.jpg"))[::20]
    answers = [a for a in predict.load(run).predict_files(insects) if isinstance(a, Prediction)]
    photos = run.report()["photos"]
    assert np.mean([a.unknown for a in answers]) > 0.25
    assert np.mean([p["strangeness"] > 0.95 for p in photos]) < 0.25
    ours = np.array([a.strangeness for a in answers])[:, None] > [p["strangeness"] for p in photos]
    assert ours.mean() > 0.7, "of so few photos; benchmarks compare it with certainty alone on many"
    found = run.report()["unknown"]
    assert found["strangers"] == found["held_out"]
