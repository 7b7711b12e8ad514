"""Outputs of the frozen prefix, computed once per view and kept within a memory budget, past it on the disk.

A `Source` hands out batches of training inputs: from the cache where there is one, else drawn and run through the
frozen prefix anew. Either way view v of a photo is the same view. Knows nothing of losses or optimisers.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tlapp import workspace
from tlapp.augment import Views, view_seed
from tlapp.catalog import Backbone
from tlapp.dataset import Dataset
from tlapp.errors import TrainingDiverged
from tlapp.events import Progress
from tlapp.plan import Plan
from tlapp.speed import Frozen

FORWARD_BATCH = 8
PLAIN, MIRRORED = -1, -2
"""Numbers of draws that mean the plain view, and its mirror image."""


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
        """Views number `draw` (or `PLAIN`, `MIRRORED`) of these photos: float32 (batch, 3, crop, crop)."""
        return self.views.normalise([self._view(int(self.indices[p]), draw) for p in positions])

    def _view(self, index: int, draw: int) -> Tensor:
        pixels = self.dataset.pixels(index)
        if draw == PLAIN:
            return self.views.plain(pixels)
        if draw == MIRRORED:
            return self.views.plain(pixels).flip(2)
        return self.views.draw(pixels, view_seed(self.seed, self.dataset.photos[index].sha256, draw))


def draws(plan: Plan, n_views: int) -> list[int]:
    """The views of each photo that are cached.

    Of an exact head the plain one, its mirror image where that may help, then random ones; else random ones alone.
    Without augmentation no random ones.
    """
    if plan.solver == "sgd":
        return [PLAIN] if plan.augmentation.is_off else list(range(n_views))
    may_help = plan.mirror == "auto" and plan.augmentation.horizontal_flip > 0 and n_views > 1
    first = [PLAIN, MIRRORED] if may_help or plan.mirror == "on" else [PLAIN]
    return first if plan.augmentation.is_off else [*first, *range(n_views - len(first))]


@dataclass(frozen=True)
class CachePlan:
    """What is computed once. `views` 0: nothing, every epoch draws afresh. `text` says it in a sentence."""

    views: int
    text: str
    megabytes: float = 0.0
    on_disk: bool = False


def plan_cache(entry: Backbone, plan: Plan, prefix: int, n_train: int, n_validation: int, size: int = 4) -> CachePlan:
    """How many views of the frozen prefix's output fit the budget, at `size` bytes a number.

    Before the last stage, nothing is cached where a view's activations have more numbers than its pixels have
    bytes: too much memory for the few layers saved (for ResNets: a prefix that ends before layer2).
    """
    if prefix == 0:
        return CachePlan(0, "No block is frozen from the input on, so every epoch runs the whole network.")
    whole = prefix == len(entry.blocks)
    pooled = entry.features if plan.solver == "sgd" else entry.depth_features
    elements = pooled if whole else entry.blocks[prefix - 1].elements
    if elements > 3 * entry.crop**2 and prefix < len(entry.blocks) - entry.tail:
        return CachePlan(0, "The frozen part is too short to be worth caching; every epoch draws fresh views.")
    per_view = (4 if whole else size) * elements / 1e6
    wanted = len(draws(plan, plan.views))
    room = plan.cache_mb + plan.disk_mb
    views = min(wanted, int((room / per_view - n_validation) / n_train))
    if views < 1:
        instead = "every epoch draws fresh views" if plan.solver == "sgd" else "the head is fitted on plain views alone"
        return CachePlan(0, f"The views of each photo do not fit cache_mb and disk_mb; {instead}.")
    total = per_view * (views * n_train + n_validation)
    if plan.augmentation.is_off:
        exact = "exactly, as no view changes"
    else:
        drawn = f"{views} pre-drawn views" if plan.solver == "sgd" else f"{views} views"
        exact = f"on {drawn} of each photo"
    fewer = f" ({wanted} did not fit cache_mb and disk_mb)" if views < wanted else ""
    where = ", on the disk" if total > plan.cache_mb else ""
    text = f"The frozen part is computed once, {exact}{fewer}; {total:.1f} MB are cached{where}."
    return CachePlan(views, text, total, total > plan.cache_mb)


class Store:
    """Cached outputs: numbers of `dtype`, shape (draws, photos, *shape), in memory or in a file without a name.

    The file goes with the process. It is read piece by piece, never mapped, so that memory does not grow with it.
    """

    def __init__(self, n_draws: int, n_photos: int, shape: Sequence[int], dtype: torch.dtype, on_disk: bool) -> None:
        self.shape = (n_draws, n_photos, *shape)
        self.dtype = dtype
        self._row = math.prod(shape) * dtype.itemsize
        self._memory: Tensor | None = None
        if on_disk:
            workspace.home().mkdir(parents=True, exist_ok=True)
            self._file = tempfile.TemporaryFile(dir=workspace.home())  # noqa: SIM115 - closed with the store
        else:
            self._memory = torch.empty(self.shape, dtype=dtype)

    def __len__(self) -> int:
        return self.shape[0]

    def put(self, draw: int, first: int, rows: Tensor) -> None:
        """Keep the outputs of photos `first`, `first` + 1, ..."""
        rows = rows.to("cpu", self.dtype).contiguous()
        if self._memory is not None:
            self._memory[draw, first : first + len(rows)] = rows
        else:
            self._file.seek(self._offset(draw, first))
            self._file.write(rows.view(torch.uint8).numpy().tobytes())

    def get(self, draw: int, positions: Sequence[int]) -> Tensor:
        """The outputs of these photos: (positions, *shape)."""
        if self._memory is not None:
            return self._memory[draw, list(positions)]
        data = bytearray()
        for position in positions:
            self._file.seek(self._offset(draw, position))
            data += self._file.read(self._row)
        return torch.frombuffer(data, dtype=self.dtype).view(len(positions), *self.shape[2:])

    def select(self, photos: np.ndarray) -> Selected:
        """The same outputs of some of the photos, which are counted anew from 0."""
        return Selected(self, photos)

    def _offset(self, draw: int, photo: int) -> int:
        return (draw * self.shape[1] + photo) * self._row


@dataclass(frozen=True)
class Selected:
    """A part of a store's photos, under numbers of their own."""

    store: Store
    photos: np.ndarray

    def __len__(self) -> int:
        return len(self.store)

    def get(self, draw: int, positions: Sequence[int]) -> Tensor:
        """As `Store.get`."""
        return self.store.get(draw, self.photos[list(positions)].tolist())


