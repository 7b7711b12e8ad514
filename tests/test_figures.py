"""Saved figures are whole PNG files of the size they say, whatever the classes are called."""

import subprocess
import sys
import threading
from itertools import pairwise

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image
from test_curve import told

from tlapp import figures
from tlapp.ui import results
from tlapp.ui.curve import curve

HOSTILE = [
    "$a_$",
    "\\frac{",
    "🐜 ants",
    "蟻",
    "line\nbreak",
    "x" * 300,
    "<b>%s{0}",
    "\u202eabc",
    "",
    "\udcff",
    " ",
    "$",
]


@pytest.fixture
def drawn(monkeypatch):
    """The figures that were drawn, to look inside."""
    kept = []
    draw = Figure.draw
    monkeypatch.setattr(Figure, "draw", lambda self, *a, **k: (kept.append(self), draw(self, *a, **k))[1])
    return kept


def size(path):
    """Of a picture that decodes to its last row."""
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        picture.load()
        return picture.size


def some_confusion(n, seed=0):
    """Most photos right, a few errors here and there."""
    return np.random.default_rng(seed).binomial(1, 0.1, (n, n)) + 30 * np.eye(n, dtype=np.int64)


def names(axis):
    return [label.get_text() for label in axis.get_ticklabels()]


@pytest.mark.parametrize(("n", "head"), [(1, None), (2, 1), (30, 5), (1000, 100)])
def test_curves_are_a_picture_of_the_stated_size(tmp_path, n, head):
    figures.curves(told(n, n, head), tmp_path / "curves.png")
    assert size(tmp_path / "curves.png") == (1320, 540)


def test_curves_show_every_epoch_and_mark_the_best_and_the_phase(tmp_path, drawn):
    epochs = told(12, 30, head=4, best=9)
    figures.curves([*epochs, epochs[-1]], tmp_path / "curves.png")
    loss, accuracy = drawn[0].axes
    lines = {line.get_label(): line for line in loss.lines}
    assert lines["training"].get_xydata().tolist() == [[e.epoch, e.train_loss] for e in epochs]
    (best,) = (label for label in lines if label.startswith("best"))
    assert best == f"best of fine-tuning: epoch 9, {epochs[8].validation()}"
    assert accuracy.get_title("left") == "Accuracy (% of 195 training and 48 validation photos)"
    assert lines[best].get_xydata().tolist() == [[9, epochs[8].validation_loss]]
    assert lines["fine-tune from epoch 5"].get_xdata()[0] == 4.5
    assert accuracy.lines[0].get_ydata()[-1] == pytest.approx(100 * epochs[-1].train_accuracy)
    assert (lines["training"].get_color(), lines["validation"].get_color()) == (figures.TRAINING, figures.VALIDATION)
    assert lines["validation"].is_dashed()
    assert not lines["training"].is_dashed()


def test_curves_of_a_run_whose_fine_tuning_was_dropped_say_so_and_mark_what_is_delivered_as_the_page_does(
    tmp_path, drawn
):
    epochs = told(12, 30, head=4, best=9)
    figures.curves(epochs, tmp_path / "curves.png", best=4, dropped=True)
    lines = {line.get_label(): line for line in drawn[0].axes[0].lines}
    assert lines[f"best: epoch 4, {epochs[3].validation()}"].get_xydata().tolist() == [[4, epochs[3].validation_loss]]
    assert lines["fine-tune from epoch 5, dropped"].get_xdata()[0] == 4.5
    page = curve(epochs, 12, 4, dropped=True)
    assert "best: epoch 4" in page
    assert "fine-tune from epoch 5, dropped" in page


def test_no_epochs_are_no_figure(tmp_path):
    with pytest.raises(ValueError, match="no epochs"):
        figures.curves([], tmp_path / "curves.png")
    assert not list(tmp_path.glob("*.png"))


def test_two_classes_show_every_count_and_the_total(tmp_path, drawn):
    figures.confusion(np.array([[72, 4], [0, 77]]), ["ants", "bees"], tmp_path / "confusion.png")
    assert size(tmp_path / "confusion.png") == (734, 614)
    axes = drawn[0].axes[0]
    assert [text.get_text() for text in axes.texts] == ["72", "4", "0", "77"]
    assert axes.get_title("left") == "149 of 153 photos right, plausibly 93–99 %"
    assert names(axes.yaxis) == names(axes.xaxis) == ["ants", "bees"]
    assert axes.images[0].get_array()[0].tolist() == pytest.approx([72 / 76, 4 / 76])


