"""What the audit finds of planted faults, and what it says of photos in which nothing was planted.

    python -m benchmarks audit [--seeds 10]

Labels are planted by decisions, so that all seeds share one computation of features; copies are written as files.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from benchmarks import _common
from benchmarks._common import ROOT, Row, Rows
from tlapp import audit, dataset, decisions
from tlapp.audit import Report
from tlapp.dataset import Dataset

FOLDERS = ("ants-bees", "flowers-400")
WRONG = 0.05
N_COPIES = 60
KINDS: dict[str, Callable[[Image.Image], Image.Image]] = {
    "JPEG quality 30": lambda photo: photo,
    "half the size": lambda photo: photo.resize((photo.width // 2, photo.height // 2)),
    "15 % brighter": lambda photo: ImageEnhance.Brightness(photo).enhance(1.15),
    "mirrored": ImageOps.mirror,
    "trimmed by 2 % a side": lambda photo: _trimmed(photo, 0.02),
    "trimmed by 5 % a side": lambda photo: _trimmed(photo, 0.05),
    "turned by 5 degrees": lambda photo: _trimmed(photo.rotate(5), 0.06),
}


def main(arguments: list[str]) -> None:
    """Measure what is not kept yet, then make the tables."""
    parser = _common.parser("audit", "What the audit finds of planted faults.")
    parser.add_argument("--seeds", type=int, default=10)
    parser.set_defaults(page=ROOT / "docs" / "audit.md")
    options = parser.parse_args(arguments)
    rows = Rows(options.out, ("what", "folder", "kind"), options.threads)
    with tempfile.TemporaryDirectory(prefix="tlapp-bench-") as home:
        os.environ["TLAPP_HOME"] = home
        for folder in () if options.render else FOLDERS:
            data = dataset.scan(options.data / folder)
            rows.measure(lambda data=data: nothing_planted(data), what="clean", folder=folder, kind="")
            for seed in range(options.seeds):
                take = lambda data=data, seed=seed: wrong_labels(data, seed)  # noqa: E731
                rows.measure(take, what="labels", folder=folder, kind=str(seed))
            for kind in KINDS:
                take = lambda folder=folder, kind=kind: copies(options.data / folder, kind)  # noqa: E731
                rows.measure(take, what="copies", folder=folder, kind=kind)
    render(rows.of_one_machine(), options.page)


def nothing_planted(data: Dataset) -> Row:
    """How much is said of photos as they are; the seconds are those of a second audit, with the features there."""
    drain(data)
    begun = time.perf_counter()
    report = drain(data)
    return {
        "n": len(data.photos),
        "seconds": time.perf_counter() - begun,
        "near": len(report.near),
        "contradicted": len(report.contradicted()),
        "outliers": len(report.outliers),
        "blurred": len(report.flaws.blurred),
        "shortcuts": [f"{s.class_name} by {s.feature}" for s in report.shortcuts],
    }


def wrong_labels(data: Dataset, seed: int) -> Row:
    """The part of planted wrong labels that stands in the first tenth of the queue."""
    generator = np.random.default_rng(seed)
    n = len(data.photos)
    chosen = generator.choice(n, round(WRONG * n), replace=False)
    made = []
    for i in chosen:
        others = [name for label, name in enumerate(data.classes) if label != data.photos[i].label]
        made.append(decisions.about(data.photos[i], decisions.RELABEL, str(generator.choice(others))))
    planted = decisions.apply(data, made)
    queue = [planted.photos[s.index].sha256 for s in drain(planted).suspects]
    first = set(queue[: n // 10])
    return {"found": float(np.mean([data.photos[i].sha256 in first for i in chosen])), "planted": len(chosen)}


def copies(folder: Path, kind: str) -> Row:
    """The part of copies, changed in one way, that stands in one group with its photo; and what else does."""
    with tempfile.TemporaryDirectory(prefix="tlapp-copies-") as root:
        target = Path(root) / "photos"
        files = sorted(path for path in folder.rglob("*.jpg"))
        chosen = np.random.default_rng(0).choice(len(files), N_COPIES, replace=False)
        for number in sorted(chosen):
            path = files[number]
            (target / path.parent.name).mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target / path.parent.name)
            quality = 30 if "quality" in kind else 85
            KINDS[kind](Image.open(path).convert("RGB")).save(
                target / path.parent.name / f"copy-{path.name}", quality=quality
            )
        data = dataset.scan(target)
        names = [photo.name.replace("copy-", "") for photo in data.photos]
        report = drain(data)
        pairs = {frozenset(names[i] for i in group) for group in report.near}
        found = sum(len(group) == 1 for group in pairs)
        by_hash = len(data.photos) - len(set(data.groups.tolist()))
        return {"found": found / N_COPIES, "by_hash": by_hash / N_COPIES, "wrong": sum(len(g) > 1 for g in pairs)}


def drain(data: Dataset) -> Report:
    """The report of an audit."""
    return _common.drain(audit.audit(data))


def render(rows: list[Row], page: Path) -> None:
    """The section `audit` of the page."""
    parts = [f"Made by `python -m benchmarks audit` on {_common.words(rows[-1]['machine'])}."]
    lines = []
    for row in (row for row in rows if row["what"] == "clean"):
        found = [r["found"] for r in rows if r["what"] == "labels" and r["folder"] == row["folder"]]
        shares = f"{np.mean(found):.0%} ({min(found):.0%} to {max(found):.0%}, {len(found)} draws)" if found else ""
        counts = (row["n"], row["near"], row["outliers"], row["contradicted"])
        said = ", ".join(row["shortcuts"]) or "none"
        lines.append([row["folder"], *map(str, counts), said, f"{row['seconds']:.1f}", shares])
    head = ["folder", "photos", "groups of near copies", "unlike all others", "labels contradicted", "shortcuts"]
    parts.append(_common.table([*head, "seconds", "planted wrong labels in the first tenth of the queue"], lines))
    kinds = [kind for kind in KINDS if any(row["kind"] == kind for row in rows)]
    lines = []
    for kind in kinds:
        of = [row for row in rows if row["kind"] == kind]
        found, by_hash = (np.mean([row[name] for row in of]) for name in ("found", "by_hash"))
        lines.append([kind, f"{by_hash:.0%}", f"{found:.0%}", str(sum(row["wrong"] for row in of))])
    parts.append(
        f"Copies of {N_COPIES} photos of each folder, changed in one way:\n\n"
        + _common.table(["copy", "kept together by every split", "found by the audit", "groups of other photos"], lines)
    )
    _common.write_section(page, "audit", "\n\n".join(parts))


def _trimmed(photo: Image.Image, share: float) -> Image.Image:
    left, top = round(share * photo.width), round(share * photo.height)
    return photo.crop((left, top, photo.width - left, photo.height - top))
