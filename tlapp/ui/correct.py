"""Wrong answers put right: the photos join the browser's dataset with the class that the person picked.

The instant model is then made anew, as for any other photos; nothing is trained here.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import gradio as gr

from tlapp import additions
from tlapp.additions import Addition, Joined
from tlapp.dataset import Dataset, Photo
from tlapp.errors import DataError, RunError, printable, some
from tlapp.tasks import Report, Task
from tlapp.ui import pieces, sheets, shelf
from tlapp.ui.frame import EACH, QUIET, SILENT, Mine, Waiting
from tlapp.ui.sheets import Sheet

GONE = "These answers are no longer kept. Ask about the photos again."
ANEW = "The instant model is trained anew with them and answers from then on, in place of a model that you trained."
"""What the button that adds does, in full."""
_adding = Waiting("Adding was cancelled; nothing has changed.")
_since: dict[str, tuple[int, float]] = {}
"""By dataset that photos joined: how many, and when the person asked for it."""


class Panel(NamedTuple):
    """The panel's components. `last`: what Undo takes back."""

    tally: gr.HTML
    add: gr.Button
    progress: gr.HTML
    cancel: gr.Button
    news: gr.HTML
    undo: gr.Button
    last: gr.State


class Last(NamedTuple):
    """The dataset and run of before, the dataset that followed, what joined, and the sheet with the picks of it."""

    dataset: str
    run: str
    after: str
    photos: tuple[Photo, ...]
    sheet: str
    right: dict[int, str]


def build() -> Panel:
    """Lay the panel out."""
    with gr.Column(elem_id="correct"):
        tally = gr.HTML(elem_id="to-add")
        add = gr.Button("Add and train again", variant="primary", visible=False, elem_id="add-photos")
        with gr.Row(elem_id="adding"):
            progress = gr.HTML(elem_id="adding-progress")
            cancel = gr.Button("Cancel", visible=False, scale=0, min_width=100, elem_id="cancel-adding")
        news = gr.HTML(elem_id="added")
        undo = gr.Button("Undo", size="sm", visible=False, elem_id="undo-added")
    return Panel(tally, add, progress, cancel, news, undo, gr.State(None))


def wire(p: Panel, mine: Mine, answers: gr.HTML, sheet: gr.State) -> Any:
    """Connect picks, the button that adds, and Undo; returns the event of something having been taken back."""
    counted = [p.tally, p.add]

    @pieces.guarded
    def pick(name: str, dataset: str, event: gr.EventData) -> list[Any]:
        found = _kept(name)
        row, label = (event._data or {}).get("row"), (event._data or {}).get("label")
        classes = found.run.classes
        if type(row) is not int or type(label) is not int or not (0 <= row < len(found.files) and label < len(classes)):
            raise DataError("That choice is not one that this page offered. Reload the page.")
        if label < 0:
            found.right.pop(row, None)
        else:
            found.right[row] = classes[label]
        return tally(name, dataset)

    def add(name: str, dataset: str, run: str, last: Last | None, request: gr.Request) -> Iterator[list[Any]]:
        asked, picked = time.time(), dict(found.right) if (found := sheets.get(name)) else {}

        def work(report: Report) -> Joined:
            return _join(name, dataset, report)

        for told in _adding.follow(request, work, _so_far):
            joined, is_new = told.answer, told.answer is not None and told.answer.photos != ()
            if joined and found:  # what was picked since then stays
                found.right = {row: label for row, label in found.right.items() if picked.get(row) != label}
            if is_new:
                last = Last(dataset, run, joined.dataset.id, joined.photos, name, picked)
                _since[joined.dataset.id] = len(joined.photos), asked
            yield [
                joined.dataset.id if is_new else gr.skip(),
                told.words,
                gr.Button(visible=not told.over),
                *(tally(name, dataset) if told.over else [gr.skip(), gr.Button(interactive=False)]),
                _said(joined) if joined else gr.skip(),
                gr.Button(visible=last is not None),
                last,
            ]

    @pieces.guarded
    def take_back(name: str, dataset: str, last: Last | None) -> list[Any]:
        if last is None:
            raise DataError("There is nothing to undo.")
        after = shelf.dataset(dataset or last.after)
        if after is None:
            raise DataError("Your photos are gone from the workspace. Load them again in 1 Data.")
        back = additions.undo(shelf.dataset(last.dataset) or after, after, last.photos).id
        if (sheet := sheets.get(name)) and name == last.sheet:
            sheet.right = {**last.right, **sheet.right}
        said = pieces.notice("info", f"{pieces.count(len(last.photos), 'photo')} taken out again.")
        return [back, last.run if back == last.dataset else gr.skip(), *tally(name, back), said, "",
                gr.Button(visible=False), None]  # fmt: skip

    answers.pick(pick, [sheet, mine.dataset], counted, **EACH)
    outputs = [mine.dataset, p.progress, p.cancel, *counted, p.news, p.undo, p.last]
    p.add.click(add, [sheet, mine.dataset, mine.run, p.last], outputs, **SILENT)
    p.cancel.click(_adding.cancel, None, None, queue=False)
    return p.undo.click(
        take_back,
        [sheet, mine.dataset, p.last],
        [mine.dataset, mine.run, *counted, p.progress, p.news, p.undo, p.last],
        **QUIET,
    )


