"""A power cut: whether everything that counts is on the disk, in the right order, before it is relied on.

    python -m benchmarks reliability power

A process does what saves something, under strace; from its system calls follows whether a file's bytes were synced
before it took its name, and its folder after that (`_order.py`). Needs Linux and strace.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks import _common
from benchmarks._common import ROOT, Row, Rows
from benchmarks.reliability import PAGE, _small
from benchmarks.reliability._order import Order
from tlapp import runs, workspace
from tlapp.events import RunStopped
from tlapp.runs import Run

CALLS = (
    "openat,write,pwrite64,sendfile,copy_file_range,ftruncate,fsync,renameat2,mkdirat,linkat,unlinkat,"
    "?rename,?renameat,?mkdir,?link,?unlink,?rmdir"  # not on every processor
)
MARK = "/mark-of-the-trial/"
_TEXT = re.compile(r'"((?:[^"\\]|\\.)*)"')


def main(arguments: list[str]) -> None:
    """Trace each action once, then make the table."""
    parser = _common.parser("reliability power", "fsync and rename in the right order.")
    parser.set_defaults(page=PAGE, out=ROOT / "benchmarks" / "results" / "reliability-power.jsonl", threads=1)
    parser.add_argument("--do", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    os.environ["TLAPP_LOG"] = "off"  # it is none of what is saved: a line that cannot be written is lost in silence
    if options.do:
        _do(options.do)
        return
    rows = Rows(options.out, ("action",), options.threads)
    if not options.render:
        found = trace()
        for action in ACTIONS:
            rows.measure(lambda action=action: found[action], action=action)
    render(rows.of_one_machine(), options.page)


def _stopped(home: Path) -> Run:
    return runs.find("1", home)


def _scan(home: Path) -> None:
    from tlapp import dataset

    dataset.scan(home.parent / "photos", home=home)


def _data(home: Path) -> Any:
    from tlapp import dataset

    return dataset.load(min((home / "datasets").glob("[0-9a-f]*"), key=lambda path: path.stat().st_mtime))


def _create(home: Path) -> None:
    header = {"plan": _small.plan(_data(home), "head").to_dict(), "dataset": _data(home).id, "source": "photos"}
    runs.create(home, {**header, "classes": ["blues", "reds"]})[1].release()


def _decide(home: Path) -> None:
    from tlapp import decisions

    data = _data(home)
    decisions.decide(data, [decisions.about(data.photos[3], decisions.EXCLUDE)])


def _add(home: Path) -> None:
    from tlapp import additions

    path = home.parent / "others" / "reds" / "000.png"
    additions.add(_data(home), [additions.Addition("new.png", path, "reds")])


def _describe(home: Path) -> None:
    from tlapp import history

    history.describe(_stopped(home), name="a name")


def _remove(home: Path) -> None:
    from tlapp import history

    history.remove(_stopped(home))


def _restore(home: Path) -> None:
    from tlapp import history

    history.restore(home, "1")


def _copy(home: Path) -> None:
    from tlapp import imagefolder

    data = _data(home)
    imagefolder.copy(data, _small.plan(data, "head").split(data), home / "exports" / "copy")


def _bundle(home: Path) -> None:
    from tlapp import export

    export._move(home.parent / "others" / "reds", home / "exports" / "model", ["000.png", "001.png"])
    export._move(home.parent / "others" / "reds", home / "exports" / "model.zip", ["000.png", "001.png"])


def _demo(home: Path) -> None:
    from tlapp import demo

    demo.make(home)


ACTIONS: dict[str, Callable[[Path], Any]] = {
    "reading photos": _scan,
    "a new run": _create,
    "saving a state": lambda home: _stopped(home).save("last", bytes(100_000)),
    "delivering a model": lambda home: _stopped(home).deliver(bytes(100_000), {"accuracy": 1.0}, bytes(1000)),
    "the end in the record": lambda home: _stopped(home).append(RunStopped(2, 2)),
    "a record mended": lambda home: _stopped(home).mend(),
    "the name of a run": _describe,
    "the part to answer": lambda home: _stopped(home).set_keep(0.9),
    "removing a run": _remove,
    "bringing it back": _restore,
    "a decision": _decide,
    "an added photo": _add,
    "a bundle as a folder and as a zip": _bundle,
    "a copy of the photos": _copy,
    "the demo set": _demo,
    "a file of any kind": lambda home: workspace.write_atomic(home / "any", b"bytes"),
}


def _do(place: Path) -> None:
    """In the process that is traced: all actions, a mark before each, made by asking for a file that there is not."""
    home = place / "home"
    os.environ["TLAPP_HOME"] = str(home)
    for action, act in ACTIONS.items():
        if action == "a record mended":
            with open(_stopped(home).path / "events.jsonl", "ab") as file:
                file.write(b"half a line")
        _mark(action)
        act(home)
        _mark("")


def _mark(action: str) -> None:
    try:
        os.close(os.open(MARK + action.replace(" ", "_"), os.O_RDONLY))
    except OSError:
        return


def trace() -> dict[str, Row]:
    """What the calls of each action come to."""
    with tempfile.TemporaryDirectory(prefix="tlapp-power-") as name:
        place = Path(name).resolve()
        _small.draw(place / "photos")
        _small.draw(place / "others", seed=1000)
        (place / "home").mkdir()
        command = ["strace", "-f", "-y", "-qq", "-s", "4096", "-e", f"trace={CALLS}", "-o", str(place / "calls")]
        own = [sys.executable, "-m", "benchmarks", "reliability", "power", "--do", str(place)]
        subprocess.run([*command, *own], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        return _judged((place / "calls").read_text(errors="replace"), str(place / "home"))


def _judged(text: str, home: str) -> dict[str, Row]:
    found: dict[str, Row] = {}
    order, action, begun = Order(home), "", time.perf_counter()
    for call, arguments, result in _calls(text):
        mark = _TEXT.search(arguments)
        if call == "openat" and mark and mark[1].startswith(MARK):
            if action:
                faults = order.end()
                counts = {"renames": order.renames, "syncs": order.syncs, "faults": faults, "n_faults": len(faults)}
                found[action] = {**counts, "seconds": time.perf_counter() - begun}
            order, action = Order(home), mark[1].removeprefix(MARK).replace("_", " ")
        elif result >= 0:
            _feed(order, call, arguments)
    return found


def _calls(text: str) -> Iterator[tuple[str, str, int]]:
    """Name, arguments and result of each call; of those that another thread interrupts when they are over."""
    begun: dict[str, str] = {}
    for line in text.splitlines():
        thread, _, rest = line.strip().partition(" ")
        rest = rest.strip()
        if rest.endswith("<unfinished ...>"):
            begun[thread] = rest.removesuffix("<unfinished ...>").rstrip()
            continue
        if again := re.match(r"<\.\.\. \w+ resumed>", rest):
            rest = begun.pop(thread, "") + rest[again.end() :]
        if match := re.match(r"(\w+)\((.*)\) += (-?\d+)", rest):
            yield match[1], match[2], int(match[3])


def _feed(order: Order, call: str, arguments: str) -> None:
    """One call that went well."""
    paths = [match[1] for match in _TEXT.finditer(arguments)]
    opened = re.match(r"\d+<([^>]*)>", arguments)
    if call == "openat" and "O_CREAT" in arguments:
        order.wrote(paths[0], is_new=not os.path.basename(paths[0]).endswith("lock"))
    elif call in ("write", "pwrite64", "sendfile", "ftruncate") and opened:
        order.wrote(opened[1])
    elif call == "copy_file_range":
        order.wrote(re.findall(r"\d+<([^>]*)>", arguments)[1])
    elif call == "fsync" and opened:
        order.synced(opened[1])
    elif call in ("rename", "renameat", "renameat2"):
        order.renamed(*paths[:2])
    elif call in ("mkdir", "mkdirat", "link", "linkat"):
        order.made(paths[-1])
    elif call in ("unlink", "rmdir", "unlinkat"):
        folder = re.match(r"\d+<([^>]*)>", arguments)
        order.removed(f"{folder[1]}/{paths[0]}" if folder and not paths[0].startswith("/") else paths[0])


def render(rows: list[Row], page: Path) -> None:
    """The section `power` of the page."""
    last = {row["action"]: row for row in rows}
    lines = [
        [action, *(f"{last[action][name]}" for name in ("renames", "syncs", "n_faults"))]
        for action in ACTIONS
        if action in last
    ]
    text = (
        f"Made by `python -m benchmarks reliability power` on {_common.words(rows[-1]['machine'])}, from the system "
        "calls of each action. Out of order: a file or folder that took its name before what it holds was synced, or "
        "whose folder was not synced by the end."
    )
    table = _common.table(["action", "renames", "fsync of a file or folder", "out of order"], lines)
    _common.write_section(page, "power", f"{text}\n\n{table}")
