"""Small pieces of HTML. Every name that comes from outside goes through `text`, so it is shown literally."""

from __future__ import annotations

import functools
import html
import re
from collections.abc import Callable, Iterable
from typing import Any, ParamSpec, TypeVar

import gradio as gr

from tlapp import evaluate, journal, memory
from tlapp.errors import UserError, WeightsError, explain_oserror, printable

REMEDY = "In 2 Train you can fetch them, use a file of yours, or choose EfficientNet-Lite0, which is included."
"""Where weights are missing or could not be fetched."""
NO_PATHS = "This page is open to other machines, so it takes no paths of this one. Send the photos: a folder or a zip."

P = ParamSpec("P")
R = TypeVar("R")


def text(value: object) -> str:
    """Escaped for HTML and attributes, control characters made visible."""
    return html.escape(printable(str(value)), quote=True)


def words(sentence: str) -> str:
    """A sentence, escaped; names between backquotes in code's letters."""
    return re.sub("`([^`]+)`", r"<code>\1</code>", text(sentence))


def notice(kind: str, sentence: str, *, more: str = "") -> str:
    """A sentence in a box; `kind` is "info", "warn" or "error". `more` is HTML."""
    role = ' role="alert"' if kind == "error" else ""
    return f'<div class="tl-notice tl-{kind}"{role}>{words(sentence)}{more}</div>' if sentence else ""


def picture(source: str, description: str, caption: str = "") -> str:
    """A square photo with alt text; `caption` is HTML."""
    below = f"<figcaption>{caption}</figcaption>" if caption else ""
    image = f'<img src="{source}" alt="{text(description)}">' if source else '<div class="tl-blank"></div>'
    return f'<figure class="tl-photo">{image}{below}</figure>'


def progress(words: str, done: float, total: float) -> str:
    """A bar with words over it; without a known total, an empty one."""
    share = 100 * done / total if total else 0
    known = f'aria-valuenow="{share:.0f}" ' if total else ""
    return (
        f'<div class="tl-progress"><span>{text(words)}</span>'
        f'<div class="tl-track" role="progressbar" {known}aria-label="{text(words)}">'
        f'<div style="width:{share:.1f}%"></div></div></div>'
    )


def table(head: Iterable[str], rows: Iterable[Iterable[object]], caption: str) -> str:
    """A plain table; numbers are aligned right by their class."""
    top = "".join(f'<th scope="col">{text(name)}</th>' for name in head)
    body = "".join("<tr>" + "".join(f"<td>{text(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return (
        f'<div class="tl-scroll"><table class="tl-table"><caption>{text(caption)}</caption>'
        f"<thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def section(title: str, body: str) -> str:
    """A titled part of a page; `body` is HTML."""
    return f"<section><h2>{text(title)}</h2>{body}</section>"


percent = evaluate.percent


def plausibly(accuracy: float, n: int) -> str:
    """What chance allows of an accuracy on n photos: "plausibly 90–97 %"."""
    return evaluate.plausibly(evaluate.interval(accuracy, n))


def count(n: int, noun: str) -> str:
    """`n` with its noun in the right number."""
    plural = noun[:-1] + "ies" if noun.endswith("y") else noun + ("es" if noun.endswith("s") else "s")
    return f"{n:,} {noun if n == 1 else plural}"


def sentence(error: Exception) -> str:
    """What to tell the person of any exception; a fault of the program leaves its details in the workspace."""
    if isinstance(error, WeightsError) and error.remedy:
        return f"{error.what} {REMEDY}"
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, OSError):
        return explain_oserror(error)
    if memory.is_short(error):
        return memory.SHORT
    if memory.is_gpu_lost(error):
        return memory.GPU_LOST
    return f"A fault of the program ({type(error).__name__}). {journal.fault(error)}"


def guarded(handler: Callable[P, R]) -> Callable[P, R]:
    """The handler, with every exception shown on the page as one sentence."""

    @functools.wraps(handler)  # Gradio looks at the parameters
    def safe(*arguments: Any, **named: Any) -> Any:
        try:
            return handler(*arguments, **named)
        except gr.Error:
            raise
        except Exception as error:
            raise gr.Error(text(sentence(error)), print_exception=False) from None

    return safe
