"""Outputs of the frozen prefix, computed once per view and kept within a memory budget.

A `Source` hands out batches of training inputs: from the cache where it fits, else drawn and run through the
frozen prefix anew. Either way view v of a photo is the same view. Knows nothing of losses or optimisers.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tlapp.augment import Views, view_seed
from tlapp.backbones import Classifier
from tlapp.catalog import Backbone
from tlapp.dataset import Dataset
from tlapp.events import Progress
from tlapp.plan import Plan

FORWARD_BATCH = 32
PLAIN = -1
"""The number of the draw that means the plain view."""


class Stopped(Exception):  # noqa: N818 - not an error
    """The person asked to stop while views were being cached."""


class Photos:
    """Some photos of a dataset as network inputs. `labels`: int64 tensor, shape (photos,)."""

    def __init__(self, dataset: Dataset, indices: np.ndarray, views: Views, seed: int) -> None:
        self.dataset, self.indices, self.views, self.seed = dataset, indices, views, seed
        self.labels = torch.from_numpy(dataset.labels[indices])

    def __len__(self) -> int:
        return len(self.indices)

    def inputs(self, positions: Sequence[int], draw: int) -> Tensor:
        """Views number `draw` (or `PLAIN`) of these photos: float32 (batch, 3, crop, crop), channels last."""
        batch = torch.stack([self._view(int(self.indices[p]), draw) for p in positions])
        return self.views.normalise(batch).contiguous(memory_format=torch.channels_last)

    def _view(self, index: int, draw: int) -> Tensor:
        pixels = self.dataset.pixels(index)
        if draw == PLAIN:
            return self.views.plain(pixels)
        return self.views.draw(pixels, view_seed(self.seed, self.dataset.photos[index].sha256, draw))


@dataclass(frozen=True)
class CachePlan:
    """What is computed once. `views` 0: nothing, every epoch draws afresh. `text` says it in a sentence."""

    views: int
    text: str


def plan_cache(entry: Backbone, plan: Plan, prefix: int, n_train: int, n_validation: int) -> CachePlan:
    """How many views of the frozen prefix's output fit the budget.

    Nothing is cached where a view's activations have more numbers than its pixels have bytes: too much memory
    for the few layers saved (for ResNets: a prefix that ends before layer2).
    """
    if prefix == 0:
        return CachePlan(0, "No block is frozen from the input on, so every epoch runs the whole network.")
    elements = entry.features if prefix == len(entry.blocks) else entry.blocks[prefix - 1].elements
    if elements > 3 * entry.crop**2:
        return CachePlan(0, "The frozen part is too short to be worth caching; every epoch draws fresh views.")
    per_view = 4 * elements / 1e6
    wanted = 1 if plan.augmentation.is_off else plan.views
    views = min(wanted, int((plan.cache_mb / per_view - n_validation) / n_train))
    if views < 1:
        return CachePlan(0, "One view of each photo does not fit cache_mb; every epoch draws fresh views.")
    size = per_view * (views * n_train + n_validation)
    exact = "exactly, as no view changes" if plan.augmentation.is_off else f"on {views} pre-drawn views of each photo"
    fewer = f" ({wanted} did not fit cache_mb)" if views < wanted else ""
    return CachePlan(views, f"The frozen part is computed once, {exact}{fewer}; {size:.1f} MB are cached.")


@dataclass(frozen=True)
class Source:
    """Inputs for the part of the network from block `start` on; `cached` has shape (views, photos, ...)."""

    model: Classifier
    photos: Photos
    start: int
    cached: Tensor | None = None
    plain: bool = False

    def batch(self, positions: Sequence[int], epoch: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """Inputs and labels of these photos in epoch 1, 2, ...: draw number `epoch - 1`, modulo the cached."""
        labels = self.photos.labels[list(positions)].to(device)
        if self.cached is not None:
            return self.cached[(epoch - 1) % len(self.cached), list(positions)].to(device), labels
        inputs = self.photos.inputs(positions, PLAIN if self.plain else epoch - 1).to(device)
        if self.start:
            with torch.no_grad():
                inputs = self.model.run(inputs, 0, self.start)
        return inputs, labels


def cache(
    model: Classifier,
    photos: Photos,
    stop: int,
    draws: Sequence[int],
    device: torch.device,
    should_stop: Callable[[], bool],
    stage: str,
) -> Generator[Progress, None, Tensor]:
    """Run blocks 0 to `stop` over these draws of all photos; returns float32 (draws, photos, ...) on the CPU.

    Raises Stopped within one batch of `should_stop`.
    """
    model.eval()
    done, total = 0, len(draws) * len(photos)
    result: Tensor | None = None
    yield Progress(stage, 0, total)
    for row, draw in enumerate(draws):
        for first in range(0, len(photos), FORWARD_BATCH):
            if should_stop():
                raise Stopped
            positions = range(first, min(first + FORWARD_BATCH, len(photos)))
            with torch.no_grad():
                out = model.run(photos.inputs(positions, draw).to(device), 0, stop).float().cpu()
            if result is None:
                result = torch.empty((len(draws), len(photos), *out.shape[1:]))
            result[row, first : first + len(positions)] = out
            done += len(positions)
            yield Progress(stage, done, total)
    assert result is not None, "there are photos and draws"
    return result


def deepen(
    model: Classifier, activations: Tensor, start: int, device: torch.device, should_stop: Callable[[], bool]
) -> Tensor:
    """Cached inputs of block `start` → pooled features: (draws, photos, features). May raise Stopped."""
    model.eval()
    rows = []
    for row in activations:
        parts = []
        for part in row.split(FORWARD_BATCH):
            if should_stop():
                raise Stopped
            with torch.no_grad():
                parts.append(model.run(part.to(device), start, model.n_blocks).cpu())
        rows.append(torch.cat(parts))
    return torch.stack(rows)
