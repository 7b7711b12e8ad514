"""The training loop: what may move, what may not, and that nothing depends on luck."""

import copy
import functools
import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torchvision
from conftest import SIDES, fill, quick

from tlapp import backbones, catalog, dataset, features, optimizers, sampling
from tlapp import train as training
from tlapp.augment import Views
from tlapp.errors import TrainingDiverged
from tlapp.events import EpochFinished, Progress
from tlapp.plan import Augmentation, Plan
from tlapp.train import TrainState

pytestmark = pytest.mark.usefixtures("small_pictures")
BLOCKS = catalog.get(catalog.INCLUDED).block_names
BUT_TOP = BLOCKS[:-1]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Eight training and four validation photos of two colours."""
    root = tmp_path_factory.mktemp("train")
    return dataset.scan(fill(root / "photos", SIDES), home=root / "home")


def prepare(data, plan):
    """The model and photos that a run would train on."""
    entry = catalog.get(plan.backbone)
    model = backbones.load(entry, len(data.classes), weights=plan.weights, dropout=plan.dropout, seed=plan.seed)
    model.freeze(plan.frozen)
    model.to(memory_format=torch.channels_last)
    split, views = plan.split(data), Views(plan.augmentation, entry)
    return model, *(features.Photos(data, part, views, plan.seed) for part in (split.train, split.validation))


def learn(data, plan, state=None, should_stop=lambda: False, prepared=None):
    """Train to the end; the model, the events and the state."""
    model, *photos = prepared or prepare(data, plan)
    state = TrainState() if state is None else state
    return model, list(training.train(model, *photos, plan, should_stop, state)), state


def epochs(events):
    return [event for event in events if isinstance(event, EpochFinished)]


def untimed(events):
    return [replace(e, seconds=0, photos_per_second=0, seconds_left=0) for e in epochs(events)]


def snapshot(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def of_block(name, tensors):
    return {key: value for key, value in tensors.items() if key.startswith(f"blocks.{name}.")}


def assert_only_unfrozen_moved(before, model, frozen, statistics="fixed"):
    after = snapshot(model)
    for name in model.entry.block_names:
        old, new = of_block(name, before), of_block(name, after)
        assert any("running_mean" in key for key in old)
        if name in frozen:
            assert same(old, new), f"{name} is frozen but moved"
            assert not any(p.requires_grad or p.grad is not None for p in model.blocks[name].parameters())
        else:
            parameters = [key for key, _ in model.named_parameters() if key in old]
            assert any(not torch.equal(old[key], new[key]) for key in parameters), f"{name} did not learn"
            means = [key for key in old if key.endswith("running_mean")]
            moved = [not torch.equal(old[key], new[key]) for key in means]
            assert all(moved) if statistics == "learned" else not any(moved), f"statistics of {name}"
    assert not torch.equal(before["head.linear.weight"], after["head.linear.weight"])


@pytest.mark.parametrize(
    "frozen",
    [
        BLOCKS,
        (),
        BUT_TOP,
        tuple(name for name in BLOCKS if name not in ("stage4", "top")),
        BLOCKS[1:],
    ],
    ids=["all", "none", "all-but-top", "gap-behind-stage4", "all-but-stem"],
)
def test_frozen_blocks_are_bit_identical_and_unfrozen_ones_learn(data, frozen):
    for batchnorm in ("fixed", "learned"):
        plan = quick(data, frozen=frozen, epochs=2, batchnorm=batchnorm)
        prepared = prepare(data, plan)
        before = snapshot(prepared[0])
        model, _, _ = learn(data, plan, prepared=prepared)
        assert_only_unfrozen_moved(before, model, frozen, batchnorm)


@pytest.fixture(scope="module")
def resnet_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "resnet18.pth"
    torch.manual_seed(0)
    torch.save(torchvision.models.resnet18().state_dict(), path)
    return str(path)


def test_freezing_holds_on_a_resnet_from_a_weights_file(data, resnet_file):
    frozen = ("stem", "layer1", "layer3")
    plan = quick(data, backbone="resnet18", weights=resnet_file, frozen=frozen, epochs=2, batchnorm="learned")
    prepared = prepare(data, plan)
    before = snapshot(prepared[0])
    assert torch.equal(before["blocks.stem.0.weight"], torch.load(resnet_file)["conv1.weight"])
    model, _, _ = learn(data, plan, prepared=prepared)
    assert_only_unfrozen_moved(before, model, frozen, "learned")


def test_the_same_seed_gives_the_same_result_whatever_else_draws_random_numbers(data):
    plan = quick(data, frozen=BUT_TOP, epochs=4, augmentation=Augmentation(), dropout=0.5)
    torch.manual_seed(1)
    one, first, _ = learn(data, plan)
    torch.manual_seed(2)
    other, second, _ = learn(data, plan)
    assert untimed(first) == untimed(second)
    assert same(snapshot(one), snapshot(other))


def test_another_seed_gives_another_result(data):
    plan = quick(data, dropout=0.5)
    _, first, _ = learn(data, plan)
    _, second, _ = learn(data, replace(plan, seed=1))
    assert untimed(first) != untimed(second)


def losses(events):
    return [loss for e in epochs(events) for loss in (e.train_loss, e.validation_loss)]


@pytest.mark.parametrize("frozen", [BLOCKS, BUT_TOP], ids=["head", "fine-tune"])
def test_a_cached_run_equals_an_uncached_one_where_there_are_views_enough(data, frozen):
    plan = quick(data, frozen=frozen, epochs=3, views=3, augmentation=Augmentation())
    cached, events, _ = learn(data, plan)
    uncached, fresh, _ = learn(data, replace(plan, cache_mb=0, disk_mb=0))
    assert any(isinstance(e, Progress) and e.stage == "caching training views" for e in events)
    assert not any(isinstance(e, Progress) and e.stage == "caching training views" for e in fresh)
    assert losses(events) == pytest.approx(losses(fresh), rel=1e-3)
    for name, value in snapshot(cached).items():
        torch.testing.assert_close(value, snapshot(uncached)[name], rtol=1e-2, atol=1e-3)
    _, fewer, _ = learn(data, replace(plan, views=1))
    assert losses(fewer) != pytest.approx(losses(fresh), rel=1e-3)


RESTLESS = {"head_rate": 3.0, "epochs": 25}


def test_patience_ends_the_run_so_many_epochs_after_the_best(data):
    _, patient, _ = learn(data, quick(data, **RESTLESS, patience=0))
    assert len(epochs(patient)) == 25
    _, events, _ = learn(data, quick(data, **RESTLESS, patience=3))
    last = epochs(events)[-1]
    assert last.epoch == last.best_epoch + 3 < 25
    assert untimed(events) == untimed(patient)[: last.epoch]


def test_the_model_ends_with_the_weights_of_its_lowest_validation_loss(data):
    plan = quick(data, **RESTLESS, patience=3)
    model, *photos = prepare(data, plan)
    state, seen = TrainState(), []
    for event in training.train(model, *photos, plan, lambda: False, state):
        if isinstance(event, EpochFinished):
            seen.append((event.validation_loss, event.is_best, snapshot(model)))
    lowest = min(range(len(seen)), key=lambda i: seen[i][0])
    assert len(seen) - 1 - lowest > 0, "the run must end behind its best epoch"
    assert state.best_epoch == lowest + 1
    assert state.best_loss == seen[lowest][0]
    assert same(snapshot(model), seen[lowest][2])
    assert not same(snapshot(model), seen[-1][2])
    running = itertools.accumulate((loss for loss, _, _ in seen), min)
    assert [best for _, best, _ in seen] == [
        i == 0 or loss < before
        for i, ((loss, _, _), before) in enumerate(zip(seen, [math.inf, *running], strict=False))
    ]


@pytest.mark.parametrize("limit", [1, 2, 3, 4])
def test_stop_is_honoured_before_the_next_batch(data, limit):
    plan = quick(data, batch_size=4, epochs=50)
    prepared = prepare(data, plan)
    ran = []
    prepared[0].head.register_forward_hook(lambda *_: ran.append(1))
    _, events, state = learn(data, plan, prepared=prepared, should_stop=lambda: len(ran) >= limit)
    assert len(ran) == limit
    assert state.stopped
    assert len(epochs(events)) == state.epoch == limit // 3  # two batches to learn, one to validate


def test_stop_is_honoured_while_views_are_cached(data):
    plan = quick(data, views=4, augmentation=Augmentation())
    prepared = prepare(data, plan)
    ran = []
    prepared[0].blocks["stem"].register_forward_hook(lambda *_: ran.append(1))
    _, events, state = learn(data, plan, prepared=prepared, should_stop=lambda: bool(ran))
    assert len(ran) == 1
    assert state.stopped
    assert state.best == {}
    assert not epochs(events)


def test_a_run_stopped_in_the_first_fine_tuning_epoch_keeps_the_best_of_the_head(data):
    plan = quick(data, frozen=BUT_TOP, epochs=4)
    seen = []
    model, *photos = prepare(data, plan)
    state = TrainState()
    for event in training.train(model, *photos, plan, lambda: len(seen) == 2, state):
        if isinstance(event, EpochFinished):
            seen.append(event)
    assert [e.phase for e in seen] == ["head", "head"]
    assert state.best_epoch == seen[-1].best_epoch > 0
    assert same(model.learned(), state.best)


DIVERGING = {"head_rate": 10.0, "weight_decay": 10.0, "epochs": 60, "patience": 0}


def test_a_loss_that_is_not_finite_ends_the_run_in_a_sentence_and_keeps_the_best(data):
    state = TrainState()
    with pytest.raises(TrainingDiverged, match=r"diverged .*[Ll]ower the learning rate"):
        learn(data, quick(data, **DIVERGING), state)
    assert 1 <= state.best_epoch <= state.epoch < 60
    assert all(torch.isfinite(value).all() for value in state.best.values())


def test_no_batch_has_one_photo_unless_there_is_but_one():
    def sizes(n, size):
        return [len(part) for part in sampling.batches(torch.arange(n), size)]

    assert sizes(9, 4) == [4, 5]
    assert sizes(8, 4) == [4, 4]
    assert sizes(5, 4) == [5]
    assert sizes(1, 4) == [1]
    assert [p for part in sampling.batches(torch.arange(9), 4) for p in part] == list(range(9))


def test_a_last_photo_alone_is_learned_with_the_batch_before(data):
    plan = quick(data, frozen=BUT_TOP, epochs=1, batch_size=7)
    prepared = prepare(data, plan)
    ran = []
    prepared[0].blocks["top"].register_forward_hook(
        lambda block, inputs, _: ran.append(len(inputs[0])) if block.training else None
    )
    learn(data, plan, prepared=prepared)
    assert ran == [8]


def test_the_head_learns_first_and_alone(data):
    plan = quick(data, frozen=BUT_TOP, epochs=5, head_epochs=2)
    model, *photos = prepare(data, plan)
    before, phases = snapshot(model), []
    for event in training.train(model, *photos, plan, lambda: False):
        if isinstance(event, EpochFinished):
            phases.append(event.phase)
            untouched = same(of_block("top", before), of_block("top", snapshot(model)))
            assert untouched == (event.phase == "head")
    assert phases == ["head"] * 2 + ["fine-tune"] * 3


def test_each_block_learns_at_its_rate_lower_towards_the_input(data):
    """AdamW's first step moves a parameter by its rate at most, and by just that where the slope is clear."""
    plan = quick(
        data, frozen=BLOCKS[:-3], epochs=2, head_epochs=1, weight_decay=0.0, patience=0,
        head_rate=1e-2, fine_tune_rate=1e-3, rate_decay=0.5,
    )  # fmt: skip
    model, *photos = prepare(data, plan)
    before = snapshot(model)
    steps = {}
    for event in training.train(model, *photos, plan, lambda: False):
        if isinstance(event, EpochFinished):
            now = snapshot(model)
            for name in (*(f"blocks.{b}" for b in BLOCKS[-3:]), "head"):
                moved = [(now[k] - before[k]).abs().max() for k, _ in model.named_parameters() if k.startswith(name)]
                steps[event.phase, name] = float(max(moved))
            before = now
    assert steps["head", "head"] == pytest.approx(1e-2, rel=0.02)
    assert steps["head", "blocks.top"] == 0
    assert steps["fine-tune", "head"] == pytest.approx(1e-3, rel=0.02)
    assert steps["fine-tune", "blocks.top"] == pytest.approx(1e-3, rel=0.02)
    assert steps["fine-tune", "blocks.stage7"] == pytest.approx(5e-4, rel=0.02)
    assert steps["fine-tune", "blocks.stage6"] == pytest.approx(2.5e-4, rel=0.02)


