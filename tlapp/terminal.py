"""What a person sees on a terminal: sentences, bars, and a run followed from its beginning to its end.

Results go to standard output, progress and messages to standard error.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from tlapp import evaluate, jobs, runs
from tlapp.board import Board
from tlapp.errors import RunError, explain_oserror, printable
from tlapp.events import (
    EpochFinished,
    Event,
    Judged,
    Progress,
    Queued,
    Resumed,
    RunFailed,
    RunStarted,
    RunStopped,
    Trying,
)  # fmt: skip
from tlapp.plan import Plan, too_few_to_tune

if TYPE_CHECKING:
    from tlapp.tune import Trial

T = TypeVar("T")
_SHOWN = 5


def refuse(sentence: str) -> int:
    """Say on standard error why it cannot be done; exit code 1."""
    print(f"tlapp: {printable(sentence)}", file=sys.stderr)
    return 1


def say(text: str) -> None:
    """A sentence on standard error, whatever is in it."""
    print(printable(text), file=sys.stderr)


def bar() -> Bar:
    """Progress on a terminal's standard error; silent elsewhere."""
    console = Console(stderr=True, markup=False, highlight=False, soft_wrap=True)
    columns = (
        TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    )  # fmt: skip
    return Bar(*columns, console=console, disable=not console.is_terminal, redirect_stdout=False)


def print_beside(shown: Bar, line: str) -> None:
    """A line on standard output while a bar is shown; above the bar where both are on a terminal."""
    if shown.console.is_terminal and sys.stdout.isatty():
        shown.console.print(line)
    else:
        print(line, flush=True)


def watch(run: runs.Run, as_json: bool, n_skipped: int | None, board_in: Path | None = None) -> int:
    """Show a run until it ends; Ctrl-C stops it, keeping the best. `board_in`: where to write it for TensorBoard."""
    say(f"Run {run.id}")
    end: Any = None
    board = _Guarded(run, board_in) if board_in else None
    stream = jobs.follow(run)
    with bar() as shown:
        tasks: dict[str, Any] = {}
        while True:
            try:
                for event in stream:
                    end = event
                    show(event, shown, tasks)
                    if board:
                        board.add(event)
                break
            except KeyboardInterrupt:
                if run.stop_asked():
                    return refuse(f"Left at once. What the run had learned is kept: `tlapp resume {run.id}` goes on.")
                jobs.stop(run)
                shown.console.print("Stopping; the best so far is kept. Press Ctrl-C again to leave at once.")
                stream = jobs.follow(run)
    if board:
        board.close()
    if isinstance(end, RunFailed):
        kept = f" The best weights, of epoch {end.best_epoch}, are kept in run {run.id}." if end.best_epoch else ""
        return refuse(end.message + kept)
    if isinstance(end, RunStopped) and not run.has_model():
        raise RunError(f"Run {run.id} was stopped before its first epoch. Go on with it: `tlapp resume {run.id}`.")
    result = _result(run)
    if n_skipped is not None:
        result["n_skipped"] = n_skipped
    if board:
        result["tensorboard"] = board.path
    if as_json:
        print(json.dumps(result))
    else:
        _print_result(result, run.plan)
    return 0


class _Guarded:
    """A board that gives up with a sentence where the disk does: that is no reason to end a run. `path`: None then."""

    def __init__(self, run: runs.Run, to: Path) -> None:
        self._board: Board | None = None
        self.path: str | None = None
        with self._guarded():
            self._board = Board(run, to)
            self.path = str(self._board.path)

    def add(self, event: Event) -> None:
        with self._guarded():
            if self._board:
                self._board.add(event)

    def close(self) -> None:
        with self._guarded():
            if self._board:
                self._board.close()

    @contextlib.contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            say(f"Nothing more is written for TensorBoard; the run goes on. {explain_oserror(error)}")
            if self._board:
                self._board.abandon()
            self._board = self.path = None


def show_all(work: Generator[Event, None, T], shown: Bar, tasks: dict[str, Any]) -> T:
    """Show the events of a piece of work; what it comes to."""
    while True:
        try:
            show(next(work), shown, tasks)
        except StopIteration as end:
            return end.value


