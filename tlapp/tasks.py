"""A piece of work on a thread of its own: progress to look at, Cancel, and an answer or an error at its end.

For work that a person waits for and may give up: reading photos, fetching weights. Trainings live in `jobs`.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Generic, Protocol, TypeVar

S = TypeVar("S")
T = TypeVar("T")


class Report(Protocol):
    """Tells how far a piece of work is: `done` of `total`, and on what."""

    def __call__(self, done: float, total: float, what: str = "", /) -> None: ...


class Cancelled(Exception):  # noqa: N818 - not an error
    """The person gave the work up."""


class Task(Generic[T]):
    """Work that has begun.

    `work` is called with a `Report`. That call raises Cancelled once `cancel` was
    called, so work that reports often ends soon.
    """

    def __init__(self, work: Callable[[Report], T]) -> None:
        self.done, self.total, self.what = 0.0, 0.0, ""
        self._cancelled, self._ended = threading.Event(), threading.Event()
        self._answer: T | None = None
        self._error: BaseException | None = None
        threading.Thread(target=self._run, args=(work,), name="task", daemon=True).start()

    def cancel(self) -> None:
        """Ask the work to end at its next report."""
        self._cancelled.set()

    def wait(self, seconds: float) -> bool:
        """Wait at most so long; whether the work has ended."""
        return self._ended.wait(seconds)

    def result(self) -> T:
        """The answer, waited for. Raises what the work raised; Cancelled if it was given up.

        What is not an Exception, such as SystemExit, comes as a RuntimeError: it ended that thread, not who waits.
        """
        self._ended.wait()
        if self._error is not None and not isinstance(self._error, Exception):
            raise RuntimeError(f"the work ended on {type(self._error).__name__}") from self._error
        if self._error is not None:
            raise self._error
        return self._answer  # type: ignore[return-value]

    def _run(self, work: Callable[[Report], T]) -> None:
        try:
            self._answer = work(self._report)
        except BaseException as error:
            self._error = error
        finally:
            self._ended.set()

    def _report(self, done: float, total: float, what: str = "", /) -> None:
        self.done, self.total, self.what = done, total, what
        if self._cancelled.is_set():
            raise Cancelled


def ahead(work: Callable[[S], T], items: Iterable[S]) -> Iterator[tuple[S, T]]:
    """Each item with what `work` makes of it, in order; a few threads work on the next few items meanwhile."""
    workers = min(4, os.cpu_count() or 1)
    with ThreadPoolExecutor(workers) as pool:
        coming = iter(items)
        waiting: deque[tuple[S, Future[T]]] = deque()
        while True:
            waiting.extend((item, pool.submit(work, item)) for item in islice(coming, 2 * workers - len(waiting)))
            if not waiting:
                return
            item, future = waiting.popleft()
            yield item, future.result()
