"""How much the server takes on at once: requests under work and waiting, bytes of a request, bytes of all uploads.

Above a bound a request gets a sentence at once (413, 503 or 507) instead of a place in a line without end. Knows
HTTP and the uploads folder; must not import Gradio or know what is on the page.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import re
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

from starlette.datastructures import Headers
from starlette.formparsers import MultiPartException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tlapp import room

if TYPE_CHECKING:
    from uvicorn import Config

MOST_AT_WORK = 40  # as many as Gradio has threads for
MOST_WAITING = 200
MOST_UPLOADING = 32
MOST_OPEN = 1000  # streams that tell of progress, two for each open page, and files on their way
MOST_CONNECTIONS = 2000
MOST_BODY_BYTES = 64 * 1024**2  # of what is no upload; a drop of 50,000 files names them in 20
MOST_BODIES_BYTES = 512 * 1024**2  # of all that lies in memory
MAX_UPLOADS_BYTES = 20 * 1024**3  # of all that lies in the uploads folder
SILENT_SECONDS = 60.0  # between two parts of an upload
BODY_SECONDS = 60.0  # for all of any other body
DRAIN_SECONDS = 10.0  # for the rest of a body that is refused
LOOK_SECONDS = 10.0  # between two looks at what lies in the uploads folder
LOOK_BYTES = 16 * 1024**2  # between two looks at the disk
LEAST_RATE = 4096  # bytes a second of an upload that takes longer than `SILENT_SECONDS`
ONE_OF = 4

BUSY = "The app has too much to do at the moment. Wait a few seconds, then try again."
TOO_LARGE = "That request is larger than this page sends. Reload the page, then try again."
SLOW = "What was sent did not arrive in time. Check the connection, then try again."
FULL = (
    "All uploads together are more than this app takes ({gigabytes:.0f} GB). Wait until those before have been read, "
    "or use fewer photos."
)
NO_SPACE = f"The app's disk is nearly full, so nothing of this was kept. {room.REMEDY}"
_UPLOAD = re.compile(r"(/gradio_api)?/upload/?")


class RefusedError(Exception):
    """A request that is not answered by the app; `status` is of HTTP."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


