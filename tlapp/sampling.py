"""In which order photos are learned from, and how much each counts where classes are of unequal size.

Knows labels alone.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def class_weights(labels: np.ndarray, n_classes: int) -> np.ndarray:
    """Weights, float64 (classes,), that let rare classes count as much as common ones; their mean over photos is 1."""
    return len(labels) / (n_classes * np.maximum(np.bincount(labels, minlength=n_classes), 1))


def order(labels: Tensor, sampling: str, generator: torch.Generator) -> Tensor:
    """The photos of an epoch: all of them shuffled, or as many, drawn so that every class comes as often."""
    if sampling == "shuffled":
        return torch.randperm(len(labels), generator=generator)
    rarity = 1 / torch.bincount(labels).float()[labels]
    return torch.multinomial(rarity, len(labels), replacement=True, generator=generator)


def batches(order: Tensor, size: int) -> list[list[int]]:
    """Cut an order of photos into batches; a last batch of one, which BatchNorm cannot use, joins the one before."""
    cut = [part.tolist() for part in order.split(size)]
    if len(cut) > 1 and len(cut[-1]) == 1:
        last = cut.pop()
        cut[-1] += last
    return cut