def tally(name: str, dataset: str) -> list[Any]:
    """What has been picked on a sheet, and the button that adds it to the browser's dataset."""
    sheet = sheets.get(name)
    if sheet is None or not sheet.right:
        return ["", gr.Button(visible=False)]
    n, words = pieces.count(len(sheet.right), "photo"), "Add {} and train again"
    hindrance = _hindrance(sheet, shelf.dataset(dataset))
    if hindrance:
        return [pieces.notice("warn", hindrance), gr.Button(words.format(n), visible=True, interactive=False)]
    picked = [f"`{printable(sheet.files[row][0])}` is `{printable(label)}`" for row, label in sheet.right.items()]
    rest = f" and {len(picked) - 3} more" if len(picked) > 3 else ""
    said = f"You say: {', '.join(picked[-3:])}{rest}. Added photos are learned from, never tested on. {ANEW}"
    return [pieces.notice("info", said), gr.Button(words.format(n), visible=True, interactive=True)]


def news(own: str) -> str:
    """How far the model is that learns from what joined, if this browser's run is that."""
    run = shelf.run(own)
    try:
        n, asked = _since.get(run.header()["dataset"], (0, 0.0)) if run else (0, 0.0)
    except RunError:
        return ""
    if run is None or n == 0:
        return ""
    if run.is_live() or not run.has_model():
        return pieces.notice("info", _learns(n))
    photos = pieces.count(n, "photo")
    seconds = (run.path / "report.json").stat().st_mtime - asked
    after = f", {seconds:.1f} s after your click" if 0 < seconds < 3600 else ""
    words = f"{photos} joined your photos. The new model, run {run.id}, is ready{after}: it answers the next photos."
    return pieces.notice("info", words)


def _kept(name: str) -> Sheet:
    sheet = sheets.get(name)
    if sheet is None:
        raise DataError(GONE)
    return sheet


def _hindrance(sheet: Sheet, found: Dataset | None) -> str:
    """Why what was picked on the sheet cannot join the dataset."""
    if found is None:
        return "There are no photos in this browser to add to. Load them in 1 Data first."
    if found.classes != sheet.run.classes:
        ours, its = some(list(found.classes)), some(list(sheet.run.classes))
        return (
            f"The model that answered knows {its}; your photos in 1 Data are of {ours}. So nothing can be added. Load "
            "the photos that it learned from, or ask a model of your photos."
        )
    return ""


def _join(name: str, dataset: str, report: Report) -> Joined:
    sheet, found = _kept(name), shelf.dataset(dataset)
    hindrance = _hindrance(sheet, found)
    if hindrance or found is None:
        raise DataError(hindrance)
    if not sheet.right:
        raise DataError("No right class is picked. Pick the class of a photo first.")
    new = [Addition(*sheet.files[row], label) for row, label in sheet.right.items()]
    return additions.add(found, new, report)


def _said(joined: Joined) -> str:
    said = "".join(pieces.notice("warn", sentence) for sentence in joined.refused)
    if joined.photos:
        return pieces.notice("info", _learns(len(joined.photos))) + said
    return said


def _learns(n: int) -> str:
    """What happens once so many photos have joined."""
    return f"{pieces.count(n, 'photo')} joined your photos. The instant model learns {'it' if n == 1 else 'them'} now."


def _so_far(task: Task[Any]) -> str:
    return f"Adding {task.done:,.0f} of {task.total:,.0f}" if task.total else "Adding the photos"
