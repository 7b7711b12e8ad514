"""An ONNX model → one HTML file that answers for photos in a browser, opened from the disk, without a network.

A browser lets a page of the disk load nothing beside it, so all is inside: the page's own script and style,
onnxruntime-web as it was released, and the model. The page's policy names the script and the style by their hashes and
allows no connection. Knows nothing of runs; what the page says of the model is given.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from importlib import resources
from typing import Any

from tlapp.errors import printable

RUNTIME_VERSION = "1.30.0"
_WEB = resources.files("tlapp") / "bundle" / "web"
_RUNTIME = _WEB / "onnxruntime-web"
_SCRIPTS = ("pixels.js", "page.js")


@dataclass(frozen=True)
class About:
    """What the page knows and says of its model.

    Attributes:
        name: in large type at its top; "" asks after the classes.
        classes: in the model's order.
        preprocess: `side`, `resize`, `interpolation` and `framing`, as in `preprocess.json`.
        keep: a photo stranger than this is none of the classes.
        worth: the score, as a sentence.
        made: of what and when, as a sentence.
        limits: sentences.
    """

    name: str
    classes: tuple[str, ...]
    preprocess: Mapping[str, Any]
    keep: float
    worth: str
    made: str
    limits: tuple[str, ...]


def page(model: bytes, about: About) -> bytes:
    """The HTML file, in UTF-8.

    Args:
        model: as `graph.to_onnx` gives it.
    """
    style, script = _text("style.css"), "\n".join(_text(name) for name in _SCRIPTS)
    policy = {
        "default-src": "'none'", "base-uri": "'none'", "form-action": "'none'", "img-src": "blob: data:",
        "script-src": f"{_hashed(script)} blob: 'wasm-unsafe-eval'", "style-src": _hashed(style),
    }  # fmt: skip
    n = len(about.classes)
    parts = {
        "policy": "; ".join(f"{name} {allowed}" for name, allowed in policy.items()),
        "title": _shown(about.name or _question(about.classes)),
        "of": f"of {n:,} classes" if n > 1 else "class",
        "worth": _shown(about.worth), "made": _shown(about.made),
        "names": _items(about.classes), "limits": _items(about.limits),
        "version": RUNTIME_VERSION, "licence": _of_runtime("LICENSE"), "notices": _of_runtime("ThirdPartyNotices.txt"),
        "about": _json(about), "style": style, "script": script,
        "runtime_script": _base64((_RUNTIME / "ort.wasm.bundle.min.mjs.gz").read_bytes()),
        "runtime": _base64((_RUNTIME / "ort-wasm-simd-threaded.wasm.gz").read_bytes()),
        "model": _base64(gzip.compress(model, 6, mtime=0)),
    }  # fmt: skip
    return re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], _text("index.html")).encode("utf-8")


def _text(name: str) -> str:
    return (_WEB / name).read_text(encoding="utf-8")


def _of_runtime(name: str) -> str:
    """A text that onnxruntime-web comes with, as HTML."""
    return escape((_RUNTIME / name).read_text(encoding="utf-8"))


def _hashed(text: str) -> str:
    """As a Content-Security-Policy names an inline script or style."""
    return f"'sha256-{_base64(hashlib.sha256(text.encode('utf-8')).digest())}'"


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _json(about: About) -> str:
    """As JSON that no text in it can end early: `<` is escaped."""
    told = {
        "classes": about.classes, "shown": [printable(name) for name in about.classes], "keep": about.keep,
        "view": {name: about.preprocess[name] for name in ("side", "resize", "interpolation", "framing")},
    }  # fmt: skip
    return json.dumps(told).replace("<", "\\u003c")


def _shown(text: str) -> str:
    """Foreign text as HTML; a number stays with its per cent sign."""
    return escape(printable(text)).replace(" %", "\u00a0%")


def _items(texts: tuple[str, ...]) -> str:
    return "".join(f"<li>{_shown(text)}</li>" for text in texts)


def _question(classes: tuple[str, ...]) -> str:
    """ "ants, bees or wasps?", where that is short."""
    asked = f"{', '.join(classes[:-1])} or {classes[-1]}?" if len(classes) > 1 else f"{classes[0]}?"
    return asked if len(asked) <= 60 else "What is in this photo?"
