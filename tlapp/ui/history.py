"""All runs, in tab 3: named, annotated, deleted with Undo, compared with another, and their settings used again.

Knows `tlapp.history` and `compare`; what a finished run is worth is `results`'s.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr

from tlapp import catalog, evaluate, history, runs, workspace
from tlapp.compare import compare
from tlapp.errors import RunError, printable
from tlapp.runs import Run
from tlapp.ui import pieces, shelf
from tlapp.ui.frame import EACH, QUIET, Step, listed
from tlapp.ui.versus import versus

ELSEWHERE = (
    "The zip of a model that was exported, here or on another machine, or of a run's folder, becomes a run of here."
)
COLUMNS = ("Run", "Name", "State", "Photos of", "Test", "Backbone", "What learns", "Time")
CHOOSE = """
let down = null;
const at = (event) => document.elementFromPoint(event.clientX, event.clientY)?.closest('#runs [data-run]')?.dataset.run;
element.addEventListener('pointerdown', (event) => { down = event.button ? null : at(event); });
element.addEventListener('pointerup', (event) => {
  if (down && at(event) === down) trigger('select', {run: down});
  down = null;
});
element.addEventListener('click', (event) => {
  const row = event.target.closest('[data-run]');
  if (row && !event.detail) trigger('select', {run: row.dataset.run});
});
"""
"""A press may begin on a row and end on its successor, as leaving a name saves it; keys click alone."""


class Panel(NamedTuple):
    """What the results tab needs of the panel.

    Attributes:
        table: its `select` is a choice by hand.
        chosen: id of the run that is named, deleted, compared.
        chose: the event after which `chosen` is what the person chose in the table.
        changed: events after which there are other runs than before.
        arrived: those of them after which `chosen` is a run that was brought back, or came from elsewhere.
        refresh: lists the runs; `chosen` follows the run that is shown above where that has changed.
        load, go_on: the buttons that ask for the settings of `chosen`, and for a run that continues it.
    """

    table: gr.HTML
    chosen: gr.Textbox
    chose: Any
    changed: list[Any]
    arrived: list[Any]
    refresh: Step
    load: gr.Button
    go_on: gr.Button


def build(pick: gr.Dropdown) -> Panel:
    """Lay the panel out below the results of the run `pick`, and wire it."""
    with gr.Accordion("All runs", open=True, elem_id="history"):
        table = gr.HTML(elem_id="runs", js_on_load=CHOOSE)
        with gr.Row(elem_id="from-elsewhere"):
            bundle = gr.UploadButton(
                "Open a bundle", size="sm", file_types=[".zip"], scale=0, min_width=140, elem_id="open-bundle"
            )
            gr.HTML(f'<p class="tl-hint">{ELSEWHERE}</p>')
        with gr.Row(visible=False, elem_id="deleted") as deleted:
            said = gr.HTML()
            undo = gr.Button("Undo", size="sm", scale=0, min_width=90, elem_id="undo-delete")
        with gr.Column(visible=False, elem_id="one-run") as box:
            head = gr.HTML(elem_id="one-run-title")
            with gr.Row():
                name = gr.Textbox(label="Name", max_length=history.MOST_NAME, min_width=240, elem_id="run-name")
                note = gr.Textbox(
                    label="Note", lines=1, max_lines=8, max_length=history.MOST_NOTE, scale=2, min_width=300,
                    elem_id="run-note",
                )  # fmt: skip
            with gr.Row():
                load = gr.Button(
                    "Load these settings into 2 Train", size="sm", scale=0, min_width=240, elem_id="load-settings"
                )
                go_on = gr.Button("Continue from this model", size="sm", scale=0, min_width=190, elem_id="continue")
                delete = gr.Button("Delete this run", size="sm", scale=0, min_width=140, elem_id="delete-run")
            other = gr.Dropdown([], value=None, label="Compare with", elem_id="compare-with", interactive=True)
            compared = gr.HTML(elem_id="compared")
    chosen, gone = gr.Textbox("", visible=False), gr.Textbox("", visible=False)
    seen = gr.State(())  # what the list above may stand at without this panel following it
    one = [chosen, table, box, head, name, note, other, compared]

    @pieces.guarded
    def choose(shown: str | None, event: gr.EventData) -> list[Any]:
        run = shelf.run(event.run)
        return [*_one(run), (shown, run.id) if run and run.has_model() else gr.skip()]

    @pieces.guarded
    def refresh(shown: str | None, before: tuple[str | None, ...], own: str, with_: str | None) -> list[Any]:
        now = shelf.run(shown) if shown not in before else None
        run = now or shelf.run(own) or shelf.run(shown) or shelf.newest()
        if run is None or run.id != own:
            return [*_one(run), (shown,)]
        others = _others(run)
        kept = with_ if any(with_ == value for _, value in others) else None
        return [
            gr.skip(), _table(run), *[gr.skip()] * 4, listed(others, kept, with_),
            gr.skip() if kept == with_ else "", (shown,),
        ]  # fmt: skip

    @pieces.guarded
    def save(own: str, text: str, words: str) -> list[Any]:
        run = shelf.run(own)
        if run is None or history.about(run) == history.describe(run, text, words):
            return [gr.skip(), gr.skip()]
        return [_table(run), gr.Dropdown(models())]

    @pieces.guarded
    def remove(own: str) -> list[Any]:
        run = shelf.run(own)
        if run is None:
            raise RunError("That run is gone already.")
        words = f"Run {title(run)} is deleted. It can be brought back for {history.KEPT_DAYS} days: here, or with "
        history.remove(run)
        command = f"`tlapp runs restore {run.id}`."
        return [gr.Row(visible=True), pieces.notice("info", words + command), run.id]

    @pieces.guarded
    def bring_back(name: str) -> list[Any]:
        return [gr.Row(visible=False), "", "", *_one(history.restore(workspace.home(), name))]

    @pieces.guarded
    def open_bundle(file: str) -> list[Any]:
        from tlapp import bundles

        try:
            run = bundles.import_run(file, shown_as=f"`{Path(file).name}`")
        finally:
            Path(file).unlink(missing_ok=True)
        return _one(run)

    @pieces.guarded
    def show_difference(own: str, name: str | None) -> str:
        run, before = shelf.run(own), shelf.run(name)
        if run is None or before is None:
            raise RunError("That run is gone. Choose another one.")
        return versus(compare(before, run))

    chose = table.select(choose, pick, [*one, seen], **EACH)
    for event in (name.blur, name.submit, note.blur):
        event(save, [chosen, name, note], [table, pick], **QUIET)
    removed = delete.click(remove, chosen, [deleted, said, gone], **QUIET)
    back = undo.click(bring_back, gone, [deleted, said, gone, *one], **QUIET)
    opened = bundle.upload(open_bundle, bundle, one, **QUIET)
    other.input(show_difference, [chosen, other], compared, **QUIET)
    refreshes = Step(refresh, [pick, seen, chosen, other], [*one, seen])
    return Panel(table, chosen, chose, [removed, back, opened], [back, opened], refreshes, load, go_on)


def _one(run: Run | None) -> list[Any]:
    """New values of all that is about the chosen run."""
    if run is None:
        return ["", _table(None), gr.Column(visible=False), "", "", "", gr.Dropdown([], value=None), ""]
    about = history.about(run)
    head = f"<h3>Run {pieces.text(run.id)}</h3>"
    others = gr.Dropdown(_others(run), value=None)
    return [run.id, _table(run), gr.Column(visible=True), head, about.name, about.note, others, ""]


def _others(run: Run) -> list[tuple[str, str]]:
    """The runs to compare with, newest first."""
    every = reversed(runs.all_runs(workspace.home()))
    return [(title(other), other.id) for other in every if other != run]


def title(run: Run) -> str:
    """The run's id, and its name if it has one."""
    name = history.about(run).name
    return f"{run.id} · {name}" if name else run.id


