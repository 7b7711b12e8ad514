"""Teach a pretrained network your own photos.

The path, each step one call: ``scan`` → ``suggest`` → ``start`` → ``follow`` → ``load``; docs/library.md has every name
with an example. Importing this package imports nothing else: a name is fetched from its room when it is first used, and
torch comes in when a run or a prediction needs it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from tlapp.bundles import import_run
    from tlapp.dataset import scan
    from tlapp.export import export as export_run
    from tlapp.jobs import follow, start
    from tlapp.plan import Plan, suggest
    from tlapp.predict import load
    from tlapp.runs import find
    from tlapp.scoring import evaluate_run
else:
    _ROOMS = {
        "scan": "dataset.scan",
        "Plan": "plan.Plan",
        "suggest": "plan.suggest",
        "start": "jobs.start",
        "follow": "jobs.follow",
        "find": "runs.find",
        "load": "predict.load",
        "evaluate_run": "scoring.evaluate_run",
        "export_run": "export.export",
        "import_run": "bundles.import_run",
    }

    def __getattr__(name: str) -> Any:
        if name not in _ROOMS:
            raise AttributeError(f"tlapp has no `{name}`; its names are {', '.join(_ROOMS)}")
        from importlib import import_module

        room, _, own_name = _ROOMS[name].partition(".")
        return getattr(import_module(f"tlapp.{room}"), own_name)

    def __dir__() -> list[str]:
        return sorted({*globals(), *_ROOMS})


__all__ = ["Plan", "evaluate_run", "export_run", "find", "follow", "import_run", "load", "scan", "start", "suggest"]
