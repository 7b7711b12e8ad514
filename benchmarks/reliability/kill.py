"""Processes killed, as by `kill -9`, while they read photos, train and save: what is lost, and what is left behind.

    python -m benchmarks reliability kill [--kills 200] [--seed 0]

Three of five kills are inside a save, at a file operation drawn from all those of an unbroken run, some in the middle
of a write; the others after a random time. Then what starts a page or a run is done, every run is opened, and the
killed one resumed (every third once more killed) and compared with an unbroken one. Each try is a child forked from
one process that has imported torch and never used it.
"""

from __future__ import annotations

import itertools
import os
import random
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import _common
from benchmarks._common import ROOT, Row, Rows
from benchmarks.reliability import PAGE, _small
from benchmarks.reliability._moments import Moments, forked
from tlapp.events import Resumed

FIGURES = {
    "unreadable": "runs that could not be opened",
    "lost": "finished epochs lost, at most",
    "different": "runs that ended otherwise than an unbroken one",
    "leftovers": "leftovers after the restart",
}


def main(arguments: list[str]) -> None:
    """Make the kills that were not yet made with this seed, then the table."""
    parser = _common.parser("reliability kill", "Processes killed at random moments.")
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--solvers", nargs="*", choices=_small.SOLVERS, default=_small.SOLVERS)
    parser.set_defaults(page=PAGE, out=ROOT / "benchmarks" / "results" / "reliability-kill.jsonl", threads=1)
    options = parser.parse_args(arguments)
    rows = Rows(options.out, ("seed", "number"), options.threads)
    if not options.render:
        os.environ["OMP_NUM_THREADS"] = "1"
        with tempfile.TemporaryDirectory(prefix="tlapp-kill-") as place:
            trial = Trial.prepare(Path(place), options.solvers)
            for number in itertools.count():
                if sum(row["kills"] for row in rows.all if row["seed"] == options.seed) >= options.kills:
                    break
                take = lambda number=number: trial.kill(options.seed, number)  # noqa: E731
                rows.measure(take, seed=options.seed, number=number)
    render([row for row in rows.of_one_machine() if row["seed"] == options.seed], options.page)


@dataclass(frozen=True)
class Whole:
    """An unbroken run: its file operations inside saves, its seconds, and what it ends with."""

    operations: int
    seconds: float
    outcome: dict[str, Any]


