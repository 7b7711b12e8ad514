"""What the benchmarks share: options, rows that are kept, the machine's description, measuring in a fresh process.

A row is one measurement as a line of JSON. It says on what kind of machine it was made, never on which one. Tables
and figures are made from the kept rows alone.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import importlib.util
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable, Generator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "performance.md"
SEEN = "photos from ImageNet, which the backbone has seen"
Row = dict[str, Any]
T = TypeVar("T")
TITLES = {
    "instant": "tlapp, instant",
    "instant again": "tlapp, instant, from the second run on",
    "best": "tlapp, best",
    "best + fine-tuning": "tlapp, best + fine-tuning",
    "logistic": "scikit-learn, logistic regression on one view, standardised",
    "logistic unscaled": "scikit-learn, logistic regression on one view",
    "plain": "plain loop, verbatim",
    "strengthened": "plain loop, strengthened",
    "timm": "timm's fine-tuning",
    "fastai": "fastai's fine_tune(5)",
    "full fine-tuning": "full fine-tuning, one epoch, batch 32",
    "limit": "limit",
}


def parser(name: str, describe: str) -> argparse.ArgumentParser:
    """The options that all of them have."""
    made = argparse.ArgumentParser(prog=f"python -m benchmarks {name}", description=describe)
    made.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data", help="holds ants-bees, flowers-400")
    made.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / f"{name}.jsonl", help="rows kept")
    made.add_argument("--page", type=Path, default=PAGE, help="the Markdown file whose section is made anew")
    made.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    made.add_argument("--render", action="store_true", help="make table and figure from the kept rows, run nothing")
    return made


def machine(threads: int) -> Row:
    """What kind of machine this is, as far as times depend on it."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        named = [line.partition(":")[2].strip() for line in info.read_text().splitlines() if "model name" in line]
        cpu = named[0] if named else cpu
    return {"cpu": cpu, "cores": os.cpu_count(), "torch": version("torch"), "threads": threads}


