"""The served page: who may ask it, what it may ask of others, and what it leaves behind."""

import asyncio
import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
import webbrowser
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from conftest import until
from starlette.exceptions import HTTPException

from tlapp import workspace
from tlapp.errors import UserError
from tlapp.ui import guard, serve
from tlapp.ui.app import build_app
from tlapp.ui.serve import download_folder, launch, uploads_folder

UPLOAD = "/gradio_api/upload"
AUTH = "ana:correct horse"


def tiny():
    import gradio as gr

    with gr.Blocks(title="tiny") as demo:
        name = gr.Textbox(label="Name", elem_id="name")
        shown = gr.Markdown("the page's words", elem_id="shown")
        name.submit(lambda text: f"hello {text}", name, shown)
    return demo


@pytest.fixture
def start():
    """start(…) → a served page of the test's own, closed with it."""
    with contextlib.ExitStack() as stack:

        def go(build=tiny, **options):
            served = launch(build, **{"port": 0, "browser": False, "wait": False} | options)
            stack.callback(served.close)
            return served

        yield go


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A page that many tests ask things of."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TLAPP_HOME", str(tmp_path_factory.mktemp("site")))
        served = launch(tiny, port=0, browser=False, wait=False)
    yield served
    served.close()


def ask(served, path="/", method="GET", body=b"", host=None, **headers):
    """Status and body of a raw request; `host` is a string, or a list of any number of them."""
    port = urlsplit(served.url).port
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    with contextlib.closing(connection):
        connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        for value in [f"127.0.0.1:{port}"] if host is None else [host] if isinstance(host, str) else host:
            connection.putheader("Host", value)
        for name, value in headers.items():
            connection.putheader(name.replace("_", "-"), value)
        if body:
            connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body or None)
        response = connection.getresponse()
        return response.status, response.read().decode()


def form(content=b"photo", name="a.jpg"):
    head = f'--x\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n\r\n'
    return head.encode() + content + b"\r\n--x--\r\n"


def upload(served, content=b"photo", **headers):
    return ask(served, UPLOAD, "POST", form(content), Content_Type="multipart/form-data; boundary=x", **headers)


