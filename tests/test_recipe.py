"""The recipe: an exact head first, the last stage only if it helps, and never a look at the test photos."""

import copy
import dataclasses
import functools
import hashlib
import itertools
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import SIDES, fill, quick, seal, watch
from safetensors.torch import load

from tlapp import backbones, catalog, dataset, features, jobs, predict, recipe, speed, told
from tlapp import events as records
from tlapp import plan as plans
from tlapp import pool as pools
from tlapp import train as training
from tlapp.augment import Views
from tlapp.errors import TrainingDiverged
from tlapp.events import EpochFinished, Judged, Progress, Resumed, RunFinished, RunStopped, Trying
from tlapp.plan import AUGMENTATIONS
from tlapp.recipe import Result
from tlapp.runs import Run
from tlapp.train import TrainState

pytestmark = pytest.mark.usefixtures("small_pictures")
LITE = catalog.get(catalog.INCLUDED)
LIGHT = {"augmentation": AUGMENTATIONS["light"], "views": 3}


@pytest.fixture(scope="module")
def easy(tmp_path_factory):
    """Eight training, four validation and eight test photos of two colours."""
    root = tmp_path_factory.mktemp("easy")
    return dataset.scan(fill(root / "photos", SIDES), home=root / "home")


@pytest.fixture
def hard(tmp_path):
    """24 photos of two classes that nobody can tell apart, without a split, in the test's own workspace.

    An exact head is right about at most half of their validation photos.
    """
    return dataset.scan(fill(tmp_path / "hard", {"ones": 12, "twos": 12}, seed=300))


@pytest.fixture(scope="module")
def exact_run(tmp_path_factory):
    """exact_run(hard) → a finished run of an exact head on such photos, trained but once."""
    home, known = tmp_path_factory.mktemp("exact"), []

    def trained(data):
        if not known:
            data = dataset.scan(data.source, home=home)
            known.append(jobs.start(data, quick(data, solver="exact"), home))
            watch(known[0])
        return known[0]

    return trained


@pytest.fixture
def tries(monkeypatch):
    """Fine-tuning is tried with few photos, for few epochs. tries(accuracy): so many are right, the first ones."""
    tuning, judge = plans.tuning, training.judge
    monkeypatch.setattr(plans, "WORTH_TUNING", 8)
    monkeypatch.setattr(plans, "tuning", lambda plan: replace(tuning(plan), epochs=3))

    def arrange(accuracy):
        def judged(model, source, *rest):
            n = len(source.photos)
            return judge(model, source, *rest)[0], torch.arange(n) < round(accuracy * n)

        monkeypatch.setattr(training, "judge", judged)

    return arrange


@pytest.fixture
def stop_after(monkeypatch):
    """stop_after(condition): a run is asked to stop as soon as it has told an event for which that is true."""
    append = Run.append

    def arrange(condition):
        def told(run, event):
            append(run, event)
            if condition(event):
                jobs.stop(run)

        monkeypatch.setattr(Run, "append", told)

    return arrange


@functools.cache
def loaded():
    return backbones.load(LITE, 2).to(memory_format=torch.channels_last)


def train(data, plan, should_stop=lambda: False, state=None, work=recipe.train):
    """As a sitting does, without a run's folder: the events, what there is to deliver, and the model."""
    model = copy.deepcopy(loaded())
    model.freeze(plan.frozen)
    state, result = state or TrainState(), Result()
    split, views = plan.split(data), Views.of(plan)
    events = list(work(model, data, split, views, plan, should_stop, state, result))
    return events, result, model


def instant(data, **settings):
    return replace(plans.instant(data, catalog.INCLUDED), **{"precision": "float32", "device": "cpu", **settings})


def of_kind(kind, events):
    return [event for event in events if isinstance(event, kind)]


def stages(events):
    return list(dict.fromkeys(event.stage for event in of_kind(Progress, events)))


