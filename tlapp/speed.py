"""How fast this machine runs a backbone: which precision is quickest, and what each block and a view cost.

Measured on the machine, never assumed. The choice of precision is kept in the workspace, so that runs on one
machine agree; times are measured once in a process. Knows no photos.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import itertools
import json
import platform
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from tlapp import backbones, workspace
from tlapp.augment import Views
from tlapp.backbones import Classifier
from tlapp.catalog import Backbone
from tlapp.errors import RunError
from tlapp.plan import AUGMENTATIONS
from tlapp.seeding import seeded

BATCH = 8
LEAST_SECONDS = 0.4
WORTH = 1.2
"""How much faster a lower precision must be to be taken."""

_one_at_a_time = threading.RLock()  # two measurements side by side would both come out slow


def device(name: str = "auto") -> torch.device:
    """The device of that name ("auto": CUDA, else Apple's MPS, else the CPU). Raises RunError if it is not there."""
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        name = next(kind for kind, available in there.items() if available)
    if not there[name]:
        raise RunError(f"The device {name} is not available on this machine. Set device to cpu or auto.")
    if name == "cuda":
        torch.backends.cudnn.allow_tf32 = False  # float32 means float32 where it is asked for
    return torch.device(name)


@contextlib.contextmanager
def autocast(device: torch.device, precision: torch.dtype) -> Iterator[None]:
    """Meanwhile convolutions and products run in this precision; float32 leaves all as it is."""
    with torch.autocast(device.type, precision, enabled=precision != torch.float32):
        yield


class Frozen:
    """Blocks of a model for running only, from `start` on: BatchNorm folded, gradients off, in one precision."""

    def __init__(
        self, model: Classifier, start: int, stop: int, device: torch.device, precision: torch.dtype,
        several: bool | None = None,
    ) -> None:  # fmt: skip
        self.start, self.stop = start, stop
        self.device, self.precision = device, precision
        blocks = copy.deepcopy(list(model.blocks.values())[start:stop])
        for block in blocks:
            backbones.fold(block.eval())
        idle = [nn.Identity()] * start
        rest = [nn.Identity()] * (model.n_blocks - stop)
        several = model.several if several is None else several
        with seeded(0):  # its head is never used, but is drawn
            self.model = Classifier(model.entry, [*idle, *blocks, *rest], 1, several=several).eval()
        self.model.requires_grad_(False)

    def __call__(self, x: Tensor) -> Tensor:
        """Input of the first block → output of the last, pooled float32 where it is the backbone's last."""
        with torch.no_grad(), autocast(self.device, self.precision):
            return self.model.run(x.to(self.device, non_blocking=True), self.start, self.stop)


def precision(entry: Backbone, device: torch.device, wanted: str = "auto") -> torch.dtype:
    """In what the frozen part of a backbone runs: as wanted, else what a timed trial on the device finds quickest."""
    if wanted != "auto":
        return getattr(torch, wanted)
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    if device.type != "cpu":
        return torch.float32
    with _one_at_a_time:
        return getattr(torch, _quickest(entry, torch.get_num_threads()))


@functools.cache
def _quickest(entry: Backbone, threads: int) -> str:
    """The processor's quickest precision, from the workspace if it was tried before."""
    path = workspace.home() / "precision.json"
    key = f"{entry.name}, torch {torch.__version__}, {platform.processor() or platform.machine()}, {threads} threads"
    known = _tried(path).get(key)
    if known in ("float32", "bfloat16"):
        return known
    found = _try_precisions(entry)
    with contextlib.suppress(OSError):
        workspace.write_atomic(path, json.dumps({**_tried(path), key: found}, indent=1).encode())
    return found


def _tried(path: Path) -> dict[str, str]:
    """What was found before; nothing where the note is missing or damaged."""
    with contextlib.suppress(OSError, ValueError):
        found = json.loads(path.read_bytes())
        if isinstance(found, dict):
            return found
    return {}


def _try_precisions(entry: Backbone) -> str:
    """Time both on a few photos in turn; the first round warms up."""
    cpu = torch.device("cpu")
    model = backbones.build(entry, 2).to(memory_format=torch.channels_last)
    x = torch.zeros(2, 3, entry.crop, entry.crop).contiguous(memory_format=torch.channels_last)
    both = {name: Frozen(model, 0, model.n_blocks, cpu, getattr(torch, name)) for name in ("float32", "bfloat16")}
    best = dict.fromkeys(both, float("inf"))
    for turn in range(4):
        for name, frozen in both.items():
            started = time.perf_counter()
            frozen(x)
            if turn:
                best[name] = min(best[name], time.perf_counter() - started)
    return "bfloat16" if best["bfloat16"] * WORTH < best["float32"] else "float32"


@dataclass(frozen=True)
class Speed:
    """What a backbone costs on a device, in seconds per photo.

    `blocks`: forward through each in float32; `frozen`: the same as `Frozen` runs them; `view`: a light view drawn.
    `itemsize`: bytes of a cached number.
    """

    blocks: tuple[float, ...]
    frozen: tuple[float, ...]
    view: float
    itemsize: int = 4


def measure(entry: Backbone, name: str = "auto") -> Speed:
    """Time a backbone on a device ("auto", "cpu", "cuda", "mps"; one not there: the CPU), once in this process."""
    with _one_at_a_time:
        try:
            return _measure(entry, device(name))
        except RunError:
            return _measure(entry, device("cpu"))


@functools.cache
def _measure(entry: Backbone, device: torch.device) -> Speed:
    model = backbones.build(entry, 2).eval()  # random weights are as fast
    model = model.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    quick = precision(entry, device)
    n = model.n_blocks
    views = Views(AUGMENTATIONS["light"], entry)
    photo = np.random.default_rng(0).integers(0, 256, (256, 340, 3), dtype=np.uint8)
    activations: dict[int, Tensor] = {}
    lower: dict[int, Tensor] = {}
    frozen = [Frozen(model, i, i + 1, device, quick) for i in range(n)]

    def draw() -> None:
        batch = torch.stack([views.draw(photo, seed) for seed in range(BATCH)])
        activations[0] = views.normalise(batch).contiguous(memory_format=torch.channels_last).to(device)
        lower[0] = activations[0]

    def forward(i: int) -> None:
        with torch.no_grad():
            activations[i + 1] = model.run(activations[i], i, i + 1)
        _wait(device)

    def quickly(i: int) -> None:
        lower[i + 1] = frozen[i](lower[i])
        _wait(device)

    works = [functools.partial(forward, i) for i in range(n)] + [functools.partial(quickly, i) for i in range(n)]
    view, *blocks = _fastest([draw, *works])
    return Speed(tuple(blocks[:n]), tuple(blocks[n:]), view, quick.itemsize)


def _wait(device: torch.device) -> None:
    if device.type != "cpu":
        torch.accelerator.synchronize()


def _fastest(works: list[Callable[[], object]]) -> list[float]:
    """Seconds per photo of each work on a batch, after one round to warm up; a hiccup must not stay for good."""
    rounds: list[list[float]] = []
    end = time.perf_counter() + LEAST_SECONDS
    while len(rounds) < 3 or time.perf_counter() < end:
        times = [time.perf_counter()]
        for work in works:
            work()
            times.append(time.perf_counter())
        rounds.append([max(after - before, 1e-9) / BATCH for before, after in itertools.pairwise(times)])
    return [min(times) for times in zip(*rounds[1:], strict=True)]
