"""A new run from an earlier run's weights: the network as a weights file that says which photos it has learned from.

Such photos are never drawn for a test: the score would flatter. Knows files of runs; never torch.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from pathlib import Path

import numpy as np

from tlapp import dataset as datasets
from tlapp import weightfile, workspace
from tlapp.dataset import Dataset
from tlapp.errors import DataError, RunError
from tlapp.plan import Plan
from tlapp.runs import Run

DIGITS = 12
"""Of a photo's SHA-256, by which it is known."""


def known_by(sha256: str) -> str:
    """What a photo with this SHA-256 is known by in `Plan.learned`."""
    return sha256[:DIGITS]


def learned_from(plan: Plan, dataset: Dataset) -> list[str]:
    """What the photos are known by that a run of this plan learns from or makes choices on, or that its weights have
    learned from.
    """
    split = plan.split(dataset)
    own = {known_by(dataset.photos[int(i)].sha256) for part in (split.train, split.validation) for i in part}
    return sorted(own | set(plan.learned))


def n_learned(plan: Plan, dataset: Dataset, part: np.ndarray) -> int:
    """How many of these photos, by their indices, the weights of the plan have learned from."""
    before = frozenset(plan.learned)
    return sum(known_by(dataset.photos[int(i)].sha256) in before for i in part)


def of(run: Run) -> list[str]:
    """What the photos are known by that the run's network has learned from. Raises RunError if that is not known."""
    learned = run.header().get("learned_from")
    if isinstance(learned, list):
        return learned
    try:
        return learned_from(run.plan, datasets.load(run.dataset_folder))
    except DataError as error:
        raise RunError(
            f"It is not known which photos run {run.id} learned from, as these are gone from the workspace; a score on "
            "them would flatter. Start from another run."
        ) from error


def is_published(run: Run) -> bool:
    """Whether the run's network is the published one still: all blocks stayed frozen, only the head learned."""
    plan = run.plan
    return plan.head_only and not plan.weights and not (run.has_model() and run.report().get("fine_tuned"))


PLAIN = (
    "All blocks of run {} stayed frozen, so that its network is the published one: this is a new run like any other."
)
"""What is said where a run that is to be continued left nothing to go on from."""


def weights_of(run: Run, home: Path | None = None) -> Path:
    """The run's network as a weights file in the workspace, which stays when the run goes.

    Raises RunError: it has no model, or it cannot be known which photos it learned from.
    """
    model, learned = run.model(), of(run)
    said = {"run": run.id, "classes": json.dumps(list(run.classes)), "learned_from": json.dumps(learned)}
    content = weightfile.with_metadata(model, weightfile.recorded(model) | said)
    folder = (home or workspace.home()) / "weights"
    path = folder / f"{run.plan.backbone}-{hashlib.sha256(content).hexdigest()[:DIGITS]}.safetensors"
    try:
        os.utime(path)  # wanted again: `cleanup` leaves it for a day
    except FileNotFoundError:
        workspace.make_folder(folder)
        workspace.write_atomic(path, content)
    return path


def continued(plan: Plan) -> Plan:
    """The plan with what its weights file has learned from; the same plan where that does not say."""
    said = weightfile.of_file(Path(plan.weights)) if plan.weights else {}
    try:
        learned = json.loads(said.get("learned_from", "[]"))
        return dataclasses.replace(plan, learned=tuple(sorted({str(one) for one in learned} | set(plan.learned))))
    except (ValueError, TypeError):
        return plan
