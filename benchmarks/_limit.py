"""The least that any model on this backbone costs: every photo decoded once and run once through the network.

In the fastest precision and batch size that this machine has for it, BatchNorm folded into the convolutions, channels
last, eager; what a compiler could add is left out, as it takes seconds to compile. Weights are read before the clock
starts.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks._peers import ENTRY, body
from tlapp import backbones

AT_ONCE = 64


@dataclass(frozen=True)
class Fastest:
    """The folded network in one precision, run on batches of one size."""

    network: Any
    precision: torch.dtype
    batch: int

    def __call__(self, inputs: torch.Tensor) -> torch.Tensor:
        """float32 (photos, 3, crop, crop), normalised → pooled features."""
        with torch.inference_mode():
            parts = [self.network(part.to(self.precision)) for part in inputs.split(self.batch)]
        return torch.cat(parts).float()


def folded(precision: torch.dtype = torch.float32) -> Any:
    """The backbone as fast as it runs eagerly."""
    network = body().eval().requires_grad_(False)
    for block in network[:-2]:
        backbones.fold(block)
    return network.to(dtype=precision, memory_format=torch.channels_last)


def fastest(precisions: Sequence[torch.dtype] = (torch.float32, torch.bfloat16)) -> Fastest:
    """What a short trial on this machine finds quickest."""
    inputs = ready(np.zeros((32, ENTRY.crop, ENTRY.crop, 3), np.uint8))
    networks = {precision: folded(precision) for precision in precisions}
    tried = [Fastest(networks[precision], precision, batch) for precision in precisions for batch in (8, 16, 32)]
    best = [float("inf")] * len(tried)
    for turn, (i, one) in itertools.product(range(4), enumerate(tried)):
        started = time.perf_counter()
        one(inputs)
        if turn:
            best[i] = min(best[i], time.perf_counter() - started)
    return tried[best.index(min(best))]


def decode(path: Path) -> np.ndarray:
    """The centre of a photo as Pillow gives it: uint8 (crop, crop, 3)."""
    with Image.open(path) as picture:
        picture.draft("RGB", (ENTRY.resize, ENTRY.resize))
        rgb = picture.convert("RGB")
    scale = ENTRY.resize / min(rgb.size)
    if scale != 1:
        size = [max(ENTRY.resize, int(side * scale)) for side in rgb.size]
        rgb = rgb.resize((size[0], size[1]), Image.Resampling.BICUBIC)
    left, top = ((side - ENTRY.crop) // 2 for side in rgb.size)
    return np.asarray(rgb.crop((left, top, left + ENTRY.crop, top + ENTRY.crop)))


def ready(pixels: np.ndarray) -> torch.Tensor:
    """uint8 (photos, crop, crop, 3) → float32 (photos, 3, crop, crop), normalised, in channels_last memory."""
    mean, std = (255 * torch.tensor(values) for values in (ENTRY.mean, ENTRY.std))
    return ((torch.from_numpy(pixels).float() - mean) / std).permute(0, 3, 1, 2)


def run(forward: Fastest, paths: Sequence[Path], threads: int) -> dict[str, float]:
    """Decode these photos and run them; the seconds of both."""
    spent = {"decode_seconds": 0.0, "forward_seconds": 0.0}
    with ThreadPoolExecutor(threads) as pool:
        for first in range(0, len(paths), AT_ONCE):
            started = time.perf_counter()
            pixels = np.stack(list(pool.map(decode, paths[first : first + AT_ONCE])))
            decoded = time.perf_counter()
            forward(ready(pixels))
            spent["decode_seconds"] += decoded - started
            spent["forward_seconds"] += time.perf_counter() - decoded
    return spent
