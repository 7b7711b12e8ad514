"""Serve the page: to this machine alone unless a password guards it, and asking nothing of any other.

Knows addresses, ports, uploads and what Gradio must be told; must not know what is on the page. Of itself it
imports Gradio only when the port is held and the environment set, and torch not at all.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import ipaddress
import os
import secrets
import socket
import time
import webbrowser
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starlette.middleware import Middleware

from tlapp import journal, memory, workspace
from tlapp.errors import UserError, printable
from tlapp.ui import quiet
from tlapp.ui.guard import Doorman, Guard
from tlapp.ui.headers import Headers, Kept
from tlapp.ui.limits import Limits, bound

if TYPE_CHECKING:
    import gradio as gr

DEFAULT_PORT = 7860
PORTS_TRIED = 20
MAX_FILE_BYTES = 4 * 1024**3  # a zip of 2,000 photos; single photos have a cap of their own
LOOSE_SECONDS = 3600
IDLE_SECONDS = 0.02  # between two looks for queued work; Gradio's own is a thousandth
KEPT_SECONDS = 24 * 3600
SESSIONS = 100
"""Pages whose state Gradio keeps, 0.6 MB each, open or not; the one that was used last goes last."""
GIVE_BACK_SECONDS = 30

REFUSALS = {
    errno.EADDRINUSE: "Port {port} is in use by another program. Close that one, or give another port with --port.",
    errno.EACCES: "This system does not give port {port} to you. Give one above 1023 with --port.",
    errno.EADDRNOTAVAIL: "{address} is not an address of this machine. Give one that is, or leave out --host.",
}
SIGN_IN = "<p>tlapp: sign in with the name and the password that it was started with.</p>"
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True)
class Served:
    """A page that is being served at `url`, and for other machines at `afar`, "" where that is known by `url`."""

    url: str
    _stack: contextlib.ExitStack = field(repr=False)
    afar: str = ""

    def close(self) -> None:
        """Call `on_close`, end the server and remove its uploads. Harmless when closed already."""
        self._stack.close()


def launch(
    build: Callable[[], gr.Blocks],
    host: str = "127.0.0.1",
    port: int | None = None,
    auth: str = "",
    browser: bool = True,
    wait: bool = True,
    *,
    look: Callable[[], dict[str, Any]] = dict,
    say: Callable[[str], None] = lambda sentence: None,
    on_open: Callable[[str], object] = lambda url: None,
    on_close: Callable[[], None] = lambda: None,
) -> Served:
    """Serve the Blocks that `build` makes; with `wait`, until Ctrl-C.

    Without a `port` it is 7860 or the next free one; port 0 is any free one. `auth` is "user:password", which a
    `host` that other machines reach must have. `look` gives `theme`, `css` and `head` of
    Gradio's launch once Gradio is imported. `say` is told what a person should read. `on_open` is
    called with the address once the page is there, `on_close` before the server ends, to stop what still runs.

    Raises:
        UserError: the address or port cannot be had, or the password is missing or too short.
        KeyboardInterrupt: Ctrl-C was pressed before the page was served, or again while it was closing.
    """
    address = _resolve(host)
    is_reached = not address.is_loopback
    doorman = Doorman(auth) if auth else None
    if is_reached and not doorman:
        raise UserError(
            f"At {printable(host)} other machines reach the page, so it needs a password: give --auth USER:PASSWORD, "
            "or leave out --host."
        )
    with contextlib.ExitStack() as stack:
        held = stack.enter_context(_hold_port(address, port, say))
        port = held.getsockname()[1]
        uploads = stack.enter_context(_uploads())
        no_proxy = stack.enter_context(_environment(uploads))
        stack.enter_context(journal.listening())
        memory.share_heaps()
        demo = build()
        demo.queue(max_size=64, default_concurrency_limit=4)
        demo._queue.sleep_when_free = IDLE_SECONDS  # a page that nobody uses cost a twentieth of a core
        demo.delete_cache = demo.delete_cache or (LOOSE_SECONDS, KEPT_SECONDS)
        layers = [
            Middleware(Headers), Middleware(Guard, host=host, is_open=is_reached), Middleware(Limits, uploads=uploads),
            Middleware(Kept),
        ]  # fmt: skip
        held.close()
        stack.callback(demo.close, verbose=False)
        try:
            demo.launch(
                server_name=f"[{address}]" if address.version == 6 else str(address),
                server_port=port,
                auth=doorman.admits if doorman else None,  # type: ignore[arg-type]  # awaited where it is async
                auth_message=SIGN_IN,
                app_kwargs={"middleware": layers, "lifespan": _tidying(uploads)},
                **look(), max_file_size=MAX_FILE_BYTES, state_session_capacity=SESSIONS,
                prevent_thread_lock=True, quiet=True, show_error=False, inline=False, inbrowser=False, share=False,
                footer_links=[], run_history=False, enable_monitoring=False,
                pwa=False, mcp_server=False, ssr_mode=False, num_workers=0,
                _frontend=False,  # it would ask itself for the page, and give up where that takes three seconds
            )  # fmt: skip
        except OSError as error:
            raise UserError(f"Port {port} was taken by another program a moment ago. Start again.") from error
        bound(demo.server.config)
        quiet.hush()
        stack.enter_context(_noted(is_reached, port, bool(auth)))
        os.environ["no_proxy"] = os.environ["NO_PROXY"] = no_proxy
        stack.callback(on_close)
        name = "localhost" if address.is_unspecified else f"[{address}]" if address.version == 6 else address
        afar = f"http://{socket.gethostname()}:{port}/" if address.is_unspecified else ""
        served = Served(f"http://{name}:{port}/", stack.pop_all(), afar)
    if wait:
        _wait(demo, served, say, on_open, browser)
    else:
        _announce(served, say, on_open, browser)
    return served


def is_open(host: str) -> bool:
    """Whether other machines reach a page that is served at `host`. Raises UserError where that is no address."""
    return not _resolve(host).is_loopback


@contextlib.contextmanager
def _noted(is_open: bool, port: int, has_password: bool) -> Iterator[None]:
    """The page's start and end in the log."""
    began = time.monotonic()
    journal.note("page_started", open=is_open, port=port, password=has_password)
    try:
        yield
    finally:
        journal.settle()
        journal.note("page_ended", seconds=time.monotonic() - began)


