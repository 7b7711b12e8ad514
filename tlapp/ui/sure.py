"""Tab 3: how sure a run is against how often right, and "none of these" with what a stricter or laxer line costs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import gradio as gr

from tlapp import evaluate
from tlapp.runs import KEEP, KEEP_RANGE, Run, is_unknown
from tlapp.ui import matrix, pieces, shelf
from tlapp.ui.frame import QUIET

OLD = "This run was made by an earlier version, which did not measure it. Train again to see it."
LEVELS = (0.9, 0.8, 0.7, 0.5)
SIDE, LEFT, TOP = 240, 64, 12
FEW = 40
"""Photos below which a line between them is rough."""


class Sure(NamedTuple):
    """What was laid out; `show(run)`: values for `parts`, in their order; `moved`: the event of a new line."""

    parts: list[Any]
    show: Callable[[Run | None], list[Any]]
    moved: Any


def build(pick: gr.Dropdown) -> Sure:
    """Lay the section out; the slider's value is kept with the run that `pick` names."""
    certainty = gr.HTML(elem_id="certainty")
    low, high = (round(100 * part) for part in KEEP_RANGE)
    slider = gr.Slider(
        low, high, round(100 * KEEP), step=1, label="Photos of your classes to keep, %", visible=False,
        elem_id="keep", buttons=[], info="The others are called none of these, here and by `tlapp predict`.",
    )  # fmt: skip
    cost = gr.HTML(elem_id="keep-cost")
    tested = gr.HTML(elem_id="keep-tested")
    test = gr.Button(
        "See what it does on the test photos", size="sm", visible=False, scale=0, min_width=240, elem_id="test-keep"
    )

    def show(run: Run | None) -> list[Any]:
        if run is None:
            return ["", gr.Slider(visible=False), "", "", gr.Button(visible=False)]
        report, percent = run.report(), round(100 * run.keep())
        has = "unknown" in report
        words = [_cost(report, percent), _tested(report, percent)] if has else ["", ""]
        return [_certainty(report), gr.Slider(value=percent, visible=has), *words, gr.Button(visible=False)]

    @pieces.guarded
    def move(name: str | None, percent: float) -> Any:
        run = shelf.run(name)
        if run is None:
            return gr.skip()
        run.set_keep(round(percent) / 100)
        return [_cost(run.report(), round(percent)), "", gr.Button(visible=True)]

    @pieces.guarded
    def look(name: str | None, _percent: float) -> Any:
        run = shelf.run(name)
        return [_tested(run.report(), round(100 * run.keep())), gr.Button(visible=False)] if run else gr.skip()

    moved = slider.input(move, [pick, slider], [cost, tested, test], js=matrix.UNMARK, **QUIET)
    test.click(look, [pick, slider], [tested, test], js=matrix.MARK, **QUIET)
    return Sure([certainty, slider, cost, tested, test], show, moved)


def _certainty(report: dict[str, Any]) -> str:
    found = report.get("calibration")
    if not found:
        return pieces.section("How sure it is", pieces.notice("info", OLD))
    return pieces.section("How sure it is", f"{_words(report)}{_diagram(found['bins'])}") + (
        pieces.section("None of these", "") if "unknown" in report else ""
    )


def _words(report: dict[str, Any]) -> str:
    """What its certainty is worth, in sentences."""
    found, photos = report["calibration"], report["photos"]
    sentences = []
    for level in LEVELS:
        sure = [photo for photo in photos if photo["probability"] >= level]
        if sure:
            right = sum(photo["label"] == photo["class"] for photo in sure)
            mean = pieces.percent(sum(photo["probability"] for photo in sure) / len(sure))
            sentences.append(
                f"When it says {100 * level:.0f} % or more (on average {mean}), "
                f"it is right {right} times in {len(sure)}, {pieces.plausibly(right / len(sure), len(sure))}."
            )
            break
    sentences.append(
        f"Over all {pieces.count(len(photos), 'test photo')}, how sure it says it is and how often it is right differ "
        f"by {100 * found['ece']:.1f} points (expected calibration error). A temperature, fitted on "
        f"{_others(report)}, sees to that: without it they would differ by {100 * found['ece_before']:.1f}."
    )
    return f"<p>{pieces.text(' '.join(sentences))}</p>"


