"""What each command does: calls of the library, words or JSON out.

Each command takes the parsed options and returns its exit code; `terminal` shows what goes on.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tlapp import (
    additions,
    board,
    catalog,
    decisions,
    fetching,
    imagefolder,
    intake,
    jobs,
    lineage,
    room,
    runs,
    terminal,
    workspace,
)
from tlapp import dataset as datasets
from tlapp import plan as plans
from tlapp.errors import DataError, RunError, UsageError, UserError, printable
from tlapp.evaluate import percent
from tlapp.events import Progress, Queued
from tlapp.imagefolder import SIDES

if TYPE_CHECKING:
    from tlapp.predict import Prediction, Unreadable


MOST_SKIPPED = 20
SPLIT_SETTINGS = ("test_fraction", "validation_fraction", "seed", "split_seed", "split_by")
"""What of a plan decides how photos are divided."""

# --- train, resume and stop


def train(options: argparse.Namespace) -> int:
    """Read the photos, train, show the run until it ends."""
    board_in = _board_in(options)
    dataset, name, settings = _prepared(options)
    suggest = plans.instant if options.instant else plans.suggest
    plan = lineage.continued(suggest(dataset, name).with_settings(settings))
    if options.instant and not plan.is_instant:
        raise UsageError("The instant model has settings of its own. Leave out --instant, or the other settings.")
    _warn_of_room(dataset, plan)
    return terminal.watch(jobs.start(dataset, plan), options.json, len(dataset.skipped), board_in)


def _warn_of_room(dataset: datasets.Dataset, plan: plans.Plan) -> None:
    """Say it where the run may fill the disk; one whose model has no room does not start."""
    from tlapp import estimate

    split = plan.split(dataset)
    sizes = (len(part) for part in (split.train, split.validation, split.test))
    written = estimate.written(plan, len(dataset.classes), *sizes)
    room.check_model(workspace.home(), written.kept)
    if worry := room.worry(workspace.home(), written.most):
        terminal.say(worry)


def _board_in(options: argparse.Namespace) -> Path | None:
    """Where to write the run for TensorBoard, if that was asked for and is possible."""
    return board.check(options.tensorboard) if options.tensorboard else None


def _prepared(options: argparse.Namespace) -> tuple[datasets.Dataset, str, dict[str, str]]:
    """The photos that were named, the backbone, whose weights are here, and the settings given."""
    settings = _settings(options)
    backbone = options.backbone
    if options.start:
        backbone = _start_from(options, settings)
    elif settings.get("weights") and backbone == "auto":
        raise UserError(f"Say which backbone the weights file is of: --backbone {' | '.join(catalog.BACKBONES)}.")
    choice = catalog.choose(backbone)
    if not settings.get("weights"):
        _offer_weights(choice.backbone, options.yes)
    first = plans.Plan(choice.backbone.name, choice.backbone.block_names, solver="auto")
    first.with_settings(settings)  # mistakes are said before all is read
    terminal.say(f"Backbone: {choice.backbone.title} ({choice.reason}).")
    dataset = _read(options)
    _describe(dataset)
    return dataset, choice.backbone.name, settings


def _start_from(options: argparse.Namespace, settings: dict[str, str]) -> str:
    """The weights of the run to start from, put into the settings; the name of its backbone."""
    if settings.get("weights"):
        raise UsageError("--from and --weights are two beginnings. Leave one out.")
    run = _find(options.start)
    backbone = run.plan.backbone
    if options.backbone not in ("auto", backbone):
        raise UserError(f"Run {run.id} is of {backbone}, not of {options.backbone}. Leave out --backbone.")
    if lineage.is_published(run):
        terminal.say(lineage.PLAIN.format(run.id))
        return backbone
    settings["weights"] = str(lineage.weights_of(run))
    terminal.say(f"Starting from the network of run {run.id}; no file that it learned from is tested on.")
    return backbone


def _read(options: argparse.Namespace) -> datasets.Dataset:
    """The photos that were named, as the decisions that were given have them."""
    given = decisions.read(workspace.expand(options.decisions)) if options.decisions else []
    with terminal.bar() as bar:
        task = bar.add_task("reading photos", total=None)
        dataset = datasets.scan(
            options.folder,
            workspace.expand(options.test) if options.test else None,
            report=lambda done, total, _: bar.update(task, completed=done, total=total or None),
        )
    if options.decisions:
        if unused := decisions.strangers(dataset, given):
            terminal.say(unused)
        return decisions.apply(dataset, given)
    return _as_on_page(dataset, options.as_on_page)


def _as_on_page(dataset: datasets.Dataset, wanted: bool) -> datasets.Dataset:
    """The photos as the page would have them, if that is `wanted`; else what of it is not used is said."""
    unused = additions.unused(dataset)
    if unused is None and wanted:
        terminal.say(
            "Nothing was decided about these photos on the page, nor were any added: --as-on-page does nothing."
        )
    if unused and not wanted:
        n_added, n_noted = unused
        said = [_counted(n_added, "photo that you added", "photos that you added")] if n_added else []
        said += [_counted(n_noted, "decision about these photos", "decisions about these photos")] if n_noted else []
        if said:
            terminal.say(f"Not used: {' and '.join(said)}. To use what was done on the page: --as-on-page")
    if unused is None or not wanted:
        return dataset
    joined = additions.as_noted(dataset)
    for sentence in joined.refused:
        terminal.say(sentence)
    if inside := additions.added(joined.dataset, joined.dataset)[0]:
        are = _counted(len(inside), "photo that you added is", "photos that you added are")
        terminal.say(f"{are} in it: learned from, never tested on. To leave them out: without --as-on-page")
    return joined.dataset


def _counted(n: int, one: str, several: str) -> str:
    return f"one {one}" if n == 1 else f"{n} {several}"


def audit(options: argparse.Namespace) -> int:
    """Look through photos for what would spoil a model."""
    dataset = _read(options)
    plan = plans.suggest(dataset, options.backbone)
    catalog.check_weights(catalog.get(plan.backbone))
    from tlapp import audit

    with terminal.bar() as bar:
        tasks: dict[str, Any] = {}
        with jobs.alone():
            report = terminal.show_all(audit.audit(dataset, plan.backbone), bar, tasks)
    split, hinders = None, ""
    try:
        split = plan.split(dataset)
    except DataError as error:  # no reason to keep back what was found
        hinders = str(error)
    found = audit.to_dict(dataset, report, split)
    if options.json:
        print(json.dumps(found))
    else:
        for line in [*terminal.findings(found), *filter(None, [*dataset.notes, plans.uneven(dataset), hinders])]:
            print(printable(line))
    return 0


def copy(options: argparse.Namespace) -> int:
    """Write the photos, cleaned and divided, in folders that torchvision's ImageFolder reads."""
    settings = _settings(options)
    if strange := sorted(set(settings) - set(SPLIT_SETTINGS)):
        raise UsageError(
            f"{printable(strange[0])} does not decide which photos are copied where; {', '.join(SPLIT_SETTINGS)} do."
        )
    plans.Plan(catalog.INCLUDED, ()).with_settings(settings)  # mistakes are said before all is read
    test = workspace.expand(options.test) if options.test else None
    path = imagefolder.check(options.to, options.folder)
    dataset = _read(options)
    _describe(dataset)
    split = plans.suggest(dataset, catalog.INCLUDED).with_settings(settings).split(dataset)
    with terminal.bar() as bar:
        task = bar.add_task("copying photos", total=len(dataset.photos))
        made = imagefolder.copy(dataset, split, path, test, lambda done, _: bar.update(task, completed=done))
    for note in made.notes:
        terminal.say(note)
    if options.json:
        print(json.dumps(made.to_dict()))
        return 0
    sides = ", ".join(f"{side} {sum(found[side] for found in made.classes.values())}" for side in SIDES.values())
    print(f"{_counted(made.photos, 'photo is', 'photos are')} in {printable(str(made.path))}: {sides}.")
    return 0


