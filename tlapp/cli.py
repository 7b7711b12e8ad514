"""The command line: options, and what becomes of errors. The commands themselves are in `commands`.

Exit codes: 0 done, 1 the input or the machine did not allow it (one sentence says why), 2 a wrong command line.
"""

from __future__ import annotations

import argparse
import contextlib
import difflib
import os
import sys
from collections.abc import Callable, Iterable, Sequence

import tlapp
from tlapp import catalog, cleanup, commands, doctor_command, journal, memory, run_commands, terminal
from tlapp.errors import UsageError, UserError, explain_oserror, printable


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code, except that argparse exits with 2 by itself."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, ValueError):
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        options = _parser(arguments).parse_args(arguments)
        if options.command == "doctor":  # it changes nothing, so not the log either
            return options.run(options)
        return journal.command(options.command, lambda: options.run(options))
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        return terminal.refuse("Stopped.")
    except UsageError as error:
        terminal.refuse(str(error))
        return 2
    except UserError as error:
        return terminal.refuse(str(error))
    except OSError as error:
        return terminal.refuse(explain_oserror(error))
    except MemoryError:
        return terminal.refuse(memory.SHORT)
    except Exception as error:
        return terminal.refuse(f"A fault of the program ({type(error).__name__}). {journal.fault(error)}")


def _parser(arguments: Sequence[str]) -> argparse.ArgumentParser:
    """What understands these arguments. Raises UsageError where their command, or their action of `runs`, is none."""
    parser = argparse.ArgumentParser(prog="tlapp", description=tlapp.__doc__.splitlines()[0])
    parser.add_argument("--version", action="version", version=f"tlapp {tlapp.__version__}")
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, function: Callable[[argparse.Namespace], int], help_text: str) -> argparse.ArgumentParser:
        sub = subparsers.add_parser(name, help=help_text, description=help_text)
        sub.set_defaults(run=function, command=name)
        return sub

    run_help = "run id or number, run folder, or `latest` (the newest finished run)"
    train = command(
        "train",
        commands.train,
        "Train on a folder or zip with one sub-folder of photos per class, or a CSV of labels.",
    )
    _photo_options(train)
    train.add_argument("--freeze", metavar="BLOCKS", dest="frozen", help="all, none, or names such as stem,layer1")
    train.add_argument("--epochs", type=int, help="passes over the training photos, at most")
    _board_option(train)
    train.add_argument("--instant", action="store_true", help="the instant model: one view a photo, a ridge head")

    tune = command("tune", commands.tune, "Try which blocks should learn, and how fast, within a time budget.")
    _photo_options(tune)
    tune.add_argument("--budget", type=seconds, default=120.0, metavar="SECONDS", help="default 120")

    audit = command(
        "audit", commands.audit, "Look for copies, leaks, wrong labels, outliers and shortcuts before you train."
    )
    _source_options(audit)
    _backbone_option(audit)
    _json_option(audit)

    copy = command("copy", commands.copy, "Write the cleaned photos as train, val and test folders for ImageFolder.")
    _source_options(copy)
    copy.add_argument("--to", metavar="DIR", required=True, help="an empty or new folder")
    _split_options(copy, f"what else decides the split: {', '.join(commands.SPLIT_SETTINGS)}")
    _json_option(copy)

    predict = command("predict", commands.predict, "Say which class photos belong to.")
    predict.add_argument("name", metavar="RUN", help=run_help)
    predict.add_argument("photos", metavar="PHOTO", nargs="+", help="a photo, or a folder of photos")
    predict.add_argument("--csv", metavar="OUT", help="write a table to this file")
    _json_option(predict)

    evaluate = command("evaluate", commands.evaluate, "Score a run on its own test photos, or on a folder of others.")
    evaluate.add_argument("name", metavar="RUN", help=run_help)
    evaluate.add_argument("folder", metavar="FOLDER", nargs="?", help="one sub-folder per class, all of it test")
    _json_option(evaluate)

    export = command("export", run_commands.export, "Write a run's model to a folder or zip that needs no tlapp.")
    export.add_argument("name", metavar="RUN", help=run_help)
    export.add_argument("--to", metavar="DIR|ZIP", required=True, help="an empty or new folder, or a new .zip")
    export.add_argument("--web", action="store_true", help="with index.html, which answers in a browser, offline")
    export.add_argument("--int8", action="store_true", help="also as INT8: smaller, and judged on the test photos")
    _json_option(export)
    opened = command("import", run_commands.import_run, "Open a bundle or a run of another machine as a run of here.")
    opened.add_argument("path", metavar="PATH", help="a bundle (folder or zip), or the folder of a run")
    _json_option(opened)

    listing = command("runs", run_commands.list_runs, "List the runs; name, annotate, remove or compare them.")
    _json_option(listing)
    actions = _run_actions(listing, run_help)

    resume = command("resume", commands.resume, "Go on with a stopped or interrupted run.")
    resume.add_argument("name", metavar="RUN", help=run_help)
    _board_option(resume)
    _json_option(resume)

    stop = command("stop", commands.stop, "Ask a running or waiting run to stop and keep its best so far.")
    stop.add_argument("name", metavar="RUN", help="run id or number, or run folder")
    _json_option(stop)

    clean = command("clean", run_commands.clean, "Say what in the workspace is not needed, and delete it.")
    clean.add_argument("kinds", metavar="KIND", nargs="*", help=f"what may go: {', '.join(cleanup.WORDS)}")
    clean.add_argument("--yes", action="store_true", help="delete without asking")
    _json_option(clean)

    weights = command("weights", commands.weights, "List the backbones, or fetch one's weights.")
    weights.add_argument("action", choices=("list", "get"), nargs="?", default="list")
    weights.add_argument("backbone", nargs="?", help="for get: which backbone")
    _json_option(weights)

    doctor = command("doctor", doctor_command.examine, "Say what is well here, what is not, and what to do.")
    doctor.add_argument("--deep", action="store_true", help="hash every model too; slow where there are many")
    _json_option(doctor)

    serve = command("serve", commands.serve, "Open the web page.")
    serve.add_argument(
        "--host",
        default="127.0.0.1",
        help="address to serve at; others than this machine's need --auth, and then no paths are taken",
    )
    serve.add_argument("--port", type=int, help="port to serve at (default 7860, or the next free one)")
    serve.add_argument("--auth", metavar="USER:PASSWORD", help="ask for this name and password")
    serve.add_argument("--no-browser", action="store_true", help="do not open the browser")
    _json_option(serve)
    words = [argument for argument in arguments if not argument.startswith("-")]
    _known(words[:1], "There is no command", subparsers.choices)
    if words[:1] == ["runs"]:
        _known(words[1:2], "tlapp runs has no action", actions)
    return parser


