"""`python -m benchmarks NAME [options]` runs one benchmark; without a name it lists them."""

import importlib
import pkgutil
import sys
from pathlib import Path

NAMES = sorted(m.name for m in pkgutil.iter_modules([str(Path(__file__).parent)]) if not m.name.startswith("_"))

if len(sys.argv) < 2 or sys.argv[1] not in NAMES:
    sys.exit(f"Usage: python -m benchmarks {' | '.join(NAMES)} [options]")
importlib.import_module(f"benchmarks.{sys.argv[1]}").main(sys.argv[2:])
