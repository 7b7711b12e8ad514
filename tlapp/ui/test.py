"""Tab 4: photos in, classes out, with any finished run. Knows predictions; nothing of training."""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gradio as gr

from tlapp import evaluate, images, jobs
from tlapp.dataset import Dataset
from tlapp.errors import RunError, printable
from tlapp.intake import read_file
from tlapp.runs import Run
from tlapp.tasks import Report, Task
from tlapp.ui import answers, correct, pieces, sheets, shelf, why
from tlapp.ui.camera import live_view
from tlapp.ui.drop import PHOTOS, drop_zone
from tlapp.ui.frame import QUIET, SILENT, Mine, Step, Tab, Waiting, choices, listed
from tlapp.ui.sheets import Sheet
from tlapp.ui.shelf import Model

TEST_PHOTO = "photo "
EMPTY = "No answer yet. Drop a photo above, paste one, or take one with the camera."
_looking = Waiting("Looking was cancelled; the answers are those of before.")


def build(mine: Mine, dialog: gr.HTML, anywhere: gr.HTML) -> Tab:
    """Lay the tab out; its refreshes list the models, as `choices` says.

    `dialog`: that of `why`. `anywhere`: a zone beside the tabs for photos that the model of the loaded photos answers.
    """
    pick = gr.Dropdown([], label="Model that answers", elem_id="pick-model", interactive=True)
    zone = drop_zone("photos", PHOTOS)
    unseen = gr.Button("Try one of the test photos", interactive=False, elem_id="try-test-photo")
    with gr.Accordion("Take a photo with the camera", open=False, elem_id="camera-box"):
        camera = gr.Image(
            sources=["webcam"], type="filepath", image_mode=None, show_label=False, label="Camera", height=320,
            elem_id="camera", buttons=[],
        )  # fmt: skip
    with gr.Accordion("Live view of the camera", open=False, elem_id="live-box"):
        live = live_view()
    with gr.Row(elem_id="looking"):
        progress = gr.HTML(elem_id="looking-progress")
        cancel = gr.Button("Cancel", visible=False, scale=0, min_width=100, elem_id="cancel-looking")
    old = gr.HTML(elem_id="old-answers")
    shown = gr.HTML(pieces.notice("info", EMPTY), js_on_load=answers.SCRIPT, elem_id="answers")
    sheet = gr.State("")
    with gr.Row(elem_id="with-answers"):
        download = gr.DownloadButton(
            "Download as CSV", size="sm", visible=False, scale=0, min_width=160, elem_id="answers-csv"
        )
        again = gr.Button("Ask the chosen model", size="sm", visible=False, scale=0, min_width=180, elem_id="ask-again")
    panel = correct.build()

    def drawn(found: Sheet) -> list[Any]:
        several = len(found.answers) > 1
        return [found.html(), gr.DownloadButton(value=str(found.csv()) if several else None, visible=several)]

    def outcome(name: str, found: Sheet, dataset: str) -> list[Any]:
        html, csv = drawn(found)
        return [html, name, csv, "", gr.Button(visible=False), *correct.tally(name, dataset)]

    @pieces.guarded
    def refresh(name: str | None, own: str) -> list[Any]:
        chosen = shelf.model(name or own)
        options = [(_title(model), model.run.id) for model in shelf.models()]
        chosen_id = chosen.run.id if chosen else None
        return [listed(options, chosen_id, name), gr.Button(interactive=bool(chosen)), correct.news(own)]

    def look(
        work: Callable[[Report], tuple[str, Sheet]], before: str, dataset: str, request: gr.Request
    ) -> Iterator[list[Any]]:
        for told in _looking.follow(request, work, _so_far):
            news = [gr.skip()] * len(outputs)
            if told.answer:
                kept, found = told.answer
                news = outcome(kept, found, dataset)
                if kept != before:
                    sheets.forget(before)
            yield [told.words, gr.Button(visible=not told.over), *news]

    def from_zone(value: Any, name: str | None, before: str, dataset: str, request: gr.Request) -> Iterator[list[Any]]:
        yield from look(lambda report: sheets.of_upload(value, shelf.answering(name), report), before, dataset, request)

    def from_anywhere(
        value: Any, name: str | None, before: str, dataset: str, own: str, request: gr.Request
    ) -> Iterator[list[Any]]:
        def work(report: Report) -> tuple[str, Sheet]:
            return sheets.of_upload(value, _of_these_photos(name, own, dataset, report), report)

        yield from look(work, before, dataset, request)

    def ask_again(name: str | None, kept: str, dataset: str, request: gr.Request) -> Iterator[list[Any]]:
        def work(report: Report) -> tuple[str, Sheet]:
            found = sheets.get(kept)
            if found is None:
                raise RunError(correct.GONE)
            return kept, sheets.anew(found, shelf.answering(name), report)

        yield from look(work, kept, dataset, request)

    @pieces.guarded
    def from_camera(file: str | None, name: str | None, before: str, dataset: str) -> Any:
        if not file:
            return gr.skip()
        made = sheets.of_file("camera", Path(file), shelf.answering(name))
        sheets.forget(before)
        return outcome(*made, dataset)

    @pieces.guarded
    def from_test_photos(name: str | None, before: str, dataset: str) -> list[Any]:
        run = shelf.answering(name)
        pick = f"{TEST_PHOTO}{_any_test_photo(run)} {run.id}"
        answer = _on_test_photo(pick)
        sheets.forget(before)
        return [
            answer,
            pick,
            gr.DownloadButton(visible=False),
            "",
            gr.Button(visible=False),
            *correct.tally("", dataset),
        ]

    @pieces.guarded
    def model_changed(name: str | None, kept: str) -> list[Any]:
        found = sheets.get(kept)
        is_old = bool(found and name and found.run.id != name)
        said = f"These answers are run {found.run.id}'s; another model is chosen by now." if found and is_old else ""
        return [name or "", pieces.notice("warn", said), gr.Button(visible=is_old)]

    @pieces.guarded
    def follow_line(kept: str) -> Any:
        if kept.startswith(TEST_PHOTO):
            with contextlib.suppress(RunError):  # the run is gone: its answer stays as it was
                return [_on_test_photo(kept), gr.skip()]
        found = sheets.get(kept)
        return drawn(found) if found and found.is_stale else gr.skip()

    @pieces.guarded
    def show_why(kept: str, event: gr.EventData) -> str:
        return _why(sheets.get(kept), str(event.pick))

    why.open_on(shown.select, show_why, sheet, dialog)
    outputs = [shown, sheet, download, old, again, panel.tally, panel.add]
    follows = [progress, cancel, *outputs]
    zone.upload(from_zone, [zone, pick, sheet, mine.dataset], follows, **SILENT)
    anywhere.upload(from_anywhere, [anywhere, pick, sheet, mine.dataset, mine.run], follows, **SILENT)
    again.click(ask_again, [pick, sheet, mine.dataset], follows, **SILENT)
    cancel.click(_looking.cancel, None, None, queue=False)
    camera.input(from_camera, [camera, pick, sheet, mine.dataset], outputs, queue=False)
    unseen.click(from_test_photos, [pick, sheet, mine.dataset], outputs, queue=False)
    pick.change(model_changed, [pick, sheet], [live, old, again], **QUIET)
    undone = correct.wire(panel, mine, shown, sheet)
    refreshes = choices(mine, pick, [pick.input], refresh, [pick, unseen, panel.news])
    return Tab(refreshes, [undone], follow=Step(follow_line, sheet, [shown, download]))