def outcome(run):
    report = run.report()
    return {name: report[name] for name in report if name != "seconds"}


def head_of(run):
    return load(run.model())["head.linear.weight"]


def tail_of(run):
    """All numbers of the last stage."""
    parts = tuple(f"blocks.{name}." for name in LITE.block_names[-LITE.tail :])
    return torch.cat(
        [value.flatten().float() for name, value in sorted(load(run.model()).items()) if name.startswith(parts)]
    )


def is_tuning(event):
    return isinstance(event, EpochFinished) and event.phase == "fine-tune"


# --- the instant model


def test_an_instant_run_has_one_epoch_and_is_the_same_every_time(tmp_path):
    data = dataset.scan(fill(tmp_path / "photos", SIDES))
    runs = [jobs.start(data, instant(data)) for _ in range(2)]
    ends = [watch(run) for run in runs]
    for events in ends:
        (epoch,) = of_kind(EpochFinished, events)
        assert (epoch.epoch, epoch.epochs, epoch.phase, epoch.is_best) == (1, 1, "head", True)
        assert isinstance(events[-1], RunFinished)
        assert not of_kind(Trying, events)
    report = runs[0].report()
    assert (report["head"], report["mirror"], report["fine_tuned"]) == ("ridge", False, False)
    assert report["compared"] == pools.comparison(np.ones(4, dtype=bool), np.ones(4, dtype=bool))
    assert outcome(runs[0]) == outcome(runs[1])


def test_an_instant_run_learns_from_the_validation_photos_too_once_all_is_chosen(easy):
    plan = instant(easy, l2=1.0, depth="last")
    _, result, model = train(easy, plan)
    pool = np.sort(np.concatenate(dataclasses.astuple(plan.split(easy))[:2]))
    photos = features.Photos(easy, pool, Views(plan.augmentation, catalog.get(LITE.name)), 0)
    with torch.no_grad():
        x = model.head.normalise(model.eval().run(photos.inputs(range(12), features.PLAIN), 0, model.n_blocks))
    y = torch.nn.functional.one_hot(photos.labels, 2).float()
    centred = x - x.mean(0)
    weight = torch.linalg.solve(centred.T @ centred + 12 * torch.eye(x.shape[1]), centred.T @ (y - y.mean(0))).T
    found = result.best["head.linear.weight"]
    torch.testing.assert_close(found / found.norm(), weight / weight.norm(), rtol=1e-2, atol=1e-3)


def test_the_learning_curve_of_an_exact_head_ends_where_the_fit_ends(hard):
    events, result, _ = train(hard, quick(hard, solver="exact", head="logistic", **LIGHT))
    curve = of_kind(EpochFinished, events)
    assert [event.epoch for event in curve] == list(range(1, len(curve) + 1))
    assert {event.phase for event in curve} == {"head"}
    assert curve[-1].train_loss < curve[0].train_loss
    assert (result.best_epoch, result.epochs, result.facts["head"]) == (len(curve), len(curve), "logistic")


# --- fine-tuning


def test_fine_tuning_is_tried_from_a_hundred_training_photos_on_and_by_auto_alone(easy):
    auto, exact = (quick(easy, solver=solver) for solver in ("auto", "exact"))
    assert [recipe.tries_tuning(LITE, auto, n, 25, 4) for n in (99, 100)] == [False, True]
    assert not recipe.tries_tuning(LITE, exact, 1000, 250, 4)
    assert not recipe.tries_tuning(LITE, replace(auto, cache_mb=0, disk_mb=0), 100, 25, 4)
    events, result, _ = train(easy, auto)
    assert not of_kind(Trying, events)
    assert result.facts["fine_tuned"] is False


