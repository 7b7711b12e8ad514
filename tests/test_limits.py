"""What the server takes on at once, and what it says above that: bodies, uploads, requests, connections."""

import asyncio
import contextlib
import http.client
import json
import os
import select
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from conftest import drop_on, until
from sites import folder, load_path, served, tab, visit, window
from sites import site as whole
from starlette.requests import ClientDisconnect
from test_serve import UPLOAD, ask, form, run, site, start, upload

from tlapp import room
from tlapp.ui import limits
from tlapp.ui.limits import Limits
from tlapp.ui.serve import uploads_folder

__all__ = ["folder", "served", "site", "start", "visit", "whole", "window"]
JOIN = "/gradio_api/queue/join"
FORM = {"Content-Type": "multipart/form-data; boundary=x"}


def send(served, path, body, headers, chunked):
    """Status and sentence for a body that is told in length, or comes in pieces of unknown number."""
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", urlsplit(served.url).port, timeout=30)) as one:
        pieces = (body[i : i + 60_000] for i in range(0, len(body), 60_000))
        one.request("POST", path, pieces if chunked else body, headers, encode_chunked=chunked)
        answer = one.getresponse()
        return answer.status, json.loads(answer.read())["error"]


def inside():
    """The files that lie in the uploads folder."""
    return {path for path in uploads_folder().rglob("*") if path.is_file()}


def size():
    return sum(path.stat().st_size for path in inside())


# --- sizes


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("path", [JOIN, "/gradio_api/run/predict", "/login", "/gradio_api/component_server", "/none"])
def test_a_body_that_is_no_upload_is_read_up_to_a_bound(site, monkeypatch, path, chunked):
    monkeypatch.setattr(limits, "MOST_BODY_BYTES", 100_000)
    status, said = send(site, path, b"[" * 500_000, {"Content-Type": "application/json"}, chunked)
    assert (status, said) == (413, limits.TOO_LARGE)
    monkeypatch.setattr(limits, "MOST_BODY_BYTES", 1_000_000)
    monkeypatch.setattr(limits, "MOST_BODIES_BYTES", 100_000)
    status, said = send(site, path, b"[" * 500_000, {"Content-Type": "application/json"}, chunked)
    assert (status, said) == (503, limits.BUSY)
    assert ask(site, "/config")[0] == 200


@pytest.mark.parametrize("chunked", [False, True])
def test_all_uploads_together_are_bounded_and_nothing_is_kept_of_what_is_refused(site, monkeypatch, chunked):
    kept = Path(json.loads(upload(site, os.urandom(400_000))[1])[0])
    before = inside()
    monkeypatch.setattr(limits, "MAX_UPLOADS_BYTES", size() + 500_000)
    status, said = send(site, UPLOAD, form(os.urandom(700_000)), FORM, chunked)
    assert status == 413
    assert said.startswith("All uploads together are more than this app takes")
    until(lambda: inside() == before, 10)
    kept.unlink()
    until(lambda: upload(site, os.urandom(700_000))[0] == 200, 10)  # looked at once a second at most


@pytest.mark.parametrize("chunked", [False, True])
def test_an_upload_that_would_fill_the_disk_is_refused_and_nothing_of_it_kept(site, monkeypatch, chunked):
    before = inside()
    monkeypatch.setattr(limits, "LOOK_BYTES", 100_000)
    monkeypatch.setattr(room, "SPARE", 2**60)
    status, said = send(site, UPLOAD, form(os.urandom(700_000)), FORM, chunked)
    assert status == 507
    assert said.startswith("The app's disk is nearly full")
    until(lambda: inside() == before, 10)


def test_what_is_still_arriving_counts_too(site, monkeypatch):
    monkeypatch.setattr(limits, "LOOK_SECONDS", 0.0)
    monkeypatch.setattr(limits, "MAX_UPLOADS_BYTES", size() + 1_000_000)
    body = form(os.urandom(900_000))
    head = f"POST {UPLOAD} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
    with socket.create_connection(("127.0.0.1", urlsplit(site.url).port)) as slow:
        slow.sendall(f"{head}Content-Type: {FORM['Content-Type']}\r\n\r\n".encode() + body[:-10])
        (part,) = until(lambda: [path for path in uploads_folder().iterdir() if path.is_file()], 10)
        until(lambda: part.stat().st_size > 600_000, 10)
        assert upload(site, os.urandom(500_000))[0] == 413
        slow.sendall(body[-10:])
        assert b"200 OK" in slow.recv(1000)


