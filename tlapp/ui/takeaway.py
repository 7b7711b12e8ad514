"""Take a model along, in tab 3: its bundle made and proven while the person waits, then saved.

Knows `tlapp.export`; what is in a bundle is that module's.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import gradio as gr

from tlapp.runs import Run
from tlapp.tasks import Report, Task
from tlapp.ui import pieces, shelf
from tlapp.ui.frame import QUIET, SILENT, Waiting
from tlapp.ui.serve import download_folder

if TYPE_CHECKING:
    from tlapp.export import Exported

WORDS = (
    "A zip that answers photos on any machine without this app: the model as ONNX, a small program, a model card. "
    "Before you get it, it is run on validation photos and must answer as here."
)
MORE = [
    ("A web page that answers without a network", "web"),
    ("The model in INT8: smaller, judged on the test photos", "int8"),
]
_exporting = Waiting("The export was cancelled; nothing was written.")


class Panel(NamedTuple):
    """The panel's components."""

    box: gr.Column
    go: gr.Button
    cancel: gr.Button
    said: gr.HTML
    save: gr.DownloadButton

    @property
    def parts(self) -> list[Any]:
        """What `show` fills."""
        return [self.box, self.said, self.save]


def build(pick: gr.Dropdown) -> Panel:
    """Lay the panel out, hidden, and wire it to the run `pick`."""
    with gr.Column(visible=False, elem_id="take") as box:
        gr.HTML(f'<h3>Take the model along</h3><p class="tl-hint">{WORDS}</p>')
        more = gr.CheckboxGroup(MORE, label="Also put in", elem_id="export-more")
        with gr.Row():
            go = gr.Button("Export the model", size="sm", scale=0, min_width=160, elem_id="export")
            cancel = gr.Button("Cancel", size="sm", visible=False, scale=0, min_width=90, elem_id="cancel-export")
            save = gr.DownloadButton(
                "Save the zip", size="sm", visible=False, variant="primary", scale=0, min_width=180,
                elem_id="save-bundle",
            )  # fmt: skip
        said = gr.HTML(elem_id="exported")
    panel = Panel(box, go, cancel, said, save)

    def export(name: str | None, wanted: list[str], request: gr.Request) -> Iterator[list[Any]]:
        run = shelf.run(name)
        if run is None:
            yield [pieces.notice("error", "That run is gone. Choose another one."), gr.skip(), gr.skip(), _no_file()]
            return
        for told in _exporting.follow(request, lambda report: _export(run, wanted, report), _so_far, run.id):
            words, file = (_proof(run, told.answer), _file(told.answer)) if told.answer else (told.words, _no_file())
            yield [words, gr.Button(visible=not told.over), gr.Button(interactive=told.over), file]

    go.click(export, [pick, more], [said, cancel, go, save], **SILENT)
    cancel.click(_exporting.cancel, None, None, queue=False)
    pick.change(_exporting.leave, pick, None, **QUIET)
    return panel


def show(run: Run | None, replaces: bool = True) -> list[Any]:
    """New values of `Panel.parts`. `replaces`: whether another report was shown before, whose export goes."""
    said = ["", _no_file()] if replaces else [gr.skip(), gr.skip()]
    return [gr.Column(visible=run is not None), *said]


def _export(run: Run, wanted: list[str], report: Report) -> Exported:
    from tlapp import export

    report(0, 0, "Starting")

    def tell(step: str) -> None:
        report(0, 0, step[:1].upper() + step[1:])

    with download_folder() as folder:
        return export.export(run, folder / f"{run.id}.zip", tell, **{name: name in wanted for _, name in MORE})


def _so_far(task: Task[Any]) -> str:
    return f"{task.what or 'Starting'}…"


def _proof(run: Run, made: Exported) -> str:
    same = "all" if made.same_class == made.photos_compared else f"{made.same_class:,}"
    size, most = made.path.stat().st_size / 1e6, math.ceil(1e5 * made.max_difference) / 1e5
    judged = " " + " ".join(made.int8.in_words()) if made.int8 else ""
    return pieces.notice(
        "info",
        f"Run {run.id} is ready: {pieces.count(len(made.files), 'file')}, {size:.0f} MB. Run by itself on "
        f"{made.photos_compared:,} validation photos, it calls {same} of them what the app calls them; a probability "
        f"differs by {most:.5f} at most.{judged}",
    )


def _file(made: Exported) -> gr.DownloadButton:
    return gr.DownloadButton(f"Save {made.path.name}", value=str(made.path), visible=True)


def _no_file() -> gr.DownloadButton:
    return gr.DownloadButton(visible=False)
