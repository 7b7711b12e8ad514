"""What the browser is told with each answer: nothing of others runs in the page's origin, and the page works so."""

import base64
import hashlib
import http.client
import json
import re
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from conftest import drop_on, photo
from playwright.sync_api import Error
from sites import answer, load, tab
from test_serve import AUTH, UPLOAD, ask, form, start

from tlapp.ui import headers, limits
from tlapp.ui.headers import ALWAYS, INERT

__all__ = ["start"]
MARK = "<script>top.document.title = window.opened = 'pwned'</script>"
ACTIVE = {
    "a.html": f"<html>{MARK}</html>",
    "a.svg": f'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9">{MARK}</svg>',
    "a.xml": f'<x:script xmlns:x="http://www.w3.org/1999/xhtml">{MARK[8:-9]}</x:script>',
    "a.xhtml": f'<html xmlns="http://www.w3.org/1999/xhtml">{MARK}</html>',
    "a.js": "top.document.title = 'pwned'",
    "a.pdf": "%PDF-1.4",
}


def told(served, path="/", method="GET", body=b"", **given):
    """Status and headers, by their small names."""
    port = urlsplit(served.url).port
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request(method, path, body, {"Host": f"127.0.0.1:{port}", **given})
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer.status, {name.lower(): value for name, value in answer.getheaders()}


def test_each_answer_has_its_headers_whatever_it_is(start, monkeypatch):
    served = start(auth=AUTH)
    monkeypatch.setattr(limits, "MOST_BODY_BYTES", 1000)
    asked = {
        ("/",): 200, ("/config",): 401, ("/none",): 404, ("/theme.css",): 200, ("/gradio_api/file=/etc/passwd",): 401,
        ("/", "POST"): 405, (UPLOAD, "POST"): 401, ("/login", "POST", b"x" * 2000): 413, ("/favicon.ico",): 200,
    }  # fmt: skip
    for request, status in asked.items():
        found, said = told(served, *request)
        assert found == status, request
        assert ALWAYS.items() <= said.items(), request
        assert (said["content-security-policy"] == INERT) == (request != ("/",)), request
    assert told(served, Host="evil.example")[0] == 421
    assert ALWAYS.items() <= told(served, Host="evil.example")[1].items()


def test_the_page_may_run_its_own_scripts_alone(start):
    _, html = ask(served := start())
    policy = dict(part.split(" ", 1) for part in told(served)[1]["content-security-policy"].split("; "))
    scripts = re.findall(r"<script[^>]*>(.*?)</script>", html, re.DOTALL)
    hashes = {f"'sha256-{base64.b64encode(hashlib.sha256(one.encode()).digest()).decode()}'" for one in scripts if one}
    assert set(policy["script-src"].split()) == {"'self'", "'unsafe-eval'", *hashes}
    assert len(hashes) >= 3
    assert policy["frame-ancestors"] == policy["object-src"] == "'none'"
    assert policy["default-src"] == policy["form-action"] == policy["base-uri"] == "'self'"
    sources = {source for sources in policy.values() for source in sources.split()}
    assert not [source for source in sources if "*" in source or source.startswith("http")]


def test_a_policy_follows_from_the_page_and_names_no_script_that_is_fetched():
    page = headers.page_policy(b'<script src="a.js"></script><script type="x">1</script><SCRIPT>2</SCRIPT>')
    assert page.count("'sha256-") == 1


@pytest.mark.parametrize("name", ACTIVE)
def test_what_a_person_uploads_is_never_shown_as_a_page_of_this_origin(start, page, name):
    served = start()
    content = ACTIVE[name].encode()
    port = urlsplit(served.url).port
    status, body = ask(served, UPLOAD, "POST", form(content, name), Content_Type="multipart/form-data; boundary=x")
    (path,) = json.loads(body)
    address = f"{served.url}gradio_api/file={path}"
    for given in ({}, {"Range": "bytes=0-5000"}):
        status, said = told(served, urlsplit(address).path, Host=f"127.0.0.1:{port}", **given)
        assert status in (200, 206)
        assert said["content-disposition"].startswith("attachment")
        assert said["content-type"].startswith("application/octet-stream")
        assert said["content-security-policy"] == INERT
        assert said["x-content-type-options"] == "nosniff"
    page.goto(served.url)
    with page.expect_download() as saved, pytest.raises(Error, match=r"Download is starting|ERR_ABORTED"):
        page.goto(address)
    assert Path(saved.value.path()).read_bytes() == content
    page.set_content(f"<iframe src='{address}'></iframe><script src='{address}'></script>")
    assert page.title() != "pwned"


def test_nothing_written_into_the_page_runs_and_no_other_machine_is_asked(start, browser):
    served = start()
    page = browser.new_page()
    asked, stopped = [], []
    page.on("request", lambda request: "evil" in request.url and asked.append(request))  # those that are stopped too
    page.on("console", lambda said: "Content Security Policy" in said.text and stopped.append(said.text))
    page.goto(served.url)
    page.get_by_text("the page's words").wait_for()
    page.evaluate(
        """() => {
          const put = (html) => document.body.insertAdjacentHTML('beforeend', html);
          put('<img src="x:" onerror="window.pwned = 1"><img src="http://evil.example/a.png">');
          put('<iframe srcdoc="<script>parent.pwned = 2</script>"></iframe><object data="http://evil.example/"></object>');
          put('<a id="link" href="javascript:window.pwned = 3">x</a><base href="http://evil.example/">');
          put('<style>body { background: url(http://evil.example/b.png) }</style>');
          for (const made of [{ text: 'window.pwned = 4' }, { src: 'http://evil.example/c.js' }])
            document.body.append(Object.assign(document.createElement('script'), made));
          document.querySelector('#link').click();
          fetch('http://evil.example/').catch(() => {});
        }"""
    )
    page.wait_for_timeout(200)
    assert page.evaluate("window.pwned") is None
    assert {request.failure for request in asked} == {"csp"}
    assert len(stopped) >= 6
    page.close()


def test_no_page_may_hold_this_one_in_a_frame(start, browser):
    served, page = start(), browser.new_page()
    page.set_content(f"<iframe src='{served.url}'></iframe>")
    page.wait_for_timeout(300)
    assert "the page's words" not in page.frames[1].content()
    page.close()


def test_every_tab_works_and_nothing_of_it_is_stopped(own_run, site, folder, tmp_path):
    load(site, folder)
    site.locator("#more > button").click()
    site.locator("#set-seed input").wait_for()
    tab(site, "1 Data")
    site.locator("#check-photos").click()
    site.locator("#check-verdict", has_text="looked at in").wait_for()
    tab(site, "3 Results")
    site.locator("#score .tl-score").wait_for()
    site.locator(".tl-confusion td button").first.click()
    site.locator("#cell .tl-card").first.click()
    site.locator("#why dialog[open]").wait_for()
    site.keyboard.press("Escape")
    tab(site, "4 Test")
    answer(site)
    site.context.grant_permissions(["camera"])
    site.locator("#live-box > button").click()
    site.locator("#live .start").click()
    site.locator("#live .said", has_text=re.compile(r"\w")).wait_for()
    site.locator("#live .stop").click()
    for n in range(3):
        photo(tmp_path / "some" / f"{n}.png", (200, 40, 40), 78 + n)
    drop_on(site.locator("#photos .tl-drop"), tmp_path / "some")
    site.locator(".tl-answers", has_text="2.png").wait_for()
    with site.expect_download() as saved:
        site.locator("#answers-csv").click()
    assert "2.png" in Path(saved.value.path()).read_text()
    site.locator("#theme").click()
