"""Every column and field that comes out is in docs/formats.md, and what that promises comes out.

Each output is made for real, by the command or the page's own function; the page's tables are read from the document.
"""

import argparse
import contextlib
import csv
import dataclasses
import io
import json
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import SIDES, fill, photo, shrink_pictures
from PIL import Image, ImageFilter
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tlapp import board, cli, decisions, estimate, events, journal, runs, schema, speed, tune
from tlapp.ui import division, results, sheets

DOC = (Path(__file__).resolve().parents[1] / "docs/formats.md").read_text(encoding="utf-8")
JSON_HEAD, CSV_HEAD = ["Field", "Type", "Unit", "Meaning"], ["Column", "Type", "Unit", "Meaning"]
TYPES = {bool: "yes or no", int: "whole number", float: "number", str: "text", dict: "object", type(None): "null"}


def described():
    """Output → its table: field or column → type. Tables of columns and of fields are told apart by their heads."""
    fields, columns = {}, {}
    for part in re.split(r"^#+ ", DOC, flags=re.M)[1:]:
        title = part.partition("\n")[0]
        rows = [
            [c.strip() for c in re.split(r"(?<!\\)\|", line)[1:-1]] for line in part.splitlines() if line[:1] == "|"
        ]
        if rows:
            assert rows[0] in (JSON_HEAD, CSV_HEAD), title
            assert all(len(row) == 4 and row[1] and row[3] for row in rows[2:]), title
            kinds = {row[0].strip("`"): row[1] for row in rows[2:]}
            assert len(kinds) == len(rows) - 2, f"{title} names something twice"
            for name in re.findall("`([^`]+)`", title):
                (fields if rows[0] == JSON_HEAD else columns)[name] = kinds
    return fields, columns


FIELDS, COLUMNS = described()


def kind_of(value):
    """The type of a value in the document's words."""
    if isinstance(value, list):
        inner = {kind_of(one) for one in value}
        inner = {"number"} if inner == {"number", "whole number"} else inner - {"null"} or inner
        return " or ".join(f"list of {kind}" for kind in sorted(inner)) or "list"
    return TYPES[type(value)]


def flat(value, table, path=""):
    """(field, type) of everything in a JSON value; keys that are anybody's names go by what the table calls them."""
    if path:
        yield path, kind_of(value)
    if isinstance(value, dict):
        free = next((m[0] for name in table if (m := re.match(re.escape(f"{path}.") + "<[^>]+>", name))), None)
        for key, inner in value.items():
            yield from flat(inner, table, free or f"{path}.{key}".lstrip("."))
    elif isinstance(value, list) and any(isinstance(one, dict) for one in value):
        for one in value:
            yield from flat(one, table, f"{path}[]" if path else "")


def fits(kind, told):
    """Whether a value of this type is what the table says: "number or null, may be missing"."""
    allowed = told.removesuffix(", may be missing").split(" or ")
    allowed = [*allowed, "yes or no"] if {"yes", "no"} <= set(allowed) else allowed
    numbers = {"whole number": "number", "list of whole number": "list of number"}
    numbers["list of list of whole number"] = "list of list of number"
    return kind in allowed or numbers.get(kind) in allowed or (kind == "list" and any("list" in a for a in allowed))


class Shell:
    """The command line within this process, and all that it has printed as JSON."""

    def __init__(self):
        self.printed = {}

    def __call__(self, name, *arguments):
        """Run it with --json; what it printed, which must be one line of strict JSON."""
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = cli.main([str(a) for a in (*name.split(), *arguments, "--json")])
        assert code == 0, err.getvalue()
        return self.keep(name, out.getvalue())

    def keep(self, name, text):
        """Note what was printed; the value."""
        assert text.count("\n") == 1
        value = json.loads(text, parse_constant=lambda word: pytest.fail(f"{name} printed {word}"))
        self.printed.setdefault(name, []).append(value)
        return value


