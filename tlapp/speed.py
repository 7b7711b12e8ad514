"""How fast this machine runs a backbone: in which precision and memory format, and what each block and a view cost.

Measured on the machine, never assumed. What the trial of precisions found is kept in the workspace, so that runs on
one machine agree; times are measured once in a process. Knows no photos.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import itertools
import json
import math
import platform
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
WORTH = 1.1
"""How much faster a lower precision must be in the trial to be taken; on whole batches it gains more."""

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


@dataclass(frozen=True)
class Way:
    """How a frozen part runs: in which precision, and with which order of numbers in memory."""

    precision: torch.dtype
    memory_format: torch.memory_format = torch.channels_last

    @property
    def itemsize(self) -> int:
        """Bytes of a number that it puts out."""
        return self.precision.itemsize


class Frozen:
    """Blocks of a model for running only, from `start` on: BatchNorm folded, gradients off, run one way.

    Weights are kept in the precision that they run in; autocast would convert them for every batch.
    """

    def __init__(
        self, model: Classifier, start: int, stop: int, device: torch.device, way: Way, several: bool | None = None
    ) -> None:
        self.start, self.stop = start, stop
        self.device, self.way = device, way
        blocks = copy.deepcopy(list(model.blocks.values())[start:stop])
        for block in blocks:
            backbones.fold(block.eval())
        idle = [nn.Identity()] * start
        rest = [nn.Identity()] * (model.n_blocks - stop)
        several = model.several if several is None else several
        with seeded(0):  # its head is never used, but is drawn
            self.model = Classifier(model.entry, [*idle, *blocks, *rest], 1, several=several).eval()
        self.model.requires_grad_(False)
        self.model.to(dtype=way.precision, memory_format=way.memory_format)  # type: ignore[call-overload]

    def __call__(self, x: Tensor) -> Tensor:
        """Input of the first block → output of the last, pooled float32 where it is the backbone's last."""
        with torch.no_grad():
            x = x.to(self.device, self.way.precision, non_blocking=True)
            return self.model.run(x.contiguous(memory_format=self.way.memory_format), self.start, self.stop)


def quickest(entry: Backbone, device: torch.device, precision: str = "auto") -> Way:
    """How the frozen part of a backbone runs: in this precision, else as a timed trial on the device finds quickest.

    On a GPU without a trial: in its half precision, channels last.
    """
    if precision != "auto":
        return Way(getattr(torch, precision))
    if device.type == "cuda":
        has_it = torch.cuda.is_bf16_supported(including_emulation=False)
        return Way(torch.bfloat16 if has_it else torch.float16)
    if device.type != "cpu":
        return Way(torch.float32)
    with _one_at_a_time:
        times = _times(entry, torch.get_num_threads(), workspace.home() / "quickest.json")
    return WAYS[_best_of(times)]


WAYS = {
    f"{precision}, {name}": Way(getattr(torch, precision), memory_format)
    for precision in ("float32", "bfloat16")
    for name, memory_format in (("channels last", torch.channels_last), ("contiguous", torch.contiguous_format))
}
"""What is tried on a processor."""


@functools.cache
def _times(entry: Backbone, threads: int, path: Path) -> dict[str, float]:
    """Milliseconds per photo of each way, from the workspace if they were tried before."""
    cpu = f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}"
    key = f"3, {entry.name}, torch {torch.__version__}, {cpu}, {threads} threads"
    known = _noted(path).get(key)
    if isinstance(known, dict) and known and all(name in WAYS and isinstance(known[name], float) for name in known):
        return known
    found = _try_ways(entry)
    with contextlib.suppress(OSError):
        workspace.write_atomic(path, json.dumps({**_noted(path), key: found}, indent=1).encode())
    return found


def _noted(path: Path) -> dict[str, Any]:
    """What was found before; nothing where the note is missing or damaged."""
    with contextlib.suppress(OSError, ValueError):
        found = json.loads(path.read_bytes())
        if isinstance(found, dict):
            return found
    return {}