def tune(options: argparse.Namespace) -> int:
    """Try which blocks should learn, and how fast."""
    dataset, name, settings = _prepared(options)
    plan = lineage.continued(plans.suggest(dataset, name).with_settings(settings))
    plan.split(dataset)
    from tlapp import tune

    found: tune.Tuned | None = None
    with terminal.bar() as bar:
        tasks: dict[str, Any] = {}
        with jobs.alone():
            for step in tune.sweep(dataset, plan, options.budget):
                if isinstance(step, Progress):
                    terminal.show(step, bar, tasks)
                elif isinstance(step, tune.Trial) and options.json:
                    bar.console.print(terminal.trial_line(step))
                elif isinstance(step, tune.Trial):
                    terminal.print_beside(bar, terminal.trial_line(step))
                else:
                    found = step
    if found is None:
        raise UserError(f"In {options.budget:g} s nothing could be tried. Give it more: --budget {tune.BUDGET:g}.")
    command = _command(options, found.plan)
    if options.json:
        trials = [trial.to_dict() for trial in found.trials]
        print(json.dumps({"best": found.best.to_dict(), "command": command, "trials": trials}))
        return 0
    best = f"{tune.named(found.best)}, {terminal.rate_of(found.best)}"
    print(f"Best on the {found.best.n} validation photos: {best}. To train so:\n{printable(command)}")
    return 0


