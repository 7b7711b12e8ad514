"""The sweep: the head first, then deeper as far as the time goes, judged on validation photos alone."""

import dataclasses
import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from conftest import fill, quick, seal, watch

from tlapp import backbones, catalog, dataset, estimate, evaluate, jobs, tune
from tlapp import train as training
from tlapp.augment import Views
from tlapp.errors import TrainingDiverged
from tlapp.events import Progress, RunFinished
from tlapp.plan import AUGMENTATIONS
from tlapp.speed import Speed
from tlapp.tune import Trial, Tuned

pytestmark = pytest.mark.usefixtures("small_pictures")
BLOCKS = catalog.get(catalog.INCLUDED).block_names
DEPTHS = [(), BLOCKS[8:], BLOCKS[7:]]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """24 photos of two classes that nobody can tell apart."""
    root = tmp_path_factory.mktemp("tune")
    return dataset.scan(fill(root / "photos", {"ones": 12, "twos": 12}), home=root / "home")


@pytest.fixture(autouse=True)
def _two_depths_two_epochs(monkeypatch):
    """Blocks before the last two are so slow that no budget holds them."""
    slow = Speed((1e6,) * 7 + (1e-6,) * 2, (1e-6,) * 9, 1e-6)
    monkeypatch.setattr(estimate, "probe", lambda plan: slow)
    monkeypatch.setattr(tune, "EPOCHS", 2)
    monkeypatch.setattr(tune, "RATES", (1e-3, 1e-4))


@pytest.fixture
def clock(monkeypatch):
    """A clock that only tests move."""
    now = SimpleNamespace(seconds=0.0)
    monkeypatch.setattr(tune, "time", SimpleNamespace(monotonic=lambda: now.seconds))
    return now


@pytest.fixture
def epoch_takes(clock, monkeypatch):
    """epoch_takes(s): the clock moves by so much with every epoch."""
    judge = training.judge

    def arrange(seconds):
        def moving(*args):
            found = judge(*args)
            clock.seconds += seconds
            return found

        monkeypatch.setattr(training, "judge", moving)

    return arrange


def sweep(data, budget=1000.0, should_stop=lambda: False, **settings):
    """All trials, and the end, if there is one."""
    found = list(tune.sweep(data, quick(data, solver="auto", **settings), budget, should_stop))
    trials = [step for step in found if isinstance(step, Trial)]
    ends = [step for step in found if isinstance(step, Tuned)]
    assert len(ends) <= 1
    assert all(isinstance(step, Trial | Tuned | Progress) for step in found)
    assert not ends or found[-1] is ends[0]
    return trials, ends[0] if ends else None


def test_the_head_is_tried_first_then_deeper_and_then_other_rates_for_the_best_depth_first(data):
    trials, end = sweep(data)
    assert [trial.learning for trial in trials[:3]] == DEPTHS
    assert [trial.rate for trial in trials] == [0.0, 1e-3, 1e-3, 1e-4, 1e-4]
    better = max(trials[1:3], key=lambda trial: trial.accuracy).learning
    assert trials[3].learning == better
    assert {trials[3].learning, trials[4].learning} == set(DEPTHS[1:])
    assert end.trials == tuple(trials)
    assert end.best in trials


def test_a_sweep_keeps_the_framing(data, monkeypatch):
    seen, made = [], Views.plain
    monkeypatch.setattr(Views, "plain", lambda self, pixels: seen.append(self.framing) or made(self, pixels))
    _, end = sweep(data, framing="letterbox")
    assert set(seen) == {"letterbox"}
    assert end.plan.framing == "letterbox"