@pytest.mark.parametrize("accuracy", [1.0, 0.0], ids=["it helps", "it does not"])
def test_fine_tuning_is_kept_only_if_clearly_more_validation_photos_are_right(hard, exact_run, tries, accuracy):
    exact = exact_run(hard)
    tries(accuracy)
    run = jobs.start(hard, quick(hard, solver="auto"))
    events = watch(run)
    (trying,), (judged,) = of_kind(Trying, events), of_kind(Judged, events)
    assert trying.blocks == "stage7, top"
    assert trying.seconds > 0
    assert (judged.kept, judged.after, judged.n) == (accuracy == 1.0, accuracy, run.report()["n_validation"])
    assert judged.before < 1.0
    tuned = [event.epoch for event in filter(is_tuning, events)]
    assert tuned == [2, 3, 4]
    assert isinstance(events[-1], RunFinished)
    report = run.report()
    assert report["fine_tuned"] is judged.kept
    assert torch.equal(tail_of(run), tail_of(exact)) is not judged.kept
    if judged.kept:
        assert report["compared"]["run"] == report["compared"]["n"] == judged.n
        assert report["validation_accuracy"] == 1.0
        assert report["best_epoch"] in tuned
    else:
        torch.testing.assert_close(head_of(run), head_of(exact), rtol=1e-3, atol=1e-4)
        assert report["validation_accuracy"] == exact.report()["validation_accuracy"]
    predictor = predict.load(run)
    features, _ = predictor.outputs([hard.pixels(int(i)) for i in predictor.learned.indices[:3]])
    indices, distances = predictor.learned.nearest(features.numpy(), 1)
    assert indices[:, 0].tolist() == predictor.learned.indices[:3].tolist(), "kept features are those of this network"
    assert distances[:, 0] == pytest.approx(np.zeros(3), abs=2e-3)


@pytest.mark.parametrize(
    ("before", "after", "kept"),
    [
        ("1111111111", "1111111111", False),
        ("0111111111", "1111111111", False),
        ("0011111111", "1111111111", True),
        ("0001111111", "1110111111", False),
        ("0000111111", "1111011111", True),
        ("1111111111", "0011111111", False),
    ],
)
def test_what_costs_more_must_be_better_by_more_than_chance(before, after, kept):
    """One standard error of the difference on the same photos."""
    was, now = (np.array(list(text)) == "1" for text in (before, after))
    assert recipe._is_clearly_better(now, was) is kept


def test_one_photo_more_is_not_enough(hard, tries, monkeypatch):
    tries(0.75)
    real = recipe._fit

    def fitted_half(model, pool, *rest):
        fitted = yield from real(model, pool, *rest)
        fitted.right[np.flatnonzero(pool.is_validation)] = [True, True, False, False]
        return fitted

    monkeypatch.setattr(recipe, "_fit", fitted_half)
    events, result, _ = train(hard, quick(hard, solver="auto"))
    (judged,) = of_kind(Judged, events)
    assert judged == Judged(False, 0.5, 0.75, 4)
    assert result.facts["fine_tuned"] is False


def test_fine_tuning_is_not_tried_where_hardly_a_photo_is_wrong(easy, tries):
    tries(1.0)
    events, result, _ = train(easy, quick(easy, solver="auto"))
    assert of_kind(Judged, events) == [Judged(False, 1.0, None, 4)]
    assert not of_kind(Trying, events)
    assert not list(filter(is_tuning, events))
    assert result.facts["fine_tuned"] is False


@pytest.mark.parametrize(
    ("judged", "words"),
    [
        (
            Judged(True, 0.775, 0.9, 40),
            r"kept: of the 40 validation photos 31 \(62 to 88 %\) were right before it, 36 \(77 to 96 %\) after.",
        ),
        (
            Judged(False, 0.5, 0.75, 4),
            r"dropped, as it is not clearly better: of the 4 .* 2 \(15 to 85 %\) were right before it, 3 .* after.",
        ),
        (
            Judged(False, 0.975, None, 40),
            r"not tried: of the 40 validation photos 39 \(87 to 100 %\) are right already.",
        ),
        (Judged(False, 0.5, None, 40, diverged=True), "Fine-tuning diverged and is dropped."),
    ],
)
def test_what_became_of_fine_tuning_is_said_in_a_sentence(judged, words):
    assert re.search(words, judged.in_words())
    assert records.from_json(records.to_json(judged)) == judged


