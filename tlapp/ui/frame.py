"""What the tabs share: the browser's own state, how a tab presents itself to the page, how it waits for work."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import gradio as gr

from tlapp.tasks import Cancelled, Report, Task
from tlapp.ui import pieces


class Mine(NamedTuple):
    """Ids of the dataset and the run that a browser looks at; they survive a reload and a restart of the app."""

    dataset: gr.BrowserState
    run: gr.BrowserState


def mine() -> Mine:
    """The browser's state, one value each, so that no handler writes back what another has changed."""
    return Mine(*(gr.BrowserState("", storage_key=f"tlapp-{name}", secret="tlapp") for name in Mine._fields))


SILENT: dict[str, Any] = {"show_progress": "hidden", "show_progress_on": []}
"""For handlers without a spinner. What Gradio may ever show one on, it updates before and after every request, whatever
that is about: with all outputs of all handlers, this took a quarter of the browser's time.
"""

QUIET: dict[str, Any] = {"queue": False, "trigger_mode": "always_last", **SILENT}
"""For handlers that answer at once: no spinner, the last value never lost.

Nothing is queued but what reports progress. Gradio ends a page's stream of queued answers with the last one
that is due; a page that queues another in that moment believes the stream open, and its answer comes with the next.
"""

EACH: dict[str, Any] = {**QUIET, "trigger_mode": "multiple"}
"""For handlers that are told by the event what was pressed: each press is answered, in the order in which that is done.

Where presses wait for the first one's answer, Gradio hands the last of them what the first was told.
"""


@dataclass(frozen=True)
class Step:
    """A handler with what it reads and fills, and how it runs, to be put behind an event."""

    function: Callable[..., Any]
    inputs: Any
    outputs: Any
    how: dict[str, Any] = field(default_factory=lambda: QUIET)

    def after(self, event: Any) -> Any:
        """Put it behind the event; returns the event of its end."""
        return self.on(event.then)

    def on(self, listener: Callable[..., Any]) -> Any:
        """Put it behind what `listener` listens to, such as `button.click`; returns the event of its end."""
        return listener(self.function, self.inputs, self.outputs, **self.how)


def _as_list(parts: Any) -> list[Any]:
    """What a handler reads or fills, one by one."""
    return [] if parts is None else list(parts) if isinstance(parts, list | set) else [parts]


def together(fault: gr.Textbox, *steps: Step) -> Step:
    """The steps as one request; each sees the page as it was before all of them.

    Where one cannot be done, the others are, and `fault` is given its sentence.
    """
    inputs = {part for step in steps for part in _as_list(step.inputs)}
    outputs = dict.fromkeys(part for step in steps for part in _as_list(step.outputs))

    def do(values: dict[Any, Any]) -> dict[Any, Any]:
        filled, said = dict[Any, Any](), list[str]()
        for step in steps:
            try:
                filled |= _answer(step, values)
            except gr.Error as error:
                said.append(str(error.message))
        return {**filled, fault: " ".join(dict.fromkeys(said))}

    return Step(do, inputs, [*outputs, fault])


def _answer(step: Step, values: dict[Any, Any]) -> dict[Any, Any]:
    """What the step fills, by component; what it passes over is left out."""
    takes_all = isinstance(step.inputs, set)
    answer = step.function(values) if takes_all else step.function(*(values[part] for part in _as_list(step.inputs)))
    outputs = _as_list(step.outputs)
    if answer == gr.skip():
        return {}
    if not isinstance(answer, dict) or "__type__" in answer:
        answer = dict(zip(outputs, [answer] if len(outputs) == 1 else answer, strict=True))
    return {part: value for part, value in answer.items() if value != gr.skip()}


class Recall(NamedTuple):
    """How the train tab takes a run's settings back.

    Attributes:
        wanted: id of the run whose settings are asked for, "" once they are there.
        take: does it, if it is asked for and the photos that the page shows are those that are loaded.
        taken: changes when it was done.
    """

    wanted: gr.State
    take: Step
    taken: gr.Number