class Room:
    """As many requests at once as there are places, others in a line of a bounded length.

    Of another machine no more than an `ONE_OF`-th part is let in, so that none keeps all others out.
    """

    def __init__(self, places: int, waiting: int = 0) -> None:
        self._most = places + waiting
        self._inside: Counter[str] = Counter()
        self._places = asyncio.Semaphore(places)

    @contextlib.asynccontextmanager
    async def entered(self, client: str) -> AsyncIterator[asyncio.Semaphore]:
        """Stand in line; what is yielded is to be held while the request is worked on. Raises RefusedError.

        `client`: its address, "" for this machine, whose programs and tunnels have no bound of their own.
        """
        is_greedy = bool(client) and self._inside[client] >= max(1, self._most // ONE_OF)
        if is_greedy or self._inside.total() >= self._most:
            raise RefusedError(503, BUSY)
        self._inside[client] += 1
        try:
            yield self._places
        finally:
            self._inside[client] -= 1
            if not self._inside[client]:
                del self._inside[client]


class Limits:
    """ASGI middleware that bounds requests by number and by size.

    What is only read (GET) has many places, for an open page holds streams; an upload has a place of its own, so that
    slow ones keep nobody from working; all else is work, in a line behind what is worked on.
    """

    def __init__(self, app: ASGIApp, uploads: Path) -> None:
        self._app = app
        self._store = Store(uploads)
        self._reading, self._uploading = Room(MOST_OPEN), Room(MOST_UPLOADING)
        self._arriving, self._working = Room(MOST_OPEN), Room(MOST_AT_WORK, MOST_WAITING)
        self._bodies = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it with 408, 413, 503 or 507 and a sentence, as JSON that has `error`."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        is_whole, client = False, _client(scope)

        async def read() -> Message:
            nonlocal is_whole
            message = await receive()
            is_whole = not message.get("more_body", False)
            return message

        try:
            if scope["method"] in ("GET", "HEAD", "OPTIONS"):
                async with self._reading.entered(client):
                    await self._app(scope, read, send)
            elif _UPLOAD.fullmatch(scope["path"]):
                async with self._uploading.entered(client):
                    await self._upload(scope, read, send)
            else:
                await self._work(scope, read, send, client)
        except RefusedError as refused:
            if not is_whole and refused.status != 408:
                await _drained(receive)
            headers = {"retry-after": "5"} if refused.status == 503 else {}
            answer = JSONResponse({"error": str(refused)}, refused.status, {**headers, "connection": "close"})
            await answer(scope, receive, send)

    async def _work(self, scope: Scope, receive: Receive, send: Send, client: str) -> None:
        """Read the body before the request stands in line, so that a slow client takes nobody's place there."""
        body = bytearray()
        n_bytes = 0
        try:
            try:
                async with self._arriving.entered(client), asyncio.timeout(BODY_SECONDS):
                    await self._read(body, Headers(scope=scope), receive)
            except TimeoutError:
                raise RefusedError(408, SLOW) from None
            finally:
                n_bytes = len(body)
            async with self._working.entered(client) as place, place:
                parts: list[Message] = [{"type": "http.request", "body": bytes(body)}]
                body.clear()

                is_full = False

                async def read() -> Message:
                    return parts.pop() if parts else await receive()

                async def said(message: Message) -> None:
                    nonlocal is_full
                    is_full = is_full or message.get("status") == 503
                    if not is_full:
                        await send(message)

                await self._app(scope, read, said)
                if is_full:  # Gradio's own line; its words are not for people
                    raise RefusedError(503, BUSY)
        finally:
            self._bodies -= n_bytes

    async def _read(self, body: bytearray, headers: Headers, receive: Receive) -> None:
        if _length(headers) > MOST_BODY_BYTES:
            raise RefusedError(413, TOO_LARGE)
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            part, more = message.get("body", b""), message.get("more_body", False)
            if len(body) + len(part) > MOST_BODY_BYTES:
                raise RefusedError(413, TOO_LARGE)
            if self._bodies + len(part) > MOST_BODIES_BYTES:
                raise RefusedError(503, BUSY)
            body += part
            self._bodies += len(part)

    async def _upload(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Count what arrives. Where no more is taken, or the client is gone, Gradio is told that the form is broken:
        then it removes what it has of it, and what it would answer is replaced.
        """
        await self._store.look(_length(Headers(scope=scope)))
        refused: RefusedError | None = None
        began, n_bytes = time.monotonic(), 0

        async def read() -> Message:
            nonlocal refused, n_bytes
            try:
                async with asyncio.timeout(SILENT_SECONDS):
                    message = await receive()
                if message["type"] == "http.disconnect":
                    raise MultiPartException("The client is gone.")
                n_bytes += len(message.get("body", b""))
                if (seconds := time.monotonic() - began) > SILENT_SECONDS and n_bytes < LEAST_RATE * seconds:
                    raise TimeoutError
                await self._store.count(len(message.get("body", b"")))
            except TimeoutError:
                refused = RefusedError(408, SLOW)
            except RefusedError as one:
                refused = one
            if refused:
                raise MultiPartException(str(refused))
            return message

        async def said(message: Message) -> None:
            if refused is None:
                await send(message)

        await self._app(scope, read, said)
        if refused is not None:
            raise refused


class Store:
    """What lies in the uploads folder, and how much more may come."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lies = 0  # as of the last look, and what came since
        self._since = 0
        self._looked = 0.0

    async def look(self, expected: int) -> None:
        """Look whether `expected` more bytes may come, as far as they are told. Raises RefusedError."""
        if expected > MAX_UPLOADS_BYTES:
            self._judge(expected)
        since = time.monotonic() - self._looked
        if since > LOOK_SECONDS or (since > 1 and self._lies + expected > MAX_UPLOADS_BYTES):
            self._lies = await asyncio.to_thread(_size, self._folder)
            self._looked = time.monotonic()
        self._judge(expected)

    async def count(self, arrived: int) -> None:
        """Count what arrived. Raises RefusedError where it is too much, whatever was told before."""
        if self._lies + arrived > MAX_UPLOADS_BYTES:
            await self.look(arrived)
        self._lies += arrived
        self._since += arrived
        if self._since >= LOOK_BYTES:
            self._judge(0)

    def _judge(self, expected: int) -> None:
        self._since = 0
        if self._lies + expected > MAX_UPLOADS_BYTES:
            raise RefusedError(413, FULL.format(gigabytes=MAX_UPLOADS_BYTES / 1024**3))
        if room.is_scarce(self._folder, expected):
            raise RefusedError(507, NO_SPACE)


def bound(config: Config) -> None:
    """Have a server that runs already bound its connections, and the headers of a request to 64 KB.

    Gradio hands nothing on to uvicorn, which looks these up anew for each connection. Its quicker parser, taken where
    `httptools` happens to be installed, keeps any number of headers. No time is set for headers to arrive in: uvicorn
    has none, so connections that say nothing stay until there are too many.
    """
    from uvicorn.protocols.http.h11_impl import H11Protocol

    config.http_protocol_class = H11Protocol
    config.limit_concurrency = MOST_CONNECTIONS


async def _drained(receive: Receive) -> None:
    """Let what is left of a body come to nothing: a client that still sends sees no answer, but a lost connection."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(DRAIN_SECONDS):
            while (await receive()).get("more_body", False):
                pass


def _client(scope: Scope) -> str:
    """The address of who asks, "" for this machine."""
    host = str((scope.get("client") or ("",))[0])
    with contextlib.suppress(ValueError):
        if ipaddress.ip_address(host).is_loopback:
            return ""
    return host


def _length(headers: Headers) -> int:
    """What the request says it is long, 0 where it says nothing; that may be a lie."""
    told = headers.get("content-length", "")
    return int(told) if told.isdecimal() and len(told) < 20 else 0


def _size(folder: Path) -> int:
    """Bytes of all files in a folder, those that break off meanwhile left out."""
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):
            total += path.lstat().st_size
    return total