def test_every_trial_says_what_it_gives_and_takes(data):
    trials, _ = sweep(data)
    assert [trial.megabytes > 0 for trial in trials] == [False, True, True, True, True]
    assert trials[2].megabytes > trials[1].megabytes
    learning = sum(block.parameters for block in catalog.get(catalog.INCLUDED).blocks[8:])
    assert trials[1].megabytes > 16 * learning / 1e6
    for trial in trials:
        assert trial.seconds > 0
        assert 0 < trial.loss < 10
        assert trial.n == 4
        assert trial.to_dict() == vars(trial) | evaluate.stated(trial.accuracy, 4)
        assert trial.accuracy in (0, 0.25, 0.5, 0.75, 1)
        assert not trial.is_cut
    assert tune.named(trials[0]) == "head alone"
    assert tune.named(trials[2]) == "stage7, top, head"


@pytest.mark.parametrize(
    ("trials", "best"),
    [
        ([(0, 0.8, 0.5), (1, 0.8, 0.2), (2, 0.8, 0.1)], 0),
        ([(0, 0.8, 0.5), (1, 0.9, 0.6), (2, 0.9, 0.1)], 1),
        ([(0, 0.8, 0.5), (1, 0.7, 0.1), (2, 0.9, 0.9)], 2),
        ([(0, 0.8, 0.5), (1, 0.9, 0.6), (1, 0.9, 0.5)], 2),
    ],
    ids=["fewest blocks", "fewer blocks", "most right", "lower loss"],
)
def test_the_winner_has_most_right_then_fewest_blocks_learning_then_the_lower_loss(data, monkeypatch, trials, best):
    made = [Trial(DEPTHS[depth], 1e-3 * bool(depth), accuracy, 20, loss, 1.0, 1.0) for depth, accuracy, loss in trials]
    monkeypatch.setattr(tune._Sweeper, "all", lambda self, deadline: iter(made))
    _, end = sweep(data)
    assert end.best is made[best]


# --- time


def test_no_depth_is_begun_that_the_budget_is_not_likely_to_hold(data, monkeypatch):
    def depths(budget):
        return [trial.learning for trial in sweep(data, budget)[0]][:3]

    block = 1.0  # seconds a photo; 16 to learn from, 4 to validate
    speed = Speed((1e6,) * 7 + (block,) * 2, (1e-6,) * 9, 1e-6)
    monkeypatch.setattr(estimate, "probe", lambda plan: speed)
    one = 2 * (16 * estimate.LEARNING + 4) * block
    monkeypatch.setattr(tune, "RATES", (1e-3,))
    assert depths(one - 1) == DEPTHS[:1]
    assert depths(one + 60) == DEPTHS[:2]
    assert depths(3 * one + 60) == DEPTHS


def test_a_trial_that_the_budget_ends_keeps_what_it_found_and_says_so(data, epoch_takes):
    epoch_takes(40)
    trials, end = sweep(data, budget=100)
    assert [trial.is_cut for trial in trials] == [False, False, True]
    assert trials[2].loss > 0
    assert end.trials == tuple(trials)


def test_a_trial_is_not_begun_a_second_time_if_it_would_not_end(data, epoch_takes):
    epoch_takes(40)
    trials, _ = sweep(data, budget=200)  # 160 for the first rate
    assert [trial.rate for trial in trials] == [0, 1e-3, 1e-3]
    assert not any(trial.is_cut for trial in trials)


def test_a_trial_that_ends_before_its_first_epoch_is_none(data, epoch_takes, clock):
    epoch_takes(40)
    learned = []

    def asked():
        if clock.seconds == 80:
            learned.append(1)
        return len(learned) > 1  # in the first epoch of the second depth

    trials, end = sweep(data, should_stop=asked)
    assert [trial.learning for trial in trials] == DEPTHS[:2]
    json.dumps([dataclasses.asdict(trial) for trial in end.trials], allow_nan=False)


def test_a_trial_that_diverges_at_once_loses(data, monkeypatch):
    def diverging(*_):
        raise TrainingDiverged("The training diverged.")

    monkeypatch.setattr(training, "judge", diverging)
    trials, end = sweep(data)
    assert end.best == trials[0]
    json.dumps([dataclasses.asdict(trial) for trial in end.trials], allow_nan=False)


