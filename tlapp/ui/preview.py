"""What the person is told before training: what will be learned, how long it takes, and what each block costs.

Torch is imported when it is first asked.
"""

from __future__ import annotations

import gradio as gr

from tlapp import catalog, room, workspace
from tlapp.catalog import Backbone
from tlapp.dataset import Dataset
from tlapp.errors import UserError
from tlapp.plan import WORTH_TUNING, Plan, too_few_to_tune, tuning
from tlapp.ui import costs, pieces


def summary(found: Dataset | None, plan: Plan | UserError) -> tuple[str, gr.Button, str, str]:
    """What will be learned and how long it takes; the Train button; why it cannot be pressed; what each tick costs."""
    off = gr.Button("Train", interactive=False)
    if isinstance(plan, UserError):
        return "", off, pieces.notice("error", str(plan)), ""
    if found is None:
        return "", off, pieces.notice("info", "There are no photos yet: load them in the Data tab."), ""
    try:
        split = plan.split(found)
    except UserError as error:
        return "", off, pieces.notice("error", str(error)), ""
    entry = catalog.get(plan.backbone)
    from tlapp import estimate, recipe

    sizes, speed = (len(split.train), len(split.validation)), estimate.probe(plan)
    tunes = recipe.tries_tuning(entry, plan, *sizes, speed.itemsize)
    tail = estimate.learned(tuning(plan), 0) if tunes else 0
    numbers = estimate.learned(plan, len(found.classes)) + tail
    up_to = "Up to " if tunes or (plan.solver != "sgd" and plan.depth == "auto") else ""
    seconds = estimate.seconds(plan, *sizes, len(split.test), speed)
    time = estimate.in_words(seconds)
    line = pieces.notice(
        "info",
        f"{up_to}{numbers:,} numbers will be learned from {pieces.count(costs.n_learned(plan, *sizes), 'photo')}. "
        f"{time[0].upper()}{time[1:]} at most. {_verdict(plan, entry, len(split.train), tunes)}",
    )
    written = estimate.written(plan, len(found.classes), *sizes, len(split.test), speed.itemsize)
    line += pieces.notice("warn", room.worry(workspace.home(), written.most))
    table = costs.table(plan, len(found.classes), *sizes, speed, seconds, tunes)
    if not plan.weights and not catalog.weights_path(entry).is_file():
        reason = f"{entry.title}'s weights are not on this machine: fetch them, use a file, or take another backbone."
        return line, gr.Button(f"Train · {time}", interactive=False), pieces.notice("warn", reason), table
    return line, gr.Button(f"Train · {time}", interactive=True), "", table


def _verdict(plan: Plan, entry: Backbone, n: int, tunes: bool) -> str:
    """What the choice of blocks is good for, in a sentence or two."""
    if plan.solver == "auto":
        tail = ", ".join(entry.block_names[-entry.tail :])
        if n >= WORTH_TUNING and not tunes:
            return f"The head is fitted exactly. The inputs of {tail} fit neither cache_mb nor disk_mb, so these stay."
        if not tunes:
            return f"The head is fitted exactly. {too_few_to_tune(plan, n)}"
        return (
            f"The head is fitted exactly; then {tail} may learn too, which is kept only if validation clearly improves."
        )
    if plan.head_only and plan.solver == "exact":
        return "Feature extraction: fast, as the frozen part is computed once and the head is fitted exactly."
    if plan.head_only:
        return "Feature extraction: good for small sets, and fast, as the frozen part is computed once."
    names = entry.block_names
    first = next(i for i, name in enumerate(names) if name not in plan.frozen)
    behind = [name for name in names[first:] if name in plan.frozen]
    costs = (
        f" {', '.join(behind)} behind a learning block saves nothing: it must be run all the same." if behind else ""
    )
    if not plan.frozen:
        return "Everything learns: slow, and small sets are soon learned by heart. Worth it for unusual photos."
    if first == 0:
        return f"{names[0]} learns, so that nothing is computed once: as slow as if everything learned.{costs}"
    few = " With so few photos the last block is enough." if n < 200 and len(names) - first > 1 else ""
    return f"Fine-tuning from {names[first]} on: the blocks before it are computed once.{few}{costs}"
