"""What the browser is told with each answer: what the page may load and do, who may show it, what is kept.

Knows HTTP headers, and what Gradio's page needs to run; must not import Gradio or know what is on the page.
"""

from __future__ import annotations

import base64
import hashlib
import re

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

ALWAYS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(self), microphone=(), geolocation=(), display-capture=(), usb=(), serial=(), "
    "hid=(), midi=(), payment=(), publickey-credentials-get=()",
}
INERT = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; sandbox"
"""The policy of all that is not the page: opened by itself it runs nothing, loads nothing and has no origin."""

_PAGE = (
    "default-src 'self'; script-src 'self' 'unsafe-eval' {inline}; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; media-src 'self' data: blob:; font-src 'self' data:; connect-src 'self' data: blob:; "
    "object-src 'none'; frame-src 'none'; worker-src 'none'; base-uri 'self'; form-action 'self'; "
    "frame-ancestors 'none'"
)
_INLINE = re.compile(rb"<script(?![^>]*\ssrc\s*=)[^>]*>(.*?)</script>", re.DOTALL)
_ASSET = re.compile(r"/assets/[\w.-]+-[\w-]{8,}\.(js|css)")


class Headers:
    """ASGI middleware that gives each answer of the app its security headers, the page its Content-Security-Policy.

    Scripts of the page are those of the server, and the few that Gradio writes into the page, each by its hash: no
    name that reaches the page can become a script or an event handler. What Gradio makes impossible: it makes functions
    of the text of `js=` and `js_on_load`, so 'unsafe-eval' stays; Svelte and `gr.HTML` set styles as attributes, so
    styles have 'unsafe-inline'. Outside of it stand three answers, all plain text: Gradio's to a CORS preflight, that
    to a fault of the server itself, and uvicorn's to what is no HTTP.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on; a page is held back until it is whole, for its policy follows from its scripts."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        held: Message | None = None
        body = b""

        async def said(message: Message) -> None:
            nonlocal held, body
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(ALWAYS)
                if headers.get("content-type", "").startswith("text/html"):
                    held = message
                    return
                headers["content-security-policy"] = INERT
            elif held is not None and message["type"] == "http.response.body":
                body += message.get("body", b"")
                if message.get("more_body"):
                    return
                MutableHeaders(scope=held)["content-security-policy"] = page_policy(body)
                await send(held)
                held, message = None, {"type": "http.response.body", "body": body}
            await send(message)

        await self._app(scope, receive, said)


def page_policy(html: bytes) -> str:
    """The policy of a page of the app's making, which may run the scripts that are written in it.

    Text of others cannot be among them: what Gradio writes into its scripts has every "<" escaped.
    """
    hashes = (base64.b64encode(hashlib.sha256(found[1]).digest()).decode() for found in _INLINE.finditer(html))
    return _PAGE.format(inline=" ".join(f"'sha256-{one}'" for one in dict.fromkeys(hashes)))


class Kept:
    """ASGI middleware that lets the browser keep Gradio's own scripts and styles, whose names change with them."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on; the answer for a script or style says that it never changes."""

        async def said(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] == 200:
                MutableHeaders(scope=message)["cache-control"] = "private, max-age=31536000, immutable"
            await send(message)

        is_asset = scope["type"] == "http" and _ASSET.fullmatch(scope["path"])
        await self._app(scope, receive, said if is_asset else send)
