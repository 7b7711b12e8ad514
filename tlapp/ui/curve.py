"""The live curve: loss and accuracy against epochs, an SVG drawing of each in one string of HTML.

Made anew every second, by plain string work. Knows the names of the page's colours, but neither widgets nor files.
"""

from collections.abc import Sequence
from html import escape
from itertools import pairwise
from math import ceil

from tlapp.evaluate import brief
from tlapp.events import EpochFinished
from tlapp.figures import TRAINING, VALIDATION, begins_in_words, best_in_words, worth_in_words
from tlapp.ui.scale import share, ticks_of

STYLE = """<style>.tl-curve {position: relative; display: flex; flex-wrap: wrap; gap: 8px 32px; font-size: 12px}
.tl-curve small {flex: 0 0 100%; height: 18px; overflow: hidden; text-overflow: ellipsis; white-space: nowrap;
font-size: inherit; color: var(--tl-quiet)}
.tl-curve p {position: absolute; inset: 0; display: grid; place-content: center; margin: 0; font-size: 14px;
border: 1px dashed var(--border-color-primary); border-radius: 8px}
.tl-plot {flex: 1 1 260px; min-width: 0; height: 272px} .tl-plot b {flex: 1} .tl-plot svg {overflow: visible}
.tl-plot div {display: flex; gap: 10px; height: 24px; white-space: nowrap; font-variant-numeric: tabular-nums}
.tl-plot i {display: inline-block; width: 16px; margin: 0 5px 3px 0; border-top: 2px solid}
.tl-plot span + span i {border-top-style: dashed} .tl-plot svg ~ svg {stroke-dasharray: 6 4}
.tl-plot line {stroke: var(--border-color-primary)} .tl-plot .mark {stroke: var(--body-text-color); opacity: 0.35}
.tl-plot polyline {fill: none; stroke-width: 2; vector-effect: non-scaling-stroke} .tl-plot rect:hover {opacity: 0.08}
.tl-plot text, .tl-plot rect {fill: var(--body-text-color); opacity: 0.75} .tl-plot rect {height: 100%; opacity: 0}
.tl-plot > svg {display: block; width: calc(100% - 58px); height: 188px; margin: 20px 12px 0 46px}</style>"""


def curve(epochs: Sequence[EpochFinished], n_epochs: int, best: int = 0, dropped: bool = False) -> str:
    """Both plots of the epochs so far, of 200 points at most, 298 px high; `best`, `dropped` as in `figures.curves`."""
    told = sorted({e.epoch: e for e in epochs}.values(), key=lambda e: e.epoch)  # a resumed run may tell one twice
    if not told:
        plots = '<div class="tl-plot"></div><div class="tl-plot"></div><p>The curves appear here while it trains.</p>'
        return f'<div class="tl-curve">{STYLE}{plots}<small></small></div>'
    n, last, at = max(n_epochs, told[-1].epoch), told[-1].epoch, next((e for e in told if e.epoch == best), told[-1])
    words, dropped, best = worth_in_words(at, best, dropped), dropped and best > 0, best or told[-1].best_epoch
    svg = "".join(_mark(epoch, n, 206, f"epoch {epoch}") for epoch in {1, (n + 1) // 2, n})
    starts = [after for before, after in pairwise(told) if before.phase != after.phase]
    svg += "".join(_mark(e.epoch - 0.5, n, 224, begins_in_words(e, dropped), "2 4") for e in starts)
    svg += _mark(best, n, -8, best_in_words(told, best), "none")
    shown = [e for i, e in enumerate(told) if i % ceil(len(told) / 200) == 0 or e.epoch in (best, last)]
    loss = {e.epoch: (e.train_loss, e.validation_loss) for e in shown}
    percent = {e.epoch: (100 * e.train_accuracy, 100 * e.validation_accuracy) for e in shown}
    said = {e.epoch: f"training {e.train_loss:.3f}, validation {e.validation_loss:.3f}" for e in shown}
    plots = _plot("Loss", loss, said, "", n, best, at.epoch, svg)
    said = {e.epoch: f"training {brief(e.train_accuracy, e.n_train)}, validation {e.validation()}" for e in shown}
    plots += _plot("Accuracy", percent, said, "\u00a0%", n, best, at.epoch, svg)
    return f'<div class="tl-curve">{STYLE}{plots}<small>{words}</small></div>'


def _plot(
    title: str, pairs: dict[int, tuple[float, float]], said: dict[int, str], unit: str, n: int, best: int, at: int,
    svg: str,
) -> str:  # fmt: skip
    ticks = ticks_of(min(map(min, pairs.values())), max(map(max, pairs.values())), 10 if unit else 0.01)
    digits = len(f"{ticks[1] - ticks[0]:g}".partition(".")[2])
    for tick in ticks:
        y, words = f"{share(tick, ticks[-1], ticks[0])}%", f"{tick:.{digits}f}{unit}"
        svg = f'<line x2="100%" y1="{y}" y2="{y}"/><text x="-8" y="{y}" dy="4" text-anchor="end">{words}</text>{svg}'
    x, last, key = {e: share(e, 1, n) for e in pairs}, max(pairs), ""
    for i, (ink, words) in enumerate(zip((TRAINING, VALIDATION), said[at].split(", "), strict=True)):
        heights = {e: share(pair[i], ticks[-1], ticks[0]) for e, pair in pairs.items()}
        way = " ".join(f"{x[e]},{heights[e]}" for e in pairs)
        svg += f'<svg viewBox="0 0 100 100" preserveAspectRatio="none"><polyline points="{way}" stroke="{ink}"/></svg>'
        svg += "".join(f'<circle cx="{x[e]}%" cy="{heights[e]}%" r="4" fill="{ink}"/>' for e in {best, last} if e in x)
        key += f'<span><i style="color: {ink}"></i>{words.partition(" of ")[0]}</span>'
    wide = min(10, max((b - a for a, b in pairwise(x.values())), default=10))
    for e, words in said.items():
        svg += f'<rect x="{x[e] - wide / 2:.2f}%" width="{wide:.2f}%"><title>Epoch {e}: {words}</title></rect>'
    words = f"{title} after epoch {at}: {said[at]}; best: epoch {best}"
    return f'<div class="tl-plot"><div><b>{title}</b>{key}</div><svg role="img" aria-label="{words}">{svg}</svg></div>'


def _mark(epoch: float, n: int, y: int, words: str, dash: str = "") -> str:
    x = share(epoch, 1, n)
    anchor = "start" if x < 20 else "end" if x > 80 else "middle"
    line = f'<line x1="{x}%" x2="{x}%" y2="100%" stroke-dasharray="{dash}" class="mark"/>' if dash else ""
    return f'{line}<text x="{x}%" y="{y}" text-anchor="{anchor}">{escape(words)}</text>'
