"""What `fuzz` runs in processes of its own: damaged pictures and hostile zips, one after the other.

The number of the one in hand is printed before it is tried, so that it is known where the process died, if it did.
"""

from __future__ import annotations

import faulthandler
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import _mutants
from tlapp import dataset, images
from tlapp.errors import PictureError, UserError

PATIENCE = 30.0
_written: list[str] = []
"""What was opened for writing or made by name since the last zip, once `watch_writing` was called."""

Tried = tuple[str, str, float]
"""What kind, "read" or "refused" or a fault in words, and seconds."""


def try_picture(seed: int, number: int) -> Tried:
    """Decode one. One that took long is timed again, as other programs may have had the processor."""
    kind, data = _mutants.picture(seed, number)
    outcome, seconds = _timed(lambda: images.load(data), PictureError)
    if seconds > 0.5:
        seconds = min(seconds, _timed(lambda: images.load(data), PictureError)[1])
    return kind, outcome, seconds


def try_zip(seed: int, number: int, folder: Path) -> Tried:
    """Scan one that lies deep in `folder`, an empty one; it is an error if anything else is there afterwards."""
    kind, data = _mutants.hostile_zip(seed, number)
    home, source = folder / "a/b/c/home", folder / "a/b/c/photos.zip"
    home.mkdir(parents=True)
    source.write_bytes(data)
    _written.clear()
    outcome, seconds = _timed(lambda: dataset.scan(source, home=home), UserError)
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}
    kept = {f"a/b/c/home/datasets/{path.name}/{name}" for path in (home / "datasets").glob("*")
            for name in ("photos.bin", "dataset.json") if not path.name.startswith(".")}  # fmt: skip
    own = ("datasets/.incoming-create.lock", "tlapp.log", "tlapp.log.lock")
    locks = {f"a/b/c/home/{name}" for name in own}
    outside = [name for name in _written if not os.path.abspath(name).startswith(str(folder))]
    strange = found - kept - locks - {"a/b/c/photos.zip"}
    if strange or Path("/tmp/tlapp-fuzz").exists() or source.read_bytes() != data:
        outcome = f"left behind: {sorted(strange)[:3]}"
    if outside:
        outcome = f"written elsewhere: {outside[:3]}"
    if outcome == "refused" and len(found - locks) > 1:
        outcome = "refused, but a copy stayed"
    shutil.rmtree(folder / "a")
    return kind, outcome, seconds


def watch_writing() -> None:
    """From here on, keep note of every file that this process opens for writing, and of every folder it makes."""

    def note(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, mode, flags = arguments
            writes = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) or (mode and set(mode) & set("wax+"))
            if writes and not isinstance(path, int):
                _written.append(os.fsdecode(path))
        elif event in ("os.mkdir", "os.symlink", "os.link", "os.rename"):
            _written.append(os.fsdecode(arguments[0 if event == "os.mkdir" else 1]))

    sys.addaudithook(note)


def _timed(work: Callable[[], object], refusal: type[UserError]) -> tuple[str, float]:
    begun = time.perf_counter()
    try:
        work()
        outcome = "read"
    except refusal as error:
        outcome = "refused" if str(error).strip() else "refused without a word"
    except Exception as error:
        outcome = f"{type(error).__name__}: {error}"
    return outcome, time.perf_counter() - begun


def main() -> None:
    """Try the numbers `first` to `last` of `what`, "images" or "zips", as JSON on the command line asks."""
    asked = json.loads(sys.argv[1])
    watch_writing()
    kinds: dict[str, dict[str, Any]] = {}
    faults: list[list[Any]] = []
    with tempfile.TemporaryDirectory(prefix="tlapp-fuzz-") as folder:
        for number in range(asked["first"], asked["last"]):
            print(number, flush=True)
            faulthandler.dump_traceback_later(PATIENCE, exit=True)
            if asked["what"] == "images":
                kind, outcome, seconds = try_picture(asked["seed"], number)
            else:
                kind, outcome, seconds = try_zip(asked["seed"], number, Path(folder))
            faulthandler.cancel_dump_traceback_later()
            told = kinds.setdefault(kind, {"tried": 0, "read": 0, "refused": 0, "slowest": 0.0, "slow": 0})
            told["tried"] += 1
            told["slowest"] = max(told["slowest"], seconds)
            told["slow"] += seconds >= 1
            if outcome in ("read", "refused"):
                told[outcome] += 1
            else:
                faults.append([number, kind, outcome])
    import resource  # not on Windows

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(json.dumps({"kinds": kinds, "faults": faults, "peak_mb": peak}), flush=True)


if __name__ == "__main__":
    main()
