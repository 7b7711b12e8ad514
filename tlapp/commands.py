"""What each command does: calls of the library, words or JSON out.

Results go to standard output, progress and messages to standard error. Each command takes the parsed options and
returns its exit code.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from tlapp import catalog, fetching, intake, jobs, runs, tables, workspace
from tlapp import dataset as datasets
from tlapp import plan as plans
from tlapp.errors import DataError, RunError, UsageError, UserError, printable
from tlapp.events import EpochFinished, Progress, Queued, Resumed, RunFailed, RunStarted, RunStopped

if TYPE_CHECKING:
    from tlapp.predict import Prediction, Unreadable


def refuse(sentence: str) -> int:
    """Say on standard error why it cannot be done; exit code 1."""
    print(f"tlapp: {printable(sentence)}", file=sys.stderr)
    return 1


# --- train, resume and stop


def train(options: argparse.Namespace) -> int:
    """Read the photos, train, show the run until it ends."""
    settings = _settings(options)
    if settings.get("weights") and options.backbone == "auto":
        raise UserError(f"Say which backbone the weights file is of: --backbone {' | '.join(catalog.BACKBONES)}.")
    choice = catalog.choose(options.backbone)
    if not settings.get("weights"):
        _offer_weights(choice.backbone, options.yes)
    plans.Plan(choice.backbone.name, choice.backbone.block_names).with_settings(settings)  # before all is read
    _say(f"Backbone: {choice.backbone.title} ({choice.reason}).")
    with _bar() as bar:
        task = bar.add_task("reading photos", total=None)
        dataset = datasets.scan(
            options.folder,
            workspace.expand(options.test) if options.test else None,
            report=lambda done, total, _: bar.update(task, completed=done, total=total),
        )
    _describe(dataset)
    plan = plans.suggest(dataset, choice.backbone.name).with_settings(settings)
    return _watch(jobs.start(dataset, plan), options.json, len(dataset.skipped))


def _settings(options: argparse.Namespace) -> dict[str, str]:
    settings: dict[str, str] = {}
    for text in options.set:
        key, equals, value = text.partition("=")
        if not equals:
            raise UsageError(f"--set {printable(text)} has no value. Write --set key=value, as in --set dropout=0.3.")
        settings[key.strip()] = value.strip()
    named = {"frozen": options.freeze, "epochs": options.epochs, "seed": options.seed, "weights": options.weights}
    return settings | {key: str(value) for key, value in named.items() if value not in (None, "")}


def _offer_weights(backbone: catalog.Backbone, yes: bool) -> None:
    """Fetch missing weights if the person says so; never silently."""
    if catalog.weights_path(backbone).is_file():
        return
    if not yes and sys.stdin.isatty() and sys.stderr.isatty() and not fetching.is_offline():
        _say(f"{backbone.title}'s weights are not on this machine. Terms: {backbone.terms}.")
        sys.stderr.write(f"Fetch {backbone.megabytes:.0f} MB from torchvision's server now? [y/N] ")
        sys.stderr.flush()
        yes = sys.stdin.readline().strip().lower() in ("y", "yes")
    if yes:
        _fetch(backbone)
    else:
        catalog.check_weights(backbone)


def _fetch(backbone: catalog.Backbone) -> Path:
    with _bar() as bar:
        task = bar.add_task(f"fetching {backbone.title}, MB", total=round(backbone.megabytes))
        return fetching.fetch(backbone, lambda done, _: bar.update(task, completed=round(done)))


def _describe(dataset: datasets.Dataset) -> None:
    counts = ", ".join(f"{printable(name)} {n}" for name, n in dataset.class_counts().items())
    _say(f"{len(dataset.photos)} photos in {len(dataset.classes)} classes: {counts}.")
    for note in dataset.notes:
        _say(note)
    for skipped in dataset.skipped[:5]:
        _say(f"Skipped {skipped.name}: it {skipped.reason}.")
    if len(dataset.skipped) > 5:
        _say(f"Skipped {len(dataset.skipped) - 5} more files.")


def resume(options: argparse.Namespace) -> int:
    """Go on with a run and show it until it ends."""
    return _watch(jobs.resume(_find(options.name)), options.json, None)


def stop(options: argparse.Namespace) -> int:
    """Ask a run, of this process or another, to stop."""
    run = _find(options.name)
    if not run.is_live():
        raise RunError(f"Run {run.id} is not running (it is {run.state()}), so there is nothing to stop.")
    jobs.stop(run)
    print(f"Run {run.id} was asked to stop. What it has learned so far is kept; `tlapp resume {run.id}` goes on.")
    return 0


def _watch(run: runs.Run, as_json: bool, n_skipped: int | None) -> int:
    """Show a run until it ends; Ctrl-C stops it, keeping the best."""
    _say(f"Run {run.id}")
    end: Any = None
    stream = jobs.follow(run)
    with _bar() as bar:
        tasks: dict[str, Any] = {}
        while True:
            try:
                for event in stream:
                    end = event
                    _show(event, bar, tasks)
                break
            except KeyboardInterrupt:
                if run.stop_asked():
                    return refuse(f"Left at once. What the run had learned is kept: `tlapp resume {run.id}` goes on.")
                jobs.stop(run)
                bar.console.print("Stopping; the best so far is kept. Press Ctrl-C again to leave at once.")
                stream = jobs.follow(run)
    if isinstance(end, RunFailed):
        kept = f" The best weights, of epoch {end.best_epoch}, are kept in run {run.id}." if end.best_epoch else ""
        return refuse(end.message + kept)
    if isinstance(end, RunStopped) and not run.has_model():
        raise RunError(f"Run {run.id} was stopped before its first epoch. Go on with it: `tlapp resume {run.id}`.")
    result = _result(run)
    if n_skipped is not None:
        result["n_skipped"] = n_skipped
    if as_json:
        print(json.dumps(result))
    else:
        _print_result(result)
    return 0


def _show(event: Any, bar: Bar, tasks: dict[str, Any]) -> None:
    if isinstance(event, Progress):
        if event.stage not in tasks:
            tasks[event.stage] = bar.add_task(event.stage, total=event.total)
        bar.update(tasks[event.stage], completed=event.done)
    elif isinstance(event, EpochFinished):
        tasks.setdefault("epochs", bar.add_task("epochs", total=event.epochs) if "epochs" not in tasks else None)
        mark = " *" if event.is_best else ""
        text = (
            f"{event.phase}: loss {event.train_loss:.3f}, validation {event.validation_loss:.3f} "
            f"({event.validation_accuracy:.0%}){mark}"
        )
        bar.update(tasks["epochs"], completed=event.epoch, description=text)
    elif isinstance(event, Queued):
        bar.console.print(f"Waiting for {event.place} other run{'s' if event.place > 1 else ''} to end.")
    elif isinstance(event, Resumed):
        bar.console.print(f"Resumed after epoch {event.epoch}.")
    elif isinstance(event, RunStarted):
        bar.console.print(
            f"{event.n_train} training, {event.n_validation} validation and {event.n_test} test photos on "
            f"{event.device}. {event.caching}"
        )


def _result(run: runs.Run) -> dict[str, Any]:
    """The one object that train prints."""
    plan, report = run.plan, run.report()
    names = ("n_train", "n_validation", "n_test", "validation_accuracy", "accuracy", "best_epoch", "epochs", "seconds")
    return {
        "run": run.id,
        "path": str(run.path),
        "backbone": plan.backbone,
        "solver": plan.solver,
        "classes": list(run.classes),
        "frozen": list(plan.frozen),
        **{name: report[name] for name in names},
        "seed": plan.seed,
        "state": run.state(),
    }


def _print_result(result: dict[str, Any]) -> None:
    right = round(result["accuracy"] * result["n_test"])
    print(f"Accuracy {result['accuracy']:.0%}: {right} of {result['n_test']} test photos right.")
    print(
        f"Best epoch {result['best_epoch']} of {result['epochs']}, validation accuracy "
        f"{result['validation_accuracy']:.0%}, {result['seconds']:.0f} s. Run {result['run']}"
    )
    if result["state"] == "stopped":
        print(f"Stopped; what it had learned is kept. Go on with it: tlapp resume {result['run']}")
    print(f"Classify a photo: tlapp predict {result['run']} PHOTO")


# --- predict and evaluate


def predict(options: argparse.Namespace) -> int:
    """Classify photos."""
    paths = list(_photo_paths(options.photos))
    run = _find(options.name)
    run.report()
    from tlapp import predict

    answers: list[Prediction | Unreadable] = []
    with _bar() as bar:
        task = bar.add_task("classifying", total=len(paths))
        for answer in predict.load(run).predict_files(paths):
            answers.append(answer)
            bar.advance(task)
    unreadable = [answer for answer in answers if isinstance(answer, predict.Unreadable)]
    if options.csv:
        workspace.write_atomic(
            workspace.expand(options.csv).absolute(), _csv(answers, run.classes).encode("utf-8", "replace")
        )
    if options.json:
        print(json.dumps([_answer_dict(answer) for answer in answers]))
    else:
        for answer in answers:
            if isinstance(answer, predict.Prediction):
                print(f"{printable(answer.label)}  {answer.probability:.0%}  {printable(answer.file)}")
    for answer in unreadable:
        refuse(f"{answer.file} {answer.reason}.")
    return 1 if unreadable else 0


def _photo_paths(names: list[str]) -> Iterator[Path]:
    for name in names:
        path = Path(name)
        if not path.is_dir():
            yield path
            continue
        inside = [p for p in sorted(path.rglob("*")) if p.is_file() and not intake.is_junk(str(p.relative_to(path)))]
        if not inside:
            raise DataError(f"There are no photos in {name}. Name a photo or another folder.")
        yield from inside


def _answer_dict(answer: Prediction | Unreadable) -> dict[str, Any]:
    if hasattr(answer, "reason"):
        return {"file": answer.file, "error": f"{answer.file} {answer.reason}."}
    return {name: getattr(answer, name) for name in ("file", "label", "probability", "probabilities")}


def _csv(answers: list[Prediction | Unreadable], classes: tuple[str, ...]) -> str:
    """A table with one row a photo."""
    rows: list[list[object]] = [["file", "label", "probability", *classes, "error"]]
    for answer in answers:
        row = _answer_dict(answer)
        shares = row.get("probabilities", {})
        values = [shares.get(name, "") for name in classes]
        rows.append([row["file"], row.get("label", ""), row.get("probability", ""), *values, row.get("error", "")])
    return tables.to_csv(rows)


def evaluate(options: argparse.Namespace) -> int:
    """Score a run."""
    run = _find(options.name)
    run.report()
    with _bar() as bar:
        task = bar.add_task("scoring", total=None)

        def report(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        from tlapp import scoring

        result = scoring.evaluate_run(run, Path(options.folder) if options.folder else None, report)
    for note in result.pop("notes"):
        _say(note)
    if options.json:
        print(json.dumps(result))
    else:
        print(f"Accuracy {result['accuracy']:.0%}: {result['n_right']} of {result['n']} photos right.")
        for name, s in result["per_class"].items():
            print(
                f"  {printable(name)}: precision {s['precision']:.0%}, recall {s['recall']:.0%}, "
                f"F1 {s['f1']:.2f}, {s['n']} photos"
            )
    return 0


# --- runs, weights, serve


def list_runs(options: argparse.Namespace) -> int:
    """List the runs of the workspace."""
    rows = []
    for run in runs.all_runs(workspace.home()):
        try:
            row = {"run": run.id, "path": str(run.path), "state": run.state(), "source": run.header()["source"]}
            report = run.report() if run.has_model() else {}
            rows.append(row | {"backbone": run.plan.backbone, "accuracy": report.get("accuracy")})
        except RunError as error:
            rows.append({"run": run.id, "path": str(run.path), "state": "damaged", "error": str(error)})
    if options.json:
        print(json.dumps(rows))
        return 0
    if not rows:
        print("No runs yet. Start one with `tlapp train FOLDER`.")
    for row in rows:
        accuracy = row.get("accuracy")
        shown = "" if accuracy is None else f"{accuracy:.0%}"
        print(f"{row['run']}  {row['state']:<11} {shown:>4}  {row.get('backbone', ''):<19}"
              f"{printable(str(row.get('source', '')))}")  # fmt: skip
    return 0


def weights(options: argparse.Namespace) -> int:
    """List the backbones, or fetch the weights of one."""
    if options.action == "get":
        if not options.backbone:
            raise UsageError(f"Name the backbone to fetch: {', '.join(catalog.BACKBONES)}.")
        path = _fetch(catalog.get(options.backbone))
        print(json.dumps({"backbone": options.backbone, "path": str(path)}) if options.json else f"Weights: {path}")
        return 0
    rows: list[dict[str, Any]] = [
        {
            "backbone": b.name, "title": b.title, "megabytes": b.megabytes, "included": b.included,
            "here": catalog.weights_path(b).is_file(), "path": str(catalog.weights_path(b)),
            "blocks": list(b.block_names), "terms": b.terms,
        }
        for b in catalog.BACKBONES.values()
    ]  # fmt: skip
    if options.json:
        print(json.dumps(rows))
        return 0
    for row in rows:
        here = "included" if row["included"] else "here" if row["here"] else "not here"
        print(f"{row['backbone']:<19}{row['megabytes']:>6.1f} MB  {here:<9} blocks {', '.join(row['blocks'])}")
    return 0


def serve(options: argparse.Namespace) -> int:
    """Serve the page until Ctrl-C."""
    from tlapp import ui

    ui.launch(options.host, options.port, options.auth or "", not options.no_browser, say=_say)
    return 0


def _find(name: str) -> runs.Run:
    return runs.find(workspace.home(), name)


def _say(text: str) -> None:
    print(printable(text), file=sys.stderr)


def _bar() -> Bar:
    """Progress on a terminal's standard error; silent elsewhere."""
    console = Console(stderr=True, markup=False, highlight=False)
    columns = (
        TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    )  # fmt: skip
    return Bar(*columns, console=console, disable=not console.is_terminal)
