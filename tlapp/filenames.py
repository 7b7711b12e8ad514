"""Names for files and folders that every system takes, made of names that may be anything.

Knows only text: what Windows, macOS and Linux refuse or hide, and what two names must not share.
"""

from __future__ import annotations

import re
import unicodedata

from tlapp.errors import printable

MOST_BYTES = 80
_REFUSED = re.compile(r'[<>:"/\\|?*\x00-\x1f\x7f]')
_RESERVED = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³]) *(\..*)?", re.IGNORECASE)


def safe(text: str) -> str:
    """The text as the name of one file or folder: nowhere refused, hidden, reserved or longer than `MOST_BYTES`.

    What names may not hold becomes "_"; so does a first sign that hides a file or reads as an option.
    """
    name = _REFUSED.sub("_", printable(unicodedata.normalize("NFC", text)))
    name = name.encode()[:MOST_BYTES].decode(errors="ignore").strip().rstrip(". ")
    if not name or name[0] in ".-~" or name.lower().startswith(("__macosx", "$")) or _RESERVED.fullmatch(name):
        name = f"_{name.lstrip('.-~')}"
    return name


class Names:
    """Names given out in one folder, no two alike even where upper and lower case or forms of accents are."""

    def __init__(self) -> None:
        self._taken: set[str] = set()
        self._times: dict[str, int] = {}

    def free(self, text: str, ending: str = "") -> str:
        """`safe(text)` with the ending, numbered where that is taken: "one.jpg", "one-2.jpg"."""
        stem = safe(text)
        key = _alike(stem)
        name = stem + ending
        while _alike(name) in self._taken:
            self._times[key] = self._times.get(key, 1) + 1
            name = f"{stem}-{self._times[key]}{ending}"
        self._taken.add(_alike(name))
        return name


def _alike(name: str) -> str:
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
