"""The model card of a bundle, in Markdown: what it was made of, what it is worth, and where it ends.

Follows the headings of Mitchell et al., "Model Cards for Model Reporting" (2019), as far as a program can fill them.
Knows a run's record; knows nothing of the bundle's other files.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tlapp import catalog, evaluate, history
from tlapp.agreement import Agreement, megabytes
from tlapp.errors import printable
from tlapp.runs import Run

_WEB = (
    "`index.html` runs the same `model.onnx` in a browser, without a network. It was not run when this bundle was "
    "made. There the browser decodes the photo, so that probabilities may differ more than above."
)
_MARKUP = re.compile(r"([\\`*_\[\]<>#!|&~$])")


def of(
    run: Run, max_difference: float, compared: int, same_class: int, opset: int, *, web: bool = False,
    int8: Agreement | None = None,
) -> str:  # fmt: skip
    """The card's text.

    Args:
        max_difference: between probabilities of the bundle and of the app, on `compared` validation photos.
        same_class: on how many of these both name the same class.
        web: whether the bundle has a page for browsers.
        int8: how the INT8 model does, if there is one.
    """
    report, header, plan = run.report(), run.header(), run.plan
    entry, about, n = catalog.get(plan.backbone), history.about(run), report["n_test"]
    parts = [
        f"# {_text(about.name or f'Run {run.id}')}",
        f"A classifier of photos, made with tlapp on {_text(str(header.get('created', ''))[:10])}: run {run.id}. It "
        f"knows {len(run.classes)} classes: {', '.join(_text(name) for name in run.classes)}.",
        _text(about.note) if about.note else "",
        "## What it is worth",
        f"{worth(report)} The test photos took no part in any choice.",
        _cross_validated(report),
        _table(
            ("Class", "Precision", "Recall", "F1", "Test photos"),
            [(_text(name), *(_share(report["per_class"][name], key) for key in ("precision", "recall", "f1")),
              str(report["per_class"][name]["n"])) for name in run.classes],
        ),
        "In brackets: what is plausible with so many photos (95 %).",
        "![Confusion matrix](confusion.png)",
        *_calibration(report),
        "## What it learned from",
        f"{_text(Path(str(header['source'])).name)}: {report['n_train']:,} photos to learn from, "
        f"{report['n_validation']:,} to choose by (validation), {n:,} to test on.",
        "## How it was made",
        f"{how(run)}. All settings are in `run.json`.",
        _table(("Setting", "Value"), _settings(plan.flat())),
        "## Does the bundle answer as the app does",
        _table(
            ("Photos compared", "Same class", "Largest difference of a probability"),
            [(f"{compared:,} validation photos", f"{same_class:,}", f"{max_difference:.1e}")],
        ),
        "Found by running this bundle's own `predict.py` in a process of its own.",
        _WEB if web else "",
        f"`model.onnx` is of opset {opset}; its batch may be of any size. Input `pixels`: uint8 (batch, "
        f"{entry.crop}, {entry.crop}, 3), RGB, prepared as `preprocess.json` says; normalising and the temperature are "
        "in the model. Outputs: `probabilities` (batch, classes) and `strangeness` (batch).",
        *_int8(int8),
        "## How to use it",
        "In this folder: `pip install -r requirements.txt` once, then `python predict.py photo.jpg`. "
        + ("Or open `index.html` in a browser. " if web else "")
        + "`tlapp import` with this folder opens the model in tlapp again.",
        "## Limits",
        "\n".join(f"- {limit}" for limit in limits(run)),
        "## Licence",
        f"The backbone: {_text(entry.terms)}. The photos and what was learned from them are yours.",
    ]  # fmt: skip
    return "\n\n".join(part for part in parts if part) + "\n"


def worth(report: dict[str, Any]) -> str:
    """The score of a run's report, as a sentence."""
    return f"{evaluate.in_words(report['accuracy'], report['n_test'], 'test photos', ' to ')}."


def how(run: Run) -> str:
    """The backbone and what was trained, in words without markup."""
    start = ""
    if run.plan.learned:
        before = _text(str(run.header().get("started_from") or "an earlier run"))
        start = f", then trained further by {before} on {len(run.plan.learned):,} photos, none of which it is tested on"
    return f"{catalog.get(run.plan.backbone).title}, pretrained on ImageNet{start}; {history.approach(run.plan)}"


def limits(run: Run) -> tuple[str, ...]:
    """Where the model ends, in sentences without markup."""
    report = run.report()
    said = [
        "It answers with one of its classes, whatever the photo shows, unless it calls it none of these.",
        f"It was tested on {report['n_test']:,} photos of the same collection; photos of another camera, place or "
        "season may be called right less often.",
        "A photo is looked at as a square of its middle; what lies beside that is not seen."
        if run.plan.framing == "crop"
        else "A photo is looked at whole, with grey bars.",
    ]
    if report.get("unknown"):
        said.append(
            f"Of photos of its classes it keeps {evaluate.percent(run.keep())} and calls the strangest others "
            '"none of these"; strangers that look like its classes pass.'
        )
    return tuple(said)


def _text(text: str) -> str:
    """Foreign text, shown literally on one line."""
    return _MARKUP.sub(r"\\\1", printable(text).replace("\n", " "))


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _share(scores: dict[str, Any], key: str) -> str:
    low, high = (round(100 * end) for end in scores.get(f"{key}_interval", (0, 0)))
    return evaluate.percent(scores[key]) + (f" ({low} to {high})" if high else "")


def _cross_validated(report: dict[str, Any]) -> str:
    found = report.get("cross_validated")
    if not found:
        return ""
    worth = f"{evaluate.percent(found['accuracy'])}, {evaluate.plausibly(found['interval'], ' to ')}"
    return f"On all {found['n']:,} photos, {evaluate.UNSEEN}: {worth}."


def _calibration(report: dict[str, Any]) -> list[str]:
    found = report.get("calibration")
    if not found:
        return []
    return [
        f"When it says 90 %, how near to nine times in ten it is right (expected calibration error on test photos): "
        f"{100 * found['ece']:.1f} percentage points; before a temperature of {found['temperature']:.2f} was fitted on "
        f"photos that it had not learned from, {100 * found['ece_before']:.1f}."
    ]


def _int8(found: Agreement | None) -> list[str]:
    if not found:
        return []
    worth, whole = (
        evaluate.in_words(right / found.n, found.n, "test photos", " to ") for right in (found.right, found.float_right)
    )
    return [
        "## INT8, judged on the test photos",
        f"`model.int8.onnx` is the same model with its convolutions in INT8 (`python predict.py PHOTO --int8`). "
        f"{evaluate.counted(found.same, found.n)} of {found.n:,} test photos get the same class from both. "
        f"{found.verdict()} {found.strangers()}".rstrip(),
        _table(
            ("Model", "Accuracy", "Size", "Time a photo"),
            [("float, as in the app", whole, megabytes(found.float_size), "1"),
             ("INT8", worth, megabytes(found.size), f"{found.time_ratio:.2f}")],
        ),
        f"The times are those of the machine that made it, relative to the float model. The ranges of INT8 were taken "
        f"from {found.n_calibration:,} training photos; what tells strangers, and the head, are not in INT8.",
    ]  # fmt: skip


def _settings(values: dict[str, Any]) -> list[tuple[str, str]]:
    told = {name: value for name, value in values.items() if value or name not in ("learned", "weights")}
    return [(name.replace("_", "\\_"), _text(_said(value))) for name, value in told.items()]


def _said(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return "–" if value in ("", None) else Path(value).name if isinstance(value, str) else str(value)
