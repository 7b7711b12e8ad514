"""What lies on the disk, in tab 3: what could go, with sizes, a tick for each kind, and what was deleted.

Knows `tlapp.cleanup`, which decides what may go; counting and deleting happen on a thread, once the panel is opened.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import gradio as gr

from tlapp import cleanup, room, workspace
from tlapp.cleanup import Done, Kind
from tlapp.errors import printable
from tlapp.tasks import Report, Task
from tlapp.ui import pieces
from tlapp.ui.frame import QUIET, SILENT, Waiting

MOST = 200
"""Items of a kind that are named."""

NONE = "Nothing can go: all that lies in the workspace is needed, or was looked at within a day."
_counting = Waiting("It was given up; nothing more is deleted.")


class Panel(NamedTuple):
    """The panel's components. `planned`: what was found, as it was when it was counted."""

    box: gr.Accordion
    where: gr.HTML
    said: gr.HTML
    ticks: gr.CheckboxGroup
    items: gr.HTML
    go: gr.Button
    again: gr.Button
    planned: gr.State

    @property
    def shown(self) -> list[Any]:
        """What a count fills."""
        return [self.where, self.said, self.ticks, self.items, self.go, self.again, self.planned]


def build(dataset: gr.BrowserState, takes_paths: bool) -> Any:
    """Lay the panel out, folded up, and return the event of a deletion.

    `dataset`: the photos that the page shows, which stay. `takes_paths`: whether who sees the page sits at this
    machine, as in `build_app`, and so is told where the workspace lies.
    """
    with gr.Accordion("What lies on the disk", open=False, elem_id="disk") as box:
        where, said = gr.HTML(elem_id="disk-where"), gr.HTML(elem_id="disk-said")
        ticks = gr.CheckboxGroup([], label="What may go for good", visible=False, elem_id="disk-kinds")
        items = gr.HTML(elem_id="disk-items")
        with gr.Row():
            go = gr.Button("Delete", size="sm", variant="stop", visible=False, scale=0, min_width=220, elem_id="clean")
            again = gr.Button("Count again", size="sm", visible=False, scale=0, min_width=120, elem_id="count-again")
    panel = Panel(box, where, said, ticks, items, go, again, gr.State(()))

    def count(shown: str, request: gr.Request) -> Iterator[list[Any]]:
        def work(report: Report) -> tuple[Kind, ...]:
            report(0, 0)
            return cleanup.plan(workspace.home(), _looked_at(shown))

        for told in _counting.follow(request, work, lambda _: "Counting what lies in the workspace…"):
            found = _found(told.answer, "") if told.answer is not None else _meanwhile(told.words)
            yield [_where(takes_paths), *found]

    def delete(kinds: list[str], planned: tuple[Kind, ...], shown: str, request: gr.Request) -> Iterator[list[Any]]:
        def work(report: Report) -> tuple[Done, tuple[Kind, ...]]:
            report(0, 0)
            done = cleanup.apply(workspace.home(), planned, kinds, _looked_at(shown))
            return done, cleanup.plan(workspace.home(), _looked_at(shown))

        for told in _counting.follow(request, work, _deleting):
            found = _found(told.answer[1], _done(told.answer[0])) if told.answer else _meanwhile(told.words)
            yield [_where(takes_paths), *found]

    box.expand(count, dataset, panel.shown, **SILENT)
    again.click(count, dataset, panel.shown, **SILENT)
    ticks.input(_button, [ticks, panel.planned], go, **QUIET)
    return go.click(delete, [ticks, panel.planned, dataset], panel.shown, **SILENT)


def _looked_at(shown: str) -> list[str]:
    return [shown] if shown else []


def _deleting(_: Task[Any]) -> str:
    return "Deleting…"


def _meanwhile(words: str) -> list[Any]:
    """What is behind `where` while it is counted or deleted: nothing can be pressed; where that failed, it can be
    counted again.
    """
    is_over = "tl-progress" not in words
    off = gr.Button(interactive=False)
    return [words, gr.skip(), gr.skip(), off, gr.Button(visible=is_over, interactive=True), gr.skip()]


def _found(kinds: Sequence[Kind], said: str) -> list[Any]:
    """What is behind `where` once it was counted."""
    there = [kind for kind in kinds if kind.items]
    ticked = [kind.name for kind in there if kind.name in cleanup.HARMLESS]
    if not there:
        said += f'<p class="tl-hint">{NONE}</p>'
    return [
        said,
        gr.CheckboxGroup([(_label(kind), kind.name) for kind in there], value=ticked, visible=bool(there)),
        "".join(map(_named, there)),
        _button(ticked, there) if there else gr.Button(visible=False),
        gr.Button(visible=True, interactive=True),
        tuple(kinds),
    ]


def _where(takes_paths: bool) -> str:
    home = workspace.home()
    free = room.free(home)
    left = "" if free is None else f" {room.in_words(free)} are free there."
    named = f", `{printable(str(home))}`" if takes_paths else ""
    words = f"This page and the command line share one workspace{named}.{left}"
    return f'<p class="tl-hint">{pieces.words(words)}</p>'


def _label(kind: Kind) -> str:
    return f"{kind.title}: {pieces.count(len(kind.items), 'item')}, {room.in_words(kind.n_bytes)}. {kind.lost}"


def _named(kind: Kind) -> str:
    """The items of a kind by name, folded up."""
    rows = "".join(f"<li>{pieces.text(i.name)}, {room.in_words(i.n_bytes)}</li>" for i in kind.items[:MOST])
    rest = f"<li>and {len(kind.items) - MOST:,} more</li>" if len(kind.items) > MOST else ""
    head = f"<summary>{pieces.text(kind.title)}, by name</summary>"
    return f'<details class="tl-details">{head}<ul>{rows}{rest}</ul></details>'


def _button(ticked: Sequence[str], kinds: Sequence[Kind]) -> gr.Button:
    """What it would do, in words."""
    chosen = [kind for kind in kinds if kind.name in ticked]
    n, n_bytes = sum(len(kind.items) for kind in chosen), sum(kind.n_bytes for kind in chosen)
    words = f"Delete {pieces.count(n, 'item')}, {room.in_words(n_bytes)}" if n else "Tick what may go"
    return gr.Button(words, visible=True, interactive=n > 0)


def _done(done: Done) -> str:
    said = pieces.notice(
        "info", f"Deleted {pieces.count(len(done.deleted), 'item')}; {room.in_words(done.n_bytes)} are free again."
    )
    stayed = ", ".join(done.kept)
    return said + pieces.notice("warn", f"Kept, as they are needed or have changed since: {stayed}." if stayed else "")