def run(coroutine):
    """Its result; on a thread of its own, for a browser in the session keeps a loop on this one."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, coroutine).result()


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


# --- who may ask


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "DELETE"])
@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:7860", "127.0.0.1.evil.example", "localhost.evil.example", "ana@127.0.0.1",
     "192.168.1.5:7860", "0.0.0.0:7860", "[2001:db8::1]:7860", "127.0.0.1:7860/x", ""],
)  # fmt: skip
def test_a_foreign_host_is_refused(site, host, method):
    status, body = ask(site, "/config", method, host=host)
    assert status == 421
    assert method == "HEAD" or body == "This page answers only to the address that it was started with."


@pytest.mark.parametrize("hosts", [[], ["localhost", "evil.example"], ["evil.example", "localhost"]])
def test_a_request_has_exactly_one_host(site, hosts):
    status, body = ask(site, "/config", host=hosts)
    assert status in (400, 421)
    assert "the page's words" not in body


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1:{}", "localhost:{}", "LocalHost:{}", "[::1]:{}"])
def test_this_machines_own_hosts_are_answered(site, host):
    status, body = ask(site, "/config", host=host.format(urlsplit(site.url).port))
    assert status == 200
    assert "the page's words" in body


def test_a_tunnel_may_map_the_port(site):
    assert ask(site, host="localhost:9999")[0] == 200
    assert upload(site, host="localhost:9999", Origin="http://localhost:9999")[0] == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize(
    "headers",
    [{"Origin": "http://evil.example"}, {"Origin": "null"}, {"Origin": "http://127.0.0.1:1"}, {"Origin": ""},
     {"Origin": "http://127.0.0.1.evil.example"}, {"Sec_Fetch_Site": "cross-site"}, {"Sec_Fetch_Site": "same-site"}],
)  # fmt: skip
def test_another_site_cannot_write(site, method, headers):
    before = list(uploads_folder().iterdir())
    sent = ask(site, UPLOAD, method, form(), Content_Type="multipart/form-data; boundary=x", **headers)
    assert sent == (403, "Another web site may not send anything to this page.")
    assert list(uploads_folder().iterdir()) == before


@pytest.mark.parametrize(
    "headers",
    [{}, {"Origin": "http://127.0.0.1:{}"}, {"Origin": "HTTP://127.0.0.1:{}"}, {"Sec_Fetch_Site": "same-origin"},
     {"Sec_Fetch_Site": "none"}, {"Origin": "http://127.0.0.1:{}", "Sec_Fetch_Site": "same-origin"}],
)  # fmt: skip
def test_the_page_itself_can_write(site, headers):
    port = urlsplit(site.url).port
    status, body = upload(site, **{name: value.format(port) for name, value in headers.items()})
    assert status == 200
    (path,) = json.loads(body)
    assert Path(path).resolve().is_relative_to(uploads_folder())


@pytest.mark.parametrize("path", ["/config", UPLOAD, "/gradio_api/heartbeat/x"])
def test_another_sites_script_reads_nothing(start, path):
    served = start(host="0.0.0.0", auth=AUTH)
    for host in ("192.168.1.5:80", "127.0.0.1:80"):
        sent = ask(served, path, host=host, Origin="http://evil.example")
        assert sent == (403, "Another web site may not send anything to this page.")


@pytest.mark.parametrize(
    "path", ["process_recording", "process_recording/", "vibe-edit", "undo-vibe-edit/", "run-history/records",
             "custom_component/1/client/component/style.css", "dev/reload"],
)  # fmt: skip
def test_what_gradio_offers_and_this_page_does_not_use_is_not_there(site, path):
    for method in ("GET", "POST"):
        assert ask(site, f"/gradio_api/{path}", method, b"x") == (404, "This page has nothing there.")


@pytest.mark.parametrize(
    ("path", "mode", "status"),
    [("/", "navigate", 200), ("/", "no-cors", 403), ("/gradio_api/heartbeat/x", "no-cors", 403),
     ("/logout", "navigate", 403)],
)  # fmt: skip
def test_another_site_links_to_the_page_and_reads_nothing_else(site, path, mode, status):
    assert ask(site, path, Sec_Fetch_Site="cross-site", Sec_Fetch_Mode=mode)[0] == status


def test_another_sites_web_socket_is_refused():
    async def app(scope, receive, send):
        await send({"type": "websocket.accept"})

    def connect(*headers):
        sent = []

        async def receive():
            return {"type": "websocket.connect"}

        async def send(message):
            sent.append(message["type"])

        scope = {"type": "websocket", "path": "/", "headers": [(b"host", b"localhost:7860"), *headers]}
        run(guard.Guard(app, "127.0.0.1", is_open=False)(scope, receive, send))
        return sent

    assert connect((b"origin", b"http://localhost:7860")) == ["websocket.accept"]
    assert connect((b"origin", b"http://evil.example")) == ["websocket.close"]


@pytest.mark.parametrize(
    "path",
    ["/gradio_api/file=https://example.com/a.png", "/gradio_api/file=http%3A%2F%2Fexample.com%2Fa.png",
     "/gradio_api/file=HTTPS://example.com", "/gradio_api/file/https://example.com",
     "/gradio_api/proxy=https://a.hf.space/file"],
)  # fmt: skip
def test_the_page_fetches_nothing_for_a_visitor(site, path):
    assert ask(site, path) == (403, "This page fetches nothing from other addresses.")


def test_files_outside_the_uploads_are_not_served(start, monkeypatch, tmp_path, home):
    monkeypatch.setenv("GRADIO_ALLOWED_PATHS", "/")
    monkeypatch.chdir(tmp_path)
    served = start()
    examples = ".gradio/cached_examples/a.png"
    for path in (home / "runs.json", tmp_path / "here.txt", tmp_path / examples):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("secret")
    uploads = uploads_folder()
    named = [Path(__file__).resolve(), home / "runs.json", home, "here.txt", examples, tmp_path / examples, uploads, "",
             "/etc/passwd", f"{uploads}/../../runs.json", f"{uploads}/%2e%2e/%2e%2e/runs.json", f"{uploads}/%00", "%00",
             "file:///etc/passwd", "//etc/passwd", "~/.profile", "C:/x"]  # fmt: skip
    for path in named:
        status, body = ask(served, f"/gradio_api/file={path}")
        assert status in (403, 404), path
        assert "secret" not in body


# --- address and port


def test_the_next_free_port_is_taken_and_said(start, monkeypatch):
    said = []
    with socket.create_server(("127.0.0.1", 0)) as taken:
        monkeypatch.setattr(serve, "DEFAULT_PORT", taken.getsockname()[1])
        served = start(port=None, say=said.append)
    port = urlsplit(served.url).port
    assert serve.DEFAULT_PORT < port <= serve.DEFAULT_PORT + serve.PORTS_TRIED
    assert said[0] == f"Port {serve.DEFAULT_PORT} is in use, so the page takes {port}."
    assert served.url in said[1]
    assert ask(served)[0] == 200


def test_a_port_asked_for_is_taken_or_refused(start):
    port = free_port()
    assert start(port=port).url == f"http://127.0.0.1:{port}/"
    with pytest.raises(UserError, match=f"Port {port} is in use by another program"):
        start(port=port)


def test_a_port_is_free_again_at_once(start):
    port = free_port()
    for _ in range(2):
        served = start(port=port)
        assert ask(served)[0] == 200
        served.close()


def test_no_port_free_is_said(start, monkeypatch):
    monkeypatch.setattr(serve, "PORTS_TRIED", 0)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        monkeypatch.setattr(serve, "DEFAULT_PORT", taken.getsockname()[1])
        with pytest.raises(UserError, match="is in use by another program"):
            start(port=None)


@pytest.mark.parametrize(
    ("host", "port", "sentence"),
    [("127.0.0.1", 70000, "There is no port 70000"), ("127.0.0.1", -1, "There is no port -1"),
     ("192.0.2.1", 0, "192.0.2.1 is not an address of this machine"), ("", 0, "is not known here"),
     ("no such host", 0, "'no such host' is not known here"), ("a..b", 0, "is not known here")],
)  # fmt: skip
def test_an_address_that_cannot_be_served_is_refused_in_words(start, host, port, sentence):
    def never():
        raise AssertionError("built a page that nobody can see")

    with pytest.raises(UserError, match=sentence):
        start(never, host=host, port=port, auth=AUTH)


def test_loopback_of_the_sixth_version(start):
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6")
    served = start(host="::1")
    assert served.url.startswith("http://[::1]:")
    with contextlib.closing(http.client.HTTPConnection("::1", urlsplit(served.url).port)) as connection:
        connection.request("GET", "/")
        assert connection.getresponse().status == 200


# --- passwords


@pytest.mark.parametrize("auth", ["ana", "ana:", ":correct horse", " :correct horse", "ana:seven77"])
def test_a_name_and_a_password_of_some_length_are_asked_for(start, auth):
    with pytest.raises(UserError, match=r"--auth USER:PASSWORD|at least 8 characters"):
        start(auth=auth)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1"])
def test_other_machines_are_let_in_only_with_a_password(start, host):
    with pytest.raises(UserError, match="give --auth USER:PASSWORD"):
        start(host=host)


def test_only_the_right_password_opens_the_page(start):
    served = start(auth="ana:with:colons é")

    def sign_in(password):
        body = f"username=ana&password={password}".encode()
        return ask(served, "/login", "POST", body, Content_Type="application/x-www-form-urlencoded")

    assert "the page's words" not in ask(served)[1]
    assert ask(served, "/config")[0] == 401
    assert upload(served)[0] == 401
    assert sign_in("wrong")[0] == 400
    assert sign_in("with%3Acolons+%C3%A9") == (200, '{"success":true}')


def test_open_to_others_the_page_answers_to_addresses_and_to_its_own_name(start):
    said = []
    served = start(host="0.0.0.0", auth=AUTH, say=said.append)
    port = urlsplit(served.url).port
    assert served.url == f"http://localhost:{port}/"
    assert f"http://{socket.gethostname()}:{port}/" in said[1]
    assert "tlapp: sign in" in ask(served)[1]
    for host in ("192.168.1.5", "[2001:db8::1]", socket.gethostname(), "localhost"):
        assert ask(served, host=f"{host}:{port}")[0] == 200
    assert ask(served, host=f"evil.example:{port}")[0] == 421
    assert ask(served, "/login", "POST", b"x=1", Origin="http://evil.example")[0] == 403


def test_each_wrong_password_doubles_the_wait_up_to_a_bound():
    now, waits = 0.0, []

    async def sleep(seconds):
        nonlocal now
        waits.append(seconds)
        now += seconds

    async def guess():
        doorman = guard.Doorman(AUTH, lambda: now, sleep)
        for _ in range(1200):
            assert not await doorman.admits("ana", "wrong")
        assert not await doorman.admits("bob", "correct horse")
        assert await doorman.admits("ana", "correct horse")
        assert await doorman.admits("ana", "correct horse")

    run(guess())
    assert waits[:6] == [0, 0.5, 1, 2, 4, 8]
    assert set(waits[6:-1]) == {guard.LONGEST_WAIT}
    assert waits[-1] == 0


def test_guesses_at_once_wait_in_turn_and_not_without_number():
    now = 0.0

    async def sleep(seconds):
        nonlocal now
        await asyncio.sleep(0)
        now += seconds

    async def guess():
        doorman = guard.Doorman(AUTH, lambda: now, sleep)
        tries = [doorman.admits("ana", f"wrong {i}") for i in range(guard.MOST_WAITING + 5)]
        return await asyncio.gather(*tries, return_exceptions=True)

    answers = run(guess())
    assert answers[: guard.MOST_WAITING] == [False] * guard.MOST_WAITING
    assert all(isinstance(a, HTTPException) and a.status_code == 429 for a in answers[guard.MOST_WAITING :])
    assert now > guard.LONGEST_WAIT


# --- what comes in, and what stays


def test_a_file_over_the_cap_is_refused_and_not_kept(start, monkeypatch):
    monkeypatch.setattr(serve, "MAX_FILE_BYTES", 100_000)
    served = start()
    assert upload(served, bytes(99_000))[0] == 200
    before = set(uploads_folder().iterdir())
    assert upload(served, os.urandom(2_000_000))[0] == 413
    assert set(uploads_folder().iterdir()) == before


def test_uploads_lie_in_the_workspace_and_go_with_the_page(start, home):
    served = start()
    folder = uploads_folder()
    assert folder.is_relative_to(home)
    assert json.loads(upload(served)[1])[0].startswith(str(folder))
    served.close()
    served.close()
    assert not [entry for entry in (home / "uploads").iterdir() if entry.is_dir()]


def test_a_folder_for_a_download_that_fails_is_gone_again_and_one_that_is_made_stays(monkeypatch, tmp_path):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    with pytest.raises(KeyboardInterrupt), download_folder():
        raise KeyboardInterrupt
    assert list((tmp_path / "downloads").iterdir()) == []
    with download_folder() as made:
        (made / "file").touch()
    assert list((tmp_path / "downloads").iterdir()) == [made]


def test_uploads_can_be_shown_from_a_hidden_folder(start, tmp_path, monkeypatch):
    monkeypatch.setenv("TLAPP_HOME", str(tmp_path / ".local" / "share"))
    served = start()
    (path,) = json.loads(upload(served)[1])
    assert ask(served, f"/gradio_api/file={path}") == (200, "photo")


def test_uploads_of_a_dead_process_are_swept_and_those_of_a_live_one_are_not(start, home):
    dead, live = home / "uploads" / "page-0000dead", home / "uploads" / "page-0000live"
    for folder in (dead, live):
        folder.mkdir(parents=True)
        folder.with_name(f"{folder.name}.lock").touch()
        (folder / "photo.jpg").write_bytes(b"photo")
    with workspace.lock(live.with_name("page-0000live.lock")):
        start()
    assert not dead.exists()
    assert live.exists()


def test_an_upload_that_broke_off_is_gone_at_once_and_what_a_fault_left_after_an_hour(start, capfd):
    served = start()
    folder = uploads_folder()
    body = form(bytes(300_000))
    with socket.create_connection(("127.0.0.1", urlsplit(served.url).port)) as connection:
        head = f"POST {UPLOAD} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
        connection.sendall(f"{head}Content-Type: multipart/form-data; boundary=x\r\n\r\n".encode() + body[:200_000])
        (loose,) = until(lambda: list(folder.iterdir()), 10)
    until(lambda: not loose.exists(), 10)
    (whole,) = json.loads(upload(served)[1])
    os.utime(whole, (0, 0))
    loose.touch()
    serve._sweep_loose(folder)
    assert loose.exists()
    os.utime(loose, (0, time.time() - serve.LOOSE_SECONDS - 1))
    serve._sweep_loose(folder)
    assert not loose.exists()
    assert Path(whole).exists()
    assert "Traceback" not in capfd.readouterr().err


# --- around it


@pytest.mark.parametrize("proxy", ["http://127.0.0.1:9", "socks5://127.0.0.1:9"])
def test_a_proxy_in_the_environment_does_not_stop_the_page(start, monkeypatch, proxy):
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, proxy)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setenv("NO_PROXY", "intranet.example")
    served = start()
    assert ask(served)[0] == 200
    assert os.environ["no_proxy"] == os.environ["NO_PROXY"] == "intranet.example,127.0.0.1,localhost,::1"
    served.close()
    assert os.environ["NO_PROXY"] == "intranet.example"
    assert "no_proxy" not in os.environ


def test_gradios_own_variables_change_nothing_and_come_back(start, monkeypatch):
    monkeypatch.setenv("GRADIO_SHARE", "True")
    monkeypatch.setenv("GRADIO_ANALYTICS_ENABLED", "True")
    monkeypatch.setenv("GRADIO_ROOT_PATH", "/elsewhere")
    built = []
    served = start(lambda: built.append(tiny()) or built[0])
    (demo,) = built
    assert not demo.analytics_enabled
    assert not demo.share
    assert demo.root_path == ""
    assert not demo.enable_monitoring
    assert demo._queue.max_size == 64
    assert "not enabled" in ask(served, "/monitoring")[1]
    served.close()
    assert os.environ["GRADIO_SHARE"] == "True"


def test_the_browser_is_opened_unless_told_otherwise(start, monkeypatch):
    opened = []
    monkeypatch.setattr(webbrowser, "open", opened.append)
    start(browser=False)
    assert opened == []
    served = start(browser=True)
    assert opened == [served.url]


def test_a_page_that_cannot_be_built_leaves_nothing(start, home):
    def broken():
        raise UserError("no page today")

    port, before = free_port(), dict(os.environ)
    with pytest.raises(UserError, match="no page today"):
        start(broken, port=port)
    assert not [entry for entry in (home / "uploads").iterdir() if entry.is_dir()]
    assert dict(os.environ) == before
    start(port=port)


PROGRAM = """
import sys
from tlapp.ui import serve

