"""How long a run was said to take and how long it took, on the photos of a folder.

    python -m benchmarks estimate FOLDER [--per-class 20] [--backbone efficientnet_lite0] [--threads 2] [--repeats 3]

A probe right before each real training, early stopping off; a row gives medians over the repeats, and the lowest and
highest quotient. What else the machine does at a probe or at a training, but not at both, shows in the quotient.
"""

from __future__ import annotations

import argparse
import dataclasses
import shutil
import statistics
import tempfile
import time
from pathlib import Path

from tlapp import catalog, dataset, estimate, jobs, plan, speed
from tlapp.events import RunFinished


def cases(base: plan.Plan) -> dict[str, plan.Plan]:
    """The plans to try, by what they show."""
    names = catalog.get(base.backbone).block_names
    replace = dataclasses.replace
    learns = replace(base, solver="sgd")
    return {
        "exact head": replace(base, solver="exact"),
        "exact head, augmentation off": replace(base, solver="exact", augmentation=plan.AUGMENTATIONS["off"]),
        "exact head, augmentation strong": replace(base, solver="exact", augmentation=plan.AUGMENTATIONS["strong"]),
        "exact head, then fine-tuning": base,
        "head by AdamW": learns,
        "last block learns": replace(learns, frozen=names[:-1]),
        "last two blocks learn": replace(learns, frozen=names[:-2]),
        "last but one learns, last frozen": replace(learns, frozen=(*names[:-2], names[-1])),
        "all learn but the first, 2 epochs": replace(learns, frozen=names[:1], epochs=2),
        "all learn, 2 epochs": replace(learns, frozen=(), epochs=2),
    }


def main(arguments: list[str]) -> None:
    """Estimate, train and print a row for each case."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks estimate")
    parser.add_argument("folder", type=Path, help="one sub-folder per class")
    parser.add_argument("--per-class", type=int, default=20)
    parser.add_argument("--backbone", default=catalog.INCLUDED)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args(arguments)
    import torch

    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as temporary:
        home = Path(temporary) / "home"
        photos = dataset.scan(some_of(options.folder, options.per_class, Path(temporary) / "photos"), home=home)
        base = dataclasses.replace(plan.suggest(photos, options.backbone), patience=0, device="cpu")
        split = base.split(photos)
        sizes = len(split.train), len(split.validation), len(split.test)
        print("{} training, {} validation and {} test photos, {}".format(*sizes, options.backbone))
        print("\n| run | estimate, s | real, s | estimate ÷ real |\n|---|---|---|---|")
        for name, case in cases(base).items():
            rows = [measure(photos, case, sizes, home) for _ in range(options.repeats)]
            quotients = [said / real for said, real in rows]
            said, real = (statistics.median(column) for column in zip(*rows, strict=True))
            spread = f"{statistics.median(quotients):.2f} ({min(quotients):.2f} – {max(quotients):.2f})"
            print(f"| {name} | {said:.1f} | {real:.1f} | {spread} |", flush=True)


def measure(photos: dataset.Dataset, case: plan.Plan, sizes: tuple[int, int, int], home: Path) -> tuple[float, float]:
    """Seconds estimated and seconds taken."""
    speed._measure.cache_clear()
    said = estimate.seconds(case, *sizes, estimate.probe(case))
    started = time.perf_counter()
    last = list(jobs.follow(jobs.start(photos, case, home)))[-1]
    real = time.perf_counter() - started
    assert isinstance(last, RunFinished), last
    return said, real


def some_of(folder: Path, n: int, copy: Path) -> Path:
    """A copy of the first `n` photos of each class."""
    for sub in sorted(path for path in folder.iterdir() if path.is_dir()):
        (copy / sub.name).mkdir(parents=True)
        for photo in sorted(sub.iterdir())[:n]:
            shutil.copy(photo, copy / sub.name)
    return copy
