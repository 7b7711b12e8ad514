"""How long a run will take and how many numbers it will learn, before it starts.

A backbone is timed once on this machine; `seconds` then counts what `train` and `jobs` do with a plan, so it changes
with them. Knows no photos, only how many there are.
"""

from __future__ import annotations

import functools
import itertools
import math
import operator
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from tlapp import backbones, catalog
from tlapp.augment import Views
from tlapp.catalog import Backbone
from tlapp.features import plan_cache
from tlapp.plan import AUGMENTATIONS, Augmentation, Plan

BATCH = 8
LEAST_SECONDS = 0.4
# Runs take 32 photos at a time where the probe can afford 8. On a processor the early blocks, whose activations are
# large, then take longer per photo: 1.1 (ResNets) to 2 times (EfficientNet); the later ones do not.
LARGE = 70_000
LARGE_BATCH = 1.3
# Forward and backward, in forwards. The gradients of a layer's input and of its weights cost one forward each, a
# BatchNorm in train mode somewhat more: on one idle core ResNets took 2.8 to 3.5, EfficientNet-Lite0 3.4 to 4.3 (its
# last blocks 2.7 to 3.5), without gradients of the weights 2.1 and 2.8. Not timed: one block says less of the whole.
LEARNING = 3.3
PASSING_THROUGH = 2.4
# Views, in views of the augmentation "light": turning and colours cost most, then blurring.
VIEWS = {"off": 0.3, "light": 1.0, "medium": 4.0, "strong": 6.5}
LOADING = 0.7  # seconds: weights read and checked, the model written and checked
EPOCH = 0.03  # seconds: events and two small files, each brought safely to the disk
STEP = 0.0015  # seconds: forward and backward of the head alone, any batch
ADAMW = 5e-9  # seconds per number and step
SAVING = 4e-9  # seconds per byte copied, hashed and written


@dataclass(frozen=True)
class Speed:
    """What a backbone costs on a device, in seconds per photo: forward through each block; a light view drawn."""

    blocks: tuple[float, ...]
    view: float


_one_at_a_time = threading.Lock()  # two measurements side by side would both come out slow


def probe(entry: Backbone, device: str = "auto") -> Speed:
    """Time a backbone on a device ("auto", "cpu", "cuda", "mps"; one not there: the CPU), once in this process."""
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    device = "cuda" if device == "auto" else device
    with _one_at_a_time:
        return _measure(entry, device if there.get(device) else "cpu")


@functools.cache
def _measure(entry: Backbone, device: str) -> Speed:
    model = backbones.build(entry, 2).eval()  # random weights are as fast
    model = model.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    views = Views(AUGMENTATIONS["light"], entry)
    photo = np.random.default_rng(0).integers(0, 256, (256, 340, 3), dtype=np.uint8)
    activations: dict[int, torch.Tensor] = {}

    def draw() -> None:
        batch = torch.stack([views.draw(photo, seed) for seed in range(BATCH)])
        activations[0] = views.normalise(batch).contiguous(memory_format=torch.channels_last).to(device)

    def forward(i: int) -> None:
        with torch.no_grad():
            activations[i + 1] = model.run(activations[i], i, i + 1)
        if device != "cpu":
            torch.accelerator.synchronize()

    view, *blocks = _fastest([draw, *(functools.partial(forward, i) for i in range(model.n_blocks))])
    slower = [LARGE_BATCH if device == "cpu" and block.elements > LARGE else 1 for block in entry.blocks]
    return Speed(tuple(map(operator.mul, blocks, slower)), view)


def _fastest(works: list[Callable[[], object]]) -> list[float]:
    """Seconds per photo of each work on a batch, after one round to warm up; a hiccup must not stay for good."""
    rounds: list[list[float]] = []
    end = time.perf_counter() + LEAST_SECONDS
    while len(rounds) < 2 or time.perf_counter() < end:
        times = [time.perf_counter()]
        for work in works:
            work()
            times.append(time.perf_counter())
        rounds.append([max(after - before, 1e-9) / BATCH for before, after in itertools.pairwise(times)])
    return [min(times) for times in zip(*rounds[1:], strict=True)]


def seconds(plan: Plan, n_train: int, n_validation: int, n_test: int, speed: Speed) -> float:
    """Seconds that a run takes at most (all its epochs, on an idle machine) with so many photos of each kind."""
    entry = catalog.get(plan.backbone)
    names = entry.block_names
    prefix = next((i for i, name in enumerate(names) if name not in plan.frozen), len(names))
    before, tail = sum(speed.blocks[:prefix]), sum(speed.blocks[prefix:])
    backward = [PASSING_THROUGH if name in plan.frozen else LEARNING for name in names]
    learning = sum(map(operator.mul, speed.blocks[prefix:], backward[prefix:]))
    drawn, plain = speed.view * VIEWS[_kind(plan.augmentation)], speed.view * VIEWS["off"]
    steps, n_bytes = math.ceil(n_train / plan.batch_size), 4 * learned(plan, 0)
    cached = plan_cache(entry, plan, prefix, n_train, n_validation).views

    def pass_over(n_views: int, blocks: float) -> float:
        """Training and validation photos drawn and run through."""
        return n_views * n_train * (drawn + blocks) + n_validation * (plain + blocks)

    total = LOADING + n_test * (plain + before + tail) + (pass_over(cached, before) if cached else 0)
    if plan.n_head_epochs and not plan.head_only:
        n_views = max(1, plan_cache(entry, plan, len(names), n_train, n_validation).views)
        total += (cached * n_train + n_validation) * tail if cached else pass_over(n_views, before + tail)
    every_epoch = 0 if cached else pass_over(1, before)
    head = EPOCH + steps * STEP + 2 * SAVING * n_bytes + every_epoch * plan.head_only
    fine = EPOCH + steps * (STEP + ADAMW * n_bytes / 4) + 4 * SAVING * n_bytes
    fine += every_epoch + n_train * learning + n_validation * tail
    return total + plan.n_head_epochs * head + (plan.epochs - plan.n_head_epochs) * fine


def learned(plan: Plan, n_classes: int) -> int:
    """How many numbers a run of this plan learns: the head's and those of the blocks that are not frozen."""
    entry = catalog.get(plan.backbone)
    return (entry.features + 1) * n_classes + sum(b.parameters for b in entry.blocks if b.name not in plan.frozen)


def in_words(seconds: float) -> str:
    """A time as coarse as an estimate is: "about 20 s", "about 2 min", "about 1 h 10 min"."""
    steps = ((5, 1), (30, 5), (55, 10), (570, 60), (3450, 300), (35_700, 600), (math.inf, 3600))
    step = next(step for limit, step in steps if seconds < limit)
    rounded = max(1, round(seconds / step) * step)
    if rounded < 60:
        return f"about {rounded} s"
    return f"about {rounded // 3600} h {rounded % 3600 // 60} min".replace(" 0 h", "").removesuffix(" 0 min")


def _kind(a: Augmentation) -> str:
    """The named augmentation that takes about as long as this one."""
    if a.is_off:
        return "off"
    turned = any((a.rotation, a.zoom, a.shift, a.brightness, a.contrast, a.saturation))
    return "strong" if a.blur else "medium" if turned else "light"