def _announce(served: Served, say: Callable[[str], None], on_open: Callable[[str], object], browser: bool) -> None:
    say(f"The page is at {served.url} (Ctrl-C ends it).")
    if served.afar:
        say(f"Other machines reach it at {served.afar}, or at an address of this machine.")
    on_open(served.url)
    if browser:
        with contextlib.suppress(webbrowser.Error):
            webbrowser.open(served.url)


def uploads_folder() -> Path:
    """Where Gradio puts what a person uploads; no path that a browser names may lie outside it."""
    from gradio.utils import get_upload_folder

    return Path(get_upload_folder()).resolve()


def download_of(name: str, content: bytes) -> Path:
    """A file of that name and content that the page may hand out; other content lies at another place."""
    path = uploads_folder() / "downloads" / hashlib.sha256(content).hexdigest()[:16] / name
    path.parent.mkdir(parents=True, exist_ok=True)
    workspace.write_atomic(path, content)
    return path


@contextlib.contextmanager
def download_folder() -> Iterator[Path]:
    """A new folder that the page may hand files out of; empty after a failure, it is removed."""
    folder = uploads_folder() / "downloads" / secrets.token_hex(8)
    folder.mkdir(parents=True)
    try:
        yield folder
    except BaseException:
        with contextlib.suppress(OSError):
            folder.rmdir()
        raise


def _wait(
    demo: gr.Blocks, served: Served, say: Callable[[str], None], on_open: Callable[[str], object], browser: bool
) -> None:
    try:
        _announce(served, say, on_open, browser)
        while demo.server.thread.is_alive():
            demo.server.thread.join(0.5)
    except KeyboardInterrupt:
        say("Closing. Press Ctrl-C again to leave at once.")
    finally:
        served.close()


def _resolve(host: str) -> Address:
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise UserError(f"The address {printable(host)!r} is not known here. Give one of this machine.") from error
    return ipaddress.ip_address(min(found, key=lambda entry: entry[0] != socket.AF_INET)[4][0])


