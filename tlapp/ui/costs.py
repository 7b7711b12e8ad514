"""What each tick costs: numbers, seconds of an epoch and memory, block by block, as a table under the ticks.

Knows plans and estimates; no widgets.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from tlapp import catalog
from tlapp.plan import Plan, tuning
from tlapp.ui import form, pieces

if TYPE_CHECKING:
    from tlapp.estimate import Cost
    from tlapp.speed import Speed

BY_HEART = 10_000
"""Numbers for each photo above which a network may learn the photos by heart, where these are fewer than `FEW`."""

FEW = 500
SLOW = 600
"""Seconds of a whole run above which it is called slow."""


def table(
    plan: Plan, n_classes: int, n_train: int, n_validation: int, speed: Speed, seconds: float, tunes: bool = False
) -> str:
    """A row for each block, and one for all, as HTML; then a warning if there is one. `seconds`: of the whole run.
    `tunes`: the last stage may learn after the exact head, which has a row of its own.

    A row says by how much the choice would be dearer if the block learned than if it were frozen, all else as it is.
    """
    from tlapp import estimate

    def cost(frozen: tuple[str, ...]) -> Cost:
        told = dataclasses.replace(plan, frozen=frozen, solver="sgd")
        return estimate.cost(told, n_classes, n_train, n_validation, speed)

    names, now = catalog.get(plan.backbone).block_names, cost(plan.frozen)
    rows, dearest = "", ("", 0.0)
    for name in names:
        learns = name not in plan.frozen
        other = cost(tuple(n for n in names if (n in plan.frozen) != (n == name)))
        more, less = (now, other) if learns else (other, now)
        seconds_more = max(0.0, more.seconds - less.seconds)
        if learns and seconds_more > dearest[1]:
            dearest = name, seconds_more
        cells = [form.short(more.numbers - less.numbers), _time(seconds_more), _memory(more.memory - less.memory)]
        rows += _row(name, "learns", cells, True) if learns else _row(name, "frozen", [f"+ {c}" for c in cells], False)
    n = n_learned(plan, n_train, n_validation)
    if tunes:
        tail = ", ".join(name for name in names if name not in tuning(plan).frozen)
        rows += _row("The head, fitted first", "", _total(now, n), True)
        rows += _row(f"With {tail}, if that helps", "", _total(cost(tuning(plan).frozen), n), True)
    else:
        rows += _row("All, with the head", "", _total(now, n), True)
    head = "".join(f'<th scope="col">{name}</th>' for name in ("Block", "", "Numbers", "An epoch", "Memory"))
    caption = (
        "What each block costs; with a + what it would add if it alone learned, the way back to it through all blocks "
        "below included: two blocks add less than both figures. Measured and counted on this machine."
    )
    if tunes:
        caption += " Auto fits the head exactly, and then tries the last row, which it keeps only if that helps."
    elif plan.solver != "sgd":
        caption += " Here the head is fitted exactly; the figures are those of gradient descent with these ticks."
    return (
        f'<table class="tl-table tl-costs"><caption>{caption}</caption><thead><tr>{head}</tr></thead>'
        f"<tbody>{rows}</tbody></table>{pieces.notice('warn', _warning(plan, now, n_train, seconds, dearest[0]))}"
    )


def n_learned(plan: Plan, n_train: int, n_validation: int) -> int:
    """How many photos what is delivered has learned from: an exact head is fitted on validation photos too."""
    return n_train if plan.solver == "sgd" else n_train + n_validation


def _total(cost: Cost, n: int) -> list[str]:
    per_photo = f"{round(cost.numbers / n):,} a photo"
    return [f"{form.short(cost.numbers)}<br><span>{per_photo}</span>", _time(cost.seconds), _memory(cost.memory)]


def _row(name: str, state: str, cells: list[str], learns: bool) -> str:
    look = "" if learns else ' class="tl-quiet"'
    body = "".join(f"<td>{cell}</td>" for cell in (state, *cells))
    return f'<tr{look}><th scope="row">{pieces.text(name)}</th>{body}</tr>'


def _warning(plan: Plan, now: Cost, n_train: int, seconds: float, dearest: str) -> str:
    """What to mind, and what to do instead, in a sentence."""
    from tlapp import estimate

    if seconds > SLOW and dearest:
        return (
            f"This is slow: an epoch takes {estimate.in_words(now.seconds)}, the run up to "
            f"{estimate.in_words(seconds).removeprefix('about ')}. `{dearest}` costs most: freeze it, or take fewer "
            "epochs."
        )
    if not plan.head_only and n_train < FEW and now.numbers / n_train > BY_HEART:
        more = " Turn augmentation on." if plan.augmentation.is_off else ""
        return (
            f"{round(now.numbers / n_train):,} numbers for each of {n_train} photos: the network may learn them by "
            f"heart. Keep more blocks frozen, or add photos.{more}"
        )
    return ""


def _time(seconds: float) -> str:
    return "0 s" if seconds < 0.05 else f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"


def _memory(n_bytes: float) -> str:
    return f"{max(0.0, n_bytes) / 1e6:,.0f} MB"
