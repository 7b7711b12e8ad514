"""What `tlapp runs`, `export`, `import` and `clean` do: runs listed, named, removed, brought back, compared, taken
elsewhere, and what is no longer needed deleted.

Each command takes the parsed options and returns its exit code.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tlapp import board, cleanup, compare, evaluate, history, room, runs, terminal, workspace
from tlapp.cleanup import Done, Kind
from tlapp.compare import Comparison, Pair
from tlapp.errors import RunError, UsageError, printable
from tlapp.runs import Run


def list_runs(options: argparse.Namespace) -> int:
    """List the runs of the workspace."""
    rows = [_row(run) for run in runs.all_runs(workspace.home())]
    return _print_rows(rows, "No runs yet. Start one with `tlapp train FOLDER`.", options.json)


def list_removed(options: argparse.Namespace) -> int:
    """List the runs that can be brought back."""
    rows = [_row(run) for run in history.removed(workspace.home())]
    return _print_rows(rows, "No run was removed in the last days.", options.json)


def _row(run: Run) -> dict[str, Any]:
    row: dict[str, Any] = {"run": run.id, "path": str(run.path)}
    try:
        header, about, plan = run.header(), history.about(run), run.plan
        report = run.report() if run.has_model() else {}
        return row | {
            "state": run.state(), "source": header["source"], "backbone": plan.backbone,
            **{key: report.get(key) for key in ("accuracy", "interval", "method", "n_test")},
            "name": about.name, "note": about.note, "approach": history.approach(plan),
            "created": str(header.get("created", "")), "origin": "origin" in header, "waits_for": run.waits_for(),
        }  # fmt: skip
    except RunError as error:
        return row | {"state": "damaged", "error": str(error)}


def _print_rows(rows: list[dict[str, Any]], empty: str, as_json: bool) -> int:
    if as_json:
        print(json.dumps(rows))
        return 0
    if not rows:
        print(empty)
    for row in rows:
        accuracy = row.get("accuracy")
        shown = "" if accuracy is None else evaluate.brief(accuracy, row["n_test"], to=" to ")
        state = "waiting" if row.get("waits_for") else row["state"]
        words = [f"{row['run']}  {state:<11} {shown:>26}  {row.get('created', '')[:16]:<16}  "
                 f"{row.get('backbone', ''):<18}  {row.get('approach', ''):<15}",
                 printable(row.get("source", "")) + (", from elsewhere" if row.get("origin") else ""),
                 printable(row.get("name", "")),
                 f"waits: {_counted(row['waits_for'], 'run')} before it" if row.get("waits_for") else ""]  # fmt: skip
        print("  ".join(filter(None, words)).rstrip())
    return 0


def _counted(n: int, noun: str) -> str:
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"


def describe(options: argparse.Namespace) -> int:
    """Give a run a name or a note."""
    run = _find(options.name)
    given = " ".join(options.text)
    about = history.describe(run, **{options.what: given})
    if options.json:
        print(json.dumps({"run": run.id, "name": about.name, "note": about.note}))
    else:
        said = getattr(about, options.what)
        print(f"The {options.what} of run {run.id}: {said}" if said else f"Run {run.id} has no {options.what} now.")
    return 0


def remove(options: argparse.Namespace) -> int:
    """Move a run to the trash."""
    run = _find(options.name)
    if run.path.parent.resolve() != (workspace.home() / "runs").resolve():
        raise RunError(f"{run.path} lies outside the workspace, which has no trash for it. Delete the folder yourself.")
    history.remove(run)
    if options.json:
        print(json.dumps({"run": run.id, "kept_days": history.KEPT_DAYS}))
    else:
        print(f"Run {run.id} is removed. For {history.KEPT_DAYS} days `tlapp runs restore {run.id}` brings it back.")
    return 0


def restore(options: argparse.Namespace) -> int:
    """Bring a removed run back."""
    run = history.restore(workspace.home(), options.name)
    print(json.dumps({"run": run.id, "path": str(run.path)}) if options.json else f"Run {run.id} is back.")
    return 0


def export(options: argparse.Namespace) -> int:
    """Write a run's bundle."""
    run = _find(options.name)
    from tlapp import export

    made = export.export(run, Path(options.to), terminal.say, web=options.web, int8=options.int8)
    if options.json:
        print(json.dumps(made.to_dict()))
        return 0
    print(
        f"Run {run.id} is in {printable(str(made.path))}, {len(made.files)} files: `predict.py` answers without tlapp."
    )
    if options.web:
        print("Open `index.html` with a browser: it answers without a network.")
    photos = f"{made.photos_compared:,} validation photos"
    print(f"On {photos} its probabilities differ from the app's by {made.max_difference:.1g} at most.")
    for line in made.int8.in_words() if made.int8 else ():
        print(line)
    return 0


