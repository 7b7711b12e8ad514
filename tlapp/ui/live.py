"""Tab 2, lower part, and the strip below all tabs: a run while it lives, replayed from its record by a timer.

The page only looks: closing it changes nothing. Stop and Resume go through `jobs`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr

from tlapp import evaluate, jobs, workspace
from tlapp.errors import RunError
from tlapp.events import RunFailed, RunFinished, RunStopped
from tlapp.plan import instant, instant_of, too_few_to_tune
from tlapp.runs import Run
from tlapp.ui import pieces, shelf
from tlapp.ui.curve import curve
from tlapp.ui.frame import QUIET, SILENT, Mine, Step, Tab
from tlapp.ui.overlay import single
from tlapp.ui.shelf import Record

SECONDS = 1.0
RISES_WORTH_SAYING = 5
OLD = " old"
"""Ends what a page remembers of a run that had ended before it looked first: that end is no news."""


class Strip(NamedTuple):
    """What stands below all tabs while a run lives. The timer is part of it, as a tab not yet opened has none."""

    row: gr.Row
    words: gr.HTML
    stop: gr.Button
    tick: gr.Timer


class Shared:
    """What a handler said a moment ago, for all tabs that ask the same: whether a run lives takes 30 ms to find out."""

    def __init__(self, handler: Callable[..., Any]) -> None:
        self._handler, self._said, self._one = handler, dict[Any, tuple[float, Any]](), threading.Lock()

    def __call__(self, *given: Any) -> Any:
        """The handler's answer, half a timer's time old at most."""
        key = (workspace.home(), *map(repr, given))
        with self._one:
            now = time.monotonic()
            self._said = {asked: said for asked, said in self._said.items() if now - said[0] < SECONDS / 2}
            if key not in self._said:
                self._said[key] = now, self._handler(*given)
            return self._said[key][1]


def strip() -> Strip:
    """Lay the strip out, hidden."""
    with gr.Row(elem_id="strip", visible=False) as row:
        words = gr.HTML()
        stop = gr.Button("Stop", size="sm", scale=0, min_width=90, elem_id="strip-stop")
    return Strip(row, words, stop, gr.Timer(SECONDS, active=False))


def build(mine: Mine, below: Strip) -> Tab:
    """Lay the panel out and connect it with the strip; its refresh looks for a run to show."""
    with gr.Row(elem_id="run"):
        with gr.Column(scale=3, min_width=300):
            plot = gr.HTML(curve([], 1), elem_id="plot")
        with gr.Column(scale=1, min_width=250):
            status = gr.HTML(elem_id="status")
            leave = gr.Button("Do not wait: take my run out", visible=False, elem_id="leave-line")
            with gr.Row():
                stop = gr.Button("Stop", visible=False, min_width=90, elem_id="stop")
                resume = gr.Button("Resume", visible=False, min_width=90, elem_id="resume")
            to_test = gr.Button("Test it on a photo", visible=False, elem_id="to-test")
            take = gr.Button("Take the instant model", visible=False, elem_id="take-instant")
    drawn, ended = gr.Textbox(OLD, visible=False), gr.Textbox("", visible=False)
    outputs = [plot, drawn, status, stop, resume, to_test, take, below.tick, ended, below.row, below.words, leave]

    @pieces.guarded
    def view(name: str, before: str) -> list[Any]:
        run = _shown(name, before)
        try:
            return _view(shelf.record(run) if run else None, before, _queued(name, run))
        except RunError as error:  # a damaged record must not be read again every second
            return [gr.skip(), "", pieces.notice("error", str(error)), *_nothing_lives()]

    @pieces.guarded
    def leave_line(name: str, before: str) -> list[Any]:
        """Stop this browser's own run, which waits; the one that is shown goes on."""
        if own := shelf.run(name):
            jobs.stop(own)
        return view(name, before)

    @pieces.guarded
    def ask_to_stop(name: str, before: str) -> list[Any]:
        if run := _shown(name, before):
            jobs.stop(run)
        return view(name, before)

    @pieces.guarded
    def go_on(name: str, before: str) -> str:
        run = _shown(name, before)
        if run is None:
            raise RunError("There is no run to go on with. Start one with Train.")
        return jobs.resume(run).id

    looks = Step(view, [mine.run, drawn], outputs)
    shared = Shared(view)

    def look(name: str, before: str) -> list[Any]:
        return shared(name, before)

    below.tick.tick(look, looks.inputs, outputs, queue=False, **SILENT)
    for button in (stop, below.stop):
        button.click(ask_to_stop, looks.inputs, outputs, **QUIET)
    leave.click(leave_line, looks.inputs, outputs, **QUIET)
    looks.after(resume.click(go_on, [mine.run, drawn], mine.run, **QUIET))
    taken = take.click(pieces.guarded(_take_instant), [mine.run, drawn, mine.dataset], mine.run, **QUIET)
    Step(lambda name: view(name, ""), mine.run, outputs).after(taken)  # whatever was looked at before
    return Tab([looks], [ended, taken], to_test)


