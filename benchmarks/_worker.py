"""One arm on one folder, timed in this process, which exists for nothing else; prints its measurement as JSON.

    python -m benchmarks._worker '{"arm": "plain", "folder": "…", "seed": 0, "threads": 2, "epochs": null}'

Imports come before the clock starts, for every arm. The peak of memory is that of the whole process, as the kernel
counts it, mapped files included.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any

IMPORTS = {
    "bare": ["torch", "torchvision", "timm"],
    "limit": ["torch", "torchvision", "timm", "tlapp.backbones"],
    "instant": ["tlapp.sitting", "tlapp.jobs", "timm"],
    "logistic": ["torchvision.transforms.v2", "timm", "tlapp.backbones", "sklearn.linear_model", "sklearn.pipeline"],
    "plain": ["torchvision.transforms.v2", "timm", "tlapp.backbones"],
    "timm": ["timm.data", "timm.loss", "timm.optim", "timm.scheduler", "tlapp.backbones"],
    "fastai": ["fastai.vision.all", "timm", "tlapp.backbones"],
}
ALIKE = {
    "instant again": "instant", "best": "instant", "best + fine-tuning": "instant", "logistic unscaled": "logistic",
    "strengthened": "plain", "full fine-tuning": "plain",
}  # fmt: skip


def main(asked: dict[str, Any]) -> dict[str, Any]:
    """Import, read the folder's list of files, run the arm, measure."""
    arm = asked["arm"]
    for name in IMPORTS[ALIKE.get(arm, arm)]:
        importlib.import_module(name)
    if arm == "bare":
        return {"peak_mb": peak_mb()}
    import torch

    from benchmarks import _arms, _photos

    torch.set_num_threads(asked["threads"])
    folder = _photos.read(Path(asked["folder"]))
    work = _arms.ARMS[arm](folder, asked["seed"], asked["epochs"])
    load, cpu, started = os.getloadavg()[0], cpu_seconds(), time.perf_counter()
    model = work()
    seconds = time.perf_counter() - started
    answers = model.answers() if model.answers else []
    whole = time.perf_counter() - started
    row: dict[str, Any] = {
        "seconds": seconds, "scored_seconds": whole, **model.measured,
        "cpu_seconds": cpu_seconds() - cpu, "load": load, "peak_mb": peak_mb(),
    }  # fmt: skip
    if answers:
        right = sum(item.label == answer for item, answer in zip(folder.test, answers, strict=True))
        row |= {"accuracy": right / len(answers), "n_test": len(answers), "marks": folder.marks(answers)}
    return row


def cpu_seconds() -> float:
    """Of all threads of this process."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def peak_mb() -> float:
    """The most memory this process held, in megabytes.

    Linux's VmHWM; elsewhere ru_maxrss, which on Linux would count the parent's memory from before the start.
    """
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024 / 1e6
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / 1e6 if sys.platform == "darwin" else most * 1024 / 1e6


if __name__ == "__main__":
    with contextlib.redirect_stdout(sys.stderr):  # some peers print
        measured = main(json.loads(sys.argv[1]))
    print(json.dumps(measured))
