"""Makes the README's pictures anew from the real page and the drawn demo set: `python -m tests.screenshots`."""

import os
import tempfile
from pathlib import Path

ASSETS = Path(__file__).resolve().parents[1] / "assets"
TABS = ("data", "train", "results", "test")


def main() -> None:
    """Drive the page once in light and once in dark mode, and save a picture of each tab."""
    os.environ["OMP_NUM_THREADS"] = "2"  # the tests take one
    from playwright.sync_api import sync_playwright

    from tests.conftest import CHROMIUM_FLAGS
    from tlapp import ui

    with tempfile.TemporaryDirectory() as home, sync_playwright() as playwright:
        os.environ["TLAPP_HOME"] = home
        served = ui.launch(port=0, browser=False, wait=False)
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=CHROMIUM_FLAGS)
        page = browser.new_page(viewport={"width": 1160, "height": 800}, device_scale_factor=1.5)
        page.goto(f"{served.url}?__theme=light")
        page.locator("#drop .tl-drop[data-state=ready]").wait_for()
        page.locator("#demo").click()
        page.locator(".tl-class").nth(3).wait_for()
        page.locator("#top-data .tl-done", has_text="instant model:").wait_for()
        save(page, "data")
        page.locator("#to-train").click()
        page.locator("#train:not([disabled])").wait_for()
        page.get_by_label("medium", exact=True).check()
        page.get_by_label("Fine-tune the last block + augmentation", exact=True).check()
        page.locator("#what-learns", has_text="Fine-tuning from top on").wait_for()
        page.locator("#train").click()
        page.locator("#status", has_text="Best epoch").wait_for(timeout=300_000)
        page.mouse.move(0, 0)
        save(page, "train")
        page.get_by_role("tab", name="3 Results").click()
        page.locator(".tl-confusion").wait_for()
        save(page, "results")
        page.get_by_role("tab", name="4 Test").click()
        page.locator("#try-test-photo").click()
        page.locator(".tl-answer").wait_for()
        save(page, "test")
        page.get_by_role("tab", name="1 Data").click()
        page.locator("#path textarea, #path input").fill(str(spoiled(Path(home))))
        page.locator("#read-path").click()
        page.locator(".tl-name", has_text="kite").wait_for()
        page.locator("#top-data .tl-done", has_text="61 photos").wait_for()
        page.locator("#top-data .tl-done", has_text="instant model:").wait_for(timeout=60_000)
        page.locator("#check-photos").click()
        page.locator("#check-verdict").wait_for(timeout=60_000)
        page.mouse.move(0, 0)
        save(page, "audit", "#check")
        browser.close()
        served.close()


def spoiled(home: Path) -> Path:
    """The demo set's training pictures with faults: a wrong label, a mirrored copy, one blurred and one dark."""
    import shutil

    from PIL import Image, ImageFilter, ImageOps

    from tlapp import demo

    folder = home / "spoiled"
    shutil.copytree(demo.make(home) / "train", folder)
    birds, kites = (sorted((folder / name).iterdir()) for name in ("bird", "kite"))
    shutil.move(birds[3], folder / "butterfly" / f"b-{birds[3].name}")
    ImageOps.mirror(Image.open(kites[0])).convert("RGB").save(folder / "kite" / "again.jpg", quality=80)
    Image.open(kites[1]).convert("RGB").filter(ImageFilter.GaussianBlur(8)).save(kites[1].with_suffix(".jpg"))
    Image.open(birds[5]).convert("RGB").point(lambda value: value // 12).save(birds[5].with_suffix(".jpg"))
    return folder


def save(page, name: str, part: str = "") -> None:
    """The whole page or a part of it, in few colours, as the README shows it small."""
    from io import BytesIO

    from PIL import Image

    before = page.viewport_size
    if not part:  # the bar at the foot of the window stands at the foot of the picture
        page.set_viewport_size({**before, "height": page.evaluate("document.documentElement.scrollHeight")})
    page.wait_for_timeout(1000)  # pictures fade in
    shot = page.locator(part).screenshot() if part else page.screenshot(full_page=True)
    page.set_viewport_size(before)
    picture = Image.open(BytesIO(shot)).convert("RGB")
    ASSETS.mkdir(exist_ok=True)
    picture.quantize(192, dither=Image.Dither.NONE).save(ASSETS / f"{name}.png", optimize=True)


if __name__ == "__main__":
    main()
