"""The panel that shows where a backbone's weights are missing: fetch them, or use a file. Never fetches unasked."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr

from tlapp import catalog, fetching, weightfile, workspace
from tlapp.errors import WeightsError
from tlapp.tasks import Task
from tlapp.ui import form, pieces
from tlapp.ui.frame import QUIET, SILENT, Waiting

_fetching = Waiting("Fetching was cancelled. Nothing was kept.")


class Panel(NamedTuple):
    """The panel's components; `name` holds the weights file in use, empty for the published weights."""

    box: gr.Column
    words: gr.HTML
    fetch: gr.Button
    file: gr.UploadButton
    cancel: gr.Button
    said: gr.HTML
    name: gr.Textbox

    @property
    def shown(self) -> list[Any]:
        """What `state` fills."""
        return [self.box, self.words, self.fetch, self.name]


def build() -> Panel:
    """Lay the panel out, hidden."""
    with gr.Column(visible=False, elem_id="weights") as box:
        words = gr.HTML()
        with gr.Row():
            fetch = gr.Button("Fetch weights", size="sm", elem_id="fetch")
            file = gr.UploadButton(
                "Use a weights file", size="sm", file_types=[".pth", ".pt", ".safetensors"], elem_id="weights-file"
            )
            cancel = gr.Button("Cancel", size="sm", visible=False, elem_id="cancel-fetch")
        said = gr.HTML(elem_id="weights-said")
        name = gr.Textbox("", visible=False)
    return Panel(box, words, fetch, file, cancel, said, name)


def state(backbone: str, file: str = "") -> list[Any]:
    """New values of `Panel.shown` for a backbone and, if the person gave one, its weights file in the workspace."""
    entry = catalog.get(backbone)
    if file:
        run = weightfile.of_file(Path(form.weights_file(file))).get("run")
        words = f"The weights of {entry.title} are those of your file ({file})."
        if run:
            words = f"It starts from the network of run {run}. No file that this learned from is used for the test."
        return [gr.Column(visible=True), pieces.notice("info", words), gr.Button(visible=False), file]
    if entry.included or catalog.weights_path(entry).is_file():
        return [gr.Column(visible=False), "", gr.Button(), ""]
    words = (
        f"{entry.title}'s official weights ({entry.megabytes:.0f} MB) are not on this machine. They are fetched from "
        f"torchvision's server once, when you ask. Terms: {entry.terms}."
    )
    button = gr.Button(f"Fetch weights · {entry.megabytes:.0f} MB", visible=True)
    return [gr.Column(visible=True), pieces.notice("info", words), button, ""]


def wire(panel: Panel, backbone: gr.Radio) -> list[Any]:
    """Connect the buttons; returns the events after which weights may be there."""
    panel.cancel.click(_fetching.cancel, None, None, queue=False)

    def fetch(name: str, request: gr.Request) -> Iterator[list[Any]]:
        entry = catalog.get(name)

        def words(task: Task[Any]) -> str:
            return f"Fetching {entry.title}'s weights: {task.done:.0f} of {entry.megabytes:.0f} MB"

        for told in _fetching.follow(request, lambda report: fetching.fetch(entry, report), words):
            # The person may have gone on to another backbone: what is chosen stays.
            yield [told.words, gr.Button(visible=not told.over), gr.Radio(form.backbone_choices())]

    fetched = panel.fetch.click(fetch, backbone, [panel.said, panel.cancel, backbone], **SILENT)
    fetched = fetched.then(pieces.guarded(state), [backbone, panel.name], panel.shown, **QUIET)
    given = panel.file.upload(_keep, [panel.file, backbone], [panel.said, *panel.shown], queue=False, **SILENT)
    return [fetched, given]


@pieces.guarded
def _keep(file: str, backbone: str) -> list[Any]:
    """Check an uploaded weights file by reading it, and keep it in the workspace for runs to come."""
    from tlapp import backbones

    path = Path(file)
    try:
        backbones.load(catalog.get(backbone), 2, weights=file)
        name = f"{backbone}-{workspace.sha256(path)[:12]}{path.suffix}"
        workspace.make_folder(form.weights_folder())
        workspace.write_atomic(form.weights_folder() / name, path.read_bytes())
    except (WeightsError, OSError) as error:
        return [pieces.notice("error", pieces.sentence(error)), *[gr.skip()] * 4]
    finally:
        path.unlink(missing_ok=True)
    return ["", *state(backbone, name)]