@dataclass(frozen=True)
class Tab:
    """A tab that was laid out.

    Attributes:
        refresh: what to do when what the tab shows has changed elsewhere, step by step.
        changed: events of this tab after which others must refresh.
        next: the button that leads to the following tab, if there is one.
        start: the button that trains at once, with the settings of another tab, if there is one.
        fields: components that hold settings of the plan, by the setting's name.
        show_whole: the button that has all of a long photo shown to the network, if there is one.
        recall: how a run's settings are taken back, if they are.
        asks: the buttons that ask for that, and for a run that continues; and the id of the run, if there are.
        once_ended: what to do when a run has ended.
        moved: the event of another line for strangers, if it can be moved here.
        follow: has what is shown follow that line, if it must.
    """

    refresh: list[Step]
    changed: list[Any] = field(default_factory=list)
    next: gr.Button | None = None
    start: gr.Button | None = None
    fields: dict[str, Any] = field(default_factory=dict)
    show_whole: gr.Button | None = None
    recall: Recall | None = None
    asks: tuple[gr.Button, gr.Button, gr.Textbox] | None = None
    once_ended: list[Step] = field(default_factory=list)
    moved: Any = None
    follow: Step | None = None


def listed(options: list[tuple[str, str]], value: str | None, before: str | None) -> gr.Dropdown:
    """A list of runs that stands at `value`.

    Where it stood there before, the value is not sent: while this answer was on its way, another may have been chosen.
    """
    return gr.Dropdown(options) if value is not None and value == before else gr.Dropdown(options, value=value)


def choices(
    mine: Mine,
    pick: gr.Dropdown,
    chosen: list[Any],
    refresh: Callable[..., list[Any]],
    outputs: list[Any],
    more: tuple[Any, ...] = (),
) -> list[Step]:
    """Three refreshes of a list of runs: keep what is shown; show this browser's own run; offer it.

    Offered, it gives way to a run that the person chose since these photos were loaded.

    Args:
        chosen: the events by which a person chooses.
        refresh: the run to keep, if any, this browser's own, and the values of `more` → the outputs.
        more: what else the refreshes read; the last of their inputs.
    """
    by_hand = gr.State(None)  # the photos that were there when the person chose
    for event in chosen:
        event(lambda dataset: dataset, mine.dataset, by_hand, **QUIET)

    def show(own: str, *rest: Any) -> list[Any]:
        return [*refresh(None, own, *rest), None]

    def offer(own: str, shown: str | None, dataset: str, chosen_for: str | None, *rest: Any) -> list[Any]:
        return [*refresh(shown if chosen_for == dataset else None, own, *rest), chosen_for]

    return [
        Step(refresh, [pick, mine.run, *more], outputs),
        Step(show, [mine.run, *more], [*outputs, by_hand]),
        Step(offer, [mine.run, pick, mine.dataset, by_hand, *more], [*outputs, by_hand]),
    ]


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
        self._tasks: dict[str, tuple[Task[Any], str]] = {}  # and what each is about

    def follow(
        self, request: gr.Request, work: Callable[[Report], Any], words: Callable[[Task[Any]], str], about: str = ""
    ) -> Iterator[Told]:
        """Do the work on a thread and tell how far it is, as `words` puts it. It ends with the page.

        `about`: what the work is about, for `leave`. Of work that was left or replaced by newer, no more is told.
        """
        session = str(request.session_hash)
        self.cancel(request)
        task = Task(work)
        mine = self._tasks[session] = task, about
        try:
            while not task.wait(0.25) and self._tasks.get(session) is mine:
                yield Told(pieces.progress(words(task), task.done, task.total), over=False)
            yield Told("", over=True, answer=task.result() if self._tasks.get(session) is mine else None)
        except Cancelled:
            yield Told(pieces.notice("info", self._cancelled), over=True)
        except Exception as error:
            yield Told(pieces.notice("error", pieces.sentence(error)), over=True)
        finally:
            task.cancel()
            if self._tasks.get(session) is mine:
                del self._tasks[session]

    def leave(self, about: str | None, request: gr.Request) -> None:
        """End what this browser waits for, if it is about something else, and tell no more of it."""
        session = str(request.session_hash)
        task, its = self._tasks.get(session, (None, about))
        if task and its != about:
            self._tasks.pop(session, None)
            task.cancel()

    def cancel(self, request: gr.Request) -> None:
        """End what this browser waits for."""
        task, _ = self._tasks.get(str(request.session_hash), (None, ""))
        if task:
            task.cancel()
