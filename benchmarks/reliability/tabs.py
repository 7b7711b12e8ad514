"""Many tabs that watch one run: whether all see its end, what they cost the server, and by how much they slow it down.

    python -m benchmarks reliability tabs [--tabs 50] [--browsers 4] [--seconds 20]

One run of many short epochs. It trains alone for a while, then with all tabs open, then alone again; the pace of its
epochs is compared. `--browsers` of the tabs are pages of headless Chromium; the others are HTTP sessions that load what
a page loads and ask what its timer asks each second, as a Chromium page takes some 100 MB.
"""

from __future__ import annotations

import contextlib
import statistics
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import _common
from benchmarks._common import ROOT, Row, Rows
from benchmarks.reliability import PAGE
from benchmarks.reliability._server import Client, Page, Server, photos, serving

SECONDS = 20.0
"""Of each part, with and without tabs."""
SLOW = 0.5
"""Seconds within which 95 % of the ticks are to be answered."""


def main(arguments: list[str]) -> None:
    """Watch a run with so many tabs, keep what was seen, and make the section."""
    parser = _common.parser("reliability-tabs", str(__doc__).splitlines()[0])
    parser.add_argument("--tabs", type=int, default=50)
    parser.add_argument("--browsers", type=int, default=4, help="how many of them are pages of a real Chromium")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of each part, with and without tabs")
    parser.set_defaults(page=PAGE, out=ROOT / "benchmarks" / "results" / "reliability-tabs.jsonl")
    options = parser.parse_args(arguments)
    rows = Rows(options.out, ("tabs", "browsers", "seconds"), options.threads)
    if not options.render:
        which = {"tabs": options.tabs, "browsers": options.browsers, "seconds": options.seconds}
        rows.measure(lambda: watched(options.data, **which), **which)
    render(rows.of_one_machine()[-1], options.page)


def watched(data: Path, tabs: int, browsers: int, seconds: float) -> Row:
    """Pace of the run and share of the processor alone, watched and alone again; what the tabs saw."""
    with serving() as server:
        client = Client(server.url)
        dataset = client.call("load_dataset", str(photos(data)), "")["dataset"]
        settings = {"solver": "sgd", "frozen": "all", "epochs": 10_000, "batch_size": 1, "patience": 0}
        plan = client.call("suggest_plan", dataset, settings)
        run = client.call("start_training", dataset, plan)["run"]
        while client.call("run_status", run)["epoch"] < 3:
            time.sleep(0.2)
        before = pace(client, server, run, seconds)
        sessions = [Session(server, run) for _ in range(tabs - browsers)]
        with chromium(server.url, browsers) as pages:
            for one in sessions:
                one.thread.start()
            time.sleep(3)
            during = pace(client, server, run, seconds)
            hidden = ticks_of_hidden(server, pages)
            for one in sessions:
                one.leave.set()
            for one in sessions:
                one.thread.join(60)
            alone = pace(client, server, run, seconds)
            for one in sessions:
                one.again()
            client.call("stop", run)
            ended = sum(one.sees_the_end() for one in sessions)
            for page in pages:
                with contextlib.suppress(Exception):
                    page.locator("#status .tl-score").wait_for(timeout=30_000)
                    ended += 1
        ticks = [second for one in sessions for second in one.seconds]
        return {
            "ended": ended, "errors": sum(one.errors for one in sessions), "ticks": len(ticks),
            "p50": statistics.median(ticks), "p95": float(np.quantile(ticks, 0.95)),
            "pace_alone": (before[0] + alone[0]) / 2, "pace_watched": during[0],
            "cpu_alone": (before[1] + alone[1]) / 2, "cpu_watched": during[1], "hidden_ticks": hidden,
        }  # fmt: skip


def pace(client: Client, server: Server, run: str, seconds: float) -> tuple[float, float]:
    """Epochs a second, and cores that the server uses."""
    began, used, first = time.monotonic(), server.cpu_seconds(), client.call("run_status", run)["epoch"]
    time.sleep(seconds)
    last = client.call("run_status", run)["epoch"]
    passed = time.monotonic() - began
    return (last - first) / passed, (server.cpu_seconds() - used) / passed


