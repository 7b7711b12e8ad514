"""Damaged pictures and hostile zips, many of them: what tlapp makes of each, and whether anything else happens.

    python -m benchmarks fuzz [--images 100000] [--zips 10000] [--seed 0]

Each is made from the seed and its number alone (`_mutants.picture(seed, number)`, `_mutants.hostile_zip`), so what is
found can be made again. They run in processes of their own, one for each thread, so that a crash of a decoder is
counted and the rest goes on.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks import _common
from benchmarks._common import ROOT, Row, Rows

CHUNK = {"images": 5000, "zips": 500}
COMMAND = [sys.executable, "-m", "benchmarks._fuzzer"]


def main(arguments: list[str]) -> None:
    """Try what was not yet tried with this seed and these numbers, then make the table."""
    parser = _common.parser("fuzz", "Damaged pictures and hostile zips.")
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--zips", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.set_defaults(page=ROOT / "docs" / "robustness.md")
    options = parser.parse_args(arguments)
    rows = Rows(options.out, ("what", "n", "seed"), options.threads)
    if not options.render:
        for what, n in (("images", options.images), ("zips", options.zips)):
            take = lambda what=what, n=n: try_all(what, n, options.seed, options.threads)  # noqa: E731
            rows.measure(take, what=what, n=n, seed=options.seed)
    render(rows.of_one_machine(), options.page)


def try_all(what: str, n: int, seed: int, threads: int) -> Row:
    """All numbers below `n`, some at once; per kind what became of them, and the first faults with their numbers."""
    begun = time.perf_counter()
    chunks = [(what, first, min(first + CHUNK[what], n), seed) for first in range(0, n, CHUNK[what])]
    with ThreadPoolExecutor(threads) as pool:
        told = merged(list(pool.map(lambda chunk: in_processes(*chunk), chunks)))
    counts = {"n_faults": len(told["faults"]), "faults": told["faults"][:50]}
    return {**told, **counts, "seconds": time.perf_counter() - begun}


def merged(parts: list[Row]) -> Row:
    """The counts of several parts together."""
    kinds: dict[str, dict[str, Any]] = {}
    for part in parts:
        for kind, counts in part["kinds"].items():
            sums = kinds.setdefault(kind, dict.fromkeys(counts, 0))
            for name, value in counts.items():
                sums[name] = max(sums[name], value) if name == "slowest" else sums[name] + value
    faults = [fault for part in parts for fault in part["faults"]]
    return {"kinds": kinds, "faults": faults, "peak_mb": max((part["peak_mb"] for part in parts), default=0)}


def in_processes(what: str, first: int, last: int, seed: int) -> Row:
    """Try these numbers in one process, or in several where one dies; the one that it died of is a fault.

    What a process that died had found before is tried again, so that every number is counted once.
    """
    parts: list[Row] = []
    todo = [(first, last)]
    while todo:
        begin, end = todo.pop()
        if begin >= end:
            continue
        asked = json.dumps({"what": what, "first": begin, "last": end, "seed": seed})
        done = subprocess.run([*COMMAND, asked], cwd=ROOT, capture_output=True, text=True, check=False)
        answer = (done.stdout.splitlines() or [""])[-1]
        if done.returncode == 0:
            parts.append(json.loads(answer))
        else:
            number = int(answer) if answer.isdecimal() else begin
            fault = [number, "", f"the process died or hung (exit code {done.returncode})"]
            parts.append({"kinds": {}, "faults": [fault], "peak_mb": 0})
            todo += [(begin, number), (number + 1, end)]
    return merged(parts)


def render(rows: list[Row], page: Path) -> None:
    """The section `fuzz` of the page: one table for the last rows of pictures, one for those of zips."""
    parts = [f"Made by `python -m benchmarks fuzz` on {_common.words(rows[-1]['machine'])}."]
    for what, title in (("images", "damaged pictures"), ("zips", "hostile zips")):
        found = [row for row in rows if row["what"] == what]
        if not found:
            continue
        row = found[-1]
        slowest = max(counts["slowest"] for counts in row["kinds"].values())
        slow = sum(counts["slow"] for counts in row["kinds"].values())
        parts.append(
            f"**{row['n']:,} {title}** (seed {row['seed']}): {row['n_faults']} crashes, hangs, unforeseen errors or "
            f"files out of place; the slowest took {1000 * slowest:.0f} ms, {slow} took a second or more; peak memory "
            f"of a process {row['peak_mb']} MB; {row['seconds']:.0f} s in all."
        )
        lines = [
            [kind, f"{c['tried']:,}", f"{c['read']:,}", f"{c['refused']:,}", f"{1000 * c['slowest']:.0f}"]
            for kind, c in sorted(row["kinds"].items())
        ]
        head = ["picture" if what == "images" else "what is wrong", "tried", "read", "refused in a sentence"]
        parts.append(_common.table([*head, "slowest, ms"], lines))
    _common.write_section(page, "fuzz", "\n\n".join(parts))