@functools.cache
def engine() -> str:
    """A short hash of tlapp's code beside the page's, so that rows of another state of it can be told."""
    files = sorted((ROOT / "tlapp").glob("*.py"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:8]


class Rows:
    """The kept rows of one benchmark. `key`: the fields that say which measurement a row is; `keep`: on the disk."""

    def __init__(self, path: Path, key: Sequence[str], threads: int, keep: bool = True) -> None:
        self.path, self.key, self.keep = path, tuple(key), keep
        self.stamp = {"machine": machine(threads), "engine": engine()}
        self.all: list[Row] = []
        for line in path.read_text().splitlines() if keep and path.exists() else []:
            try:
                self.all.append(json.loads(line))
            except ValueError:  # a run was cut off while it wrote
                print(f"A line of {path.name} is not whole; it does not count.", file=sys.stderr)

    def has(self, **which: Any) -> bool:
        """Whether a row of this measurement is there from a machine of this kind."""
        here = [row for row in self.all if row["machine"] == self.stamp["machine"]]
        return any(all(row[name] == which[name] for name in self.key) for row in here)

    def measure(self, take: Callable[[], Row], **which: Any) -> None:
        """Take this measurement and keep it, unless it is there."""
        if self.has(**which):
            return
        row = {**which, **take(), **self.stamp}
        self.all.append(row)
        shown = {name: f"{v:.4g}" if isinstance(v, float) else v for name, v in row.items() if name not in _UNSHOWN}
        print(*(f"{name}={value}" for name, value in shown.items()), file=sys.stderr, flush=True)
        if not self.keep:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        whole = not self.path.exists() or self.path.read_bytes()[-1:] in (b"\n", b"")
        with self.path.open("a") as file:
            file.write(("" if whole else "\n") + json.dumps(row) + "\n")

    def forget(self, arms: Sequence[str]) -> None:
        """Drop the kept rows of these arms, as after a change of what they measure."""
        self.all = [row for row in self.all if row["arm"] not in arms]
        self.path.write_text("".join(json.dumps(row) + "\n" for row in self.all))

    def of_one_machine(self) -> list[Row]:
        """The rows of the kind of machine that made the last one; says in print what else there is."""
        if not self.all:
            sys.exit(f"There are no rows in {self.path.name} yet. Run it without --render.")
        last = self.all[-1]["machine"]
        rows = [row for row in self.all if row["machine"] == last]
        print(f"{len(rows)} rows of {words(last)}.", file=sys.stderr)
        if len(rows) < len(self.all):
            print(f"{len(self.all) - len(rows)} rows of other kinds of machines are left out.", file=sys.stderr)
        states = sorted({row["engine"] for row in rows})
        if states != [engine()]:
            print(f"These rows were made by tlapp's code {', '.join(states)}; now it is {engine()}.", file=sys.stderr)
        return rows


_UNSHOWN = ("machine", "engine", "marks", "kinds")


def drain(work: Generator[object, None, T]) -> T:
    """What a piece of work comes to, whatever it tells on the way."""
    while True:
        try:
            next(work)
        except StopIteration as end:
            return end.value


def words(kind: Row) -> str:
    """A machine's description in words."""
    n = kind["threads"]
    return f"{kind['cpu']}, {kind['cores']} cores, torch {kind['torch']}, {n} thread{'s' if n > 1 else ''}"


def in_fresh_process(arm: str, folder: Path, *, threads: int, seed: int = 0, epochs: int | None = None) -> Row:
    """What `_worker` measures of one arm on one folder, in a process and with a workspace of its own."""
    asked = {"arm": arm, "folder": str(folder), "seed": seed, "threads": threads, "epochs": epochs}
    n = str(threads)
    with tempfile.TemporaryDirectory(prefix="tlapp-bench-") as home:
        environment = {**os.environ, "TLAPP_HOME": home, "TLAPP_OFFLINE": "1", "OMP_NUM_THREADS": n}
        environment |= {"MKL_NUM_THREADS": n, "OPENBLAS_NUM_THREADS": n}
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks._worker", json.dumps(asked)],
            cwd=ROOT, env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
    if done.returncode:
        sys.exit(f"The arm `{arm}` failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def with_fastai(arms: Sequence[str]) -> list[str]:
    """The arms that can run here; a sentence is printed where fastai is missing."""
    if importlib.util.find_spec("fastai"):
        return list(arms)
    print("fastai is not installed, so its arm is left out: pip install -e '.[bench]'", file=sys.stderr)
    return [arm for arm in arms if arm != "fastai"]


def write_section(page: Path, name: str, text: str) -> None:
    """Put `text` between the comments `<!-- name -->` and `<!-- /name -->`; all else on the page stays as it is."""
    before = page.read_text() if page.exists() else "# Performance\n"
    start, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    if start in before and end in before:
        head, _, rest = before.partition(start)
        tail = rest.partition(end)[2]
    else:
        head, tail = before.rstrip("\n") + "\n\n", "\n"
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(f"{head}{start}\n{text.strip()}\n{end}{tail}")
    print(text)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def figure(width: float, height: float) -> Any:
    """An empty figure for the page, sides in inches."""
    from matplotlib.figure import Figure

    made = Figure(figsize=(width, height), dpi=120, layout="constrained")
    made.get_layout_engine().set(w_pad=0.1, h_pad=0.1)
    return made


def bars(axes: Any, names: Sequence[str], values: Sequence[float], form: str, colours: Any, title: str) -> None:
    """Lying bars, the first on top, each with its value; 0 has neither."""
    drawn = axes.barh(list(names), list(values), color=colours)
    axes.bar_label(drawn, [format(value, form) if value else "" for value in values], padding=3, fontsize=8)
    axes.set_title(title, fontsize=10)
    axes.invert_yaxis()
    axes.margins(x=0.15)
    axes.tick_params(axis="y", labelsize=8)


def save_figure(made: Any, page: Path, name: str) -> str:
    """Save it beside the page; the Markdown that shows it."""
    file = page.parent / f"performance-{name}.png"
    file.parent.mkdir(parents=True, exist_ok=True)
    made.savefig(file, format="png", metadata={"Software": None})
    return f"![{name.capitalize()}]({file.name})"


def judged(met: bool) -> str:
    """A target's outcome in bold."""
    return "**met**" if met else "**not met**"