def test_an_upload_that_falls_silent_is_ended_and_nothing_of_it_kept(site, monkeypatch):
    monkeypatch.setattr(limits, "SILENT_SECONDS", 0.3)
    before = inside()
    body = form(bytes(300_000))
    head = f"POST {UPLOAD} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
    with socket.create_connection(("127.0.0.1", urlsplit(site.url).port), timeout=30) as slow:
        slow.sendall(f"{head}Content-Type: {FORM['Content-Type']}\r\n\r\n".encode() + body[:200_000])
        assert b" 408 " in slow.recv(1000)
    until(lambda: inside() == before, 10)


def test_a_body_that_does_not_arrive_in_time_is_refused(site, monkeypatch):
    monkeypatch.setattr(limits, "BODY_SECONDS", 0.3)
    with socket.create_connection(("127.0.0.1", urlsplit(site.url).port), timeout=30) as slow:
        slow.sendall(f"POST {JOIN} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{{".encode())
        assert b" 408 " in slow.recv(1000)


@pytest.mark.parametrize("flood", [b"X-A: " + b"y" * 200_000, b"X-A: y\r\n" * 20_000, b"X-" + b"y" * 200_000 + b": 1"])
def test_a_flood_of_headers_is_refused(site, flood):
    with socket.create_connection(("127.0.0.1", urlsplit(site.url).port), timeout=30) as one:
        with contextlib.suppress(ConnectionError):
            one.sendall(b"GET /config HTTP/1.1\r\nHost: localhost\r\n" + flood + b"\r\n\r\n")
        assert b" 400 " in one.recv(1000)
    assert ask(site, "/config")[0] == 200


def test_above_a_number_of_connections_no_more_are_answered_until_some_end(start, monkeypatch):
    monkeypatch.setattr(limits, "MOST_CONNECTIONS", 6)
    served = start()
    address = ("127.0.0.1", urlsplit(served.url).port)
    with contextlib.ExitStack() as stack:
        for _ in range(6):
            stack.enter_context(socket.create_connection(address)).sendall(b"GET / HT")
        until(lambda: ask(served, "/config")[0] == 503, 10)
    until(lambda: ask(served, "/config")[0] == 200, 10)


# --- on the page


