"""Fetching weights from a real server on this machine: whole, broken off, stalled, cancelled, forbidden."""

import dataclasses
import hashlib
import http.server
import os
import socket
import threading
import time

import pytest
import torch
import torchvision

from tlapp import backbones, catalog, fetching, workspace
from tlapp.errors import WeightsError
from tlapp.ui import pieces

WAIT = 60  # seconds until a test that hangs gives up


class Server(http.server.ThreadingHTTPServer):
    """Answers every GET with `behave(handler)`, and keeps a list of what was asked for."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked, self.body, self.behave = [], b"", whole
        self.half_sent, self.go_on = threading.Event(), threading.Event()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request, client_address):
        """A client that was killed is no news."""


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append(self.path)
        self.server.behave(self)

    def do_CONNECT(self):
        self.server.asked.append(self.path)
        self.send_error(403)

    def start(self, length):
        self.send_response(200)
        self.send_header("Content-Length", str(length))
        self.end_headers()

    def log_message(self, *args):
        pass


def whole(handler):
    handler.start(len(handler.server.body))
    handler.wfile.write(handler.server.body)


def halting(handler):
    """Half of the file; the rest once the test says so."""
    server = handler.server
    half = len(server.body) // 2
    handler.start(len(server.body))
    handler.wfile.write(server.body[:half])
    server.half_sent.set()
    if server.go_on.wait(WAIT):
        handler.wfile.write(server.body[half:])


def cut_off(handler):
    handler.start(len(handler.server.body))
    handler.wfile.write(handler.server.body[:-1000])


def other_file(handler):
    handler.start(len(handler.server.body))
    handler.wfile.write(bytes(len(handler.server.body)))


def not_found(handler):
    handler.send_error(404)


@pytest.fixture
def server(monkeypatch):
    with Server() as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        monkeypatch.setenv("TLAPP_WEIGHTS_MIRROR", server.url + "/")
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        yield server
        server.go_on.set()
        server.shutdown()


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """The bytes of a ResNet-18's state dict with random weights."""
    path = tmp_path_factory.mktemp("weights") / "resnet18.pth"
    torch.manual_seed(0)
    torch.save(torchvision.models.resnet18().state_dict(), path)
    return path.read_bytes()


@pytest.fixture
def publish(server, monkeypatch):
    """publish(data) → the catalogue's ResNet-18, made to be the one whose file on the server is `data`."""

    def made(data):
        digest = hashlib.sha256(data).hexdigest()[:8]
        entry = dataclasses.replace(
            catalog.get("resnet18"),
            weights_file=f"resnet18-{digest}.pth",
            weights_sha256=digest,
            megabytes=len(data) / 1e6,
        )
        monkeypatch.setitem(catalog.BACKBONES, "resnet18", entry)
        server.body = data
        return entry

    return made


def cached():
    """Everything in the weights cache, half-written things too, but for the empty file that fetches lock."""
    folder = catalog.weights_folder()
    return sorted(set(os.listdir(folder)) - {".tlapp-create.lock"}) if folder.exists() else []


def refusal(entry, **options):
    begun = time.monotonic()
    with pytest.raises(WeightsError) as caught:
        fetching.fetch(entry, **options)
    assert time.monotonic() - begun < WAIT
    assert cached() == []
    return str(caught.value)


def test_fetched_weights_replace_damaged_ones_and_are_not_fetched_again(server, publish, weights):
    entry = publish(weights)
    server.behave = halting
    path = catalog.weights_path(entry)
    path.parent.mkdir(parents=True)
    path.write_bytes(weights[:1000])
    seen = []

    def progress(so_far, in_all):
        seen.append((so_far, in_all))
        if so_far > 0:
            server.go_on.set()

    assert fetching.fetch(entry, progress) == path
    assert path.read_bytes() == weights
    assert cached() == [entry.weights_file]
    assert server.asked == [f"/{entry.weights_file}"]
    assert 0 < max(so_far for so_far, _ in seen) <= entry.megabytes
    assert {in_all for _, in_all in seen} == {entry.megabytes}
    assert catalog.choose().backbone is entry
    assert backbones.load(entry, 2).blocks["layer1"][0].conv1.weight.std() > 0

    assert fetching.fetch(entry) == path
    assert len(server.asked) == 1


