"""The cache of the frozen prefix: when it is worth it, that it is exact, and that it can be stopped."""

import dataclasses

import numpy as np
import pytest
import torch

from tlapp import backbones, catalog, dataset, features
from tlapp.augment import Views
from tlapp.features import PLAIN, Photos, Source, Stopped, plan_cache
from tlapp.plan import AUGMENTATIONS, Plan

RESNET = catalog.get("resnet18")
LITE = catalog.get("efficientnet_lite0")
SMALL = dataclasses.replace(RESNET, resize=72, crop=64)
CPU = torch.device("cpu")


def never():
    return False


def drain(generator):
    """The events of a generator and what it returns."""
    events = []
    while True:
        try:
            events.append(next(generator))
        except StopIteration as end:
            return events, end.value


@pytest.fixture
def photos(make_folder):
    """Six photos of two classes, not in the order of the dataset."""
    data = dataset.scan(make_folder({"reds": 4, "blues": 4}))
    return Photos(data, np.array([7, 0, 3, 4, 5, 1]), Views(AUGMENTATIONS["medium"], SMALL), seed=2)


@pytest.fixture(scope="module")
def model():
    made = backbones.build(SMALL, 2)
    made.freeze({"stem", "layer1", "layer2"})
    return made.train()


def planned(prefix, entry=RESNET, n_train=100, n_validation=20, **settings):
    plan = Plan(entry.name, entry.block_names[:prefix], **settings)
    return plan_cache(entry, plan, prefix, n_train, n_validation)


def test_with_nothing_frozen_nothing_is_cached():
    assert planned(0).views == 0
    assert "No block is frozen" in planned(0).text


@pytest.mark.parametrize(("entry", "first"), [(RESNET, "layer2"), (LITE, "stage2")], ids=["resnet18", "lite0"])
def test_a_prefix_is_cached_from_where_its_output_is_smaller_than_the_photo(entry, first):
    worth = entry.block_names.index(first) + 1
    for prefix in range(1, len(entry.blocks) + 1):
        made = planned(prefix, entry)
        assert made.views == (0 if prefix < worth else 4)
        assert ("too short" in made.text) is (prefix < worth)


def test_the_cache_holds_every_view_of_the_training_photos_and_one_of_the_others():
    made = planned(5, views=6)
    assert made.views == 6
    assert f"6 pre-drawn views of each photo; {(6 * 100 + 20) * 512 * 4 / 1e6:.1f} MB are cached" in made.text


def test_without_augmentation_one_view_is_all():
    made = planned(5, views=6, augmentation=AUGMENTATIONS["off"])
    assert made.views == 1
    assert "exactly" in made.text


@pytest.mark.parametrize(("cache_mb", "views"), [(1024, 6), (209, 5), (208, 4), (49, 1), (48, 0), (0, 0)])
def test_views_are_as_many_as_the_budget_holds(cache_mb, views):
    made = planned(3, views=6, cache_mb=cache_mb)  # 0.4014 MB a view
    assert made.views == views
    assert ("6 did not fit" in made.text) is (0 < views < 6)
    assert ("does not fit cache_mb" in made.text) is (views == 0)


@pytest.mark.parametrize("stop", [3, 5], ids=["layer2", "all blocks"])
def test_the_cache_gives_what_an_uncached_run_of_the_same_view_gives(photos, model, stop, monkeypatch):
    monkeypatch.setattr(features, "FORWARD_BATCH", 4)
    _events, cached = drain(features.cache(model, photos, stop, range(2), CPU, never, "views"))
    assert cached.dtype == torch.float32
    assert cached.shape[:2] == (2, 6)
    with_cache, without = Source(model, photos, stop, cached), Source(model.eval(), photos, stop)
    for epoch in (1, 2):
        for positions in ([0, 1, 2], [5, 3]):
            kept, labels = with_cache.batch(positions, epoch, CPU)
            fresh, same_labels = without.batch(positions, epoch, CPU)
            torch.testing.assert_close(kept, fresh, rtol=1e-4, atol=1e-5)
            assert torch.equal(labels, same_labels)
    model.train()


def test_epochs_go_round_the_cached_views(photos, model):
    cached = torch.arange(3.0).view(3, 1, 1).expand(3, 6, 4)
    source = Source(model, photos, 5, cached)
    seen = [source.batch([0], epoch, CPU)[0][0, 0].item() for epoch in range(1, 8)]
    assert seen == [0, 1, 2, 0, 1, 2, 0]


def test_views_differ_between_epochs_and_plain_ones_do_not(photos, model):
    fresh = Source(model, photos, 0)
    assert not torch.equal(fresh.batch([0], 1, CPU)[0], fresh.batch([0], 2, CPU)[0])
    plain = Source(model, photos, 0, plain=True)
    assert torch.equal(plain.batch([0], 1, CPU)[0], plain.batch([0], 2, CPU)[0])
    assert torch.equal(plain.batch([0], 1, CPU)[0], photos.inputs([0], PLAIN))


def test_a_batch_has_the_labels_of_its_photos(photos, model):
    assert photos.labels.tolist() == [1, 0, 0, 1, 1, 0]
    inputs, labels = Source(model, photos, 0).batch([3, 1], 1, CPU)
    assert labels.tolist() == [1, 0]
    assert inputs.shape == (2, 3, 64, 64)
    assert inputs.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(inputs, torch.cat([photos.inputs([3], 0), photos.inputs([1], 0)]))


def test_an_uncached_prefix_keeps_no_gradient(photos, model):
    inputs, _labels = Source(model, photos, 5).batch([0], 1, CPU)
    assert not inputs.requires_grad


def test_caching_says_how_far_it_is(photos, model, monkeypatch):
    monkeypatch.setattr(features, "FORWARD_BATCH", 4)
    events, _cached = drain(features.cache(model, photos, 3, [PLAIN, 0], CPU, never, "views"))
    assert {(event.stage, event.total) for event in events} == {("views", 12)}
    assert [event.done for event in events] == [0, 4, 6, 10, 12]


@pytest.mark.parametrize("batches", [0, 1, 3])
def test_caching_stops_within_a_batch(photos, model, monkeypatch, batches):
    monkeypatch.setattr(features, "FORWARD_BATCH", 4)
    stop = False
    steps = features.cache(model, photos, 3, range(2), CPU, lambda: stop, "views")
    for _ in range(batches + 1):
        next(steps)
    stop = True
    with pytest.raises(Stopped):
        next(steps)


def test_deepening_the_cache_gives_the_pooled_features(photos, model, monkeypatch):
    _events, shallow = drain(features.cache(model, photos, 3, range(2), CPU, never, "views"))
    _events, deep = drain(features.cache(model, photos, 5, range(2), CPU, never, "views"))
    monkeypatch.setattr(features, "FORWARD_BATCH", 4)
    model.train()
    deepened = features.deepen(model, shallow, 3, CPU, never)
    assert deepened.shape == (2, 6, 512)
    torch.testing.assert_close(deepened, deep, rtol=1e-4, atol=1e-5)


def test_deepening_stops_within_a_batch(photos, model, monkeypatch):
    monkeypatch.setattr(features, "FORWARD_BATCH", 4)
    answers = iter([False, False, True])
    with pytest.raises(Stopped):
        features.deepen(model, torch.zeros(2, 6, 128, 8, 8), 3, CPU, lambda: next(answers))
