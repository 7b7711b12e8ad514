"""Memory that did not suffice, in words that help, and memory that is free, given back to the system.

Must not import torch of itself: where it is not imported, nothing of it takes memory.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import sys

from tlapp.plan import Plan

SHORT = "This machine's memory does not suffice. Close other programs or use fewer photos."
GPU_LOST = (
    "The GPU reported a fault, and this program cannot use it any more. Close tlapp and start it again; what was saved "
    "is kept: resume the run then."
)
_M_ARENA_MAX = -8  # of malloc.h
_OF_MEMORY = ("out of memory", "not enough memory", "allocate memory", "failed to allocate", "bad_alloc")
_UNFIT = ("no kernel image", "invalid device ordinal", "no cuda-capable device", "driver version is insufficient")
_OF_GPU = ("cuda error", "cudnn error", "cublas error", "device-side assert", "illegal memory access")


def is_short(error: BaseException) -> bool:
    """Whether the machine's or the GPU's memory did not suffice; torch says it in several ways."""
    words = str(error).lower()
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and any(w in words for w in _OF_MEMORY))


def is_gpu_lost(error: BaseException) -> bool:
    """Whether CUDA reported what no later call of this process recovers from, but another process may."""
    words = str(error).lower()
    is_other = is_short(error) or any(w in words for w in _UNFIT)
    return isinstance(error, RuntimeError) and not is_other and any(w in words for w in _OF_GPU)


def advice(error: BaseException, plan: Plan, stage: str) -> str:
    """What happened and what to change, after what the run was doing: `stage` of its last progress, "" in an epoch."""
    words = str(error).lower()
    of = "The GPU's memory" if "cuda" in words or "gpu" in words else "This machine's memory"
    doing = f"the run was at this: {stage}" if stage else "the run was learning"
    changes = _changes(plan, stage)
    if "GPU" in of:
        changes += ["device to cpu"] if plan.precision == "bfloat16" else ["precision to bfloat16", "device to cpu"]
    listed = f"{', '.join(changes[:-1])} or {changes[-1]}" if len(changes) > 1 else changes[0]
    return (
        f"{of} did not suffice while {doing}. Close other programs and resume; if that is not enough, set {listed}, "
        "and train again."
    )


def _changes(plan: Plan, stage: str) -> list[str]:
    """Settings with values that take less memory, those first that do most for this stage."""
    cache = [f"cache_mb to {plan.cache_mb // 4} (it is {plan.cache_mb})"] if plan.cache_mb >= 4 else []
    learning = []
    if plan.solver == "sgd":
        batch = plan.batch_size
        learning += [f"batch_size to {max(1, batch // 4)} (it is {batch})"] if batch > 1 else []
        learning += ["frozen to more blocks"] if plan.learning else []
    elif plan.solver == "auto":
        learning = ["solver to exact"]
    found = [*cache, *learning] if stage else [*learning, *cache]
    return found or ["backbone to a smaller one"]


def give_back() -> None:
    """Return to the system what nothing uses: a GPU's cached blocks, the heap's free pages. For the end of a run."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        gc.collect()  # an error's frames may hold tensors in a circle
        with contextlib.suppress(RuntimeError):  # a GPU that is lost
            torch.cuda.empty_cache()
    trim()


def trim() -> None:
    """Return the heap's free pages: glibc keeps what a thread has freed, and every request has a thread of its own."""
    _glibc("malloc_trim", 0)


def share_heaps() -> None:
    """Let all threads share a few heaps: with eight a core, as glibc makes them, each keeps what its threads freed."""
    _glibc("mallopt", _M_ARENA_MAX, max(2, os.cpu_count() or 1))


def _glibc(name: str, *given: int) -> None:
    """Call that function of the C library, if this system has it."""
    if sys.platform.startswith("linux"):
        with contextlib.suppress(OSError, AttributeError):
            getattr(ctypes.CDLL(None), name)(*given)