def first_loss(data, plan):
    """What the first epoch reports, and each photo's log probabilities before it."""
    model, photos, validation = prepare(data, plan)
    with torch.no_grad():
        logs = model.eval()(photos.inputs(range(len(photos)), features.PLAIN)).log_softmax(1)
    _, events, _ = learn(data, plan, prepared=(model, photos, validation))
    return epochs(events)[0].train_loss, logs, photos.labels


@pytest.mark.parametrize("weighting", ["none", "balanced"])
def test_with_balanced_weighting_a_rare_class_counts_as_much_as_a_common_one(tmp_path, weighting):
    data = dataset.scan(fill(tmp_path / "photos", SIDES | {"train/reds": 12}))
    loss, logs, labels = first_loss(data, quick(data, class_weighting=weighting, epochs=1, batch_size=16, dropout=0.0))
    each = -logs.gather(1, labels[:, None])[:, 0]
    by_class = (each[labels == 0].mean() + each[labels == 1].mean()) / 2
    wanted, other = (by_class, each.mean()) if weighting == "balanced" else (each.mean(), by_class)
    assert loss == pytest.approx(float(wanted), rel=1e-4)
    assert loss != pytest.approx(float(other), rel=1e-3)


def test_label_smoothing_spreads_a_part_of_the_target_over_all_classes(data):
    loss, logs, labels = first_loss(data, quick(data, label_smoothing=0.3, epochs=1, dropout=0.0))
    target = 0.7 * torch.eye(2)[labels] + 0.3 / 2
    assert loss == pytest.approx(float(-(target * logs).sum(1).mean()), rel=1e-4)
    assert loss != pytest.approx(float(-(torch.eye(2)[labels] * logs).sum(1).mean()), rel=1e-3)