def doubtful(folder):
    """Photos with everything that the check finds."""
    fill(folder, {"reds": 12, "blues": 12}, seed=700)
    shutil.copy(folder / "reds/000.png", folder / "reds/copy.png")
    (folder / "reds/broken.png").write_bytes(b"not a photo")
    photo(folder / "reds/long.png", (200, 40, 40), 901, (300, 60))
    with Image.open(folder / "reds/001.png") as picture:
        picture.save(folder / "reds/near.jpg", quality=90)
        picture.resize((300, 300)).filter(ImageFilter.GaussianBlur(20)).save(folder / "reds/blurred.png")
    Image.new("RGB", (300, 300)).save(folder / "reds/dark.png")
    for i in range(3):
        photo(folder / "blues" / f"wrong{i}.png", (200, 40, 40), 910 + i)
    return folder


def served():
    """What `tlapp serve --json` prints once the page is there; it ends by Ctrl-C."""
    command = [sys.executable, "-m", "tlapp", "serve", "--port", "0", "--no-browser", "--json"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a test run in the background ignores it
    ) as process:  # fmt: skip
        try:
            line = process.stdout.readline()
            process.send_signal(signal.SIGINT)
            rest, _ = process.communicate(timeout=60)
        finally:
            process.kill()
    assert (process.returncode, rest) == (0, "")
    return line


def interrupted(run, number):
    """A copy of a run as its process had left it, had it been killed at the end."""
    other = runs.Run(run.path.with_name(f"{number}-aaaaaa"))
    shutil.copytree(run.path, other.path)
    for path in [other.path / "report.json", *other.path.glob("*.safetensors")]:
        path.unlink()
    lines = (other.path / "events.jsonl").read_bytes().splitlines(keepends=True)
    (other.path / "events.jsonl").write_bytes(b"".join(lines[:-1]))
    return other


def unlike(run, home):
    """A copy of a run that calls every second test photo something else."""
    other = runs.Run(home / "runs" / "0070-aaaaaa")
    if not other.path.exists():
        shutil.copytree(run.path, other.path)
        plan, report = (json.loads((other.path / name).read_bytes()) for name in ("plan.json", "report.json"))
        plan["plan"]["epochs"] = 7
        for asked in report["photos"][::2]:
            asked["label"] = next(name for name in report["classes"] if name != asked["class"])
        (other.path / "plan.json").write_text(json.dumps(plan))
        (other.path / "report.json").write_text(json.dumps(report))
    return other


@pytest.fixture(scope="module")
def made(trained, tmp_path_factory):
    """What every command printed, and every table and file: {"json": {output: values}, "csv": {output: rows}}."""
    root = tmp_path_factory.mktemp("formats")
    shutil.copytree(trained.home, root / "home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TLAPP_HOME", str(root / "home"))
        patch.setenv("TORCH_HOME", str(root / "torch"))
        patch.setenv("OMP_WAIT_POLICY", "PASSIVE")
        patch.setattr("sys.stdin", io.StringIO())
        patch.setattr(estimate, "probe", lambda plan: speed.Speed((1e6,) * 7 + (1e-6,) * 2, (1e-6,) * 9, 1e-6))
        patch.setattr(tune, "EPOCHS", 1)
        shrink_pictures(patch)
        return {"json": commands(root, trained), "csv": tables(root, trained)}


