"""How well "none of these" tells photos of other classes, beside the plain certainty of the same run.

    python -m benchmarks strangers

Three of the five flowers are learned, in all ten ways; the strangers are the other two, and a third of the ants and
bees. How distance and energy are put together was chosen on other splits: two or four flowers learned, no insects.
"""

from __future__ import annotations

import functools
import itertools
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import _common
from benchmarks._common import ROOT, Row, Rows
from tlapp import backbones, catalog, dataset, jobs, plan, predict, scoring
from tlapp.augment import Views
from tlapp.dataset import Dataset
from tlapp.predict import Predictor

MODELS = ("instant", "best")
HEAD = ["model", "strangers", "AUROC", "lowest, highest", "AUROC of plain certainty", "let in at 95 %"]


def main(arguments: list[str]) -> None:
    """Measure what is not kept yet, then make the tables."""
    parser = _common.parser("strangers", "How well strangers are told.")
    parser.set_defaults(page=ROOT / "docs" / "trust.md")
    options = parser.parse_args(arguments)
    rows = Rows(options.out, ("model", "known"), options.threads)
    flowers = sorted(path.name for path in (options.data / "flowers-400").iterdir() if path.is_dir())
    with tempfile.TemporaryDirectory(prefix="tlapp-bench-") as home:
        os.environ["TLAPP_HOME"] = home
        every = () if options.render else itertools.product(MODELS, itertools.combinations(flowers, 3))
        for model, known in every:
            take = lambda model=model, known=known: measure(options.data, model, known)  # noqa: E731
            rows.measure(take, model=model, known=", ".join(known))
    render(rows.of_one_machine(), options.page)


def measure(data: Path, model: str, known: tuple[str, ...]) -> Row:
    """A run on three flowers: how its test photos and strangers come out."""
    flowers, insects = (dataset.scan(data / name) for name in ("flowers-400", "ants-bees"))
    with tempfile.TemporaryDirectory(prefix="tlapp-bench-") as folder:
        for name in known:
            shutil.copytree(data / "flowers-400" / name, Path(folder) / name)
        photos = dataset.scan(folder)
    begun = time.perf_counter()
    run = jobs.start(photos, plan.instant(photos) if model == "instant" else plan.suggest(photos))
    for _ in jobs.follow(run):
        pass
    report, seconds = run.report(), time.perf_counter() - begun
    strange = np.array([photo["strangeness"] for photo in report["photos"]])
    doubt = 1 - np.array([photo["probability"] for photo in report["photos"]])
    row: Row = {
        "seconds": seconds, "accuracy": report["accuracy"], "ece": report["calibration"]["ece"],
        "ece_before": report["calibration"]["ece_before"], "n_test": report["n_test"],
        "kept": float((strange <= 0.95).mean()), "head": report["head"], "fine_tuned": report["fine_tuned"],
        "promised": _promised(report["unknown"]),
    }  # fmt: skip
    other = [i for i, photo in enumerate(flowers.photos) if flowers.classes[photo.label] not in known]
    for name, found, which in (
        ("flowers", flowers, np.array(other)),
        ("insects", insects, np.arange(0, len(insects.photos), 3)),
    ):
        probabilities, them = look(predict.load(run), found, which, report["fine_tuned"])
        row |= {
            f"{name}_n": len(which), f"{name}_auroc": auroc(strange, them),
            f"{name}_plain": auroc(doubt, 1 - probabilities.max(1)), f"{name}_let_in": float((them <= 0.95).mean()),
        }  # fmt: skip
    return row


def look(predictor: Predictor, data: Dataset, which: np.ndarray, fine_tuned: bool) -> tuple[np.ndarray, np.ndarray]:
    """As `scoring.look`; what the blocks as they came put out is computed once for all runs."""
    if fine_tuned or predictor.model.mirror:
        probabilities, strange = scoring.look(predictor, data, which)
        assert strange is not None
        return probabilities, strange
    head, learned = predictor.model.head, predictor.learned
    assert learned is not None
    with torch.inference_mode():
        features = head.normalise(torch.stack([_pooled(data, int(i)) for i in which])[:, -sum(head.widths) :])
        scores = head.linear(features).double()
    return scores.softmax(1).numpy(), learned.strangeness(features.numpy(), scores.numpy())


_known: dict[tuple[str, int], torch.Tensor] = {}


def _pooled(data: Dataset, index: int) -> torch.Tensor:
    """Pooled features of all depths of one photo, in float32."""
    if (data.id, index) not in _known:
        entry = catalog.get(catalog.INCLUDED)
        model = _network(entry.name)
        views = Views.of(plan.Plan(entry.name, entry.block_names))
        with torch.inference_mode():
            inputs = views.normalise([views.plain(data.pixels(index))])
            _known[data.id, index] = model.run(inputs, 0, model.n_blocks)[0].clone()
    return _known[data.id, index]


@functools.cache
def _network(name: str) -> backbones.Classifier:
    model = backbones.load(catalog.get(name), 2, several=True).eval()
    for block in model.blocks.values():
        backbones.fold(block)
    return model


def _promised(found: dict[str, Any]) -> float:
    """What the page says of strangers let in at 95 %."""
    return float(next(row["let_in"] for row in found["costs"] if row["keep"] == 95) / found["strangers"])


def auroc(known: np.ndarray, strange: np.ndarray) -> float:
    """How often a stranger has the higher of two values, ties counting half."""
    pairs = strange[:, None] - known
    return float(((pairs > 0) + (pairs == 0) / 2).mean())


def render(rows: list[Row], page: Path) -> None:
    """The section `strangers` of the page."""
    lines, notes = [], []
    for model in MODELS:
        of = [row for row in rows if row["model"] == model]
        for name, words in (("flowers", "the other two flowers"), ("insects", "ants and bees")):
            found, plain, let_in = ([row[f"{name}_{key}"] for row in of] for key in ("auroc", "plain", "let_in"))
            spread = f"{min(found):.3f}, {max(found):.3f}"
            lines.append([
                _common.TITLES[model], words, f"{np.mean(found):.3f}", spread, f"{np.mean(plain):.3f}",
                f"{np.mean(let_in):.0%}",
            ])  # fmt: skip
        kept, ece, before = (np.mean([row[key] for row in of]) for key in ("kept", "ece", "ece_before"))
        promised = np.mean([row["promised"] for row in of])
        notes.append(
            f"- {_common.TITLES[model]}: {kept:.1%} of the test photos are kept by the default, which promises 95 %; "
            f"of strangers of a class left out, the page says {promised:.0%} would be let in. Calibration error on "
            f"test photos {ece:.3f}, {before:.3f} without the temperature. {len(of)} draws of three flowers, "
            f"{min(row['n_test'] for row in of)} to {max(row['n_test'] for row in of)} test photos each."
        )
    text = f"Made by `python -m benchmarks strangers` on {_common.words(rows[-1]['machine'])}.\n\n"
    _common.write_section(page, "strangers", text + _common.table(HEAD, lines) + "\n\n" + "\n".join(notes))