def _of_these_photos(chosen: str | None, own: str, dataset: str, report: Report) -> Run:
    """The chosen model if it is of the loaded photos, else this browser's run, waited for while it has no model yet."""
    found = shelf.dataset(dataset)
    these = (found.original or found.id) if found else ""
    one = shelf.run(chosen)
    if one and shelf.photos_of(one) == these:
        return one
    run = shelf.run(own)
    if run and run.plan.is_instant and not run.has_model():
        while run.is_live():
            report(0, 0, "the instant model is being made")
            time.sleep(jobs.POLL_SECONDS)
    model = shelf.model(own)
    if model is None or (these and shelf.photos_of(model.run) != these):
        raise RunError("There is no model of these photos yet. Train one, or choose one in 4 Test.")
    return model.run


def _title(model: Model) -> str:
    names = ", ".join(model.classes[:4]) + (f" and {len(model.classes) - 4} more" if len(model.classes) > 4 else "")
    return f"Run {model.run.id}: {printable(names)} · {evaluate.brief(model.accuracy, model.n_test)}"


def _so_far(task: Task[Any]) -> str:
    if task.total:
        return f"Looking at {task.done:,.0f} of {task.total:,.0f}"
    return f"Reading the photos{f' · {task.what}' if task.what else ''}"


def _any_test_photo(run: Run) -> int:
    return int(random.choice(run.plan.split(_photos_of(run)).test))


def _photos_of(run: Run) -> Dataset:
    found = shelf.dataset_of(run)
    if found is None:
        raise RunError("The photos of this run are gone from the workspace. Drop a photo instead.")
    return found


def _test_photo(pick: str) -> tuple[Run, Dataset, int]:
    """The run, its photos, and the number of the one that is named. Raises RunError."""
    number, _, name = pick.removeprefix(TEST_PHOTO).partition(" ")
    run = shelf.answering(name)
    found = _photos_of(run)
    if not number.isdecimal() or int(number) >= len(found.photos):
        raise RunError("There is no such answer. Ask again.")
    return run, found, int(number)


def _on_test_photo(pick: str) -> str:
    """The answer for a test photo, as HTML."""
    run, found, index = _test_photo(pick)
    photo = found.photos[index]
    answer = shelf.predictor(run).predict(found.pixels(index), photo.name)
    truth = f"A test photo of {found.classes[photo.label]}; it took no part in the training."
    return answers.one(answer, shelf.data_uri(found.pixels(index)), run.id, truth, why=pick)


def _why(sheet: Sheet | None, pick: str) -> str:
    """The dialog on an answer: of the sheet by its row, or on a test photo by its number and run."""
    if pick.startswith(TEST_PHOTO):
        run, found, index = _test_photo(pick)
        photo = found.photos[index]
        return why.dialog(run, found.pixels(index), photo.name, found.classes[photo.label])
    if not pick.isdecimal():
        raise RunError("There is no such answer. Ask again.")
    if sheet is None or int(pick) >= len(sheet.answers):
        raise RunError(correct.GONE)
    file = sheet.answers[int(pick)].file
    return why.dialog(sheet.run, images.load(read_file(dict(sheet.files)[file])), file)