@pytest.mark.parametrize("stop_after", [1, 2, 3, 4], ids="after epoch {}".format)
def test_a_resumed_run_goes_on_exactly_as_an_unbroken_one(data, stop_after):
    plan = quick(data, frozen=BUT_TOP, epochs=5, head_epochs=2, batch_size=4, dropout=0.5)
    unbroken, whole, whole_state = learn(data, plan)
    state = TrainState()
    model, *photos = prepare(data, plan)
    first = []
    for event in training.train(model, *photos, plan, lambda: len(epochs(first)) == stop_after, state):
        first.append(event)
    assert state.stopped
    saved = copy.deepcopy(state)
    resumed, rest, state = learn(data, plan, saved)
    assert untimed(first) + untimed(rest) == untimed(whole)
    assert same(snapshot(resumed), snapshot(unbroken))
    assert same(state.optimizer, whole_state.optimizer)


def test_a_run_that_patience_ended_does_not_go_on_when_resumed(data):
    plan = quick(data, **RESTLESS, patience=3)
    model, _, state = learn(data, plan)
    again, events, later = learn(data, plan, copy.deepcopy(state))
    assert not epochs(events)
    assert later.epoch == state.epoch
    assert same(snapshot(again), snapshot(model))


@pytest.mark.parametrize("settings", [RESTLESS | {"patience": 3}, {"frozen": BUT_TOP}], ids=["patience", "all epochs"])
def test_a_resume_with_nothing_left_to_learn_caches_nothing(data, settings):
    plan = quick(data, **settings)
    model, _, state = learn(data, plan)
    again, events, _ = learn(data, plan, copy.deepcopy(state))
    assert events == []
    assert same(snapshot(again), snapshot(model))


