"""Tab 1, lower part: "Check your photos": what the audit found, and what the person decides about it.

Reports are kept in memory, by the photos as they were read; decisions are kept by `decisions`, so they outlive the
page. Starts no runs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import gradio as gr

from tlapp import decisions, tasks
from tlapp.dataset import Dataset
from tlapp.decisions import EXCLUDE, KEEP, RELABEL, WITHDRAW, Decision
from tlapp.errors import DataError, printable
from tlapp.tasks import Task
from tlapp.ui import findings, pieces, shelf
from tlapp.ui.findings import Finding, Look
from tlapp.ui.frame import QUIET, SILENT, Mine, Step, Waiting
from tlapp.ui.serve import download_of

if TYPE_CHECKING:
    from tlapp.audit import Report

UNDO = "Undo"
SHOW_WHOLE = "Show all of each photo"
AGAIN = "Check again"
REPORTS = 4
ONCE: dict[str, Any] = {"queue": False, "trigger_mode": "once", **SILENT}
"""For decisions: one that comes before the answer to the last would be about a photo not seen yet."""

KEYS = """() => document.addEventListener('keydown', event => {
  const id = {k: 'label-keep', r: 'label-change', x: 'label-out', u: 'label-undo'}[event.key?.toLowerCase()];
  const text = 'textarea, select, [contenteditable=true], input:not([type=checkbox], [type=radio], [type=range])';
  if (!id || event.ctrlKey || event.metaKey || event.altKey || event.repeat || event.target.matches?.(text)) return;
  const button = document.getElementById(id);
  if (button && button.offsetParent !== null) button.click();
})"""
"""Listens once for the whole page, whatever is drawn anew."""

_checking = Waiting("Checking was cancelled; nothing has changed.")
_reports: dict[str, Report] = {}
Update = dict[Any, dict[str, Any]]


class Section(NamedTuple):
    """A finding: its words and pictures, what is offered, and what takes it back."""

    body: gr.HTML
    act: gr.Button
    undo: gr.Button


class Panel(NamedTuple):
    """The panel's components. `at`: the digits of the photo that is asked about; `original`: whose panel is shown."""

    box: gr.Column
    hint: gr.HTML
    go: gr.Button
    progress: gr.HTML
    cancel: gr.Button
    verdict: gr.HTML
    labels: gr.Column
    photo: gr.HTML
    keep: gr.Button
    change: gr.Button
    leave: gr.Button
    undo: gr.Button
    other: gr.Dropdown
    at: gr.Textbox
    sections: dict[str, Section]
    ahead: gr.HTML
    decided: gr.Column
    tally: gr.HTML
    download: gr.DownloadButton
    upload: gr.UploadButton
    undo_all: gr.Button
    said: gr.HTML
    original: gr.State

    @property
    def show_whole(self) -> gr.Button:
        """What the section on long photos offers."""
        return self.sections["cropped"].act

    @property
    def question(self) -> list[Any]:
        """The label that is asked about, and the answers to it."""
        return [self.photo, self.keep, self.change, self.leave, self.undo, self.other, self.at]

    @property
    def shown(self) -> list[Any]:
        """What is filled from a look."""
        parts = [part for section in self.sections.values() for part in section]
        return [
            self.box, self.hint, self.go, self.verdict, self.labels, *self.question, *parts, self.ahead, self.tally,
            self.download, self.undo_all, self.original,
        ]  # fmt: skip