def commands(root, trained):
    """Every command once or twice."""
    shell, run, home = Shell(), trained.run.id, root / "home"
    photos, small = fill(root / "photos", SIDES, seed=50), ["--set", "augmentation=off"]
    shell("train", trained.folder, "--instant", "--tensorboard", root / "board")
    other = shell("train", photos, "--set", "solver=sgd", *small, "--epochs", "2")
    interrupted(runs.Run(home / "runs" / other["run"]), "0076")
    shell("resume", interrupted(runs.Run(home / "runs" / other["run"]), "0077").id)
    shell("tune", photos, *small, "--budget", "500")
    shell("audit", doubtful(root / "doubtful"))
    (photos / "train/reds/broken.png").write_bytes(b"not a photo")
    shell("copy", photos, "--to", root / "clean")
    shutil.copy(root / "clean/manifest.csv", root / "manifest.csv")
    shell("evaluate", run)
    shell("evaluate", run, trained.folder / "test")
    answered = trained.folder / "test/reds/000.png"
    shell("predict", run, answered, "--csv", root / "answers.csv")
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()):
        assert cli.main(["predict", run, str(answered), str(photos / "train/reds/broken.png"), "--json"]) == 1
    shell.keep("predict", out.getvalue())
    shell("export", run, "--to", root / "bundle", "--int8")
    shell("import", root / "bundle")
    shell("runs name", run, "a name")
    shell("runs note", run, "a note")
    worse = unlike(trained.run, home).id
    for pair in ((run, worse), (worse, run), (worse, worse), (run, other["run"]), (run, "0076")):
        shell("runs compare", *pair)
    shell("runs tensorboard", run, "--to", root / "board")
    live = interrupted(runs.Run(home / "runs" / other["run"]), "0078")
    with live.lock():
        shell("stop", live.id)
    shell("runs remove", "0078")
    shell("runs removed")
    shell("runs restore", "0078")
    damaged = home / "runs" / "0079-aaaaaa"
    damaged.mkdir()
    (damaged / "plan.json").write_text("{}")
    shell("runs")
    shell("weights")
    shell("weights get", "efficientnet_lite0")
    shell.keep("serve", served())
    journal.fault(ZeroDivisionError())
    with live.lock(), contextlib.redirect_stdout(io.StringIO()) as out:
        assert cli.main(["doctor", "--json"]) == 1  # for the damaged run and the fault
    machine = json.loads(out.getvalue())["machine"]
    assert (machine["loads"], machine["threads"] >= 1) == (True, True)  # it tried the real torch
    shell.keep("doctor", out.getvalue())
    shell("clean", "unfinished", "--yes")
    files = {"report.json": [r.report() for r in runs.all_runs(home) if r.has_model()]}
    lines = [line for r in runs.all_runs(home)[:2] for line in (r.path / "events.jsonl").read_text().splitlines()]
    files["events.jsonl"] = [[json.loads(line) for line in lines]]
    files["tlapp.log"] = [[json.loads(line) for line in (home / "tlapp.log").read_text().splitlines()]]
    return {f"tlapp {name} --json": values for name, values in shell.printed.items()} | files


def tables(root, trained):
    """Every CSV, as the page and the command line write it."""
    run, data = trained.run, trained.data
    sheet = sheets.Sheet(run, [(path.name, path) for path in sorted((trained.folder / "test/reds").iterdir())], [])
    sheet.ask(lambda *_: None)
    noted = [decisions.about(data.photos[0], decisions.EXCLUDE), decisions.about(data.photos[1], "relabel", "blues")]
    texts = {
        "predictions.csv": results._predictions(run).read_text(),
        "tlapp predict --csv": (root / "answers.csv").read_text(),
        "answers.csv": sheet.csv().read_text(),
        "split.csv": division.to_csv(data, data.split()),
        "decisions.csv": decisions.to_text(noted),
        "manifest.csv": (root / "manifest.csv").read_text(),
    }
    return {name: list(csv.reader(io.StringIO(text))) for name, text in texts.items()}


def leaves(parser, name=""):
    """Every command and every action of `runs`, with its parser."""
    nested = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    for action in nested:
        for word, sub in action.choices.items():
            yield from leaves(sub, f"{name} {word}".strip())
    if name:
        yield name, parser


COMMANDS = dict(leaves(cli._parser([])))


def test_every_command_can_print_json():
    for name, parser in COMMANDS.items():
        assert "--json" in parser._option_string_actions, name