def test_the_time_left_is_known_once_an_epoch_of_the_last_phase_was_timed(data):
    left = [(e.phase, e.seconds_left) for e in epochs(learn(data, quick(data, frozen=BUT_TOP, epochs=5))[1])]
    assert left[:2] == [("head", None)] * 2
    assert all(phase == "fine-tune" and seconds > 0 for phase, seconds in left[2:4])
    assert left[4] == ("fine-tune", 0)
    assert all(event.seconds_left is not None for event in epochs(learn(data, quick(data))[1]))


def test_views_for_the_head_are_as_many_as_the_budget_holds_and_one_at_least(data):
    def drawn(cache_mb):
        settings = {"views": 64, "augmentation": Augmentation(), "cache_mb": cache_mb, "disk_mb": 0}
        plan = quick(data, frozen=BLOCKS[1:], epochs=2, **settings)
        totals = [e.total for e in learn(data, plan)[1] if isinstance(e, Progress) and "for the head" in e.stage]
        return totals[0] // 8

    assert drawn(0) == 1
    assert drawn(1) == 23  # 1,280 numbers a view; 195 fit, of which 4 are of the validation photos


# --- each setting has its effect


def looked_at(monkeypatch):
    """The positions of each batch that was learned from."""
    seen, batch = [], features.Source.batch

    def watched(self, positions, *rest):
        if not self.plain:
            seen.append(list(positions))
        return batch(self, positions, *rest)

    monkeypatch.setattr(features.Source, "batch", watched)
    return seen


