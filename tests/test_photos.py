"""How a dataset divides: what belongs together is never torn apart, and nothing else changes."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import fill
from PIL import Image, ImageOps

from tlapp import catalog, crossval, decisions
from tlapp.augment import Views
from tlapp.dataset import load, scan
from tlapp.errors import DataError
from tlapp.photos import Dataset, Photo
from tlapp.plan import Plan
from tlapp.pool import Pool


def made(counts, together=(), side=""):
    """A dataset without pixels: so many photos of each class; `together`: sets of indices."""
    names = {i: f"group {n}" for n, members in enumerate(together) for i in members}
    photos, classes = [], tuple(sorted(counts))
    for label, name in enumerate(classes):
        for number in range(counts[name]):
            i = len(photos)
            photos.append(
                Photo(f"{name}/{number}.png", label, side, f"{i:064x}", 8, 8, 192 * i, together=names.get(i, ""))
            )
    return Dataset("made", classes, tuple(photos), (), (), Path("0" * 16))


def parts_of(data, **how):
    split = data.split(**how)
    parts = np.zeros(len(data.photos), dtype=int)
    parts[split.validation], parts[split.test] = 1, 2
    assert len(split.train) + len(split.validation) + len(split.test) == len(data.photos)
    return parts


@pytest.mark.parametrize("seed", range(8))
def test_groups_are_drawn_whole_and_the_parts_keep_their_size(seed):
    together = [range(i, i + 4) for i in range(0, 40, 4)]
    data = made({"a": 50, "b": 30}, together)
    parts = parts_of(data, seed=seed)
    assert all(len(set(parts[list(members)])) == 1 for members in together)
    for label, n in ((0, 50), (1, 30)):
        counts = np.bincount(parts[data.labels == label], minlength=3)
        assert 0.1 * n <= counts[2] <= 0.2 * n
        assert counts[1] >= 1


@pytest.mark.parametrize("seed", range(8))
def test_a_group_of_two_classes_stays_on_one_side(seed):
    data = made({"a": 10, "b": 10}, [[0, 1, 10, 11], [2, 12]])
    parts = parts_of(data, seed=seed)
    assert len(set(parts[[0, 1, 10, 11]])) == len(set(parts[[2, 12]])) == 1


@pytest.mark.parametrize("seed", range(3))
def test_a_draw_by_order_is_the_plain_one_without_groups(seed):
    data = made({"a": 23, "b": 11})
    generator = np.random.default_rng(seed)
    drawn = []
    for members, n in ((np.arange(23), 5), (np.arange(23, 34), 2)):
        drawn += generator.permutation(members)[:n].tolist()
    assert sorted(drawn) == data.split(seed=seed, draw="order").test.tolist()


def test_a_class_that_is_one_group_is_split_all_the_same():
    data = made({"a": 12, "b": 12}, [range(12)])
    parts = parts_of(data)
    assert set(parts[:12]) == {0, 1, 2}


def test_a_large_group_never_takes_the_last_photos_of_a_class():
    data = made({"a": 5, "b": 10}, [range(3)])
    for seed in range(20):
        assert set(parts_of(data, seed=seed)[:5]) == {0, 1, 2}


def test_folds_hold_groups_together_and_stay_even():
    labels, groups = np.repeat([0, 1], 40), np.arange(80) // 2 * 2
    fold = crossval.folds(labels, groups, np.zeros(80, dtype=bool), True, seed=1)
    assert all(fold[i] == fold[groups[i]] for i in range(80))
    assert np.bincount(fold, minlength=5)[1:].tolist() == [20, 20, 20, 20]


@pytest.mark.parametrize("seed", range(5))
def test_sub_folders_are_drawn_whole_where_that_is_asked(seed):
    data = made({"a": 40, "b": 40})
    data = replace(data, photos=tuple(replace(p, subfolder=f"day{i % 40 // 5}") for i, p in enumerate(data.photos)))
    parts = parts_of(data, seed=seed, by="folder")
    for day in range(8):
        assert len({parts[i] for i in range(80) if data.subfolders[i] == f"day{day}"}) == 1
    assert set(parts) == {0, 1, 2}
    assert len({tuple(sorted(set(parts[data.labels == label]))) for label in (0, 1)}) == 1


def test_too_few_sub_folders_are_said():
    data = made({"a": 10, "b": 10})
    with pytest.raises(DataError, match="no sub-folders within the classes"):
        data.split(by="folder")
    photos = [replace(p, subfolder=f"day{i % 2}") for i, p in enumerate(data.photos)]
    with pytest.raises(DataError, match="Too few sub-folders to split by in `a`, `b`"):
        replace(data, photos=tuple(photos)).split(by="folder")


@pytest.mark.parametrize("shape", ["{name}/day{i}", "train/{name}/day{i}/more", "set/{name}/day{i}"])
def test_the_sub_folder_of_a_photo_is_the_first_below_that_of_its_class(tmp_path, shape):
    days = {shape.format(name=name, i=i): 3 for name in ("reds", "blues") for i in range(2)}
    data = scan(fill(tmp_path / "photos", days))
    assert sorted(data.subfolders) == ["day0"] * 6 + ["day1"] * 6


def test_where_a_csv_names_the_classes_the_folder_of_a_photo_is_its_sub_folder(tmp_path):
    fill(tmp_path / "photos", {"img/patient 0": 4, "img/patient 1": 4})
    rows = [f"img/patient {i}/{j:03d}.png,{'ab'[j % 2]}" for i in range(2) for j in range(4)]
    (tmp_path / "photos" / "labels.csv").write_text("\n".join(["file,label", *rows]))
    assert set(scan(tmp_path / "photos").subfolders) == {"img/patient 0", "img/patient 1"}


def test_a_photo_of_another_class_by_decision_stays_in_its_sub_folder(tmp_path):
    days = {f"{name}/day{i}": 3 for name in ("reds", "blues") for i in range(4)}
    data = scan(fill(tmp_path / "photos", days))
    first = data.photos[0]
    other = next(name for name in data.classes if name != data.classes[first.label])
    changed = decisions.decide(data, [decisions.about(first, decisions.RELABEL, other)])
    assert changed.labels.tolist() != data.labels.tolist()
    assert sorted(changed.subfolders) == sorted(data.subfolders)
    flat = scan(fill(tmp_path / "flat", {"reds": 4, "blues": 4}))
    moved = decisions.decide(flat, [decisions.about(flat.photos[0], decisions.RELABEL, "reds")])
    assert set(moved.subfolders) == {""}


def test_photos_of_a_wrapped_and_split_folder_have_no_sub_folder(tmp_path):
    data = scan(fill(tmp_path / "x" / "photos", {"train/reds": 4, "train/blues": 4, "val/reds": 2, "val/blues": 2}))
    assert set(data.subfolders) == {""}


def of_days(n_days, each=4):
    """Two classes, `each` photos of each class a day."""
    data = made({"a": n_days * each, "b": n_days * each})
    photos = [replace(p, subfolder=f"day{i % (n_days * each) // each}") for i, p in enumerate(data.photos)]
    return replace(data, photos=tuple(photos))


@pytest.mark.parametrize("seed", range(3))
def test_folds_and_parts_hold_sub_folders_whole(seed):
    data = of_days(12)
    blocks = catalog.get(catalog.INCLUDED).block_names
    plan = Plan(catalog.INCLUDED, blocks, solver="exact", split_by="folder", seed=seed)
    split = plan.split(data)
    pool = Pool(data, split, Views.of(plan), plan)
    by_day = {}
    for place, index in enumerate(pool.indices):
        by_day.setdefault(data.subfolders[index], set()).add(int(pool.fold[place]))
    assert all(len(folds) == 1 for folds in by_day.values())
    assert set(pool.fold.tolist()) == {0, 1, 2, 3, 4}
    tested = {data.subfolders[i] for i in split.test}
    assert tested
    assert not tested & set(by_day)


def test_ties_say_why_photos_belong_together():
    data = made({"a": 4, "b": 4}, [[0, 5]])
    photos = [replace(p, camera="cam", taken=100 * i + (i == 2)) for i, p in enumerate(data.photos)]
    photos[3] = replace(photos[3], taken=photos[2].taken + 1)
    data = replace(data, photos=tuple(photos))
    assert data.ties == {"near copies": [], "burst": [(2, 3)], "put together": [(0, 5)]}
    assert data.groups.tolist() == [0, 1, 2, 2, 4, 0, 6, 7]


def test_a_test_part_that_leaves_too_little_is_refused_where_there_are_no_groups():
    with pytest.raises(DataError, match="Too few photos to train on in `a`, `b`"):
        made({"a": 10, "b": 10}).split(test_fraction=0.9)


def torn(data, parts):
    """Groups that sit on more than one side."""
    return {int(group) for group in data.groups if len(set(parts[data.groups == group])) > 1}


def plainly(data, seed, test_fraction=0.2, validation_fraction=0.2):
    """The draw of single photos, class by class, as plans of schema 1 have it."""
    generator, parts = np.random.default_rng(seed), np.zeros(len(data.photos), dtype=int)
    for part, fraction in ((2, test_fraction), (1, validation_fraction)):
        for label in np.unique(data.labels):
            members = generator.permutation(np.flatnonzero((parts == 0) & (data.labels == label)))
            parts[members[: min(max(1, round(fraction * len(members))), len(members) - 1)]] = part
    return parts


@pytest.mark.parametrize("fractions", [(0.2, 0.2), (0.5, 0.4), (0.05, 0.1)])
@pytest.mark.parametrize("seed", range(4))
def test_all_parts_of_photos_without_groups_are_plain_samples(seed, fractions):
    data = made({"a": 37, "b": 11, "c": 4})
    how = {"test_fraction": fractions[0], "validation_fraction": fractions[1], "seed": seed}
    assert np.array_equal(parts_of(data, **how, draw="order"), plainly(data, seed, *fractions))
    for label in range(3):
        own = data.labels == label
        sizes = [np.bincount(parts_of(data, **how, draw=draw)[own]).tolist() for draw in ("content", "order")]
        assert sizes[0] == sizes[1]


def test_every_photo_is_drawn_as_often_as_any_other():
    data = made({"a": 20, "b": 20})
    tested = np.mean([parts_of(data, seed=seed) == 2 for seed in range(400)], axis=0)
    chosen = np.mean([parts_of(data, seed=seed) == 1 for seed in range(400)], axis=0)
    assert np.abs(tested - 0.2).max() < 5 * (0.2 * 0.8 / 400) ** 0.5
    assert np.abs(chosen - 0.15).max() < 5 * (0.15 * 0.85 / 400) ** 0.5


@pytest.mark.parametrize("seed", range(5))
def test_photos_stay_on_their_side_when_others_come_go_or_change_their_class(seed):
    data = made({"a": 60, "b": 60})
    before = {photo.name: part for photo, part in zip(data.photos, parts_of(data, seed=seed), strict=True)}
    photos = list(data.photos)
    photos[3] = replace(photos[3], label=1)
    fewer = replace(data, photos=(*photos[:10], *photos[11:]))
    after = {photo.name: part for photo, part in zip(fewer.photos, parts_of(fewer, seed=seed), strict=True)}
    assert sum(before[name] != part for name, part in after.items()) <= 4
    moved_by_shuffling = parts_of(fewer, seed=seed, draw="order")
    assert sum(before[photo.name] != part for photo, part in zip(fewer.photos, moved_by_shuffling, strict=True)) > 20


@pytest.mark.parametrize("seed", range(20))
def test_random_groups_are_never_torn_and_the_test_part_keeps_its_size(seed):
    generator = np.random.default_rng(seed)
    order = generator.permutation(90)
    together = [order[i : i + generator.integers(1, 5)] for i in range(0, 60, 5)]  # of one class or of several
    data = made({"a": 50, "b": 30, "c": 10}, together)
    parts = parts_of(data, seed=seed)
    assert torn(data, parts) == set()
    for label, n in enumerate((50, 30, 10)):
        counts = np.bincount(parts[data.labels == label], minlength=3)
        assert counts.min() >= 1
        assert abs(counts[2] - 0.2 * n) <= 4


@pytest.mark.parametrize("seed", range(10))
def test_a_class_of_three_groups_has_one_on_each_side(seed):
    data = made({"a": 20, "b": 20}, [range(0, 2), range(2, 4), range(4, 20)])
    assert torn(data, parts_of(data, seed=seed)) == set()


@pytest.mark.parametrize("seed", range(5))
def test_only_the_class_that_is_one_group_is_torn(seed):
    data = made({"a": 12, "b": 12}, [range(12), (12, 13, 14)])
    parts = parts_of(data, seed=seed)
    assert torn(data, parts) == {0}
    assert np.bincount(parts[:12]).tolist() == [8, 2, 2]


@pytest.mark.parametrize("seed", range(5))
def test_where_the_test_photos_are_given_the_validation_part_takes_whole_groups(seed):
    data = made({"a": 20, "b": 20}, [range(4, 8), range(8, 12), range(24, 30)])
    sides = ["test" if i % 20 < 4 else "" for i in range(40)]
    data = replace(data, photos=tuple(replace(p, side=side) for p, side in zip(data.photos, sides, strict=True)))
    parts = parts_of(data, seed=seed)
    assert np.flatnonzero(parts == 2).tolist() == [0, 1, 2, 3, 20, 21, 22, 23]
    assert torn(data, parts) == set()


@pytest.mark.parametrize("seed", range(5))
def test_near_copies_and_bursts_of_real_files_stay_on_one_side(tmp_path, seed):
    folder = fill(tmp_path / "photos", {"reds": 12, "blues": 12})
    for i in range(3):
        picture = Image.open(folder / "reds" / f"00{i}.png")
        ImageOps.mirror(picture).save(folder / "reds" / f"copy{i}.png")
        exif = Image.Exif()
        exif[0x0110], exif[0x0132] = "Camera", f"2024:05:01 10:20:{10 + 2 * i}"
        Image.open(folder / "blues" / f"00{i}.png").save(folder / "blues" / f"00{i}.png", exif=exif)
    data = scan(folder)
    at = {photo.name: i for i, photo in enumerate(data.photos)}
    wanted = [{at[f"reds/00{i}.png"], at[f"reds/copy{i}.png"]} for i in range(3)]
    wanted.append({at[f"blues/00{i}.png"] for i in range(3)})
    found = [set(np.flatnonzero(data.groups == group).tolist()) for group in np.unique(data.groups)]
    assert sorted(map(sorted, wanted)) == sorted(sorted(group) for group in found if len(group) > 1)
    parts = parts_of(data, seed=seed)
    assert all(len(set(parts[list(group)])) == 1 for group in wanted)


def test_a_dataset_of_an_earlier_version_loads_and_has_no_groups(tmp_path):
    data = scan(fill(tmp_path / "photos", {"reds": 5, "blues": 5}))
    path = data.folder / "dataset.json"
    values = json.loads(path.read_text())
    del values["original"]
    for photo in values["photos"]:
        for key in ("n_bytes", "full_height", "full_width", "camera", "taken", "look", "together"):
            del photo[key]
    for skipped in values["skipped"]:
        del skipped["same_as"], skipped["side"]
    path.write_text(json.dumps(values))
    old = load(data.folder)
    assert [p.name for p in old.photos] == [p.name for p in data.photos]
    assert old.original == ""
    assert old.groups.tolist() == list(range(10))
    assert np.array_equal(parts_of(old, seed=1, draw="order"), plainly(old, 1))