def _take_instant(name: str, before: str, dataset: str) -> str:
    """The instant model of the photos that the shown run learned from, made if there is none yet."""
    run = _shown(name, before)
    photos = (shelf.dataset_of(run) if run else None) or shelf.dataset(dataset)
    if photos is None:
        raise RunError("The photos of this run are gone from the workspace. Load them again.")
    wanted = instant_of(run.plan) if run else instant(photos)
    made = shelf.instant(photos, wanted) or jobs.start(photos, wanted)
    return made.id


def _shown(name: str, before: str) -> Run | None:
    """The run to look at: the one that trains; else the newer of this browser's own and what was looked at before."""
    own, looked_at = shelf.run(name), shelf.run(before.partition(" ")[0])
    seen = [run for run in (own, looked_at) if run]
    return shelf.live() or max(seen, key=lambda run: run.id, default=None) or shelf.newest()


def _queued(name: str, shown: Run | None) -> str:
    """Where this browser's own run waits behind the one that is shown."""
    own = shelf.run(name)
    if own is None or own == shown or own.stop_asked() or not own.is_live():
        return ""
    place = max(1, shelf.record(own).place)
    return pieces.notice("info", f"Run {own.id} waits its turn: {pieces.count(place, 'run')} before it.")


def _nothing_lives() -> list[Any]:
    """The values behind the status where no run can be stopped or resumed."""
    hidden = gr.Button(visible=False)
    return [hidden] * 4 + [gr.Timer(active=False), "", gr.Row(visible=False), "", hidden]


def _view(record: Record | None, before: str, queued: str) -> list[Any]:
    """New values of all outputs; the curve is left alone where it is as it was, so that its hover stays."""
    if record is None:
        words = pieces.notice("info", "No run yet. Press Train, and its curves appear here.")
        return [curve([], 1), "", words, *_nothing_lives()]
    curve_of = f"{record.run.id} {len(record.epochs)} {record.n_epochs} {record.delivered} {record.live} "
    now = f"{curve_of}{record.position}"
    is_old = not record.live and before in (OLD, now + OLD)
    return [
        gr.skip() if before.startswith(curve_of) else single(record),
        now + OLD if is_old else now,
        _about(record) + _status(record) + queued,
        gr.Button(visible=record.live),
        gr.Button(visible=record.can_resume),
        gr.Button(visible=not record.live and record.run.has_model()),
        gr.Button(visible=_instant_is_better(record)),
        gr.Timer(active=record.live),
        "" if record.live or is_old else f"{record.run.id} {record.position}",
        gr.Row(visible=record.live),
        _strip(record),
        gr.Button(visible=bool(queued)),
    ]