SETTINGS = {
    "head_rate": {"head_rate": 0.01},
    "fine_tune_rate": {"fine_tune_rate": 1e-2},
    "rate_decay": {"rate_decay": 0.1},
    "cosine": {"schedule": "cosine"},
    "warm-up": {"warm_up": 2},
    "head_epochs": {"head_epochs": 1},
    "batch_size": {"batch_size": 3},
    "dropout": {"dropout": 0.5},
    "weight_decay": {"weight_decay": 5.0},
    "label_smoothing": {"label_smoothing": 0.2},
    "class_weighting": {"class_weighting": "balanced"},
    "sampling": {"sampling": "balanced"},
    "batchnorm": {"batchnorm": "learned"},
    "augmentation": {"augmentation": Augmentation()},
    "seed": {"seed": 5, "split_seed": 0},
}


@pytest.fixture(scope="module")
def uneven(tmp_path_factory):
    """Twelve training photos of one class, four of each other."""
    root = tmp_path_factory.mktemp("uneven")
    return dataset.scan(fill(root / "photos", SIDES | {"train/ones": 12, "valid/ones": 2}), home=root / "home")


TWO_LEARN = {"frozen": BLOCKS[:-2], "epochs": 4, "head_epochs": 2, "batch_size": 8, "dropout": 0.0}


@functools.cache
def without(data):
    """What training gives with all settings as they are."""
    return losses(learn(data, quick(data, **TWO_LEARN))[1])


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_every_setting_changes_the_result_and_with_it_the_same_seed_gives_the_same(uneven, settings):
    plan = quick(uneven, **TWO_LEARN | settings)
    one, first, _ = learn(uneven, plan)
    other, second, _ = learn(uneven, plan)
    assert losses(first) != without(uneven)
    assert untimed(first) == untimed(second)
    assert same(snapshot(one), snapshot(other))


