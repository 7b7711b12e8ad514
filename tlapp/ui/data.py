"""Tab 1: photos in, and what was found in them. Knows intake and the dataset; nothing of training."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gradio as gr

from tlapp import dataset as datasets
from tlapp import demo, workspace
from tlapp.dataset import Dataset
from tlapp.errors import DataError
from tlapp.plan import Plan
from tlapp.tasks import Report, Task
from tlapp.ui import pieces, shelf
from tlapp.ui.drop import drop_zone, gather
from tlapp.ui.frame import Mine, Tab, Waiting
from tlapp.ui.serve import uploads_folder

REPLACE, ADD = "replace the photos", "add to the photos"
DEFAULT_SHARE = round(100 * Plan.test_fraction)
_reading = Waiting("Reading was cancelled; nothing has changed.")


def build(mine: Mine) -> Tab:
    """Lay the tab out and wire it; its refresh shows the dataset that the browser state names."""
    zone = drop_zone("drop")
    with gr.Row(elem_id="source"):
        path = gr.Textbox(
            label="Or a folder or zip on this machine", placeholder="/home/me/photos", scale=4, elem_id="path"
        )
        read = gr.Button("Read it", scale=1, min_width=100, elem_id="read-path")
        drawn = gr.Button("Try it with a demo set", scale=1, min_width=240, elem_id="demo")
    with gr.Row(elem_id="reading"):
        progress = gr.HTML(elem_id="reading-progress")
        cancel = gr.Button("Cancel", visible=False, scale=0, min_width=100, elem_id="cancel-reading")
    overview = gr.HTML(elem_id="overview")
    fraction = gr.Slider(
        5, 50, DEFAULT_SHARE, step=5, label="Test photos, % of each class", elem_id="test-fraction", visible=False,
        buttons=[],
    )  # fmt: skip
    with gr.Accordion("Change the photos or how they are split", open=False, visible=False, elem_id="change") as change:
        seed = gr.Number(
            0, precision=0, minimum=0, label="Seed of the split", elem_id="split-seed",
            info="Another seed draws other photos for validation and test.",
        )  # fmt: skip
        mode = gr.Radio([REPLACE, ADD], value=REPLACE, label="What comes next will", elem_id="mode")
        with gr.Row(equal_height=True):
            chosen = gr.Dropdown([], label="A class to take out", elem_id="class-out", scale=3)
            take_out = gr.Button("Take it out", scale=1, min_width=120, elem_id="take-out")
            forget = gr.Button("Remove all photos", scale=1, min_width=160, elem_id="forget")
    go_on = gr.Button("Next: train on these photos", variant="primary", interactive=False, elem_id="to-train")

    outputs = [overview, fraction, seed, change, chosen, go_on]
    reading = [mine, progress, cancel]
    inputs: set[Any] = {mine, zone, path, mode}

    def refresh(state: Any) -> list[Any]:
        found = shelf.dataset(state)
        own_split = found is not None and any(photo.side == "test" for photo in found.photos)
        return [
            describe(found, DEFAULT_SHARE / 100, 0),
            gr.Slider(value=DEFAULT_SHARE, visible=found is not None and not own_split),
            0,
            gr.Accordion(visible=found is not None),
            gr.Dropdown(list(found.classes) if found else [], value=None),
            gr.Button(interactive=found is not None),
        ]

    def from_zone(values: dict[Any, Any], request: gr.Request) -> Iterator[list[Any]]:
        yield from _read(lambda report: _scan_upload(values[zone], report), values, request)

    def from_path(values: dict[Any, Any], request: gr.Request) -> Iterator[list[Any]]:
        typed = str(values[path] or "").strip().strip("\"'")

        def scan(report: Report) -> Dataset:
            if not typed:
                raise DataError("No path is typed. Type the path of a folder with one sub-folder per class.")
            return datasets.scan(Path(typed).expanduser(), report=report)

        yield from _read(scan, values, request)

    def from_demo(values: dict[Any, Any], request: gr.Request) -> Iterator[list[Any]]:
        def scan(report: Report) -> Dataset:
            report(0, 0, "drawing the pictures first")
            return datasets.scan(demo.make(workspace.home()), report=report)

        yield from _read(scan, values, request)

    def _read(work: Callable[[Report], Dataset], values: dict[Any, Any], request: gr.Request) -> Iterator[list[Any]]:
        """The state changes only when all went well."""
        old = shelf.dataset(values[mine]) if values[mode] == ADD else None

        def work_and_add(report: Report) -> Dataset:
            found = work(report)
            return datasets.combine([old, found]) if old else found

        for told in _reading.follow(request, work_and_add, _so_far):
            state = {**values[mine], "dataset": told.answer.id} if told.answer else gr.skip()
            yield [state, told.words, gr.Button(visible=not told.over)]

    changed = [
        zone.upload(from_zone, inputs, reading, show_progress="hidden"),
        read.click(from_path, inputs, reading, show_progress="hidden"),
        path.submit(from_path, inputs, reading, show_progress="hidden"),
        drawn.click(from_demo, inputs, reading, show_progress="hidden"),
    ]

    @pieces.guarded
    def remove_class(state: Any, name: str | None) -> dict[str, Any]:
        found = shelf.dataset(state)
        if found is None or not name:
            raise DataError("No class is chosen. Choose the class to take out.")
        return {**state, "dataset": datasets.combine([found], without=[name]).id}

    changed += [
        take_out.click(remove_class, [mine, chosen], mine),
        forget.click(lambda state: {**state, "dataset": ""}, mine, mine),
    ]
    cancel.click(_reading.cancel, None, None, queue=False)
    for control in (fraction, seed):
        control.change(
            lambda state, share, number: describe(shelf.dataset(state), share / 100, number or 0),
            [mine, fraction, seed], overview, show_progress="hidden", trigger_mode="always_last",
        )  # fmt: skip
    fields = {"test_fraction": fraction, "split_seed": seed}
    return Tab(refresh, outputs, changed, go_on, fields)


def _so_far(task: Task[Any]) -> str:
    of = f"{task.done:,.0f} of {task.total:,.0f} files" if task.total else "the files"
    return f"Reading {of}" + (f" · {task.what}" if task.what else "")


def _scan_upload(value: Any, report: Report) -> Dataset:
    """Read what the drop zone sent; the uploaded files are gone afterwards."""
    with workspace.own_folder(workspace.home() / "incoming", "upload-") as folder:
        source, refused = gather(value, folder, uploads_folder())
        return datasets.scan(
            source, report=report, refused=refused, shown_as=source.name if source.is_file() else "The upload"
        )


def describe(found: Dataset | None, test_fraction: float, seed: int) -> str:
    """The dataset in pictures: HTML of classes, split, notes and skipped files."""
    if found is None:
        return pieces.notice(
            "info", "No photos yet. Drop a folder above, or try the demo set: it is drawn, not photographed."
        )
    names, counts = found.classes, found.class_counts()
    rows = "".join(_class_row(found, name, counts[name], max(counts.values())) for name in names)
    notes = "".join(
        pieces.notice("warn" if note.startswith("Below") or "look the same" in note else "info", note)
        for note in found.notes
    )
    return f'<div class="tl-classes">{rows}</div>{_split_bar(found, test_fraction, seed)}{notes}{_skipped(found)}'


def _class_row(found: Dataset, name: str, n: int, most: int) -> str:
    label = found.classes.index(name)
    members = [i for i, photo in enumerate(found.photos) if photo.label == label]
    step = max(1, len(members) // 6)
    photos = "".join(pieces.picture(shelf.thumbnail(found, i, 72), f"a photo of {name}") for i in members[::step][:6])
    share = n / len(found.photos)
    return (
        f'<div class="tl-class"><div class="tl-name">{pieces.text(name)}</div>'
        f'<div class="tl-bar"><div style="width:{100 * n / most:.0f}%"></div></div>'
        f'<div class="tl-count">{pieces.count(n, "photo")} · {pieces.percent(share)}</div>'
        f'<div class="tl-thumbs">{photos}</div></div>'
    )


def _split_bar(found: Dataset, test_fraction: float, seed: int) -> str:
    try:
        split = found.split(test_fraction, Plan.validation_fraction, seed)
    except DataError as error:
        return pieces.notice("error", str(error))
    parts = [("train", len(split.train)), ("validation", len(split.validation)), ("test", len(split.test))]
    bars = "".join(f'<div class="tl-{name}" style="flex:{n}"></div>' for name, n in parts)
    words = "".join(f'<span class="tl-key tl-{name}">{n} {name}</span>' for name, n in parts)
    why = "Learns from train, chooses on validation, and is scored on test photos, which take part in no choice."
    return f'<div class="tl-split">{bars}</div><div class="tl-keys">{words}<span>{why}</span></div>'


def _skipped(found: Dataset) -> str:
    if not found.skipped:
        return ""
    rows = "".join(f"<li><code>{pieces.text(s.name)}</code> {pieces.text(s.reason)}</li>" for s in found.skipped[:500])
    rest = f"<li>and {len(found.skipped) - 500:,} more</li>" if len(found.skipped) > 500 else ""
    return (
        f'<details class="tl-details"><summary>Skipped {pieces.count(len(found.skipped), "file")}: see why</summary>'
        f"<ul>{rows}{rest}</ul></details>"
    )
