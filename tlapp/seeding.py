"""torch's global generator of random numbers, borrowed by one thread at a time and put back as it was.

Layers and torchvision's transforms draw from it alone. Knows nothing of what is drawn.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

_borrowed = threading.Lock()


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Meanwhile torch's CPU draws follow from `seed`, whatever other threads do with `seeded`. Not to be nested."""
    with _borrowed, torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield
