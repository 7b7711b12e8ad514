"""A run's curves, or two runs' validation curves in one plot, as the live curve is drawn. Knows no widgets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import ceil

from tlapp.events import EpochFinished
from tlapp.figures import VALIDATION
from tlapp.ui import pieces
from tlapp.ui.curve import STYLE, curve
from tlapp.ui.scale import share, ticks_of
from tlapp.ui.shelf import Record

OTHER = "#7f8ba0"
"""Of the other run; dashed as well."""


def single(record: Record) -> str:
    """The curves of one run as HTML, or why it has none."""
    is_one_step = len(record.epochs) == 1 and record.run.plan.solver != "sgd"
    if is_one_step and not record.live:
        return '<p class="tl-hint">The head was fitted exactly, in one step: there is no curve.</p>'
    return curve(record.epochs, record.n_epochs, record.delivered, record.dropped)


def overlay(
    epochs: Sequence[EpochFinished],
    other: Sequence[EpochFinished],
    names: tuple[str, str],
    best: tuple[int, int] = (0, 0),
    dropped: tuple[bool, bool] = (False, False),
) -> str:
    """Both plots as HTML, the first run's lines whole, the other's dashed, and what the best epochs are worth in words;
    "" where a run has no epochs, or both have but one. `best`, `dropped`: as `curve` takes them, of each run.
    """
    if not epochs or not other:
        return ""
    told = [{e.epoch: e for e in one} for one in (epochs, other)]  # a resumed run may tell one twice
    n = max(max(one) for one in told)
    if n == 1:
        return ""
    plots = _plot("Loss", told, names, n, "", lambda e: e.validation_loss)
    plots += _plot("Accuracy", told, names, n, "\u00a0%", lambda e: 100 * e.validation_accuracy)
    worth = "; ".join(map(_worth, names, told, best, dropped))
    words = f'<p class="tl-hint">{pieces.text(f"Validation accuracy of what is kept: {worth}")}</p>'
    return f'<div class="tl-curve">{STYLE}{plots}</div>{words}'


def _worth(name: str, told: dict[int, EpochFinished], best: int, dropped: bool) -> str:
    """The validation accuracy of the epoch whose weights are kept."""
    last = told[max(told)]
    kept = told.get(best or last.best_epoch, last)
    words = f"{name}: epoch {kept.epoch}, {kept.validation()}"
    return f"{words}, before fine-tuning, which is dropped" if dropped and best else words


def _plot(
    title: str,
    told: list[dict[int, EpochFinished]],
    names: tuple[str, str],
    n: int,
    unit: str,
    of: Callable[[EpochFinished], float],
) -> str:
    lines = [_thinned({epoch: of(event) for epoch, event in sorted(one.items())}) for one in told]
    every = [value for line in lines for value in line.values()]
    ticks = ticks_of(min(every), max(every), 10 if unit else 0.01)
    digits = len(f"{ticks[1] - ticks[0]:g}".partition(".")[2])
    svg = key = ""
    for tick in ticks:
        y = f"{share(tick, ticks[-1], ticks[0])}%"
        svg += f'<line x2="100%" y1="{y}" y2="{y}"/>'
        svg += f'<text x="-8" y="{y}" dy="4" text-anchor="end">{tick:.{digits}f}{unit}</text>'
    for epoch in sorted({1, n}):
        anchor = "start" if epoch == 1 else "end"
        svg += f'<text x="{share(epoch, 1, n)}%" y="206" text-anchor="{anchor}">epoch {epoch}</text>'
    for line, ink, name in zip(lines, (VALIDATION, OTHER), names, strict=True):
        at = {epoch: (share(epoch, 1, n), share(value, ticks[-1], ticks[0])) for epoch, value in line.items()}
        way = " ".join(f"{x},{y}" for x, y in at.values())
        svg += f'<svg viewBox="0 0 100 100" preserveAspectRatio="none"><polyline points="{way}" stroke="{ink}"/></svg>'
        svg += f'<circle cx="{at[max(at)][0]}%" cy="{at[max(at)][1]}%" r="4" fill="{ink}"/>'
        key += f'<span><i style="color: {ink}"></i>{pieces.text(name)}</span>'
    last = [one[max(one)] for one in told]
    ends = [e.validation() if unit else f"{e.validation_loss:.3f}" for e in last]
    words = pieces.text(
        f"Validation {title.lower()} at the end; {'; '.join(map(': '.join, zip(names, ends, strict=True)))}"
    )
    return f'<div class="tl-plot"><div><b>{title}</b>{key}</div><svg role="img" aria-label="{words}">{svg}</svg></div>'


def _thinned(line: dict[int, float]) -> dict[int, float]:
    """At most 200 points, the last among them."""
    step, last = ceil(len(line) / 200), max(line)
    return {epoch: value for i, (epoch, value) in enumerate(line.items()) if i % step == 0 or epoch == last}