def build() -> Panel:
    """Lay the panel out."""
    with gr.Column(visible=False, elem_id="check") as box:
        gr.HTML("<h2>Check your photos</h2>")
        hint = gr.HTML(elem_id="check-hint")
        with gr.Row(elem_id="checking"):
            go = gr.Button("Check my photos", size="sm", scale=0, min_width=160, elem_id="check-photos")
            progress = gr.HTML(elem_id="check-progress")
            cancel = gr.Button("Cancel", size="sm", visible=False, scale=0, min_width=90, elem_id="check-cancel")
        verdict = gr.HTML(visible=False, elem_id="check-verdict")
        with gr.Column(visible=False, elem_id="labels") as labels:
            gr.HTML("<h3>Labels to decide on</h3>")
            photo = gr.HTML(elem_id="label-photo")
            with gr.Row(elem_id="label-buttons"):
                keep = gr.Button("Keep (K)", size="sm", min_width=140, elem_id="label-keep")
                change = gr.Button("Change (R)", size="sm", min_width=140, elem_id="label-change")
                leave = gr.Button("Leave it out (X)", size="sm", min_width=120, elem_id="label-out")
                undo = gr.Button("Undo (U)", size="sm", min_width=90, elem_id="label-undo")
                other = gr.Dropdown([], label="Another class:", min_width=220, elem_id="label-other")
            at = gr.Textbox("", visible=False)
        sections = {}
        for kind in findings.KINDS:
            body = gr.HTML(visible=False, elem_id=f"found-{kind}", elem_classes="tl-finding")
            with gr.Row(elem_classes="tl-acts"):
                offers = ((SHOW_WHOLE if kind == "cropped" else "", f"act-{kind}"), (UNDO, f"undo-{kind}"))
                buttons = [gr.Button(said, size="sm", visible=False, elem_id=name, elem_classes="tl-act", scale=0)
                           for said, name in offers]  # fmt: skip
            sections[kind] = Section(body, *buttons)
        ahead = gr.HTML(visible=False, elem_id="check-ahead", elem_classes="tl-finding")
        with gr.Column(elem_id="decided") as decided:
            tally = gr.HTML(elem_id="decided-count")
            with gr.Row():
                download = gr.DownloadButton("Save decisions.csv", size="sm", min_width=150, elem_id="save-decisions")
                upload = gr.UploadButton(
                    "Use decisions from a file", size="sm", min_width=180, file_types=[".csv"], elem_id="use-decisions"
                )
                undo_all = gr.Button("Undo all", size="sm", min_width=100, elem_id="undo-all")
        said = gr.HTML(elem_id="check-said")
    return Panel(
        box, hint, go, progress, cancel, verdict, labels, photo, keep, change, leave, undo, other, at, sections, ahead,
        decided, tally, download, upload, undo_all, said, gr.State(None),
    )  # fmt: skip


def wire(p: Panel, mine: Mine, controls: list[Any]) -> Step:
    """Connect the panel; returns the step that refreshes it. Decisions go to the browser's dataset.

    `controls`: fraction and seed of the split, and what it is by.
    """
    given = [mine.dataset, *controls]
    outputs = [mine.dataset, *p.shown, p.said]

    @pieces.guarded
    def refresh(known: str | None, *where: Any) -> Any:
        look = _look(*where)
        if look and look.base.id == known:  # what the person decided here is shown already
            return gr.skip()
        return _updates(_render(p, look))

    @pieces.guarded
    def show(*where: Any) -> Any:
        return _updates(_render(p, _look(*where)))

    def changed(where: Sequence[Any], decide: Callable[[Look], Dataset]) -> Any:
        try:
            look = _look(*where)
            if look is None:
                raise DataError("There are no photos yet. Load them first.")
            made = decide(look)
            after = _look(made.id, *where[1:])
            return {mine.dataset: made.id, p.said: "", **_updates(_render(p, after), _render(p, look), p.question)}
        except Exception as error:  # Gradio shows none of handlers that are not queued
            return {p.said: pieces.notice("error", pieces.sentence(error))}

    def act(kind: str, *where: Any) -> Any:
        return changed(where, lambda look: decisions.decide(look.current, _finding(look, kind).new))

    def take_back(kind: str, *where: Any) -> Any:
        return changed(where, lambda look: decisions.undo(look.current, _finding(look, kind).done))

    def judge(kind: str, at: str, to: str | None, *where: Any) -> Any:
        return changed(where, lambda look: decisions.decide(look.current, [_judged(look, kind, at, to)]))

    def undo(*where: Any) -> Any:
        return changed(where, lambda look: decisions.undo(look.current, [look.last] if look.last else []))

    def undo_all(*where: Any) -> Any:
        return changed(where, lambda look: decisions.undo(look.current, look.to_undo))

    def use(file: str, *where: Any) -> Any:
        try:
            given, look = _uploaded(Path(file)), _look(*where)
        except DataError as error:
            return {p.said: pieces.notice("error", str(error))}
        shown = changed(where, lambda look: decisions.use(look.current, given))
        unused = decisions.strangers(look.base, given) if look else ""
        return {**shown, p.said: shown[p.said] or pieces.notice("info", unused)}

    def check(name: str, share: float, number: float | None, by: str, request: gr.Request) -> Iterator[list[Any]]:
        look = _look(name, share, number, by)
        base = look.base if look else None
        for told in _checking.follow(request, partial(_check, base), _so_far):
            yield [told.words, gr.Button(visible=not told.over), gr.Button(interactive=told.over)]

    checked = p.go.click(check, given, [p.progress, p.cancel, p.go], **SILENT)
    checked.then(show, given, p.shown, **QUIET)
    p.cancel.click(_checking.cancel, None, None, queue=False)
    for kind, section in p.sections.items():
        if kind != "cropped":  # which decides about a setting, and no photo
            section.act.click(partial(act, kind), given, outputs, **ONCE)
            section.undo.click(partial(take_back, kind), given, outputs, **ONCE)
    for button, kind in ((p.keep, KEEP), (p.change, RELABEL), (p.leave, EXCLUDE)):
        button.click(lambda at, *where, kind=kind: judge(kind, at, None, *where), [p.at, *given], outputs, **ONCE)
    chosen = p.other.input(partial(judge, RELABEL), [p.at, p.other, *given], outputs, **ONCE)
    chosen.then(None, js="() => document.activeElement?.blur()")
    p.undo.click(undo, given, outputs, **ONCE)
    p.undo_all.click(undo_all, given, outputs, **ONCE)
    p.upload.upload(use, [p.upload, *given], outputs, **ONCE)
    for control in controls:
        control.input(show, given, p.shown, **QUIET)
    return Step(refresh, [p.original, *given], p.shown)


