"""Why a photo was called what it was called: a dialog over the page, opened from any picture that was answered.

Knows runs, their answers and heat maps; starts nothing and keeps nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import gradio as gr
import numpy as np

from tlapp.runs import Run
from tlapp.ui import pieces, shelf
from tlapp.ui.frame import EACH

if TYPE_CHECKING:
    from tlapp.predict import Predictor

WAIT = """(...given) => {
  window.tlLooking = (window.tlLooking ?? 0) + 1;
  document.querySelector('#why-wait dialog')?.showModal();
  return given;
}"""
"""To be run as a photo is pressed, for what speaks for the answer takes seconds; Escape gives the wait up."""
OPEN = """() => {
  if (--window.tlLooking) return;  // another photo was pressed since
  const wait = document.querySelector('#why-wait dialog'), asked = wait?.open;
  wait?.close();  // first, so that the dialog that follows gives the focus back to the photo
  if (asked) document.querySelector('#why dialog')?.showModal();
}"""
"""To be run after the dialog was filled; Escape and its button close it."""
CLOSE = "() => { if (!--window.tlLooking) document.querySelector('#why-wait dialog')?.close(); }"
LOOKING = (
    '<dialog class="tl-why" aria-label="Looking"><form method="dialog"><header><h2 role="status">'
    '<span class="tl-spin" aria-hidden="true"></span>Looking for what spoke for the answer…</h2>'
    '<button aria-label="Cancel">✕</button></header></form></dialog>'
)

NEAREST = 5


def build() -> gr.HTML:
    """Lay the dialog out, empty, and the one that is shown until it is filled."""
    gr.HTML(LOOKING, elem_id="why-wait", apply_default_css=False)
    return gr.HTML(elem_id="why", apply_default_css=False)


def open_on(listener: Callable[..., Any], show: Callable[..., Any], inputs: Any, dialog: gr.HTML) -> None:
    """Have `show` fill the dialog upon what `listener` listens to, such as `photos.select`; that it looks is said at
    once, and ends with a fault too.
    """
    event = listener(show, inputs, dialog, js=WAIT, **EACH)
    event.success(None, js=OPEN)
    event.failure(None, js=CLOSE)


def dialog(run: Run, pixels: np.ndarray, file: str, truth: str = "") -> str:
    """The answer for a photo and what spoke for it, as HTML. `truth`: its class, if known. Raises RunError."""
    from tlapp import explain

    predictor = shelf.predictor(run)
    answer = predictor.predict(pixels, file)
    view = np.ascontiguousarray(predictor.views.plain(pixels).permute(1, 2, 0).numpy())
    best = predictor.classes.index(answer.label)
    asked = [best]
    if truth and truth != answer.label and truth in predictor.classes:
        asked.append(predictor.classes.index(truth))
    maps = "".join(
        pieces.picture(
            shelf.data_uri(_overlaid(view, explain.heat_map(predictor, pixels, label))),
            f"where {file} shows what speaks for {predictor.classes[label]}",
            f"What speaks for {pieces.text(predictor.classes[label])}",
        )
        for label in asked
    )
    said = f"Said {pieces.text(answer.label)}, {pieces.percent(answer.probability)}."
    if truth:
        said += f" It is {pieces.text(truth)}." if truth != answer.label else " That is right."
    if answer.unknown:
        said += " But it is unlike the photos learned from: none of these, perhaps."
    seen = pieces.picture(shelf.data_uri(view), f"{file} as the network sees it", "What the network sees")
    return (
        '<dialog class="tl-why" aria-label="Why this answer"><form method="dialog">'
        f'<header><h2>{said}</h2><button aria-label="Close">✕</button></header>'
        f'<p class="tl-file">{pieces.text(file)} · run {pieces.text(run.id)}</p>'
        f'<div class="tl-maps">{seen}{maps}</div>'
        f'<p class="tl-hint">{_HINT}</p>{_nearest(run, predictor, pixels)}</form></dialog>'
    )


def _nearest(run: Run, predictor: Predictor, pixels: np.ndarray) -> str:
    """The photos learned from that are most like this one, with their classes and distances."""
    found = shelf.dataset_of(run)
    if predictor.learned is None or found is None:
        return ""
    judged_on: set[int] = set()  # of an exact head, these are learned from too
    if run.plan.solver == "sgd" or run.report().get("fine_tuned"):
        judged_on = set(run.plan.split(found).validation.tolist())
    near = predictor.learned.nearest(predictor.outputs([pixels])[0].numpy(), NEAREST + len(judged_on))
    pairs = zip(*(part[0].tolist() for part in near), strict=True)
    cards = ""
    for index, distance in [pair for pair in pairs if pair[0] not in judged_on][:NEAREST]:
        photo = found.photos[index]
        name = found.classes[photo.label]
        caption = f"<b>{pieces.text(name)}</b><br>distance {max(0.0, distance):.2f}"
        cards += pieces.picture(shelf.thumbnail(found, index), f"{name}: {photo.name}", caption)
    return (
        f'<h3>The nearest photos learned from</h3><div class="tl-maps tl-near">{cards}</div>'
        '<p class="tl-hint">Distance: 0 is the same to the network, 1 has nothing in common.</p>'
    )


_HINT = (
    "Yellow: where the last block found most that speaks for the class (Grad-CAM). It is coarse, 7 × 7 fields, and "
    "shows where, not what. If it lies beside your subject, the network may have learned the background."
)


def _overlaid(view: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """The photo in grey under the map: dark blue to yellow, told apart in print and by colour-blind eyes."""
    from matplotlib import colormaps

    grey = (view @ np.array([0.299, 0.587, 0.114]))[..., None]
    colour = 255 * colormaps["cividis"](heat)[..., :3]
    strength = 0.25 + 0.5 * heat[..., None]
    return np.clip((1 - strength) * grey + strength * colour, 0, 255).astype(np.uint8)
