"""Tab 1: photos in, and what was found in them. Knows intake and the dataset; nothing of training."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import gradio as gr

from tlapp import additions, decisions, demo, workspace
from tlapp import dataset as datasets
from tlapp.additions import Joined
from tlapp.dataset import Dataset, Photo
from tlapp.errors import DataError, printable
from tlapp.tasks import Report, Task
from tlapp.ui import audit, division, pieces, shelf
from tlapp.ui.drop import drop_zone, gather
from tlapp.ui.frame import SILENT, Mine, Step, Tab, Waiting
from tlapp.ui.serve import uploads_folder

GONE = "Your photos are gone from the workspace. Load them again."
REPLACE, ADD = "replace the photos", "add to the photos"
_reading = Waiting("Reading was cancelled; nothing has changed.")


class Parts(NamedTuple):
    """The tab's components."""

    zone: gr.HTML
    path: gr.Textbox
    test: gr.Textbox
    read: gr.Button
    drawn: gr.Button
    progress: gr.HTML
    cancel: gr.Button
    overview: gr.HTML
    split: gr.HTML
    notes: gr.HTML
    added: gr.HTML
    move_added: gr.Button
    fraction: gr.Slider
    change: gr.Accordion
    seed: gr.Number
    by: gr.Radio
    mode: gr.Radio
    chosen: gr.Dropdown
    take_out: gr.Button
    forget: gr.Button
    where: division.Panel
    check: audit.Panel
    go_on: gr.Button
    start: gr.Button


def build(mine: Mine, takes_paths: bool = True) -> Tab:
    """Lay the tab out and wire it; its refresh shows the dataset that the browser state names.

    `takes_paths`: whether who sees the page sits at this machine, and so may name a path of it.
    """
    p = _lay_out(takes_paths)
    _wire_reading(p, mine, takes_paths)

    @pieces.guarded
    def refresh(name: str, share: float, number: float | None, by: str, known: str | None, is_open: bool) -> list[Any]:
        found = shelf.dataset(name)
        original = (found.original or found.id) if found else None
        is_known = original is not None and original == known  # a decision leaves the split as the person set it
        values, shown = division.start(found, is_open, (share, number, by) if is_known else None)
        classes = [(printable(c), str(i)) for i, c in enumerate(found.classes)] if found else []
        return [
            pieces.notice("warn", GONE) if name and found is None else describe(found),
            notes(found),
            *added(found),
            gr.Accordion(visible=found is not None),
            gr.Dropdown(classes, value=None),
            gr.Button(interactive=found is not None),
            gr.Button(interactive=found is not None),
            original,
            *values,
            *shown,
        ]

    @pieces.guarded
    def remove_class(name: str, index: str | None) -> str:
        found = shelf.dataset(name)
        if found is None or index is None:
            raise DataError("No class is chosen. Choose the class to take out.")
        return decisions.combine([found], without=[found.classes[int(index)]]).id

    @pieces.guarded
    def move_added(name: str) -> str:
        found = shelf.dataset(name)
        inside, outside = _added_to(found)
        if found is None or not inside + outside:
            raise DataError("There are no photos that you added.")
        return (additions.take_back(found, inside) if inside else additions.put_back(found, outside)).id

    p.move_added.click(move_added, mine.dataset, mine.dataset, queue=False)
    p.take_out.click(remove_class, [mine.dataset, p.chosen], mine.dataset, queue=False)
    p.forget.click(lambda: "", None, mine.dataset, queue=False)
    controls = division.Controls(p.fraction, p.seed, p.by)
    division.wire(p.where, mine.dataset, controls, p.split)
    divided = [*controls, p.split, p.where.shown, p.where.download, p.where.where]
    original = gr.State(None)
    outputs = [p.overview, p.notes, p.added, p.move_added, p.change, p.chosen, p.go_on, p.start, original, *divided]
    refreshes = Step(refresh, [mine.dataset, *controls, original, p.where.is_open], outputs)
    checks = audit.wire(p.check, mine, list(controls))
    return Tab([refreshes, checks], [mine.dataset], p.go_on, p.start, controls._asdict(), p.check.show_whole)