def test_what_a_killed_fetch_left_is_removed_by_the_next_but_not_what_one_at_work_holds(server, publish, weights):
    entry = publish(weights)
    folder = catalog.weights_folder()
    (folder / ".tlapp-0000dead").mkdir(parents=True)
    (folder / ".tlapp-0000dead.lock").touch()
    (folder / ".tlapp-0000dead" / "half.partial").write_bytes(b"half")
    with workspace.own_folder(folder, ".tlapp-") as at_work:
        fetching.fetch(entry)
        assert at_work.is_dir()
    assert cached() == [entry.weights_file]


@pytest.mark.parametrize(
    ("behave", "words"),
    [
        (cut_off, "cut short or is not the published file"),
        (other_file, "cut short or is not the published file"),
        (not_found, "the server answered 404"),
    ],
)
def test_a_failed_fetch_is_one_sentence_and_keeps_nothing(server, publish, behave, words):
    entry = publish(bytes(range(256)) * 4000)
    server.behave = behave
    said = refusal(entry)
    assert words in said
    assert "\n" not in said
    assert f"--backbone {catalog.INCLUDED}" in said
    assert len(server.asked) == 1


def test_a_server_that_falls_silent_is_given_up(server, publish):
    entry = publish(bytes(10**6))
    server.behave = halting
    said = refusal(entry, stall_seconds=3)
    assert "did not answer in time" in said or "sent nothing for too long" in said


def test_cancel_ends_a_fetch_half_way(server, publish):
    entry = publish(bytes(10**6))
    server.behave = halting
    assert "was cancelled" in refusal(entry, should_cancel=server.half_sent.is_set)
    assert server.half_sent.is_set()


def test_an_unreachable_server_is_said(publish, monkeypatch):
    entry = publish(b"nothing")
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        monkeypatch.setenv("TLAPP_WEIGHTS_MIRROR", f"http://127.0.0.1:{closed.getsockname()[1]}")
        assert "could not be reached" in refusal(entry)


def test_without_a_mirror_the_address_is_torchvisions(server, monkeypatch):
    monkeypatch.delenv("TLAPP_WEIGHTS_MIRROR")
    monkeypatch.setenv("https_proxy", server.url)
    assert "could not be reached" in refusal(catalog.get("resnet18"))
    assert server.asked == ["download.pytorch.org:443"]


def test_offline_the_network_is_not_touched(server, publish, monkeypatch):
    monkeypatch.setenv("TLAPP_OFFLINE", "1")
    assert "TLAPP_OFFLINE" in refusal(publish(b"weights"))
    assert server.asked == []


def test_offline_what_is_here_still_serves(server, publish, monkeypatch):
    monkeypatch.setenv("TLAPP_OFFLINE", "1")
    entry = publish(b"weights")
    path = catalog.weights_path(entry)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"weights")
    assert fetching.fetch(entry) == path
    assert fetching.fetch(catalog.get(catalog.INCLUDED)).is_file()
    assert server.asked == []


@pytest.mark.parametrize(("value", "offline"), [("1", True), ("yes", True), ("0", False), ("", False)])
def test_offline_is_what_the_variable_says(monkeypatch, value, offline):
    monkeypatch.setenv("TLAPP_OFFLINE", value)
    assert fetching.is_offline() is offline


@pytest.mark.parametrize("mirror", ["file:///etc", "ftp://127.0.0.1", "127.0.0.1"])
def test_a_mirror_must_be_a_web_address(publish, monkeypatch, mirror):
    entry = publish(b"weights")
    monkeypatch.setenv("TLAPP_WEIGHTS_MIRROR", mirror)
    assert "TLAPP_WEIGHTS_MIRROR must be an address" in refusal(entry)


def test_the_page_says_in_its_own_words_what_to_do_about_weights(monkeypatch):
    monkeypatch.setenv("TLAPP_OFFLINE", "1")
    for ask in (catalog.check_weights, fetching.fetch):
        with pytest.raises(WeightsError) as caught:
            ask(catalog.get("resnet18"))
        assert "--backbone" in str(caught.value)
        said = pieces.sentence(caught.value)
        assert said == f"{caught.value.what} {pieces.REMEDY}"
        assert "--" not in said
        assert "tlapp" not in said.replace("TLAPP", "")


def test_a_cache_that_cannot_be_written_is_said(server, publish, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "file"))
    with pytest.raises(WeightsError, match="could not be fetched"):
        fetching.fetch(publish(b"weights"))
    assert server.asked == []
