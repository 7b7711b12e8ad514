"""Tab 4: photos in, classes out, with any finished run. Knows predictions; nothing of training."""

from __future__ import annotations

import random
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from tlapp import images, workspace
from tlapp.dataset import Skipped
from tlapp.errors import DataError, PictureError, RunError, printable
from tlapp.intake import is_junk, read_file
from tlapp.runs import Run
from tlapp.ui import pieces, shelf
from tlapp.ui.drop import PHOTOS, drop_zone, gather
from tlapp.ui.frame import QUIET, Mine, Tab, choices, listed
from tlapp.ui.serve import uploads_folder
from tlapp.ui.shelf import Model

if TYPE_CHECKING:
    from tlapp.predict import Prediction

MOST_AT_ONCE = 200
MOST_BARS = 5
UNSURE = 0.6
"""Below this probability the answer is called "not sure"."""
EMPTY = "No answer yet. Drop a photo above, paste one, or take one with the camera."


def build(mine: Mine) -> Tab:
    """Lay the tab out; its refreshes list the models, as `choices` says."""
    pick = gr.Dropdown([], label="Model that answers", elem_id="pick-model", interactive=True)
    zone = drop_zone("photos", PHOTOS)
    unseen = gr.Button("Try one of the test photos", interactive=False, elem_id="try-test-photo")
    with gr.Accordion("Use the camera", open=False, elem_id="camera-box"):
        camera = gr.Image(
            sources=["webcam"], type="filepath", image_mode=None, show_label=False, label="Camera", height=320,
            elem_id="camera", buttons=[],
        )  # fmt: skip
    answers = gr.HTML(pieces.notice("info", EMPTY), elem_id="answers")

    @pieces.guarded
    def refresh(name: str | None, own: str) -> list[Any]:
        chosen = shelf.model(name or own)
        options = [(_title(model), model.run.id) for model in shelf.models()]
        return [listed(options, chosen.run.id if chosen else None, name), gr.Button(interactive=bool(chosen))]

    @pieces.guarded
    def from_zone(value: Any, name: str | None) -> str:
        return _classify_upload(value, _chosen(name))

    @pieces.guarded
    def from_camera(file: str | None, name: str | None) -> Any:
        return _answer([("camera", Path(file))], [], _chosen(name)) if file else gr.skip()

    @pieces.guarded
    def from_test_photos(name: str | None) -> str:
        return _try_test_photo(_chosen(name))

    zone.upload(from_zone, [zone, pick], answers, queue=False)
    camera.input(from_camera, [camera, pick], answers, queue=False)
    unseen.click(from_test_photos, pick, answers, queue=False)
    pick.input(lambda: pieces.notice("info", "Another model answers now. Try a photo again."), None, answers, **QUIET)
    return Tab(choices(mine, pick, [pick.input], refresh, [pick, unseen]))


def _title(model: Model) -> str:
    names = ", ".join(model.classes[:4]) + (f" and {len(model.classes) - 4} more" if len(model.classes) > 4 else "")
    return f"Run {model.run.id}: {printable(names)} · {pieces.percent(model.accuracy)} on test photos"


def _chosen(name: str | None) -> Run:
    """The run of that id; before the page has chosen one, the newest."""
    run = shelf.run(name) if name else None
    newest = shelf.model(None)
    if run is None and newest is None:
        raise RunError("There is no model yet. Train one in the Train tab.")
    if run is None and name:
        raise RunError("That run is gone. Choose another model.")
    return run or newest.run  # type: ignore[union-attr]


def _try_test_photo(run: Run) -> str:
    found = shelf.dataset_of(run)
    if found is None:
        raise RunError("The photos of this run are gone from the workspace. Drop a photo instead.")
    index = int(random.choice(run.plan.split(found).test))
    photo = found.photos[index]
    answer = shelf.predictor(run).predict(found.pixels(index), photo.name)
    truth = f"A test photo of {found.classes[photo.label]}; it took no part in the training."
    return _big(answer, shelf.data_uri(found.pixels(index)), run, truth)


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
        return _answer([(p.relative_to(folder).as_posix(), p) for p in paths], refused, run)


def _answer(files: list[tuple[str, Path]], refused: list[Skipped], run: Run) -> str:
    """HTML of the answers for these files, and why some have none."""
    predictor = shelf.predictor(run)
    answered: list[tuple[Prediction, str]] = []
    failed = "".join(pieces.notice("error", f"{skipped.name} {skipped.reason}.") for skipped in refused)
    for name, path in files:
        try:
            pixels = images.load(read_file(path))
        except PictureError as error:
            failed += pieces.notice("error", f"{name} {error}.")
        else:
            side = None if len(files) == 1 else 112
            answered.append((predictor.predict(pixels, name), shelf.data_uri(pixels, side)))
    if len(files) == 1 and answered:
        return failed + _big(*answered[0], run, "")
    rows = "".join(_row(answer, source) for answer, source in answered)
    head = "".join(f'<th scope="col">{name}</th>' for name in ("Photo", "Class", "How sure", "File"))
    caption = f"<caption>Run {pieces.text(run.id)} answers.</caption>"
    table = (
        f'<div class="tl-scroll"><table class="tl-table tl-answers">{caption}'
        f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
    )
    return failed + (table if answered else "")


def _big(answer: Prediction, source: str, run: Run, truth: str) -> str:
    """One photo beside its answer and a bar for each class."""
    ranked = sorted(answer.probabilities.items(), key=lambda item: -item[1])
    bars = "".join(_bar(name, share) for name, share in ranked[:MOST_BARS])
    rest = "".join(_bar(name, share) for name, share in ranked[MOST_BARS:])
    if rest:
        bars += f"<details><summary>{len(ranked) - MOST_BARS} more classes</summary>{rest}</details>"
    notes = [truth, f"{answer.file} · run {run.id} answers"]
    below = "".join(f'<p class="tl-file">{pieces.text(note)}</p>' for note in notes if note)
    return (
        f'<div class="tl-answer">{pieces.picture(source, f"{answer.file}, called {answer.label}")}'
        f'<div><p class="tl-label">{_said(answer)}</p>{bars}{below}</div></div>'
    )


def _said(answer: Prediction) -> str:
    if answer.unknown:
        return f"None of these, perhaps: nearest is {pieces.text(answer.label)}"
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