def _lay_out(takes_paths: bool) -> Parts:
    zone = drop_zone("drop")
    with gr.Row(elem_id="source"):
        path = gr.Textbox(
            label="Or a folder, a zip or a CSV of labels on this machine", placeholder="/home/me/photos", scale=4,
            min_width=240, elem_id="path", visible=takes_paths,
        )  # fmt: skip
        test = gr.Textbox(
            label="Test photos: another folder, zip or CSV on this machine (optional)",
            placeholder="/home/me/test-photos", scale=4, min_width=240, elem_id="test-path",
            visible=takes_paths,
        )  # fmt: skip
        read = gr.Button("Read it", scale=1, min_width=100, elem_id="read-path", visible=takes_paths)
        drawn = gr.Button("Try it with a demo set", scale=1, min_width=240, elem_id="demo")
    with gr.Row(elem_id="reading"):
        progress = gr.HTML(elem_id="reading-progress")
        cancel = gr.Button("Cancel", visible=False, scale=0, min_width=100, elem_id="cancel-reading")
    overview, split, said = gr.HTML(elem_id="overview"), gr.HTML(elem_id="split"), gr.HTML(elem_id="notes")
    with gr.Row(elem_id="joined"):
        added = gr.HTML(elem_id="added-before")
        move_added = gr.Button(visible=False, size="sm", scale=0, min_width=180, elem_id="move-added")
    fraction = division.fraction_slider()
    with gr.Accordion("Change the photos or how they are split", open=False, visible=False, elem_id="change") as change:
        seed, by = division.seed_and_by()
        mode = gr.Radio([REPLACE, ADD], value=REPLACE, label="What comes next will", elem_id="mode")
        with gr.Row(elem_id="less"):
            chosen = gr.Dropdown([], label="A class to take out", elem_id="class-out", scale=3, min_width=160)
            take_out = gr.Button("Take it out", size="sm", scale=0, min_width=110, elem_id="take-out")
        with gr.Row(elem_id="none"):
            gr.HTML("<p>Begin again without photos. Your own files and all runs stay as they are.</p>")
            forget = gr.Button("Remove all photos", size="sm", variant="stop", scale=0, min_width=160, elem_id="forget")
    where = division.build()
    check = audit.build()
    with gr.Row(elem_id="go-on"):
        go_on = gr.Button("Next: choose how to train", variant="primary", interactive=False, elem_id="to-train")
        start = gr.Button("Train at once, as set in 2 Train", interactive=False, elem_id="train-at-once")
    return Parts(
        zone, path, test, read, drawn, progress, cancel, overview, split, said, added, move_added, fraction,
        change, seed, by, mode, chosen, take_out, forget, where, check, go_on, start,
    )  # fmt: skip


def _wire_reading(p: Parts, mine: Mine, takes_paths: bool) -> None:
    """Drop, path and demo set: each reads on a thread; the browser's dataset changes only when all went well."""
    outputs = [mine.dataset, p.progress, p.cancel]

    def follow(work: Callable[[Report], Dataset], name: str, mode: str, request: gr.Request) -> Iterator[list[Any]]:
        old = shelf.dataset(name) if mode == ADD else None

        def work_and_add(report: Report) -> Joined:
            found = work(report)
            return additions.beside(old, found) if old else additions.as_noted(found)

        for told in _reading.follow(request, work_and_add, _so_far):
            joined = told.answer
            refused = "".join(pieces.notice("warn", said) for said in joined.refused) if joined else ""
            made = joined.dataset.id if joined else gr.skip()
            yield [made, told.words + refused, gr.Button(visible=not told.over)]

    def from_zone(value: Any, name: str, mode: str, request: gr.Request) -> Iterator[list[Any]]:
        yield from follow(lambda report: _scan_upload(value, report), name, mode, request)

    def from_path(typed: str, test: str, name: str, mode: str, request: gr.Request) -> Iterator[list[Any]]:
        def work(report: Report) -> Dataset:
            if not takes_paths:
                raise DataError(pieces.NO_PATHS)
            return _scan_path(typed, test, report)

        yield from follow(work, name, mode, request)

    def from_demo(name: str, mode: str, request: gr.Request) -> Iterator[list[Any]]:
        yield from follow(_scan_demo, name, mode, request)

    p.zone.upload(from_zone, [p.zone, mine.dataset, p.mode], outputs, **SILENT)
    for event in (p.read.click, p.path.submit, p.test.submit):
        event(from_path, [p.path, p.test, mine.dataset, p.mode], outputs, **SILENT)
    p.drawn.click(from_demo, [mine.dataset, p.mode], outputs, **SILENT)
    p.cancel.click(_reading.cancel, None, None, queue=False)