def _look(name: str, share: float, number: float | None, by: str) -> Look | None:
    """What there is to show of the photos that the browser's state names."""
    current = shelf.dataset(name)
    base = shelf.dataset(current.original or current.id) if current else None
    if current is None or base is None:
        return None
    return Look(base, current, _reports.get(base.id), decisions.of(base), share, int(number or 0), by)


def _uploaded(file: Path) -> list[Decision]:
    """The decisions of an uploaded CSV, which is gone afterwards. Raises DataError."""
    try:
        return decisions.read(file)
    except DataError as error:  # the person knows the file by its name
        raise DataError(str(error).replace(printable(str(file)), f"`{printable(file.name)}`")) from error
    finally:
        file.unlink(missing_ok=True)


def _finding(look: Look, kind: str) -> Finding:
    """What was found of this kind. Raises DataError."""
    found = findings.found(look).get(kind)
    if found is None:
        raise DataError("These photos have not been checked. Press the button to check them.")
    return found


def _judged(look: Look, kind: str, at: str, to: str | None) -> Decision:
    """What the person says of the photo with these digits: as it is labelled, as suggested, or of the class `to`."""
    for one in look.contradicted:
        photo = look.base.every[one.index]
        decision = decisions.about(photo, kind)
        if decision.photo == at:
            label = int(to) if to is not None else one.suggested
            if kind == KEEP and look.is_disputed(one):
                kind, label = RELABEL, one.label
            return decisions.about(photo, kind, look.base.classes[label]) if kind == RELABEL else decision
    raise DataError("No photo is asked about. Press the button to check your photos.")


def _check(base: Dataset | None, report: tasks.Report) -> Report:
    """The audit, told of as it goes; its report is kept. Raises Cancelled."""
    if base is None:
        raise DataError("There are no photos yet. Load them first.")
    report(0, 0, "Starting")
    while shelf.makes_instant():  # which looks at the same photos: what it computes need not be computed twice
        report(0, 0, "The instant model comes first")
        time.sleep(0.2)
    from tlapp import audit

    now = (0.0, 0.0, "Starting")

    def stops() -> bool:
        report(*now)
        return False

    steps, answer = audit.audit(base, should_stop=stops), None
    while answer is None:
        try:
            step = next(steps)
            now = (step.done, step.total, step.stage.capitalize())
            report(*now)
        except StopIteration as end:
            answer = end.value
    _reports.pop(base.id, None)
    _reports[base.id] = answer
    for old in list(_reports)[:-REPORTS]:
        _reports.pop(old, None)
    return answer


def _so_far(task: Task[Any]) -> str:
    return f"{task.what or 'Starting'}" + (f" · {task.done:,.0f} of {task.total:,.0f}" if task.total > 1 else "")


