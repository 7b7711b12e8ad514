"""What Gradio and its server would print of faults goes into the log instead of onto the terminal.

Knows where they print; must not know what is on the page.
"""

from __future__ import annotations

import logging
import sys
import traceback
from types import SimpleNamespace

from tlapp import journal


def hush() -> None:
    """What Gradio and its server would print of faults goes into the log: through `logging`, which the log listens to,
    or, where Gradio prints tracebacks itself, in their place.
    """
    from gradio import queueing, route_utils, routes

    for name in ("uvicorn", "uvicorn.access"):
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).propagate = True

    def noted() -> None:
        if error := sys.exception():
            journal.fault(error, where="gradio")

    for module in (queueing, route_utils, routes):
        module.traceback = SimpleNamespace(**{**vars(traceback), "print_exc": noted})  # type: ignore[attr-defined]
