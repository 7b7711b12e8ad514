"""Who may ask the page, and for what: names and origins of requests, one user's password.

Knows HTTP headers; must not know Gradio or what is on the page.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import ipaddress
import re
import socket
import time
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocketClose

from tlapp import journal
from tlapp.errors import UserError

SHORTEST_PASSWORD = 8
LONGEST_WAIT = 10.0
MOST_WAITING = 16

_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[^\[\]:@/\s]+)(:\d+)?")
_ELSEWHERE = re.compile(r"/(file|proxy)[=/]\s*[a-z][a-z0-9+.-]*:/")
_UNUSED = re.compile(
    r"/(gradio_api/)?(process_recording|(undo-)?vibe-[a-z-]+|custom_component|run-history|deep_link|dev/reload)(/|$)"
)


class Guard:
    """ASGI middleware that answers only under this machine's own names and only to its own page.

    A foreign `Host` is a web site that had its name resolved to this machine; a foreign `Origin` is one whose script
    asks from a visitor's browser, and Gradio would let it read the answer. Where a write has no `Origin`,
    `Sec-Fetch-Site` tells. The port in `Host` is free, since a tunnel or a container may map it. Paths that would have
    Gradio fetch from elsewhere are refused, and so is what it offers that this page does not use: one of these takes
    and converts videos without asking for a password.
    """

    def __init__(self, app: ASGIApp, host: str, is_open: bool) -> None:
        self._app = app
        self._is_open = is_open
        self._names = {"localhost", host.lower()}
        if is_open:
            name = socket.gethostname().lower()
            short = name.partition(".")[0]
            self._names |= {name, short, f"{short}.local"}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it with 421 or 403 and a sentence."""
        if scope["type"] == "lifespan":
            return await self._app(scope, receive, send)
        refusal = self._refusal(scope, headers := Headers(scope=scope))
        if refusal is not None:
            journal.often("request_refused", refusal, status=refusal[0], reason=refusal[1], host=headers.get("host"))
        if refusal is None:
            with contextlib.suppress(ClientDisconnect):  # a tab closed amid an upload is no fault to log
                await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await WebSocketClose(1008, refusal[1])(scope, receive, send)
        else:
            await PlainTextResponse(refusal[1], refusal[0], {"connection": "close"})(scope, receive, send)

    def _refusal(self, scope: Scope, headers: Headers) -> tuple[int, str] | None:
        hosts = [host.lower() for host in headers.getlist("host")]
        if len(hosts) != 1 or not self._is_own(hosts[0]):
            return 421, "This page answers only to the address that it was started with."
        if _ELSEWHERE.search(scope["path"].lower()):
            return 403, "This page fetches nothing from other addresses."
        if _UNUSED.search(scope["path"].lower()):
            return 404, "This page has nothing there."
        origins = headers.getlist("origin")
        if origins:
            is_same = all(urlsplit(origin.lower()).netloc == hosts[0] for origin in origins)
        else:
            is_same = headers.get("sec-fetch-site", "none") in ("same-origin", "none") or _is_link(scope, headers)
        return None if is_same else (403, "Another web site may not send anything to this page.")

    def _is_own(self, host: str) -> bool:
        match = _HOST.fullmatch(host)
        if not match:
            return False
        try:
            address = ipaddress.ip_address(match[1].strip("[]"))
        except ValueError:
            return match[1] in self._names
        return self._is_open or address.is_loopback


class Doorman:
    """Admits the user of `auth`, "user:password". Raises UserError where that is not one.

    Attempts are answered in turn, and each wrong one doubles the wait before the next, up to a bound.
    """

    def __init__(
        self,
        auth: str,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        user, _, password = auth.partition(":")
        if not user.strip() or not password:
            raise UserError("--auth needs a name and a password with a colon between them: --auth USER:PASSWORD.")
        if len(password) < SHORTEST_PASSWORD:
            raise UserError(f"The password of --auth is too short. Give at least {SHORTEST_PASSWORD} characters.")
        journal.conceal(password)
        self._user = _encoded(user.strip())
        self._password = _encoded(password)
        self._clock = clock
        self._sleep = sleep
        self._turn = asyncio.Lock()
        self._waiting = 0
        self._failures = 0
        self._opens = 0.0

    async def admits(self, user: str, password: str) -> bool:
        """Whether that is the user. Raises HTTPException 429 where too many attempts wait already."""
        if self._waiting >= MOST_WAITING:
            journal.often("sign_in_failed", "waiting", reason="too many attempts")
            raise HTTPException(429, "Too many attempts to sign in. Try again in a minute.")
        self._waiting += 1
        try:
            async with self._turn:
                await self._sleep(max(0.0, self._opens - self._clock()))
                # Both are compared whatever the first says, so that the time taken tells nothing.
                is_user = hmac.compare_digest(self._user, _encoded(user))
                is_right = hmac.compare_digest(self._password, _encoded(password)) and is_user
                self._failures = 0 if is_right else self._failures + 1
                if is_right:
                    journal.note("signed_in")
                else:
                    journal.often("sign_in_failed", is_user, reason="wrong password" if is_user else "wrong name")
                    self._opens = self._clock() + min(LONGEST_WAIT, 0.25 * 2.0 ** min(self._failures, 10))
                return is_right
        finally:
            self._waiting -= 1


def _is_link(scope: Scope, headers: Headers) -> bool:
    """Whether a person comes by a link of another site; pictures and scripts of it ask for nothing, nor sign out."""
    is_read = scope.get("method") in ("GET", "HEAD") and headers.get("sec-fetch-mode") == "navigate"
    return is_read and not scope["path"].rstrip("/").endswith("/logout")


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