def show(event: Any, shown: Bar, tasks: dict[str, Any]) -> None:
    """Show one event; `tasks` are the bars so far, by stage."""
    if isinstance(event, Progress):
        if event.stage not in tasks:
            tasks[event.stage] = shown.add_task(event.stage, total=event.total)
        shown.update(tasks[event.stage], completed=event.done)
    elif isinstance(event, EpochFinished):
        if "epochs" not in tasks:
            tasks["epochs"] = shown.add_task("epochs", total=event.epochs)
        mark = " *" if event.is_best else ""
        losses = f"loss {event.train_loss:.3f}, validation {event.validation_loss:.3f}"
        text = f"{event.phase}: {losses}, {event.validation(' to ')}{mark}"
        shown.update(tasks["epochs"], completed=event.epoch, total=event.epochs, description=text)
    elif isinstance(event, Trying):
        from tlapp import estimate

        time = estimate.in_words(event.seconds)
        shown.console.print(
            f"Fine-tuning {event.blocks} is tried next, {time} at most; it is kept if it is clearly better."
        )
    elif isinstance(event, Judged):
        shown.console.print(event.in_words())
    elif isinstance(event, Queued):
        shown.console.print(f"Waiting for {event.place} other run{'s' if event.place > 1 else ''} to end.")
    elif isinstance(event, Resumed):
        shown.console.print(f"Resumed after epoch {event.epoch}.")
    elif isinstance(event, RunStarted):
        shown.console.print(
            f"{event.n_train} training, {event.n_validation} validation and {event.n_test} test photos on "
            f"{event.device}. {event.caching}"
        )


def _result(run: runs.Run) -> dict[str, Any]:
    """The one object that train prints."""
    plan, report = run.plan, run.report()
    names = ("n_train", "n_validation", "n_test", "validation_accuracy", "accuracy", "best_epoch", "epochs", "seconds")
    newer = (
        "interval",
        "method",
        "validation",
        "n_learned",
        "n_validation_learned",
        "cross_validated",
        "head",
        "depth",
        "mirror",
        "fine_tuned",
    )
    return {
        "run": run.id,
        "path": str(run.path),
        "backbone": plan.backbone,
        "solver": plan.solver,
        "classes": list(run.classes),
        "frozen": list(plan.frozen),
        **{name: report[name] for name in names},
        **{name: report[name] for name in (*newer, "compared") if name in report},
        "seed": plan.seed,
        "state": run.state(),
    }


def _print_result(result: dict[str, Any], plan: Plan) -> None:
    print(scored(result["accuracy"], result["n_test"], "test photos"))
    held_out = result["validation"]
    if every := result.get("cross_validated"):
        print(
            f"On all {every['n']} photos, {evaluate.UNSEEN}: "
            f"{evaluate.percent(every['accuracy'])}, {evaluate.plausibly(every['interval'], ' to ')}."
        )
    compared = result.get("compared")
    known = f"validation accuracy {evaluate.brief(held_out['accuracy'], held_out['n'], to=' to ')}"
    if n_learned := result.get("n_validation_learned"):
        known += f" (photos {evaluate.asked(n_learned)})"
    how = f"Best epoch {result['best_epoch']} of {result['epochs']}, "
    if result.get("fine_tuned") and "head" in result:
        how = "Fine-tuned from an exact head, "
    elif compared and "head" in result:
        how = f"{result['head'].capitalize()} head on all frozen blocks, "
        right = evaluate.counted(compared["run"], compared["n"])
        known = f"{right} of {compared['n']} photos right, {evaluate.asked(compared.get('n_learned', 0))}"
    print(f"{how}{known}, {max(1, round(result['seconds']))} s. Run {result['run']}")
    if few := too_few_to_tune(plan, result["n_train"]):
        print(few)
    if result["state"] == "stopped":
        print(f"Stopped; what it had learned is kept. Go on with it: tlapp resume {result['run']}")
    if compared and not plan.is_instant:
        print(evaluate.beside_instant(compared, plan.framing))
        if compared["instant"] > compared["run"]:
            alike = "" if plan.framing == Plan.framing else f" --set framing={plan.framing}"
            print(f"You get the instant model with tlapp train FOLDER --instant{alike}")
    print(f"Classify a photo: tlapp predict {result['run']} PHOTO")