def test_balanced_sampling_draws_every_class_as_often():
    labels = torch.tensor([0] * 90 + [1] * 10 + [2] * 50)
    drawn = torch.cat([sampling.order(labels, "balanced", torch.Generator().manual_seed(i)) for i in range(40)])
    shares = torch.bincount(labels[drawn]).float() / len(drawn)
    torch.testing.assert_close(shares, torch.full((3,), 1 / 3), rtol=0, atol=0.03)
    assert len(drawn) == 40 * len(labels)
    assert set(drawn.tolist()) == set(range(150)), "every photo has its turn"
    shuffled = sampling.order(labels, "shuffled", torch.Generator().manual_seed(0))
    assert sorted(shuffled.tolist()) == list(range(150))


def test_balanced_sampling_reaches_the_batches_that_are_learned(uneven, monkeypatch):
    seen = looked_at(monkeypatch)
    plan = quick(uneven, epochs=30, patience=0, sampling="balanced")
    learn(uneven, plan)
    split = plan.split(uneven)
    labels = uneven.labels[split.train]
    counts = np.bincount(labels[list(itertools.chain(*seen))])
    assert np.bincount(labels).tolist() == [4, 12, 4]
    assert counts.sum() == 30 * 20
    assert counts == pytest.approx(200, abs=50)


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_dropout_hides_its_part_of_the_features_while_learning_alone(data, dropout):
    prepared = prepare(data, plan := quick(data, dropout=dropout))
    shares = {True: [], False: []}
    prepared[0].head.linear.register_forward_pre_hook(
        lambda _, inputs: shares[torch.is_grad_enabled()].append(float((inputs[0] == 0).float().mean()))
    )
    learn(data, plan, prepared=prepared)
    assert shares[False] == pytest.approx([shares[False][0]] * 3)
    plain = shares[False][0]
    assert shares[True] == pytest.approx([plain + (1 - plain) * dropout] * 3, abs=0.02)


def test_weight_decay_shrinks_weights_and_leaves_biases_and_batchnorm_alone(data):
    norms = []
    for decay in (0.0, 5.0):
        plan = quick(data, weight_decay=decay, frozen=BUT_TOP, head_epochs=0, head_rate=1e-2, epochs=8)
        model, _, state = learn(data, plan)
        norms.append(float(state.learned["head.linear.weight"].norm()))
        model.freeze(BUT_TOP)
        groups = optimizers.build(model, plan, training.phases(plan, model)[-1]).param_groups
        of_weights = {p.ndim > 1: group["weight_decay"] for group in groups for p in group["params"]}
        assert of_weights == {True: decay, False: 0.0}
    assert norms[1] < 0.9 * norms[0]


def test_label_smoothing_softens_what_is_learned(data):
    surest = []
    for smoothing in (0.0, 0.5):
        plan = quick(data, label_smoothing=smoothing, epochs=20, patience=0, head_rate=0.01, dropout=0.0)
        model, photos, _ = prepared = prepare(data, plan)
        model.restore(learn(data, plan, prepared=prepared)[2].learned)
        with torch.no_grad():
            surest.append(float(model(photos.inputs(range(8), features.PLAIN)).softmax(1).max(1).values.mean()))
    assert surest[1] < surest[0] - 0.05


@pytest.mark.parametrize(
    ("settings", "passed", "factor"),
    [
        ({}, 0.0, 1.0),
        ({}, 7.9, 1.0),
        ({"warm_up": 2}, 0.0, 0.0005),
        ({"warm_up": 2}, 1.0, 0.5005),
        ({"warm_up": 2}, 2.0, 1.0),
        ({"schedule": "cosine"}, 0.0, 1.0),
        ({"schedule": "cosine"}, 4.0, 0.5),
        ({"schedule": "cosine"}, 6.0, (1 - math.sqrt(0.5)) / 2),
        ({"schedule": "cosine"}, 8.0, 0.0),
        ({"schedule": "cosine", "warm_up": 2}, 1.0, 0.5005),
        ({"schedule": "cosine", "warm_up": 2}, 5.0, 0.5),
        ({"schedule": "cosine", "warm_up": 2}, 8.0, 0.0),
        ({"schedule": "cosine", "warm_up": 8}, 7.0, 7.001 / 8),
    ],
    ids=str,
)
def test_rates_rise_from_zero_and_fall_along_a_cosine(settings, passed, factor):
    plan = Plan(catalog.INCLUDED, BLOCKS, epochs=8, **settings)
    head = training.Phase("head", 1, 8, len(BLOCKS), 0)
    assert optimizers.rate_factor(plan, head, passed) == pytest.approx(factor, abs=1e-6)
    later = training.Phase("fine-tune", 5, 12, len(BLOCKS), 0)
    assert optimizers.rate_factor(plan, later, 4 + passed) == pytest.approx(factor, abs=1e-6), "each phase begins anew"


