"""What the page's actions cost the server, apart from reading photos, training and predicting.

    python -m benchmarks page [--runs 50] [--repeats 5]

The real page in headless Chromium, 400 photos, many finished runs. For each action: the milliseconds that the server
works on all it sets off, from Gradio's reading of the inputs to its writing of the outputs, and the costliest handler.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import _common


class Work(NamedTuple):
    """What an action set off: handlers and their milliseconds by the clock, and those of the processor in all."""

    handlers: list[tuple[str, float]]
    cpu: float


ALLOWED = 100
IDLE = 700
"""Milliseconds without work after which an action is over."""


def main(arguments: list[str]) -> None:
    """Do every action a few times, and print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks page", description=str(__doc__).splitlines()[0])
    parser.add_argument("--data", type=Path, default=_common.ROOT.parent / "shared" / "data" / "flowers-400")
    parser.add_argument("--runs", type=int, default=50, help="finished runs that the workspace holds")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="tlapp-bench-") as home:
        os.environ |= {"TLAPP_HOME": home, "TLAPP_OFFLINE": "1"}
        print_table(measure(options, Path(home)))


def served() -> float:
    """Seconds of the processor that this process has used, but for the thread that drives the browser: the caller's."""
    return time.process_time() - time.thread_time()


class Clock:
    """Notes what every handler of the page costs."""

    def __init__(self) -> None:
        self.done: list[tuple[str, float]] = []
        self.at_work = 0
        self.since = served()

    @contextmanager
    def installed(self):  # type: ignore[no-untyped-def]
        """While it is, Gradio's own entry for all handlers is timed."""
        import gradio as gr

        known = gr.Blocks.process_api

        async def timed(page: Any, block_fn: Any, *given: Any, **named: Any) -> Any:
            self.at_work += 1
            started = time.perf_counter()
            try:
                return await known(page, block_fn, *given, **named)
            finally:
                self.at_work -= 1
                fn = block_fn if not isinstance(block_fn, int) else page.fns[block_fn]
                where = f"{getattr(fn.fn, '__module__', '')}.{getattr(fn.fn, '__qualname__', fn.name)}"
                name = where.removeprefix("tlapp.ui.").replace(".<locals>", "")
                self.done.append((name, 1000 * (time.perf_counter() - started)))

        gr.Blocks.process_api = timed  # type: ignore[method-assign]
        try:
            yield
        finally:
            gr.Blocks.process_api = known  # type: ignore[method-assign]

    def settle(self, page: Any) -> Work:
        """Wait until nothing works any more; what was done since the last time."""
        n, since, spent = -1, time.monotonic(), self.since
        while time.monotonic() - since < IDLE / 1000:
            if self.at_work or len(self.done) != n:
                n, since, spent = len(self.done), time.monotonic(), served()
            page.wait_for_timeout(50)
        work = Work(self.done, 1000 * (spent - self.since))
        self.done, self.since = [], served()
        return work


def measure(options: argparse.Namespace, home: Path) -> dict[str, list[Work]]:
    """All actions; what each set off, by repeat."""
    from playwright.sync_api import sync_playwright

    from tests.conftest import CHROMIUM_FLAGS
    from tlapp import runs, ui
    from tlapp.ui import views

    views.marks = lambda *_: ""  # those are predictions
    clock, found = Clock(), dict[str, list[Work]]()
    with clock.installed(), sync_playwright() as playwright:
        site = ui.launch(port=0, browser=False, wait=False)
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=CHROMIUM_FLAGS)
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.goto(site.url)
        page.locator("#path textarea, #path input").fill(str(options.data))
        page.locator("#read-path").click()
        page.locator("#top-data .tl-done", has_text="instant model:").wait_for(timeout=300_000)
        page.locator("#check-photos").click()
        page.locator("#check-verdict", has_text="looked at in").wait_for(timeout=300_000)
        (made,) = runs.all_runs(home)
        for number in range(2, options.runs + 1):
            copied(made.path, number)
        page.get_by_role("tab", name="2 Train").click()
        page.locator("#train:not([disabled])").wait_for(timeout=60_000)
        clock.settle(page)
        for name, act in actions(page, site.url):
            for _ in range(options.repeats):
                act()
                found.setdefault(name, []).append(clock.settle(page))
                print(name, found[name][-1], file=sys.stderr, flush=True)
        browser.close()
        site.close()
    return found


def copied(run: Path, number: int) -> None:
    """The same run once more, under another number."""
    path = run.with_name(f"{number:04d}-{'b' * 6}")
    shutil.copytree(run, path, copy_function=os.link)
    report = json.loads((run / "report.json").read_text())
    (path / "report.json").unlink()
    (path / "report.json").write_text(json.dumps(report))