def models() -> list[tuple[str, str]]:
    """The runs that can predict, newest first, as a list to choose from shows them, with their ids."""
    return [
        (f"{title(m.run)} · {evaluate.brief(m.accuracy, m.n_test)} · {printable(Path(m.source).name)}", m.run.id)
        for m in shelf.models()
    ]


def _table(chosen: Run | None) -> str:
    """All runs, newest first; each is chosen by a click or by its button."""
    every = runs.all_runs(workspace.home())
    if not every:
        return '<p class="tl-hint">No run yet. Every run that you start is kept and listed here.</p>'
    head = "".join(f'<th scope="col">{name}</th>' for name in COLUMNS)
    body = "".join(_row(run, run == chosen) for run in reversed(every))
    return (
        f'<div class="tl-runs" tabindex="-1"><table class="tl-table"><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _row(run: Run, is_chosen: bool) -> str:
    cells = [pieces.text(cell) for cell in _cells(run)]
    body = "".join(f'<td data-of="{name}">{cell}</td>' for name, cell in zip(COLUMNS[1:], cells, strict=True))
    button = f'<button type="button" aria-pressed="{str(is_chosen).lower()}">{pieces.text(run.id)}</button>'
    look = ' class="tl-chosen"' if is_chosen else ""
    return f'<tr data-run="{pieces.text(run.id)}"{look}><td data-of="Run">{button}</td>{body}</tr>'


def _cells(run: Run) -> tuple[str, ...]:
    return _as_it_stands(run, run.is_live(), run.stamp())


@functools.lru_cache(maxsize=1024)
def _as_it_stands(run: Run, is_live: bool, _stamp: Any) -> tuple[str, ...]:
    try:
        plan, report = run.plan, run.report() if run.has_model() else None
        test, time = "–", "–"
        if report:
            test, time = evaluate.brief(report["accuracy"], report["n_test"]), _time(report["seconds"])
        header, backbone = run.header(), catalog.get(plan.backbone).title
        source = printable(Path(header["source"]).name) + (", from elsewhere" if "origin" in header else "")
        state = "waiting" if is_live and run.waits_for() else run.state()
        return (history.about(run).name, state, source, test, backbone, history.approach(plan), time)
    except (RunError, KeyError, TypeError):
        return (history.about(run).name, "damaged", *["–"] * (len(COLUMNS) - 3))


def _time(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