@dataclass(frozen=True)
class Source:
    """Inputs for the part of the network from block `start` on: from `cached`, else through `prefix` every time."""

    photos: Photos
    start: int
    cached: Store | Selected | None = None
    prefix: Frozen | None = None
    plain: bool = False

    def batch(self, positions: Sequence[int], epoch: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """Inputs and labels of these photos in epoch 1, 2, ...: draw number `epoch - 1`, modulo the cached."""
        labels = self.photos.labels[list(positions)].to(device)
        if self.cached is not None:
            inputs = self.cached.get((epoch - 1) % len(self.cached), positions)
        else:
            inputs = self.photos.inputs(positions, PLAIN if self.plain else epoch - 1)
            if self.prefix is not None and self.start:
                inputs = self.prefix(inputs)
        return _moved(inputs, device).float(), labels


def _moved(x: Tensor, device: torch.device) -> Tensor:
    """On the device; pinned memory lets a GPU fetch it meanwhile."""
    if device.type == "cuda" and x.device.type == "cpu":
        x = x.pin_memory()
    return x.to(device, non_blocking=True)


def cache(
    prefix: Frozen,
    photos: Photos,
    numbers: Sequence[int],
    on_disk: bool,
    should_stop: Callable[[], bool],
    stage: str,
) -> Generator[Progress, None, Store]:
    """Run the prefix over these draws of all photos; what it puts out is kept in the prefix's precision.

    Raises Stopped within one batch of `should_stop`.
    """
    kept: list[Store] = []

    def put(row: int, first: int, out: Tensor) -> None:
        if not kept:
            kept.append(Store(len(numbers), len(photos), out.shape[1:], out.dtype, on_disk))
        kept[0].put(row, first, out)

    yield from run_over(prefix, photos, numbers, put, should_stop, stage)
    return kept[0]


def run_over(
    prefix: Frozen,
    photos: Photos,
    numbers: Sequence[int],
    put: Callable[[int, int, Tensor], None],
    should_stop: Callable[[], bool],
    stage: str,
) -> Iterator[Progress]:
    """As `cache`, with outputs handed to `put`: the row of the draw, the first photo, the outputs from it on.

    Raises TrainingDiverged where one is not a finite number: nothing could be fitted on it.
    """
    done, total = 0, len(numbers) * len(photos)
    yield Progress(stage, 0, total)
    for row, draw in enumerate(numbers):
        for positions in batches_of(len(photos)):
            if should_stop():
                raise Stopped
            out = prefix(_moved(photos.inputs(positions, draw), prefix.device))
            if not bool(torch.isfinite(out).all()):
                raise TrainingDiverged(_NOT_FINITE)
            put(row, positions[0], out)
            done += len(positions)
            yield Progress(stage, done, total)


def deepen(tail: Frozen, cached: Store, should_stop: Callable[[], bool], on_disk: bool = False) -> Store:
    """Cached inputs of the tail → pooled features, float32: (draws, photos, features). May raise Stopped."""
    kept: Store | None = None
    n_draws, n_photos = cached.shape[:2]
    for row in range(n_draws):
        for positions in batches_of(n_photos):
            if should_stop():
                raise Stopped
            out = tail(_moved(cached.get(row, positions), tail.device))
            kept = kept or Store(n_draws, n_photos, out.shape[1:], out.dtype, on_disk)
            kept.put(row, positions[0], out)
    assert kept is not None, "there are photos and draws"
    return kept


_NOT_FINITE = (
    "What the frozen part of the network puts out is not a finite number. Set precision to float32 and train again; if "
    "it is that already, the weights are damaged: choose others."
)


def batches_of(n: int) -> Iterable[range]:
    """The positions of n photos, as many at a time as run best."""
    return (range(first, min(first + FORWARD_BATCH, n)) for first in range(0, n, FORWARD_BATCH))