def test_fine_tuning_is_judged_by_its_best_epoch(hard, tries, monkeypatch):
    tries(1.0)
    seen = []

    def worse_and_worse(model, source, *_):
        seen.append(model.learned())
        return float(len(seen)), torch.ones(len(source.photos), dtype=torch.bool)

    monkeypatch.setattr(training, "judge", worse_and_worse)
    train(hard, quick(hard, solver="auto"))
    first, _, last, judged = seen
    assert all(torch.equal(judged[name], value) for name, value in first.items())
    assert not all(torch.equal(judged[name], value) for name, value in last.items())


def test_what_is_kept_is_learned_again_from_the_start_on_all_photos_for_as_many_epochs(hard, tries, monkeypatch):
    asked, repeat = [], training.repeat

    def watched(model, source, plan, phase, epochs, should_stop):
        asked.append((source.photos.indices, epochs, model.learned()))
        return repeat(model, source, plan, phase, epochs, should_stop)

    monkeypatch.setattr(training, "repeat", watched)
    tries(1.0)
    plan = quick(hard, solver="auto")
    events, result, _ = train(hard, plan)
    ((indices, epochs, learned),) = asked
    exact, pretrained = train(hard, replace(plan, solver="exact"))[1].best, loaded().state_dict()
    for name, value in learned.items():
        torch.testing.assert_close(value, (exact if name in exact else pretrained)[name], rtol=1e-3, atol=1e-4)
    split = plan.split(hard)
    assert sorted(indices) == sorted([*split.train, *split.validation])
    best = min(filter(is_tuning, events), key=lambda event: event.validation_loss)
    assert epochs == best.epoch - 1
    assert result.best_epoch == best.epoch
    assert {name.split(".")[1] for name in learned if name.startswith("blocks")} == {"stage7", "top"}
    assert [event.done for event in of_kind(Progress, events) if "all photos" in event.stage] == list(range(epochs + 1))


