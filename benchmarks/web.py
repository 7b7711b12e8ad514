"""Whether a bundle's page answers in Chromium, without a network, as the app does; how long it takes, how large it is.

    python -m benchmarks web [--data FOLDER]

The instant model of a folder is exported with its page, which is opened from the disk in headless Chromium (Debian's
`chromium`, driven by Playwright). Its test photos are dropped on it three times: as they are, as PNG, and enlarged four
times with noise of a camera's, as JPEG: such a file Pillow decodes at a quarter of its size, which a browser cannot.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks import _common

NOISE = 6
"""Standard deviation, in levels of 255."""
LARGE = 4
QUALITY = 90


def main(arguments: list[str]) -> None:
    """Train, export, ask both, and print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks web", description=str(__doc__).splitlines()[0])
    parser.add_argument("--data", type=Path, default=_common.ROOT.parent / "shared" / "data" / "flowers-400")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="tlapp-bench-") as temporary:
        os.environ |= {"TLAPP_HOME": f"{temporary}/home", "TLAPP_OFFLINE": "1"}
        print_table(options.data, Path(temporary))


def print_table(data: Path, place: Path) -> None:
    """A row for each kind of file."""
    from tlapp import dataset, export, jobs, plan, predict

    photos = dataset.scan(data)
    run = jobs.start(photos, plan.instant(photos))
    for _ in jobs.follow(run):
        pass
    bundle = export.export(run, place / "bundle", web=True).path
    predictor = predict.load(run)
    files = [data / photo["file"] for photo in run.report()["photos"]]
    size = (bundle / "index.html").stat().st_size / 2**20
    with opened(bundle / "index.html") as (page, seconds):
        print(f"index.html: {size:.1f} MB, ready in {seconds:.1f} s, {os.cpu_count()} cores\n")
        print("| photos | same class | difference of a probability: largest (median of photos) | s a photo |")
        print("|---|---|---|---|")
        for name, make in KINDS.items():
            given = [make(file, place / name) for file in files]
            said = answers(page, given)
            own = list(predictor.predict_files(given))
            print(f"| {name} | {compared(said, own)} |")


def as_it_is(file: Path, place: Path) -> Path:
    """The file itself."""
    return file


def as_png(file: Path, place: Path) -> Path:
    """The same pixels, lossless."""
    place.mkdir(exist_ok=True)
    with Image.open(file) as picture:
        picture.convert("RGB").save(place / f"{file.stem}.png")
    return place / f"{file.stem}.png"


def as_large_jpeg(file: Path, place: Path) -> Path:
    """Enlarged, with noise: as large as a camera's."""
    place.mkdir(exist_ok=True)
    with Image.open(file) as picture:
        pixels = np.asarray(picture.convert("RGB").resize([LARGE * side for side in picture.size]), np.float32)
    noise = np.random.default_rng(len(list(place.iterdir()))).normal(0, NOISE, pixels.shape)
    noisy = Image.fromarray(np.clip(pixels + noise, 0, 255).astype(np.uint8))
    noisy.save(place / f"{file.stem}.jpg", quality=QUALITY)
    return place / f"{file.stem}.jpg"


KINDS: dict[str, Callable[[Path, Path], Path]] = {
    "JPEG, as they are": as_it_is, "the same as PNG": as_png, f"enlarged {LARGE} times, noisy JPEG": as_large_jpeg,
}  # fmt: skip


@contextmanager
def opened(file: Path) -> Iterator[tuple[Any, float]]:
    """The page in Chromium without a network, and the seconds until it is ready. Nothing may be asked for outside."""
    from playwright.sync_api import sync_playwright

    from tests.conftest import CHROMIUM_FLAGS

    asked: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=CHROMIUM_FLAGS)
        context = browser.new_context(offline=True)
        context.on("request", lambda request: asked.append(request.url))
        page, started = context.new_page(), time.perf_counter()
        page.goto(file.as_uri())
        page.locator("body[data-state=ready]").wait_for()
        yield page, time.perf_counter() - started
        browser.close()
    if outside := [url for url in asked if not url.startswith(("file:", "blob:", "data:"))]:
        sys.exit(f"The page asked for {outside}.")


def answers(page: Any, files: list[Path]) -> list[dict[str, str]]:
    """What the page says of the files."""
    page.locator("#pick").set_input_files(files)
    page.wait_for_function(
        """n => document.querySelectorAll('#answers > li').length === n
            && !document.querySelector('#answers > [data-state=waiting]')""",
        arg=len(files), timeout=600_000,
    )  # fmt: skip
    said: list[dict[str, str]] = page.eval_on_selector_all(
        "#answers > li", "cards => cards.map((card) => ({...card.dataset}))"
    )
    page.locator("#clear").click()
    return said


def compared(said: list[dict[str, str]], own: list[Any]) -> str:
    """Cells of one row."""
    pairs = list(zip(said, own, strict=True))
    same = sum(one["label"] == other.label for one, other in pairs)
    largest = [
        float(np.abs(np.array(json.loads(one["probabilities"])) - list(other.probabilities.values())).max())
        for one, other in pairs
    ]
    seconds = statistics.median(float(one["seconds"]) for one in said)
    return f"{same} of {len(pairs)} | {max(largest):.1e} ({statistics.median(largest):.1e}) | {seconds:.2f}"
