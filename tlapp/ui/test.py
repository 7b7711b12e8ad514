"""Tab 4: photos in, classes out, with any finished run. Knows predictions; nothing of training."""

from __future__ import annotations

import random
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from tlapp import images, workspace
from tlapp.errors import DataError, PictureError, RunError
from tlapp.intake import is_junk, read_file
from tlapp.runs import Run
from tlapp.ui import pieces, shelf
from tlapp.ui.drop import PHOTOS, drop_zone, gather
from tlapp.ui.frame import QUIET, Mine, Tab
from tlapp.ui.serve import uploads_folder

if TYPE_CHECKING:
    from tlapp.predict import Prediction

MOST_AT_ONCE = 200
MOST_BARS = 5
UNSURE = 0.6
"""Below this probability the answer is called "not sure"."""
EMPTY = "No answer yet. Drop a photo above, paste one, or take one with the camera."


def build(mine: Mine) -> Tab:
    """Lay the tab out; its refresh lists the models and chooses this browser's own, else the newest."""
    pick = gr.Dropdown([], label="Model that answers", elem_id="pick-model", interactive=True)
    zone = drop_zone("photos", PHOTOS)
    with gr.Row():
        unseen = gr.Button("Try one of the test photos", interactive=False, elem_id="try-test-photo")
    with gr.Accordion("Use the camera", open=False, elem_id="camera-box"):
        camera = gr.Image(
            sources=["webcam"], type="filepath", image_mode=None, show_label=False, label="Camera", height=320,
            elem_id="camera", buttons=[],
        )  # fmt: skip
    answers = gr.HTML(pieces.notice("info", EMPTY), elem_id="answers")

    @pieces.guarded
    def refresh(state: Any) -> list[Any]:
        models = shelf.models()
        own = next((run.id for run in models if run.id == state.get("run")), models[0].id if models else None)
        choices = [(_title(run), run.id) for run in models]
        words = EMPTY if models else "There is no model yet. Train one in the Train tab."
        return [gr.Dropdown(choices, value=own), gr.Button(interactive=bool(models)), pieces.notice("info", words)]

    @pieces.guarded
    def from_zone(value: Any, name: str | None) -> str:
        return _classify_upload(value, _chosen(name))

    @pieces.guarded
    def from_camera(file: str | None, name: str | None) -> Any:
        if not file:
            return gr.skip()
        return _answer([("camera", Path(file).read_bytes())], _chosen(name))

    @pieces.guarded
    def from_test_photos(name: str | None) -> str:
        run = _chosen(name)
        found = shelf.dataset_of(run)
        if found is None:
            raise RunError("The photos of this run are gone from the workspace. Drop a photo instead.")
        index = int(random.choice(run.plan.split(found).test))
        photo = found.photos[index]
        truth = f"test photo of {found.classes[photo.label]}, which took no part in the training"
        answer = shelf.predictor(run).predict(found.pixels(index), photo.name)
        return _big(answer, shelf.data_uri(found.pixels(index)), truth)

    zone.upload(from_zone, [zone, pick], answers)
    camera.input(from_camera, [camera, pick], answers)
    unseen.click(from_test_photos, pick, answers, **{**QUIET, "show_progress": "minimal"})
    return Tab(refresh, [pick, unseen, answers])


def _title(run: Run) -> str:
    classes = run.classes
    names = ", ".join(classes[:4]) + (f" and {len(classes) - 4} more" if len(classes) > 4 else "")
    return f"Run {run.id}: {names} · {pieces.percent(run.report()['accuracy'])} on test photos"


def _chosen(name: str | None) -> Run:
    """The run of that id; before the page has chosen one, the newest."""
    run = shelf.run(name) or next(iter(shelf.models()), None)
    if run is None:
        raise RunError("There is no model yet. Train one in the Train tab.")
    return run


def _classify_upload(value: Any, run: Run) -> str:
    """Answers for what the drop zone sent; the uploaded files are gone afterwards."""
    with workspace.own_folder(workspace.home() / "incoming", "upload-") as folder:
        _, refused = gather(value, folder, uploads_folder())
        paths = [p for p in sorted(folder.rglob("*")) if p.is_file() and not is_junk(str(p.relative_to(folder)))]
        if len(paths) > MOST_AT_ONCE:
            raise DataError(
                f"These are {len(paths):,} photos; the page takes {MOST_AT_ONCE} at once. "
                "For more use the command line: tlapp predict RUN FOLDER --csv OUT."
            )
        read: list[tuple[str, bytes | str]] = [(s.name, s.reason) for s in refused]
        for path in paths:
            try:
                read.append((path.relative_to(folder).as_posix(), read_file(path)))
            except PictureError as error:
                read.append((path.relative_to(folder).as_posix(), str(error)))
        return _answer(read, run)


def _answer(files: list[tuple[str, bytes | str]], run: Run) -> str:
    """HTML of the answers; a file is its bytes, or the reason why it has none."""
    predictor = shelf.predictor(run)
    answered: list[tuple[Prediction, str]] = []
    failed = ""
    for name, data in files:
        try:
            if isinstance(data, str):
                raise PictureError(data)
            pixels = images.load(data)
        except PictureError as error:
            failed += pieces.notice("error", f"{name} {error}.")
        else:
            side = None if len(files) == 1 else 112
            answered.append((predictor.predict(pixels, name), shelf.data_uri(pixels, side)))
    if len(files) == 1 and answered:
        return _big(*answered[0], "")
    rows = "".join(_row(answer, source) for answer, source in answered)
    head = "<tr><th>Photo</th><th>Class</th><th>How sure</th><th>File</th></tr>"
    table = f'<table class="tl-table tl-answers"><thead>{head}</thead><tbody>{rows}</tbody></table>'
    return failed + (f'<div class="tl-scroll">{table}</div>' if answered else "")


def _big(answer: Prediction, source: str, truth: str) -> str:
    """One photo beside its answer and a bar for each class."""
    ranked = sorted(answer.probabilities.items(), key=lambda item: -item[1])
    bars = "".join(_bar(name, share) for name, share in ranked[:MOST_BARS])
    rest = "".join(_bar(name, share) for name, share in ranked[MOST_BARS:])
    if rest:
        bars += f"<details><summary>{len(ranked) - MOST_BARS} more classes</summary>{rest}</details>"
    note = f'<p class="tl-hint">{pieces.text(truth)}</p>' if truth else ""
    return (
        f'<div class="tl-answer">{pieces.picture(source, f"{answer.file}, called {answer.label}", "")}'
        f'<div><p class="tl-label">{_said(answer)}</p>{bars}{note}'
        f'<p class="tl-file">{pieces.text(answer.file)}</p></div></div>'
    )


def _said(answer: Prediction) -> str:
    if answer.probability < UNSURE:
        return f"Not sure: perhaps {pieces.text(answer.label)}"
    return pieces.text(answer.label)


def _bar(name: str, share: float) -> str:
    return (
        f'<div class="tl-prob"><span>{pieces.text(name)}</span><div class="tl-track">'
        f'<div style="width:{100 * share:.1f}%"></div></div><span>{pieces.percent(share)}</span></div>'
    )


def _row(answer: Prediction, source: str) -> str:
    cells = [_said(answer), pieces.percent(answer.probability), pieces.text(answer.file)]
    photo = f'<img src="{source}" alt="{pieces.text(f"{answer.file}, called {answer.label}")}">'
    return f"<tr><td>{photo}</td>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"