def actions(page: Any, url: str) -> list[tuple[str, Callable[[], Any]]]:
    """Names and what a person does; each can be done again and again, and leaves what the next one needs."""

    def tab(name: str) -> Callable[[], Any]:
        def open_it() -> None:
            for one in ("1 Data" if name != "1 Data" else "2 Train", name):
                page.get_by_role("tab", name=one).click()

        return open_it

    def click(selector: str, nth: int = 0) -> Callable[[], Any]:
        return lambda: page.locator(selector).nth(nth).click()

    turn = [0]

    def other(*values: str) -> str:
        turn[0] += 1
        return values[turn[0] % len(values)]

    def slide(selector: str, *values: str) -> Callable[[], Any]:
        return lambda: page.locator(f"{selector} input[type=range]").first.fill(other(*values))

    def toggled(*selectors: str) -> Callable[[], Any]:
        return lambda: page.locator(other(*selectors)).first.click()

    def option(box: str, n: int) -> Callable[[], Any]:
        def choose() -> None:
            page.locator(f"{box} input").click()
            page.get_by_role("option").nth(turn[0] % n).click()
            turn[0] += 1

        return choose

    def row(n: int) -> None:
        page.locator("#runs tr[data-run] button").nth(n).click()

    def named() -> None:
        page.locator("#run-name input, #run-name textarea").fill(other("a", "b"))
        page.locator("#run-name input, #run-name textarea").blur()

    def read_again() -> None:
        page.goto(url)
        page.locator("#top-data .tl-done").wait_for()

    return [
        ("open the page", read_again),
        ("2 Train: open", tab("2 Train")),
        ("2 Train: move a slider", slide("#sliders", "10", "20")),
        ("2 Train: strength", toggled("#aug-strength input[value=off]", "#aug-strength input[value=medium]")),
        ("2 Train: another photo", click("#photo-next")),
        ("2 Train: preset", toggled("#preset input[value='Feature extraction']", "#preset input[value='Auto']")),
        ("2 Train: tick of a block", click("#blocks input", 8)),
        ("1 Data: open", tab("1 Data")),
        ("1 Data: part of the test photos", slide("#test-fraction", "20", "30")),
        ("1 Data: which photo is where, open or close", click("#where > button")),
        ("1 Data: decide on a label, or undo", lambda: decide(page)),
        ("3 Results: open", tab("3 Results")),
        ("3 Results: another run from the list", option("#pick-run", 3)),
        ("3 Results: cell of the matrix", click(".tl-confusion td button")),
        ("3 Results: another run in the table", lambda: row(int(other("1", "2", "3")))),
        ("3 Results: name a run", named),
        ("3 Results: compare two runs", option("#compare-with", 3)),
        ("3 Results: save curves (PNG)", lambda: drawn(page, "Save curves (PNG)")),
        ("3 Results: save confusion matrix (PNG)", lambda: drawn(page, "Save confusion matrix (PNG)")),
        ("3 Results: save predictions (CSV)", click("#downloads button", 2)),
        ("4 Test: open", tab("4 Test")),
        ("4 Test: another model", option("#pick-model", 3)),
    ]  # fmt: skip


def drawn(page: Any, name: str) -> None:
    """Take a figure of the run, drawn anew."""
    from tlapp.ui.serve import uploads_folder

    for path in uploads_folder().glob("downloads/*/*.png"):
        path.unlink()
    page.get_by_role("button", name=name).click()


def decide(page: Any) -> None:
    """Keep the label in doubt, if there is one, else take the last decision back."""
    keep = page.locator("#labels button:not([disabled])", has_text="Keep: it is")
    undo = page.locator("#labels button:not([disabled])", has_text="Undo")
    found = undo if undo.count() else keep
    if found.count():
        found.first.click()


def print_table(found: dict[str, list[Work]]) -> None:
    """As Markdown: milliseconds of processor and clock, in the middle of the repeats, and what costs most."""
    print("| Action | requests | CPU at first, ms | CPU later, ms | by the clock, ms | costliest handler, ms |")
    print("|---|---|---|---|---|---|")
    for name, repeats in found.items():
        later = repeats[1:] or repeats
        cpu = statistics.median(one.cpu for one in later)
        clock = statistics.median(sum(ms for _, ms in one.handlers) for one in later)
        costs = [max(one.handlers, key=lambda pair: pair[1]) for one in later if one.handlers]
        handler, most = max(costs, key=lambda pair: pair[1]) if costs else ("–", 0.0)
        mark = " **over**" if cpu > ALLOWED else ""
        n = len(later[-1].handlers)
        print(f"| {name} | {n} | {repeats[0].cpu:.0f} | {cpu:.0f}{mark} | {clock:.0f} | `{handler}` {most:.0f} |")


if __name__ == "__main__":
    main(sys.argv[1:])
