"""What a run will write into the workspace, counted from its plan and the catalogue before it starts.

Knows no photos, only how many there are; no torch.
"""

from __future__ import annotations

from dataclasses import dataclass

from tlapp import catalog
from tlapp import plan as plans
from tlapp.plan import Plan

NUMBER = 4
"""Bytes of a parameter, and of a feature that is kept beside the photos."""

MEANS = 1.015
"""BatchNorm's running means, which a model holds beside its parameters: 1.2 % of EfficientNet-Lite0's."""

ROWS = 5000
"""Photos at most of which a model keeps the features, at half the bytes, to tell strangers by."""


@dataclass(frozen=True)
class Footprint:
    """Bytes. `kept`: the model and what tells strangers, which stay; `passing`: what stands beside them at most."""

    kept: int
    passing: int

    @property
    def most(self) -> int:
        """Both together."""
        return self.kept + self.passing


def of_run(plan: Plan, n_classes: int, n_photos: int, cached_mb: float = 0.0) -> Footprint:
    """What a run of the plan writes at most. `n_photos`: all of the dataset's; `cached_mb`: cached on the disk.

    The states of gradient descent: what learns, as the best and as the last, and with this AdamW's two moments; while
    they are written, those before still stand.
    """
    entry = catalog.get(plan.backbone)
    told = plans.tuning(plan) if plan.solver == "auto" else plan
    head = (entry.depth_features + 1) * n_classes
    whole = sum(block.parameters for block in entry.blocks) + head
    learning = sum(block.parameters for block in entry.blocks if block.name not in told.frozen) + head
    kept = MEANS * NUMBER * whole + NUMBER / 2 * min(n_photos, ROWS) * entry.depth_features
    states = 0 if plan.solver == "exact" else 2 * 4 * MEANS * NUMBER * learning
    features = NUMBER * n_photos * entry.depth_features
    return Footprint(round(kept), round(states + features + 1e6 * cached_mb))