def _command(options: argparse.Namespace, plan: plans.Plan) -> str:
    """The command that trains on the same photos as a sweep found best."""
    words = ["tlapp", "train", options.folder]
    for name in ("test", "decisions", "backbone", "weights", "seed"):
        value = getattr(options, name)
        if value not in (None, "", "auto"):
            words += [f"--{name}", str(value)]
    words += ["--from", options.start] if options.start else []
    words += ["--as-on-page"] if options.as_on_page else []
    own = ("solver", "frozen", "fine_tune_rate", "head", "depth", "l2")
    for text in options.set:
        if text.partition("=")[0].strip() not in own:
            words += ["--set", text]
    words += ["--freeze", "all" if plan.head_only else ",".join(plan.frozen) or "none"]
    if plan.solver == "sgd":
        words += ["--set", f"fine_tune_rate={plan.fine_tune_rate:g}"]
    return shlex.join(words)


def _settings(options: argparse.Namespace) -> dict[str, str]:
    settings: dict[str, str] = {}
    for text in options.set:
        key, equals, value = text.partition("=")
        if not equals:
            raise UsageError(f"--set {printable(text)} has no value. Write --set key=value, as in --set dropout=0.3.")
        settings[key.strip()] = value.strip()
    named = {name: getattr(options, name, None) for name in ("frozen", "epochs", "seed", "weights")}
    return settings | {key: str(value) for key, value in named.items() if value not in (None, "")}


def _offer_weights(backbone: catalog.Backbone, yes: bool) -> None:
    """Fetch missing weights if the person says so; never silently."""
    if catalog.weights_path(backbone).is_file():
        return
    if not yes and sys.stdin.isatty() and sys.stderr.isatty() and not fetching.is_offline():
        terminal.say(f"{backbone.title}'s weights are not on this machine. Terms: {backbone.terms}.")
        sys.stderr.write(f"Fetch {backbone.megabytes:.0f} MB from torchvision's server now? [y/N] ")
        sys.stderr.flush()
        yes = sys.stdin.readline().strip().lower() in ("y", "yes")
    if yes:
        _fetch(backbone)
    else:
        catalog.check_weights(backbone)


def _fetch(backbone: catalog.Backbone) -> Path:
    with terminal.bar() as bar:
        task = bar.add_task(f"fetching {backbone.title}, MB", total=round(backbone.megabytes))
        return fetching.fetch(backbone, lambda done, _: bar.update(task, completed=round(done)))


