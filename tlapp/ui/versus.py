"""A comparison of two runs as HTML: what was fixed and broken, with its photos; settings that differ; both curves."""

from __future__ import annotations

from tlapp import evaluate, history
from tlapp.compare import Comparison, Pair
from tlapp.dataset import Dataset
from tlapp.runs import Run
from tlapp.ui import pieces, shelf
from tlapp.ui.overlay import overlay

MOST_SHOWN = 24
KINDS = {
    "fixed": "wrong in {before}, right in {after}",
    "broken": "right in {before}, wrong in {after}",
    "wrong": "wrong in both",
}


def versus(found: Comparison) -> str:
    """All of the comparison."""
    names = {"before": called(found.before), "after": called(found.after)}
    scores = [
        f"{name}: {evaluate.in_words(*score, 'test photos')}" if score else f"{name}: no model"
        for name, score in zip(names.values(), found.scores, strict=True)
    ]
    words = f'<p class="tl-file">{pieces.text("; ".join(reversed(scores)))}.</p>'
    if found.hinders:
        body = pieces.notice("info", found.hinders)
    else:
        body = f'<p id="compared-words">{pieces.text(found.in_words())}</p>' + _photos(found, names)
    records = [shelf.record(run) for run in (found.after, found.before)]
    after, before = records
    drawn = overlay(
        after.epochs,
        before.epochs,
        (names["after"], names["before"]),
        (after.delivered, before.delivered),
        (after.dropped, before.dropped),
    )
    curves = f"<h3>Validation curves</h3>{drawn}" if drawn else ""
    return f'<div class="tl-versus">{words}{body}<h3>Settings that differ</h3>{_settings(found, names)}{curves}</div>'


def called(run: Run) -> str:
    """The run's name in quotes, if the person gave it one, else its id."""
    name = history.about(run).name
    return f"“{name}”" if name else run.id


def _photos(found: Comparison, names: dict[str, str]) -> str:
    photos = shelf.dataset_of(found.after)
    index = {photo.name: i for i, photo in enumerate(photos.photos)} if photos else {}
    body = ""
    for kind, words in KINDS.items():
        pairs: tuple[Pair, ...] = getattr(found, kind)
        if not pairs:
            continue
        cards = "".join(_card(pair, names, photos, index) for pair in pairs[:MOST_SHOWN])
        rest = len(pairs) - MOST_SHOWN
        more = f'<p class="tl-hint">and {rest:,} more</p>' if rest > 0 else ""
        title = f"{len(pairs)} {'' if kind == 'wrong' else f'{kind}: '}{words.format(**names)}"
        body += (
            f'<details class="tl-details tl-diff" data-kind="{kind}"><summary>{pieces.text(title)}</summary>'
            f'<div class="tl-cards">{cards}</div>{more}</details>'
        )
    return body


def _card(pair: Pair, names: dict[str, str], photos: Dataset | None, index: dict[str, int]) -> str:
    source = shelf.thumbnail(photos, index[pair.file], 160) if photos and pair.file in index else ""
    said = [(names["before"], pair.before, pair.sure_before), (names["after"], pair.after, pair.sure_after)]
    answers = "".join(
        f'<span class="tl-mark">{pieces.text(name)}: <b>{pieces.text(label)}</b>, {pieces.percent(sure)}</span>'
        for name, label, sure in said
    )
    caption = f'is {pieces.text(pair.truth)}{answers}<span class="tl-file">{pieces.text(pair.file)}</span>'
    return pieces.picture(source, f"{pair.truth}, called {pair.before} before and {pair.after} after", caption)


def _settings(found: Comparison, names: dict[str, str]) -> str:
    if not found.settings:
        return pieces.notice("info", "None: both runs learned from the same photos with the same settings.")
    rows = [(name.replace(".", " "), after, before) for name, before, after in found.settings]
    return pieces.table(["Setting", names["after"], names["before"]], rows, "")
