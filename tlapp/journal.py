"""What the app did and what went wrong: one line of JSON each in `tlapp.log` of the workspace.

It is made to be sent to others: it holds ids, counts, durations and faults with their tracebacks; no photos, passwords
or headers (but the host that a refused request asked for), and of names only what a fault itself says. Page and command
line write to one file, which is set aside at 1 MB; three older ones stay. A line that cannot be written is lost in
silence: nothing fails for want of a log, and no workspace is made for it, but that of a fault. `TLAPP_LOG=off` leaves
it out.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import sys
import threading
import time
import traceback
from collections.abc import Callable, Hashable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tlapp import __version__, workspace
from tlapp.errors import printable
from tlapp.events import Event, Queued, Resumed, RunFailed, RunFinished, RunStarted, RunStopped

NAME = "tlapp.log"
MOST_BYTES, OLDER = 1_000_000, 3
MOST_TEXT, MOST_TRACEBACK = 500, 8000
FLOOD_SECONDS, MOST_FLOODS = 10.0, 200

EVENTS = {
    "command_started": "info", "command_ended": "info", "page_started": "info", "page_ended": "info",
    "dataset_read": "info", "run_created": "info", "run_queued": "info", "run_started": "info", "run_resumed": "info",
    "run_finished": "info", "run_stopped": "info", "run_failed": "error", "run_removed": "info",
    "run_restored": "info", "run_imported": "info", "run_exported": "info", "cleaned_up": "info",
    "signed_in": "info", "sign_in_failed": "warning", "request_refused": "warning", "warning": "warning",
    "fault": "error",
}  # fmt: skip
"""Every event and its level; docs/formats.md says what each tells."""

_OF_RUNS: dict[type[Event], tuple[str, tuple[str, ...]]] = {
    Queued: ("run_queued", ("place",)),
    RunStarted: ("run_started", ("device", "epochs", "n_train", "n_validation", "n_test")),
    Resumed: ("run_resumed", ("epoch",)),
    RunFinished: ("run_finished", ("epochs", "seconds")),
    RunStopped: ("run_stopped", ("epochs", "seconds")),
    RunFailed: ("run_failed", ("message",)),
}
_USERINFO = re.compile(r"(?<=://)[^/\s@]*(?:@[^/\s@]*)*@")
_HEADERS = re.compile(r"(?i)\b((?:proxy-)?authorization|(?:set-)?cookie)\b(.{0,4}?[:=,]).*")
_Kind = tuple[str, Hashable, Path | None]  # event, what is alike, workspace
_secrets: set[str] = set()
_turn = threading.RLock()


def path(home: Path | None = None) -> Path:
    """Where the log of a workspace is, or would be; default the one of `TLAPP_HOME`. Raises UserError."""
    return (home or workspace.place()) / NAME


def is_off() -> bool:
    """Whether `TLAPP_LOG` forbids the log."""
    return os.environ.get("TLAPP_LOG", "").strip().lower() == "off"


def note(event: str, home: Path | None = None, **facts: Any) -> bool:
    """Write down an event, one of `EVENTS`, with small facts; whether it was written. Raises nothing."""
    try:
        file = path(home)
        if is_off() or not file.parent.is_dir():
            return False
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        line = {"time": now, "level": EVENTS[event], "event": event, "process": os.getpid(), "version": __version__}
        _append(
            file, json.dumps(line | {name: _harmless(name, value) for name, value in facts.items()}).encode() + b"\n"
        )
        return True
    except Exception:  # whatever hinders the log must not hinder the app
        return False


def often(event: str, key: Hashable, home: Path | None = None, **facts: Any) -> bool:
    """As `note`, for what may come in floods: of those alike in `key`, one line in ten seconds, with `times`."""
    kind = (event, key, home)
    times = _floods.times(kind, facts)
    if times == 0 or note(event, home, times=times, **facts):
        return True
    _floods.forget(kind)
    return False


def settle() -> None:
    """Write what `often` has counted and not written yet."""
    _floods.settle()


def fault(error: BaseException, home: Path | None = None, **facts: Any) -> str:
    """Write down a fault of the program; a sentence that says where its details are. Raises nothing."""
    if is_off():
        return "Its details are not kept, as TLAPP_LOG is off."
    try:
        if home is None:
            workspace.home()
        text = _concealed("".join(traceback.format_exception(error)))  # before it is cut, or half a secret would stay
        if often("fault", hash(text), home, error=type(error).__name__, traceback=_middle_cut(text), **facts):
            return f"Details are in {path(home)}; `tlapp doctor` says what to send."
    except Exception:
        pass
    return "Its details could not be saved."


def told(home: Path, run: str, event: Event) -> None:
    """Write down what a run told, but for how far it is."""
    if type(event) in _OF_RUNS:
        name, fields = _OF_RUNS[type(event)]
        note(name, home, run=run, **{field: getattr(event, field) for field in fields})


def conceal(secret: str) -> None:
    """Never write this text."""
    if secret:
        _secrets.update((secret, repr(secret)[1:-1], quote(secret, safe="")))


def command(name: str, work: Callable[[], int]) -> int:
    """Do the work of a command of the app, with its start and end in the log; its exit code."""
    began, code, ended = time.monotonic(), None, ""
    note("command_started", command=name)
    try:
        with listening(warnings_too=True):
            code = work()
            return code
    except BaseException as error:
        ended = type(error).__name__
        raise
    finally:
        settle()
        facts = {"error": ended} if ended else {"code": code}
        note("command_ended", command=name, seconds=time.monotonic() - began, **facts)


def recent(home: Path) -> list[dict[str, Any]]:
    """The lines of the newest two files, oldest first; what is no line of a log is passed over."""
    found = []
    for file in (path(home).with_name(f"{NAME}.1"), path(home)):
        with contextlib.suppress(OSError):
            for text in file.read_bytes().splitlines():
                with contextlib.suppress(ValueError, RecursionError):
                    line = json.loads(text)
                    if isinstance(line, dict) and isinstance(line.get("event"), str):
                        found.append(line)
    return found


# --- one line


def _harmless(name: str, value: Any) -> Any:
    """The value of a fact; texts cut, and without secrets, control characters and what turns the direction of writing.

    Only a traceback is several lines.
    """
    if isinstance(value, bool | int | type(None)):
        return value
    if isinstance(value, float):
        return round(value, 3) if abs(value) < 1e12 else None  # not a number is none of JSON either
    text = _concealed(str(value))
    if name == "traceback":
        return "\n".join(map(printable, text.split("\n")))[:MOST_TRACEBACK]
    return printable(text[:MOST_TEXT])[:MOST_TEXT]


def _concealed(text: str) -> str:
    for secret in [*_secrets, *_passwords()]:
        text = text.replace(secret, "…")
    return _HEADERS.sub(r"\1\2 …", _USERINFO.sub("…@", text))


def _passwords() -> Iterator[str]:
    """What addresses in the environment hold of names and passwords."""
    for name, value in os.environ.items():
        if name == "TLAPP_WEIGHTS_MIRROR" or name.lower().endswith("_proxy"):
            user = value.partition("://")[2].rpartition("@")[0]
            yield from (part for part in (user, user.partition(":")[2]) if len(part) > 3)


def _middle_cut(text: str) -> str:
    """The beginning and the end of a long traceback: where it began, and what it is."""
    half = MOST_TRACEBACK // 2 - 10
    return text if len(text) < MOST_TRACEBACK else f"{text[:half]}\n…\n{text[-half:]}"


def _append(file: Path, line: bytes) -> None:
    """Add the line whole or not at all, in a new file where it does not fit. Raises OSError."""
    with _turn, workspace.lock(file.with_name(f"{NAME}.lock")).acquire(timeout=1, poll_interval=0.002):
        if file.exists() and file.stat().st_size + len(line) > MOST_BYTES:
            for number in range(OLDER, 0, -1):
                with contextlib.suppress(FileNotFoundError):
                    newer = file.with_name(f"{NAME}.{number - 1}") if number > 1 else file
                    os.replace(newer, file.with_name(f"{NAME}.{number}"))
        with open(file, "ab", buffering=0) as out:
            before = out.seek(0, os.SEEK_END)
            if out.write(line) < len(line):  # the disk is full
                out.truncate(before)
                raise OSError("the line was cut")


class _Floods:
    """Counts what is alike and comes often."""

    def __init__(self) -> None:
        self._seen: dict[_Kind, tuple[float, int, dict[str, Any]]] = {}

    def times(self, key: _Kind, facts: dict[str, Any]) -> int:
        """How many a line written now stands for; 0 if it is too soon for one."""
        with _turn:
            if key not in self._seen and len(self._seen) >= MOST_FLOODS:
                self.settle()
            written, left_out, _ = self._seen.get(key, (float("-inf"), 0, {}))
            now = time.monotonic()
            is_time = now - written >= FLOOD_SECONDS
            self._seen[key] = (now, 0, facts) if is_time else (written, left_out + 1, facts)
            return left_out + 1 if is_time else 0

    def forget(self, key: _Kind) -> None:
        """Its line could not be written: the next one is tried at once."""
        with _turn:
            self._seen.pop(key, None)

    def settle(self) -> None:
        """Write what was left out so far."""
        with _turn:
            seen, self._seen = self._seen, {}
        for (event, _, home), (_, left_out, facts) in seen.items():
            if left_out:
                note(event, home, times=left_out, **facts)


_floods = _Floods()


# --- what others would print


class _Bridge(logging.Handler):
    """What other packages report through `logging`."""

    def emit(self, record: logging.LogRecord) -> None:
        with contextlib.suppress(Exception):  # a message that does not fit its arguments
            error = record.exc_info[1] if record.exc_info else None
            if error:
                fault(error, where=record.name)
            else:
                often("warning", (record.name, str(record.msg)), where=record.name, message=record.getMessage())


_bridge = _Bridge(logging.WARNING)
_listeners = 0
_hooks: tuple[Any, Any] = threading.excepthook, sys.unraisablehook


@contextlib.contextmanager
def listening(warnings_too: bool = False) -> Iterator[None]:
    """Meanwhile warnings of other packages and faults on threads go into the log instead of onto the terminal.

    `warnings_too`: those of Python's `warnings` as well.
    """
    global _listeners, _hooks
    with _turn:
        _listeners += 1
        if _listeners == 1:
            logging.getLogger().addHandler(_bridge)
            _hooks = threading.excepthook, sys.unraisablehook
            threading.excepthook, sys.unraisablehook = _on_thread, _in_passing
    if warnings_too:
        logging.captureWarnings(True)
    try:
        yield
    finally:
        if warnings_too:
            logging.captureWarnings(False)
        with _turn:
            _listeners -= 1
            if _listeners == 0:
                logging.getLogger().removeHandler(_bridge)
                threading.excepthook, sys.unraisablehook = _hooks


def _on_thread(failed: threading.ExceptHookArgs) -> None:
    if failed.exc_value and not isinstance(failed.exc_value, SystemExit):
        fault(failed.exc_value, where=failed.thread.name if failed.thread else "thread")


def _in_passing(failed: sys.UnraisableHookArgs) -> None:
    if failed.exc_value:
        fault(failed.exc_value, where="clean-up of an object")
