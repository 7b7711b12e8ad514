"""Tab 3: what finished runs are worth: score, confusion, classes, wrong photos, curves, settings, downloads."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np

from tlapp import catalog, evaluate, figures, runs, tables, workspace
from tlapp.errors import RunError, printable
from tlapp.plan import Plan
from tlapp.runs import Run
from tlapp.ui import pieces, shelf, sure
from tlapp.ui.curve import curve
from tlapp.ui.frame import QUIET, Mine, Tab, choices, listed
from tlapp.ui.serve import uploads_folder
from tlapp.ui.shelf import Model, Record

MOST_WRONG = 48
FILES = ("Curves (PNG)", "Confusion matrix (PNG)", "Predictions (CSV)", "Report (JSON)")
NOTHING = pieces.notice("info", "No finished run yet: train one in the Train tab.")
COLUMNS = ["Run", "State", "Photos of", "Test", "Validation", "Backbone", "Frozen", "Time, s"]


def build(mine: Mine) -> Tab:
    """Lay the tab out; its refreshes list the runs, as `choices` says."""
    pick = gr.Dropdown([], label="Run", elem_id="pick-run", interactive=True)
    score = gr.HTML(NOTHING, elem_id="score")
    details = gr.HTML(elem_id="details")
    certain = sure.build(pick)
    rest = gr.HTML(elem_id="rest")
    with gr.Row(elem_id="downloads"):
        make = gr.Button("Make files to download", size="sm", visible=False, min_width=180, elem_id="make-files")
        files = [gr.DownloadButton(label, size="sm", visible=False, min_width=120) for label in FILES]
    with gr.Accordion("All runs", open=True):
        table = gr.Dataframe(
            headers=COLUMNS, datatype="str", interactive=False, wrap=True, elem_id="runs", buttons=[],
            show_label=False, label="Runs",
        )  # fmt: skip
    shown = [score, details, *certain.parts, rest, make, *files]

    @pieces.guarded
    def show(name: str | None) -> list[Any]:
        run, hidden = shelf.run(name), [gr.DownloadButton(visible=False)] * len(files)
        if run is None:
            return [NOTHING, "", *certain.show(None), "", gr.Button(visible=False), *hidden]
        return [_score(run), _details(run), *certain.show(run), _rest(run), gr.Button(visible=True), *hidden]

    @pieces.guarded
    def refresh(name: str | None, own: str) -> list[Any]:
        chosen = shelf.model(name or own)
        options = [(_title(model), model.run.id) for model in shelf.models()]
        value = chosen.run.id if chosen else None
        is_shown = value is not None and value == name
        return [listed(options, value, name), _rows(), *([gr.skip()] * len(shown) if is_shown else show(value))]

    @pieces.guarded
    def make_files(name: str | None) -> list[Any]:
        run = shelf.run(name)
        if run is None:
            raise RunError("There is no run to make files of.")
        return [gr.DownloadButton(value=str(path), visible=True) for path in _downloads(run)]

    @pieces.guarded
    def choose_row(event: gr.SelectData) -> Any:
        name = event.row_value[0] if event.row_value else None
        return name if any(model.run.id == name for model in shelf.models()) else gr.skip()

    pick.input(show, pick, shown, **QUIET)
    make.click(make_files, pick, files, queue=False)
    table.select(choose_row, None, pick, **QUIET).then(show, pick, shown, **QUIET)
    outputs = [pick, table, *shown]
    return Tab(choices(mine, pick, [pick.input, table.select], refresh, outputs))


def _title(model: Model) -> str:
    return f"{model.run.id} · {pieces.percent(model.accuracy)} · {printable(Path(model.source).name)}"


def _rows() -> list[list[str]]:
    rows = []
    for run in reversed(runs.all_runs(workspace.home())):
        try:
            plan, report = run.plan, run.report() if run.has_model() else None
            scored = ["–", "–", "–"]
            if report:
                scored = [pieces.percent(report[name]) for name in ("accuracy", "validation_accuracy")]
                scored.append(f"{report['seconds']:.0f}")
            source, backbone = printable(Path(run.header()["source"]).name), catalog.get(plan.backbone).title
            rows.append([run.id, run.state(), source, *scored[:2], backbone, _frozen(plan), scored[2]])
        except (RunError, KeyError):
            rows.append([run.id, "damaged", *["–"] * (len(COLUMNS) - 2)])
    return rows


def _frozen(plan: Plan) -> str:
    if plan.solver == "auto" or plan.is_instant:
        return "auto" if plan.solver == "auto" else "all (instant)"
    learning = plan.learning
    if not learning or not plan.frozen:
        return "none" if learning else "all"
    n_blocks = len(learning) + len(plan.frozen)
    return f"all but {learning[0]}" if len(learning) == 1 else f"{len(plan.frozen)} of {n_blocks} blocks"


def _score(run: Run) -> str:
    report = run.report()
    n = report["n_test"]
    low, high = evaluate.interval(report["accuracy"], n)
    points = max(1, round(50 * (high - low)))
    few = f" {n} photos are few: the score may well be {points} points off." if n < 400 else ""
    return (
        f'<p class="tl-score">{pieces.percent(report["accuracy"])}</p>'
        f"<p>of the test photos are right: {round(report['accuracy'] * n)} of {n}. They took part in no choice."
        f"{few} {_chosen_by(report)}</p>"
    )


def _chosen_by(report: dict[str, Any]) -> str:
    """On which photos the choices were made, and how the model does there."""
    best, on = pieces.percent(report["validation_accuracy"]), f"On the {report['n_validation']} validation photos"
    if "head" not in report:
        return f"{on}, on which epoch {report['best_epoch']} was chosen: {best}."
    if report["fine_tuned"]:
        return f"{on}, on which fine-tuning was judged: {best}."
    seen = "features of several depths" if report["depth"] == "several" else "the last block's features"
    twice = ", each photo asked twice, mirrored too" if report["mirror"] else ""
    n = report["compared"]["n"]
    return f"A {report['head']} head on {seen}{twice}. On {n} photos, each held out while the head was chosen: {best}."


def _details(run: Run) -> str:
    report, classes = run.report(), list(run.classes)
    return pieces.section("Confusion matrix", _confusion(np.array(report["confusion"]), classes)) + pieces.section(
        "Class by class", _per_class(report, classes)
    )


def _rest(run: Run) -> str:
    record = shelf.record(run)
    return (
        pieces.section("Wrong photos, surest first", _wrong(run, run.report()))
        + pieces.section("Curves", curve(record.epochs, record.n_epochs, record.delivered) + _became(record))
        + pieces.section("Settings", _settings(run.plan, run.header()["source"]))
    )


def _became(record: Record) -> str:
    """What became of fine-tuning, where the run tried it."""
    return pieces.notice("info", record.judged.in_words()) if record.judged else ""


def _confusion(confusion: np.ndarray, classes: list[str]) -> str:
    """Counts, rows true, columns predicted, coloured by their share of the row."""
    shares = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    head = "".join(
        f'<th scope="col" title="{pieces.text(name)}"><span>{pieces.text(name)}</span></th>' for name in classes
    )
    rows = ""
    for i, name in enumerate(classes):
        cells = "".join(
            f'<td class="{"tl-hit" if i == j else "tl-miss"}" style="--share:{shares[i, j]:.3f}" '
            f'title="{pieces.text(name)} called {pieces.text(classes[j])}: {n}">{n or ""}</td>'
            for j, n in enumerate(confusion[i])
        )
        rows += f'<tr><th scope="row" title="{pieces.text(name)}"><span>{pieces.text(name)}</span></th>{cells}</tr>'
    return (
        '<div class="tl-scroll"><table class="tl-confusion"><caption>Rows: what the photo shows. Columns: what the '
        f"model said.</caption><thead><tr><td></td>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _per_class(report: dict[str, Any], classes: list[str]) -> str:
    scores = report["per_class"]
    rows = [
        [name, *(pieces.percent(scores[name][key]) for key in ("precision", "recall")), f"{scores[name]['f1']:.2f}",
         scores[name]["n"]]
        for name in classes
    ]  # fmt: skip
    words = "Precision: of the photos called so, how many are. Recall: of the photos that are, how many were called so."
    return pieces.table(["Class", "Precision", "Recall", "F1", "Test photos"], rows, words)


def _wrong(run: Run, report: dict[str, Any]) -> str:
    wrong = sorted((p for p in report["photos"] if p["label"] != p["class"]), key=lambda p: -p["probability"])
    if not wrong:
        return pieces.notice("info", "None: every test photo was called right.")
    found = shelf.dataset_of(run)
    index = {photo.name: i for i, photo in enumerate(found.photos)} if found else {}
    cards = "".join(
        _card(p, shelf.thumbnail(found, index[p["file"]], 160) if found and p["file"] in index else "")
        for p in wrong[:MOST_WRONG]
    )
    more = f"<p>and {len(wrong) - MOST_WRONG} more</p>" if len(wrong) > MOST_WRONG else ""
    return f'<div class="tl-cards">{cards}</div>{more}'


def _card(photo: dict[str, Any], source: str) -> str:
    sure = pieces.percent(photo["probability"])
    caption = (
        f"<b>said {pieces.text(photo['label'])}</b>, {sure}<br>was {pieces.text(photo['class'])}"
        f'<br><span class="tl-file">{pieces.text(photo["file"])}</span>'
    )
    return pieces.picture(source, f"{photo['class']}, predicted {photo['label']}, {sure}", caption)


def _settings(plan: Plan, source: str) -> str:
    values = plan.to_dict()
    augmentation = values.pop("augmentation")
    values.pop("schema")
    rows: list[tuple[str, Any]] = [("source", source), *values.items()]
    rows += [(f"augmentation.{name}", value) for name, value in augmentation.items()]
    listed = [(name, ", ".join(value) if isinstance(value, list) else value) for name, value in rows]
    table = pieces.table(["Setting", "Value"], listed, "")
    return f'<details class="tl-details"><summary>All settings</summary>{table}</details>'


def _downloads(run: Run) -> list[Path]:
    """Figures, table and report of a run as files that the page may hand out."""
    folder = uploads_folder() / "downloads" / run.id
    folder.mkdir(parents=True, exist_ok=True)
    report = run.report()
    paths = [folder / name for name in ("curves.png", "confusion.png", "predictions.csv", "report.json")]
    figures.curves(shelf.record(run).epochs, paths[0])
    figures.confusion(np.array(report["confusion"]), run.classes, paths[1])
    rows = [[p["file"], p["class"], p["label"], p["probability"]] for p in report["photos"]]
    text = tables.to_csv([["file", "class", "label", "probability"], *rows])
    paths[2].write_text(text, encoding="utf-8", errors="replace")
    shutil.copyfile(run.path / "report.json", paths[3])
    return paths