def scored(accuracy: float, n: int, of: str) -> str:
    """An accuracy with the photos that it rests on and what chance allows, as a sentence."""
    return f"Accuracy {evaluate.in_words(accuracy, n, of, ' to ')}."


def of_class(found: dict[str, Any]) -> str:
    """Precision, recall and F1 of a class, each with what chance allows, and its photos."""
    precision, recall = (
        f"{which} {evaluate.percent(found[which])} ({evaluate.span(found[f'{which}_interval'], ' to ')})"
        for which in ("precision", "recall")
    )
    low, high = found["f1_interval"]
    return f"{precision}, {recall}, F1 {found['f1']:.2f} ({low:.2f} to {high:.2f}), {found['n']} photos"


def rate_of(trial: Trial) -> str:
    """The learning rate of a trial in words."""
    return f"rate {trial.rate:g}" if trial.rate else "exact"


def trial_line(trial: Trial) -> str:
    """What a trial of `tune` gave and took, as a line of a table."""
    from tlapp import tune

    return (
        f"{tune.named(trial):<40} {rate_of(trial):<11} {evaluate.brief(trial.accuracy, trial.n, to=' to '):<26} "
        f"{trial.seconds:>5.1f} s {trial.megabytes:>5.0f} MB{' (cut short)' if trial.is_cut else ''}"
    )


def findings(found: dict[str, Any]) -> list[str]:
    """What `audit.to_dict` holds, in lines to read."""
    suspects = [s for s in found["suspect_labels"] if s["contradicted"]]
    parts = [
        ("Unreadable", [f"{f['file']}: it {f['reason']}" for f in found["unreadable"]]),
        ("Near copies", [" = ".join(group) for group in found["duplicates"]]),
        ("On both sides of the line between test photos and the others", [" = ".join(g) for g in found["leaks"]]),
        (
            "Labels that the other photos contradict",
            [f"{s['file']}: {s['label']}, perhaps {s['suggested']} (score {s['score']:.2f})" for s in suspects],
        ),
        (
            "Shortcuts",
            [
                f"{s['class']}: told apart by {s['feature']} alone, {_brief(s)}, where guessing gives "
                f"{evaluate.percent(s['chance'])}"
                for s in found["shortcuts"]
            ],
        ),
        ("Unlike all others", found["outliers"]),
        *((f"Very {kind}" if kind != "blurred" else "Blurred", found[kind]) for kind in _FLAWS),
        (
            "Cut off at the ends by the centre crop (framing=letterbox shows all)",
            [f"{c['file']}: {evaluate.percent(c['cut'])} of it" for c in found["cropped"]],
        ),
    ]
    lines = ["Photos: " + ", ".join(f"{printable(name)} {n}" for name, n in found["classes"].items()) + "."]
    for title, entries in parts:
        if entries:
            lines.append(f"{title}: {len(entries)}")
            lines += [f"  {printable(entry)}" for entry in entries[:_SHOWN]]
        if len(entries) > _SHOWN:
            lines.append(f"  and {len(entries) - _SHOWN} more; --json names all")
    if len(lines) == 1:
        lines.append("Nothing was found that would spoil a model.")
    lines += [printable(note) for note in found["notes"]]
    curve, now, ahead = found["learning_curve"], found["now"], found["forecast"]
    if curve:
        lines.append(f"Accuracy by photos per class to learn from, of photos, {evaluate.UNSEEN}:")
        lines += [f"  {point['per_class']:>3}: {_brief(point)}" for point in curve]
    if ahead and now:
        lines.append(
            f"{ahead['per_class'] - now['per_class']} more photos of each class, {ahead['per_class']} instead of "
            f"{now['per_class']}, would bring about {_foreseen(ahead)}, from about {_foreseen(now)}: foreseen from "
            f"{ahead['n']} photos, {evaluate.UNSEEN}."
        )
    return lines


def _brief(found: dict[str, Any]) -> str:
    return evaluate.brief(found["accuracy"], found["n"], found["interval"], " to ")


def _foreseen(point: dict[str, Any]) -> str:
    """Carried on from photos that were asked, but itself asked of none."""
    return f"{evaluate.percent(point['accuracy'])} ({evaluate.plausibly(point['interval'], ' to ')})"


_FLAWS = ("small", "blurred", "dark", "bright")