def _about(record: Record) -> str:
    """Which run this is: its photos and what learns."""
    plan = record.run.plan
    what = ", ".join([*plan.learning, "head"]) if plan.frozen else "everything"
    if plan.head_only:
        what = "head alone"
    kinds = {"auto": "The head exactly, then the last stage if it helps", "exact": "The head exactly"}
    how = "Instant model" if plan.is_instant else kinds.get(plan.solver, f"Learns: {what}")
    how += ", with grey bars" if plan.framing == "letterbox" else ""
    source = Path(record.run.header()["source"]).name
    return f'<p class="tl-file">Run {pieces.text(f"{record.run.id}, on {source}. {how}.")}</p>'


def _status(record: Record) -> str:
    """Where the run stands, in HTML."""
    if record.live:
        return _facts(record) + _doing(record) + pieces.notice("warn", _worry(record))
    end = record.end
    if isinstance(end, RunFinished):
        words = f"<p>{_how(record, end)}</p>" + pieces.notice("info", _verdict(record))
        words += pieces.notice("warn", _worry(record)) + _compared(record)
        return _score(record, end.accuracy) + words
    if isinstance(end, RunFailed):
        kept = f" The best weights, of epoch {end.best_epoch}, are kept." if end.best_epoch else ""
        return pieces.notice("error", end.message + kept)
    if isinstance(end, RunStopped) and end.accuracy is not None:
        after = (
            f"Stopped after epoch {end.epochs}; the best so far, of epoch {end.best_epoch}, is kept. Resume goes on, "
            "after computing the frozen part again."
        )
        return _score(record, end.accuracy) + pieces.notice("info", after) + _compared(record)
    if isinstance(end, RunStopped):
        return pieces.notice("info", f"Stopped after {pieces.count(end.epochs, 'epoch')}. Resume goes on.")
    epoch = record.epochs[-1].epoch if record.epochs else 0
    after = f"Resume goes on after epoch {epoch}."
    if said := jobs.unsaid(record.run):
        return pieces.notice("error", f"{said} {after}")
    words = "This run broke off without a word: the app was closed or killed in its middle, or the disk was full."
    return pieces.notice("warn", f"{words} {after}")


def _how(record: Record, end: RunFinished) -> str:
    """How the model came about and how long it took."""
    tuned = record.judged is not None and record.judged.kept
    if record.run.plan.solver == "sgd":
        return f"Best epoch {end.best_epoch} of {end.epochs}, {_time(end.seconds)}."
    return f"{'The last stage fine-tuned' if tuned else 'An exact head'}, {_time(end.seconds)}."


def _verdict(record: Record) -> str:
    """What became of fine-tuning, where the run tried it, or why it did not."""
    if record.judged:
        return record.judged.in_words()
    return too_few_to_tune(record.run.plan, record.started.n_train) if record.started else ""


def _instant_is_better(record: Record) -> bool:
    found = None if record.live else _of_both(record)
    return found is not None and found["instant"] > found["run"]


def _of_both(record: Record) -> dict[str, Any] | None:
    """What this run and the instant model, judged on the same photos, are right about; of the latter None."""
    if record.run.plan.is_instant or not record.run.has_model():
        return None
    return record.run.report().get("compared")


def _compared(record: Record) -> str:
    found = _of_both(record)
    if found is None:
        return ""
    better = found["instant"] > found["run"]
    words = evaluate.beside_instant(found, record.run.plan.framing) + (
        " The button takes it instead." if better else ""
    )
    return pieces.notice("warn" if better else "info", words)


def _score(record: Record, accuracy: float) -> str:
    n = record.started.n_test if record.started else 0
    return (
        f'<p class="tl-score">{pieces.percent(accuracy)}</p>'
        f"<p>of the test photos are right: {round(accuracy * n)} of {n}, {pieces.plausibly(accuracy, n)}.</p>"
    )