def build():
    import gradio as gr
    with gr.Blocks() as demo:
        gr.Markdown("words")
        gr.Timer(0.2).tick(lambda: None)
    return demo

def say(text):
    print(text, file=sys.stderr, flush=True)

def on_close():
    say("runs stopped")
    say("torch " + str("torch" in sys.modules))

serve.launch(build, port=int(sys.argv[1]), browser=False, say=say, on_close=on_close)
say("returned")
"""


def test_control_c_ends_it_quietly_though_a_page_is_open(home):
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(free_port())], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a test run in the background ignores it
    )  # fmt: skip
    first = process.stderr.readline()
    assert first.startswith("The page is at http://127.0.0.1:"), first + process.stderr.read()
    url = urlsplit(first.split()[4])
    with socket.create_connection((url.hostname, url.port)) as heartbeat:
        heartbeat.sendall(f"GET /gradio_api/heartbeat/abc HTTP/1.1\r\nHost: {url.netloc}\r\n\r\n".encode())
        assert b"200" in heartbeat.recv(1000)
        process.send_signal(signal.SIGINT)
        out, rest = process.communicate(timeout=60)
    assert process.returncode == 0
    assert out == ""
    assert rest.splitlines() == [
        "Closing. Press Ctrl-C again to leave at once.", "runs stopped", "torch False", "returned",
    ]  # fmt: skip
    assert not [entry for entry in (home / "uploads").iterdir() if entry.is_dir()]


def test_the_page_asks_nothing_of_any_other_machine(start, page):
    import gradio as gr

    served = start(
        look=lambda: {
            "theme": gr.themes.Soft(),
            "css": "#shown { color: rgb(1, 2, 3) }",
            "head": "<meta name='mine' content='1'>",
        }
    )
    asked = []
    page.context.on("request", lambda request: asked.append(request.url))
    page.goto(served.url)
    page.locator("#name textarea, #name input").first.fill("Ana")
    page.keyboard.press("Enter")
    page.get_by_text("hello Ana").wait_for()
    assert page.evaluate("document.fonts.ready.then(() => [...document.fonts].some(f => f.status == 'loaded'))")
    assert page.locator("#shown").evaluate("e => getComputedStyle(e).color") == "rgb(1, 2, 3)"
    assert page.locator("meta[name=mine]").count() == 1
    assert len(asked) > 10
    foreign = {url for url in asked if not url.startswith((served.url, "data:", "blob:"))}
    assert foreign == set()
    hints = page.locator("link[href^='http']:not([href^='http://127.0.0.1'])")
    assert hints.count() == 0, hints.evaluate_all("links => links.map(l => l.outerHTML)")
    assert page.locator("footer a, footer button").count() == 0


def test_scripts_are_kept_by_the_browser_and_the_page_itself_is_not(start, page):
    served = start()
    kept = {}
    page.on("response", lambda answer: kept.update({answer.url: answer.headers.get("cache-control", "")}))
    page.goto(served.url)
    page.get_by_text("the page's words").wait_for()
    scripts = [url for url in kept if "/assets/" in url]
    assert len(scripts) > 10
    assert all("immutable" in kept[url] for url in scripts)
    assert not [url for url in kept if url not in scripts and "immutable" in kept[url]]
    assert ask(served, "/assets/none-12345678.js")[0] == 404


def test_no_handler_of_the_page_is_queued_but_those_that_report_progress():
    handlers = [function for function in build_app().fns.values() if function.api_visibility == "private"]
    queued = [function for function in handlers if function.queue]
    assert queued
    for function in queued:
        assert function.types_generator, function.name


def test_a_machine_too_busy_to_answer_itself_in_time_gets_its_page(start, monkeypatch):
    monkeypatch.setattr("gradio.networking.url_ok", lambda url: False)
    status, *_ = ask(start())
    assert status == 200
