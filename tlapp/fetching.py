"""Fetch a backbone's published weights once, when the person asks: with progress, time-outs and Cancel.

torchvision's own loader does the work in a process of its own, since it knows neither time-outs nor Cancel: the
process can be ended at any moment, and what it had written goes with it. Nothing is ever fetched elsewhere.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from tlapp import catalog, workspace
from tlapp.catalog import Backbone
from tlapp.errors import WeightsError, explain_oserror

STALL_SECONDS = 30.0

_LOADER = """
import socket, sys
from torch.hub import load_state_dict_from_url
url, folder, enum, seconds = sys.argv[1:]
socket.setdefaulttimeout(float(seconds))
if not url:
    from torchvision.models import get_weight
    url = get_weight(enum).url
try:
    load_state_dict_from_url(
        url, model_dir=folder, map_location="cpu", progress=False, check_hash=True, weights_only=True
    )
except Exception as error:
    sys.stderr.write(f"{type(error).__name__}: {error}")
    sys.exit(3)
"""


def is_offline() -> bool:
    """Whether `TLAPP_OFFLINE` forbids the network."""
    return os.environ.get("TLAPP_OFFLINE", "") not in ("", "0")


def fetch(
    backbone: Backbone,
    progress: Callable[[float, float], None] | None = None,
    should_cancel: Callable[[], bool] = lambda: False,
    stall_seconds: float = STALL_SECONDS,
) -> Path:
    """Bring the weights into torch's hub cache; if they are there and whole, nothing is fetched.

    `TLAPP_WEIGHTS_MIRROR` names an address to fetch the files from instead of torchvision's.

    Args:
        progress: called with (megabytes so far, megabytes in all) several times a second.
        should_cancel: asked as often; True ends the fetch.
        stall_seconds: without a byte for so long, the fetch is given up.

    Raises:
        WeightsError: offline, unreachable, cut short, wrong hash, cancelled, no space. No part of it stays behind.
    """
    target = catalog.weights_path(backbone)
    if target.is_file():
        try:
            return catalog.check_weights(backbone)
        except WeightsError:
            if backbone.included:
                raise
    if is_offline():
        raise _failed(backbone, "TLAPP_OFFLINE is set, so the network is not touched")
    mirror = os.environ.get("TLAPP_WEIGHTS_MIRROR", "").rstrip("/")
    if mirror and urlsplit(mirror).scheme not in ("http", "https"):
        raise WeightsError("TLAPP_WEIGHTS_MIRROR must be an address that begins with http:// or https://.")
    url = f"{mirror}/{backbone.weights_file}" if mirror else ""
    try:
        with workspace.own_folder(target.parent, ".tlapp-") as folder:
            _run_loader(backbone, url, folder, progress, should_cancel, stall_seconds)
            os.replace(folder / backbone.weights_file, target)
    except OSError as error:
        raise _failed(backbone, explain_oserror(error).rstrip(".")) from error
    return catalog.check_weights(backbone)


def _run_loader(
    backbone: Backbone,
    url: str,
    folder: Path,
    progress: Callable[[float, float], None] | None,
    should_cancel: Callable[[], bool],
    stall_seconds: float,
) -> None:
    command = [sys.executable, "-c", _LOADER, url, str(folder), backbone.enum, str(stall_seconds)]
    with (folder / "stderr").open("wb") as stderr:
        loader = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=stderr)
    # The loader's own socket time-out speaks first; this one ends a server that sends a byte now and then.
    size, moved = 0, time.monotonic() + stall_seconds
    try:
        while loader.poll() is None:
            now = sum(entry.stat().st_size for entry in folder.glob("*.partial"))
            if now > size:
                size, moved = now, time.monotonic()
            if progress:
                progress(size / 1e6, backbone.megabytes)
            if should_cancel():
                raise WeightsError(f"Fetching {backbone.title}'s weights was cancelled. Nothing was kept.")
            if time.monotonic() - moved > 2 * stall_seconds:
                raise _failed(backbone, "the server sent nothing for too long")
            time.sleep(0.1)
    finally:
        if loader.poll() is None:
            loader.kill()
        loader.wait()
    if loader.returncode:
        said = (folder / "stderr").read_text("utf-8", "replace")
        raise _failed(backbone, _reason(said))


def _reason(said: str) -> str:
    """torch's last words as a clause."""
    last = said.strip().splitlines()[-1] if said.strip() else ""
    if "invalid hash" in last:
        return "what came was cut short or is not the published file (wrong hash)"
    if "timed out" in last or "TimeoutError" in last:
        return "the server did not answer in time"
    if "HTTP Error" in last:
        return f"the server answered {last[last.index('HTTP Error') + 11 :][:80]}"
    if "URLError" in last or "Connection" in last or "IncompleteRead" in last:
        return "the server could not be reached or broke off"
    if "No space" in last:
        return "the disk is full"
    return f"the loader failed ({last[:120] or 'without a word'})"


def _failed(backbone: Backbone, why: str) -> WeightsError:
    return WeightsError(
        f"{backbone.title}'s weights could not be fetched: {why}. Nothing was kept.",
        f"Try again, give a file with --weights, or use the included backbone: --backbone {catalog.INCLUDED}.",
    )
