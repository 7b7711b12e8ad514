"""A workspace that is quick to train in, and what is looked at after a process of it was killed or a disk was full."""

from __future__ import annotations

import dataclasses
import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tlapp import catalog, runs
from tlapp import plan as plans
from tlapp.dataset import Dataset
from tlapp.errors import RunError
from tlapp.events import EpochFinished, RunFinished
from tlapp.plan import AUGMENTATIONS, Plan
from tlapp.runs import Run

COLOURS = {"reds": (200, 40, 40), "blues": (40, 40, 200)}
N_PHOTOS = 20
SOLVERS = ("head", "tail", "instant", "auto")
_RUN = r"runs/(\.trash/)?\d{4,}-[a-z0-9]{6}"
_ALLOWED = re.compile(
    rf"""quickest\.json | tlapp\.log(\.\d|\.lock)?
    | (datasets|demo|exports|incoming|uploads)/[.\w-]*create\.lock | runs/(create|training)\.lock | runs/\.trash/looked
    | datasets/\.decisions\.lock
    | datasets/[0-9a-f]{{16}}/(dataset\.json|photos\.bin|added\.bin|features-[\w.-]+\.npy|decisions\.csv|waiting\.csv)
    | {_RUN}/(plan|report|keep|about)\.json | {_RUN}/(lock|line|stop|events\.jsonl)
    | {_RUN}/(last|best-\d+)\.state | {_RUN}/(model|learned)-[0-9a-f]{{12}}\.safetensors
    | weights/[\w-]+\.safetensors | demo/lock | demo/drawn-v\d+/.*""",
    re.VERBOSE,
)


def shrink() -> None:
    """From now on pictures have a quarter the side, so that the networks are sixteen times quicker."""
    for name, entry in list(catalog.BACKBONES.items()):
        blocks = tuple(dataclasses.replace(block, elements=block.elements // 16) for block in entry.blocks)
        catalog.BACKBONES[name] = dataclasses.replace(entry, resize=64, crop=56, blocks=blocks)
    plans.WORTH_TUNING = 8


def draw(folder: Path, seed: int = 0) -> Path:
    """Noisy photos of two colours, others for another seed."""
    for label, colour in COLOURS.items():
        seed += 100
        (folder / label).mkdir(parents=True)
        for i in range(N_PHOTOS):
            noise = np.random.default_rng(seed + i).integers(-120, 120, (48, 60, 3))
            picture = np.clip(np.array(colour) * 0.02 + 120 + noise, 0, 255).astype(np.uint8)
            Image.fromarray(picture).save(folder / label / f"{i:03d}.png")
    return folder


def plan(data: Dataset, solver: str) -> Plan:
    """Few epochs, the same on every machine. `solver`: one of SOLVERS; "tail" trains the last blocks too."""
    if solver == "instant":
        return dataclasses.replace(plans.instant(data, catalog.INCLUDED), device="cpu", precision="float32")
    base = dataclasses.replace(plans.suggest(data, catalog.INCLUDED), device="cpu", precision="float32")
    if solver == "auto":
        return dataclasses.replace(base, views=2, augmentation=AUGMENTATIONS["light"])
    frozen = catalog.get(catalog.INCLUDED).block_names[: -1 if solver == "tail" else None]
    return dataclasses.replace(
        base, solver="sgd", epochs=6, patience=0, batch_size=4, dropout=0.5, frozen=frozen,
        augmentation=AUGMENTATIONS["off"],
    )  # fmt: skip


def told(run: Run) -> int:
    """How many epochs the record tells of; the steps of an exact fit, which is made anew within seconds, are none."""
    epochs = {event.epoch for event in run.events()[0] if isinstance(event, EpochFinished) and _is_epoch(run, event)}
    return len(epochs)


def _is_epoch(run: Run, event: EpochFinished) -> bool:
    return run.plan.solver == "sgd" or event.phase == "fine-tune"


def outcome(run: Run) -> dict[str, Any]:
    """What must not depend on how often a run was interrupted."""
    return {name: value for name, value in run.report().items() if name != "seconds"}


def is_finished(run: Run) -> bool:
    """Whether the run has come to its end."""
    return any(isinstance(event, RunFinished) for event in run.events()[0])


def unreadable(home: Path) -> list[str]:
    """What cannot be opened of the runs of a workspace, each with the reason."""
    found = []
    folder = home / "runs"
    named = [name for name in os.listdir(folder) if name[0].isdigit()] if folder.is_dir() else []
    for run in [Run(folder / name) for name in sorted(named)]:
        try:
            _ = run.plan, run.events(), run.state(), run.keep(), run.read("last")
            if (run.path / "report.json").exists():
                _ = run.report(), run.model(), run.learned()
        except (RunError, OSError) as error:
            found.append(f"{run.id}: {error}")
    return found


def leftovers(home: Path) -> list[str]:
    """All that lies in a workspace where nobody is at work and that does not belong there."""
    paths = [path.relative_to(home).as_posix() for path in home.rglob("*") if not path.is_dir()]
    found = [path for path in paths if not _ALLOWED.fullmatch(path)]
    for folder in (path for path in home.rglob("*") if path.is_dir()):
        place = folder.relative_to(home).as_posix()
        if re.fullmatch(_RUN, place):
            found += _surplus(Run(folder))
        elif re.match(r"(datasets|exports|incoming|uploads|demo)/(?!drawn)", place):
            wanted = re.fullmatch(r"datasets/[0-9a-f]{16}", place) and (folder / "dataset.json").exists()
            found += [] if wanted else [f"{place}/"]
    return found


def _surplus(run: Run) -> list[str]:
    """Files of a run that nothing means."""
    if not (run.path / "plan.json").exists():
        return [f"{run.id}/"]
    meant = json.loads((run.path / "report.json").read_bytes()) if (run.path / "report.json").exists() else {}
    digests = {f"{name}-{str(meant.get(f'{name}_sha256'))[:12]}" for name in ("model", "learned")}
    found = [path.name for path in run.path.glob("*.safetensors") if path.stem not in digests]
    states = sorted(path.name for path in run.path.glob("*.state"))
    return found + (states if is_finished(run) else states[2:])


__all__ = ["SOLVERS", "draw", "is_finished", "leftovers", "outcome", "plan", "runs", "shrink", "told", "unreadable"]
