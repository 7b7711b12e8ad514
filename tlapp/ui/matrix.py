"""The confusion matrix as a heat map, and the photos behind each of its cells.

Knows a run's report; knows nothing of how it was made.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tlapp.runs import Run, is_unknown
from tlapp.ui import pieces, shelf

MOST = 48
SIDE = 160
PICK = """element.addEventListener('click', event => {
  const found = event.target.closest('[data-pick]');
  if (found) trigger('select', {pick: found.dataset.pick});
})"""
"""Hands on what a button in the HTML stands for, as `event.pick`."""
MARK = """(name, percent) => {
  for (const mark of document.querySelectorAll('[data-strangeness]'))
    mark.hidden = !(Number(mark.dataset.strangeness) > percent / 100);
  return [name, percent];
}"""
"""Marks the photos that are called "none of these" if this part of known photos is to be kept."""
UNMARK = """(name, percent) => {
  for (const mark of document.querySelectorAll('[data-strangeness]')) mark.hidden = true;
  return [name, percent];
}"""
"""Takes the marks away while that part is being chosen: these are test photos."""


def confusion(report: dict[str, Any]) -> str:
    """Counts, rows true, columns predicted, coloured by their share of the row; each a button, "row,column"."""
    counts, classes = np.array(report["confusion"]), report["classes"]
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    head = "".join(
        f'<th scope="col" title="{pieces.text(name)}"><span>{pieces.text(name)}</span></th>' for name in classes
    )
    rows = ""
    for i, name in enumerate(classes):
        cells = "".join(
            f'<td class="{"tl-hit" if i == j else "tl-miss"}" style="--share:{shares[i, j]:.3f}">'
            f"{_cell(i, j, int(n), name, classes[j])}</td>"
            for j, n in enumerate(counts[i])
        )
        rows += f'<tr><th scope="row" title="{pieces.text(name)}"><span>{pieces.text(name)}</span></th>{cells}</tr>'
    return (
        '<section><h2>Confusion matrix</h2><p class="tl-hint" id="matrix-says">Rows: what the photo shows. '
        "Columns: what the model said. Press a number to see its photos.</p>"
        '<div class="tl-scroll"><table class="tl-confusion" aria-describedby="matrix-says">'
        f"<thead><tr><td></td>{head}</tr></thead><tbody>{rows}</tbody></table></div></section>"
    )


def _cell(i: int, j: int, n: int, name: str, said: str) -> str:
    words = f"{pieces.text(name)} called {pieces.text(said)}: {n}"
    return f'<button data-pick="{i},{j}" title="{words}" aria-label="{words}">{n}</button>' if n else ""


def of_cell(run: Run, pick: Any) -> str:
    """The photos of a cell, surest first, as HTML; "" where there is no such cell."""
    report = run.report()
    classes = report["classes"]
    try:
        i, j = (int(part) for part in str(pick).split(","))
        true, said = classes[i], classes[j]
    except (ValueError, IndexError):
        return ""
    chosen = [n for n, p in enumerate(report["photos"]) if (p["class"], p["label"]) == (true, said)]
    return f'<section class="tl-cell">{cards(run, f"{true}, called {said}", chosen)}</section>' if chosen else ""


def wrong(run: Run) -> str:
    """The photos that were called wrong, surest first, as HTML."""
    chosen = [n for n, p in enumerate(run.report()["photos"]) if p["label"] != p["class"]]
    title = "Wrong photos, surest first"
    if not chosen:
        return pieces.section(title, pieces.notice("info", "None: every test photo was called right."))
    return f"<section>{cards(run, title, chosen)}</section>"


def cards(run: Run, title: str, chosen: list[int]) -> str:
    """Photos of the report by their number there, the surest first, as HTML; each a button, its number."""
    photos, found, keep = run.report()["photos"], shelf.dataset_of(run), run.keep()
    index = {photo.name: i for i, photo in enumerate(found.photos)} if found else {}
    chosen = sorted(chosen, key=lambda n: -photos[n]["probability"])
    shown = ""
    for n in chosen[:MOST]:
        file = photos[n]["file"]
        source = shelf.thumbnail(found, index[file], SIDE) if found and file in index else ""
        shown += _card(n, photos[n], source, keep)
    more = f"<p>and {len(chosen) - MOST} more</p>" if len(chosen) > MOST else ""
    hint = '<p class="tl-hint">Press a photo to see why.</p>' if found else ""
    return f'<h2>{pieces.text(title)}</h2>{hint}<div class="tl-cards">{shown}</div>{more}'


def _card(number: int, photo: dict[str, Any], source: str, keep: float) -> str:
    sure, strangeness = pieces.percent(photo["probability"]), photo.get("strangeness")
    was = f"was {pieces.text(photo['class'])}" if photo["class"] != photo["label"] else "which is right"
    none = ""
    if strangeness is not None:
        hidden = "" if is_unknown(strangeness, keep) else " hidden"
        none = f'<span class="tl-none" data-strangeness="{strangeness!r}"{hidden}>none of these</span>'
    caption = (
        f"<b>said {pieces.text(photo['label'])}</b>, {sure}<br>{none}{was}"
        f'<br><span class="tl-file">{pieces.text(photo["file"])}</span>'
    )
    picture = pieces.picture(source, f"{photo['class']}, predicted {photo['label']}, {sure}", caption)
    return f'<button class="tl-card" data-pick="{number}">{picture}</button>' if source else picture
