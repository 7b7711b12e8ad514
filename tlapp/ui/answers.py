"""Answers as HTML: one photo beside its bars, or a table that the browser sorts (`answers.js`). Asks no model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tlapp.errors import printable
from tlapp.ui import pieces

if TYPE_CHECKING:
    from tlapp.predict import Prediction

MOST_BARS = 5
MANY = 12
"""With more answers than this, the least sure come first."""

UNSURE = 0.6
"""Below this probability the answer is called "not sure"."""

SCRIPT = Path(__file__).with_name("answers.js").read_text(encoding="utf-8")
_COLUMNS = ("Photo", "Class", "How sure", "File")


def one(
    answer: Prediction, source: str, run: str, truth: str = "", classes: Sequence[str] = (), why: str = "0",
    right: str = "",
) -> str:  # fmt: skip
    """One photo beside its answer, run `run`'s; with `classes`, the right one can be picked, or is `right`. `why`: what
    the button that asks for reasons hands on.
    """
    notes = [truth, f"{answer.file} · run {run} answers"]
    below = "".join(f'<p class="tl-file">{pieces.text(note)}</p>' for note in notes if note)
    below += f'<button type="button" class="tl-ask-why" data-why="{pieces.text(why)}">Why this answer?</button>'
    if classes:
        below += f'<label class="tl-correct">Wrong? The right class is {_right_class(classes, 0, right)}</label>'
    return _big(answer, pieces.picture(source, f"{answer.file}, called {answer.label}"), below)


def beside_camera(answer: Prediction) -> str:
    """The answer alone, for a picture that is seen elsewhere."""
    return f'<p class="tl-label">{_said(answer)}</p>{_bars(answer)}'


def table(
    answers: Sequence[tuple[int, Prediction, str]], run: str, classes: Sequence[str], right: Mapping[int, str] = {}
) -> str:
    """A row for each answer: its number, the answer, the photo's source. `right`: the classes picked, by number."""
    by_sureness = len(answers) > MANY
    if by_sureness:
        answers = sorted(answers, key=lambda row: row[1].probability)
    heads = "".join(
        f'<th scope="col" aria-sort="{_sorted(name, by_sureness)}"><button type="button">{name}</button></th>'
        for name in _COLUMNS
    )
    rows = ""
    for number, answer, source in answers:
        picked = _right_class(classes, number, right[number]) if number in right else ""
        rows += _row(number, answer, source, picked)
    first = " The least sure come first." if by_sureness else ""
    caption = f"Run {run} answers for {pieces.count(len(answers), 'photo')}.{first} Press a heading to sort."
    return (
        f'<div class="tl-scroll tl-many"><table class="tl-table tl-answers"><caption>{pieces.text(caption)}</caption>'
        f'<thead><tr>{heads}<th scope="col">Right class</th></tr></thead><tbody>{rows}</tbody></table></div>'
        f"<template>{_right_class(classes)}</template>"
    )


def failures(sentences: Sequence[str]) -> str:
    """Why some files have no answer; many are folded."""
    notices = "".join(pieces.notice("error", sentence) for sentence in sentences)
    if len(sentences) <= 3:
        return notices
    items = "".join(f"<li>{pieces.text(sentence)}</li>" for sentence in sentences)
    summary = f"{pieces.count(len(sentences), 'file')} could not be read: see why"
    return f'<details class="tl-details tl-failed"><summary>{summary}</summary><ul>{items}</ul></details>'


def _big(answer: Prediction, picture: str, below: str) -> str:
    return (
        f'<div class="tl-answer">{picture}'
        f'<div><p class="tl-label">{_said(answer)}</p>{_bars(answer)}{below}</div></div>'
    )


def _bars(answer: Prediction) -> str:
    ranked = sorted(answer.probabilities.items(), key=lambda item: -item[1])
    bars = "".join(_bar(name, share) for name, share in ranked[:MOST_BARS])
    rest = "".join(_bar(name, share) for name, share in ranked[MOST_BARS:])
    if rest:
        bars += f"<details><summary>{len(ranked) - MOST_BARS} more classes</summary>{rest}</details>"
    return bars


def _said(answer: Prediction) -> str:
    if answer.unknown:
        return f"None of these, perhaps: nearest is {pieces.text(answer.label)}"
    if answer.probability < UNSURE:
        return f"Not sure: perhaps {pieces.text(answer.label)}"
    return pieces.text(answer.label)


def _bar(name: str, share: float) -> str:
    return (
        f'<div class="tl-prob"><span>{pieces.text(name)}</span><div class="tl-track">'
        f'<div style="width:{100 * share:.1f}%"></div></div><span>{pieces.percent(share)}</span></div>'
    )


def _row(number: int, answer: Prediction, source: str, picked: str) -> str:
    file = pieces.text(answer.file)
    photo = (
        f'<button type="button" class="tl-photo-why" data-why="{number}" title="Why this answer?">'
        f'<img src="{source}" alt="{pieces.text(f"{answer.file}, called {answer.label}: why?")}"></button>'
    )
    correct = f'<button type="button" class="tl-wrong" aria-label="Pick the right class of {file}">Change</button>'
    return (
        f'<tr data-row="{number}"><td data-key="{number}">{photo}</td>'
        f'<td data-key="{pieces.text(answer.label)}">{_said(answer)}</td>'
        f'<td data-key="{answer.probability:.9f}">{pieces.percent(answer.probability)}</td>'
        f"<td>{file}</td><td>{picked or correct}</td></tr>"
    )


def _sorted(column: str, by_sureness: bool) -> str:
    return "ascending" if column == ("How sure" if by_sureness else "Photo") else "none"


def _right_class(classes: Sequence[str], number: int | None = None, right: str = "") -> str:
    """A list of the classes by their numbers, for the answer of that number, of which `right` was picked."""
    row = "" if number is None else f' data-row="{number}"'
    options = "".join(
        f'<option value="{i}"{" selected" if name == right else ""}>{pieces.text(printable(name))}</option>'
        for i, name in enumerate(classes)
    )
    return (
        f'<select class="tl-right"{row} aria-label="The right class">'
        f'<option value="-1">as it is</option>{options}</select>'
    )
