"""``python -m tlapp`` is the command line."""

from tlapp.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
