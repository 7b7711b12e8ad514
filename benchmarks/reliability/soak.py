"""One served page that works for long: whether it keeps threads, files, memory or uploads that nobody needs any more.

    python -m benchmarks reliability soak [--minutes 30] [--warm-up 5] [--seed 0]

A seeded mix of what people and programs do: photos read from folders and zips, some damaged; instant models and short
trainings; predictions, exports and explanations; runs deleted and their trash emptied; pages opened; uploads that
break off. Every minute the process is looked at, with nothing at work. Memory, threads and files are compared from the
end of the warm-up to the last minute.
"""

from __future__ import annotations

import collections
import html
import os
import random
import re
import shutil
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import _common
from benchmarks._common import ROOT, Row, Rows
from benchmarks.reliability import PAGE
from benchmarks.reliability._server import Client, Page, Refused, Server, growth, photos, serving, wait_for_run
from tlapp import runs
from tlapp.history import DAY, LOOKED
from tlapp.runs import TRASH

MOST_GROWTH = 0.10
"""Of memory, along a robust line from the end of the warm-up on."""
MOST_MORE = {"threads": 4, "files_open": 8, "children": 0}
"""By how many these may rise and fall from one minute to another; they may not climb by more."""
FOLDERS = 16
KEPT_RUNS = 12


def main(arguments: list[str]) -> None:
    """Work for so many minutes, keep what was seen, and make the section."""
    parser = _common.parser("reliability-soak", str(__doc__).splitlines()[0])
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--warm-up", type=float, default=5, help="minutes in which caches may fill")
    parser.add_argument("--seed", type=int, default=0)
    parser.set_defaults(page=PAGE, out=ROOT / "benchmarks" / "results" / "reliability-soak.jsonl")
    options = parser.parse_args(arguments)
    rows = Rows(options.out, ("minutes", "warm_up", "seed"), options.threads)
    if not options.render:
        which = {"minutes": options.minutes, "warm_up": options.warm_up, "seed": options.seed}
        rows.measure(lambda: soak(options.data, options.minutes, options.seed), **which)
    render(rows.of_one_machine()[-1], options.page)


def soak(data: Path, minutes: float, seed: int) -> Row:
    """What the server looked like every minute, how often each thing was done, and what went wrong."""
    seen: list[Row] = []
    with serving() as server, tempfile.TemporaryDirectory(prefix="tlapp-soak-") as place:
        person = Person(server, photos(data), Path(place), random.Random(seed))
        begun = time.monotonic()
        while (spent := time.monotonic() - begun) < 60 * minutes:
            person.act()
            if spent >= 60 * len(seen):
                seen.append({"minute": round(spent / 60, 2), **settled(server)})
                print(seen[-1], file=sys.stderr, flush=True)
        seen.append({"minute": round(minutes, 2), **settled(server)})
        return {"seen": seen, "done": dict(person.done), "refused": dict(person.refused), "faults": person.faults[:20]}


def settled(server: Server) -> Row:
    """The server's process once the threads of the last requests have had the time to end, and runs in the trash."""
    time.sleep(2)
    return {**server.look(), "trash": len(runs.all_runs(server.home, TRASH))}


