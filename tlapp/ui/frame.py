"""What the tabs share: the browser's own state, how a tab presents itself to the page, how it waits for work."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import gradio as gr

from tlapp.tasks import Cancelled, Report, Task
from tlapp.ui import pieces

Mine = gr.BrowserState
"""{"dataset": id, "run": id}: what this browser looks at; survives a reload and a restart of the app."""

QUIET: dict[str, Any] = {
    "show_progress": "hidden",
    "concurrency_limit": None,
    "trigger_mode": "always_last",
    "api_visibility": "private",
}
"""For handlers that answer at once: no spinner, no queue behind other tabs, the last value never lost."""


@dataclass(frozen=True)
class Tab:
    """A tab that was laid out.

    Attributes:
        refresh: browser state → new values of `outputs`, when what the tab shows has changed.
        outputs: what `refresh` fills.
        changed: events of this tab after which others must refresh.
        next: the button that leads to the following tab, if there is one.
        fields: components that hold settings of the plan, by the setting's name.
        after: (function, inputs, outputs) to run after a refresh, as they take a moment.
    """

    refresh: Callable[[Any], Any]
    outputs: list[Any]
    changed: list[Any] = field(default_factory=list)
    next: gr.Button | None = None
    fields: dict[str, Any] = field(default_factory=dict)
    after: list[tuple[Callable[..., Any], Any, Any]] = field(default_factory=list)


class Top(NamedTuple):
    """The first line of a tab, and the button to what it still lacks."""

    words: gr.HTML
    way: gr.Button


def top(name: str) -> Top:
    """Lay out a tab's first line."""
    with gr.Row(elem_classes="tl-top"):
        words = gr.HTML(elem_id=f"top-{name}")
        way = gr.Button(visible=False, size="sm", scale=0, min_width=140, elem_id=f"way-{name}")
    return Top(words, way)


class Told(NamedTuple):
    """What a page shows of work that it waits for: HTML, whether the work is over, and its answer if it went well."""

    words: str
    over: bool
    answer: Any = None


class Waiting:
    """Work that browsers wait for, one piece each: progress, Cancel, and a sentence if it fails."""

    def __init__(self, cancelled: str) -> None:
        self._cancelled = cancelled
        self._tasks: dict[str, Task[Any]] = {}

    def follow(
        self, request: gr.Request, work: Callable[[Report], Any], words: Callable[[Task[Any]], str]
    ) -> Iterator[Told]:
        """Do the work on a thread and tell how far it is, as `words` puts it. It ends with the page."""
        session = str(request.session_hash)
        task = self._tasks[session] = Task(work)
        try:
            while not task.wait(0.25):
                yield Told(pieces.progress(words(task), task.done, task.total), over=False)
            yield Told("", over=True, answer=task.result())
        except Cancelled:
            yield Told(pieces.notice("info", self._cancelled), over=True)
        except Exception as error:
            yield Told(pieces.notice("error", pieces.sentence(error)), over=True)
        finally:
            task.cancel()
            self._tasks.pop(session, None)

    def cancel(self, request: gr.Request) -> None:
        """End what this browser waits for."""
        task = self._tasks.get(str(request.session_hash))
        if task:
            task.cancel()
