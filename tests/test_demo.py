"""The demo set: drawn whole or not at all, the same for everyone, and told apart by shape alone."""

import threading

import numpy as np
import pytest
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from tlapp import dataset, demo
from tlapp.errors import DataError


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    return demo.make(tmp_path_factory.mktemp("home"))


@pytest.fixture
def two_pictures(monkeypatch):
    """A set so small that a test can draw it several times."""
    monkeypatch.setattr(demo, "CLASSES", demo.CLASSES[:1])
    monkeypatch.setattr(demo, "TRAIN", range(1))
    monkeypatch.setattr(demo, "TEST", range(1, 2))


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def colours(folder):
    """Mean colour and an eight-bin histogram of each channel, for every picture; and its class."""
    values, classes = [], []
    for path in sorted(folder.glob("*/*.jpg")):
        pixels = np.asarray(Image.open(path)).reshape(-1, 3)
        shares = [np.bincount(channel // 32, minlength=8) / len(channel) for channel in pixels.T]
        values.append(np.concatenate([pixels.mean(0) / 255, *shares]))
        classes.append(path.parent.name)
    return np.array(values), classes


def test_every_class_has_its_pictures_and_others_held_back(drawn):
    for side, count in (("train", 15), ("test", 6)):
        assert {path.name: len(list(path.iterdir())) for path in (drawn / side).iterdir()} == dict.fromkeys(
            demo.CLASSES, count
        )
    assert len(set(contents(drawn).values())) == len(contents(drawn)) == 84


def test_a_seed_always_draws_the_same_picture(drawn):
    for name in demo.CLASSES:
        first, again, other = demo.draw(name, 3), demo.draw(name, 3), demo.draw(name, 4)
        assert (first.mode, first.size) == ("RGB", (288, 288))
        assert first.tobytes() == again.tobytes() != other.tobytes()


def test_the_set_is_the_same_in_every_workspace(two_pictures, tmp_path):
    assert contents(demo.make(tmp_path / "one")) == contents(demo.make(tmp_path / "two"))


def test_a_scan_takes_every_picture_and_the_held_back_ones_as_test_photos(drawn):
    data = dataset.scan(drawn)
    assert data.classes == demo.CLASSES
    assert not data.skipped
    assert not [note for note in data.notes if "says little" in note]
    split = data.split()
    assert len(split.test) == 24
    assert all(data.photos[i].name.startswith("test/") for i in split.test)
    assert len(split.train) + len(split.validation) == 60


@pytest.mark.parametrize("strength", [0.1, 1, 10])
def test_colour_does_not_tell_the_classes_apart(drawn, strength):
    model = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=5000))
    model.fit(*colours(drawn / "train"))
    assert model.score(*colours(drawn / "test")) < 0.6


def test_subjects_of_all_classes_are_about_as_large(monkeypatch):
    covers = []
    laid_on = demo.Paper.laid_on

    def watched(sheet, picture, shadow):
        covers.append(np.asarray(sheet.cover).mean() / 255)
        return laid_on(sheet, picture, shadow)

    monkeypatch.setattr(demo.Paper, "laid_on", watched)
    means = []
    for name in demo.CLASSES:
        covers.clear()
        for seed in range(8):
            demo.draw(name, seed)
        means.append(np.mean(covers[3::4]))  # three sheets of land, then the subject
    assert max(means) < 1.6 * min(means)


def test_the_files_say_that_they_are_drawn(drawn):
    for path in drawn.glob("*/*/*.jpg"):
        assert Image.open(path).info["comment"] == b"Drawn by tlapp; not a photo."


def test_a_set_that_is_there_is_left_alone(two_pictures, tmp_path, monkeypatch):
    folder = demo.make(tmp_path)
    assert folder == tmp_path / "demo" / "drawn-v1"
    mine = folder / "train" / "mine.txt"
    mine.write_text("hello")
    before = contents(folder)
    monkeypatch.setattr(demo, "draw", None)
    assert demo.make(tmp_path) == folder
    assert contents(folder) == before


@pytest.mark.parametrize("fault", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_an_interrupted_drawing_leaves_nothing(two_pictures, tmp_path, monkeypatch, fault):
    draw, seen = demo.draw, []

    def breaks_at_the_second(name, seed):
        seen.append(seed)
        if len(seen) == 2:
            raise fault
        return draw(name, seed)

    monkeypatch.setattr(demo, "draw", breaks_at_the_second)
    with pytest.raises((KeyboardInterrupt, DataError)) as caught:
        demo.make(tmp_path)
    assert caught.type is KeyboardInterrupt or "disk is full" in str(caught.value)
    assert [path for path in (tmp_path / "demo").iterdir() if path.is_dir()] == []
    assert len(contents(demo.make(tmp_path))) == 2


def test_what_a_killed_drawing_left_is_replaced(two_pictures, tmp_path):
    left = tmp_path / "demo" / ".drawing-0123abcd" / "train" / "balloon"
    left.mkdir(parents=True)
    (left / "half.jpg").write_bytes(b"half")
    (tmp_path / "demo" / ".drawing-0123abcd.lock").touch()
    folder = demo.make(tmp_path)
    assert sorted(contents(folder)) == ["test/balloon/balloon-02.jpg", "train/balloon/balloon-01.jpg"]
    assert not list((tmp_path / "demo").glob(".drawing-0*"))


def test_two_who_ask_at_once_get_one_set(two_pictures, tmp_path, monkeypatch):
    draw, drawn = demo.draw, []

    def counted(name, seed):
        drawn.append(seed)
        return draw(name, seed)

    monkeypatch.setattr(demo, "draw", counted)
    folders = []
    threads = [threading.Thread(target=lambda: folders.append(demo.make(tmp_path))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(folders) == 4
    assert len(drawn) == len(contents(folders[0])) == 2


def test_a_class_that_is_not_drawn_is_refused():
    with pytest.raises(ValueError, match="not in tuple"):
        demo.draw("zebra", 0)
