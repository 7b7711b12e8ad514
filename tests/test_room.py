"""A disk that is nearly full is said before photos are read and before a run begins; what cannot fit does not begin."""

import os
from types import SimpleNamespace

import pytest
from conftest import SIDES, fill, quick, watch

from tlapp import catalog, dataset, estimate, footprint, jobs, room, runs
from tlapp.errors import DataError, RunError
from tlapp.plan import suggest


@pytest.fixture
def disk(monkeypatch):
    """A disk with as much free as its attribute says."""
    found = SimpleNamespace(free=10**12)
    monkeypatch.setattr(room.shutil, "disk_usage", lambda path: found)
    return found


@pytest.fixture
def data(tmp_path, small_pictures):
    return dataset.scan(fill(tmp_path / "photos", SIDES))


def written(run):
    """Bytes of what the run keeps, but for its record."""
    return sum(path.stat().st_size for path in run.path.glob("*.safetensors"))


@pytest.mark.parametrize("settings", [{"solver": "exact"}, {"frozen": ("stem",), "epochs": 1}], ids=str)
def test_what_a_run_keeps_is_what_was_counted_before(data, settings):
    plan = quick(data, **settings)
    counted = footprint.of_run(plan, 2, len(data.photos))
    run = jobs.start(data, plan)
    watch(run)
    assert written(run) == pytest.approx(counted.kept, rel=0.03)


def test_the_states_of_a_run_never_take_more_than_was_counted(data, monkeypatch):
    plan = quick(data, frozen=("stem",), epochs=3, patience=0)
    most, save = [0], runs.Run.save

    def weighed(run, name, content):
        save(run, name, content)
        states = list(run.path.glob("*.state"))
        most[0] = max(most[0], sum(path.stat().st_size for path in states) + len(content))  # and one being written

    monkeypatch.setattr(runs.Run, "save", weighed)
    watch(jobs.start(data, plan))
    counted = footprint.of_run(plan, 2, len(data.photos)).passing
    assert counted / 2 < most[0] < counted


@pytest.mark.parametrize("name", catalog.BACKBONES)
def test_every_backbone_has_a_size_and_what_learns_makes_it_larger(data, name):
    entry = catalog.get(name)
    frozen = footprint.of_run(suggest(data, name).with_settings({"solver": "exact"}), 2, 100)
    learns = footprint.of_run(suggest(data, name).with_settings({"solver": "sgd", "frozen": "none"}), 2, 100)
    assert frozen.kept == pytest.approx(1e6 * entry.megabytes, rel=0.35)  # published with a head of 1,000 classes
    assert learns.most > 6 * frozen.most


def test_what_is_cached_on_the_disk_counts_and_what_fits_the_memory_does_not(data):
    large = suggest(data, "resnet18").with_settings({"solver": "sgd", "frozen": "stem,layer1,layer2", "cache_mb": "1"})
    in_memory = large.with_settings({"cache_mb": "100000"})
    sizes = [estimate.written(plan, 2, 500, 100, 100).passing for plan in (large, in_memory)]
    assert sizes[0] > 1.2 * sizes[1]


def test_a_run_whose_model_has_no_room_is_refused_in_a_sentence_and_leaves_nothing(data, disk, home):
    disk.free = 5_000_000
    with pytest.raises(RunError, match=r"no room for this run: its model alone takes 14 MB, and 5 MB are free .*clean"):
        jobs.start(data, quick(data))
    assert runs.all_runs(home) == []


def test_photos_that_have_no_room_are_refused_before_they_are_read(tmp_path, disk, home):
    folder, read = fill(tmp_path / "photos", {"reds": 6, "blues": 6}), []
    disk.free = 12 * 60 * 48 * 3 - 1
    with pytest.raises(DataError, match=r"no room for 12 photos: .* about 0\.1 MB"):
        dataset.scan(folder, report=lambda done, total, what="": read.append(done))
    assert max(read, default=0) == 0
    assert [name for name in os.listdir(home / "datasets") if not name.endswith(".lock")] == []
    disk.free += 1  # though a phone's photos would take thirty times as much
    assert len(dataset.scan(folder).photos) == 12


def test_the_command_line_says_it_before_it_starts_and_refuses_what_cannot_fit(tlapp, disk, tmp_path, home):
    folder = fill(tmp_path / "photos", SIDES)
    disk.free = 20_000_000
    code, out, err = tlapp("train", folder, "--instant")
    assert code == 0, err
    assert "The disk is nearly full: the run writes up to 14 MB, and 20 MB are free" in err
    disk.free = 1_000_000
    code, out, err = tlapp("train", folder, "--instant", "--json")
    assert (code, out) == (1, "")
    assert err.splitlines()[-1].startswith("tlapp: There is no room for this run")
    assert len(runs.all_runs(home)) == 1


def test_where_the_system_does_not_say_what_is_free_nothing_is_said(data, monkeypatch, home):
    def refuse(path):
        raise OSError("no such call")

    monkeypatch.setattr(room.shutil, "disk_usage", refuse)
    assert room.worry(home, 10**15) == ""
    room.check_model(home, 10**15)


@pytest.mark.parametrize(
    ("n_bytes", "words"), [(0, "0 MB"), (1, "0.1 MB"), (450_000, "0.5 MB"), (13_400_000, "13 MB"), (2.34e9, "2.3 GB")]
)
def test_sizes_are_said_coarsely(n_bytes, words):
    assert room.in_words(n_bytes) == words
