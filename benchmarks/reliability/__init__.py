"""`python -m benchmarks reliability NAME [options]` does to tlapp what docs/reliability.md says it withstands."""

from __future__ import annotations

import importlib
import pkgutil
import sys

from benchmarks._common import ROOT

PAGE = ROOT / "docs" / "reliability.md"
NAMES = sorted(m.name for m in pkgutil.iter_modules(__path__) if not m.name.startswith("_"))


def main(arguments: list[str]) -> None:
    """Run the trial that is named first, with the options behind it."""
    if not arguments or arguments[0] not in NAMES:
        sys.exit(f"Usage: python -m benchmarks reliability {' | '.join(NAMES)} [options]")
    importlib.import_module(f"{__name__}.{arguments[0]}").main(arguments[1:])
