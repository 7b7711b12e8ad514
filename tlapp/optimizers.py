"""AdamW for a phase of a training: a rate for each block, how rates change, its state to save and put back.

Knows the model's parameters; nothing of photos, losses or epochs passed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tlapp.backbones import Classifier
from tlapp.plan import Plan


@dataclass(frozen=True)
class Phase:
    """Epochs `first` to `last` in which the same parameters learn; `start` is the first block that runs."""

    name: str
    first: int
    last: int
    start: int
    patience: int
    head_is_fitted: bool = False


def rate_factor(plan: Plan, phase: Phase, passed: float) -> float:
    """What the rates are multiplied by when `passed` epochs of the run (1.25: a quarter of the second) are over."""
    since, length = passed - (phase.first - 1), phase.last - phase.first + 1
    if since < plan.warm_up:
        return (since + 1e-3) / plan.warm_up
    if plan.schedule == "constant":
        return 1.0
    return (1 + math.cos(math.pi * (since - plan.warm_up) / max(length - plan.warm_up, 1e-9))) / 2


def build(model: Classifier, plan: Plan, phase: Phase) -> torch.optim.AdamW:
    """AdamW: the head at its rate, each unfrozen block at the fine-tune rate, lower towards the input."""
    groups = []

    def add(module: nn.Module, rate: float) -> None:
        parameters = [p for p in module.parameters() if p.requires_grad]
        for weights in (True, False):
            chosen = [p for p in parameters if (p.ndim > 1) == weights]
            if chosen:
                groups.append(
                    {"params": chosen, "lr": rate, "full_rate": rate, "weight_decay": plan.weight_decay * weights}
                )

    add(model.head, plan.fine_tune_rate if phase.head_is_fitted else plan.head_rate)
    if phase.name == "fine-tune":
        rate = plan.fine_tune_rate
        for name in reversed(list(model.blocks)):
            if name not in model.frozen:
                add(model.blocks[name], rate)
                rate *= plan.rate_decay
    return torch.optim.AdamW(groups)


def state_of(optimizer: torch.optim.Optimizer, model: Classifier) -> dict[str, Tensor]:
    """A copy of its state on the CPU, by parameter name and key."""
    names: dict[Tensor, str] = {parameter: name for name, parameter in model.named_parameters()}
    return {
        f"{names[parameter]}|{key}": value.detach().cpu().clone()
        for parameter, values in optimizer.state.items()
        for key, value in values.items()
    }


def restore(optimizer: torch.optim.Optimizer, model: Classifier, state: dict[str, Tensor]) -> None:
    """Put back what `state_of` gave."""
    parameters = dict(model.named_parameters())
    for name, value in state.items():
        parameter, _, key = name.rpartition("|")
        target = parameters[parameter]
        optimizer.state[target][key] = value.clone() if key == "step" else value.clone().to(target.device)