def test_forty_classes_all_have_their_names_and_none_overlap(tmp_path, drawn):
    classes = [f"a class called {i}" for i in range(40)]
    figures.confusion(some_confusion(40), classes, tmp_path / "confusion.png")
    assert size(tmp_path / "confusion.png") == (1800, 1680)
    axes = drawn[0].axes[0]
    assert names(axes.yaxis) == names(axes.xaxis) == classes
    for labels, low, high in ((axes.get_yticklabels(), "y0", "y1"), (axes.get_xticklabels(), "x0", "x1")):
        boxes = sorted((label.get_window_extent() for label in labels), key=lambda box: getattr(box, low))
        assert all(getattr(a, high) <= getattr(b, low) for a, b in pairwise(boxes))
    numbers = [text for text in axes.texts if len(text.get_text()) == 2]
    width = axes.get_window_extent().width / 40
    assert max(text.get_window_extent().width for text in numbers) < width


def test_a_class_without_photos_leaves_an_empty_row(tmp_path, drawn):
    figures.confusion(np.array([[5, 0], [0, 0]]), ["ants", "bees"], tmp_path / "confusion.png")
    assert drawn[0].axes[0].images[0].get_array()[1].tolist() == [0, 0]


@pytest.mark.filterwarnings("error")
def test_hostile_class_names_are_shown_literally_and_inside_the_picture(tmp_path, drawn):
    figures.confusion(some_confusion(len(HOSTILE)), HOSTILE, tmp_path / "confusion.png")
    axes = drawn[0].axes[0]
    shown = names(axes.yaxis)
    assert shown[:5] == ["$a_$", "\\frac{", "🐜 ants", "蟻", "line\\nbreak"]
    assert shown[5] == "x" * 14 + "…" + "x" * 9
    assert shown[7] == "\\u202eabc"
    canvas = drawn[0].bbox
    for label in [*axes.get_yticklabels(), *axes.get_xticklabels()]:
        box = label.get_window_extent()
        assert canvas.x0 <= box.x0
        assert box.x1 <= canvas.x1
        assert canvas.y0 <= box.y0
    assert axes.get_window_extent().width > canvas.width / 3


def test_a_figure_that_fails_leaves_the_old_one(tmp_path, monkeypatch):
    path = tmp_path / "curves.png"
    figures.curves(told(3), path)
    before = path.read_bytes()

    def full(self, file, *_, **__):
        file.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(OSError, match="No space"):
        figures.curves(told(5), path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir() if p.is_file()] == ["curves.png"]


def test_threads_draw_side_by_side(tmp_path):
    def draw(i):
        figures.confusion(some_confusion(3, i), ["a", "b", "c"], tmp_path / f"{i}.png")

    threads = [threading.Thread(target=draw, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len([size(path) for path in tmp_path.glob("*.png")]) == 4


def test_matplotlib_waits_until_a_figure_is_asked_for():
    code = "import sys, tlapp.figures, tlapp.ui.curve; sys.exit('matplotlib' in sys.modules or 'torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_pyplot_and_its_global_state_are_never_used():
    code = (
        "import sys, numpy, pathlib, tempfile; from tlapp import figures; "
        "figures.confusion(numpy.eye(2, dtype=int), ['a', 'b'], pathlib.Path(tempfile.mkdtemp()) / 'a.png'); "
        "sys.exit('matplotlib.pyplot' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_runs_figure_is_kept_until_the_run_delivers_another_report(own_run, tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    before = results._confusion(own_run)
    drawn_at = before.stat().st_mtime_ns
    assert results._confusion(own_run) == before
    assert before.stat().st_mtime_ns == drawn_at
    report = own_run.report()
    report["confusion"] = [[0, 8], [0, 0]]
    own_run.deliver(own_run.model(), report, own_run.learned() or b"")
    after = results._confusion(own_run)
    assert after.name == before.name
    assert after.read_bytes() != before.read_bytes()