@dataclass(frozen=True)
class Trial:
    """A workspace to copy for each try, and the unbroken run of each solver."""

    place: Path
    whole: dict[str, Whole]

    @classmethod
    def prepare(cls, place: Path, solvers: Sequence[str]) -> Trial:
        """Import what children need, draw the photos, and let each solver end once unbroken."""
        from tlapp import sitting  # noqa: F401 - with torch, which nothing here may use before it forks

        _small.shrink()
        _small.draw(place / "photos")
        forked(lambda: _time_ways(place / "home"))
        trial = cls(place, {})
        for solver in solvers:
            home, moments = trial.home(), Moments(trial.place / "try")
            begun = time.monotonic()
            _, outcome = forked(lambda s=solver, h=home, m=moments: trial.unbroken(s, h, m))
            trial.whole[solver] = Whole(moments.counts[0], time.monotonic() - begun, outcome)
        return trial

    def home(self) -> Path:
        """A workspace of its own for the next try."""
        shutil.rmtree(self.place / "try", ignore_errors=True)
        shutil.copytree(self.place / "home", self.place / "try")
        return self.place / "try"

    def unbroken(self, solver: str, home: Path, moments: Moments) -> dict[str, Any]:
        """In a child: the outcome of a run that nobody kills."""
        moments.watch()
        return _small.outcome(self.train(solver, home))

    def train(self, solver: str, home: Path) -> _small.Run:
        """In a child: read the photos and train on them to the end."""
        from tlapp import dataset, jobs

        os.environ["TLAPP_HOME"] = str(home)
        data = dataset.scan(self.place / "photos", home=home)
        run = jobs.start(data, _small.plan(data, solver), home)
        _wait(jobs.follow(run))
        return run

    def kill(self, seed: int, number: int) -> Row:
        """One try: killed, started again, resumed, compared."""
        rng = random.Random(f"{seed}-{number}")
        solver = list(self.whole)[number % len(self.whole)]
        home, begun = self.home(), time.perf_counter()
        row: Row = {"solver": solver, "kills": 0, "inside": 0, "unreadable": 0, "lost": 0, "leftovers": 0, "faults": []}
        work: Callable[[], Any] = lambda: self.train(solver, home).id  # noqa: E731
        for _ in range(2 if number % 3 == 2 else 1):
            self._kill(rng, solver, home, work, row, number % 5 < 3)
            run = _only_run(home)
            before = _small.told(run) if run else 0
            forked(lambda: _restart(home))
            faults, left = _small.unreadable(home), _small.leftovers(home)
            row["unreadable"] += len(faults)
            row["leftovers"] += len(left)
            row["faults"] += faults + left
            work = lambda before=before: self._go_on(solver, home, before)  # noqa: E731
        answer = forked(work)[1]
        row["lost"], row["different"] = answer["lost"], int(answer["outcome"] != self.whole[solver].outcome)
        left = _small.leftovers(home)
        row["leftovers"] += len(left)
        row["faults"] += left
        return {**row, "seconds": time.perf_counter() - begun}

    def _kill(
        self, rng: random.Random, solver: str, home: Path, work: Callable[[], Any], row: Row, inside: bool
    ) -> None:
        moments, whole = Moments(home), self.whole[solver]
        at = rng.randint(1, whole.operations) if inside else 0
        after = None if inside else rng.uniform(0, whole.seconds)

        def watched() -> Any:
            moments.watch(at, rng.randrange(2**32))
            return work()

        code, _ = forked(watched, after)
        row["kills"] += code < 0
        row["inside"] += code < 0 and moments.counts[2] > 0

    def _go_on(self, solver: str, home: Path, before: int) -> dict[str, Any]:
        """In a child: resume the run, or begin it where the kill came before it; how much was lost, and the outcome."""
        from tlapp import jobs

        os.environ["TLAPP_HOME"] = str(home)
        run, lost = _only_run(home), 0
        if run is None:
            run = self.train(solver, home)
        elif not _small.is_finished(run):
            known = len(run.events()[0])
            _wait(jobs.follow(jobs.resume(run, home)))
            resumed = [event.epoch for event in run.events()[0][known:] if isinstance(event, Resumed)]
            lost = max(0, before - (resumed[0] if resumed else 0))
        return {"lost": lost, "outcome": _small.outcome(run)}


def _time_ways(home: Path) -> None:
    """In a child: let the workspace know how networks run quickest, so that every try runs them so."""
    import torch

    from tlapp import catalog, speed

    os.environ["TLAPP_HOME"] = str(home)
    home.mkdir()
    speed.quickest(catalog.get(catalog.INCLUDED), torch.device("cpu"))


def _restart(home: Path) -> None:
    """In a child: what the page does when it opens."""
    from tlapp import decisions, history, runs

    runs.sweep(home)
    history.empty_trash(home)
    decisions.sweep(home, runs.datasets_of(home))


def _only_run(home: Path) -> _small.Run | None:
    found = _small.runs.all_runs(home)
    return found[0] if found else None


def _wait(events: Any) -> None:
    for _ in events:
        pass


def render(rows: list[Row], page: Path) -> None:
    """The section `kill` of the page."""
    kills, inside = (sum(row[name] for row in rows) for name in ("kills", "inside"))
    lines = []
    for solver in [*_small.SOLVERS, "all"]:
        own = [row for row in rows if solver in (row["solver"], "all")]
        figures = [f"{(max if name == 'lost' else sum)(row[name] for row in own)}" for name in FIGURES if own]
        if own:
            lines.append([solver, *(f"{sum(row[name] for row in own)}" for name in ("kills", "inside")), *figures])
    text = (
        f"Made by `python -m benchmarks reliability kill` on {_common.words(rows[-1]['machine'])}: {len(rows)} runs "
        f"(seed {rows[-1]['seed']}), {kills} kills, {inside} of them inside a save, "
        f"{sum(row['seconds'] for row in rows):.0f} s."
    )
    table = _common.table(["run", "kills", "inside a save", *FIGURES.values()], lines)
    _common.write_section(page, "kill", f"{text}\n\n{table}")