def _hold_port(address: Address, port: int | None, say: Callable[[str], None]) -> socket.socket:
    """Keep others off a free port for the seconds that making the page takes; to be closed just before it binds."""
    if port is not None and not 0 <= port <= 65535:
        raise UserError(f"There is no port {port}. Give one from 1 to 65535, such as --port {DEFAULT_PORT}.")
    candidates = range(DEFAULT_PORT, DEFAULT_PORT + PORTS_TRIED + 1) if port is None else (port,)
    for candidate in candidates:
        try:
            held = _listen(address, candidate)
            if not address.is_unspecified and str(address) != "127.0.0.1":
                # Gradio starts nowhere while this machine's own loopback port is taken.
                _listen(ipaddress.ip_address("127.0.0.1"), held.getsockname()[1]).close()
        except OSError as error:
            if error.errno == errno.EADDRINUSE and candidate != candidates[-1]:
                continue
            sentence = REFUSALS.get(error.errno or 0, "The page cannot be served at {address}, port {port}: {error}.")
            raise UserError(sentence.format(address=address, port=candidate, error=error.strerror)) from error
        if port is None and candidate != DEFAULT_PORT:
            say(f"Port {DEFAULT_PORT} is in use, so the page takes {candidate}.")
        return held
    raise AssertionError("the last candidate returns or raises")


def _listen(address: Address, port: int) -> socket.socket:
    held = socket.socket(socket.AF_INET if address.version == 4 else socket.AF_INET6)
    try:
        if os.name == "posix":  # elsewhere this option would share the port instead of skipping the wait for it
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if address.version == 6:
            held.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        held.bind((str(address), port))
        held.listen(1)
    except OSError:
        held.close()
        raise
    return held


@contextlib.contextmanager
def _uploads() -> Iterator[Path]:
    """A folder for uploads, gone when the page closes; those that a killed process left go now."""
    with workspace.own_folder(workspace.home() / "uploads", "page-") as folder:
        yield folder.resolve()


@contextlib.contextmanager
def _environment(uploads: Path) -> Iterator[str]:
    """Our settings alone reach Gradio: a variable of the person's could open a share link or more folders.

    While it starts, Gradio asks for its own page through any proxy that is set, which fails (with SOCKS even where
    `no_proxy` names this machine), so nothing goes through one. Yields the `no_proxy` for the time after.
    """

    def ours() -> dict[str, str]:
        return {k: v for k, v in os.environ.items() if k.startswith("GRADIO_") or k.lower() == "no_proxy"}

    before = ours()
    for name in before:
        del os.environ[name]
    os.environ.update(GRADIO_ANALYTICS_ENABLED="False", GRADIO_TEMP_DIR=str(uploads), no_proxy="*", NO_PROXY="*")
    os.environ["GRADIO_EXAMPLES_CACHE"] = str(uploads / "examples")  # else files below the current folder are served
    try:
        already = before.get("no_proxy") or before.get("NO_PROXY")
        yield ",".join(filter(None, [already, "127.0.0.1", "localhost", "::1"]))
    finally:
        if os.environ.get("GRADIO_TEMP_DIR") == str(uploads):  # else another page has set them since
            for name in ours():
                del os.environ[name]
            os.environ.update(before)


def _tidying(uploads: Path) -> Callable[[Any], contextlib.AbstractAsyncContextManager[None]]:
    """A lifespan that removes what `delete_cache` does not know of, what is left of uploads that broke off, and gives
    memory back.
    """

    async def every(seconds: float, work: Callable[..., None], *given: Any) -> None:
        while True:
            await asyncio.sleep(seconds)
            await asyncio.to_thread(work, *given)

    @contextlib.asynccontextmanager
    async def lifespan(_app: Any) -> AsyncIterator[None]:
        tasks = [
            asyncio.create_task(every(LOOSE_SECONDS / 4, _sweep_loose, uploads)),
            asyncio.create_task(every(GIVE_BACK_SECONDS, memory.trim)),
        ]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()

    return lifespan


def _sweep_loose(uploads: Path) -> None:
    """Finished uploads lie in folders; a file beside them that nobody has written to for an hour broke off."""
    for path in uploads.iterdir():
        with contextlib.suppress(OSError):
            if path.is_file() and time.time() - path.stat().st_mtime > LOOSE_SECONDS:
                path.unlink()
                journal.often("cleaned_up", "upload", what="upload that broke off")