def test_a_person_is_told_on_the_page_what_was_refused_and_why(whole, folder, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(limits, "MAX_UPLOADS_BYTES", 10)
        drop_on(whole.locator("#drop .tl-drop"), folder)
        whole.locator("#drop .said", has_text="All uploads together are more than this app takes").wait_for()
    with monkeypatch.context() as patch:
        patch.setattr(room, "SPARE", 2**60)
        drop_on(whole.locator("#drop .tl-drop"), folder)
        whole.locator("#drop .said", has_text="The app's disk is nearly full").wait_for()
    with monkeypatch.context() as patch:
        patch.setattr(limits, "MOST_BODIES_BYTES", 1)
        tab(whole, "3 Results")
        whole.locator("#said.tl-on", has_text=limits.BUSY).wait_for()
        whole.locator("#said").click()
        tab(whole, "1 Data")
        load_path(whole, folder)
        whole.locator("#said.tl-on", has_text=limits.BUSY).wait_for()
        whole.locator("#said").click()
    with monkeypatch.context() as patch:
        patch.setattr("gradio.queueing.Queue.__len__", lambda queue: 64)
        load_path(whole, folder)
        whole.locator("#said.tl-on", has_text=limits.BUSY).wait_for()
    drop_on(whole.locator("#drop .tl-drop"), folder)
    whole.locator(".tl-class").first.wait_for()


# --- numbers


class Client:
    """Asks an app directly, as a server would: what was answered, and whether the app holds it up."""

    def __init__(self, app, path, method="POST", address="127.0.0.1", is_silent=False):
        self.said, self.is_silent = [], is_silent
        scope = {"type": "http", "path": path, "method": method, "headers": [(b"content-length", b"2")]}
        self.task = asyncio.create_task(app(scope | {"client": (address, 1)}, self._receive, self._send))

    async def _receive(self):
        while self.is_silent and not self.said:
            await asyncio.sleep(0)
        return {"type": "http.request", "body": b"{}", "more_body": False}

    async def _send(self, message):
        self.said.append(message)

    @property
    def status(self):
        return self.said[0]["status"] if self.said else None


def test_work_is_bounded_in_a_line_and_reading_and_uploading_go_on_beside_it(tmp_path):
    at_work, most, gate = 0, 0, asyncio.Event()

    async def app(scope, receive, send):
        nonlocal at_work, most
        at_work += scope["method"] == "POST"
        most = max(most, at_work)
        while (await receive()).get("more_body"):
            pass
        await (asyncio.sleep(0) if scope["method"] == "GET" else gate.wait())
        at_work -= 1
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body"})

    async def crowd():
        limited = Limits(app, tmp_path)
        clients = [Client(limited, "/gradio_api/run/1") for _ in range(300)]
        while sum(client.status == 503 for client in clients) < 60:
            await asyncio.sleep(0)
        reader = Client(limited, "/config", "GET")
        await reader.task
        gate.set()
        await asyncio.gather(*(client.task for client in clients))
        uploader = Client(limited, UPLOAD)
        await uploader.task
        return clients, reader, uploader

    clients, *others = run(crowd())
    statuses = [client.status for client in clients]
    assert most == limits.MOST_AT_WORK
    assert statuses == [200] * (limits.MOST_AT_WORK + limits.MOST_WAITING) + [503] * 60
    assert [client.status for client in others] == [200, 200]
    refused = clients[-1].said
    assert dict(refused[0]["headers"])[b"retry-after"] == b"5"
    assert json.loads(refused[1]["body"]) == {"error": limits.BUSY}


@pytest.mark.parametrize(("path", "method", "most"), [("/x", "GET", "MOST_OPEN"), (UPLOAD, "POST", "MOST_UPLOADING")])
def test_streams_and_uploads_have_bounds_of_their_own_and_places_come_free_again(
    tmp_path, monkeypatch, path, method, most
):
    monkeypatch.setattr(limits, most, 3)

    async def app(scope, receive, send):
        await gate.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def crowd():
        limited = Limits(app, tmp_path)
        for _ in range(2):
            gate.clear()
            clients = [Client(limited, path, method) for _ in range(5)]
            await until_refused(clients, 2)
            gate.set()
            await asyncio.gather(*(client.task for client in clients))
            assert sorted(client.status for client in clients) == [200] * 3 + [503] * 2

    gate = asyncio.Event()
    run(crowd())


async def until_refused(clients, n):
    while sum(client.status == 503 for client in clients) < n:
        await asyncio.sleep(0)


def test_another_machine_takes_no_more_than_its_part_and_a_body_on_its_way_takes_no_place(tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "MOST_AT_WORK", 4)
    monkeypatch.setattr(limits, "MOST_WAITING", 4)
    monkeypatch.setattr(limits, "MOST_OPEN", 16)
    monkeypatch.setattr(limits, "DRAIN_SECONDS", 0.05)
    gate = asyncio.Event()

    async def app(scope, receive, send):
        await gate.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def crowd():
        limited = Limits(app, tmp_path)
        silent = [Client(limited, "/x", address="192.0.2.1", is_silent=True) for _ in range(6)]
        await until_refused(silent, 2)  # 16 may arrive, 4 of one machine
        greedy = [Client(limited, "/x", address="192.0.2.2") for _ in range(5)]
        await until_refused(greedy, 3)  # 8 may be at work or wait, 2 of one machine
        others = [Client(limited, "/x", address=address) for address in ("192.0.2.3", "127.0.0.1", "::1")]
        gate.set()
        await asyncio.gather(*(client.task for client in (*greedy, *others)))
        for client in silent:
            client.task.cancel()
        return [sorted(str(client.status) for client in part) for part in (greedy, others)]

    assert run(crowd()) == [["200", "200", "503", "503", "503"], ["200"] * 3]


def test_an_upload_that_only_trickles_is_ended(site, monkeypatch):
    monkeypatch.setattr(limits, "SILENT_SECONDS", 0.5)
    before = inside()
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", urlsplit(site.url).port, timeout=20)) as link:
        link.putrequest("POST", UPLOAD)
        link.putheader("Content-Length", "1000000")
        link.putheader("Content-Type", FORM["Content-Type"])
        link.endheaders(form(b"x")[:80])
        with contextlib.suppress(OSError):
            for _ in range(40):
                link.send(b"x")
                time.sleep(0.1)
                if select.select([link.sock], [], [], 0)[0]:
                    break
        answer = link.getresponse()
        assert answer.status == 408
        assert json.loads(answer.read()) == {"error": limits.SLOW}
    until(lambda: inside() == before, 10)


def test_a_client_that_leaves_while_it_sends_gives_its_place_back(tmp_path):
    async def app(scope, receive, send):
        raise AssertionError("worked on what nobody waits for")

    async def leave():
        limited = Limits(app, tmp_path)
        for _ in range(2 * (limits.MOST_AT_WORK + limits.MOST_WAITING)):
            with pytest.raises(ClientDisconnect):
                await limited({"type": "http", "path": "/x", "method": "POST", "headers": []}, gone, None)

    async def gone():
        return {"type": "http.disconnect"}

    run(leave())


def test_the_served_page_answers_each_of_many_at_once(site):
    def one(i):
        return ask(site, "/gradio_api/run/none", "POST", b"{}", Content_Type="application/json")[0]

    with ThreadPoolExecutor(60) as pool:
        statuses = list(pool.map(one, range(120)))
    assert len(statuses) == 120
    assert set(statuses) <= {404, 422, 500, 503}
