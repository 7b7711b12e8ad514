"""Tab 3: what finished runs are worth: score, confusion, classes, wrong photos, curves, settings, downloads."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np

from tlapp import evaluate, figures, tables, workspace
from tlapp.errors import RunError
from tlapp.plan import Plan
from tlapp.runs import Run, is_unknown
from tlapp.ui import cleanup, history, matrix, pieces, shelf, sure, takeaway, why
from tlapp.ui.frame import EACH, Mine, Step, Tab, choices, listed
from tlapp.ui.overlay import single
from tlapp.ui.serve import download_of, uploads_folder
from tlapp.ui.shelf import Record

TO_CELL = "() => document.querySelector('#cell section')?.scrollIntoView({block: 'nearest'})"
SAVE = """file => {
  if (file) Object.assign(document.createElement('a'), {href: file.url, download: file.orig_name || ''}).click();
}"""
EMPTY = "No finished run yet. Its score appears here, and below it every photo that it called wrong."
NOTHING = f'<p class="tl-hint">{EMPTY}</p>'
ELSEWHERE = "<p>This run was opened from elsewhere: its score is what it says of itself, and was not measured here.</p>"


def build(mine: Mine, dialog: gr.HTML, takes_paths: bool) -> Tab:
    """Lay the tab out; its refreshes list the runs, as `choices` says.

    `dialog`: that of `why`. `takes_paths`: whether who sees the page sits at this machine, as in `build_app`.
    """
    pick = gr.Dropdown([], label="Run", elem_id="pick-run", interactive=True)
    score = gr.HTML(NOTHING, elem_id="score")
    counts = gr.HTML(elem_id="counts", js_on_load=matrix.PICK)
    cell = gr.HTML(elem_id="cell", js_on_load=matrix.PICK)
    details = gr.HTML(elem_id="details")
    certain = sure.build(pick)
    rest = gr.HTML(elem_id="rest", js_on_load=matrix.PICK)
    with gr.Row(elem_id="downloads"):
        files = [gr.Button(label, size="sm", visible=False, min_width=190) for label in FILES]
        made = gr.DownloadButton("Last file", visible="hidden")
    along = takeaway.build(pick)
    every = history.build(pick)
    cleaned = cleanup.build(mine.dataset, takes_paths)
    now = gr.Textbox("", visible=False)  # which report is shown, as the page itself remembers it
    shown = [score, counts, cell, details, *certain.parts, rest, *files, *along.parts, now]

    @pieces.guarded
    def show(name: str | None, before: str) -> list[Any]:
        run = shelf.run(name)
        offered = [gr.Button(visible=run is not None)] * len(files)
        if run is None:
            return [NOTHING, "", "", "", *certain.show(None), "", *offered, *takeaway.show(None), ""]
        report = run.report()
        key = f"{run.id} {workspace.sha256(run.path / 'report.json')[:16]} {shelf.dataset_of(run) is not None}"
        if key == before:
            return [gr.skip()] * len(shown)
        replaces = before != ""  # two requests may both show the first: the later wipes off nothing opened since
        matrix_and_cell = [matrix.confusion(report), "" if replaces else gr.skip()]
        by_class = pieces.section("Class by class", _per_class(report, list(run.classes)))
        parts = [_score(run), *matrix_and_cell, by_class, *certain.show(run), _rest(run)]
        return [*parts, *offered, *takeaway.show(run, replaces), key]

    @pieces.guarded
    def show_cell(name: str | None, event: gr.EventData) -> str:
        run = shelf.run(name)
        return matrix.of_cell(run, event.pick) if run else ""

    @pieces.guarded
    def show_why(name: str | None, event: gr.EventData) -> Any:
        run = shelf.run(name)
        return _why(run, event.pick) if run else gr.skip()

    @pieces.guarded
    def refresh(name: str | None, own: str, before: str) -> list[Any]:
        chosen = shelf.model(name or own)
        options = history.models()
        value = chosen.run.id if chosen else None
        return [listed(options, value, name), *show(value, before)]

    @pieces.guarded
    def make(make_it: Callable[[Run], Path], name: str | None) -> str:
        run = shelf.run(name)
        if run is None:
            raise RunError("There is no run to make a file of.")
        return str(make_it(run))

    def take_chosen(name: str) -> Any:
        run = shelf.run(name)
        return name if run and run.has_model() else gr.skip()

    shows, takes = Step(show, [pick, now], shown), Step(take_chosen, every.chosen, pick)
    every.refresh.after(shows.on(pick.input))
    counts.select(show_cell, pick, cell, **EACH).then(None, js=TO_CELL)
    for photos in (cell, rest):
        why.open_on(photos.select, show_why, pick, dialog)
    for button, make_it in zip(files, FILES.values(), strict=True):
        button.click(partial(make, make_it), pick, made, queue=False).success(None, made, js=SAVE)
    every.refresh.after(shows.after(takes.after(every.chose)))
    steps = choices(mine, pick, [pick.input, every.table.select], refresh, [pick, *shown], (now,))
    for event in (*every.changed, cleaned):
        listed_again = steps[0].after(event)
        if event in every.arrived:
            listed_again = shows.after(takes.after(listed_again))
        every.refresh.after(listed_again)
    return Tab(
        [*steps, every.refresh],
        [*every.changed, cleaned],
        asks=(every.load, every.go_on, every.chosen),
        moved=certain.moved,
    )


def _score(run: Run) -> str:
    report = run.report()
    n = report["n_test"]
    return (
        f'<p class="tl-score">{pieces.percent(report["accuracy"])}</p>'
        f"<p>of the test photos are right: {round(report['accuracy'] * n)} of {n}, "
        f"{pieces.plausibly(report['accuracy'], n)} of all such photos. They took part in no choice."
        f"{_of_all(report)}</p><p>{_chosen_by(report)}</p>{ELSEWHERE if 'origin' in run.header() else ''}"
    )


def _of_all(report: dict[str, Any]) -> str:
    """What cross-validation says, where it was asked."""
    every = report.get("cross_validated")
    if not every:
        return ""
    right = f"{pieces.percent(every['accuracy'])}, {evaluate.plausibly(every['interval'])}"
    return f" On all {every['n']} photos, {evaluate.UNSEEN}: {right}."


def _chosen_by(report: dict[str, Any]) -> str:
    """On which photos the choices were made, and how the model does there."""
    best, on = pieces.percent(report["validation_accuracy"]), f"On the {report['n_validation']} validation photos"
    if n_learned := report.get("n_validation_learned"):
        on += f", {evaluate.asked(n_learned)}"
    if stated := report.get("validation"):
        best += f", {evaluate.plausibly(stated['interval'])}"
    if "head" not in report:
        return f"{on}, on which epoch {report['best_epoch']} was chosen: {best}."
    if report["fine_tuned"]:
        return f"{on}, on which fine-tuning was judged: {best}."
    seen = "features of several depths" if report["depth"] == "several" else "the last block's features"
    twice = ", each photo asked twice, mirrored too" if report["mirror"] else ""
    n = report["compared"]["n"]
    asked = evaluate.asked(report.get("n_learned", 0))
    return f"A {report['head']} head on {seen}{twice}. On {n} photos, {asked}: {best}."


def _rest(run: Run) -> str:
    record = shelf.record(run)
    return (
        matrix.wrong(run)
        + pieces.section("Curves", single(record) + _became(record))
        + pieces.section("Settings", _settings(run.plan, run.header()["source"]))
    )


def _became(record: Record) -> str:
    """What became of fine-tuning, where the run tried it."""
    return pieces.notice("info", record.judged.in_words()) if record.judged else ""


def _per_class(report: dict[str, Any], classes: list[str]) -> str:
    scores = report["per_class"]
    rows = [[name, *(_share(scores[name], key) for key in ("precision", "recall", "f1")), scores[name]["n"]]
            for name in classes]  # fmt: skip
    words = (
        "Precision: of the photos that the model calls a class, how many are of it. Recall: of the photos of a class, "
        "how many the model finds. F1: both in one number. In brackets: what is plausible with so many photos (95 %)."
    )
    return pieces.table(["Class", "Precision", "Recall", "F1", "Test photos"], rows, words)


def _share(scores: dict[str, Any], key: str) -> str:
    """A share with its interval: "92 % (74–98)"; of reports of an earlier version without."""
    low, high = (round(100 * end) for end in scores.get(f"{key}_interval", (0, 0)))
    share = pieces.percent(scores[key]).replace(" ", "\u00a0")  # the cells of a phone are narrow
    return share + (f" ({low}\u2060–\u2060{high})" if high else "")


def _why(run: Run, number: str) -> str:
    """The dialog on a photo of the report, by its number there."""
    photos, found = run.report()["photos"], shelf.dataset_of(run)
    photo = photos[int(number)] if str(number).isdecimal() and int(number) < len(photos) else None
    index = next((i for i, p in enumerate(found.photos) if photo and p.name == photo["file"]), None) if found else None
    if photo is None or found is None or index is None:
        raise RunError("The photos of this run are gone from the workspace.")
    return why.dialog(run, found.pixels(index), photo["file"], photo["class"])


def _settings(plan: Plan, source: str) -> str:
    rows: list[tuple[str, Any]] = [("source", source), *plan.flat().items()]
    listed = [(name, ", ".join(value) if isinstance(value, list) else value) for name, value in rows]
    table = pieces.table(["Setting", "Value"], listed, "")
    return f'<details class="tl-details"><summary>All settings</summary>{table}</details>'


def _unknown(photo: dict[str, Any], keep: float) -> str:
    """Whether a photo of the report is called none of these: "true", "false", or "" of runs that cannot tell."""
    return {True: "true", False: "false", None: ""}[is_unknown(photo.get("strangeness"), keep)]


def _curves(run: Run) -> Path:
    record = shelf.record(run)
    if not record.epochs:
        raise RunError(f"Run {run.id} came without its epochs, so there are no curves to draw.")
    return _drawn(
        run, "curves.png", partial(figures.curves, record.epochs, best=record.delivered, dropped=record.dropped)
    )


def _confusion(run: Run) -> Path:
    counts = np.array(run.report()["confusion"])
    return _drawn(run, "confusion.png", partial(figures.confusion, counts, run.classes))


def _drawn(run: Run, name: str, draw: Callable[[Path], None]) -> Path:
    """A figure of the run as a file that the page may hand out; drawn again once a file of the run has changed."""
    stamp = hashlib.sha256(repr(run.stamp()).encode()).hexdigest()[:16]
    path = uploads_folder() / "downloads" / f"{run.id}-{stamp}" / name
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        draw(path)
    return path


def _predictions(run: Run) -> Path:
    columns = ["file", "class", "label", "probability", "unknown"]
    photos = run.report()["photos"]
    rows = [[p["file"], p["class"], p["label"], p["probability"], _unknown(p, run.keep())] for p in photos]
    return download_of("predictions.csv", tables.to_csv([columns, *rows]).encode("utf-8", "replace"))


def _report(run: Run) -> Path:
    return download_of("report.json", (run.path / "report.json").read_bytes())


FILES: dict[str, Callable[[Run], Path]] = {
    "Save curves (PNG)": _curves,
    "Save confusion matrix (PNG)": _confusion,
    "Save predictions (CSV)": _predictions,
    "Save report (JSON)": _report,
}
"""What can be taken home of a run: the words on its button, and what makes the file."""