def _try_ways(entry: Backbone) -> dict[str, float]:
    """Time the precisions in turn, channels last, on a few photos; then the quicker one, contiguous."""
    n, model = BATCH // 2, backbones.build(entry, 2)  # whole batches would hold twice the memory
    x = torch.zeros(n, 3, entry.crop, entry.crop)
    best: dict[str, float] = {}

    def race(names: list[str], rounds: int) -> None:
        ways = {name: WAYS[name] for name in names}
        runs = {name: Frozen(model, 0, model.n_blocks, torch.device("cpu"), way) for name, way in ways.items()}
        inputs = {name: x.contiguous(memory_format=way.memory_format) for name, way in ways.items()}
        for _ in range(rounds):  # the first warms up
            for name in names:
                started = time.perf_counter()
                runs[name](inputs[name])
                ms = 1000 * (time.perf_counter() - started) / n
                best[name] = round(min(ms, best.get(name, math.inf)), 3)

    race([name for name, way in WAYS.items() if way.memory_format == torch.channels_last], rounds=3)
    precision = WAYS[_best_of(best)].precision
    race([name for name, way in WAYS.items() if way.precision == precision and name not in best], rounds=2)
    return best


def _best_of(times: dict[str, float]) -> str:
    return min(times, key=lambda name: times[name] * (1 if WAYS[name].precision == torch.float32 else WORTH))


@dataclass(frozen=True)
class Speed:
    """What a backbone costs on a device, in seconds per photo.

    `blocks`: forward through each in float32; `frozen`: the same as `Frozen` runs them; `view`: a light view drawn.
    `itemsize`: bytes of a cached number. `held`: bytes that backward needs of what a block computes of one photo.
    """

    blocks: tuple[float, ...]
    frozen: tuple[float, ...]
    view: float
    itemsize: int = 4
    held: tuple[int, ...] = ()


def measure(entry: Backbone, name: str = "auto") -> Speed:
    """Time a backbone on a device ("auto", "cpu", "cuda", "mps"; one not there: the CPU), once in this process."""
    with _one_at_a_time:
        key = entry, _there(name)
        if key not in _measured:
            _measured[key] = _measure(*key)
        return _measured[key]


def is_measured(entry: Backbone, name: str = "auto") -> bool:
    """Whether `measure` answers at once."""
    return (entry, _there(name)) in _measured


_measured: dict[tuple[Backbone, torch.device], Speed] = {}


def _there(name: str) -> torch.device:
    try:
        return device(name)
    except RunError:
        return device("cpu")


def _measure(entry: Backbone, device: torch.device) -> Speed:
    model = backbones.build(entry, 2).eval()  # random weights are as fast
    model = model.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    quick = quickest(entry, device)
    n = model.n_blocks
    views = Views(AUGMENTATIONS["light"], entry)
    photo = np.random.default_rng(0).integers(0, 256, (256, 340, 3), dtype=np.uint8)
    activations: dict[int, Tensor] = {}
    lower: dict[int, Tensor] = {}
    frozen = [Frozen(model, i, i + 1, device, quick) for i in range(n)]

    def draw() -> None:
        activations[0] = views.normalise([views.draw(photo, seed) for seed in range(BATCH)]).to(device)
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
    held = [_held(model, i, activations[i][:1]) for i in range(n)]
    return Speed(tuple(blocks[:n]), tuple(blocks[n:]), view, quick.itemsize, tuple(held))


def _held(model: Classifier, i: int, x: Tensor) -> int:
    """What backward through block i needs beside its parameters, in bytes."""
    parameters = sum(p.nbytes for p in list(model.blocks.values())[i].parameters())
    return max(0, held_by(lambda: model.run(x.detach(), i, i + 1)) - parameters)


def held_by(work: Callable[[], object]) -> int:
    """Bytes that backward would need of what `work` computes, parameters included."""
    seen: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        seen[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        work()
    return sum(seen.values())


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