def test_every_command_is_run_and_described(made):
    printed = {name.removeprefix("tlapp ").removesuffix(" --json") for name in made["json"] if "--json" in name}
    assert printed - {"weights get"} == set(COMMANDS)
    assert set(made["json"]) == set(FIELDS)
    assert set(made["csv"]) == set(COLUMNS)


@pytest.mark.parametrize("output", FIELDS)
def test_the_fields_that_come_out_are_those_of_the_document(made, output):
    table, seen = FIELDS[output], set()
    for value in made["json"][output]:
        for one in value if isinstance(value, list) else [value]:
            found = list(flat(one, table))
            there = {field for field, _ in found}
            for field, kind in found:
                if field.endswith("[]"):
                    continue
                assert field in table, f"{output} gives {field}, which docs/formats.md does not name"
                assert fits(kind, table[field]), f"{field} is {kind}, not {table[field]}"
            for field, told in table.items():
                above = field.rpartition(".")[0]
                if "may be missing" not in told and (not above or above in there):
                    assert field in there, f"{output} lacks {field}"
            seen |= there
    owed = {field for field, told in table.items() if "may be missing" not in told and not optional(field, table)}
    assert owed <= seen, "described, and in none of the outputs"


def optional(field, table):
    """Whether something around the field may be missing."""
    parts = field.split(".")
    around = [".".join(parts[:n]).removesuffix("[]") for n in range(1, len(parts))]
    return any("may be missing" in table[name] for name in around)


@pytest.mark.parametrize("output", COLUMNS)
def test_the_columns_that_come_out_are_those_of_the_document(made, output):
    (head, *rows), classes = made["csv"][output], ["blues", "reds"]
    told = [
        (name, kind)
        for column, kind in COLUMNS[output].items()
        for name in (classes if column == "<class>" else [column])
    ]
    assert head == [name for name, _ in told]
    assert rows
    for row in rows:
        assert len(row) == len(head)
        for cell, (name, kind) in zip(row, told, strict=True):
            assert kind == "text" or re.fullmatch(r"\d+(\.\d+)?(e-\d+)?|", cell), name


def test_the_number_of_the_formats_is_that_of_the_reports(made):
    assert f"at number {schema.REPORT}" in " ".join(DOC.split())
    assert {report["schema"] for report in made["json"]["report.json"]} == {schema.REPORT}


def test_every_kind_of_event_is_described_with_its_fields():
    table, words = FIELDS["events.jsonl"], DOC.partition("## `events.jsonl`")[2]
    for kind, event in events._KINDS.items():
        assert f"`{kind}`" in words
        assert {field.name for field in dataclasses.fields(event)} <= set(table)


def test_the_tags_for_tensorboard_are_described(trained, tmp_path):
    part = DOC.partition("## `tlapp runs tensorboard --json`")[2].partition("|")[0]
    named = set(re.findall("`([^`]+)`", part))
    for tag in trained_tags(trained, tmp_path):
        assert {tag, f"{tag.partition('/')[0]}/<stage>"} & named, tag


def trained_tags(trained, folder):
    """All tags of a run's event files but those of the settings."""
    found = EventAccumulator(str(board.write(trained.run, folder)["path"])).Reload().Tags()
    tags = [*found["scalars"], *found["images"], *found["tensors"]]
    return {tag.removesuffix("/text_summary") for tag in tags if not tag.startswith("_")}


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["predict", "latest", "x.png"], 1),
        (["runs", "compare", "1", "2"], 1),
        (["copy", "nowhere", "--to", "there"], 1),
        (["serve", "--port", "0", "--host", "0.0.0.0"], 1),
        (["train", "nowhere", "--set", "dropout"], 2),
        (["weights", "get"], 2),
        (["runs", "nonsense"], 2),
    ],
)
def test_what_cannot_be_done_is_a_sentence_on_standard_error_with_json_too(capsys, arguments, code):
    assert cli.main([*arguments, "--json"]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert re.fullmatch(r"tlapp: [^\n]+[.?]\n", err)
