"""tlapp's defaults against the plain loop of the literature, on the same photos, backbone and threads.

    python -m benchmarks main_job FOLDER … [--seeds 5] [--out RESULTS.jsonl]

Three arms, interleaved by seed in one process each, so that a noisy machine is noisy for all:

- **tlapp**: `tlapp train FOLDER --seed S --json` as a person types it, cold start and reading of the photos included.
- **plain** and **strengthened**: as `_peers` has them.

All see the same test photos: those of the folder's own split, else of tlapp's split with that seed. The plain arms
train on all photos that are not test photos, as they choose nothing.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from tlapp import catalog, dataset, plan


def main(arguments: list[str]) -> None:
    """Run all arms on all folders and print a table; rows already in --out are not run again."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks main_job")
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("main_job.jsonl"))
    options = parser.parse_args(arguments)
    rows = [json.loads(line) for line in options.out.read_text().splitlines()] if options.out.exists() else []
    done = {(row["folder"], row["arm"], row["seed"]) for row in rows}
    for folder in options.folders:
        for seed in range(options.seeds):
            for arm in (run_tlapp, run_plain, run_strengthened):
                name = arm.__name__.removeprefix("run_")
                if (folder.name, name, seed) in done:
                    continue
                row = {"folder": folder.name, "arm": name, "seed": seed, **arm(folder, seed, options.threads)}
                rows.append(row)
                with options.out.open("a") as file:
                    file.write(json.dumps(row) + "\n")
                print(row, file=sys.stderr)
    print_table(rows)


def print_table(rows: list[dict]) -> None:
    """Means over seeds, as Markdown."""
    print("| folder | arm | seeds | test accuracy, mean (lowest – highest) | seconds, mean | time ÷ tlapp's |")
    print("|---|---|---|---|---|---|")
    for folder in dict.fromkeys(row["folder"] for row in rows):
        base = statistics.mean(r["seconds"] for r in rows if (r["folder"], r["arm"]) == (folder, "tlapp"))
        for arm in ("tlapp", "plain", "strengthened"):
            chosen = [row for row in rows if (row["folder"], row["arm"]) == (folder, arm)]
            scores, seconds = [row["accuracy"] for row in chosen], statistics.mean(row["seconds"] for row in chosen)
            print(
                f"| {folder} | {arm} | {len(chosen)} | {statistics.mean(scores):.3f} "
                f"({min(scores):.3f} – {max(scores):.3f}) | {seconds:.0f} | {seconds / base:.1f} |"
            )


def run_tlapp(folder: Path, seed: int, threads: int) -> dict:
    """The command line, in a process of its own with an empty workspace."""
    import os

    with tempfile.TemporaryDirectory() as home:
        environment = {**os.environ, "TLAPP_HOME": home, "OMP_NUM_THREADS": str(threads), "TLAPP_OFFLINE": "1"}
        command = [sys.executable, "-m", "tlapp", "train", str(folder), "--seed", str(seed), "--json"]
        command += ["--backbone", catalog.INCLUDED]
        started = time.perf_counter()
        said = subprocess.run(command, env=environment, capture_output=True, check=True, text=True).stdout
        seconds = time.perf_counter() - started
    result = json.loads(said)
    return {"accuracy": result["accuracy"], "seconds": seconds, "training_seconds": result["seconds"]}


def run_plain(folder: Path, seed: int, threads: int) -> dict:
    """The tutorials' loop, verbatim."""
    return in_process(folder, seed, threads, strengthened=False)


def run_strengthened(folder: Path, seed: int, threads: int) -> dict:
    """The same loop with what costs nothing put right."""
    return in_process(folder, seed, threads, strengthened=True)


def in_process(folder: Path, seed: int, threads: int, strengthened: bool) -> dict:
    """One plain arm in a process of its own, its imports counted as tlapp's are."""
    code = f"from benchmarks.main_job import loop; loop({str(folder)!r}, {seed}, {threads}, {strengthened})"
    started = time.perf_counter()
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout
    return {**json.loads(said), "seconds": time.perf_counter() - started}


def loop(root: str, seed: int, threads: int, strengthened: bool) -> None:
    """Train a linear head the plain way and print its test accuracy as JSON."""
    import torch

    from benchmarks import _peers
    from benchmarks._photos import Folder, Item

    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as home:
        data = dataset.scan(root, home=Path(home))
        split = plan.suggest(data, catalog.INCLUDED).with_settings({"seed": str(seed)}).split(data)
    items = [Item(Path(root) / photo.name, photo.name, photo.label) for photo in data.photos]
    learn = tuple(items[i] for i in np.concatenate([split.train, split.validation]))
    folder = Folder(Path(root), data.classes, learn, tuple(items[i] for i in split.test))
    answers = _peers.plain(folder, seed, None, strengthened=strengthened).answers()
    right = sum(item.label == answer for item, answer in zip(folder.test, answers, strict=True))
    print(json.dumps({"accuracy": right / len(answers)}))
