"""Estimates: they grow with the work, count what really learns, and are said without false precision."""

from dataclasses import replace

import pytest
import torch

from tlapp import backbones, catalog, estimate, speed
from tlapp.estimate import Speed
from tlapp.plan import AUGMENTATIONS, Augmentation, Plan, tuning
from tlapp.ui import costs

LITE = catalog.get("efficientnet_lite0")
TIMES = tuple(0.001 * (i + 1) for i in range(len(LITE.blocks)))
SPEED = Speed(TIMES, tuple(time / 2 for time in TIMES), 0.002)
BASE = Plan("efficientnet_lite0", LITE.block_names)


def took(plan=BASE, n_train=200, n_validation=50, n_test=60):
    return estimate.seconds(plan, n_train, n_validation, n_test, SPEED)


def frozen(first):
    """The first so many blocks frozen."""
    return replace(BASE, frozen=LITE.block_names[:first])


@pytest.mark.parametrize("plan", [frozen(n) for n in range(len(LITE.blocks) + 1)], ids=lambda plan: len(plan.frozen))
def test_more_photos_and_more_epochs_take_longer(plan):
    assert took(plan) < took(plan, n_train=300)
    assert took(plan) < took(plan, n_validation=90)
    assert took(plan) < took(plan, n_test=90)
    assert took(plan) < took(replace(plan, epochs=60))


@pytest.mark.parametrize("epochs", [2, 10, 40])
def test_fewer_frozen_blocks_never_take_less(epochs):
    times = [took(replace(frozen(n), epochs=epochs)) for n in range(len(LITE.blocks), -1, -1)]
    assert times == sorted(times)


def test_a_frozen_block_behind_one_that_learns_costs_less_than_if_it_learned():
    gap = replace(BASE, frozen=tuple(name for name in LITE.block_names if name != "stage7"))
    assert took() < took(gap) < took(frozen(7))


def test_without_a_cache_every_epoch_runs_the_frozen_part():
    uncached = replace(BASE, cache_mb=0, disk_mb=0)
    epoch = took(replace(uncached, epochs=11)) - took(replace(uncached, epochs=10))
    assert epoch > 250 * sum(SPEED.frozen)
    assert took(replace(BASE, cache_mb=0)) == took()
    assert took(uncached) > 5 * took()


def test_augmentation_costs_its_views():
    once = took(replace(BASE, augmentation=AUGMENTATIONS["off"]))
    light, medium, strong = (took(replace(BASE, augmentation=AUGMENTATIONS[n])) for n in ("light", "medium", "strong"))
    assert once < light < medium < strong
    assert light - once == pytest.approx(200 * (3 * sum(SPEED.frozen) + 3.7 * SPEED.view), rel=0.01)
    assert took(replace(BASE, augmentation=Augmentation(rotation=5))) == medium


@pytest.mark.parametrize("solver", ["sgd", "exact", "auto"])
def test_letterbox_costs_a_resize_of_every_view(solver):
    plan = replace(BASE, solver=solver, augmentation=AUGMENTATIONS["off"])
    more = took(replace(plan, framing="letterbox")) - took(plan)
    views = 310 + (250 if solver == "sgd" else 0)  # those of the instant model beside it
    assert more == pytest.approx(estimate.LETTERBOX * views * SPEED.view)
    augmented = replace(BASE, solver=solver)
    assert took(replace(augmented, framing="letterbox")) > took(augmented) + more


@pytest.mark.parametrize("name", ["resnet18", "efficientnet_lite0"])
@pytest.mark.parametrize("first", [0, 2, -1, None])
def test_learned_is_what_the_network_trains(name, first):
    entry = catalog.get(name)
    plan = Plan(name, entry.block_names[:first] + entry.block_names[-1:] * (first == 2))
    model = backbones.build(entry, 3)
    model.freeze(plan.frozen)
    assert estimate.learned(plan, 3) == sum(p.numel() for p in model.parameters() if p.requires_grad)


@pytest.mark.parametrize(("depth", "several"), [("last", False), ("several", True), ("auto", True)])
def test_an_exact_head_learns_of_as_many_features_as_it_may_see(depth, several):
    entry = catalog.get("efficientnet_lite0")
    model = backbones.build(entry, 3, several=several)
    plan = Plan(entry.name, entry.block_names, solver="exact", depth=depth)
    assert estimate.learned(plan, 3) == sum(p.numel() for p in model.head.linear.parameters())


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "about 1 s"), (1.4, "about 1 s"), (4.4, "about 4 s"), (6, "about 5 s"), (19, "about 20 s"),
        (29.9, "about 30 s"), (44, "about 40 s"), (54.9, "about 50 s"), (55, "about 1 min"), (89, "about 1 min"),
        (118, "about 2 min"), (569, "about 9 min"), (600, "about 10 min"), (780, "about 15 min"),
        (3449, "about 55 min"), (3500, "about 1 h"), (4100, "about 1 h 10 min"), (36_000, "about 10 h"),
        (100_000, "about 28 h"),
    ],
)  # fmt: skip
def test_a_time_in_words(seconds, words):
    assert estimate.in_words(seconds) == words


