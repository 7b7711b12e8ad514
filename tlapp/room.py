"""Whether there is room on the disk for what is to be written, and the sentences that say so before it begins.

Knows sizes and folders; what a run writes is `footprint`'s.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from tlapp.errors import DataError, RunError, printable

PHOTO = 260_000
"""Bytes of the app's copy of a photo of a phone or camera: 256 pixels by 341, in three colours."""

SPARE = 50_000_000
"""Bytes that should be left: for the record of the run, and what other programs write meanwhile."""

REMEDY = "Free some space: `tlapp clean`, or *What lies on the disk* in 3 Results, says what of the workspace can go."


def free(folder: Path) -> int | None:
    """Bytes that may still be written where the folder lies; None where the system does not say."""
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return None


def is_scarce(folder: Path, n_bytes: int) -> bool:
    """Whether so many bytes leave less than `SPARE`."""
    left = free(folder)
    return left is not None and left < n_bytes + SPARE


def worry(home: Path, n_bytes: int) -> str:
    """A sentence where a run that writes so much may fill the disk, or ""."""
    if not is_scarce(home, n_bytes):
        return ""
    return f"The disk is nearly full: the run writes up to {in_words(n_bytes)}, and {_left(home)}. {REMEDY}"


def check_model(home: Path, n_bytes: int) -> None:
    """Raise RunError where not even the finished model, of so many bytes, would fit."""
    left = free(home)
    if left is not None and left < n_bytes:
        raise RunError(
            f"There is no room for this run: its model alone takes {in_words(n_bytes)}, and {_left(home)}. {REMEDY}"
        )


def check_photos(home: Path, n: int, n_bytes: float) -> None:
    """Raise DataError where the copies of n photos, together of so many bytes, would not fit."""
    left = free(home)
    if left is not None and left < n_bytes:
        raise DataError(
            f"There is no room for {n:,} photos: the app's copies of them take about {in_words(n_bytes)}, and "
            f"{_left(home)}. {REMEDY}"
        )


def _left(home: Path) -> str:
    return f"{in_words(free(home) or 0)} are free at {printable(str(home))}"


def in_words(n_bytes: float) -> str:
    """A size as coarse as a person needs it: "0.4 MB", "12 MB", "1.3 GB"."""
    if n_bytes < 1e6:
        return "0 MB" if n_bytes <= 0 else f"{max(n_bytes / 1e6, 0.1):.1f} MB"
    return f"{n_bytes / 1e6:.0f} MB" if n_bytes < 999.5e6 else f"{n_bytes / 1e9:.1f} GB"