def test_a_budget_too_short_for_anything_finds_nothing(tmp_path, clock):
    data = dataset.scan(fill(tmp_path / "photos", {"ones": 12, "twos": 12}))
    steps = tune.sweep(data, quick(data), 10.0)
    for step in steps:
        assert isinstance(step, Progress)
        clock.seconds = 11.0


@pytest.mark.parametrize("n", [1, 2, 3])
def test_a_sweep_stops_with_what_it_has_found(data, n):
    found = []
    for step in tune.sweep(data, quick(data, solver="auto"), 1000.0, lambda: len(found) >= n):
        if isinstance(step, Trial):
            found.append(step)
    assert isinstance(step, Tuned)
    assert step.trials == tuple(found)
    assert len(found) == n


# --- what is found can be trained, and is honest


def test_the_plan_that_is_found_trains(data):
    first = quick(data, solver="auto", head_epochs=1)
    for learning, rate, solver in ((DEPTHS[1], 1e-4, "sgd"), ((), 0.0, "exact")):
        plan = tune.planned(first, Trial(learning, rate, 1.0, 4, 0.1, 1.0, 1.0))
        assert (plan.solver, plan.learning) == (solver, learning)
        assert plan.fine_tune_rate == (rate or first.fine_tune_rate)
        run = jobs.start(data, replace(plan, epochs=2), data.folder.parent.parent)
        assert isinstance(watch(run)[-1], RunFinished)
        assert run.report()["fine_tuned"] is bool(learning)


def test_no_test_photo_is_looked_at(data):
    trials, end = sweep(seal(data, quick(data)), augmentation=AUGMENTATIONS["light"])
    assert len(trials) == 5
    assert end


@pytest.mark.parametrize("batchnorm", ["fixed", "learned"])
def test_every_trial_begins_from_the_network_as_it_came(data, batchnorm):
    settings = {"augmentation": AUGMENTATIONS["light"], "batchnorm": batchnorm}
    trials, _ = sweep(data, **settings)
    plan = quick(data, solver="auto", **settings)
    for wanted in trials[1:]:
        sweeper = tune._Sweeper(data, plan, lambda: False)
        fitted = drain(tune.recipe.fit_plain(sweeper.model, sweeper.pool, sweeper.plan, lambda: False))
        cut = len(BLOCKS) - len(wanted.learning)
        stores = drain(sweeper.cache([cut]))
        alone = sweeper.trial(cut, wanted.rate, fitted.without_validation, stores[cut])
        assert replace(alone, seconds=0) == replace(wanted, seconds=0)


def drain(generator):
    while True:
        try:
            next(generator)
        except StopIteration as end:
            return end.value


def test_counting_memory_changes_nothing(data):
    sweeper = tune._Sweeper(data, quick(data), lambda: False)
    plan = replace(sweeper.plan, frozen=BLOCKS[:8])
    stores = drain(sweeper.cache([8]))
    sweeper.model.freeze(plan.frozen)
    before = {name: value.clone() for name, value in sweeper.model.state_dict().items()}
    assert sweeper.memory(training.Source(sweeper.sides[0], 8, stores[8][0]), plan) > 0
    after = sweeper.model.state_dict()
    assert [name for name in before if not torch.equal(before[name], after[name])] == []
    assert all(parameter.grad is None for parameter in sweeper.model.parameters())


def test_all_depths_are_cached_in_one_pass_as_if_each_alone(data, monkeypatch):
    sweeper = tune._Sweeper(data, quick(data), lambda: False)
    together = drain(sweeper.cache([8, 7]))
    model = backbones.load(catalog.get(catalog.INCLUDED), 2)
    for cut in (7, 8):
        for side, store in zip(sweeper.sides, together[cut], strict=True):
            x = side.inputs(range(len(side)), tune.PLAIN)
            with torch.no_grad():
                wanted = model.eval().run(x, 0, cut)
            torch.testing.assert_close(store.get(0, range(len(side))), wanted, rtol=1e-3, atol=1e-3)