def test_fine_tuning_that_diverges_is_dropped_and_the_exact_head_delivered(hard, exact_run, tries, monkeypatch):
    exact = exact_run(hard)
    seen = itertools.count()

    def diverging(*args):
        if next(seen):
            raise TrainingDiverged("The training diverged.")
        return 0.5, torch.ones(1, dtype=torch.bool)

    tries(1.0)
    monkeypatch.setattr(training, "judge", diverging)
    run = jobs.start(hard, quick(hard, solver="auto"))
    events = watch(run)
    (judged,) = of_kind(Judged, events)
    assert (judged.kept, judged.after, judged.diverged) == (False, None, True)
    assert isinstance(events[-1], RunFinished)
    assert run.report()["fine_tuned"] is False
    assert torch.equal(tail_of(run), tail_of(exact))
    torch.testing.assert_close(head_of(run), head_of(exact), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("mirror", ["on", "auto"])
def test_what_is_fine_tuned_answers_for_the_mirror_image_too_only_where_that_was_asked_for(hard, tries, mirror):
    tries(1.0)
    _, result, _ = train(hard, quick(hard, solver="auto", mirror=mirror, **LIGHT))
    assert result.facts["fine_tuned"]
    assert result.mirror is result.facts["mirror"] is (mirror == "on")


STOPS = {
    "before it": lambda event: isinstance(event, Trying),
    "after its first epoch": lambda event: is_tuning(event) and event.epoch == 2,
    "after its last epoch": lambda event: is_tuning(event) and event.epoch == 4,
    "when all is learned again": lambda event: isinstance(event, Progress) and "all photos" in event.stage,
}


def test_a_run_stopped_in_fine_tuning_delivers_the_exact_head_and_ends_as_an_undisturbed_one_when_resumed(
    hard, exact_run, tries, stop_after
):
    exact = exact_run(hard)
    tries(1.0)
    plan = quick(hard, solver="auto")
    whole = jobs.start(hard, plan)
    watch(whole)
    for moment, condition in STOPS.items():
        stop_after(condition)
        run = jobs.start(hard, plan)
        assert isinstance(watch(run)[-1], RunStopped), moment
        report = run.report()
        assert report["fine_tuned"] is False, moment
        assert report["validation_accuracy"] == exact.report()["validation_accuracy"]
        assert torch.equal(tail_of(run), tail_of(exact)), moment
        torch.testing.assert_close(head_of(run), head_of(exact), rtol=1e-3, atol=1e-4)
        stop_after(lambda event: False)
        events = watch(jobs.resume(run))
        assert isinstance(events[-1], RunFinished), moment
        assert [event.epoch for event in filter(is_tuning, events)] == [2, 3, 4]
        assert len(of_kind(Resumed, events)) == (moment != "before it")
        assert run.report()["fine_tuned"] is True
        assert outcome(run) == outcome(whole), moment
        assert not list(run.path.glob("*.state"))


@pytest.mark.parametrize("look", [0, 1, 2, 3])
def test_a_recipe_stopped_before_there_is_a_head_has_nothing_to_deliver(hard, tries, look):
    looks, state = itertools.count(), TrainState()
    _, result, _ = train(hard, quick(hard, solver="auto"), lambda: next(looks) >= look, state)
    assert state.stopped
    assert not result.best


def test_without_room_for_the_activations_no_fine_tuning_is_tried(hard, tries):
    tries(1.0)
    events, result, _ = train(hard, quick(hard, solver="auto", cache_mb=0, disk_mb=0))
    assert not of_kind(Trying, events)
    assert result.facts["fine_tuned"] is False
    assert result.best


# --- photos


@pytest.mark.parametrize(
    ("work", "settings"),
    [
        (recipe.train, {"solver": "auto", **LIGHT}),
        (recipe.train, {"solver": "exact"}),
        (told.train, {"solver": "sgd", **LIGHT}),
        (told.train, {"solver": "sgd", "frozen": LITE.block_names[:-1]}),
    ],
    ids=["auto", "exact", "head", "fine-tune"],
)
def test_no_test_photo_is_looked_at_before_the_score(hard, tries, work, settings):
    tries(1.0)
    plan = quick(hard, **settings)
    sealed = seal(hard, plan)
    _, result, _ = train(sealed, plan, work=work)
    assert result.best
    with pytest.raises(AssertionError, match="looked at"):
        sealed.pixels(min(sealed.sealed))


@pytest.mark.parametrize("given", [True, False], ids=["given", "drawn"])
def test_the_validation_part_is_fold_0_and_only_it_is_held_out_where_it_was_given(easy, hard, given):
    data = easy if given else hard
    plan = quick(data, solver="exact")
    split = plan.split(data)
    pool = pools.Pool(data, split, Views(plan.augmentation, LITE), plan)
    assert sorted(pool.indices[pool.fold == 0]) == sorted(split.validation)
    assert sorted(pool.indices) == sorted([*split.train, *split.validation])
    assert set(pool.fold.tolist()) == ({0, -1} if given else {0, 1, 2, 3, 4})


def test_balanced_weights_let_rare_classes_count_as_much_as_common_ones(tmp_path):
    data = dataset.scan(fill(tmp_path / "photos", SIDES | {"train/reds": 12}))
    sums = {}
    for weighting in ("none", "balanced"):
        plan = quick(data, solver="exact", class_weighting=weighting)
        pool = pools.Pool(data, plan.split(data), Views(plan.augmentation, LITE), plan)
        sums[weighting] = np.bincount(pool.labels, pool.weights)
    assert sums["none"].tolist() == [6, 14]
    assert sums["balanced"][0] == pytest.approx(sums["balanced"][1])


# --- features kept with the dataset


@pytest.fixture
def forwards(monkeypatch):
    """How many photos went through a frozen part."""
    counted, call = [], speed.Frozen.__call__
    monkeypatch.setattr(speed.Frozen, "__call__", lambda self, x: counted.append(len(x)) or call(self, x))
    return counted


def kept_files(data):
    return sorted(data.folder.glob("features-*.npy"))


def test_plain_features_are_computed_once_for_a_dataset(hard, forwards):
    plan = instant(hard)
    _, first, _ = train(hard, plan)
    (path,) = kept_files(hard)
    assert sum(forwards) == 20
    known = np.load(path)
    test = plan.split(hard).test
    assert np.isnan(known[test]).all()
    assert np.isfinite(np.delete(known, test, 0)).all()
    forwards.clear()
    events, again, _ = train(hard, plan)
    assert sum(forwards) == 0
    assert "reading the photos" not in stages(events)
    assert torch.equal(first.best["head.linear.weight"], again.best["head.linear.weight"])
    train(hard, quick(hard, epochs=1), work=told.train)
    assert sum(forwards) == 16 + 4, "those of the run itself alone, its training and its validation photos"


def test_another_split_computes_only_the_photos_that_are_missing(hard, forwards):
    train(hard, instant(hard))
    forwards.clear()
    other = instant(hard, split_seed=1)
    missing = set(instant(hard).split(hard).test) - set(other.split(hard).test)
    _, result, _ = train(hard, other)
    assert sum(forwards) == len(missing) > 0
    kept_files(hard)[0].unlink()
    torch.testing.assert_close(train(hard, other)[1].best, result.best, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    "settings",
    [{"precision": "bfloat16"}, {"depth": "last"}, {"weights": "copy"}, {"framing": "letterbox"}],
    ids=["precision", "depth", "file", "framing"],
)
def test_features_of_other_weights_precision_depth_or_framing_are_not_mixed_up(hard, forwards, settings, tmp_path):
    train(hard, instant(hard))
    if "weights" in settings:
        state = torch.load(catalog.weights_path(LITE))
        torch.save({name: value * 1.01 for name, value in state.items()}, tmp_path / "other.pth")
        settings = {"weights": str(tmp_path / "other.pth")}
    forwards.clear()
    train(hard, instant(hard, **settings))
    assert sum(forwards) == 20
    assert len(kept_files(hard)) == 2


def test_features_kept_before_there_was_framing_still_serve_a_run_that_crops(hard):
    """The name under which they lie is spelled out here: another one would have all of them computed anew."""
    train(hard, instant(hard))
    way = speed.Way(torch.float32)
    depths = speed.Frozen(loaded(), 0, loaded().n_blocks, torch.device("cpu"), way, several=True).model.depths
    text = f"2 {LITE.name} {LITE.weights_sha256} {way} cpu {depths}"
    (path,) = kept_files(hard)
    assert path.name == f"features-{hashlib.sha256(text.encode()).hexdigest()[:16]}.npy"


def test_a_letterboxed_run_is_compared_with_a_letterboxed_instant_model(hard):
    """Two runs that differ in framing alone are not compared with one and the same model."""
    for framing in ("crop", "letterbox"):
        _, one, _ = train(hard, instant(hard, framing=framing))
        _, other, _ = train(hard, quick(hard, epochs=1, framing=framing), work=told.train)
        assert one.facts["compared"]["run"] == one.facts["compared"]["instant"]
        assert other.facts["compared"]["n"] == 4
        assert len(kept_files(hard)) == (1 if framing == "crop" else 2)


DAMAGES = {
    "cut short": lambda data: data[:-100],
    "empty": lambda data: b"",
    "no array": lambda data: b"hello" * 1000,
    "of fewer photos": lambda data: data.replace(b"(24, ", b"(12, "),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_file_of_features_is_computed_anew(hard, forwards, damage):
    _, first, _ = train(hard, instant(hard))
    (path,) = kept_files(hard)
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    forwards.clear()
    _, again, _ = train(hard, instant(hard))
    assert sum(forwards) == 20
    assert torch.equal(first.best["head.linear.weight"], again.best["head.linear.weight"])
    assert kept_files(hard) == [path]
    assert path.read_bytes() == whole


# --- the cache


@pytest.mark.parametrize("solver", ["exact", "auto", "sgd"])
def test_a_cache_on_the_disk_gives_the_result_of_one_in_memory(hard, tries, solver, monkeypatch):
    tries(1.0)
    used, make = [], features.Store.__init__

    def watched(self, n_draws, n_photos, shape, dtype, on_disk):
        used.append(on_disk)
        make(self, n_draws, n_photos, shape, dtype, on_disk)

    monkeypatch.setattr(features.Store, "__init__", watched)
    work = told.train if solver == "sgd" else recipe.train
    results = []
    for cache_mb in (128, 0):
        used.clear()
        plan = quick(hard, solver=solver, epochs=2, cache_mb=cache_mb, disk_mb=64, **LIGHT)
        results.append(train(hard, plan, work=work)[1])
        assert any(used) is (cache_mb == 0)
    one, other = (result.best for result in results)
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_with_room_on_neither_fewer_views_are_seen(easy):
    def drawn(**room):
        events, result, _ = train(easy, quick(easy, solver="exact", **LIGHT | {"views": 6}, **room))
        assert result.best
        return max((event.total for event in of_kind(Progress, events) if event.stage == "caching views"), default=0)

    assert drawn() == 12 * 5  # beside the plain view, which is kept with the dataset
    assert drawn(cache_mb=0, disk_mb=1) == 12 * 5
    assert drawn(cache_mb=0, disk_mb=0) == 0


# --- what is delivered


@pytest.mark.parametrize("mirror", ["on", "off"])
@pytest.mark.parametrize("depth", ["several", "last"])
def test_a_model_is_loaded_with_the_depths_and_the_mirror_it_was_made_with(hard, depth, mirror):
    run = jobs.start(hard, quick(hard, solver="exact", depth=depth, mirror=mirror, **LIGHT))
    watch(run)
    report = run.report()
    assert (report["depth"], report["mirror"]) == (depth, mirror == "on")
    loaded = predict.load(run)
    assert (loaded.model.several, loaded.model.mirror) == (depth == "several", mirror == "on")
    test = run.plan.split(hard).test
    found = loaded.probabilities([hard.pixels(int(i)) for i in test])
    assert found.max(1) == pytest.approx([row["probability"] for row in report["photos"]], abs=1e-6)
    assert [loaded.classes[i] for i in found.argmax(1)] == [row["label"] for row in report["photos"]]
    flipped = loaded.probabilities([np.ascontiguousarray(hard.pixels(int(i))[:, ::-1]) for i in test])
    same = np.allclose(found, flipped, atol=1e-5)
    assert same is (mirror == "on")


def test_a_run_as_told_is_compared_with_the_instant_model_on_the_validation_photos(hard, monkeypatch):
    real = pools.instant_right

    def known(pool, *rest):
        found = real(pool, *rest)
        assert found.dtype == bool
        assert len(found) == 20
        found[pool.is_validation] = [True, False, True, True]
        return found

    monkeypatch.setattr(pools, "instant_right", known)
    state = TrainState()
    events, result, _ = train(hard, quick(hard, epochs=2), state=state, work=told.train)
    assert stages(events)[0] == "reading the photos"
    best = of_kind(EpochFinished, events)[result.best_epoch - 1]
    right = state.best_right.numpy()
    assert right.mean() == best.validation_accuracy
    assert result.facts["compared"] == pools.comparison(right, np.array([True, False, True, True]))
    assert result.facts["fine_tuned"] is False
    assert result.accuracy == best.validation_accuracy
