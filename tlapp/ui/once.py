"""A press is one run, a double click too: what a page asks for again within a moment is the run that it began.

Other tabs and other people are other pages: each of them gets a run of its own, in line.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict

from tlapp import jobs
from tlapp.dataset import Dataset
from tlapp.plan import Plan
from tlapp.runs import Run

SECONDS = 2.0
MOST_PAGES = 256
_lately: OrderedDict[str, tuple[float, str, Plan | None, Run | None]] = OrderedDict()
_one_at_a_time = threading.Lock()


def start(page: str, dataset: Dataset, plan: Plan) -> Run:
    """As `jobs.start`, or the run of the same that the page began a moment ago. `page`: its session."""
    with _one_at_a_time:
        began, photos, settings, run = _lately.get(page, (0.0, "", None, None))
        is_again = time.monotonic() - began < SECONDS and (photos, settings) == (dataset.id, plan)
        if run and is_again and not run.stop_asked():
            return run
        run = jobs.start(dataset, plan)
        _lately[page] = time.monotonic(), dataset.id, plan, run
        _lately.move_to_end(page)
        while len(_lately) > MOST_PAGES:
            _lately.popitem(last=False)
        return run