def _so_far(task: Task[Any]) -> str:
    of = f"{task.done:,.0f} of {task.total:,.0f} files" if task.total else "the files"
    return f"Reading {of}" + (f" · {task.what}" if task.what else "")


def _scan_demo(report: Report) -> Dataset:
    report(0, 0, "drawing the pictures first")
    return datasets.scan(demo.make(workspace.home()), report=report, shown_as="Drawn demo set")


def _scan_path(typed: str, typed_test: str, report: Report) -> Dataset:
    path, test = ((text or "").strip().strip("\"'") for text in (typed, typed_test))
    if not path:
        raise DataError("No path is typed. Type the path of a folder with one sub-folder per class.")
    return datasets.scan(workspace.expand(path), workspace.expand(test) if test else None, report=report)


def _scan_upload(value: Any, report: Report) -> Dataset:
    """Read what the drop zone sent; the uploaded files are gone afterwards."""
    with workspace.own_folder(workspace.home() / "incoming", "upload-") as folder:
        source, refused = gather(value, folder, uploads_folder())
        tops = [entry.name for entry in folder.iterdir()]
        name = source.name if source.is_file() else tops[0] if len(tops) == 1 else "The upload"
        return datasets.scan(source, report=report, refused=refused, shown_as=name)


def describe(found: Dataset | None) -> str:
    """The classes in pictures, as HTML."""
    if found is None:
        words = "No photos yet. Drop a folder above, or try the demo set: it is drawn, not photographed."
        return f'<div class="tl-none-yet">{pieces.notice("info", words)}</div>'
    members: dict[int, list[int]] = {}
    for index, photo in enumerate(found.photos):
        members.setdefault(photo.label, []).append(index)
    most = max(map(len, members.values()))
    rows = "".join(_class_row(found, name, members[label], most) for label, name in enumerate(found.classes))
    return f'<div class="tl-classes">{rows}</div>'


def notes(found: Dataset | None) -> str:
    """What there is to say of the dataset, and the skipped files, as HTML."""
    if found is None:
        return ""
    said = "".join(pieces.notice("warn" if note.startswith("Below") else "info", note) for note in found.notes)
    return said + _skipped(found)


def added(found: Dataset | None) -> list[Any]:
    """What there is to say of photos that were added, and the button that takes them out or puts them back."""
    inside, outside = _added_to(found)
    if inside:
        said = f"{_that_were_added(inside)} in it: learned from, never tested on."
        return [pieces.notice("info", said), gr.Button("Leave out what I added", visible=True)]
    if outside:
        said = f"{_that_were_added(outside)} left out."
        return [pieces.notice("info", said), gr.Button("Use what I added", visible=True)]
    return ["", gr.Button(visible=False)]


def _added_to(found: Dataset | None) -> tuple[tuple[Photo, ...], tuple[Photo, ...]]:
    base = shelf.dataset(found.original or found.id) if found else None
    return additions.added(base, found) if base and found else ((), ())


def _that_were_added(photos: Sequence[Photo]) -> str:
    return f"{pieces.count(len(photos), 'photo')} that you added {'is' if len(photos) == 1 else 'are'}"


def _class_row(found: Dataset, name: str, members: list[int], most: int) -> str:
    step = max(1, len(members) // 6)
    photos = "".join(pieces.picture(shelf.thumbnail(found, i, 72), f"a photo of {name}") for i in members[::step][:6])
    share = pieces.percent(len(members) / len(found.photos))
    return (
        f'<div class="tl-class"><div class="tl-name">{pieces.text(name)}</div>'
        f'<div class="tl-bar"><div style="width:{100 * len(members) / most:.0f}%"></div></div>'
        f'<div class="tl-count">{pieces.count(len(members), "photo")} · {share}</div>'
        f'<div class="tl-thumbs">{photos}</div></div>'
    )


def _skipped(found: Dataset) -> str:
    if not found.skipped:
        return ""
    rows = "".join(f"<li><code>{pieces.text(s.name)}</code> {pieces.words(s.reason)}</li>" for s in found.skipped[:500])
    rest = f"<li>and {len(found.skipped) - 500:,} more</li>" if len(found.skipped) > 500 else ""
    return (
        f'<details class="tl-details"><summary>Skipped {pieces.count(len(found.skipped), "file")}: see why</summary>'
        f"<ul>{rows}{rest}</ul></details>"
    )
