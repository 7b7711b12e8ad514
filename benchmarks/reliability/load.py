"""Many clients that predict while a training runs all the time: whether each answer comes, and is the right one.

    python -m benchmarks reliability load [--minutes 10] [--clients 8] [--seed 0]

One served page in a process of its own, real photos, a model trained on them. Each client uploads a photo as a page
does and asks `/predict`, again and again. The answer to each photo must be that of the server when nothing else was at
work. Every minute the server's process is looked at.
"""

from __future__ import annotations

import random
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import _common
from benchmarks._common import ROOT, Row, Rows
from benchmarks.reliability import PAGE
from benchmarks.reliability._server import Client, Server, growth, photos, serving, wait_for_run

MOST_GROWTH = 0.10
SAME = 2e-3
"""By how much a probability may differ from the quiet answer, as sums may be added in another order."""
ASKED = 40
"""Photos that the clients choose from; the answer to each is known beforehand."""


def main(arguments: list[str]) -> None:
    """Predict for so many minutes, keep what was seen, and make the section."""
    parser = _common.parser("reliability-load", str(__doc__).splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    parser.set_defaults(page=PAGE, out=ROOT / "benchmarks" / "results" / "reliability-load.jsonl")
    options = parser.parse_args(arguments)
    rows = Rows(options.out, ("minutes", "clients", "seed"), options.threads)
    if not options.render:
        which = {"minutes": options.minutes, "clients": options.clients, "seed": options.seed}
        rows.measure(lambda: load(options.data, **which), **which)
    render(rows.of_one_machine()[-1], options.page)


@dataclass
class Told:
    """What all clients saw: seconds of each answer, answers that were not as they should be, trainings that ended."""

    seconds: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    trainings: list[str] = field(default_factory=list)
    largest: float = 0.0


def load(data: Path, minutes: float, clients: int, seed: int) -> Row:
    """All clients at once, and a training after the other beside them."""
    with serving() as server:
        client = Client(server.url)
        dataset = client.call("load_dataset", str(photos(data)), "")["dataset"]
        run = client.call("start_training", dataset, client.call("suggest_plan", dataset, {"solver": "exact"}))["run"]
        wait_for_run(client, run)
        files = sorted(photos(data).rglob("*.jpg")) or sorted(photos(data).rglob("*.png"))
        files = random.Random(seed).sample(files, min(ASKED, len(files)))
        known = {path: client.call("predict", run, client.upload([path]))[0] for path in files}
        told, end = Told(), time.monotonic() + 60 * minutes
        work = [
            threading.Thread(target=ask, args=(server, run, known, random.Random(seed + 1 + n), end, told), daemon=True)
            for n in range(clients)
        ]
        work.append(threading.Thread(target=train, args=(server, dataset, end, told), daemon=True))
        for thread in work:
            thread.start()
        seen = watch(server, minutes, end)
        for thread in work:
            thread.join(300)
        hung = sum(thread.is_alive() for thread in work)
        p50, p95, p99 = np.quantile(told.seconds, [0.5, 0.95, 0.99]).tolist() if told.seconds else (0.0, 0.0, 0.0)
        return {
            "requests": len(told.seconds) + len(told.errors), "n_errors": len(told.errors) + hung,
            "errors": told.errors[:20], "hung": hung, "trainings": len(told.trainings), "p50": p50, "p95": p95,
            "p99": p99, "largest_difference": told.largest, "seen": seen,
        }  # fmt: skip


def ask(server: Server, run: str, known: dict[Path, Any], draw: random.Random, end: float, told: Told) -> None:
    """One client: a photo is sent and asked about until the time is over."""
    client = Client(server.url)
    while time.monotonic() < end:
        path, began = draw.choice(list(known)), time.perf_counter()
        try:
            (answer,) = client.call("predict", run, client.upload([path]))
            seconds = time.perf_counter() - began
            if wrong := differs(answer, known[path], told):
                told.errors.append(f"{path.name}: {wrong}")
            else:
                told.seconds.append(seconds)
        except Exception as error:
            told.errors.append(f"{path.name}: {type(error).__name__}: {error}"[:300])
    client.close()


def differs(answer: dict[str, Any], known: dict[str, Any], told: Told) -> str:
    """In what an answer is another than that of the quiet server; "" if in nothing that matters."""
    pairs = [(answer["probabilities"][name], p) for name, p in known["probabilities"].items()]
    most = max(abs(a - b) for a, b in pairs)
    told.largest = max(told.largest, most)
    if (answer["label"], answer["file"]) != (known["label"], known["file"]) or most > SAME:
        return f"{answer['label']} {answer['probability']:.4f} instead of {known['label']} {known['probability']:.4f}"
    return ""


def train(server: Server, dataset: str, end: float, told: Told) -> None:
    """Short trainings, one after the other, the last one stopped at the end."""
    client = Client(server.url)
    plan = client.call("suggest_plan", dataset, {"solver": "sgd", "frozen": "all", "epochs": 60, "patience": 0})
    try:
        while time.monotonic() < end:
            run = client.call("start_training", dataset, plan | {"seed": len(told.trainings)})["run"]
            while (status := client.call("run_status", run))["state"] == "running":
                if time.monotonic() > end:
                    client.call("stop", run)
                time.sleep(0.5)
            told.trainings.append(run)
            if status["state"] not in ("finished", "stopped"):
                told.errors.append(f"run {run}: {status['state']} {status['error']}")
    except Exception as error:
        told.errors.append(f"training: {type(error).__name__}: {error}"[:300])


def watch(server: Server, minutes: float, end: float) -> list[Row]:
    """The server's process every minute, or ten times where the whole is short."""
    seen, step = [], min(60.0, 6 * minutes)
    begun = end - 60 * minutes
    while time.monotonic() < end:
        time.sleep(max(0.0, min(end, begun + step * (len(seen) + 1)) - time.monotonic()))
        seen.append({"minute": round((time.monotonic() - begun) / 60, 2), **server.look()})
        print(seen[-1], file=sys.stderr, flush=True)
    return seen


def render(row: Row, page: Path) -> None:
    """The section `load`."""
    start = 2 if row["minutes"] > 4 else row["minutes"] / 4
    late = [one for one in row["seen"] if one["minute"] >= start]
    by = growth(late, "pss")
    met = not row["n_errors"] and by < MOST_GROWTH
    text = (
        f"`python -m benchmarks reliability load --minutes {row['minutes']:g} --clients {row['clients']}`, seed "
        f"{row['seed']}, on {_common.words(row['machine'])}: {row['requests']:,} predictions by {row['clients']} "
        f"clients while {row['trainings']} trainings ran one after the other; {row['n_errors']} errors, "
        f"wrong answers and hung clients included (the largest difference of a probability from the quiet server: "
        f"{row['largest_difference']:.0e}). An answer took {row['p50']:.2f} s in the middle, {row['p95']:.2f} s at "
        f"most for 95 %, {row['p99']:.2f} s for 99 %. Memory from minute {start:g} on: {by:+.1%} along a robust "
        f"line (less than {MOST_GROWTH:.0%} is wanted). {_common.judged(met)}\n\n"
    )
    lines = [
        [f"{one['minute']:g}", f"{one['pss']:.0f}", f"{one['rss']:.0f}", f"{one['threads']}", f"{one['files_open']}"]
        for one in row["seen"]
    ]
    head = ["minute", "memory, MB (PSS)", "RSS", "threads", "open files"]
    _common.write_section(page, "load", text + _common.table(head, lines))
