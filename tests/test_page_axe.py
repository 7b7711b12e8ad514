"""Every panel, empty, loading, done and failed, has no serious fault for axe-core, at both widths, light and dark.

With `TLAPP_SHOTS=FOLDER`, pictures of all these states are left there, to be looked at.
"""

import os
import shutil
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import drop_on, photo, until
from sites import load, load_path, set_numbers, start_long, tab
from test_cleanup import unfinished
from test_page_audit import everything, three_suspects

from tlapp import audit, dataset, export, history
from tlapp.events import Progress
from tlapp.export import Exported
from tlapp.ui import sheets, takeaway

AXE = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-playwright-python").Axe()
SHOTS = os.environ.get("TLAPP_SHOTS")
STILL = "*, *::before, *::after { transition: none !important; animation: none !important; }"
ALLOWED: set[tuple[str, str]] = set()
"""Rules and beginnings of selectors of faults inside Gradio's own components that cannot be mended from outside."""


class Eye:
    """Looks at the page, at both widths, light and dark, and remembers each serious fault where it first was.

    In the dark nothing but the colours is other than in the light, and these are the same at both widths.
    """

    def __init__(self, page):
        self.page = page
        self.faults = {}

    def __call__(self, state):
        self.page.add_style_tag(content=STILL)
        for width in (1280, 390):
            self.page.set_viewport_size({"width": width, "height": 800})
            for theme in ("light", "dark") if SHOTS or width == 1280 else ("light",):
                self.page.evaluate("dark => document.body.classList.toggle('dark', dark)", theme == "dark")
                self.look(f"{state}-{width}-{theme}")
        self.page.evaluate("document.body.classList.remove('dark')")
        self.page.set_viewport_size({"width": 1280, "height": 800})

    def look(self, name):
        if SHOTS:
            Path(SHOTS).mkdir(parents=True, exist_ok=True)
            self.page.screenshot(path=f"{SHOTS}/{name}.png", full_page=True)
        only = {"runOnly": ["color-contrast"]} if "dark" in name else {}
        for found in AXE.run(self.page, options={"resultTypes": ["violations"], **only}).response["violations"]:
            for node in found["nodes"] if found["impact"] in ("serious", "critical") else ():
                target = " ".join(map(str, node["target"]))
                if not any(found["id"] == rule and target.startswith(where) for rule, where in ALLOWED):
                    self.faults.setdefault((found["id"], target), (name, node["failureSummary"]))


@pytest.fixture
def eye(site):
    one = Eye(site)
    yield one
    assert not one.faults, "\n".join(f"{where}: {what}" for where, what in one.faults.items())


def forever(report):
    """Work that goes on until it is cancelled."""
    while True:
        report(3, 10, "reds")
        threading.Event().wait(0.05)


def exported(path):
    """A bundle that was made."""
    path.write_bytes(b"zip")
    return Exported(path, ("model.onnx",), 5e-7, 64, 64)


def test_nothing_there_yet(site, eye):
    site.locator("#overview .tl-notice").wait_for()
    eye("1-empty")
    for name, there in {"2 Train": "#way-train", "3 Results": "#way-results", "4 Test": "#way-test"}.items():
        tab(site, name)
        site.locator(there).wait_for()
        eye(f"{name[0]}-empty")


def test_photos_checked_and_the_settings(site, eye, folder, known_trials, monkeypatch):
    def checked(data, *_, **__):
        yield Progress("reading the photos", 1, 2)
        return replace(everything(data), suspects=three_suspects(data).suspects)

    monkeypatch.setattr(audit, "audit", checked)
    load(site, folder)
    site.locator("#try-them").click()
    site.locator(".tl-trials").wait_for()
    site.locator("#more > button").click()
    site.locator("#set-seed input").wait_for()
    eye("2-ready")
    tab(site, "1 Data")
    site.locator("#change > button").click()
    site.locator("#forget").wait_for()
    eye("1-done")
    site.locator("#change > button").click()
    site.locator("#check-photos").click()
    site.locator("#check-verdict", has_text="looked at in").wait_for()
    eye("1-checked")