def import_run(options: argparse.Namespace) -> int:
    """Open a bundle or a run from elsewhere."""
    from tlapp import bundles

    before = runs.all_runs(workspace.home())
    run = bundles.import_run(options.path)
    report = run.report()
    if options.json:
        score = {key: report[key] for key in ("accuracy", "interval", "method", "n_test")}
        print(json.dumps({"run": run.id, "path": str(run.path), "classes": list(run.classes), **score}))
        return 0
    worth = evaluate.in_words(report["accuracy"], report["n_test"], "test photos", " to ")
    print(
        f"It is run {run.id} here{' already' if run in before else ''}: {printable(', '.join(run.classes))}; {worth}."
    )
    print(f"Classify a photo: tlapp predict {run.id} PHOTO")
    return 0


def tensorboard(options: argparse.Namespace) -> int:
    """Write a run as event files."""
    made = board.write(_find(options.name), options.to)
    if options.json:
        print(json.dumps(made))
    else:
        print(f"Run {made['run']} is in {printable(made['path'])}. Look at it: tensorboard --logdir {_parent(made)}")
    return 0


def _parent(made: dict[str, Any]) -> str:
    return printable(shlex.quote(str(Path(made["path"]).parent)))


def compare_runs(options: argparse.Namespace) -> int:
    """Say what differs between two runs."""
    found = compare.compare(_find(options.before), _find(options.after))
    if options.json:
        print(json.dumps(found.to_dict()))
    else:
        for line in _lines(found):
            print(printable(line))
    return 0


def _lines(found: Comparison) -> list[str]:
    lines = []
    for run, score in zip((found.before, found.after), found.scores, strict=True):
        name = history.about(run).name
        worth = f"accuracy {evaluate.in_words(*score, 'test photos', ' to ')}" if score else f"no model ({run.state()})"
        lines.append(f"{run.id}{f' ({name})' if name else ''}: {worth}")
    lines.append(found.in_words())
    for what in ("fixed", "broken"):
        lines += [f"  {what}: {_line(pair)}" for pair in getattr(found, what)]
    if not found.settings:
        lines.append("The settings are the same.")
    return lines + [f"  {name}: {before} -> {after}" for name, before, after in found.settings]


def _line(pair: Pair) -> str:
    before, after = (evaluate.percent(sure) for sure in (pair.sure_before, pair.sure_after))
    return f"{pair.file} is {pair.truth}: {pair.before} {before} -> {pair.after} {after}"


def clean(options: argparse.Namespace) -> int:
    """Say what of the workspace could go, and delete what is named where the person says so."""
    home = workspace.home()
    cleanup.check(options.kinds)
    if options.yes and not options.kinds:
        raise UsageError(f"Name what may go: tlapp clean KIND … --yes. There are {', '.join(cleanup.WORDS)}.")
    kinds = [kind for kind in cleanup.plan(home) if kind.name in (options.kinds or cleanup.WORDS)]
    found = [kind for kind in kinds if kind.items]
    n, n_bytes = sum(len(kind.items) for kind in kinds), sum(kind.n_bytes for kind in kinds)
    if not options.json:
        for line in _what_lies(kinds):
            print(printable(line))
    at_terminal = sys.stdin.isatty() and sys.stderr.isatty() and not options.json
    is_asked = bool(n and options.kinds and at_terminal and not options.yes)
    if is_asked:
        sys.stderr.write(f"Delete {_counted(n, 'item')}, {room.in_words(n_bytes)}, for good? [y/N] ")
        sys.stderr.flush()
        options.yes = sys.stdin.readline().strip().lower() in ("y", "yes")
    done = cleanup.apply(home, kinds, [kind.name for kind in kinds]) if options.yes else None
    if options.json:
        print(json.dumps(_as_json(home, kinds, done)))
    elif done and n:
        print(f"{_counted(len(done.deleted), 'item')} deleted, {room.in_words(done.n_bytes)} freed.")
        for name in done.kept:
            print(f"Kept, as it is needed or has changed since: {printable(name)}")
    elif n:
        yet = "--yes deletes it" if options.kinds else f"name what may go, as in `tlapp clean {found[0].name}`"
        print("Nothing was deleted." if is_asked else f"Nothing is deleted yet: {yet}.")
    return 0


def _what_lies(kinds: Sequence[Kind]) -> Iterator[str]:
    if not any(kind.items for kind in kinds):
        yield "Nothing can go: all that lies in the workspace is needed, or was looked at within a day."
    for kind in kinds:
        if kind.items:
            size = room.in_words(kind.n_bytes)
            yield f"{kind.name}: {kind.title}, {_counted(len(kind.items), 'item')}, {size}. {kind.lost}"
            yield from (f"  {item.name}, {room.in_words(item.n_bytes)}" for item in kind.items)


def _as_json(home: Path, kinds: Sequence[Kind], done: Done | None) -> dict[str, Any]:
    return {
        "workspace": str(home), "bytes": sum(kind.n_bytes for kind in kinds), "free": room.free(home),
        "kinds": [
            {"kind": kind.name, "title": kind.title, "lost": kind.lost, "bytes": kind.n_bytes,
             "items": [{"name": item.name, "bytes": item.n_bytes} for item in kind.items]}
            for kind in kinds
        ],
        "deleted": list(done.deleted) if done else [], "kept": list(done.kept) if done else [],
        "freed": done.n_bytes if done else 0,
    }  # fmt: skip


def _find(name: str) -> Run:
    return runs.find(name)
