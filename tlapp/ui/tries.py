""" "Try them for me": which blocks to freeze, by trying, within the seconds that the person allows.

Shows what every depth gave and cost, and fills the ticks with the best. Knows `tune`; starts no runs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import gradio as gr

from tlapp import catalog, evaluate, jobs
from tlapp.dataset import Dataset
from tlapp.errors import DataError, UserError
from tlapp.plan import Plan
from tlapp.tasks import Report, Task
from tlapp.ui import pieces
from tlapp.ui.frame import SILENT, Waiting

if TYPE_CHECKING:
    from tlapp.tune import Trial, Tuned

SECONDS = 120
_trying = Waiting("Trying was cancelled; nothing has changed.")


class Panel(NamedTuple):
    """The panel's components."""

    go: gr.Button
    budget: gr.Number
    cancel: gr.Button
    said: gr.HTML


def build() -> Panel:
    """Lay the panel out."""
    with gr.Row(elem_id="tries"):
        go = gr.Button("Try them for me", size="sm", scale=0, min_width=140, elem_id="try-them")
        budget = gr.Number(
            SECONDS, label="Seconds it may take", precision=0, minimum=5, maximum=36_000, scale=0, min_width=190,
            elem_id="try-budget",
        )  # fmt: skip
        cancel = gr.Button("Cancel", size="sm", visible=False, scale=0, min_width=90, elem_id="try-cancel")
    return Panel(go, budget, cancel, gr.HTML(elem_id="tried"))


def wire(
    panel: Panel, inputs: set[Any], read: Callable[[dict[Any, Any]], tuple[Dataset | None, Plan]], fills: dict[str, Any]
) -> Any:
    """Connect the button; returns the event after which the settings may have changed.

    Args:
        read: values by component → the photos and the plan that the page shows.
        fills: components for "blocks", "solver" and "fine_tune_rate".
    """
    panel.cancel.click(_trying.cancel, None, None, queue=False)

    def follow(values: dict[Any, Any], request: gr.Request) -> Iterator[dict[Any, Any]]:
        try:
            found, plan = read(values)
            if found is None:
                raise DataError("There are no photos yet. Load them in the Data tab.")
            plan.split(found)
            if not plan.weights:
                catalog.check_weights(catalog.get(plan.backbone))
        except (UserError, OSError) as error:
            yield {panel.said: pieces.notice("error", pieces.sentence(error))}
            return
        budget = float(values[panel.budget] or SECONDS)
        for told in _trying.follow(request, lambda report: _sweep(found, plan, budget, report), _so_far):
            changed: dict[Any, Any] = {panel.said: told.words, panel.cancel: gr.Button(visible=not told.over)}
            if told.answer:
                best = told.answer.plan
                changed |= {panel.said: chart(told.answer), fills["blocks"]: list(best.frozen)}
                changed |= {fills["solver"]: best.solver, fills["fine_tune_rate"]: best.fine_tune_rate}
            yield changed

    return panel.go.click(follow, inputs | {panel.budget}, [panel.said, panel.cancel, *fills.values()], **SILENT)


def _sweep(found: Dataset, plan: Plan, budget: float, report: Report) -> Tuned:
    """The sweep, reporting the seconds that have passed. Raises DataError where there was no time for anything."""
    from tlapp import tune

    started, what = time.monotonic(), "Starting"

    def look() -> bool:
        report(min(time.monotonic() - started, budget), budget, what)
        return False

    answer: Tuned | None = None
    with jobs.alone(waiting=lambda: report(0, budget, "The instant model comes first")):
        for step in tune.sweep(found, plan, budget, look):
            if isinstance(step, tune.Tuned):
                answer = step
            elif isinstance(step, tune.Trial):
                what = f"{tune.named(step)}: {evaluate.brief(step.accuracy, step.n)} validation"
            else:
                what = step.stage.capitalize()
            look()
    if answer is None:
        raise DataError(f"In {budget:.0f} s nothing could be tried. Allow more seconds.")
    return answer


def _so_far(task: Task[Any]) -> str:
    return f"{task.what or 'Starting'} · {task.done:.0f} of {task.total:.0f} s"


def chart(tuned: Tuned) -> str:
    """A row for each trial: what learned, its accuracy with interval as a bar, what it cost; as HTML."""
    lowest = min(_interval(trial)[0] for trial in tuned.trials)
    start = min(0.9, max(0.0, int(10 * lowest) / 10))
    trials = sorted(tuned.trials, key=lambda trial: (len(trial.learning), trial.rate))
    rows = "".join(_row(trial, start, trial == tuned.best) for trial in trials)
    bar = f"Validation accuracy, {evaluate.percent(start)} to 100 %"
    head = "".join(f'<th scope="col">{name}</th>' for name in ("Learns", bar, "", "Rate", "Training", "Memory"))
    photos = pieces.count(tuned.best.n, "validation photo")
    what = f"The bar ends at the accuracy on the {photos}; the thin line is its 95 % interval. "
    words = "Where the lines overlap, the difference may be chance. The ticks below are set to the marked row."
    return (
        f'<div class="tl-scroll"><table class="tl-table tl-trials"><caption>{what}{words}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _interval(trial: Trial) -> tuple[float, float]:
    return evaluate.interval(trial.accuracy, trial.n)


def _row(trial: Trial, start: float, is_best: bool) -> str:
    from tlapp import tune

    def place(share: float) -> float:
        return 100 * (max(share, start) - start) / (1 - start)

    low, high = map(place, _interval(trial))
    bar = (
        f'<div class="tl-range"><div style="width:{place(trial.accuracy):.1f}%"></div>'
        f'<i style="left:{low:.1f}%;width:{high - low:.1f}%"></i></div>'
    )
    score = evaluate.brief(trial.accuracy, trial.n)
    rate = f"{trial.rate:g}" if trial.rate else "exact"
    took = f"{trial.seconds:.0f} s{', cut short' if trial.is_cut else ''}"
    memory = f"{trial.megabytes:.0f} MB" if trial.megabytes else "–"
    name = pieces.text(tune.named(trial)) + (" ✓" if is_best else "")
    cells = "".join(f"<td>{cell}</td>" for cell in (bar, score, rate, took, memory))
    return f'<tr class="{"tl-best" if is_best else ""}"><th scope="row">{name}</th>{cells}</tr>'