def _updates(now: Update, before: Update | None = None, always: Sequence[Any] = ()) -> dict[Any, Any]:
    """What has to be sent, given what the page shows; `always`: parts that another page may have made stale here."""
    return {
        part: gr.update(**new)
        for part, new in now.items()
        if before is None or part in always or before.get(part) != new
    }


def _render(p: Panel, look: Look | None) -> Update:
    """What every part shows."""
    if look is None:
        return {p.box: {"visible": False}, p.original: {"value": None}}
    sections = findings.found(look)
    shown: Update = {
        p.box: {"visible": True},
        p.hint: {"value": _hint(look)},
        p.go: {"value": AGAIN if look.report else "Check my photos"},
        p.verdict: _html(findings.verdict(look, sections) if look.report else ""),
        p.ahead: _html(findings.ahead(look.report) if look.report else ""),
        p.original: {"value": look.base.id},
        **_labels(p, look),
        **_decided(p, look),
    }
    for kind, section in p.sections.items():
        finding = sections.get(kind)
        shown[section.body] = _html(findings.section(look, finding) if finding else "")
        act = finding.act if finding else ""
        shown[section.act] = {"value": act, "visible": bool(act)}
        shown[section.undo] = {"visible": bool(finding and finding.done)}
    shown[p.show_whole] = {"visible": "cropped" in sections}
    return shown


def _html(text: str) -> dict[str, Any]:
    return {"value": text, "visible": bool(text)}


def _hint(look: Look) -> str:
    n = len(look.base.photos)
    about = max(5, 5 * round((3 + n / 35) / 5))
    takes = f"about {about} s" if about < 90 else f"about {about / 60:.0f} min"
    said = f"Looks for {findings.WHAT_IT_LOOKS_FOR}, and says what more photos would bring."
    said += "" if look.report else f" Takes {takes}."
    return f"<p>{pieces.text(said)}</p>{findings.lopsided(look.current)}"


def _labels(p: Panel, look: Look) -> Update:
    """The contradicted label that comes next, with its buttons."""
    if not look.contradicted:
        return {p.labels: {"visible": False}, p.at: {"value": ""}}
    undo = {"interactive": look.last is not None}
    if not look.waiting:
        n = len(look.contradicted)
        said = "The one label is decided." if n == 1 else f"All {n} labels are decided."
        off = {"interactive": False}
        return {
            p.labels: {"visible": True},
            p.photo: {"value": f'<div class="tl-suspect"><p class="tl-done">{said}</p></div>'},
            p.keep: {"value": "Keep (K)", **off}, p.change: {"value": "Change (R)", **off}, p.leave: off, p.undo: undo,
            p.other: {"choices": [], "value": None, **off}, p.at: {"value": ""},
        }  # fmt: skip
    one, classes = look.waiting[0], look.base.classes
    label, suggested = (findings.name(printable(classes[i])) for i in (one.label, one.suggested))
    others = [(printable(name), str(i)) for i, name in enumerate(classes) if i not in (one.label, one.suggested)]
    return {
        p.labels: {"visible": True},
        p.photo: {"value": findings.suspect(look, one)},
        p.keep: {"value": f"{'It' if look.is_disputed(one) else 'Keep: it'} is {label} (K)", "interactive": True},
        p.change: {"value": f"It is {suggested} (R)", "interactive": True},
        p.leave: {"interactive": True},
        p.undo: undo,
        p.other: {"choices": others, "value": None, "interactive": True, "visible": bool(others)},
        p.at: {"value": decisions.about(look.base.every[one.index], KEEP).photo},
    }


def _decided(p: Panel, look: Look) -> Update:
    """How many decisions there are, and the file of them."""
    n = len(look.to_undo)
    left, changed = (sum(d.kind in kinds for d in look.to_undo) for kinds in ((EXCLUDE, WITHDRAW), (RELABEL,)))
    said = f"{pieces.count(n, 'decision')}"
    if n:
        said += f": {left} left out, {changed} of another class, {n - left - changed} kept or put together"
    return {
        p.tally: {"value": f'<p class="tl-hint">{said}. Your own files stay as they are.</p>'},
        p.download: {"value": _csv(look) if look.noted else None, "interactive": bool(look.noted)},
        p.undo_all: {"interactive": n > 0},
    }


def _csv(look: Look) -> str:
    """The decisions as a file that the page may hand out; another content lies at another place."""
    text = decisions.to_text(look.noted).encode("utf-8", "surrogateescape")
    return str(download_of("decisions.csv", text))
