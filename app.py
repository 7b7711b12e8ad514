"""Opens the web page, once it is part of tlapp; until then says how to use the command line."""

from tlapp.cli import main

if __name__ == "__main__":
    raise SystemExit(main(["serve"]))
