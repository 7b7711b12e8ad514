"""Seconds from `python app.py` to a page that can be used, against a bare Gradio page.

    python -m benchmarks startup [--rounds 5]

Both are started in turn in processes of their own and opened in headless Chromium (Debian's `chromium`, driven by
Playwright). Usable means: tlapp's drop zone takes files; the bare page's button can be pressed.
"""

from __future__ import annotations

import argparse
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BARE = """
import sys
import gradio as gr
with gr.Blocks(analytics_enabled=False) as page:
    gr.Button("Press", elem_id="press")
page.launch(server_port=int(sys.argv[1]), quiet=True, ssr_mode=False)
"""


def main(arguments: list[str]) -> None:
    """Time both pages in turn and print a table."""
    from playwright.sync_api import sync_playwright

    parser = argparse.ArgumentParser(prog="python -m benchmarks startup")
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args(arguments).rounds
    arms = {
        "tlapp": ([str(ROOT / "app.py"), "--no-browser", "--port"], "#drop .tl-drop[data-state=ready]"),
        "bare": (["-c", BARE], "#press"),
    }
    times: dict[str, list[float]] = {name: [] for name in arms}
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as home:
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=flags)
        os.environ["TLAPP_HOME"] = home
        for _ in range(rounds + 1):
            for name, (command, usable) in arms.items():
                times[name].append(_time(browser, command, usable))
        browser.close()
    bare = statistics.median(times["bare"][1:])
    print("| page | seconds to usable, median (lowest – highest) | ratio |\n|---|---|---|")
    for name, values in times.items():
        shown = values[1:]  # the first round fills the disk's cache
        print(
            f"| {name} | {statistics.median(shown):.1f} ({min(shown):.1f} – {max(shown):.1f}) "
            f"| {statistics.median(shown) / bare:.2f} |"
        )


def _time(browser, command: list[str], usable: str) -> float:  # type: ignore[no-untyped-def]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = time.perf_counter()
    server = subprocess.Popen([sys.executable, *command, str(port)], stderr=subprocess.DEVNULL)
    try:
        url = f"http://127.0.0.1:{port}/"
        while True:
            try:
                urllib.request.urlopen(url, timeout=5).close()
                break
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                time.sleep(0.02)
        page = browser.new_page()
        page.goto(url)
        page.locator(usable).wait_for()
        seconds = time.perf_counter() - started
        page.close()
        return seconds
    finally:
        server.terminate()
        server.wait()
