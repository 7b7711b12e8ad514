"""How often the interval beside a score holds what the model is worth on all other photos.

    python -m benchmarks honesty [--draws 400]

Small sets are drawn from a larger one, split as the app splits, and the instant model's head fitted. Its accuracy on
all photos that were not drawn stands for the truth. As these are not infinitely many, chance has a share in that truth
too: the interval asked about is the one of 1 / (1 / n + 1 / rest) photos instead of n.
"""

from __future__ import annotations

import dataclasses
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from torch import Tensor

from benchmarks import _common
from benchmarks._common import ROOT, SEEN, Row, Rows
from tlapp import backbones, catalog, dataset, evaluate, heads, plan, pool
from tlapp.augment import Views
from tlapp.crossval import Options
from tlapp.dataset import Dataset, Split
from tlapp.heads import Features
from tlapp.plan import Plan
from tlapp.pool import Pool

FOLDERS = ("flowers-400", "ants-bees")
SIZES = (8, 16, 32)
TEST, ALL = "test photos", "test photos and cross-validation"


def main(arguments: list[str]) -> None:
    """Measure what is not kept yet, then make the table."""
    parser = _common.parser("honesty", "How often the interval beside a score holds.")
    parser.add_argument("--draws", type=int, default=400)
    parser.set_defaults(page=ROOT / "docs" / "trust.md")
    options = parser.parse_args(arguments)
    rows = Rows(options.out, ("folder", "per_class"), options.threads)
    with tempfile.TemporaryDirectory(prefix="tlapp-bench-") as home:
        os.environ["TLAPP_HOME"] = home
        for folder in () if options.render else FOLDERS:
            known: list[tuple[Dataset, Plan, Tensor]] = []
            for per_class in SIZES:

                def take(folder: str = folder, per_class: int = per_class, known: list = known) -> Row:
                    if not known:
                        known.append(prepared(options.data / folder))
                    return coverage(*known[0], per_class, options.draws)

                rows.measure(take, folder=folder, per_class=per_class)
    render(rows.of_one_machine(), options.page)


def prepared(folder: Path) -> tuple[Dataset, Plan, Tensor]:
    """All photos, the instant plan, and the features of all its depths: float32 (photos, d)."""
    data = dataset.scan(folder)
    data = dataclasses.replace(data, photos=tuple(dataclasses.replace(p, side="") for p in data.photos))
    chosen = plan.instant(data)
    model = backbones.load(catalog.get(chosen.backbone), len(data.classes), seed=0, several=True)
    model.freeze(chosen.frozen)
    everything = Split(np.arange(len(data.photos)), np.arange(0), np.arange(0))
    photos = Pool(data, everything, Views.of(chosen), chosen)
    cached = _common.drain(pool.plain_cached(model, photos, chosen, lambda: False))
    return data, chosen, cached.of(photos.indices, 1).all()


def coverage(data: Dataset, chosen: Plan, rows: Tensor, per_class: int, draws: int) -> Row:
    """The share of draws in which each interval holds the accuracy on all photos that were not drawn."""
    found: dict[str, list[dict[str, float]]] = {TEST: [], ALL: []}
    for draw in range(draws):
        generator = np.random.default_rng(1000 * per_class + draw)
        parts = [generator.permutation(np.flatnonzero(data.labels == c))[:per_class] for c in range(len(data.classes))]
        drawn = np.concatenate(parts)
        rest = np.setdiff1d(np.arange(len(data.photos)), drawn)
        small = dataclasses.replace(data, photos=tuple(data.photos[i] for i in drawn))
        one = one_draw(small, dataclasses.replace(chosen, seed=draw), rows[drawn], rows[rest], data.labels[rest])
        for name, (accuracy, n) in one.items():
            if name != "rest":
                found[name].append(holds(accuracy, n, *one["rest"]))
    return {
        "draws": draws,
        "rest": len(data.photos) - per_class * len(data.classes),
        "kinds": {name: {key: float(np.mean([f[key] for f in all_])) for key in all_[0]} | {"draws": len(all_)}
                  for name, all_ in found.items() if all_},
    }  # fmt: skip


def one_draw(
    small: Dataset, chosen: Plan, rows: Tensor, others: Tensor, other_labels: np.ndarray
) -> dict[str, tuple[float, float]]:
    """Accuracies with the photos that they count for: of the score's two kinds, and on the rest."""
    split = small.split(chosen.test_fraction, chosen.validation_fraction, chosen.seed)
    photos = Pool(small, split, Views.of(chosen), chosen)
    inside = rows[photos.indices]
    features = Features((1, len(inside), inside.shape[1]), lambda _, first, last: inside[first:last])
    last = catalog.get(chosen.backbone).features
    never: Callable[[], bool] = lambda: False  # noqa: E731
    choice = photos.choose(features, Options(["ridge"], sorted({last, inside.shape[1]}), [False]), never)
    *_, (weight, bias) = heads.fit(features, photos.labels, photos.weights, photos.n_classes, choice)

    def right(x: Tensor, labels: np.ndarray) -> np.ndarray:
        return (x[:, -choice.width :] @ weight.T + bias).argmax(1).numpy() == labels

    tested = right(rows[split.test], small.labels[split.test])
    found = {"rest": (float(right(others, other_labels).mean()), float(len(others)))}
    found[TEST] = float(tested.mean()), float(len(tested))
    held_out = photos.cross_validated(features, choice, never)
    if held_out is not None:
        every = evaluate.cross_validated(held_out, len(inside), int(tested.sum()), len(tested))
        found[ALL] = every["accuracy"], evaluate.WORTH * every["n"]
    return found


def holds(accuracy: float, n: float, truth: float, rest: float) -> dict[str, float]:
    """Whether the interval holds, its width in points, and by how many points the score is too high."""
    low, high = evaluate.interval(accuracy, 1 / (1 / n + 1 / rest))
    shown = evaluate.interval(accuracy, n)
    is_in = low - 1e-9 <= truth <= high + 1e-9
    return {"covers": float(is_in), "width": 100 * (shown[1] - shown[0]), "above": 100 * (accuracy - truth)}


def render(rows: list[Row], page: Path) -> None:
    """The table."""
    lines = []
    for row in rows:
        for kind, found in row["kinds"].items():
            lines.append([
                row["folder"], str(row["per_class"]), kind, str(found["draws"]), f"{100 * found['covers']:.1f} %",
                f"{found['width']:.0f}", f"{found['above']:+.1f}",
            ])  # fmt: skip
    head = [
        "folder",
        "photos of each class",
        "interval of",
        "draws",
        "holds in",
        "width, points",
        "score above, points",
    ]
    text = (
        "`python -m benchmarks honesty` draws small sets, splits each as the app does, fits the instant model and asks "
        "it about all photos that were not drawn. The interval should hold that accuracy in 95 % of the draws; more is "
        f"caution that costs width. ants-bees are {SEEN}. Cross-validation is not asked where a class has fewer than "
        f"{pool.ENOUGH} photos to learn from.\n\n"
    )
    _common.write_section(page, "honesty", text + _common.table(head, lines))