def _facts(record: Record) -> str:
    """Epoch, best, speed and time left; dashes where nothing is known yet, so that nothing jumps."""
    last, best = record.epochs[-1] if record.epochs else None, record.best if record.epochs else None
    speed = f"{last.photos_per_second:,.0f} photos/s" if last and not record.progress else "–"
    rows = [
        ("Epoch", f"{last.epoch} of {last.epochs} · {last.phase}" if last else "–"),
        ("Best so far", f"{best.validation()} validation, epoch {best.epoch}" if best else "–"),
        ("Speed", speed),
        ("Time left", _left(record)),
    ]
    return "<dl>" + "".join(f"<dt>{name}</dt><dd>{pieces.text(value)}</dd>" for name, value in rows) + "</dl>"


def _left(record: Record) -> str:
    """Of the step that goes on, as far as it is known."""
    if record.place:
        return "–"
    if record.progress:
        left = record.seconds_of_step_left()
        return "–" if left is None else f"{_time(left)} for this step"
    last = record.epochs[-1] if record.epochs else None
    return "–" if last is None or last.seconds_left is None else f"{_time(last.seconds_left)} at most"


def _doing(record: Record) -> str:
    if record.run.stop_asked():
        return pieces.progress("Stopping; the best so far is kept", 0, 0)
    if record.place:
        return pieces.progress(f"Waits its turn: {pieces.count(record.place, 'run')} before it", 0, 0)
    if record.progress:
        p = record.progress
        return pieces.progress(f"{p.stage.capitalize()}: {p.done:,} of {p.total:,}", p.done, p.total)
    if record.epochs and record.judged:
        return pieces.progress(_verdict(record), 0, 0)
    if record.trying and record.epochs and record.epochs[-1].phase == "head":
        time = _time(record.trying.seconds)
        return pieces.progress(f"Fine-tuning {record.trying.blocks} is tried, {time} at most", 0, 0)
    if record.epochs:
        return pieces.progress("Training", record.epochs[-1].epoch, record.epochs[-1].epochs)
    return pieces.progress("Starting", 0, 0)


def _worry(record: Record) -> str:
    """A plain sentence when something is off."""
    if not record.epochs or record.best is None or record.run.plan.solver != "sgd":
        return ""
    last, best = record.epochs[-1], record.best
    rises, patience = last.epoch - best.epoch, record.run.plan.patience if _may_stop_early(record) else 0
    if rises < RISES_WORTH_SAYING or last.train_loss >= best.train_loss:
        return ""
    what = f"Validation loss has not fallen for {rises} epochs while training loss falls: overfitting"
    if not record.live:
        return f"{what}. The weights of epoch {best.epoch} are kept. More augmentation or more photos help."
    return f"{what}; early stopping ends this in {max(patience - rises, 0)}." if patience else f"{what}."


def _may_stop_early(record: Record) -> bool:
    """Patience counts in the last phase alone: while the head learns before fine-tuning, nothing ends early."""
    plan = record.run.plan
    return plan.solver == "sgd" and (plan.head_only or record.epochs[-1].phase == "fine-tune")


def _strip(record: Record) -> str:
    """Three parts, which on a phone are three lines, whether there is something to say or not."""
    last, left, score = record.epochs[-1] if record.epochs else None, _left(record), ""
    if record.place:
        words = f"waits for {pieces.count(record.place, 'run')}"
    elif record.progress:
        words = f"{record.progress.stage}: {record.progress.done:,} of {record.progress.total:,}"
    elif last:
        words, score = f"epoch {last.epoch} of {last.epochs}", f"validation {last.validation()}"
    else:
        words = "starting"
    parts = f"Run {record.run.id} · {words}", score, "" if left == "–" else left
    return f'<p class="tl-strip">{"".join(f"<span>{pieces.text(part)}</span>" for part in parts)}</p>'


def _time(seconds: float) -> str:
    from tlapp import estimate

    return estimate.in_words(seconds)