def _diagram(bins: list[dict[str, Any]]) -> str:
    """A reliability diagram: a dot for photos of similar certainty, the larger the more; on the line it is right."""
    most, marks, told = max(b["n"] for b in bins), "", []
    for tick in (0, 25, 50, 75, 100):
        x, y = LEFT + SIDE * tick / 100, TOP + SIDE * (1 - tick / 100)
        marks += (
            f'<line x1="{LEFT}" x2="{LEFT + SIDE}" y1="{y}" y2="{y}"/>'
            f'<text x="{LEFT - 8}" y="{y + 4}" text-anchor="end">{tick} %</text>'
            f'<text x="{x}" y="{TOP + SIDE + 18}" text-anchor="middle">{tick} %</text>'
        )
    marks += f'<line class="tl-ideal" x1="{LEFT}" y1="{TOP + SIDE}" x2="{LEFT + SIDE}" y2="{TOP}"/>'
    for b in bins:
        x, y = LEFT + SIDE * b["confidence"], TOP + SIDE * (1 - b["accuracy"])
        said = f"says {pieces.percent(b['confidence'])}, right {evaluate.brief(b['accuracy'], b['n'])}"
        low, high = (TOP + SIDE * (1 - end) for end in evaluate.interval(b["accuracy"], b["n"]))
        marks += f'<line class="tl-interval" x1="{x:.1f}" x2="{x:.1f}" y1="{low:.1f}" y2="{high:.1f}"/>'
        radius = 4 + 8 * (b["n"] / most) ** 0.5
        marks += f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}"><title>{said}</title></circle>'
        told.append(said)
    width, height = LEFT + SIDE + 24, TOP + SIDE + 44
    return (
        f'<svg class="tl-reliability" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" '
        f'aria-label="How sure against how often right: {"; ".join(told)}">{marks}'
        f'<text x="{LEFT + SIDE / 2}" y="{TOP + SIDE + 38}" text-anchor="middle">how sure it says it is</text>'
        f'<text transform="translate(12 {TOP + SIDE / 2}) rotate(-90)" text-anchor="middle">how often right</text>'
        '</svg><p class="tl-hint">A dot stands for test photos of similar certainty, the larger the more '
        f"({_numbers(bins)}); the line through it is its 95 % interval. On the dashed line it is as often right as it "
        "says; above it is too modest, below too sure.</p>"
    )


def _numbers(bins: list[dict[str, Any]]) -> str:
    least, most = min(b["n"] for b in bins), max(b["n"] for b in bins)
    return f"{least} to {most}" if least < most else f"{most} each"


def _cost(report: dict[str, Any], percent: int) -> str:
    """What a line at this part of known photos costs, in sentences; never on test photos: a choice is made here."""
    found = report["unknown"]
    row = next(row for row in found["costs"] if row["keep"] == percent)
    n, kept = found["held_out"], row["kept"]
    sentences = [
        f"Answers about {percent} % of the photos of your classes: of {n} {_others(report)}, {kept} get an answer and "
        f"{n - kept} would be called none of these." + (" With so few, the line is rough." if n < FEW else "")
    ]
    if found["strangers"]:
        share = pieces.percent(row["let_in"] / found["strangers"])
        sentences.append(
            f"Of strangers that look like your photos, {share} would be let in ({row['let_in']} of "
            f"{found['strangers']}): so it went when each class in turn was kept from a model and then shown to it. "
            "Move the line down to let fewer in."
        )
    else:
        sentences.append(
            "How many strangers would be let in cannot be measured with two classes; it can from three on."
        )
    return f"<p>{pieces.text(' '.join(sentences))}</p>"


def _others(report: dict[str, Any]) -> str:
    """The photos that certainty and the line are set by, in words: an exact head is cross-validated on all of them."""
    if "head" in report and not report["fine_tuned"]:
        return f"photos, {evaluate.UNSEEN}"
    return "validation photos"


def _tested(report: dict[str, Any], percent: int) -> str:
    """What came of the line on the test photos, in a sentence."""
    photos = report["photos"]
    away = sum(bool(is_unknown(photo["strangeness"], percent / 100)) for photo in photos)
    return f"<p>On the test photos, which have no say in this, it turned away {away} of {len(photos)}.</p>"
