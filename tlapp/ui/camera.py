"""The live view: a camera's pictures answered one after the other. What is seen is kept nowhere."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import gradio as gr

from tlapp import images
from tlapp.errors import DataError, PictureError
from tlapp.ui import answers, pieces, shelf

MOST_BYTES = 4 * 1024**2
_STRANGE = "That picture is not one that this page sent. Reload the page."


def live_view() -> gr.HTML:
    """The view; its value is the id of the run that answers."""
    return gr.HTML(
        html_template=_beside("camera.html"),
        css_template=_beside("camera.css"),
        js_on_load=_beside("camera.js"),
        apply_default_css=False,
        server_functions=[classify],
        elem_id="live",
    )


def classify(sent: Any) -> dict[str, str]:
    """The answer to [picture as a data URI, id of the run] as {"html"}, or a sentence as {"error"}."""
    try:
        pixels, run = _picture(sent)
        answer = shelf.predictor(shelf.answering(run)).predict(pixels, "camera")
        return {"html": answers.beside_camera(answer)}
    except PictureError as error:
        return {"error": f"The camera's picture {error}."}
    except Exception as error:
        return {"error": pieces.sentence(error)}


def _picture(sent: Any) -> tuple[Any, str]:
    if not isinstance(sent, list) or len(sent) != 2 or not all(isinstance(part, str) for part in sent):
        raise DataError(_STRANGE)
    kind, _, coded = sent[0].partition(",")
    if kind != "data:image/jpeg;base64" or len(coded) > MOST_BYTES:
        raise DataError(_STRANGE)
    try:
        data = base64.b64decode(coded, validate=True)
    except ValueError:
        raise DataError(_STRANGE) from None
    return images.load(data), sent[1]


def _beside(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8")
