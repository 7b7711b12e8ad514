"""Opens the web page: `python app.py`, with the options of `tlapp serve`."""

import sys

from tlapp.cli import main

if __name__ == "__main__":
    raise SystemExit(main(["serve", *sys.argv[1:]]))