def test_the_schedule_reaches_every_step_of_the_optimiser(data, monkeypatch):
    rates, step = [], torch.optim.AdamW.step

    def watched(self, *args):
        rates.append([group["lr"] for group in self.param_groups])
        return step(self, *args)

    monkeypatch.setattr(torch.optim.AdamW, "step", watched)
    plan = quick(
        data, frozen=BLOCKS[:-2], epochs=4, head_epochs=2, batch_size=4, schedule="cosine", warm_up=1,
        head_rate=1e-2, fine_tune_rate=1e-3, rate_decay=0.5,
    )  # fmt: skip
    learn(data, plan)
    wave = [0.001, 0.501, 1.0, (1 + math.cos(math.pi / 2)) / 2]  # two steps an epoch
    assert [rate[0] for rate in rates[:4]] == pytest.approx([1e-2 * factor for factor in wave])
    for found, factor in zip(rates[4:], wave, strict=True):
        assert sorted(set(found)) == pytest.approx([5e-4 * factor, 1e-3 * factor])


def test_the_dropout_is_that_of_the_plan_that_is_learned_by_whatever_the_model_was_made_with(data):
    """`auto` fine-tunes by a plan of its own."""
    model, photos, _ = prepare(data, quick(data, dropout=0.5))
    plan = quick(data, dropout=0.0)
    source = features.Source(photos, 0)
    phase = training.Phase("head", 1, 1, 0, 0)
    list(training.repeat(model, source, plan, phase, 1, lambda: False))
    assert model.head.dropout.probability == 0.0


def test_repeating_a_phase_gives_the_weights_that_it_had_after_as_many_epochs(data):
    plan = quick(data, frozen=BUT_TOP, epochs=3, head_epochs=0, patience=0, dropout=0.0)
    model, photos, validation = prepare(data, plan)
    phase = training.phases(plan, model)[-1]
    pristine, state, after = model.learned(), TrainState(), []
    sources = features.Source(photos, 0), features.Source(validation, 0, plain=True)
    for _ in training.run_phase(model, phase, sources, plan, lambda: False, state):
        after.append(model.learned())
    model.restore(pristine)
    events = list(training.repeat(model, sources[0], plan, phase, 2, lambda: False))
    assert same(model.learned(), after[1])
    assert not same(model.learned(), after[2])
    assert [event.done for event in events] == [0, 1, 2]
    assert not model.training


def test_timing_an_epoch_changes_nothing(data):
    for batchnorm in ("fixed", "learned"):
        plan = quick(data, frozen=BUT_TOP, batchnorm=batchnorm)
        model, photos, _ = prepare(data, plan)
        before = snapshot(model)
        assert training.time_epoch(model, features.Source(photos, 0), plan) > 0
        assert same(before, snapshot(model)), batchnorm
        assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_cache_is_kept_in_the_precision_of_the_frozen_part(data, monkeypatch, precision):
    kept, make = [], features.Store.__init__

    def watched(self, n_draws, n_photos, shape, dtype, on_disk):
        kept.append((len(shape), dtype))
        make(self, n_draws, n_photos, shape, dtype, on_disk)

    monkeypatch.setattr(features.Store, "__init__", watched)
    model, _, _ = learn(data, quick(data, frozen=BUT_TOP, precision=precision))
    assert {dtype for n, dtype in kept if n == 3} == {getattr(torch, precision)}
    assert {dtype for n, dtype in kept if n == 1} == {torch.float32}, "pooled features"
    assert {p.dtype for p in model.parameters()} == {torch.float32}