class Person:
    """Does one thing after another, as the seed draws them. `faults`: what was no answer and no polite refusal."""

    def __init__(self, server: Server, source: Path, place: Path, draw: random.Random) -> None:
        self.server, self.place, self.draw = server, place, draw
        self.client, self.page = Client(server.url), Page(server.url)
        self.files = sorted(path for path in source.rglob("*.*") if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
        self.source, self.datasets, self.runs = source, list[str](), list[str]()
        self.done: collections.Counter[str] = collections.Counter()
        self.refused: collections.Counter[str] = collections.Counter()
        self.faults = list[str]()
        self.ways: list[tuple[int, Callable[[], Any]]] = [
            (4, self.read_folder), (2, self.read_zip), (2, self.read_damaged), (3, self.instant), (2, self.train),
            (8, self.predict), (2, self.predict_damaged), (1, self.export), (4, self.why), (4, self.open_page),
            (3, self.delete), (4, self.break_off), (6, self.tick),
        ]  # fmt: skip
        self.read_folder()
        self.instant()

    def act(self) -> None:
        """One thing, drawn; a refusal in a sentence is an answer."""
        weights, ways = zip(*self.ways, strict=True)
        (way,) = self.draw.choices(ways, weights)
        self.done[way.__name__] += 1
        try:
            way()
        except Refused as refusal:
            if refusal.is_polite:
                self.refused[way.__name__] += 1
            else:
                self.faults.append(f"{way.__name__}: {refusal.status} {refusal.sentence[:300]}")
        except Exception as error:
            self.faults.append(f"{way.__name__}: {type(error).__name__}: {error}")

    def folder(self) -> Path:
        """One of a few folders, each of three classes and some photos of its own."""
        number = self.draw.randrange(FOLDERS)
        folder = self.place / f"photos-{number}"
        if not folder.exists():
            own = random.Random(number)
            classes = own.sample(sorted({path.parent for path in self.files}), 3)
            for one in classes:
                (folder / one.name).mkdir(parents=True)
                for path in own.sample([path for path in self.files if path.parent == one], 8):
                    shutil.copy(path, folder / one.name)
        return folder

    def zipped(self) -> Path:
        """One of the folders as a zip."""
        folder = self.folder()
        path = folder.with_suffix(".zip")
        if not path.exists():
            with zipfile.ZipFile(path, "w") as made:
                for file in sorted(folder.rglob("*.*")):
                    made.write(file, file.relative_to(folder))
        return path

    def damaged(self, path: Path) -> Path:
        """A copy of the file, cut short, with some bytes changed."""
        content = bytearray(path.read_bytes())[: self.draw.randrange(100, path.stat().st_size)]
        for _ in range(20):
            content[self.draw.randrange(len(content))] = self.draw.randrange(256)
        copy = self.place / f"damaged{path.suffix}"
        copy.write_bytes(content)
        return copy

    def read_folder(self) -> None:
        """By the page's own handler."""
        if said := self.page.read(self.folder()):
            raise Refused(said)
        self.datasets = list(dict.fromkeys([*self.datasets, self.page.dataset]))

    def read_zip(self) -> None:
        """Sent by a program."""
        (sent,) = self.client.upload([self.zipped()])
        self.datasets = list(dict.fromkeys([*self.datasets, self.client.call("load_dataset", sent, "")["dataset"]]))

    def read_damaged(self) -> None:
        """A zip that is cut short."""
        (sent,) = self.client.upload([self.damaged(self.zipped())])
        self.client.call("load_dataset", sent, "")

    def instant(self) -> None:
        """An exact head alone."""
        self._start({"solver": "exact", "augmentation": "off"})

    def train(self) -> None:
        """Two epochs of gradient descent."""
        self._start({"solver": "sgd", "epochs": 2, "frozen": "all", "seed": self.draw.randrange(1000)})

    def _start(self, settings: dict[str, Any]) -> None:
        photos = self.draw.choice(self.datasets)
        plan = self.client.call("suggest_plan", photos, settings)
        run = self.client.call("start_training", photos, plan)["run"]
        status = wait_for_run(self.client, run)
        if status["state"] != "finished":
            raise Refused(status["error"] or status["state"])
        self.runs.append(run)
        self.page.run = run
        while len(self.runs) > KEPT_RUNS:
            self.delete()

    def predict(self) -> None:
        """One to four photos."""
        sent = self.client.upload(self.draw.sample(self.files, self.draw.randint(1, 4)))
        self.client.call("predict", self.draw.choice(self.runs), sent)

    def predict_damaged(self) -> None:
        """A photo that is cut short."""
        sent = self.client.upload([self.damaged(self.draw.choice(self.files))])
        self.client.call("predict", self.draw.choice(self.runs), sent)

    def export(self) -> None:
        """The zip of a model, downloaded."""
        bundle = self.client.call("export", self.draw.choice(self.runs))[1]
        self.client.http.get(bundle["url"]).raise_for_status()

    def why(self) -> None:
        """A test photo of a model's, and what spoke for the answer."""
        self.page.run = self.draw.choice(self.runs)
        self.page.ask("select", "test")  # only then does the list hold the model
        (function,) = self.page.handlers("click", "try-test-photo")
        shown = self.page.client.run(function, self.page.values(function, pick_model=self.page.run))
        pick = re.search(r'data-why="([^"]+)"', shown[0])
        self.page.ask("select", "answers", about={"pick": html.unescape(pick[1]) if pick else ""})

    def open_page(self) -> None:
        """A new tab."""
        page = Page(self.server.url)
        page.dataset, page.run = self.draw.choice(self.datasets), self.draw.choice(self.runs)
        page.open()
        page.follow()
        page.close()

    def delete(self) -> None:
        """A run; now and then the trash is a week old, and emptied by the next run."""
        if len(self.runs) < 2:
            return
        gone = self.runs.pop(self.draw.randrange(len(self.runs) - 1))
        self.page.ask("click", "delete-run", chosen=gone)
        if self.draw.random() < 0.3:
            trash = self.server.home / "runs" / TRASH
            for run in trash.iterdir():
                os.utime(run, (0, 0))
            looked = time.time() - 2 * DAY  # of two looks at the clock, this is the first
            (trash / LOOKED).touch()
            os.utime(trash / LOOKED, (looked, looked))

    def break_off(self) -> None:
        """An upload that ends in its middle."""
        self.client.break_off(self.draw.randbytes(200_000))

    def tick(self) -> None:
        """A look at the run."""
        self.page.follow()


def judge(row: Row) -> list[tuple[str, str, str, bool]]:
    """Measure, at the end of the warm-up, at the end, and whether it held still."""
    late = [one for one in row["seen"] if one["minute"] >= row["warm_up"]]
    first, last = late[0], late[-1]
    found = []
    for name, words in (("pss", "memory, MB (PSS)"), ("rss", "memory, MB (RSS)")):
        by = growth(late, name)
        found.append((words, f"{first[name]:.0f}", f"{last[name]:.0f} ({by:+.1%} along a line)", by < MOST_GROWTH))
    for name, words in WORDS.items():
        by = growth(late, name) * first[name]
        most, least = max(one[name] for one in late), min(one[name] for one in late)
        found.append((words, f"{first[name]}", f"{last[name]} ({least} to {most})", by <= MOST_MORE[name]))
    return found


WORDS = {"threads": "threads", "files_open": "open files", "children": "child processes"}


def render(row: Row, page: Path) -> None:
    """The section `soak`."""
    found = judge(row)
    done = ", ".join(f"{name.replace('_', ' ')} {n}" for name, n in sorted(row["done"].items()))
    refused = ", ".join(f"{name.replace('_', ' ')} {n}" for name, n in sorted(row["refused"].items()))
    met = all(good for *_, good in found) and not row["faults"]
    bounds = ", ".join(f"{WORDS[name]} {n}" for name, n in MOST_MORE.items())
    lines = [[name, before, after, "yes" if good else "**no**"] for name, before, after, good in found]
    text = (
        f"`python -m benchmarks reliability soak --minutes {row['minutes']:g}`, seed {row['seed']}, on "
        f"{_common.words(row['machine'])}: one server, {sum(row['done'].values()):,} things done one after another "
        f"({done}); {sum(row['refused'].values())} refused in a sentence ({refused}), {len(row['faults'])} faults. "
        f"What was sent is kept for a day: {row['seen'][-1]['uploads']} files at the end; of the runs that were "
        f"deleted {row['seen'][-1]['trash']} were still in the trash. Memory may grow by less than "
        f"{MOST_GROWTH:.0%} from minute {row['warm_up']:g} on; others may climb by no more than: {bounds}. "
        f"{_common.judged(met)}\n\n"
    )
    head = ["measure", f"minute {row['warm_up']:g}", f"minute {row['minutes']:g}", "held"]
    _common.write_section(page, "soak", text + _common.table(head, lines))