def _describe(dataset: datasets.Dataset) -> None:
    counts = ", ".join(f"{printable(name)} {n}" for name, n in dataset.class_counts().items())
    terminal.say(f"{len(dataset.photos)} photos in {len(dataset.classes)} classes: {counts}.")
    for note in dataset.notes:
        terminal.say(note)
    for skipped in dataset.skipped[:MOST_SKIPPED]:
        terminal.say(f"Skipped {skipped.name}: it {skipped.reason}.")
    more = len(dataset.skipped) - MOST_SKIPPED
    if more > 0:
        terminal.say(f"Skipped {more} more file{'s' if more > 1 else ''}; tlapp audit FOLDER --json names all.")


def resume(options: argparse.Namespace) -> int:
    """Go on with a run and show it until it ends."""
    run, board_in = _find(options.name), _board_in(options)
    return terminal.watch(jobs.resume(run), options.json, None, board_in)


def stop(options: argparse.Namespace) -> int:
    """Ask a run, of this process or another, to stop."""
    run = _find(options.name)
    if not run.is_live():
        raise RunError(f"Run {run.id} is not running (it is {run.state()}), so there is nothing to stop.")
    began = any(not isinstance(event, Queued) for event in run.events()[0])
    jobs.stop(run)
    if options.json:
        print(json.dumps({"run": run.id, "began": began}))
        return 0
    kept = "What it has learned so far is kept" if began else "It had not begun"
    print(f"Run {run.id} was asked to stop. {kept}; `tlapp resume {run.id}` goes on.")
    return 0


# --- predict and evaluate


def predict(options: argparse.Namespace) -> int:
    """Classify photos."""
    paths = list(_photo_paths(options.photos))
    run = _find(options.name)
    run.report()
    from tlapp import predict

    answers: list[Prediction | Unreadable] = []
    with terminal.bar() as bar:
        task = bar.add_task("classifying", total=len(paths))
        for answer in predict.load(run).predict_files(paths):
            answers.append(answer)
            bar.advance(task)
    unreadable = [answer for answer in answers if isinstance(answer, predict.Unreadable)]
    if options.csv:
        text = predict.to_csv(answers, run.classes)
        workspace.write_atomic(workspace.expand(options.csv).absolute(), text.encode("utf-8", "replace"))
    if options.json:
        print(json.dumps([answer.to_dict() for answer in answers]))
    else:
        for answer in answers:
            if isinstance(answer, predict.Prediction):
                print(f"{_said(answer)}  {percent(answer.probability)}  {printable(answer.file)}")
    for answer in unreadable:
        terminal.refuse(str(answer))
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


def _said(answer: Prediction) -> str:
    label = printable(answer.label)
    from tlapp.predict import NONE

    return f"{NONE}, nearest is {label}" if answer.unknown else label


def evaluate(options: argparse.Namespace) -> int:
    """Score a run."""
    run = _find(options.name)
    run.report()
    with terminal.bar() as bar:
        task = bar.add_task("scoring", total=None)

        def report(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        from tlapp import scoring

        result = scoring.evaluate_run(run, Path(options.folder) if options.folder else None, report)
    for note in result.pop("notes"):
        terminal.say(note)
    if options.json:
        print(json.dumps(result))
    else:
        on = options.folder or run.header()["source"]
        print(f"Run {run.id}, on {printable(Path(str(on)).name)}.")
        print(terminal.scored(result["accuracy"], result["n"], "photos"))
        for name, s in result["per_class"].items():
            print(f"  {printable(name)}: {terminal.of_class(s)}")
    return 0


# --- weights, serve


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

    def tell(url: str) -> None:
        if options.json:
            print(json.dumps({"url": url}), flush=True)

    ui.launch(options.host, options.port, options.auth or "", not options.no_browser, say=terminal.say, on_open=tell)
    return 0


def _find(name: str) -> runs.Run:
    return runs.find(name)
