"""The cache of the frozen prefix: when it is worth it, that it is exact, and that it can be stopped."""

import dataclasses
import os

import numpy as np
import pytest
import torch

from tlapp import backbones, catalog, dataset, features
from tlapp.augment import Views
from tlapp.features import MIRRORED, PLAIN, Photos, Source, Stopped, Store, plan_cache
from tlapp.plan import AUGMENTATIONS, Plan
from tlapp.speed import Frozen, Way

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


def before(model, stop, start=0):
    """Blocks of the model as they run for the cache."""
    return Frozen(model, start, stop, CPU, Way(torch.float32))


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


BUDGETS = [(1024, 0, 6), (209, 0, 5), (208, 0, 4), (49, 0, 1), (48, 0, 0), (0, 0, 0), (0, 1024, 6), (9, 200, 5)]


@pytest.mark.parametrize(("cache_mb", "disk_mb", "views"), BUDGETS)
def test_views_are_as_many_as_memory_and_disk_hold(cache_mb, disk_mb, views):
    made = planned(3, views=6, cache_mb=cache_mb, disk_mb=disk_mb)  # 0.4014 MB a view
    assert made.views == views
    assert made.on_disk is (views > 0 and disk_mb > 0)
    assert (", on the disk." in made.text) is made.on_disk
    assert ("6 did not fit" in made.text) is (0 < views < 6)
    assert ("fit cache_mb and disk_mb; every epoch draws fresh views" in made.text) is (views == 0)


def test_an_exact_head_without_room_for_views_is_fitted_on_plain_ones():
    assert "the head is fitted on plain views alone" in planned(5, solver="auto", cache_mb=0, disk_mb=0).text


def test_half_as_many_bytes_a_number_hold_twice_as_many_views():
    plan = Plan("resnet18", RESNET.block_names[:3], views=60, cache_mb=200, disk_mb=0)
    single, half = (plan_cache(RESNET, plan, 3, 20, 4, size).views for size in (4, 2))
    assert (single, half) == (24, 49)


@pytest.mark.parametrize(
    ("settings", "numbers"),
    [
        ({}, [PLAIN, MIRRORED, 0, 1]),
        ({"mirror": "off"}, [PLAIN, 0, 1, 2]),
        ({"augmentation": AUGMENTATIONS["off"]}, [PLAIN]),
        ({"augmentation": AUGMENTATIONS["off"], "mirror": "on"}, [PLAIN, MIRRORED]),
        ({"solver": "sgd"}, [0, 1, 2, 3]),
        ({"solver": "sgd", "augmentation": AUGMENTATIONS["off"]}, [PLAIN]),
    ],
    ids=str,
)
def test_an_exact_head_sees_the_plain_view_first_and_then_its_mirror_image(settings, numbers):
    plan = Plan("resnet18", RESNET.block_names, **{"solver": "exact", **settings})
    assert features.draws(plan, 4) == numbers


def test_the_mirrored_view_is_the_plain_one_from_right_to_left(photos):
    assert torch.equal(photos.inputs([0, 2], MIRRORED), photos.inputs([0, 2], PLAIN).flip(3))


@pytest.mark.parametrize("stop", [3, 5], ids=["layer2", "all blocks"])
def test_the_cache_gives_what_an_uncached_run_of_the_same_view_gives(photos, model, stop, monkeypatch):
    monkeypatch.setattr(features, "FORWARD_BATCH", 4)
    prefix = before(model, stop)
    _events, cached = drain(features.cache(prefix, photos, range(2), False, never, "views"))
    assert cached.dtype == torch.float32
    assert cached.shape[:2] == (2, 6)
    with_cache, without = Source(photos, stop, cached), Source(photos, stop, None, prefix)
    for epoch in (1, 2):
        for positions in ([0, 1, 2], [5, 3]):
            kept, labels = with_cache.batch(positions, epoch, CPU)
            fresh, same_labels = without.batch(positions, epoch, CPU)
            torch.testing.assert_close(kept, fresh, rtol=1e-4, atol=1e-5)
            assert torch.equal(labels, same_labels)


def test_epochs_go_round_the_cached_views(photos):
    cached = Store(3, 6, (4,), torch.float32, on_disk=False)
    for draw in range(3):
        cached.put(draw, 0, torch.full((6, 4), float(draw)))
    source = Source(photos, 5, cached)
    seen = [source.batch([0], epoch, CPU)[0][0, 0].item() for epoch in range(1, 8)]
    assert seen == [0, 1, 2, 0, 1, 2, 0]