class Session:
    """A tab over HTTP: it loads what a page loads, then asks each second what its timer asks."""

    def __init__(self, server: Server, run: str) -> None:
        self.page, self.seconds, self.errors = Page(server.url), list[float](), 0
        self.page.run = run
        self.leave = threading.Event()
        self.thread = threading.Thread(target=self._stay, daemon=True)

    def _stay(self) -> None:
        self.page.open()
        while not self.leave.is_set():
            self.again()
            self.leave.wait(max(0.0, 1 - self.seconds[-1]) if self.seconds else 1)

    def again(self) -> list[Any]:
        """One tick; what the page would show."""
        began = time.perf_counter()
        try:
            shown = self.page.follow()
        except Exception:
            self.errors += 1
            return []
        self.seconds.append(time.perf_counter() - began)
        return shown

    def sees_the_end(self) -> bool:
        """Whether a tick shows the score, within half a minute."""
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            shown = self.page.follow()
            if "tl-score" in str(shown[2]):
                return True
            time.sleep(1)
        return False


@contextlib.contextmanager
def chromium(url: str, n: int) -> Iterator[list[Any]]:
    """So many pages of one headless Chromium, each a browser of its own (context), with the train tab open."""
    if not n:
        yield []
        return
    from playwright.sync_api import sync_playwright

    from tests.conftest import CHROMIUM_FLAGS

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=CHROMIUM_FLAGS)
        pages = []
        for _ in range(n):
            page = browser.new_context().new_page()
            page.goto(url)
            page.get_by_role("tab", name="2 Train").click()
            pages.append(page)
        yield pages
        browser.close()


def ticks_of_hidden(server: Server, pages: list[Any]) -> float | None:
    """Requests a second of a page that is told that it is hidden; None without one."""
    if not pages:
        return None
    page, asked = pages[0], list[str]()
    page.evaluate("""() => {
        Object.defineProperty(document, 'hidden', {value: true, configurable: true});
        Object.defineProperty(document, 'visibilityState', {value: 'hidden', configurable: true});
        document.dispatchEvent(new Event('visibilitychange'));
    }""")
    page.on("request", lambda request: asked.append(request.url) if "/gradio_api/" in request.url else None)
    page.wait_for_timeout(6000)
    rate = len(asked) / 6
    page.evaluate("() => { delete document.hidden; delete document.visibilityState;"
                  " document.dispatchEvent(new Event('visibilitychange')) }")  # fmt: skip
    return rate


def render(row: Row, page: Path) -> None:
    """The section `tabs`."""
    slower = row["pace_alone"] / row["pace_watched"] if row["pace_watched"] else float("inf")
    met = row["ended"] == row["tabs"] and not row["errors"] and row["p95"] < SLOW
    hidden = "" if row["hidden_ticks"] is None else f" A hidden tab asks {row['hidden_ticks']:.1f} times a second."
    text = (
        f"`python -m benchmarks reliability tabs --tabs {row['tabs']}` on {_common.words(row['machine'])}: "
        f"{row['tabs']} tabs watched one run, {row['browsers']} of them real pages of Chromium; {row['ended']} saw its "
        f"end, {row['errors']} of {row['ticks']:,} ticks failed. A tick took {1000 * row['p50']:.0f} ms in the middle, "
        f"{1000 * row['p95']:.0f} ms at most for 95 % (wanted: below {1000 * SLOW:.0f} ms). The server used "
        f"{row['cpu_watched']:.2f} cores instead of {row['cpu_alone']:.2f}; the run made {row['pace_watched']:.1f} "
        f"epochs a second instead of {row['pace_alone']:.1f} ({slower:.2f} times as slow).{hidden} "
        f"{_common.judged(met)}"
    )
    _common.write_section(page, "tabs", text)