def _known(words: Sequence[str], refusal: str, names: Iterable[str]) -> None:
    """Raise UsageError, with the nearest name, where a word is none of these."""
    for word in set(words) - set(names):
        near = difflib.get_close_matches(word, names, 1)
        hint = f"Did you mean '{near[0]}'?" if near else f"There are {', '.join(names)}; --help explains them."
        raise UsageError(f"{refusal} '{printable(word)}'. {hint}")


def _run_actions(listing: argparse.ArgumentParser, run_help: str) -> Iterable[str]:
    """What `tlapp runs` does beside listing; the names of it."""
    actions = listing.add_subparsers(metavar="ACTION")

    def action(
        name: str, function: Callable[[argparse.Namespace], int], help_text: str, *named: str
    ) -> argparse.ArgumentParser:
        sub = actions.add_parser(name, help=help_text, description=help_text)
        sub.set_defaults(run=function, command=f"runs {name}")
        for argument in named:
            sub.add_argument(argument, metavar="RUN", help=run_help)
        # left out here, what was said before the action stands
        sub.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="print JSON")
        return sub

    for what in ("name", "note"):
        sub = action(what, run_commands.describe, f"Give a run a {what}; without words, take it away.", "name")
        sub.add_argument("text", metavar="WORDS", nargs="*", help=f"the {what}")
        sub.set_defaults(what=what)
    action("remove", run_commands.remove, "Move a run to the trash.", "name")
    back = action("restore", run_commands.restore, "Bring a removed run back.")
    back.add_argument("name", metavar="RUN", help="id or number of a run that was removed in the last days")
    action("removed", run_commands.list_removed, "List the runs that can be brought back.")
    action("compare", run_commands.compare_runs, "Say which test photos and settings differ.", "before", "after")
    board = action("tensorboard", run_commands.tensorboard, "Write a run as event files for TensorBoard.", "name")
    board.add_argument("--to", metavar="DIR", required=True, help="where each run has a sub-folder")
    return actions.choices


def _source_options(parser: argparse.ArgumentParser) -> None:
    """Which photos."""
    parser.add_argument("folder", metavar="FOLDER", help="a folder, a zip, or a CSV with the columns file,label")
    parser.add_argument("--test", metavar="FOLDER", help="test photos, one sub-folder per class")
    noted = parser.add_mutually_exclusive_group()
    noted.add_argument("--decisions", metavar="CSV", help="what to keep, exclude or relabel, as the page saves it")
    noted.add_argument(
        "--as-on-page", action="store_true", help="with what was decided on the page, and the photos added there"
    )


def _backbone_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--backbone", default="auto", help=f"auto (default), {', '.join(catalog.BACKBONES)}")


def _split_options(parser: argparse.ArgumentParser, help_text: str) -> None:
    parser.add_argument("--seed", type=int, help="of the split and of everything random (default 0)")
    parser.add_argument("--set", metavar="KEY=VALUE", action="append", default=[], help=help_text)


def _photo_options(parser: argparse.ArgumentParser) -> None:
    """What train and tune have in common."""
    _source_options(parser)
    _backbone_option(parser)
    parser.add_argument("--weights", metavar="FILE", default="", help="weights file for the backbone")
    parser.add_argument(
        "--from", dest="start", metavar="RUN", default="", help="start from the network of a run, as it learned it"
    )
    _split_options(parser, "any setting of the plan")
    parser.add_argument("--yes", action="store_true", help="fetch missing weights without asking")
    _json_option(parser)


def _board_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--tensorboard", metavar="DIR", help="write event files to DIR/RUN while it trains")


def seconds(text: str) -> float:
    """A number of seconds from the command line; argparse names this function where it is none."""
    value = float(text)
    if not 0 < value < 1e6:
        raise ValueError(text)
    return value


def _json_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON on standard output")


if __name__ == "__main__":
    raise SystemExit(main())
