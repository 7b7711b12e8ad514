"""Moments to kill at: file operations, counted, and those inside a save told from the others.

What is counted are Python's own file operations, by an audit hook, and the parts of a write that no hook sees. The
counts are kept in memory shared with whoever forked the process, so that they outlive it.
"""

from __future__ import annotations

import json
import mmap
import os
import random
import select
import signal
import stat
import struct
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tlapp import events, workspace
from tlapp.runs import Run

OPERATIONS = {
    "open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.chmod", "os.link", "os.truncate", "os.utime",
    "shutil.rmtree", "shutil.copyfile",
}  # fmt: skip
_FORM = "qqq"
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


class Moments:
    """Counts operations, all or those inside a save, and kills its own process at the chosen one.

    `n`: counted so far; `saves`: begun so far; `depth`: how many are being made at the moment, one within another.
    """

    def __init__(self, root: Path, inside: bool = True) -> None:
        self.root, self.inside = f"{root}{os.sep}", inside
        self.kill_at, self.random = 0, random.Random(0)
        self._shared = mmap.mmap(-1, struct.calcsize(_FORM))

    @property
    def counts(self) -> tuple[int, int, int]:
        """`n`, `saves`, `depth`; to be read by the parent too, once the process is dead."""
        return struct.unpack(_FORM, self._shared[:])

    def _add(self, *more: int) -> None:
        self._shared[:] = struct.pack(_FORM, *(a + b for a, b in zip(self.counts, more, strict=True)))

    def watch(self, kill_at: int = 0, seed: int = 0) -> None:
        """From now on, in this process, which is to end soon: an audit hook cannot be taken away."""
        self.kill_at, self.random = kill_at, random.Random(seed)
        sync = os.fsync

        def fsync(fd: int) -> None:
            is_file = stat.S_ISREG(os.fstat(fd).st_mode)
            self.count(lambda: os.ftruncate(fd, self.random.randint(0, os.fstat(fd).st_size)) if is_file else None)
            sync(fd)
            self.count()

        os.fsync = fsync
        workspace.write_atomic = self._saving(workspace.write_atomic)
        Run.deliver = self._saving(Run.deliver)  # type: ignore[method-assign]
        Run.append = self._saving(self._appending(Run.append))  # type: ignore[method-assign]
        sys.addaudithook(self._hook)

    def count(self, halve: Callable[[], object] = lambda: None) -> None:
        """An operation is about to be made. `halve` leaves it half done, as a kill in its middle would."""
        n, _, depth = self.counts
        if depth or not self.inside:
            self._add(1, 0, 0)
            if n + 1 == self.kill_at:
                halve()
                os.kill(os.getpid(), signal.SIGKILL)

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event not in OPERATIONS or not str(arguments[0]).startswith(self.root):
            return
        if event == "open" and not arguments[2] & _WRITING:
            return
        self.count()

    def _saving(self, save: Callable[..., Any]) -> Callable[..., Any]:
        def saving(*arguments: Any, **named: Any) -> Any:
            self._add(0, 1, 1)
            try:
                self.count()
                result = save(*arguments, **named)
                self.count()
                return result
            finally:
                self._add(0, 0, -1)

        return saving

    def _appending(self, append: Callable[..., Any]) -> Callable[..., Any]:
        def appending(run: Run, event: events.Event) -> None:
            def halve() -> None:
                line = events.to_json(event).encode() + b"\n"
                with open(run.path / "events.jsonl", "ab", buffering=0) as file:
                    file.write(line[: self.random.randrange(len(line))])

            self.count(halve)
            append(run, event)

        return appending


def forked(work: Callable[[], Any], kill_after: float | None = None) -> tuple[int, Any]:
    """What `work` gives in a child process, by JSON, and how the child ended: 0, or minus the signal that killed it.

    `kill_after`: seconds until it is killed, unless it has ended by then. Raises RuntimeError where `work` failed.
    """
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.close(read)
            with open(write, "w") as pipe:
                json.dump(work(), pipe)
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    os.close(write)
    with open(read) as pipe:
        if kill_after is not None and not select.select([pipe], [], [], kill_after)[0]:
            os.kill(child, signal.SIGKILL)
        text = pipe.read()
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code > 0:
        raise RuntimeError("a child of the trial failed; see above")
    return code, json.loads(text) if code == 0 and text else None
