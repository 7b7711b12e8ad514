"""Figures to keep: the curves of a run and a confusion matrix, as PNG files drawn by matplotlib.

matplotlib is imported when a figure is asked for, and its Agg canvas alone is used, so any thread may draw. Knows
nothing of runs' folders or of the page; the page's live curve is its own drawing, in the colours named here.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from tlapp import evaluate, workspace
from tlapp.errors import printable
from tlapp.events import EpochFinished

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# At least 3.2 to 1 against white and against the page's dark greys, and apart for the common colour blindnesses.
TRAINING = "#2f74e6"
VALIDATION = "#d97000"

DPI = 120
_FAINT = "#9aa0a6"
_MOST_COUNTS = 40  # classes; with more, a number no longer fits its cell
_MOST_LETTERS = 24
_TITLE: dict[str, Any] = {"loc": "left", "y": 1}  # where `y` is left out, all that could be in the way is measured
# Fonts of the usual systems for what DejaVu Sans, which comes with matplotlib, has no letters for.
_OTHER_FONTS = (
    "Noto Sans CJK SC", "Microsoft YaHei", "PingFang SC", "Hiragino Sans", "Malgun Gothic", "Noto Sans Devanagari",
    "Nirmala UI", "Noto Sans Thai", "Leelawadee UI", "Arial Unicode MS", "Noto Emoji", "Segoe UI Emoji", "Symbola",
)  # fmt: skip


def curves(epochs: Sequence[EpochFinished], path: Path, best: int = 0, dropped: bool = False) -> None:
    """Save loss and accuracy against epochs at `path`: a PNG of 1320 × 540 pixels.

    `best`: the epoch to mark, whose weights the run delivers; 0: the best so far. `dropped`: fine-tuning is not in
    these. Raises ValueError for no epochs, OSError if the file cannot be written.
    """
    if not epochs:
        raise ValueError("there are no epochs to draw")
    told = sorted({e.epoch: e for e in epochs}.values(), key=lambda e: e.epoch)  # a resumed run may tell one twice
    figure = _figure(11, 4.5)
    loss, accuracy = figure.subplots(1, 2)
    mark = (best or told[-1].best_epoch, dropped)
    _panel(loss, told, [e.train_loss for e in told], [e.validation_loss for e in told], *mark)
    _panel(accuracy, told, [100 * e.train_accuracy for e in told], [100 * e.validation_accuracy for e in told], *mark)
    loss.set_title("Loss (mean cross-entropy, nats)", **_TITLE)
    photos = f"{told[-1].n_train:,} training and {told[-1].n_validation:,} validation photos"
    accuracy.set_title(f"Accuracy (% of {photos if told[-1].n_validation else 'photos'})", **_TITLE)
    figure.legend(*loss.get_legend_handles_labels(), loc="lower center", ncols=4, frameon=False)
    figure.subplots_adjust(left=0.055, right=0.985, top=0.92, bottom=0.2, wspace=0.14)
    _save(figure, path)


def best_in_words(told: Sequence[EpochFinished], best: int) -> str:
    """Which epoch is marked: "best: epoch 3"; after the head learned, it is the best of fine-tuning alone."""
    phases = {e.epoch: e.phase for e in told}
    tuned = phases.get(best) == "fine-tune" and len(set(phases.values())) > 1
    return f"best of fine-tuning: epoch {best}" if tuned else f"best: epoch {best}"


def begins_in_words(first: EpochFinished, dropped: bool) -> str:
    """Where a phase begins: "fine-tune from epoch 5"; whether what it learned is dropped."""
    return f"{first.phase} from epoch {first.epoch}{', dropped' if dropped and first.phase == 'fine-tune' else ''}"


def worth_in_words(at: EpochFinished, delivered: int, dropped: bool) -> str:
    """What an epoch is worth, and whether it is that whose weights the run delivers (`delivered`; 0 before the end)."""
    kept = at.epoch == delivered
    words = f"Validation accuracy after epoch {at.epoch}{', which is kept' if kept else ''}: {at.validation()}"
    return f"{words}. Fine-tuning, which came after it, is dropped." if kept and dropped else words


def _panel(
    axes: Axes, told: list[EpochFinished], training: list[float], validation: list[float], best: int, dropped: bool
) -> None:
    from matplotlib.ticker import MaxNLocator

    numbers = [e.epoch for e in told]
    marker = "o" if len(told) == 1 else ""
    axes.plot(numbers, training, color=TRAINING, marker=marker, label="training")
    axes.plot(numbers, validation, color=VALIDATION, marker=marker, linestyle=(0, (4, 2)), label="validation")
    for before, after in pairwise(told):
        if before.phase != after.phase:
            words = begins_in_words(after, dropped)
            axes.axvline(after.epoch - 0.5, color=_FAINT, linewidth=1, linestyle=":", zorder=1, label=words)
    if best in numbers:
        height = validation[numbers.index(best)]
        axes.axvline(best, color=_FAINT, linewidth=0.8, zorder=1)
        words = f"{best_in_words(told, best)}, {told[numbers.index(best)].validation()}"
        axes.plot(best, height, "o", color=VALIDATION, clip_on=False, label=words)
    axes.set_xlim(0.5, numbers[-1] + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))
    axes.yaxis.set_major_locator(MaxNLocator(4))
    axes.set_xlabel("epoch")
    axes.grid(axis="y", color="#e6e6e6", linewidth=0.8)
    axes.spines[["top", "right"]].set_visible(False)


def confusion(confusion: np.ndarray, classes: Sequence[str], path: Path) -> None:
    """Save a confusion matrix at `path` as a PNG: 734 × 614 pixels for 2 classes, 1,800 × 1,680 for 40.

    `confusion[i, j]`: photos of class i that were called j, integers (classes, classes). A cell's colour is its
    share of the row. Class names are shown literally, over-long ones without their middle.
    Raises OSError if the file cannot be written.
    """
    n = len(classes)
    side = min(4.4 + 0.24 * max(n, 3), 20.0)
    points = min(72 * 0.7 * (side - 2.2) / n, 10.0)  # a line of letters must fit its row
    figure = _figure(side + 1, side)
    axes = figure.subplots()
    share = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    image = axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for i, j in np.ndindex(n, n) if n <= _MOST_COUNTS else ():
        if confusion[i, j] or n <= 10:
            colour = "white" if share[i, j] > 0.5 else "#303030" if confusion[i, j] else _FAINT
            count = axes.text(j, i, f"{confusion[i, j]}", color=colour, fontsize=points, ha="center", va="center")
            count.set_in_layout(False)
    names = [_short(name) for name in classes]
    look: dict[str, Any] = {"parse_math": False, "fontsize": points, "fontfamily": _families()}
    turned: dict[str, Any] = {"rotation": 45 if n <= 12 else 90, "rotation_mode": "anchor", "ha": "right"}
    turned["va"] = "top" if n <= 12 else "center"
    axes.set_xticks(range(n), names, **look, **(turned if sum(map(len, names)) > 24 else {}))
    axes.set_yticks(range(n), names, **look)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class (colour: share of its photos)")
    right, of = int(np.trace(confusion)), int(confusion.sum())
    plausibly = evaluate.plausibly(evaluate.interval(right / of, of))
    axes.set_title(f"{right:,} of {of:,} photos right, {plausibly}", **_TITLE)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    if n > _MOST_COUNTS:
        bar = figure.colorbar(image, ax=axes, shrink=0.5, format=lambda value, _: f"{value:.0%}")
        bar.set_label("share of the photos of the true class")
        bar.outline.set_visible(False)
    figure.set_layout_engine("tight")
    _save(figure, path)


def _short(name: str) -> str:
    """The name on one line; of a long one, both ends, as names often differ in the last letters."""
    name = printable(name)
    return name if len(name) <= _MOST_LETTERS else f"{name[: _MOST_LETTERS - 10]}…{name[-9:]}"


def _families() -> list[str]:
    from matplotlib import font_manager

    installed = {font.name for font in font_manager.fontManager.ttflist}
    return ["DejaVu Sans", *(name for name in _OTHER_FONTS if name in installed)]


def _figure(width: float, height: float) -> Figure:
    """An empty figure, sides in inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=DPI)


def _save(figure: Figure, path: Path) -> None:
    from matplotlib import font_manager
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    # A letter that no font here has is drawn as a box, which says it well enough.
    warnings.filterwarnings("ignore", message="Glyph .* missing from font")
    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # once; `savefig` draws twice
    picture = Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3])
    workspace.write_atomic(path, lambda part: picture.save(part, "PNG", compress_level=1, dpi=(DPI, DPI)))
    known_fonts = getattr(font_manager, "_get_font", None)
    if known_fonts is not None:  # each with an open file, and for this thread alone, which soon ends
        known_fonts.cache_clear()