def test_views_differ_between_epochs_and_plain_ones_do_not(photos):
    fresh = Source(photos, 0)
    assert not torch.equal(fresh.batch([0], 1, CPU)[0], fresh.batch([0], 2, CPU)[0])
    plain = Source(photos, 0, plain=True)
    assert torch.equal(plain.batch([0], 1, CPU)[0], plain.batch([0], 2, CPU)[0])
    assert torch.equal(plain.batch([0], 1, CPU)[0], photos.inputs([0], PLAIN))


def test_a_batch_has_the_labels_of_its_photos(photos):
    assert photos.labels.tolist() == [1, 0, 0, 1, 1, 0]
    inputs, labels = Source(photos, 0).batch([3, 1], 1, CPU)
    assert labels.tolist() == [1, 0]
    assert inputs.shape == (2, 3, 64, 64)
    assert inputs.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(inputs, torch.cat([photos.inputs([3], 0), photos.inputs([1], 0)]))


def test_an_uncached_prefix_keeps_no_gradient(photos, model):
    inputs, _labels = Source(photos, 5, None, before(model, 5)).batch([0], 1, CPU)
    assert inputs.shape == (1, 512)
    assert not inputs.requires_grad


def test_caching_says_how_far_it_is(photos, model, monkeypatch):
    monkeypatch.setattr(features, "FORWARD_BATCH", 4)
    events, _cached = drain(features.cache(before(model, 3), photos, [PLAIN, 0], False, never, "views"))
    assert {(event.stage, event.total) for event in events} == {("views", 12)}
    assert [event.done for event in events] == [0, 4, 6, 10, 12]


@pytest.mark.parametrize("batches", [0, 1, 3])
def test_caching_stops_within_a_batch(photos, model, monkeypatch, batches):
    monkeypatch.setattr(features, "FORWARD_BATCH", 4)
    stop = False
    steps = features.cache(before(model, 3), photos, range(2), False, lambda: stop, "views")
    for _ in range(batches + 1):
        next(steps)
    stop = True
    with pytest.raises(Stopped):
        next(steps)


def test_deepening_the_cache_gives_the_pooled_features(photos, model, monkeypatch):
    _events, shallow = drain(features.cache(before(model, 3), photos, range(2), False, never, "views"))
    _events, deep = drain(features.cache(before(model, 5), photos, range(2), False, never, "views"))
    monkeypatch.setattr(features, "FORWARD_BATCH", 4)
    deepened = features.deepen(before(model, 5, start=3), shallow, never)
    assert deepened.shape == (2, 6, 512)
    for draw in range(2):
        torch.testing.assert_close(deepened.get(draw, range(6)), deep.get(draw, range(6)), rtol=1e-4, atol=1e-5)


def test_deepening_stops_within_a_batch(model, monkeypatch):
    monkeypatch.setattr(features, "FORWARD_BATCH", 4)
    answers = iter([False, False, True])
    shallow = Store(2, 6, (128, 8, 8), torch.float32, on_disk=False)
    with pytest.raises(Stopped):
        features.deepen(before(model, 5, start=3), shallow, lambda: next(answers))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_store_on_the_disk_gives_what_one_in_memory_gives(dtype, home):
    numbers = torch.randn(2, 6, 3, 4, generator=torch.Generator().manual_seed(0)).to(dtype)
    stores = [Store(2, 6, (3, 4), dtype, on_disk) for on_disk in (False, True)]
    for store in stores:
        for draw, first, last in ((1, 4, 6), (0, 0, 4), (1, 0, 4), (0, 4, 6)):
            store.put(draw, first, numbers[draw, first:last])
        assert len(store) == 2
        for draw, positions in ((0, range(6)), (1, [5, 0, 3, 3])):
            found = store.get(draw, positions)
            assert found.dtype == dtype
            assert torch.equal(found, numbers[draw, list(positions)])
        part = store.select(np.array([4, 1, 2]))
        assert torch.equal(part.get(1, [2, 0]), numbers[1, [2, 4]])
        assert len(part) == 2
    assert [store._memory is None for store in stores] == [False, True]


def test_a_store_keeps_numbers_in_its_own_precision():
    for on_disk in (False, True):
        store = Store(1, 1, (2,), torch.bfloat16, on_disk)
        store.put(0, 0, torch.tensor([[1.0, 1.001]]))
        assert store.get(0, [0]).tolist() == [[1.0, 1.0]]


def test_the_file_of_a_store_has_no_name_and_goes_with_it(home):
    store = Store(1, 100, (1000,), torch.float32, on_disk=True)
    store.put(0, 0, torch.zeros(100, 1000))
    assert list(home.iterdir()) == []
    handle = store._file.fileno()
    assert os.fstat(handle).st_nlink == 0
    assert os.fstat(handle).st_size == 400_000
    del store
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(handle)
