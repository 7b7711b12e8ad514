"""tlapp's defaults against the plain loop of the literature, on the same photos, backbone and threads.

    python -m benchmarks main_job FOLDER … [--seeds 5] [--out RESULTS.jsonl]

Three arms, interleaved by seed in one process each, so that a noisy machine is noisy for all:

- **tlapp**: `tlapp train FOLDER --seed S --json` as a person types it, cold start and reading of the photos included.
- **plain**: the loop that tutorials teach: frozen backbone run through every epoch, random resized crop and flip,
  Adam 1e-3 on a linear head, 10 epochs, BatchNorm left in train mode, last epoch taken.
- **strengthened**: the same with BatchNorm in eval mode, channels_last and bfloat16 autocast.

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

EPOCHS, BATCH, RATE = 10, 16, 1e-3


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


def loop(folder: str, seed: int, threads: int, strengthened: bool) -> None:
    """Train a linear head the plain way and print its test accuracy as JSON."""
    import torch
    from PIL import Image
    from torch import nn
    from torch.utils.data import DataLoader, Dataset
    from torchvision.transforms import v2

    from tlapp import backbones

    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    entry = catalog.get(catalog.INCLUDED)
    with tempfile.TemporaryDirectory() as home:
        data = dataset.scan(folder, home=Path(home))
        split = plan.suggest(data, entry.name).with_settings({"seed": str(seed)}).split(data)
    finish = [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(entry.mean, entry.std)]
    bicubic = v2.InterpolationMode.BICUBIC
    learn = v2.Compose([v2.RandomResizedCrop(entry.crop, interpolation=bicubic), v2.RandomHorizontalFlip(), *finish])
    look = v2.Compose([v2.Resize(entry.resize, bicubic), v2.CenterCrop(entry.crop), *finish])

    class Files(Dataset):
        """Decoded anew in every epoch, as an image folder is."""

        def __init__(self, indices: np.ndarray, transform: v2.Transform) -> None:
            self.indices, self.transform = indices, transform

        def __len__(self) -> int:
            return len(self.indices)

        def __getitem__(self, i: int) -> tuple[torch.Tensor, int]:
            photo = data.photos[int(self.indices[i])]
            return self.transform(Image.open(Path(folder) / photo.name).convert("RGB")), photo.label

    built = backbones.load(entry, len(data.classes))
    backbone = nn.Sequential(*built.blocks.values(), built.pool).requires_grad_(False)
    model = nn.Sequential(backbone, nn.Linear(entry.features, len(data.classes)))
    if strengthened:
        model = model.to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(model[1].parameters(), lr=RATE)

    def forward(inputs: torch.Tensor) -> torch.Tensor:
        if not strengthened:
            return model(inputs)
        with torch.autocast("cpu", torch.bfloat16):
            features = backbone(inputs.contiguous(memory_format=torch.channels_last))
        return model[1](features.float())

    train = Files(np.concatenate([split.train, split.validation]), learn)
    for _ in range(EPOCHS):
        model.train()
        if strengthened:
            backbone.eval()
        for inputs, labels in DataLoader(train, BATCH, shuffle=True, drop_last=len(train) % BATCH == 1):
            loss = nn.functional.cross_entropy(forward(inputs), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    model.eval()
    right = 0
    with torch.no_grad():
        for inputs, labels in DataLoader(Files(split.test, look), BATCH):
            right += int((forward(inputs).argmax(1) == labels).sum())
    print(json.dumps({"accuracy": right / len(split.test)}))