def test_results_answers_and_their_reasons(own_run, site, eye, home, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "export", lambda run, path, *_, **__: exported(path))
    tab(site, "3 Results")
    site.locator("#score .tl-score").wait_for()
    site.locator(".tl-confusion td button").first.click()
    site.locator("#cell h2").wait_for()
    site.locator("#export").click()
    site.locator("#exported .tl-info", has_text="is ready: 1 file").wait_for()
    eye("3-done")
    site.locator("#cell .tl-card").first.click()
    site.locator("#why dialog[open]").wait_for()
    eye("3-why")
    site.keyboard.press("Escape")
    own_run.save("last", b"of no use any more")
    history.remove(unfinished(home, dataset.load(own_run.dataset_folder)))
    site.locator("#disk > button").click()
    site.locator("#disk-kinds label").nth(1).wait_for()
    site.locator("#clean:not([disabled])").wait_for()
    eye("3-disk")
    site.locator("#clean").click()
    site.locator("#disk-said .tl-info").wait_for()
    eye("3-cleaned")
    tab(site, "4 Test")
    site.locator("#try-test-photo:not([disabled])").click()
    site.locator(".tl-answer .tl-label").wait_for()
    eye("4-done")
    for n in range(6):
        photo(tmp_path / "some" / f"{n}.png", (40, 40, 200) if n % 2 else (200, 40, 40), 78 + n)
    (tmp_path / "some" / "broken.jpg").write_text("no photo")
    drop_on(site.locator("#photos .tl-drop"), tmp_path / "some")
    site.locator(".tl-answers", has_text="5.png").wait_for()
    eye("4-many")


def test_while_it_works(own_run, site, eye, folder, calm, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(dataset, "scan", lambda *_, report, **__: forever(report))
        patch.setattr(sheets, "of_upload", lambda value, run, report: forever(report))
        load_path(site, folder)
        site.locator("#reading-progress", has_text="3 of 10 files").wait_for()
        assert site.get_by_text("No photos yet").is_hidden()
        eye("1-loading")
        site.locator("#cancel-reading").click()
        tab(site, "4 Test")
        drop_on(site.locator("#photos .tl-drop"), photo(tmp_path / "red.png", (200, 40, 40), 77))
        site.locator("#looking-progress", has_text="3 of 10").wait_for()
        eye("4-loading")
        site.locator("#cancel-looking").click()
        patch.setattr(takeaway, "_export", lambda run, wanted, report: forever(report))
        tab(site, "3 Results")
        site.locator("#export").click()
        site.locator("#cancel-export").wait_for()
        eye("3-loading")
        site.locator("#cancel-export").click()
    tab(site, "1 Data")
    start_long(site, folder)
    eye("2-loading")


def test_what_went_wrong(own_run, site, eye, folder, home, tmp_path):
    load_path(site, tmp_path / "nowhere")
    site.locator("#reading-progress .tl-error").wait_for()
    eye("1-error")
    tab(site, "3 Results")
    for copy in own_run.dataset_folder.iterdir():
        shutil.move(copy, tmp_path / copy.name)
    site.locator("#export").click()
    site.locator("#exported .tl-error", has_text="are gone").wait_for()
    eye("3-failed")
    for copy in ("dataset.json", "photos.bin"):
        shutil.move(tmp_path / copy, own_run.dataset_folder / copy)
    tab(site, "4 Test")
    (tmp_path / "broken.jpg").write_text("no photo")
    site.locator("#try-test-photo:not([disabled])").wait_for()
    drop_on(site.locator("#photos .tl-drop"), tmp_path / "broken.jpg")
    site.locator("#answers .tl-error, #looking-progress .tl-error").first.wait_for()
    eye("4-error")
    tab(site, "1 Data")
    load(site, folder)
    set_numbers(site, head_rate="10", weight_decay="10", epochs="3")
    for copy in (home / "datasets").glob("*/photos.bin"):
        shutil.move(copy, copy.with_name("gone"))
    site.locator("#train").click()
    site.locator("#status .tl-error").wait_for()
    eye("2-error")
    (own_run.path / "report.json").write_text("{")
    site.reload()
    tab(site, "3 Results")
    until(lambda: "damaged" in site.locator("#runs").inner_text(), 30)
    eye("3-error")
