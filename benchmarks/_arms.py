"""Every arm by its name: tlapp's own, its peers and the limit.

An arm is called with a folder, a seed and a number of epochs (None: its usual one), prepares what does not count, and
returns the work to be timed.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable

import torch

from benchmarks import _limit, _peers
from benchmarks._peers import ENTRY, Model
from benchmarks._photos import Folder
from tlapp import dataset, jobs, plan, speed, workspace
from tlapp.events import EpochFinished, RunFinished
from tlapp.runs import Run

Work = Callable[[], Model]


def timed(train: Callable[..., Model], **settings: bool) -> Callable[[Folder, int, int | None], Work]:
    """An arm without preparation."""
    return lambda folder, seed, epochs: functools.partial(train, folder, seed, epochs, **settings)


def tlapp_plan(kind: str, data: dataset.Dataset, seed: int) -> plan.Plan:
    """The plan of one of tlapp's arms, on the CPU as its peers are."""
    made = plan.instant(data, ENTRY.name) if kind == "instant" else plan.suggest(data, ENTRY.name)
    settings = {"solver": "exact"} if kind == "best" else {}
    return made.with_settings({**settings, "seed": str(seed), "device": "cpu"})


def train_tlapp(folder: Folder, kind: str, seed: int) -> tuple[Run, list[float]]:
    """A run from files to a delivered and scored model; when each of its epochs had ended, on `time.perf_counter`."""
    jobs.POLL_SECONDS = 0.02  # to see closer when the model is there
    data = dataset.scan(folder.root)
    run = jobs.start(data, tlapp_plan(kind, data, seed))
    epochs, last = [], None
    for last in jobs.follow(run):
        if isinstance(last, EpochFinished):
            epochs.append(time.perf_counter())
    if not isinstance(last, RunFinished):
        raise RuntimeError(f"The run did not finish: {last}")
    return run, epochs


def ours(kind: str, known_machine: bool = False) -> Callable[[Folder, int, int | None], Work]:
    """One of tlapp's arms. It scores the test photos before it delivers, so its answers are in the report.

    `known_machine`: the workspace knows already which precision is quickest here, as it does from its second run on.
    """

    def arm(folder: Folder, seed: int, epochs: int | None) -> Work:
        workspace.home()
        if known_machine:
            speed.quickest(ENTRY, torch.device("cpu"))
        return functools.partial(work, folder, seed)

    def work(folder: Folder, seed: int) -> Model:
        started = time.perf_counter()
        run, epochs = train_tlapp(folder, kind, seed)
        report = run.report()
        found = {photo["file"]: folder.classes.index(photo["label"]) for photo in report["photos"]}
        if set(found) != {item.name for item in folder.test}:
            raise RuntimeError("tlapp did not score just the test photos of the folder.")
        measured = {"seconds": epochs[-1] - started, "first_seconds": epochs[0] - started}
        return Model(lambda: [found[item.name] for item in folder.test], measured)

    return arm


def limit(folder: Folder, seed: int, epochs: int | None) -> Work:
    """The limit on all photos; it has no answers. `learn_seconds`: without the forward of the test photos."""
    forward = _limit.fastest()

    def work() -> Model:
        threads = torch.get_num_threads()
        learn, test = (
            _limit.run(forward, [item.path for item in side], threads) for side in (folder.learn, folder.test)
        )
        measured = {
            "learn_seconds": learn["decode_seconds"] + learn["forward_seconds"] + test["decode_seconds"],
            "precision": str(forward.precision).removeprefix("torch."),
            "batch": forward.batch,
        }
        return Model(None, measured)

    return work


ARMS: dict[str, Callable[[Folder, int, int | None], Work]] = {
    "limit": limit,
    "instant": ours("instant"),
    "instant again": ours("instant", known_machine=True),
    "best": ours("best"),
    "best + fine-tuning": ours("best + fine-tuning"),
    "logistic": timed(_peers.logistic),
    "logistic unscaled": timed(_peers.logistic, scaled=False),
    "plain": timed(_peers.plain),
    "strengthened": timed(_peers.plain, strengthened=True),
    "timm": timed(_peers.timm_recipe),
    "fastai": timed(_peers.fastai_recipe),
    "full fine-tuning": timed(_peers.full_fine_tuning),
}
