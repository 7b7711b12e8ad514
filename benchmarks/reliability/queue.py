"""Far more requests at once than the page can serve: each gets an answer, a place or a sentence, and none hangs.

    python -m benchmarks reliability queue [--requests 300] [--trainings 40] [--seed 0]

Predictions by the API, looks of a page at its run, and photos read by the page's queued handler, drawn by the seed and
sent at the same moment. Then so many trainings at once. Afterwards the server must answer as before.
"""

from __future__ import annotations

import collections
import random
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from benchmarks import _common
from benchmarks._common import ROOT, Row, Rows
from benchmarks.reliability import PAGE
from benchmarks.reliability._server import PATIENCE, Client, Page, Refused, photos, serving, wait_for_run

OUTCOMES = ("answered", "refused in a sentence", "hung", "fault")


def main(arguments: list[str]) -> None:
    """Send them all, keep what became of them, and make the section."""
    parser = _common.parser("reliability-queue", str(__doc__).splitlines()[0])
    parser.add_argument("--requests", type=int, default=300)
    parser.add_argument("--trainings", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    parser.set_defaults(page=PAGE, out=ROOT / "benchmarks" / "results" / "reliability-queue.jsonl")
    options = parser.parse_args(arguments)
    rows = Rows(options.out, ("requests", "trainings", "seed"), options.threads)
    if not options.render:
        which = {"requests": options.requests, "trainings": options.trainings, "seed": options.seed}
        rows.measure(lambda: press(options.data, **which), **which)
    render(rows.of_one_machine()[-1], options.page)


def press(data: Path, requests: int, trainings: int, seed: int) -> Row:
    """What became of the requests and of the trainings, and how the server answered afterwards."""
    source = photos(data)
    with serving() as server:
        page = Page(server.url)
        page.open()
        page.read(source)
        client = Client(server.url)
        plan = client.call("suggest_plan", page.dataset, {"solver": "exact"})
        page.run = client.call("start_training", page.dataset, plan)["run"]
        wait_for_run(client, page.run)
        file = sorted(path for path in source.rglob("*.*") if path.suffix in (".jpg", ".png"))[0]
        sent = client.upload([file])
        quiet = client.call("predict", page.run, sent)
        draw, path = random.Random(seed), page.handlers("click", "read-path")[0]

        def predict() -> None:
            Client(server.url).call("predict", page.run, sent)

        def look() -> None:
            Client(server.url).run(page.tick, page.values(page.tick))

        def read() -> None:
            answer = Client(server.url).queue(path, page.values(path, path=str(source)))
            if not isinstance(answer[0], str):
                raise Refused(str(answer[1]))

        ways: list[Callable[[], Any]] = draw.choices([predict, look, read], [5, 3, 2], k=requests)
        became, seconds, said = all_at_once(ways)
        after = client.call("predict", page.run, sent)
        page.follow()

        def train() -> None:
            Client(server.url).call("start_training", page.dataset, plan)

        started, _, refused = all_at_once([train] * trainings)
        waits = [one for one in (server.home / "runs").iterdir() if (one / "lock").exists()]
        for run in waits:
            (run / "stop").touch()
        again = client.call("predict", page.run, sent)
        return {
            "became": became, "seconds": seconds, "said": said[:10], "trainings_became": started,
            "trainings_said": refused[:10], "answers_after": quiet == after == again,
        }  # fmt: skip


def all_at_once(ways: list[Callable[[], Any]]) -> tuple[dict[str, int], float, list[str]]:
    """Do all of these at the same moment: how many ended in which way, seconds until the last, and what was said."""
    became: collections.Counter[str] = collections.Counter(dict.fromkeys(OUTCOMES, 0))
    said: collections.Counter[str] = collections.Counter()
    gate = threading.Barrier(len(ways) + 1)

    def one(way: Callable[[], Any]) -> None:
        outcome, words = "answered", ""
        gate.wait()
        try:
            way()
        except Refused as refusal:
            outcome, words = "refused in a sentence" if refusal.is_polite else "fault", f"{refusal.status} {refusal}"
        except httpx.TimeoutException:
            outcome = "hung"
        except Exception as error:
            outcome, words = "fault", f"{type(error).__name__}: {error}"
        became[outcome] += 1
        said[words[:200]] += 1

    threads = [threading.Thread(target=one, args=(way,), daemon=True) for way in ways]
    for thread in threads:
        thread.start()
    gate.wait()
    began = time.monotonic()
    for thread in threads:
        thread.join(max(0.1, began + 3 * PATIENCE - time.monotonic()))
    counted = dict(became)
    counted["hung"] += len(ways) - sum(counted.values())
    return counted, time.monotonic() - began, [f"{n} × {words}" for words, n in said.most_common() if words]


def render(row: Row, page: Path) -> None:
    """The section `queue`."""
    bad = sum(row[name][kind] for name in ("became", "trainings_became") for kind in ("hung", "fault"))
    met = not bad and row["answers_after"]
    after = "answered as before" if row["answers_after"] else "did **not** answer as before"
    said = "\n".join(f"- {words}" for words in [*row["said"], *row["trainings_said"]])
    text = (
        f"`python -m benchmarks reliability queue --requests {row['requests']}`, seed {row['seed']}, on "
        f"{_common.words(row['machine'])}: {row['requests']} requests at the same moment, the last of them over after "
        f"{row['seconds']:.0f} s, then {row['trainings']} trainings; afterwards the server {after}. "
        f"{_common.judged(met)}\n\n"
    )
    lines = [
        [name, *(str(row[key][kind]) for kind in OUTCOMES)]
        for name, key in (("requests", "became"), ("trainings", "trainings_became"))
    ]
    text += _common.table(["at once", *OUTCOMES], lines) + (f"\n\nThe sentences:\n\n{said}" if said else "")
    _common.write_section(page, "queue", text)