EXACT = replace(BASE, solver="exact")
AUTO = replace(BASE, solver="auto")
INSTANT = replace(EXACT, head="ridge", mirror="off", augmentation=AUGMENTATIONS["off"])


def test_an_exact_head_passes_each_view_once_and_knows_no_epochs():
    assert took(INSTANT) < took(EXACT) < took()
    assert took(replace(EXACT, epochs=4000)) == took(EXACT)
    views = took(EXACT) - took(replace(EXACT, views=3))
    assert views == pytest.approx(250 * (sum(SPEED.frozen) + SPEED.view), rel=0.05)


@pytest.mark.parametrize("plan", [EXACT, AUTO, INSTANT], ids=["exact", "auto", "instant"])
def test_more_photos_take_an_exact_head_longer(plan):
    assert took(plan) < min(took(plan, n_train=300), took(plan, n_validation=90), took(plan, n_test=90))


def test_auto_adds_fine_tuning_where_it_is_tried_alone():
    assert took(AUTO, n_train=99) == took(EXACT, n_train=99)
    tail = sum(SPEED.blocks[-LITE.tail :])
    added = took(AUTO) - took(EXACT)
    assert added > 24 * 200 * 3 * tail  # twelve epochs, twice, forward and backward
    assert added < 24 * 250 * 5 * tail + 24


def test_a_plan_is_timed_once_on_its_device(monkeypatch, small_pictures):
    plan = replace(BASE, device="cpu")
    timed = estimate.probe(plan)
    assert len(timed.blocks) == len(timed.frozen) == len(LITE.blocks)
    assert min(*timed.blocks, *timed.frozen, timed.view) > 0
    monkeypatch.setattr(backbones, "build", None)
    assert estimate.probe(plan) is timed
    assert estimate.probe(replace(plan, epochs=3)) is timed


@pytest.mark.parametrize("first", range(len(LITE.block_names)))
def test_a_block_that_learns_costs_numbers_time_and_memory_and_those_before_it_nothing(first):
    names = LITE.block_names
    plan = Plan(LITE.name, names[:first], solver="sgd")
    known = replace(SPEED, held=tuple(1000 * (i + 1) for i in range(len(LITE.blocks))))
    cost = estimate.cost(plan, 2, 200, 50, known)
    frozen = estimate.cost(replace(plan, frozen=names), 2, 200, 50, known)
    assert cost.numbers - frozen.numbers == sum(block.parameters for block in LITE.blocks[first:])
    assert cost.seconds > frozen.seconds
    assert cost.memory - frozen.memory >= 32 * sum(known.held[first:]) + 16 * (cost.numbers - frozen.numbers)
    half = estimate.cost(replace(plan, batch_size=16), 2, 200, 50, known)
    assert half.memory < cost.memory
    assert estimate.epochs(plan, 200, 50, known)[1] == cost.seconds


def test_the_table_of_costs_says_what_auto_may_do_and_counts_the_photos_that_the_head_learns_from():
    known = replace(SPEED, held=tuple(1000 * (i + 1) for i in range(len(LITE.blocks))))
    plan = replace(BASE, solver="auto")
    tuned = estimate.cost(tuning(plan), 2, 200, 50, known)
    *_, first, last = costs.table(plan, 2, 200, 50, known, 60.0, tunes=True).split("<tr>")
    assert "The head, fitted first" in first
    assert f"{round(estimate.cost(replace(plan, solver='sgd'), 2, 200, 50, known).numbers / 250)} a photo" in first
    assert "With stage7, top, if that helps" in last
    assert f"{round(tuned.numbers / 250):,} a photo" in last
    assert f"<td>{costs._time(tuned.seconds)}</td>" in last
    alone = costs.table(plan, 2, 200, 50, known, 60.0)
    assert "if that helps" not in alone
    assert "All, with the head" in alone


def test_the_memory_of_a_step_is_about_what_a_sweep_counts():
    """Of the last block: what backward holds of a batch of 32, and four numbers for each that learns."""
    model = backbones.build(LITE, 2)
    model.freeze(LITE.block_names[:-1])
    model.fixed_statistics = True
    model.train()
    start = model.n_blocks - 1
    with torch.no_grad():
        inputs = model.run(torch.zeros(32, 3, 224, 224), 0, start)
    learning = sum(p.numel() for p in model.parameters() if p.requires_grad)
    counted = speed.held_by(lambda: model(inputs, start)) + 16 * learning
    plan = Plan(LITE.name, LITE.block_names[:-1], solver="sgd")
    assert 0.6 < estimate.cost(plan, 2, 200, 50, speed.measure(LITE, "cpu")).memory / counted < 1.6
